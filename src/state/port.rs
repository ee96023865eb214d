//! What the service needs of a hot state.

use std::{fmt::Debug, time::Duration};

use async_trait::async_trait;
use uuid::Uuid;

use crate::domain::id::SessionId;

/// Names a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HotKey {
    /// The record of a session.
    Session(SessionId),
    /// How far the feed with this incarnation goes.
    FeedHead(Uuid),
    /// How far a rate is spent, by a keyed hash of what it limits.
    Spent(Uuid),
}

/// How a compare-and-set ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Swap {
    /// The value is the new one.
    Done,
    /// The value was another one than expected, this one; nothing was done.
    Lost(Option<Vec<u8>>),
}

/// An entry of the pushed feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamEntry {
    /// Its number in the feed.
    pub number: i64,
    /// The sealed entry.
    pub value: Vec<u8>,
}

/// How far a stream was followed. Only its stream knows what it means; entries come in the order of their pushes, not of their
/// numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamPlace(String);

impl StreamPlace {
    /// Before everything that the stream still has.
    pub fn beginning() -> Self {
        Self("0-0".to_owned())
    }

    /// After the entry that the adapter calls so.
    pub(crate) fn after(id: String) -> Self {
        Self(id)
    }

    pub(super) fn id(&self) -> &str {
        &self.0
    }
}

/// Why the hot state did not answer. Whatever was asked for may have been done all the same.
#[derive(Debug, thiserror::Error)]
pub enum HotError {
    /// It is away, too slow, or refuses.
    #[error("the hot state is not available: {0}")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The hot state. Every call ends within a bound of the adapter's own, whatever the servers do.
#[async_trait]
pub trait HotState: Debug + Send + Sync + 'static {
    /// Whether, as far as is known, all of it answers.
    fn is_up(&self) -> bool;

    /// The value of `key`.
    async fn get(&self, key: HotKey) -> Result<Option<Vec<u8>>, HotError>;

    /// Makes the value of `key` `new`, for `ttl`, if it is `expected` now. Atomic; the script holds no rule.
    async fn compare_and_set(
        &self,
        key: HotKey,
        expected: Option<Vec<u8>>,
        new: Vec<u8>,
        ttl: Duration,
    ) -> Result<Swap, HotError>;

    /// Appends an entry to the stream of a feed, whatever its number. The oldest ones make room for it.
    async fn push(&self, incarnation: Uuid, entry: StreamEntry) -> Result<(), HotError>;

    /// Entries of the stream after `after`, in the order of their pushes, and the place after them. Waits about a second for one
    /// to come; none is an answer too. What is not ours is passed over: then the place moves on without entries. A stream that
    /// lost its memory may go on before a place of old: whoever misses something, or had an error, begins at the beginning. One
    /// caller at a time; may be dropped at any point.
    async fn follow(&self, incarnation: Uuid, after: &StreamPlace)
    -> Result<(Vec<StreamEntry>, StreamPlace), HotError>;
}
