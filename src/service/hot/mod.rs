//! The hot state as the use cases see it: sealed values in place of bytes.
//!
//! What somebody else wrote there, or an older program, counts as missing. The database is the truth, so nothing is lost by it.

use std::{
    marker::PhantomData,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use uuid::Uuid;

use crate::{
    crypto::HotSeal,
    domain::revocation::FeedEntry,
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
    /// How often a row may have gone past its record, because the record could not be written.
    overtaken: AtomicU64,
    /// How many of these times the head tells of.
    told: AtomicU64,
}

impl std::fmt::Debug for Hot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hot").field("state", &self.state).finish_non_exhaustive()
    }
}

/// What was found under a key.
#[derive(Debug)]
pub(super) struct Kept<T> {
    bytes: Option<Vec<u8>>,
    /// The value; `None` if there is none of ours.
    pub(super) value: Option<T>,
    kind: PhantomData<T>,
}

impl Hot {
    /// The hot state `state`, whose values are sealed with `seal`.
    pub fn new(state: Arc<dyn HotState>, seal: HotSeal) -> Self {
        Self { state, seal, overtaken: AtomicU64::new(0), told: AtomicU64::new(0) }
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
        Kept { bytes, value, kind: PhantomData }
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

    /// Notes that a row has gone past its record: until that is in the head, records speak for no row here.
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
    };
    [&[kind], &id.as_bytes()[..]].concat()
}

fn stream_place(incarnation: Uuid, number: i64) -> Vec<u8> {
    [&b"f"[..], incarnation.as_bytes(), &number.to_be_bytes()].concat()
}
