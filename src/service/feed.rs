//! This node's memory of revocations, and how it follows the feed.
//!
//! A node hears of its own revocations from the [`Observer`] right after their commit. Of everybody else's it learns by
//! reading the feed: before it serves, each second, and whenever a caller wants the strong answer.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use tokio::sync::{Mutex, Notify};
use uuid::Uuid;

use crate::{
    crypto::monotonic_now,
    domain::{
        revocation::{FeedEntry, Revocation},
        time::Clock,
    },
    store::{
        StoreError,
        port::{CommitObserver, FeedPage, Store},
    },
    verifier::RevocationSet,
};

/// Entries read in one go.
const PAGE: u32 = 1_000;

/// Takes in what this node's own transactions revoked.
#[derive(Default)]
pub struct Observer {
    revocations: RevocationSet,
    keys_changed: Notify,
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

    fn take_in(&self, entry: &FeedEntry) {
        if entry.revocation == Revocation::KeySetChanged {
            self.keys_changed.notify_one();
        }
        self.revocations.apply(entry);
    }
}

impl CommitObserver for Observer {
    fn committed(&self, entries: &[FeedEntry]) {
        for entry in entries {
            self.take_in(entry);
        }
    }
}

/// How far the feed has been read.
#[derive(Clone, Copy, Debug, Default)]
struct Cursor {
    incarnation: Option<Uuid>,
    number: i64,
}

/// The follower of the feed.
pub struct Feed {
    store: Arc<dyn Store>,
    observer: Arc<Observer>,
    clock: Arc<dyn Clock>,
    cursor: Mutex<Cursor>,
    /// When the last complete reading began. By the monotonic clock: the other one is corrected by these very readings.
    complete: RwLock<Option<Instant>>,
}

impl std::fmt::Debug for Feed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Feed").field("revocations", &self.observer.revocations.len()).finish_non_exhaustive()
    }
}

impl Feed {
    /// A follower that has read nothing yet: call [`Feed::catch_up`] before serving.
    pub fn new(store: Arc<dyn Store>, observer: Arc<Observer>, clock: Arc<dyn Clock>) -> Self {
        Self { store, observer, clock, cursor: Mutex::default(), complete: RwLock::default() }
    }

    /// What tokens must not say.
    pub fn revocations(&self) -> &RevocationSet {
        &self.observer.revocations
    }

    /// How long ago the list was known to be complete. For ever, before the first reading.
    pub fn staleness(&self) -> Duration {
        self.last_complete().map_or(Duration::MAX, |began| monotonic_now().saturating_duration_since(began))
    }

    fn last_complete(&self) -> Option<Instant> {
        *self.complete.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Resolves when the set of signing keys has changed since the last time.
    pub async fn keys_changed(&self) {
        self.observer.keys_changed.notified().await;
    }

    /// Reads the feed to its end. Callers who wait at the same time share a reading that began after they came.
    ///
    /// # Errors
    /// The store's; what was read so far stays.
    pub async fn catch_up(&self) -> Result<(), StoreError> {
        let came = monotonic_now();
        let mut cursor = self.cursor.lock().await;
        if self.last_complete().is_some_and(|began| began > came) {
            return Ok(());
        }
        let began = monotonic_now();
        self.read_to_end(&mut cursor).await?;
        *self.complete.write().unwrap_or_else(PoisonError::into_inner) = Some(began);
        Ok(())
    }

    /// Forgets entries that can refuse no living token.
    pub fn forget_expired(&self) {
        self.observer.revocations.purge(self.clock.now());
    }

    async fn read_to_end(&self, cursor: &mut Cursor) -> Result<(), StoreError> {
        loop {
            let sent = self.clock.now();
            let page = self.store.read_feed(cursor.number, PAGE).await?;
            self.clock.observe(sent, page.database_time);
            if cursor.incarnation.is_some_and(|known| known != page.incarnation) || page.head < cursor.number {
                tracing::warn!(head = page.head, read = cursor.number, "the feed has another history, reading it anew");
                // What was revoked under the old history stays revoked: forgetting would need a reason, keeping needs none.
                *cursor = Cursor { incarnation: Some(page.incarnation), number: 0 };
                self.observer.keys_changed.notify_one();
                continue;
            }
            cursor.incarnation = Some(page.incarnation);
            if self.apply(cursor, &page) {
                return Ok(());
            }
        }
    }

    /// Whether the end was reached.
    fn apply(&self, cursor: &mut Cursor, page: &FeedPage) -> bool {
        // Entries that expired before this node saw them may have been about keys.
        if page.entries.first().map_or(page.head + 1, |e| e.number) > cursor.number + 1 {
            self.observer.keys_changed.notify_one();
        }
        for entry in &page.entries {
            self.observer.take_in(entry);
        }
        let full = page.entries.len() == usize::try_from(PAGE).unwrap_or(usize::MAX);
        cursor.number = if full { page.entries.last().map_or(page.head, |e| e.number) } else { page.head };
        !full
    }
}
