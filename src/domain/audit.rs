//! Audit events: who did what, to whom, from where, and how it ended.
//!
//! Events are facts about an act that happened; they are written in the transaction of its effect. Personal data is kept
//! apart from the rest so that it can be erased without touching the event.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    custom_claims::CustomClaims,
    id::{EventId, ServiceAccountId, SessionId, Subject, TokenId, UserId},
    role::Permissions,
    session::EndReason,
    time::Timestamp,
};

/// Who acted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Actor {
    /// Somebody not signed in.
    Anonymous,
    /// A signed-in user.
    User(UserId),
    /// A service account.
    Service(ServiceAccountId),
    /// The operator at the command line.
    Operator,
    /// The service itself.
    System,
}

impl From<Subject> for Actor {
    fn from(subject: Subject) -> Self {
        match subject {
            Subject::User(id) => Self::User(id),
            Subject::Service(id) => Self::Service(id),
        }
    }
}

/// Where a request came from and how it can be found in the logs.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Origin {
    /// `x-request-id`.
    pub request_id: String,
    /// The client's address. Personal data.
    pub ip_address: String,
    /// The client's agent. Personal data.
    pub user_agent: String,
}

impl fmt::Debug for Origin {
    /// Without what is personal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Origin").field("request_id", &self.request_id).finish_non_exhaustive()
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// An account was created.
    Registered,
    /// A sign-in succeeded.
    LoggedIn {
        /// The session that began.
        session: SessionId,
    },
    /// The owner proved control of the e-mail address.
    EmailVerified,
    /// A change of the e-mail address was begun.
    EmailChangeRequested,
    /// The e-mail address was changed by its owner.
    EmailChanged,
    /// A change of the phone number was begun.
    PhoneNumberChangeRequested,
    /// The phone number was changed or removed by its owner.
    PhoneNumberChanged,
    /// A code to set a new password was asked for.
    PasswordResetRequested,
    /// A new password was set with a mailed code.
    PasswordReset,
    /// A code to sign in with was asked for.
    LoginCodeRequested,
    /// A code to verify an address was asked for.
    EmailVerificationRequested,
    /// The first factor was right; the second one was asked for.
    ChallengeIssued,
    /// A wrong code was given.
    ChallengeFailed,
    /// A mailed code was not good (any more).
    CodeRefused,
    /// The account was changed by its owner.
    AccountUpdated {
        /// The names of the fields.
        fields: Vec<String>,
    },
    /// Everything that is kept of the account was given to its owner.
    AccountExported,
    /// The account was deleted by its owner.
    AccountDeleted,
    /// An authenticator app got a secret that does not count yet.
    TotpEnrolmentBegun,
    /// The second factor was turned on.
    TotpEnrolled,
    /// The second factor was turned off.
    TotpRemoved,
    /// New recovery codes were made.
    RecoveryCodesGenerated,
    /// A recovery code was used.
    RecoveryCodeUsed,
    /// A user's second factor was taken away by an administrator.
    FactorsRemoved,
    /// A sign-in failed.
    LoginFailed {
        /// Why; never told to the caller.
        cause: LoginFailure,
        /// A keyed hash of what was typed, if no account has it: people type passwords there.
        identifier_hash: Option<String>,
    },
    /// So many sign-ins failed that they were counted and not recorded one by one.
    LoginFailuresAggregated {
        /// Why; never told to the callers.
        cause: LoginFailure,
        /// How many.
        count: u64,
        /// When the first of them was.
        first: Timestamp,
        /// When the last of them was.
        last: Timestamp,
    },
    /// Something else was tried in vain so often that it was counted and not recorded one by one.
    FailuresAggregated {
        /// The name of the act.
        act: &'static str,
        /// How many.
        count: u64,
        /// When the first of them was.
        first: Timestamp,
        /// When the last of them was.
        last: Timestamp,
    },
    /// A signed-in user gave a wrong password where one is asked for again.
    ReauthenticationFailed,
    /// A password was set for the first time or replaced.
    PasswordChanged,
    /// The hash of an unchanged password was renewed as hashes are made today; it may have been imported.
    PasswordRehashed,
    /// A session ended before its time.
    SessionEnded {
        /// Which.
        session: SessionId,
        /// Why.
        reason: EndReason,
    },
    /// All sessions of a user but one ended.
    OtherSessionsEnded {
        /// The one that goes on.
        spared: Option<SessionId>,
    },
    /// A refresh token came back later than the redelivery window.
    LateRedelivery {
        /// Its session.
        session: SessionId,
        /// The generation delivered again.
        generation: i64,
    },
    /// A refresh token was newer than what was on record.
    RefreshStateLost {
        /// Its session.
        session: SessionId,
        /// The generation presented.
        generation: i64,
    },
    /// A role was given.
    RoleAssigned {
        /// Its name.
        role: String,
    },
    /// A role was taken away.
    RoleUnassigned {
        /// Its name.
        role: String,
    },
    /// A role was created.
    RoleCreated {
        /// Its name.
        role: String,
        /// What it allows.
        permissions: Permissions,
        /// What it has tokens say beside.
        custom_claims: CustomClaims,
    },
    /// A role was changed.
    RoleUpdated {
        /// Its name.
        role: String,
        /// What it allows now.
        permissions: Permissions,
        /// What it has tokens say beside now.
        custom_claims: CustomClaims,
    },
    /// A role was deleted.
    RoleDeleted {
        /// Its name.
        role: String,
    },
    /// A user was created by an administrator.
    UserCreated,
    /// A user was imported.
    UserImported {
        /// By which import.
        import: Uuid,
    },
    /// What is known of a user was changed by an administrator.
    UserUpdated {
        /// The names of the fields.
        fields: Vec<String>,
    },
    /// A user was barred from signing in.
    UserSuspended,
    /// A user was let in again.
    UserReactivated,
    /// Everything that is kept of a user was given to an administrator.
    UserExported,
    /// A user was deleted.
    UserDeleted,
    /// An administrator set a user's password.
    PasswordSet,
    /// All sessions of a user were ended by an administrator.
    SessionsEnded,
    /// A service account was created.
    ServiceAccountCreated,
    /// A service account was changed.
    ServiceAccountUpdated {
        /// The names of the fields.
        fields: Vec<String>,
    },
    /// A service account got another secret.
    ServiceAccountSecretRotated {
        /// The secret's id.
        secret: Uuid,
    },
    /// A service account was deleted.
    ServiceAccountDeleted,
    /// A service account got an access token.
    ServiceTokenIssued {
        /// Its `jti`.
        token: TokenId,
    },
    /// A service account was not let in.
    ServiceTokenRefused,
    /// An access token was revoked by whoever held it.
    TokenRevoked {
        /// Its session, which goes on; a service account's token has none.
        session: Option<SessionId>,
        /// Its `jti`.
        token: TokenId,
    },
    /// A signing key was revoked, and every token it signed.
    KeyRevoked {
        /// Its `kid`.
        key: String,
    },
    /// A signing key was published.
    KeyPublished {
        /// Its `kid`, or the number of a refresh-token key.
        key: String,
    },
    /// Events of versions that kept no chains were put into one.
    EventsAdopted {
        /// How many.
        count: u64,
    },
    /// Events at the beginning of a chain were removed because they were too old.
    EventsPruned {
        /// Of which chain.
        lane: i64,
        /// The first one's position.
        first: i64,
        /// The last one's.
        last: i64,
    },
    /// What another master key had sealed begins to be sealed under the one in force.
    MasterKeyChangeBegun {
        /// The name of the one in force.
        key: String,
    },
    /// What another master key had sealed was sealed under the one in force.
    MasterKeyChanged {
        /// The name of the one in force.
        key: String,
        /// How many rows there were.
        rows: u64,
    },
}

/// Why a sign-in failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LoginFailure {
    /// No account has this identifier.
    UnknownIdentifier,
    /// The password is wrong, or the account has none, or a hash that cannot be checked, which the log tells.
    WrongPassword,
    /// The account is suspended.
    Suspended,
    /// The address is not verified.
    EmailNotVerified,
    /// Too many failures before; the password was not looked at.
    Throttled,
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEvent {
    /// Who.
    pub actor: Actor,
    /// Whose account it is about, if any. Personal data is encrypted under this user's key.
    pub subject: Option<Subject>,
    /// What.
    pub act: Act,
    /// From where.
    pub origin: Origin,
}

impl Act {
    /// The stable name of the act.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Registered => "user.registered",
            Self::LoggedIn { .. } => "login.succeeded",
            Self::EmailVerified => "email.verified",
            Self::EmailChangeRequested => "email.change_requested",
            Self::EmailChanged => "email.changed",
            Self::PhoneNumberChangeRequested => "phone_number.change_requested",
            Self::PhoneNumberChanged => "phone_number.changed",
            Self::PasswordResetRequested => "password.reset_requested",
            Self::PasswordReset => "password.reset",
            Self::LoginCodeRequested => "login.code_requested",
            Self::EmailVerificationRequested => "email.verification_requested",
            Self::ChallengeIssued => "login.challenged",
            Self::ChallengeFailed => "login.challenge_failed",
            Self::CodeRefused => "code.refused",
            Self::AccountUpdated { .. } => "account.updated",
            Self::AccountExported => "account.exported",
            Self::AccountDeleted => "account.deleted",
            Self::TotpEnrolmentBegun => "totp.enrolment_begun",
            Self::TotpEnrolled => "totp.enrolled",
            Self::TotpRemoved => "totp.removed",
            Self::RecoveryCodesGenerated => "recovery_codes.generated",
            Self::RecoveryCodeUsed => "recovery_code.used",
            Self::FactorsRemoved => "user.factors_removed",
            Self::LoginFailed { .. } => "login.failed",
            Self::LoginFailuresAggregated { .. } => "login.failures_aggregated",
            Self::FailuresAggregated { .. } => "failures.aggregated",
            Self::ReauthenticationFailed => "reauthentication.failed",
            Self::PasswordChanged => "password.changed",
            Self::PasswordRehashed => "password.rehashed",
            Self::SessionEnded { .. } => "session.ended",
            Self::OtherSessionsEnded { .. } => "session.others_ended",
            Self::LateRedelivery { .. } => "refresh.late_redelivery",
            Self::RefreshStateLost { .. } => "refresh.state_lost",
            Self::RoleAssigned { .. } => "role.assigned",
            Self::RoleUnassigned { .. } => "role.unassigned",
            Self::RoleCreated { .. } => "role.created",
            Self::RoleUpdated { .. } => "role.updated",
            Self::RoleDeleted { .. } => "role.deleted",
            Self::UserCreated => "user.created",
            Self::UserImported { .. } => "user.imported",
            Self::UserUpdated { .. } => "user.updated",
            Self::UserSuspended => "user.suspended",
            Self::UserReactivated => "user.reactivated",
            Self::UserExported => "user.exported",
            Self::UserDeleted => "user.deleted",
            Self::PasswordSet => "password.set",
            Self::SessionsEnded => "session.all_ended",
            Self::ServiceAccountCreated => "service_account.created",
            Self::ServiceAccountUpdated { .. } => "service_account.updated",
            Self::ServiceAccountSecretRotated { .. } => "service_account.secret_rotated",
            Self::ServiceAccountDeleted => "service_account.deleted",
            Self::ServiceTokenIssued { .. } => "service_token.issued",
            Self::ServiceTokenRefused => "service_token.refused",
            Self::TokenRevoked { .. } => "token.revoked",
            Self::KeyRevoked { .. } => "key.revoked",
            Self::KeyPublished { .. } => "key.published",
            Self::EventsAdopted { .. } => "audit.adopted",
            Self::EventsPruned { .. } => "audit.pruned",
            Self::MasterKeyChangeBegun { .. } => "master_key.change_begun",
            Self::MasterKeyChanged { .. } => "master_key.changed",
        }
    }

    /// Whether the act was a success for whoever attempted it.
    pub const fn succeeded(&self) -> bool {
        !matches!(
            self,
            Self::LoginFailed { .. }
                | Self::LoginFailuresAggregated { .. }
                | Self::FailuresAggregated { .. }
                | Self::ChallengeFailed
                | Self::CodeRefused
                | Self::ReauthenticationFailed
                | Self::ServiceTokenRefused
        )
    }
}

/// What somebody may try in vain over and over, each time by an event: beyond a rate those are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Attempted {
    /// A sign-in, and why it failed.
    Login(LoginFailure),
    /// Another act, by its name.
    Act(&'static str),
}

/// That somebody tried something in vain: what is alike of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Failure {
    /// Who.
    pub actor: Actor,
    /// At whose account.
    pub subject: Option<Subject>,
    /// What.
    pub attempted: Attempted,
}

impl Failure {
    /// What an event tells of, if it is one of those that anybody can make as many of as they like.
    pub const fn of(event: &AuditEvent) -> Option<Self> {
        let attempted = match &event.act {
            Act::LoginFailed { cause, .. } => Attempted::Login(*cause),
            Act::ChallengeFailed | Act::CodeRefused | Act::ReauthenticationFailed | Act::ServiceTokenRefused => {
                Attempted::Act(event.act.name())
            }
            _ => return None,
        };
        Some(Self { actor: event.actor, subject: event.subject, attempted })
    }
}

/// What is personal in an event. Empty where nothing is known, or nothing any more.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Personal {
    /// The client's address.
    pub ip_address: String,
    /// The client's agent.
    pub user_agent: String,
}

impl fmt::Debug for Personal {
    /// Without what it says.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Personal").finish_non_exhaustive()
    }
}

/// Encrypts personal data in audit events under a key per user.
pub trait PersonalDataVault: Send + Sync + 'static {
    /// A new data key for `owner` (nil for those who are no user), sealed for storage.
    fn new_key(&self, owner: Uuid) -> Vec<u8>;

    /// Encrypts the personal part of `event` under the owner's sealed data key.
    ///
    /// # Errors
    /// If the sealed key does not open: the wrong master key, or a damaged row.
    fn seal(&self, owner: Uuid, sealed_key: &[u8], event: EventId, personal: &[u8]) -> Result<Vec<u8>, String>;

    /// Decrypts what [`Self::seal`] encrypted.
    ///
    /// # Errors
    /// A text that says whether the key or the data does not open.
    fn open(&self, owner: Uuid, sealed_key: &[u8], event: EventId, sealed: &[u8]) -> Result<Vec<u8>, String>;

    /// A MAC over what is said of the trail's ends, so that nobody who can write to the database alone makes another trail.
    fn attest(&self, statement: &[u8]) -> [u8; 32];
}
