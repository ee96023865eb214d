//! The head of the feed in the hot state: what nodes that reach the database tell those that do not.

use std::{
    sync::{PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};

use tokio::time::timeout;

use super::Feed;
use crate::{
    crypto::monotonic_now,
    domain::{hot::FeedHead, time::Timestamp},
    service::hot::{Hot, Kept},
    state::{HotError, HotKey},
};

/// How long the head is kept. For as long as an outage could possibly be bridged, and longer.
const TTL: Duration = Duration::from_hours(24);
/// A head that another node renewed so lately is left alone.
const FRESH: Duration = Duration::from_millis(500);
/// Nodes that renew the head at one moment come after each other.
const TRIES: u32 = 4;
/// A head that no node has renewed for this long belongs to a time when none could.
const ABANDONED: Duration = Duration::from_secs(3);
/// How long a node may not have heard what the hot state knows of. The stream takes milliseconds.
const CATCHING_UP: Duration = Duration::from_secs(1);
/// Longest that a refresh takes from reading the head to moving its record, and how far clocks may be apart.
const UNDER_WAY: Duration = Duration::from_secs(1);
/// What was heard from the hot state counts for this long.
const HEARD: Duration = Duration::from_secs(4);
/// Rows that are looked for at once.
const ROWS: usize = 256;

/// What the hot state last said about this node's list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Vouched {
    /// When it said so.
    heard: Instant,
    /// Up to when the list is complete.
    complete: Timestamp,
}

impl Feed {
    /// How old the list may be: since when revocations could be missing in it.
    pub fn staleness(&self) -> Duration {
        let by_others = self.vouched().map(|vouched| self.clock.now().since(vouched.complete));
        self.database_staleness().min(by_others.unwrap_or(Duration::MAX))
    }

    /// Whether the hot state has lately confirmed that this node has heard of every revocation that any node knows of.
    pub fn is_vouched_for(&self) -> bool {
        self.vouched().is_some()
    }

    /// Whether revocations are known to be missing here: the hot state has known of more for a while, and the database has not
    /// been read since.
    pub fn misses_revocations(&self) -> bool {
        let behind = *self.behind.read().unwrap_or_else(PoisonError::into_inner);
        behind.is_some_and(|since| {
            monotonic_now().saturating_duration_since(since) > CATCHING_UP && !self.was_read_after(since)
        })
    }

    fn vouched(&self) -> Option<Vouched> {
        let vouched = *self.vouched.read().unwrap_or_else(PoisonError::into_inner);
        vouched.filter(|vouched| monotonic_now().saturating_duration_since(vouched.heard) < HEARD)
    }

    /// The head in the hot state, if it is there and trustworthy.
    pub(super) async fn read_head(&self) -> Option<FeedHead> {
        let hot = self.hot.as_ref()?;
        let position = self.observer.progress().position()?;
        if hot.is_overtaken() {
            return None;
        }
        hot.get(HotKey::FeedHead(position.incarnation)).await.ok()?.value
    }

    /// Brings the head in the hot state up to what this node knows from the database, and this node's idea of it up to what
    /// other nodes have written there. To be called in regular intervals, by one caller.
    ///
    /// # Errors
    /// If the hot state does not answer.
    pub async fn exchange_head(&self) -> Result<(), HotError> {
        let exchanged = self.try_to_exchange_head().await;
        let Some(hot) = &self.hot else { return exchanged };
        if exchanged.is_ok() {
            self.failed_exchanges.store(0, Ordering::Relaxed);
            self.follow_no_gone_rows(hot).await;
            hot.follow_rows(self.clock.now()).await;
        } else if self.failed_exchanges.fetch_add(1, Ordering::Relaxed) > 0 && self.reads_the_database() {
            // Not a single call that was slow: other nodes may be as blind, and rows go past their records there. When the hot
            // state is back, its old head says nothing of it, and whoever knows may have gone.
            hot.note_overtaken();
        }
        exchanged
    }

    /// Sees to it that no record is written of a session whose row is gone with its user. Without the database nobody can tell; such
    /// a record is removed later.
    async fn follow_no_gone_rows(&self, hot: &Hot) {
        if !self.reads_the_database() {
            return;
        }
        for some in hot.all_unfollowed().chunks(ROWS) {
            let Ok(Ok(rows)) = timeout(CATCHING_UP, self.store.read_sessions(some.to_vec())).await else { return };
            for gone in some.iter().filter(|session| !rows.sessions.contains_key(session)) {
                hot.follow_no_more(*gone);
            }
        }
    }

    /// Whether this node has read the feed from the database a moment ago.
    fn reads_the_database(&self) -> bool {
        self.database_staleness() < FRESH * 3
    }

    /// The same once, without drawing conclusions from a failure.
    pub(super) async fn try_to_exchange_head(&self) -> Result<(), HotError> {
        let (Some(hot), Some(position)) = (&self.hot, self.observer.progress().position()) else { return Ok(()) };
        let key = HotKey::FeedHead(position.incarnation);
        // Before the head is read: it goes up meanwhile, by this node's own hand too.
        let seen = self.observer.progress().last_head;
        let mut kept: Kept<FeedHead> = hot.get(key).await?;
        // Others may renew what is left until it looks as late as what was lost: noted until the head tells of it.
        if seen.is_some_and(|seen| kept.value.is_none_or(|head| head.is_behind(&seen))) {
            hot.note_overtaken();
        }
        for _ in 0..TRIES {
            self.judge(kept.value, seen);
            let overtaken = hot.overtaken();
            let Some(new) = self.renewed(kept.value, seen) else { return Ok(()) };
            match hot.replace(key, kept, &new, TTL).await? {
                Ok(()) => {
                    hot.told(overtaken);
                    self.judge(Some(new), seen);
                    return Ok(());
                }
                Err(now) => kept = now,
            }
        }
        Ok(())
    }

    /// What the head should be, if it should be another than `kept`. `seen` is what it was when this node last looked.
    fn renewed(&self, kept: Option<FeedHead>, seen: Option<FeedHead>) -> Option<FeedHead> {
        let reading = self.last_complete()?;
        let progress = self.observer.progress();
        let known = progress.position()?.number.max(reading.number);
        let forgotten = match (kept, seen) {
            (None, _) => true,
            (Some(kept), Some(seen)) => kept.is_behind(&seen),
            // This process has only begun. If nobody renewed the head lately, the hot state was away, and whoever knew which
            // rows went past their records may have been the process before.
            (Some(kept), None) => reading.time > kept.time.plus(ABANDONED),
        };
        // Only who reads the database may begin anew what was lost. That rows have gone past their records, whoever knows it may
        // say: it only makes fewer records count.
        let overtaken = self.hot.as_ref().is_some_and(|hot| hot.is_overtaken());
        if forgotten && !self.reads_the_database() {
            return None;
        }
        let old = kept.unwrap_or(FeedHead { number: 0, time: reading.time, records_since: reading.time, beat: 0 });
        let last = progress.last_head.unwrap_or(old);
        let since = match (forgotten, overtaken) {
            // Another node may be moving an old record on at this moment, by the head as it was.
            (_, true) => self.clock.now().plus(UNDER_WAY),
            (true, false) => self.clock.now(),
            (false, false) => old.records_since,
        };
        let new = FeedHead {
            number: known.max(old.number),
            time: reading.time.max(old.time).max(last.time),
            records_since: since.max(old.records_since).max(last.records_since),
            beat: old.beat.max(last.beat) + 1,
        };
        // Nobody else has been here since.
        let unbeaten = seen.is_none_or(|seen| old.beat <= seen.beat);
        let due = new.number > old.number
            || new.records_since > old.records_since
            || new.time >= old.time.plus(FRESH)
            || unbeaten;
        due.then_some(new)
    }

    /// Takes note of a head, read when another had been `seen`: whether this node's list is complete by it.
    fn judge(&self, head: Option<FeedHead>, seen: Option<FeedHead>) {
        let mut progress = self.observer.progress();
        let known = progress.position().map_or(0, |position| position.number);
        let verdict = head.filter(|head| head.number <= known && !seen.is_some_and(|seen| head.is_behind(&seen)));
        if let Some(head) = head {
            progress.saw(head);
            if head.number > known {
                self.wanted.notify_one();
            }
        }
        drop(progress);
        if let Some(head) = head {
            let mut behind = self.behind.write().unwrap_or_else(PoisonError::into_inner);
            *behind = (head.number > known).then(|| behind.unwrap_or_else(monotonic_now));
        }
        let vouched = verdict.map(|head| Vouched { heard: monotonic_now(), complete: head.time });
        *self.vouched.write().unwrap_or_else(PoisonError::into_inner) = vouched;
    }
}
