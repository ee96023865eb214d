//! The hot state as the use cases see it: sealed values in place of bytes.
//!
//! What somebody else wrote there, or an older program, counts as missing. The database is the truth, so nothing is lost by it.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use uuid::Uuid;

use crate::{
    crypto::HotSeal,
    domain::{hot::HotRecord, id::SessionId, revocation::FeedEntry, time::Timestamp},
    state::{
        HotError, HotKey, HotState, StreamEntry, StreamPlace, Swap,
        packed::{Packed, entry_from_bytes, entry_to_bytes, pack, unpack},
    },
};

pub(super) mod behind;
pub(super) mod rows;

/// The hot state, sealed.
pub struct Hot {
    state: Arc<dyn HotState>,
    seal: HotSeal,
    /// What the records of these sessions should be: their rows went past them while they could not be written.
    unfollowed: Mutex<HashMap<SessionId, Unfollowed>>,
    /// How often a row may have gone past its record without anybody knowing which.
    overtaken: AtomicU64,
    /// How many of these times the head tells of.
    told: AtomicU64,
}

impl std::fmt::Debug for Hot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hot").field("state", &self.state).finish_non_exhaustive()
    }
}

/// Sessions whose records are to be brought up one by one; with more than that, all older records are told to be worthless.
const UNFOLLOWED: usize = 10_000;
/// Writers who are quicker, before a record is left to them.
const RAISE_TRIES: u32 = 8;

/// What the record of a session should be, and until when.
#[derive(Clone, Debug)]
struct Unfollowed {
    record: HotRecord,
    expire_time: Timestamp,
}

/// What was found under a key.
#[derive(Debug)]
pub(super) struct Kept<T> {
    bytes: Option<Vec<u8>>,
    /// The value; `None` if there is none of ours.
    pub(super) value: Option<T>,
}

impl Hot {
    /// The hot state `state`, whose values are sealed with `seal`.
    pub fn new(state: Arc<dyn HotState>, seal: HotSeal) -> Self {
        Self { state, seal, unfollowed: Mutex::default(), overtaken: AtomicU64::new(0), told: AtomicU64::new(0) }
    }

    /// Whether, as far as is known, it answers.
    pub(super) fn is_up(&self) -> bool {
        self.state.is_up()
    }

    /// What is kept under `key`.
    pub(super) async fn get<T: Packed>(&self, key: HotKey) -> Result<Kept<T>, HotError> {
        Ok(self.open(key, self.state.get(key).await?))
    }

    /// Puts `new` in the place of what was found, to be kept for `ttl`. If something else has got there by now, that.
    pub(super) async fn replace<T: Packed>(
        &self,
        key: HotKey,
        found: Kept<T>,
        new: &T,
        ttl: Duration,
    ) -> Result<Result<(), Kept<T>>, HotError> {
        let sealed = self.seal.seal(&place(key), pack(new));
        Ok(match self.state.compare_and_set(key, found.bytes, sealed, ttl).await? {
            Swap::Done => Ok(()),
            Swap::Lost(bytes) => Err(self.open(key, bytes)),
        })
    }

    fn open<T: Packed>(&self, key: HotKey, bytes: Option<Vec<u8>>) -> Kept<T> {
        let value = bytes.as_deref().and_then(|sealed| {
            let opened = self.seal.open(&place(key), sealed);
            opened.inspect_err(|_| tracing::debug!(?key, "a value in the hot state is not ours")).ok().and_then(unpack)
        });
        Kept { bytes, value }
    }

    /// Pushes an entry of the feed to the other nodes.
    pub(super) async fn push(&self, incarnation: Uuid, entry: &FeedEntry) -> Result<(), HotError> {
        let value = self.seal.seal(&stream_place(incarnation, entry.number), entry_to_bytes(entry));
        self.state.push(incarnation, StreamEntry { number: entry.number, value }).await
    }

    /// What was pushed after `after`, `None` where we cannot read it, and the place after it. Waits about a second for an entry.
    pub(super) async fn follow(
        &self,
        incarnation: Uuid,
        after: &StreamPlace,
    ) -> Result<(Vec<Option<FeedEntry>>, StreamPlace), HotError> {
        let (entries, place) = self.state.follow(incarnation, after).await?;
        let open = |StreamEntry { number, value }| {
            let opened = self.seal.open(&stream_place(incarnation, number), &value).ok();
            opened.and_then(entry_from_bytes).filter(|entry| entry.number == number)
        };
        Ok((entries.into_iter().map(open).collect(), place))
    }

    /// Notes that the row of a session has gone past its record: that is brought up once it can be, and until then speaks for
    /// no row here.
    pub(super) fn note_unfollowed(&self, session: SessionId, record: HotRecord, expire_time: Timestamp) {
        let mut unfollowed = self.unfollowed();
        if unfollowed.len() >= UNFOLLOWED && !unfollowed.contains_key(&session) {
            drop(unfollowed);
            return self.note_overtaken();
        }
        let family = unfollowed.get(&session).map_or(record.family, |known| known.record.family.merged(record.family));
        unfollowed.insert(session, Unfollowed { record: HotRecord { family, ..record }, expire_time });
    }

    /// Whether the row of a session has gone past its record.
    pub(super) fn is_unfollowed(&self, session: SessionId) -> bool {
        self.unfollowed().contains_key(&session)
    }

    /// The sessions whose rows went past their records.
    pub(super) fn all_unfollowed(&self) -> Vec<SessionId> {
        self.unfollowed().keys().copied().collect()
    }

    /// The row of this session is gone: its record is not to be brought up to it.
    pub(super) fn follow_no_more(&self, session: SessionId) {
        self.unfollowed().remove(&session);
    }

    /// Brings records up to the rows that went past them.
    pub(super) async fn follow_rows(&self, now: Timestamp) {
        let waiting: Vec<_> = self.unfollowed().iter().map(|(session, wanted)| (*session, wanted.clone())).collect();
        for (session, wanted) in waiting {
            let ttl = wanted.expire_time.since(now);
            let done = ttl.is_zero() || self.raise(session, &wanted.record, ttl).await.is_ok();
            let mut unfollowed = self.unfollowed();
            if done && unfollowed.get(&session).is_some_and(|other| other.record.family == wanted.record.family) {
                unfollowed.remove(&session);
            }
        }
    }

    /// Makes the record of a session at least what its row says, which was read when the feed was `wanted.seen`.
    pub(super) async fn raise(&self, session: SessionId, wanted: &HotRecord, ttl: Duration) -> Result<(), HotError> {
        let key = HotKey::Session(session);
        let mut found: Kept<HotRecord> = self.get(key).await?;
        for _ in 0..RAISE_TRIES {
            let next = match &found.value {
                // Read after the row was: it says the same or knows better, but for the counter.
                Some(record)
                    if record.seen.incarnation == wanted.seen.incarnation
                        && record.seen.number > wanted.seen.number =>
                {
                    HotRecord { family: record.family.merged(wanted.family), ..record.clone() }
                }
                Some(record) => HotRecord { family: record.family.merged(wanted.family), ..wanted.clone() },
                None => wanted.clone(),
            };
            if found.value.as_ref() == Some(&next) {
                break;
            }
            match self.replace(key, found, &next, ttl).await? {
                Ok(()) => break,
                // Whoever was quicker goes by the larger counter of row and record too.
                Err(now) => found = now,
            }
        }
        Ok(())
    }

    /// Removes the records of sessions whose user was deleted.
    ///
    /// # Errors
    /// If the hot state does not answer; some of them may be gone.
    pub(super) async fn forget(&self, sessions: &[SessionId]) -> Result<(), HotError> {
        for session in sessions {
            self.follow_no_more(*session);
        }
        for session in sessions {
            self.remove(*session).await?;
        }
        Ok(())
    }

    /// Puts nothing in the place of a record, for no time at all.
    async fn remove(&self, session: SessionId) -> Result<(), HotError> {
        let key = HotKey::Session(session);
        let mut found = self.state.get(key).await?;
        for _ in 0..RAISE_TRIES {
            if found.is_none() {
                break;
            }
            match self.state.compare_and_set(key, found, Vec::new(), Duration::ZERO).await? {
                Swap::Done => break,
                Swap::Lost(now) => found = now,
            }
        }
        Ok(())
    }

    fn unfollowed(&self) -> MutexGuard<'_, HashMap<SessionId, Unfollowed>> {
        self.unfollowed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that some row may have gone past its record: until that is in the head, records speak for no row here.
    pub(super) fn note_overtaken(&self) {
        self.overtaken.fetch_add(1, Ordering::AcqRel);
    }

    /// Whether records here may be behind their rows without the head saying so.
    pub(super) fn is_overtaken(&self) -> bool {
        self.told.load(Ordering::Acquire) < self.overtaken()
    }

    /// How often it was noted. To be asked before the head is made: what is noted meanwhile is not in it.
    pub(super) fn overtaken(&self) -> u64 {
        self.overtaken.load(Ordering::Acquire)
    }

    /// The head says so by now, as often as it was noted before the head was made.
    pub(super) fn told(&self, overtaken: u64) {
        self.told.fetch_max(overtaken, Ordering::AcqRel);
    }
}

/// What a value is sealed for, so that it cannot be moved to another key.
fn place(key: HotKey) -> Vec<u8> {
    let (kind, id) = match key {
        HotKey::Session(session) => (b's', *session.as_uuid()),
        HotKey::FeedHead(incarnation) => (b'h', incarnation),
        HotKey::Spent(hash) => (b'b', hash),
    };
    [&[kind], &id.as_bytes()[..]].concat()
}

fn stream_place(incarnation: Uuid, number: i64) -> Vec<u8> {
    [&b"f"[..], incarnation.as_bytes(), &number.to_be_bytes()].concat()
}
