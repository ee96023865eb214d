//! What this node knows of the feed, from whichever side it comes.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;
use uuid::Uuid;

use super::progress::Progress;
use crate::{
    domain::{
        revocation::{FeedEntry, Revocation},
        time::Timestamp,
    },
    store::port::CommitObserver,
    verifier::RevocationSet,
};

/// Entries that may wait to be pushed. Beyond that the other nodes read them from the database.
const OUTBOX: usize = 10_000;

/// Takes in what was revoked.
#[derive(Default)]
pub struct Observer {
    revocations: RevocationSet,
    progress: Mutex<Progress>,
    keys_changed: Notify,
    /// This node's own entries, for the others.
    outbox: Mutex<VecDeque<FeedEntry>>,
    committed: Notify,
}

impl std::fmt::Debug for Observer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Observer").field("revocations", &self.revocations.len()).finish_non_exhaustive()
    }
}

impl Observer {
    /// An observer that knows of nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    pub(super) fn revocations(&self) -> &RevocationSet {
        &self.revocations
    }

    pub(super) fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn keys_changed(&self) {
        self.keys_changed.notified().await;
    }

    /// Applies an entry: to the list first, so that whoever finds it noted finds it applied.
    fn take_in(&self, progress: &mut Progress, entry: &FeedEntry) -> bool {
        self.revocations.apply(entry);
        let news = progress.note(entry);
        if news && entry.revocation == Revocation::KeySetChanged {
            self.keys_changed.notify_one();
        }
        news
    }

    /// Takes in entries that another node pushed. When those that are news were recorded, and whether some are missing between
    /// them.
    pub(super) fn heard<'e>(&self, entries: impl Iterator<Item = &'e FeedEntry>) -> (Vec<Timestamp>, bool) {
        let mut progress = self.progress();
        let news = entries.filter(|entry| self.take_in(&mut progress, entry)).map(|entry| entry.time).collect();
        (news, progress.has_gap())
    }

    /// Takes in a stretch of the feed that follows the entry `after`, as the database has it. With `end`, its last entry. When
    /// those that are news were recorded.
    pub(super) fn read(
        &self,
        incarnation: Uuid,
        after: i64,
        entries: &[FeedEntry],
        end: Option<i64>,
    ) -> Vec<Timestamp> {
        let mut progress = self.progress();
        progress.belongs_to(incarnation);
        let (mut last, mut news) = (after, Vec::new());
        // Entries that expired before this node saw them may have been about keys.
        let next = entries.first().map_or(end.unwrap_or(after) + 1, |entry| entry.number);
        if next > after + 1 {
            self.keys_changed.notify_one();
        }
        for entry in entries {
            progress.skip(last, entry.number);
            if self.take_in(&mut progress, entry) {
                news.push(entry.time);
            }
            last = entry.number;
        }
        if let Some(end) = end {
            progress.skip(last, end + 1);
        }
        news
    }

    /// The feed has another history.
    pub(super) fn start_over(&self, incarnation: Uuid) {
        let mut progress = self.progress();
        if !progress.belongs_to(incarnation) {
            progress.start_over();
        }
        self.keys_changed.notify_one();
    }

    /// The next of this node's own entries. Waits for one.
    pub(super) async fn next_committed(&self) -> FeedEntry {
        loop {
            if let Some(entry) = self.outbox().pop_front() {
                return entry;
            }
            self.committed.notified().await;
        }
    }

    fn outbox(&self) -> MutexGuard<'_, VecDeque<FeedEntry>> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CommitObserver for Observer {
    fn committed(&self, entries: &[FeedEntry]) {
        let mut progress = self.progress();
        for entry in entries {
            self.take_in(&mut progress, entry);
        }
        drop(progress);
        let mut outbox = self.outbox();
        outbox.extend(entries.iter().cloned());
        // Nobody may be pushing: then only the newest are kept.
        let surplus = outbox.len().saturating_sub(OUTBOX);
        outbox.drain(..surplus);
        drop(outbox);
        self.committed.notify_one();
    }
}
