//! Messages that wait to be sent.

use uuid::Uuid;

use crate::domain::{id::UserId, time::Timestamp};

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
}
