//! What the service needs of a durable store.

use std::{fmt::Debug, sync::Arc, time::Duration};

use async_trait::async_trait;
use uuid::Uuid;

use super::{Refused, StoreError};
use crate::crypto::KeyedHash;
pub use crate::domain::audit::PersonalDataVault;
use crate::domain::{
    audience::Scope,
    audit::{AuditEvent, Failure, Origin},
    id::{SessionId, Subject, TokenId, UserId},
    refresh::Family,
    revocation::FeedEntry,
    role::HeldRoles,
    session::{DeviceInfo, EndReason, Grant, Session, SessionLimit, SessionPolicy},
    signing_key::{Algorithm, KeyLife, RotationPolicy},
    time::Timestamp,
    user::{Credentials, Identifier, PhcString, User},
    warrant::Authority,
};

mod audit;
mod challenges;
mod export;
mod factors;
mod imports;
mod outbox;
mod people;
mod privacy;
mod refresh;
mod roles;
mod seals;
mod service_accounts;
mod throttle;
mod users;

pub use self::audit::{
    ChainCheck, ChainFault, ChainLink, ChainReport, EventListing, FaultKind, Lane, LaneEnd, ReadEvent, RecordedEvent,
    TrailStore,
};
pub use self::challenges::{
    Answer, Answered, BegunSession, ChallengeKind, ChallengeStore, FoundChallenge, NewChallenge, OpenChallenge, Proof,
    RecoveryNews,
};
pub use self::export::{
    ExportPage, ExportPlace, ExportStore, HeldAccount, HeldChallenge, HeldCode, HeldDevice, HeldEmailChange,
    HeldImport, HeldMessage, HeldRecord, HeldRegistration, HeldRequest, HeldRevocation, HeldRole, HeldSession,
    HeldTotp,
};
pub use self::factors::{FactorAct, FactorChange, FactorStore, NewTotp, TotpConfirmation, TotpFactor};
pub use self::imports::{ImportBatch, ImportProgress, ImportStore, ImportedBatch, RowError};
pub use self::outbox::{Claim, DeadMessage, DueMessage, MessageBudget, NewMessage, OutboxStore, PurgedMessages};
pub use self::people::{
    EmailOutcome, EmailProof, MailedCode, Mailing, NewEmailChange, NewMailedCode, NewPhoneChange, NewRegistration,
    PasswordReset, PeopleStore, PhoneOutcome, PhoneProof, WaitingRegistration,
};
pub use self::privacy::{Erased, Erasure, PrivacyStore, Reapplied};
pub use self::refresh::{Caller, LiveSession, RefreshAttempt, RefreshOutcome, SessionRows, SessionState, Waiting};
pub use self::roles::{NewRole, RoleStore};
pub use self::seals::{Reseal, ResealedBatch, RowKey, SealBatch, SealStore, SealedColumn};
pub use self::service_accounts::{
    KnownService, NewSecret, NewServiceAccount, ServiceAccountChange, ServiceAccountStore,
};
pub use self::throttle::{Attempt, MessageBudgets, Spending, ThrottleKey, ThrottleStore};
pub use self::users::{UserAct, UserAddition, UserAdminStore, UserListing};

/// The whole store.
pub trait Store:
    UserStore
    + PeopleStore
    + PrivacyStore
    + UserAdminStore
    + FactorStore
    + WarrantStore
    + RoleStore
    + ServiceAccountStore
    + ImportStore
    + OutboxStore
    + SessionStore
    + ChallengeStore
    + KeyStore
    + SealStore
    + FeedStore
    + AuditStore
    + TrailStore
    + ExportStore
    + ThrottleStore
    + Debug
{
}

impl<S> Store for S where
    S: UserStore
        + PeopleStore
        + PrivacyStore
        + UserAdminStore
        + FactorStore
        + WarrantStore
        + RoleStore
        + ServiceAccountStore
        + ImportStore
        + OutboxStore
        + OutboxStore
        + SessionStore
        + ChallengeStore
        + KeyStore
        + SealStore
        + FeedStore
        + AuditStore
        + TrailStore
        + ExportStore
        + ThrottleStore
        + Debug
{
}

/// Told of every revocation right after the commit that made it true and before the verb that made it returns; and of a few things
/// besides.
pub trait CommitObserver: Send + Sync + 'static {
    /// Takes note. Must not block.
    fn committed(&self, entries: &[FeedEntry]);

    /// A transaction that put messages into the outbox was committed. Must not block.
    fn enqueued(&self) {}

    /// A transaction that recorded audit events was committed. Must not block.
    fn recorded(&self) {}

    /// Whether this is to be an audit event of its own. If not, whoever hears that it [failed](Self::failed) tells of it otherwise.
    fn is_event(&self, _: &Failure, _now: Timestamp) -> bool {
        true
    }

    /// A transaction was committed in which somebody tried something in vain, which was recorded if it is an event of its own. Must
    /// not block.
    fn failed(&self, _: Failure, _is_event: bool, _now: Timestamp) {}
}

/// A user to be created.
#[derive(Clone, Debug)]
pub struct NewUser {
    /// The account. Its times and epoch are taken from here.
    pub user: User,
    /// The password hash; none for an account that has no password.
    pub password_hash: Option<PhcString>,
}

/// How `create_user` ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CreateUser {
    /// The account exists now.
    Created,
    /// Another account has the address.
    EmailTaken,
    /// Another account has the user name.
    UsernameTaken,
}

/// How a change that presupposes a state of the account ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is done.
    Done,
    /// The account has changed since it was read; nothing was done.
    Conflict,
}

/// A password to be replaced by its owner.
#[derive(Clone, Debug)]
pub struct PasswordChange {
    /// Whose.
    pub user: UserId,
    /// The user's epoch when the password in force was checked.
    pub epoch: i64,
    /// The hash of the new one.
    pub hash: PhcString,
    /// The session that goes on.
    pub spared: SessionId,
    /// What is recorded.
    pub event: AuditEvent,
    /// What the owner is told.
    pub news: Option<NewMessage>,
}

/// A creation that may be asked for again.
#[derive(Clone, Debug)]
pub struct CreateRequest {
    /// The id that the caller gave it.
    pub id: Uuid,
    /// What is known of it again.
    pub fingerprint: Vec<u8>,
    /// Those before this moment are forgotten.
    pub forgotten: Timestamp,
}

/// What is managed, by whoever has the warrant for it. Each verb asks in its own transaction whether the caller's roles allow
/// it, so that a role that was taken away is good for nothing more; what they do not allow is [`Refused`].
#[async_trait]
pub trait WarrantStore: Send + Sync + 'static {
    /// What the roles of a user or service account allow at this moment; `None` if there is none that is active.
    async fn held_roles(&self, subject: Subject) -> Result<Option<HeldRoles>, StoreError>;

    /// The scope that a session was begun with, of which its tokens say what roles allow; `None` if there is no such session.
    async fn session_scope(&self, session: SessionId) -> Result<Option<Scope>, StoreError>;
}

/// Accounts and their passwords.
#[async_trait]
pub trait UserStore: Send + Sync + 'static {
    /// Creates an account with its roles and its data key, and records the events.
    async fn create_user(&self, new: NewUser, events: Vec<AuditEvent>) -> Result<CreateUser, StoreError>;

    /// An account by id.
    async fn get_user(&self, id: UserId) -> Result<Option<User>, StoreError>;

    /// What a sign-in with this identifier is checked against.
    async fn find_credentials(&self, identifier: Identifier) -> Result<Option<Credentials>, StoreError>;

    /// The same for a user who is signed in.
    async fn get_credentials(&self, id: UserId) -> Result<Option<Credentials>, StoreError>;

    /// The hash of the present password, if there is one, and of the last `history` before it, the latest first.
    async fn password_hashes(&self, user: UserId, history: u32) -> Result<Vec<PhcString>, StoreError>;

    /// Replaces the password, if the epoch is still the one named: raises the epoch so that every session dies except the one
    /// that is spared, revokes their tokens, forgets the devices of all but that one, records the event and sends the news.
    async fn change_password(&self, change: PasswordChange) -> Result<Change, StoreError>;

    /// Replaces the hash of an unchanged password, if it is still `old`.
    async fn rehash_password(
        &self,
        user: UserId,
        old: PhcString,
        new: PhcString,
        event: AuditEvent,
    ) -> Result<Change, StoreError>;
}

/// Whether there can be tokens of a session that is about to begin, as its account is at this moment. Must not block.
#[derive(Clone)]
pub struct SessionCheck(Arc<Check>);

type Check = dyn Fn(&LiveSession) -> Result<(), Refused> + Send + Sync;

impl SessionCheck {
    /// Asks `check`.
    pub fn new(check: impl Fn(&LiveSession) -> Result<(), Refused> + Send + Sync + 'static) -> Self {
        Self(Arc::new(check))
    }

    /// Refuses the session, or not.
    ///
    /// # Errors
    /// Why there can be none.
    pub fn check(&self, live: &LiveSession) -> Result<(), Refused> {
        (self.0)(live)
    }
}

impl Debug for SessionCheck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SessionCheck")
    }
}

/// A session to begin.
#[derive(Clone, Debug)]
pub struct NewSession {
    /// The id.
    pub id: SessionId,
    /// What sign-in fixes. Its epoch is taken from the account's row.
    pub grant: Grant,
    /// The hash that the password was checked against, if that is the proof: the account must still have it.
    pub checked_hash: Option<PhcString>,
    /// Whether a second factor was checked. If not, the account must have none.
    pub second_factor: bool,
    /// Where it was.
    pub device: DeviceInfo,
    /// The device, if it is known to be the user's.
    pub known_device: Option<Uuid>,
    /// What the device is known by from now on, if it is not.
    pub new_device: NewDevice,
    /// How many sessions the user may have.
    pub limit: SessionLimit,
    /// What the user is told if the device is not known, and not the very first.
    pub news: Option<NewMessage>,
    /// The HMAC key of its first refresh token.
    pub key_id: i64,
    /// Whose counted failures are forgotten with it.
    pub forgiven: Vec<ThrottleKey>,
    /// Asked before anything is written. What it refuses is [`Refused`], and nothing was done.
    pub check: SessionCheck,
}

/// A device to be known.
#[derive(Clone, Copy, Debug)]
pub struct NewDevice {
    /// The id.
    pub id: Uuid,
    /// A keyed hash of the secret that the device keeps.
    pub secret: KeyedHash,
}

/// A page of a user's live sessions, newest first.
#[derive(Clone, Copy, Debug)]
pub struct SessionPage {
    /// Whose.
    pub user: UserId,
    /// Only sessions begun before this one; session ids order by their beginning.
    pub before: Option<SessionId>,
    /// At most this many.
    pub limit: u32,
    /// How long sessions live.
    pub policy: SessionPolicy,
}

/// Sessions and their refresh-token families.
#[async_trait]
pub trait SessionStore: Send + Sync + 'static {
    /// Begins a session, if the account is still active, its password still the one that was checked, and no second factor
    /// missing. `None`: it is not. Beyond the limit others end, or it is [`Refused`].
    async fn create_session(
        &self,
        new: NewSession,
        policy: SessionPolicy,
        event: AuditEvent,
    ) -> Result<Option<BegunSession>, StoreError>;

    /// Decides a refresh on the locked row and stores the outcome. A replay ends the session and revokes its tokens, if its
    /// caller still waits.
    async fn refresh(&self, attempt: RefreshAttempt) -> Result<RefreshOutcome, StoreError>;

    /// Reads the rows of several sessions in one snapshot.
    async fn read_sessions(&self, sessions: Vec<SessionId>) -> Result<SessionRows, StoreError>;

    /// Brings rows up to these families, where they are behind. Writes the counter and the time of last use, nothing else.
    async fn advance_families(&self, families: Vec<(SessionId, Family)>) -> Result<(), StoreError>;

    /// Ends a session and revokes its tokens, as an act of its user. With `owner`, only a live session of that user.
    /// Whether one was ended.
    async fn end_session(
        &self,
        session: SessionId,
        owner: Option<UserId>,
        reason: EndReason,
        origin: Origin,
    ) -> Result<bool, StoreError>;

    /// Raises the user's epoch so that every session dies except `spared`, and revokes their tokens.
    async fn end_other_sessions(
        &self,
        user: UserId,
        spared: SessionId,
        event: AuditEvent,
    ) -> Result<Change, StoreError>;

    /// Lists live sessions.
    async fn list_sessions(&self, page: SessionPage) -> Result<Vec<Session>, StoreError>;

    /// Forgets sessions that expired or ended before `before`. How many.
    async fn purge_sessions(&self, before: Timestamp) -> Result<u64, StoreError>;

    /// Deletes, among the next few thousand sessions after this id, those not used since `unused_since`, and of those that their
    /// user's epoch has ended the ones not used since `dead_since`. How many, and where to go on; `None` at the end.
    async fn sweep_sessions(
        &self,
        after: SessionId,
        unused_since: Timestamp,
        dead_since: Timestamp,
    ) -> Result<(u64, Option<SessionId>), StoreError>;
}

/// A key that signs access tokens, as stored.
#[derive(Clone, Debug)]
pub struct SigningKeyRow {
    /// Its thumbprint.
    pub kid: String,
    /// Its one algorithm.
    pub algorithm: Algorithm,
    /// The public half as a JWK.
    pub public_jwk: serde_json::Value,
    /// The private half, sealed.
    pub private_key_sealed: Vec<u8>,
    /// Its moments.
    pub life: KeyLife,
}

/// A key that authenticates refresh tokens, as stored.
#[derive(Clone, Debug)]
pub struct RefreshKeyRow {
    /// Its number.
    pub id: i64,
    /// The key, sealed.
    pub key_sealed: Vec<u8>,
    /// Its moments.
    pub life: KeyLife,
}

/// A key to publish, made before the transaction that decides whether it is needed.
#[derive(Clone, Debug)]
pub struct NewSigningKey {
    /// Its thumbprint.
    pub kid: String,
    /// Its one algorithm.
    pub algorithm: Algorithm,
    /// The public half as a JWK.
    pub public_jwk: serde_json::Value,
    /// The private half, sealed.
    pub private_key_sealed: Vec<u8>,
}

/// When a new key is to be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotate {
    /// If the schedule says that a successor is due, or no key of the wanted algorithm is published or active.
    IfDue,
    /// In any case.
    Now,
}

/// How the revocation of a signing key ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RevokeKey {
    /// It is revoked.
    Revoked,
    /// There is no such key (any more).
    Unknown,
}

/// The keys of the service. A change asks in its own transaction whether whoever wants it may.
#[async_trait]
pub trait KeyStore: Send + Sync + 'static {
    /// Every signing key not yet purged.
    async fn signing_keys(&self) -> Result<Vec<SigningKeyRow>, StoreError>;

    /// The `kid` of every signing key that was ever revoked, also long after its entry in the feed has gone.
    async fn revoked_keys(&self) -> Result<Vec<String>, StoreError>;

    /// Every refresh key.
    async fn refresh_keys(&self) -> Result<Vec<RefreshKeyRow>, StoreError>;

    /// Publishes `new` as the successor of what signs now, decided and done under one lock so that of N nodes only one
    /// does it. The first key signs at once, later ones after the lead. Whether it was published.
    async fn rotate_signing_key(
        &self,
        new: NewSigningKey,
        policy: RotationPolicy,
        rotate: Rotate,
        by: Authority,
    ) -> Result<bool, StoreError>;

    /// The same for a refresh key: `seal` turns its number into the sealed key. Refresh keys are never removed: how long a
    /// refresh token lives is the session row's to say.
    async fn rotate_refresh_key(
        &self,
        seal: Arc<dyn Fn(i64) -> Vec<u8> + Send + Sync>,
        policy: RotationPolicy,
        rotate: Rotate,
        by: Authority,
    ) -> Result<bool, StoreError>;

    /// Revokes a signing key for good: the key is forgotten but for its `kid`, and its tokens are refused from now on. Where it leaves a gap,
    /// the next key takes over, or `successor` is published: at once if nothing else signs, otherwise after the lead.
    async fn revoke_signing_key(
        &self,
        kid: String,
        successor: NewSigningKey,
        policy: RotationPolicy,
        by: Authority,
    ) -> Result<RevokeKey, StoreError>;

    /// Deletes keys whose last token has expired. How many.
    async fn purge_keys(&self) -> Result<u64, StoreError>;
}

/// An access token to be revoked: what it says of itself.
#[derive(Clone, Copy, Debug)]
pub struct TokenRevocation {
    /// `jti`.
    pub token: TokenId,
    /// `sid`, if it has one.
    pub session: Option<SessionId>,
    /// `sub`.
    pub subject: Subject,
    /// `iat`. It cannot have been revoked before.
    pub issue_time: Timestamp,
}

/// A stretch of the feed.
#[derive(Clone, Debug)]
pub struct FeedPage {
    /// Another value than before means another history: reload everything.
    pub incarnation: Uuid,
    /// The number of the last entry there is.
    pub head: i64,
    /// Entries after the cursor, oldest first, without gaps except for those that have expired.
    pub entries: Vec<FeedEntry>,
    /// The database's own time.
    pub database_time: Timestamp,
}

/// The numbered feed of revocations.
#[async_trait]
pub trait FeedStore: Send + Sync + 'static {
    /// Up to `limit` entries after number `after`, and the head, in one snapshot.
    async fn read_feed(&self, after: i64, limit: u32) -> Result<FeedPage, StoreError>;

    /// Revokes one access token, unless it or its session has been revoked before. Whether it was done now.
    async fn revoke_token(&self, revocation: TokenRevocation, origin: Origin) -> Result<bool, StoreError>;

    /// Deletes entries that can refuse no living token. How many.
    async fn purge_feed(&self) -> Result<u64, StoreError>;

    /// Tells how long this server's access tokens live, so that entries and keys are kept as long as any of them.
    async fn announce_access_ttl(&self, ttl: Duration) -> Result<(), StoreError>;
}

/// Connections to the database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DatabaseConnections {
    /// At work.
    pub in_use: usize,
    /// Open and waiting for work.
    pub idle: usize,
}

/// What was removed from the audit trail because it was too old.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PrunedEvents {
    /// How many events.
    pub removed: u64,
    /// Lanes of which nothing more was removed, because what they begin with is not as it was written.
    pub damaged_lanes: u64,
}

/// Events without another effect, and the keeping of events.
#[async_trait]
pub trait AuditStore: Send + Sync + 'static {
    /// Records an event that changed nothing, for instance a failed sign-in.
    async fn record(&self, event: AuditEvent) -> Result<(), StoreError>;

    /// Gives events of versions that knew of no chains their place in one. How many. Whatever it comes upon is taken for what
    /// was written: the trail says how much that was.
    async fn adopt_events(&self) -> Result<u64, StoreError>;

    /// Removes events of before that moment, each lane from its beginning up to the first event that is not. What remains can
    /// be verified as before. A lane whose oldest events are not what was written keeps them, for somebody to look at.
    async fn prune_events(&self, before: Timestamp) -> Result<PrunedEvents, StoreError>;

    /// How many connections there are. Asks nobody.
    fn connections(&self) -> DatabaseConnections;

    /// Waits for transactions under way and closes every connection.
    async fn close(&self);
}
