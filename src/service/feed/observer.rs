//! What this node knows of the feed, from whichever side it comes.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::{Notify, watch};
use uuid::Uuid;

use super::{
    progress::Progress,
    ring::{Ring, UNNUMBERED},
};
use crate::{
    domain::{
        audit::Failure,
        revocation::{FeedEntry, Revocation},
        time::Timestamp,
    },
    service::failures::Failures,
    store::port::CommitObserver,
    verifier::RevocationSet,
};

/// Entries that may wait to be pushed. Beyond that the other nodes read them from the database.
const OUTBOX: usize = 10_000;

/// What others may not have heard of yet, oldest first. Locked after the progress, whose history its entries belong to.
#[derive(Debug, Default)]
struct Outbox {
    entries: VecDeque<FeedEntry>,
    /// The feed was read to its end once: what comes from the database now has come since, and not by the stream.
    is_listening: bool,
}

impl Outbox {
    fn put(&mut self, entry: &FeedEntry) {
        self.entries.push_back(entry.clone());
        // Nobody may be pushing: then only the newest are kept.
        let surplus = self.entries.len().saturating_sub(OUTBOX);
        self.entries.drain(..surplus);
    }
}

/// Takes in what was revoked, and what else was committed.
#[derive(Default)]
pub struct Observer {
    revocations: RevocationSet,
    progress: Mutex<Progress>,
    keys_changed: Notify,
    /// How often the set of keys has changed, or may have. Counted before anybody is told.
    key_changes: AtomicU64,
    /// For those who watch.
    ring: Ring,
    /// For the others: this node's own entries, and those that only the database has told it of.
    outbox: Mutex<Outbox>,
    to_push: Notify,
    /// How often messages were put into the outbox.
    enqueued: watch::Sender<u64>,
    /// How often audit events were recorded.
    recorded: watch::Sender<u64>,
    failures: Failures,
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

    pub(super) fn ring(&self) -> &Ring {
        &self.ring
    }

    pub(super) async fn keys_changed(&self) {
        self.keys_changed.notified().await;
    }

    /// How often the set of keys has changed as far as this node has heard. Keys that were read after this was asked are as new
    /// as what anybody was told by then.
    pub(in crate::service) fn key_changes(&self) -> u64 {
        self.key_changes.load(Ordering::SeqCst)
    }

    /// Tells whenever this node has put messages into the outbox.
    pub(in crate::service) fn enqueuings(&self) -> watch::Receiver<u64> {
        self.enqueued.subscribe()
    }

    /// Tells whenever this node has recorded audit events.
    pub(in crate::service) fn recordings(&self) -> watch::Receiver<u64> {
        self.recorded.subscribe()
    }

    /// What failed at this node.
    pub(in crate::service) const fn failures(&self) -> &Failures {
        &self.failures
    }

    fn note_key_change(&self) {
        self.key_changes.fetch_add(1, Ordering::SeqCst);
        self.keys_changed.notify_one();
    }

    /// Whether every token signed by this key is revoked.
    pub(in crate::service) fn is_key_revoked(&self, kid: &str) -> bool {
        self.revocations.is_key_revoked(kid)
    }

    /// These keys are revoked, says the database, whatever the feed still says of them.
    pub(in crate::service) fn learn_revoked_keys(&self, kids: Vec<String>, now: Timestamp) {
        let news: Vec<_> = kids.into_iter().filter(|kid| !self.is_key_revoked(kid)).collect();
        if news.is_empty() {
            return;
        }
        let progress = self.progress();
        for kid in news {
            let revocation = Revocation::Key { kid };
            let entry = FeedEntry { number: UNNUMBERED, revocation, time: now, expire_time: now };
            self.revocations.apply(&entry);
            self.ring.put(&entry);
        }
        self.show(&progress);
    }

    /// Applies an entry: to the list first, so that whoever finds it noted finds it applied. The ring must be told in the end how
    /// far everything is known: [`Self::show`].
    fn take_in(&self, progress: &mut Progress, entry: &FeedEntry) -> bool {
        self.revocations.apply(entry);
        let news = progress.note(entry);
        if news && entry.revocation == Revocation::KeySetChanged {
            self.note_key_change();
        }
        if news {
            self.ring.put(entry);
        }
        news
    }

    /// Shows those who watch what was taken in.
    fn show(&self, progress: &Progress) {
        self.ring.reached(progress.position());
    }

    /// The entries from `after` to before `number` have expired.
    fn skip(&self, progress: &mut Progress, after: i64, number: i64) {
        progress.skip(after, number);
        if number > after + 1 {
            self.ring.skip_to(number - 1);
        }
    }

    /// Takes in entries that were pushed to the stream of this history. When those that are news were recorded, and whether some
    /// are missing between them.
    pub(super) fn heard<'e>(
        &self,
        incarnation: Uuid,
        entries: impl Iterator<Item = &'e FeedEntry>,
    ) -> (Vec<Timestamp>, bool) {
        let mut progress = self.progress();
        if progress.position().is_none_or(|position| position.incarnation != incarnation) {
            return (Vec::new(), true);
        }
        let (mut news, mut pushed) = (Vec::new(), BTreeSet::new());
        for entry in entries {
            if self.take_in(&mut progress, entry) {
                news.push(entry.time);
            }
            pushed.insert(entry.number);
        }
        if !news.is_empty() {
            self.show(&progress);
        }
        // Once is enough.
        self.outbox().entries.retain(|entry| !pushed.contains(&entry.number));
        (news, progress.has_gap())
    }

    /// Whether there are entries that this node has not heard of.
    pub(super) fn misses_some(&self) -> bool {
        let progress = self.progress();
        let known = progress.position().map_or(0, |position| position.number);
        progress.has_gap() || progress.last_head.is_some_and(|head| head.number > known)
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
        let is_another = progress.belongs_to(incarnation);
        let mut outbox = self.outbox();
        if is_another {
            *outbox = Outbox::default();
            self.ring.start_over(false);
        }
        let before = progress.position();
        let (mut last, mut news) = (after, Vec::new());
        // Entries that expired before this node saw them may have been about keys.
        let next = entries.first().map_or(end.unwrap_or(after) + 1, |entry| entry.number);
        if next > after + 1 {
            self.note_key_change();
        }
        for entry in entries {
            self.skip(&mut progress, last, entry.number);
            if self.take_in(&mut progress, entry) {
                news.push(entry.time);
                // Whoever committed it does not push: there are nodes that hear of it from this one or not at all.
                if outbox.is_listening {
                    outbox.put(entry);
                }
            }
            last = entry.number;
        }
        if let Some(end) = end {
            self.skip(&mut progress, last, end + 1);
            outbox.is_listening = true;
        }
        if is_another || !news.is_empty() || progress.position() != before {
            self.show(&progress);
        }
        if !outbox.entries.is_empty() {
            self.to_push.notify_one();
        }
        news
    }

    /// The feed has another history.
    pub(super) fn start_over(&self, incarnation: Uuid) {
        let mut progress = self.progress();
        let is_another = progress.belongs_to(incarnation);
        if !is_another {
            progress.start_over();
        }
        self.ring.start_over(!is_another);
        self.show(&progress);
        *self.outbox() = Outbox::default();
        self.note_key_change();
    }

    /// The next entry to be pushed, and the history it belongs to. Waits for one. It stays the next until it was
    /// [pushed](Self::pushed).
    pub(super) async fn next_to_push(&self) -> (Uuid, FeedEntry) {
        loop {
            if let Some(next) = self.first_to_push() {
                return next;
            }
            self.to_push.notified().await;
        }
    }

    fn first_to_push(&self) -> Option<(Uuid, FeedEntry)> {
        let progress = self.progress();
        let position = progress.position()?;
        let entry = self.outbox().entries.front().cloned()?;
        Some((position.incarnation, entry))
    }

    /// This entry was pushed.
    pub(super) fn pushed(&self, entry: &FeedEntry) {
        let mut outbox = self.outbox();
        // It may have made room meanwhile.
        if outbox.entries.front() == Some(entry) {
            outbox.entries.pop_front();
        }
    }

    fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CommitObserver for Observer {
    fn committed(&self, entries: &[FeedEntry]) {
        let mut progress = self.progress();
        let mut outbox = self.outbox();
        for entry in entries {
            self.take_in(&mut progress, entry);
            outbox.put(entry);
        }
        self.show(&progress);
        self.to_push.notify_one();
    }

    fn enqueued(&self) {
        self.enqueued.send_modify(|times| *times += 1);
    }

    fn recorded(&self) {
        self.recorded.send_modify(|times| *times += 1);
    }

    fn is_event(&self, failure: &Failure, now: Timestamp) -> bool {
        self.failures.is_event(failure, now)
    }

    fn failed(&self, failure: Failure, is_event: bool, now: Timestamp) {
        self.failures.note(failure, is_event, now);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::domain::hot::FeedHead;

    const HISTORY: Uuid = Uuid::from_u128(1);

    fn entry(number: i64) -> FeedEntry {
        let (time, expire_time) = (Timestamp::from_seconds(1), Timestamp::from_seconds(2));
        FeedEntry { number, revocation: Revocation::KeySetChanged, time, expire_time }
    }

    /// Has read the feed up to 2.
    fn listening() -> Observer {
        let observer = Observer::new();
        observer.read(HISTORY, 0, &[entry(1), entry(2)], Some(2));
        observer
    }

    fn to_push(observer: &Observer) -> Vec<i64> {
        let mut numbers = Vec::new();
        while let Some((history, entry)) = observer.next_to_push().now_or_never() {
            assert_eq!(history, observer.progress().position().unwrap().incarnation);
            numbers.push(entry.number);
            observer.pushed(&entry);
        }
        numbers
    }

    #[test]
    fn an_entry_is_the_next_until_it_was_pushed() {
        let observer = listening();
        observer.committed(&[entry(3), entry(4)]);
        for _ in 0..3 {
            assert_eq!(observer.next_to_push().now_or_never(), Some((HISTORY, entry(3))));
        }
        observer.pushed(&entry(4));
        assert_eq!(to_push(&observer), [3, 4]);
    }

    #[test]
    fn what_only_the_database_told_is_pushed_and_what_was_there_before_is_not() {
        let observer = listening();
        assert_eq!(to_push(&observer), [0_i64; 0]);
        observer.heard(HISTORY, [entry(4)].iter());
        observer.read(HISTORY, 2, &[entry(3), entry(4), entry(5)], Some(5));
        assert_eq!(to_push(&observer), [3, 5]);
    }

    #[test]
    fn what_another_has_pushed_meanwhile_is_not_pushed() {
        let observer = listening();
        observer.committed(&[entry(3), entry(4), entry(5)]);
        observer.heard(HISTORY, [entry(4)].iter());
        assert_eq!(to_push(&observer), [3, 5]);
    }

    #[test]
    fn only_the_newest_wait() {
        let observer = listening();
        observer.committed(&(3..=10_003).map(entry).collect::<Vec<_>>());
        assert_eq!(to_push(&observer), (4..=10_003).collect::<Vec<_>>());
    }

    #[test]
    fn entries_of_two_histories_do_not_meet() {
        let observer = listening();
        observer.committed(&[entry(3)]);
        let other = Uuid::from_u128(2);
        observer.start_over(other);
        observer.read(other, 0, &[entry(1)], Some(1));
        assert_eq!(to_push(&observer), [0_i64; 0]);
        observer.heard(HISTORY, [entry(2)].iter());
        assert_eq!(observer.progress().position().unwrap().number, 1, "heard too late");
        observer.heard(other, [entry(2)].iter());
        assert_eq!(observer.progress().position().unwrap().number, 2);
    }

    #[test]
    fn it_knows_that_it_misses_some() {
        let observer = listening();
        assert!(!observer.misses_some());
        observer.heard(HISTORY, [entry(4)].iter());
        assert!(observer.misses_some());
        observer.heard(HISTORY, [entry(3)].iter());
        assert!(!observer.misses_some());
        let time = Timestamp::from_seconds(1);
        observer.progress().saw(FeedHead { number: 5, time, records_since: time, beat: 1 });
        assert!(observer.misses_some());
    }
}
