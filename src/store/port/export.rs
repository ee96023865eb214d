//! Everything that is kept of a person, page by page.
//!
//! No type here has a place for a secret or for the hash of one, with two exceptions that are sealed and only opened to be told
//! in part: what waits for a code, and a message in the outbox.

use async_trait::async_trait;
use uuid::Uuid;

use super::{ReadEvent, UserAct};
use crate::{
    crypto::KeyedHash,
    domain::{
        audit::Origin,
        custom_claims::CustomClaims,
        id::{SessionId, UserId},
        role::Permissions,
        session::Session,
        time::Timestamp,
        trail::EventCursor,
        user::User,
    },
    store::StoreError,
};

/// Where an export stands: in which table, and behind which row of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExportPlace {
    /// Before everything: the account.
    Account,
    /// Roles, by name.
    Roles(String),
    /// Sessions, by id.
    Sessions(Uuid),
    /// Known devices, by id.
    Devices(Uuid),
    /// Changes of address, by id.
    EmailChanges(Uuid),
    /// Registrations, by id.
    Registrations(Uuid),
    /// Mailed codes, by hash.
    Codes(Vec<u8>),
    /// Challenges, by hash.
    Challenges(Vec<u8>),
    /// Messages, by id.
    Messages(Uuid),
    /// Imports, by id.
    Imports(Uuid),
    /// Creations that may be asked for again, by request id and actor.
    Requests(Uuid, String),
    /// The feed of revocations, by number.
    Revocations(i64),
    /// Events about the person.
    EventsAbout(Option<EventCursor>),
    /// Events by the person about somebody or something else.
    EventsBy(Option<EventCursor>),
}

/// A page of an export.
#[derive(Clone, Debug)]
pub struct ExportPage {
    /// What there is. May be nothing though more follows.
    pub records: Vec<HeldRecord>,
    /// Where to go on; none at the end.
    pub next: Option<ExportPlace>,
}

/// What is kept of a person.
#[derive(Clone, Debug)]
pub enum HeldRecord {
    /// The account.
    Account(Box<HeldAccount>),
    /// A role of it.
    Role(HeldRole),
    /// A session, also one that has ended.
    Session(Box<HeldSession>),
    /// A known device.
    Device(HeldDevice),
    /// A change of address that waits.
    EmailChange(HeldEmailChange),
    /// A registration that waits under the address.
    Registration(HeldRegistration),
    /// A mailed code.
    Code(HeldCode),
    /// A sign-in, or a change of phone number, that waits for a code.
    Challenge(HeldChallenge),
    /// A message.
    Message(HeldMessage),
    /// An import that the person began.
    Import(HeldImport),
    /// A creation that may be asked for again.
    Request(HeldRequest),
    /// An entry of the feed of revocations.
    Revocation(HeldRevocation),
    /// An event. What is personal in it is this person's, or left out.
    Event(Box<ReadEvent>),
}

/// An account, and what is known of its passwords and factors.
#[derive(Clone, Debug)]
pub struct HeldAccount {
    /// The account.
    pub user: User,
    /// How the password is hashed.
    pub password_scheme: Option<&'static str>,
    /// When it was set.
    pub password_time: Option<Timestamp>,
    /// How those before it are hashed and when each was replaced, the latest first.
    pub former_passwords: Vec<(&'static str, Timestamp)>,
    /// The authenticator app.
    pub totp: Option<HeldTotp>,
    /// How many recovery codes are left.
    pub recovery_codes_left: i64,
    /// When they were made.
    pub recovery_codes_time: Option<Timestamp>,
}

/// An authenticator app.
#[derive(Clone, Copy, Debug)]
pub struct HeldTotp {
    /// The enrolment.
    pub id: Uuid,
    /// When its seed was made.
    pub create_time: Timestamp,
    /// When the app showed that it has it.
    pub confirm_time: Option<Timestamp>,
    /// The last time step of which a code was accepted.
    pub last_step: i64,
}

/// A role that the person has.
#[derive(Clone, Debug)]
pub struct HeldRole {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// What it allows.
    pub permissions: Permissions,
    /// What it has tokens say.
    pub custom_claims: CustomClaims,
    /// When it was given.
    pub assign_time: Timestamp,
}

/// A session as its row says.
#[derive(Clone, Debug)]
pub struct HeldSession {
    /// The session.
    pub session: Session,
    /// The device that it is on.
    pub device: Option<Uuid>,
    /// When it was ended.
    pub end_time: Option<Timestamp>,
    /// Why.
    pub end_reason: String,
    /// The account's epoch: with a smaller one the session is over.
    pub user_epoch: i64,
}

/// A device that was signed in on.
#[derive(Clone, Copy, Debug)]
pub struct HeldDevice {
    /// Its id.
    pub id: Uuid,
    /// When it became known.
    pub create_time: Timestamp,
    /// When it was last signed in on.
    pub last_used_time: Timestamp,
}

/// A change of address. Of somebody else's, who wants this person's address, no more than the times.
#[derive(Clone, Debug)]
pub struct HeldEmailChange {
    /// Its id, if it is the person's own.
    pub id: Option<Uuid>,
    /// The key of the address of before.
    pub old_email: String,
    /// The address to be.
    pub new_email: String,
    /// Whether the old one has agreed.
    pub old_confirmed: bool,
    /// Whether the new one has.
    pub new_confirmed: bool,
    /// When it was asked for.
    pub create_time: Timestamp,
    /// When it is forgotten.
    pub expire_time: Timestamp,
}

/// A registration under the address. Who typed the rest of it may be somebody else.
#[derive(Clone, Debug)]
pub struct HeldRegistration {
    /// The address.
    pub email: String,
    /// When it was asked for.
    pub create_time: Timestamp,
    /// When it is forgotten.
    pub expire_time: Timestamp,
}

/// A mailed code.
#[derive(Clone, Debug)]
pub struct HeldCode {
    /// The word for what it does.
    pub purpose: String,
    /// The key of the address that it was sent to.
    pub email: String,
    /// When it was sent.
    pub create_time: Timestamp,
    /// When it is no longer good.
    pub expire_time: Timestamp,
}

/// What waits for a code.
#[derive(Clone)]
pub struct HeldChallenge {
    /// A keyed hash of its handle, to open what is pending.
    pub handle: KeyedHash,
    /// The word for what an answer does.
    pub kind: String,
    /// What goes on then: a sealed text, or of a phone number an object.
    pub pending: serde_json::Value,
    /// How many wrong answers there were.
    pub failures: i64,
    /// When it began.
    pub create_time: Timestamp,
    /// When it is no longer good.
    pub expire_time: Timestamp,
}

impl std::fmt::Debug for HeldChallenge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HeldChallenge").field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// A message.
#[derive(Clone, Debug)]
pub struct HeldMessage {
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
    /// How often it was tried.
    pub attempts: i64,
    /// When it is tried again.
    pub due_time: Timestamp,
    /// When it was given up.
    pub dead_time: Option<Timestamp>,
    /// What the last attempt failed with.
    pub last_error: String,
}

/// An import.
#[derive(Clone, Copy, Debug)]
pub struct HeldImport {
    /// Its id.
    pub id: Uuid,
    /// How many rows became users.
    pub imported: i64,
    /// How many did not.
    pub failed: i64,
    /// When it was begun.
    pub create_time: Timestamp,
    /// When it last went on.
    pub update_time: Timestamp,
}

/// A creation that may be asked for again.
#[derive(Clone, Copy, Debug)]
pub struct HeldRequest {
    /// The id that whoever asked chose.
    pub id: Uuid,
    /// Whether the person asked; otherwise the person's account was made.
    pub asked: bool,
    /// When.
    pub create_time: Timestamp,
}

/// An entry of the feed.
#[derive(Clone, Copy, Debug)]
pub struct HeldRevocation {
    /// The session that ended; none if it is about all of them.
    pub session: Option<SessionId>,
    /// The session that was spared.
    pub spared: Option<SessionId>,
    /// When it was recorded.
    pub time: Timestamp,
    /// When it is forgotten.
    pub expire_time: Timestamp,
}

/// Gives out what is kept of a person.
#[async_trait]
pub trait ExportStore: Send + Sync + 'static {
    /// Records that an owner wants it, whose session must be alive.
    async fn begin_own_export(&self, user: UserId, session: SessionId, origin: Origin) -> Result<(), StoreError>;

    /// Records that somebody wants it who may, and may do no less than the user. Refuses for a user who is not there.
    async fn begin_export(&self, act: UserAct) -> Result<(), StoreError>;

    /// A page, of up to about `limit` records, without sessions and events of after `until`: whoever goes on living is not followed for
    /// ever. Refuses once the user is gone.
    async fn read_export(
        &self,
        user: UserId,
        place: ExportPlace,
        until: Timestamp,
        limit: u32,
    ) -> Result<ExportPage, StoreError>;
}
