//! Messages that wait to be sent: put in with what causes them, taken by one worker at a time, gone when they are sent.

use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use super::ThrottleKey;
use crate::{
    domain::{id::UserId, throttle::Rate, time::Timestamp},
    store::StoreError,
};

/// A message to be put into the outbox, in the transaction of what causes it.
#[derive(Clone, Debug)]
pub struct NewMessage {
    /// The id, which its receivers may know it by.
    pub id: Uuid,
    /// The word for how it travels.
    pub channel: &'static str,
    /// Whom it is about. It goes with the user.
    pub user: Option<UserId>,
    /// Recipient and content, sealed.
    pub sealed: Vec<u8>,
    /// After it the message is of no use.
    pub expire_time: Timestamp,
    /// What it comes out of when it is put in; without room there it is left out, and nobody is told.
    pub budget: Option<MessageBudget>,
}

/// What a message may come out of.
#[derive(Clone, Copy, Debug)]
pub struct MessageBudget {
    /// A keyed hash of whose it is.
    pub key: ThrottleKey,
    /// How much there is of it.
    pub rate: Rate,
}

/// Who wants messages, and how many.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Whose they are until `until`. Another id for each claim.
    pub lease: Uuid,
    /// From then on somebody else may try.
    pub until: Timestamp,
    /// Only those that travel in one of these ways.
    pub channels: &'static [&'static str],
    /// At most this many.
    pub limit: u32,
}

/// A message that is due, and its taker's alone until the lease ends.
#[derive(Clone, Debug)]
pub struct DueMessage {
    /// Its id.
    pub id: Uuid,
    /// The word for how it travels.
    pub channel: String,
    /// Recipient and content, sealed.
    pub sealed: Vec<u8>,
    /// When it was put in.
    pub create_time: Timestamp,
    /// After it the message is of no use.
    pub expire_time: Timestamp,
    /// How often it was taken, this time included.
    pub attempts: i64,
    /// What the attempt before failed with; empty if there was none.
    pub last_error: String,
}

/// A message that was given up. The recipient and the content stay sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadMessage {
    /// Its id.
    pub id: Uuid,
    /// The word for how it would have travelled.
    pub channel: String,
    /// Recipient and content, sealed.
    pub sealed: Vec<u8>,
    /// When it was put in.
    pub create_time: Timestamp,
    /// After it the message is of no use.
    pub expire_time: Timestamp,
    /// When it was given up.
    pub dead_time: Timestamp,
    /// How often it was tried.
    pub attempts: i64,
    /// What the last attempt failed with.
    pub last_error: String,
}

/// What a purge deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PurgedMessages {
    /// The channel of each message that had not been sent when it stopped being of use.
    pub expired: Vec<String>,
    /// How many dead ones had been kept for long enough.
    pub dead: u64,
}

/// The outbox. What is taken is taken under a lease: whoever holds one that has passed to somebody else changes nothing.
#[async_trait]
pub trait OutboxStore: Send + Sync + 'static {
    /// Puts messages in that nothing else in the database goes with.
    async fn enqueue(&self, messages: Vec<NewMessage>) -> Result<(), StoreError>;

    /// How many messages of these channels are due and of use, counted up to `limit`.
    async fn due_messages(&self, channels: &'static [&'static str], limit: u32) -> Result<u32, StoreError>;

    /// Takes messages that are due and of use, those that were never tried first, and then those that have
    /// been due for longest. Of any number of workers each message
    /// has one, until its lease ends.
    async fn claim_messages(&self, claim: Claim) -> Result<Vec<DueMessage>, StoreError>;

    /// Gives back what was taken under a lease and was not tried: it is due again. How many there were.
    async fn release_messages(&self, lease: Uuid) -> Result<u64, StoreError>;

    /// A clock that was ahead when messages were put in, put off or taken keeps none of them for longer than can be: not for longer than
    /// `lease` what somebody may have, and than `pause` what was put off. What was never taken is due.
    async fn correct_messages(&self, lease: Duration, pause: Duration) -> Result<(), StoreError>;

    /// A message was sent: deletes it. Whether the lease still held.
    async fn finish_message(&self, id: Uuid, lease: Uuid) -> Result<bool, StoreError>;

    /// A message is to be tried again at `due_time`. Whether the lease still held.
    async fn postpone_message(
        &self,
        id: Uuid,
        lease: Uuid,
        due_time: Timestamp,
        error: String,
    ) -> Result<bool, StoreError>;

    /// A message is given up, and kept for the operator to look at. Whether the lease still held.
    async fn bury_message(&self, id: Uuid, lease: Uuid, error: String) -> Result<bool, StoreError>;

    /// Messages that were given up, the oldest first, after the one with the id `after`.
    async fn dead_messages(&self, after: Option<Uuid>, limit: u32) -> Result<Vec<DeadMessage>, StoreError>;

    /// Makes dead messages due now, one or all, if they are still of use, as if they had never been tried. How many.
    async fn retry_messages(&self, id: Option<Uuid>) -> Result<u64, StoreError>;

    /// Deletes dead messages, one or all. How many.
    async fn drop_messages(&self, id: Option<Uuid>) -> Result<u64, StoreError>;

    /// Deletes messages that are of no use any more, and dead ones that were given up before `dead_before`.
    async fn purge_messages(&self, dead_before: Timestamp) -> Result<PurgedMessages, StoreError>;
}
