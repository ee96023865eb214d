//! The labels of our own metrics. Every value of a label is a variant, so that no caller can make up another and the number
//! of series is fixed when the program is built.

use crate::{
    service::{ServiceError, SignInStep},
    verifier::Inactive,
};

/// A label with a fixed set of values.
pub trait Label: Copy + 'static {
    /// Its name.
    const KEY: &'static str;
    /// Every value, in the order of [`Label::index`].
    const ALL: &'static [Self];
    /// The value as it is shown.
    fn as_str(self) -> &'static str;
    /// Its place in [`Label::ALL`].
    fn index(self) -> usize;
}

macro_rules! labels {
    ($($(#[$doc:meta])* $name:ident($key:literal) {
        $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)+
    })+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
        }

        impl Label for $name {
            const KEY: &'static str = $key;
            const ALL: &'static [Self] = &[$(Self::$variant,)+];

            fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }

            fn index(self) -> usize {
                self as usize
            }
        }
    )+};
}

labels! {
    /// How a sign-in ended.
    LoginOutcome("outcome") {
        /// With tokens.
        Ok = "ok",
        /// Unknown account, wrong password or suspended: callers are not told which.
        InvalidCredentials = "invalid_credentials",
        /// With a challenge: something more has to be proved.
        Challenged = "challenged",
        /// Wrong, expired or used: a code, or the challenge that it answers.
        InvalidCode = "invalid_code",
        /// Too many failures before; nothing was looked at.
        Throttled = "throttled",
        /// Too many passwords to hash.
        Overloaded = "overloaded",
        /// Something it depends on was away, or the deadline passed.
        Unavailable = "unavailable",
        /// Anything else, for instance a conflicting change or a fault of ours.
        Failed = "failed",
    }

    /// Why a watch of revocations ended.
    WatchEnd("reason") {
        /// The caller went away.
        Gone = "gone",
        /// The caller did not read for some seconds.
        Slow = "slow",
        /// This node may miss revocations itself.
        Stale = "stale",
        /// The token that the caller was admitted with was revoked, or has expired.
        Token = "token",
        /// It had lasted for long enough.
        Age = "age",
        /// The caller's deadline passed.
        Deadline = "deadline",
        /// This node stops.
        Stopping = "stopping",
    }

    /// How a service account's request for a token ended.
    ServiceTokenOutcome("outcome") {
        /// With a token.
        Ok = "ok",
        /// Unknown account, wrong or ended secret, no certificate of its own: callers are not told which.
        InvalidClient = "invalid_client",
        /// Refused before it was looked at, because it was wrong too often.
        Throttled = "throttled",
        /// Something it depends on was away, or the deadline passed.
        Unavailable = "unavailable",
        /// Anything else, for instance a fault of ours.
        Failed = "failed",
    }

    /// What was tried or asked for too often.
    Throttled("what") {
        /// One account, known or not, or one service account.
        Account = "account",
        /// Anything, from one address.
        Address = "address",
        /// Anything, by everybody.
        Overall = "overall",
        /// Messages.
        Messages = "messages",
    }

    /// How a registration ended.
    RegistrationOutcome("outcome") {
        /// With an account.
        Ok = "ok",
        /// The e-mail address or the user name is another account's.
        Taken = "taken",
        /// Registration is not open.
        Closed = "closed",
        /// Too many passwords to hash.
        Overloaded = "overloaded",
        /// Something it depends on was away, or the deadline passed.
        Unavailable = "unavailable",
        /// Anything else.
        Failed = "failed",
    }

    /// What was decided about a refresh token that is one of ours: the rows of the table, and what comes before it.
    RefreshRow("decision") {
        /// The newest one: exchanged.
        Rotate = "rotate",
        /// Newer than what was remembered: exchanged; state had been lost.
        StateLost = "state_lost",
        /// The one before, in time: the same answer again.
        Redeliver = "redeliver",
        /// The one before, late: the same answer again, audited.
        LateRedelivery = "late_redelivery",
        /// Older, but on its way since before: nothing done.
        Overtaken = "overtaken",
        /// Older: the session was ended.
        Replay = "replay",
        /// Its session had been ended.
        Ended = "ended",
        /// Its session had expired.
        Expired = "expired",
        /// Its session is not there any more.
        UnknownSession = "unknown_session",
    }

    /// How a message travels.
    MessageChannel("channel") {
        /// By e-mail.
        Email = "email",
        /// By SMS.
        Sms = "sms",
    }

    /// What became of a message, or of an attempt to deliver it.
    MessageOutcome("outcome") {
        /// It was taken by whoever carries it on.
        Sent = "sent",
        /// It is tried again.
        Postponed = "postponed",
        /// It was given up, and waits for the operator.
        Dead = "dead",
        /// It was of no use any more before it was sent.
        Expired = "expired",
    }

    /// By what a refresh was decided.
    RefreshPath("path") {
        /// The hot record beside the row.
        Hot = "hot",
        /// The locked row alone.
        Row = "row",
        /// The hot record alone, while the database was away.
        Grace = "grace",
    }

    /// What was said of an access token.
    VerificationResult("result") {
        /// It is active.
        Active = "active",
        /// Not a well-formed access token.
        Malformed = "malformed",
        /// A token of another type.
        WrongType = "wrong_type",
        /// Signed by an unknown key.
        UnknownKey = "unknown_key",
        /// The signature does not match.
        BadSignature = "bad_signature",
        /// Issued by somebody else.
        WrongIssuer = "wrong_issuer",
        /// Meant for another audience.
        WrongAudience = "wrong_audience",
        /// It has expired.
        Expired = "expired",
        /// It is not valid yet.
        NotYetValid = "not_yet_valid",
        /// It was revoked.
        Revoked = "revoked",
        /// A plain token where only an encrypted one will do.
        NotEncrypted = "not_encrypted",
        /// Encrypted, and not to be decrypted here.
        Undecryptable = "undecryptable",
        /// No answer: the revocation list was too old or could not be read.
        Unavailable = "unavailable",
    }
}

impl LoginOutcome {
    /// The outcome of a step of a sign-in.
    pub fn of(result: &Result<SignInStep, ServiceError>) -> Self {
        match result {
            Ok(SignInStep::SignedIn(_)) => Self::Ok,
            Ok(SignInStep::Challenged(_)) => Self::Challenged,
            Err(ServiceError::InvalidCredentials) => Self::InvalidCredentials,
            Err(ServiceError::CodeInvalid | ServiceError::ChallengeInvalid) => Self::InvalidCode,
            Err(ServiceError::TooManyAttempts { .. }) => Self::Throttled,
            Err(ServiceError::Overloaded { .. }) => Self::Overloaded,
            Err(ServiceError::Unavailable { .. } | ServiceError::DeadlineExceeded) => Self::Unavailable,
            Err(_) => Self::Failed,
        }
    }
}

impl ServiceTokenOutcome {
    /// The outcome of a request for a token.
    pub fn of<T>(result: &Result<T, ServiceError>) -> Self {
        match result {
            Ok(_) => Self::Ok,
            Err(ServiceError::InvalidClient) => Self::InvalidClient,
            Err(ServiceError::TooManyAttempts { .. }) => Self::Throttled,
            Err(ServiceError::Unavailable { .. } | ServiceError::DeadlineExceeded) => Self::Unavailable,
            Err(_) => Self::Failed,
        }
    }
}

impl RegistrationOutcome {
    /// The outcome of a registration.
    pub fn of<T>(result: &Result<T, ServiceError>) -> Self {
        match result {
            Ok(_) => Self::Ok,
            Err(ServiceError::EmailTaken | ServiceError::UsernameTaken) => Self::Taken,
            Err(ServiceError::RegistrationClosed) => Self::Closed,
            Err(ServiceError::Overloaded { .. }) => Self::Overloaded,
            Err(ServiceError::Unavailable { .. } | ServiceError::DeadlineExceeded) => Self::Unavailable,
            Err(_) => Self::Failed,
        }
    }
}

impl From<Inactive> for VerificationResult {
    fn from(reason: Inactive) -> Self {
        match reason {
            Inactive::Malformed => Self::Malformed,
            Inactive::WrongType => Self::WrongType,
            Inactive::UnknownKey => Self::UnknownKey,
            Inactive::BadSignature => Self::BadSignature,
            Inactive::WrongIssuer => Self::WrongIssuer,
            Inactive::WrongAudience => Self::WrongAudience,
            Inactive::Expired => Self::Expired,
            Inactive::NotYetValid => Self::NotYetValid,
            Inactive::Revoked => Self::Revoked,
            Inactive::NotEncrypted => Self::NotEncrypted,
            Inactive::Undecryptable => Self::Undecryptable,
        }
    }
}
