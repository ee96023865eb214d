//! This node's memory of revocations, and how it follows the feed.
//!
//! A node hears of its own revocations from the [`Observer`] right after their commit. Of everybody else's it learns from the
//! stream of the hot state within milliseconds, if there is one, and by reading the feed from the database: before it serves,
//! each second, and whenever a caller wants the strong answer. The stream only hurries what the database says anyway.

use std::{
    sync::{Arc, PoisonError, RwLock, atomic::AtomicU32},
    time::{Duration, Instant},
};

use tokio::sync::{Mutex, Notify};
use uuid::Uuid;

use super::Hot;
use crate::{
    crypto::monotonic_now,
    domain::{
        claim_rules::SaidMark,
        hot::{HotRecord, NotCarried, Outage, may_carry},
        id::SessionId,
        time::{Clock, Timestamp},
    },
    store::{
        StoreError,
        port::{FeedPage, Store},
    },
    telemetry::Metrics,
    verifier::RevocationSet,
};

mod head;
mod observer;
mod progress;
mod ring;
mod stream;
mod watch;

pub use observer::Observer;
pub use watch::Piece;
pub(super) use watch::Watcher;

/// Entries read in one go.
const PAGE: u32 = 1_000;

/// How far the feed has been read from the database. What came by other ways is read again: only this is the truth.
#[derive(Clone, Copy, Debug, Default)]
struct Cursor {
    incarnation: Option<Uuid>,
    number: i64,
}

/// A complete reading of the feed.
#[derive(Clone, Copy, Debug)]
struct Reading {
    /// When it began. By the monotonic clock: the other one is corrected by these very readings.
    began: Instant,
    /// The same moment by the clock.
    time: Timestamp,
    /// The last entry.
    number: i64,
}

/// The follower of the feed.
pub struct Feed {
    store: Arc<dyn Store>,
    hot: Option<Arc<Hot>>,
    observer: Arc<Observer>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    cursor: Mutex<Cursor>,
    complete: RwLock<Option<Reading>>,
    vouched: RwLock<Option<head::Vouched>>,
    /// Since when the hot state has known of revocations that this node has not heard of.
    behind: RwLock<Option<Instant>>,
    /// Exchanges of the head that failed, one after the other.
    failed_exchanges: AtomicU32,
    /// There is a reason to read the feed now.
    wanted: Notify,
}

impl std::fmt::Debug for Feed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Feed").field("revocations", &self.revocations().len()).finish_non_exhaustive()
    }
}

impl Feed {
    /// A follower that has read nothing yet: call [`Feed::catch_up`] before serving.
    pub fn new(
        store: Arc<dyn Store>,
        hot: Option<Arc<Hot>>,
        observer: Arc<Observer>,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            store,
            hot,
            observer,
            clock,
            metrics,
            cursor: Mutex::default(),
            complete: RwLock::default(),
            vouched: RwLock::default(),
            behind: RwLock::default(),
            failed_exchanges: AtomicU32::new(0),
            wanted: Notify::new(),
        }
    }

    /// What hears of revocations.
    pub fn observer(&self) -> &Arc<Observer> {
        &self.observer
    }

    /// What tokens must not say.
    pub fn revocations(&self) -> &RevocationSet {
        self.observer.revocations()
    }

    /// The number up to which every entry is known here.
    pub fn head(&self) -> Option<i64> {
        self.observer.progress().position().map(|position| position.number)
    }

    /// How long ago the feed was last read to its end. For ever, before the first reading.
    pub fn database_staleness(&self) -> Duration {
        self.last_complete().map_or(Duration::MAX, |last| monotonic_now().saturating_duration_since(last.began))
    }

    /// Whether a complete reading has begun after `moment`.
    pub(super) fn was_read_after(&self, moment: Instant) -> bool {
        self.last_complete().is_some_and(|last| last.began > moment)
    }

    fn last_complete(&self) -> Option<Reading> {
        *self.complete.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Resolves when the set of signing keys has changed since the last time.
    pub async fn keys_changed(&self) {
        self.observer.keys_changed().await;
    }

    /// Resolves when the feed should be read before its time.
    pub(super) async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// Reads the feed to its end. Callers who wait at the same time share a reading that began after they came.
    ///
    /// # Errors
    /// The store's; what was read so far stays.
    pub async fn catch_up(&self) -> Result<(), StoreError> {
        let came = monotonic_now();
        let mut cursor = self.cursor.lock().await;
        if self.was_read_after(came) {
            return Ok(());
        }
        let (began, time) = (monotonic_now(), self.clock.now());
        self.read_to_end(&mut cursor).await?;
        let reading = Reading { began, time, number: cursor.number };
        *self.complete.write().unwrap_or_else(PoisonError::into_inner) = Some(reading);
        Ok(())
    }

    /// Forgets entries that can refuse no living token, and whom they were about once no hot record could be older.
    pub fn forget_expired(&self, grace: Duration) {
        let now = self.clock.now();
        self.revocations().purge(now);
        self.observer.progress().forget_before(now.minus(grace));
    }

    /// Whether the hot record may speak for its row now, for so long at most, at a node whose tokens say these attributes. Asks the hot state how far the feed goes.
    pub(super) async fn may_carry(
        &self,
        session: SessionId,
        record: &HotRecord,
        (grace, said): (Duration, SaidMark),
    ) -> Result<(), NotCarried> {
        // Before the head is read: it goes up meanwhile, by this node's own hand too.
        let last_head = self.observer.progress().last_head;
        let head = self.read_head().await;
        let lasts = self.database_staleness();
        let mut progress = self.observer.progress();
        let Some(known) = progress.position() else { return Err(NotCarried::Behind) };
        let outage = Outage { lasts, grace, known, head, last_head, changes: progress.changes(), said };
        let verdict = may_carry(session, record, &outage);
        if let Some(head) = head {
            progress.saw(head);
        }
        verdict
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
                self.observer.start_over(page.incarnation);
                continue;
            }
            cursor.incarnation = Some(page.incarnation);
            if self.apply(cursor, &page) {
                return Ok(());
            }
        }
    }

    /// How late this node hears of what others revoked. What had been revoked before it began to listen is not late.
    fn measure_lag(&self, news: &[Timestamp]) {
        if self.last_complete().is_some() {
            let now = self.clock.now();
            for time in news {
                self.metrics.revocation_lag(now.since(*time));
            }
        }
    }

    /// Whether the end was reached.
    fn apply(&self, cursor: &mut Cursor, page: &FeedPage) -> bool {
        let full = page.entries.len() == usize::try_from(PAGE).unwrap_or(usize::MAX);
        let last = page.entries.last().map_or(cursor.number, |entry| entry.number);
        let news = self.observer.read(page.incarnation, cursor.number, &page.entries, (!full).then_some(page.head));
        self.measure_lag(&news);
        cursor.number = if full { last } else { page.head };
        !full
    }
}
