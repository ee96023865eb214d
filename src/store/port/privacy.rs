//! Erasures: users go with all that is kept of them, and it is remembered that they went, so that a restored backup can be told.

use async_trait::async_trait;
use uuid::Uuid;

use crate::{
    domain::{
        id::{SessionId, UserId},
        time::Timestamp,
    },
    store::StoreError,
};

/// A user who was deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Erasure {
    /// The user's id, which nobody else gets.
    pub user: UserId,
    /// When.
    pub time: Timestamp,
}

/// What became of an erasure that was asked for again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reapplied {
    /// The user was there again, and is gone. The sessions are those that there may be hot records of.
    Deleted(Vec<SessionId>),
    /// The user was not there; that the user was deleted had been forgotten.
    Noted,
    /// Everything was as it should be.
    Known,
}

/// Erasures, and what is left of those who were erased.
#[async_trait]
pub trait PrivacyStore: Send + Sync + 'static {
    /// Erasures from `since` on, by time and id; those after `after`, if it is given.
    async fn erasures(&self, since: Timestamp, after: Option<Erasure>, limit: u32) -> Result<Vec<Erasure>, StoreError>;

    /// Deletes a user who was deleted before, if a backup brought the user back, and remembers the erasure. In the operator's name. The
    /// last administrator goes as well. With the user go these messages.
    async fn erase_again(&self, erasure: Erasure, messages: Vec<Uuid>) -> Result<Reapplied, StoreError>;

    /// Messages of the outbox after this id, sealed, by id.
    async fn sealed_messages(&self, after: Uuid, limit: u32) -> Result<Vec<(Uuid, Vec<u8>)>, StoreError>;

    /// Takes what was deleted out of the files as far as that is for us to do. Whether it was done: somebody may be reading what
    /// was there before.
    async fn scrub(&self) -> Result<bool, StoreError>;
}
