//! Erasures: users go with all that is kept of them, and it is remembered that they went, so that a restored backup can be told.

use async_trait::async_trait;
use uuid::Uuid;

use crate::{
    domain::{
        email::Email,
        id::{SessionId, UserId},
        phone::PhoneNumber,
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

/// A user who is gone, and by what there may be more of the same person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Erased {
    /// Who, and when.
    pub erasure: Erasure,
    /// The sessions that had rows.
    pub sessions: Vec<SessionId>,
    /// The address, if it was proved to be the user's: what others left under one that was not is its real owner's.
    pub email: Option<Email>,
    /// The phone number.
    pub phone_number: Option<PhoneNumber>,
}

/// What became of an erasure that was asked for again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reapplied {
    /// The user was there again, and is gone.
    Deleted(Erased),
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
    /// last administrator goes as well.
    async fn erase_again(&self, erasure: Erasure) -> Result<Reapplied, StoreError>;

    /// Those of these users of whom it is known that they were deleted, and of whom nothing is there.
    async fn known_erasures(&self, users: Vec<UserId>) -> Result<Vec<UserId>, StoreError>;

    /// Remembers who was deleted by a version that did not, as the audit trail tells since then. How many.
    async fn adopt_erasures(&self, since: Timestamp) -> Result<u64, StoreError>;

    /// Sessions that the user began since then, the latest first, as the audit trail tells: also such as have no row any more.
    async fn recorded_sessions(&self, user: UserId, since: Timestamp, limit: u32)
    -> Result<Vec<SessionId>, StoreError>;

    /// Messages of the outbox that are about nobody and of before that moment, sealed, by id and after this one.
    async fn sealed_messages(
        &self,
        before: Timestamp,
        after: Uuid,
        limit: u32,
    ) -> Result<Vec<(Uuid, Vec<u8>)>, StoreError>;

    /// Deletes what others left for somebody who was deleted, before that moment: registrations under the address, changes to it,
    /// codes that belong to no account; those of these messages that are about nobody.
    async fn forget_left(&self, email: Option<Email>, messages: Vec<Uuid>, before: Timestamp)
    -> Result<(), StoreError>;

    /// Takes what was deleted out of the files as far as that is for us to do. Whether it was done: somebody may be reading what
    /// was there before.
    async fn scrub(&self) -> Result<bool, StoreError>;
}
