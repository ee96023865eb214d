//! Sign-ins that wait for a code, and the devices that are known.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use uuid::Uuid;

use super::{LiveSession, NewMessage, NewSession, TotpFactor};
use crate::{
    crypto::KeyedHash,
    domain::{
        audit::{AuditEvent, Origin},
        id::UserId,
        session::SessionPolicy,
        time::Timestamp,
        user::PhcString,
    },
    store::StoreError,
};

/// What an answer to a challenge does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChallengeKind {
    /// It is the second factor of a sign-in.
    SecondFactor,
    /// It is the code that was sent to sign in with.
    LoginCode,
}

impl ChallengeKind {
    /// The word in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SecondFactor => "second_factor",
            Self::LoginCode => "login_code",
        }
    }

    /// From the word in the database. `None`: a challenge that is not a sign-in's.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::SecondFactor, Self::LoginCode].into_iter().find(|kind| kind.as_str() == word)
    }
}

/// A challenge to be issued.
#[derive(Clone)]
pub struct NewChallenge {
    /// A keyed hash of its handle.
    pub handle: KeyedHash,
    /// What an answer does.
    pub kind: ChallengeKind,
    /// Who is to answer. `None`: nobody can.
    pub user: Option<UserId>,
    /// The hash that the password was checked against, if one was: the account must still have it.
    pub checked_hash: Option<PhcString>,
    /// A keyed hash of the code that was sent; of a second factor, of where it is asked for from: those of one place give way to each
    /// other, and to no others.
    pub code_or_place: KeyedHash,
    /// What goes on when it is answered, sealed.
    pub pending: String,
    /// When it can no longer be answered.
    pub expire_time: Timestamp,
}

impl fmt::Debug for NewChallenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewChallenge").field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// A challenge that was issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenChallenge {
    /// Whether its user has recovery codes.
    pub recovery_codes: bool,
}

/// A challenge as it was found, before anything is locked.
#[derive(Clone)]
pub struct FoundChallenge {
    /// What an answer does.
    pub kind: ChallengeKind,
    /// Who is to answer.
    pub user: Option<UserId>,
    /// What goes on when it is answered, sealed.
    pub pending: String,
    /// The user's authenticator app.
    pub totp: Option<TotpFactor>,
}

/// What an answer proves, if it does.
#[derive(Clone, Copy, Debug)]
pub enum Proof {
    /// The code of this step of this enrolment. It counts once.
    Totp {
        /// The enrolment.
        factor: Uuid,
        /// The step.
        step: i64,
    },
    /// The recovery code with this hash. It is deleted.
    RecoveryCode(KeyedHash),
    /// The code with this hash was sent.
    OneTimeCode(KeyedHash),
    /// Nothing: it cannot be right.
    Nothing,
}

/// The news of a recovery code that was used, by how many are left.
pub type RecoveryNews = Arc<dyn Fn(u32) -> Option<NewMessage> + Send + Sync>;

/// An answer to a challenge.
pub struct Answer {
    /// A keyed hash of the handle.
    pub handle: KeyedHash,
    /// Who is to answer, as it was found.
    pub user: Option<UserId>,
    /// What was answered.
    pub proof: Proof,
    /// The key of the address that the code was mailed to: the code proves that its owner signs in.
    pub mailed_to: Option<String>,
    /// The number that the code was sent to, which must still be the account's.
    pub texted_to: Option<String>,
    /// Whether nobody signs in whose address is not verified.
    pub require_verified_email: bool,
    /// The challenge that follows a code that was sent, where the account has a second factor.
    pub further: NewChallenge,
    /// The session that begins. Its epoch and its owner are taken from the challenge.
    pub session: NewSession,
    /// How long sessions live.
    pub policy: SessionPolicy,
    /// What is said of a recovery code.
    pub recovery_news: RecoveryNews,
    /// From where, for the audit trail.
    pub origin: Origin,
}

/// How an answer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answered {
    /// There is no such challenge, or not any more.
    Invalid,
    /// It is wrong, and was counted.
    Wrong,
    /// It is right, but the address has to be verified first. The challenge is spent.
    EmailNotVerified,
    /// It is right; a second factor is needed.
    Further(OpenChallenge),
    /// A session has begun.
    Begun(Box<BegunSession>),
}

/// A session that has begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BegunSession {
    /// The session.
    pub live: LiveSession,
    /// Whether its device was known, and still is.
    pub device_known: bool,
}

/// Sign-ins that wait for a code, and known devices.
#[async_trait]
pub trait ChallengeStore: Send + Sync + 'static {
    /// The device of this user with this hash of its secret.
    async fn find_known_device(&self, user: UserId, secret: KeyedHash) -> Result<Option<Uuid>, StoreError>;

    /// Issues a challenge, with its message and its event, if the account is still active and its password still the one that
    /// was checked. `None`: it is not. Of a user's open ones the oldest give way.
    async fn open_challenge(
        &self,
        new: NewChallenge,
        message: Option<NewMessage>,
        event: AuditEvent,
    ) -> Result<Option<OpenChallenge>, StoreError>;

    /// The challenge of a sign-in that can be answered.
    async fn find_challenge(&self, handle: KeyedHash) -> Result<Option<FoundChallenge>, StoreError>;

    /// Decides an answer on the locked challenge, counts it if it is wrong, and does what follows if it is right: one
    /// transaction. A right one is good once, however many come at the same moment.
    async fn answer_challenge(&self, answer: Answer) -> Result<Answered, StoreError>;

    /// Forgets challenges that expired before `before`. How many.
    async fn purge_challenges(&self, before: Timestamp) -> Result<u64, StoreError>;
}
