//! The backlog shared between callers and threads.

use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::backlog::{Backlog, Entry, KeptPlace, QueueStats};
use crate::crypto::monotonic_now;

/// A [`Backlog`] that many threads put into and take from. The lock is held for moments only, never while hashing.
pub(super) struct Queue<E> {
    shared: Mutex<Shared<E>>,
    ready: Condvar,
}

struct Shared<E> {
    backlog: Backlog<E>,
    closed: bool,
}

impl<E: Entry> Queue<E> {
    pub(super) fn new(backlog: Backlog<E>) -> Self {
        Self { shared: Mutex::new(Shared { backlog, closed: false }), ready: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Shared<E>> {
        // Nothing under the lock panics; if it did, the next caller is still better served than refused.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues an entry or sends it away. After [`Queue::close`] the entry is dropped.
    pub(super) fn put(&self, entry: E) {
        let mut shared = self.lock();
        if !shared.closed {
            shared.backlog.admit(entry, monotonic_now());
            drop(shared);
            self.ready.notify_one();
        }
    }

    /// Keeps a place for an entry of this cost; otherwise when to come again.
    pub(super) fn keep(&self, cost: u64, deadline: Instant) -> Result<KeptPlace, Duration> {
        self.lock().backlog.keep(cost, deadline, monotonic_now())
    }

    /// Gives back a place that was kept.
    pub(super) fn give_back(&self, place: KeptPlace) {
        self.lock().backlog.give_back(place);
    }

    /// Queues an entry at a place that was kept. After [`Queue::close`] the entry is dropped.
    pub(super) fn put_kept(&self, entry: E, place: KeptPlace) {
        let mut shared = self.lock();
        if shared.closed {
            shared.backlog.give_back(place);
        } else {
            shared.backlog.admit_kept(entry, place, monotonic_now());
            drop(shared);
            self.ready.notify_one();
        }
    }

    /// The next entry, waited for; `None` after [`Queue::close`].
    pub(super) fn take(&self) -> Option<E> {
        let mut shared = self.lock();
        loop {
            if shared.closed {
                return None;
            }
            if let Some(entry) = shared.backlog.next(monotonic_now()) {
                return Some(entry);
            }
            shared = self.ready.wait(shared).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// An entry of this cost, once taken, was done in this time.
    pub(super) fn done(&self, cost: u64, took: Duration) {
        self.lock().backlog.done(cost, took);
    }

    /// Drops all who wait and tells the threads to end.
    pub(super) fn close(&self) {
        let mut shared = self.lock();
        shared.closed = true;
        shared.backlog.clear();
        drop(shared);
        self.ready.notify_all();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    pub(super) fn retry_after(&self) -> Duration {
        self.lock().backlog.retry_after()
    }

    pub(super) fn stats(&self, usual_cost: u64) -> QueueStats {
        self.lock().backlog.stats(usual_cost)
    }
}
