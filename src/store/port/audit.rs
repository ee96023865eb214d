//! The audit trail as it is stored, read and checked.

use async_trait::async_trait;
use serde_json::Value;
use uuid::Uuid;

use crate::{
    crypto::audit_chain::{ChainHash, ChainedEvent, Place},
    domain::{
        audit::Personal,
        id::{EventId, SessionId},
        time::Timestamp,
        trail::{EventCursor, EventFilter, EventOrder},
    },
    store::StoreError,
};

/// Where an event stands in the trail, and the hash that says that it stands there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainLink {
    /// Where.
    pub place: Place,
    /// Over the event and the one before it; [`UNREADABLE`](crate::crypto::audit_chain::UNREADABLE) where somebody left none.
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
    /// Address and agent, encrypted under the data key of the user whose they are, or of nobody.
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

/// An event with what is personal in it.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadEvent {
    /// As its row says it.
    pub event: RecordedEvent,
    /// What was personal: empty if there was nothing, or its key has been destroyed.
    pub personal: Personal,
}

/// A page of events.
#[derive(Clone, Debug)]
pub struct EventListing {
    /// Which.
    pub filter: EventFilter,
    /// In which order.
    pub order: EventOrder,
    /// Behind which event; from the first one if none.
    pub behind: Option<EventCursor>,
    /// At most this many.
    pub limit: u32,
}

/// An end of a lane, and what vouches for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneEnd {
    /// Where, and with which hash; position 0 and zeros where there is nothing.
    pub link: ChainLink,
    /// The MAC over it, if it has one.
    pub mac: Option<[u8; 32]>,
}

/// A lane of the trail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lane {
    /// The last event that was removed because it was old.
    pub base: LaneEnd,
    /// The last event.
    pub head: LaneEnd,
}

/// What is to be checked of the trail.
#[derive(Clone, Debug)]
pub struct ChainCheck {
    /// Where an earlier check stopped: behind this event. None: from the beginning.
    pub behind: Option<ChainLink>,
    /// What the heads were when somebody looked before: these events must still be there, unless they were removed for age.
    pub checkpoint: Vec<ChainLink>,
    /// Stop after about this many events.
    pub events: u64,
    /// Tell at most this many faults.
    pub faults: usize,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChainReport {
    /// How many events were looked at.
    pub events: u64,
    /// The heads of the lanes that were looked at to their end, for a checkpoint.
    pub heads: Vec<LaneEnd>,
    /// What is wrong, up to the limit.
    pub faults: Vec<ChainFault>,
    /// Whether there is more that is wrong than was told.
    pub more_faults: bool,
    /// What the checkpoint names and nobody can look at any more, because it was removed for its age.
    pub not_compared: Vec<ChainLink>,
    /// How many events have no place yet: written by versions that knew of none.
    pub unplaced: u64,
    /// Where to go on, if the end was not reached.
    pub next: Option<ChainLink>,
}

/// Something wrong with the trail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainFault {
    /// What.
    pub kind: FaultKind,
    /// Where.
    pub place: Place,
    /// Which event, if there is one.
    pub event: Option<EventId>,
}

/// What can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// The event does not say what it said when it was recorded, or does not follow the one before it.
    Altered,
    /// There is no event at this place, and those after it are there.
    Missing,
    /// There is an event at a place where none can be: behind the head, before the base, or in a lane that does not exist.
    Unexpected,
    /// The lane ends before its head, or its head says another hash than its last event.
    Head,
    /// The MAC of the head is not the one of this service.
    HeadMac,
    /// The MAC of what was removed for age is not the one of this service.
    BaseMac,
    /// A lane is not there.
    Lane,
    /// The lane is shorter than, or other than, the checkpoint says.
    Checkpoint,
}

/// The audit trail, to be read and checked.
#[async_trait]
pub trait TrailStore: Send + Sync + 'static {
    /// A page of events.
    async fn list_events(&self, listing: EventListing) -> Result<Vec<ReadEvent>, StoreError>;

    /// Every lane.
    async fn lanes(&self) -> Result<Vec<Lane>, StoreError>;

    /// Up to `limit` events of a lane behind `after`, in their order. Those of one lane have no gaps.
    async fn read_lane(&self, after: Place, limit: u32) -> Result<Vec<ReadEvent>, StoreError>;

    /// The MAC of this service over what is said of an end of a lane: for checking an export. Asks nobody.
    fn attest(&self, statement: &[u8]) -> [u8; 32];

    /// How many lanes the trail has in this kind of database, numbered from 0.
    fn lane_count(&self) -> i64;

    /// Walks the lanes and tells what is wrong.
    async fn verify_audit_chain(&self, check: ChainCheck) -> Result<ChainReport, StoreError>;
}
