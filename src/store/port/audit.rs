//! The audit trail as it is stored.

use serde_json::Value;
use uuid::Uuid;

use crate::{
    crypto::audit_chain::{ChainHash, ChainedEvent, Place},
    domain::{
        id::{EventId, SessionId},
        time::Timestamp,
    },
};

/// Where an event stands in the trail, and the hash that says that it stands there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainLink {
    /// Where.
    pub place: Place,
    /// Over the event and the one before it.
    pub hash: ChainHash,
}

/// An event as its row says it.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordedEvent {
    /// Its id; ids begin with the time.
    pub id: EventId,
    /// When.
    pub time: Timestamp,
    /// What: [`crate::domain::audit::Act::name`].
    pub act: String,
    /// Whether it was a success for whoever attempted it.
    pub succeeded: bool,
    /// Which kind of actor: `anonymous`, `user`, `service`, `operator` or `system`.
    pub actor: String,
    /// Who, of users and services.
    pub actor_id: Option<Uuid>,
    /// Whose account it is about.
    pub subject_id: Option<Uuid>,
    /// Which session it is about.
    pub session_id: Option<SessionId>,
    /// `x-request-id`.
    pub request_id: String,
    /// The rest: an object, nothing personal and nothing secret.
    pub detail: Value,
    /// Address and agent, encrypted under the data key of the subject, or of nobody.
    pub personal_sealed: Option<Vec<u8>>,
    /// Its place. None for events of versions that knew of none, until they are taken in.
    pub link: Option<ChainLink>,
}

impl RecordedEvent {
    /// What is hashed of it.
    pub fn chained(&self) -> ChainedEvent<'_> {
        ChainedEvent {
            id: self.id,
            time: self.time,
            act: &self.act,
            succeeded: self.succeeded,
            actor: &self.actor,
            actor_id: self.actor_id,
            subject_id: self.subject_id,
            session_id: self.session_id.map(|session| *session.as_uuid()),
            request_id: &self.request_id,
            detail: &self.detail,
            personal_sealed: self.personal_sealed.as_deref(),
        }
    }
}
