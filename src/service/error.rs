//! What a use case can refuse with. The edge maps each of these to a gRPC status in one exhaustive match.

use std::time::Duration;

use crate::{
    crypto::HashError,
    domain::field::{FieldViolation, FieldViolations},
    store::{Refused, StoreError},
};

/// Why a call failed. The text is for the log; the edge has its own words for callers.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// Fields of the request are malformed.
    #[error("malformed fields")]
    Invalid(Vec<FieldViolation>),
    /// Identifier and password do not belong together, or the account may not sign in.
    #[error("invalid credentials")]
    InvalidCredentials,
    /// No service account proves itself so.
    #[error("invalid client")]
    InvalidClient,
    /// The call needs an access token and has none.
    #[error("access token missing")]
    AccessTokenMissing,
    /// The access token is not accepted; or what it speaks for is gone.
    #[error("access token not accepted")]
    AccessTokenInvalid,
    /// Token verification is not open to everybody on this listener, and the caller is no service account.
    #[error("verification is not open on this listener")]
    VerificationClosed,
    /// Not a refresh token of ours.
    #[error("not a refresh token of this issuer")]
    RefreshTokenInvalid,
    /// The session was idle for too long, or has reached its end.
    #[error("refresh token expired")]
    RefreshTokenExpired,
    /// A superseded refresh token came back; its session has been ended.
    #[error("refresh token reused")]
    RefreshTokenReused,
    /// The session has been ended before.
    #[error("session revoked")]
    SessionRevoked,
    /// Newer refreshes overtook this one; nothing was done.
    #[error("refresh overtaken")]
    RefreshOvertaken,
    /// Another account has the e-mail address.
    #[error("e-mail address taken")]
    EmailTaken,
    /// Another account has the user name.
    #[error("user name taken")]
    UsernameTaken,
    /// Registrations are not accepted.
    #[error("registration closed")]
    RegistrationClosed,
    /// The address has to be verified before the account is signed in to.
    #[error("e-mail address not verified")]
    EmailNotVerified,
    /// A code that is wrong, expired or used.
    #[error("code not accepted")]
    CodeInvalid,
    /// A challenge that is unknown, expired, answered or was tried too often.
    #[error("challenge not accepted")]
    ChallengeInvalid,
    /// Too many failures, or messages.
    #[error("too many attempts, retry after {retry_after:?}")]
    TooManyAttempts {
        /// When to try again.
        retry_after: Duration,
    },
    /// The sign-in is too long ago, or did not use the second factor.
    #[error("reauthentication required")]
    ReauthenticationRequired,
    /// There is an authenticator app.
    #[error("TOTP enrolled")]
    TotpEnrolled,
    /// There is no authenticator app.
    #[error("TOTP not enrolled")]
    TotpNotEnrolled,
    /// The user has as many sessions as may be.
    #[error("too many sessions")]
    TooManySessions,
    /// No messages of the kind are sent.
    #[error("no messages of this kind are sent")]
    DeliveryUnavailable,
    /// The caller has no such session.
    #[error("session not found")]
    SessionNotFound,
    /// The account was changed at the same moment.
    #[error("conflicting change")]
    Conflict,
    /// The access token is a service account's, where only a user has what is asked for.
    #[error("not a user")]
    NotAUser,
    /// It cannot be managed so.
    #[error("refused: {0}")]
    Refused(#[from] Refused),
    /// More password checks wait than can be done in time.
    #[error("too many password checks, retry after {retry_after:?}")]
    Overloaded {
        /// When there will be room again.
        retry_after: Duration,
    },
    /// As much of the kind is under way as there may be at once.
    #[error("busy, retry after {retry_after:?}")]
    Busy {
        /// When to look again.
        retry_after: Duration,
    },
    /// The caller's deadline passed.
    #[error("deadline exceeded")]
    DeadlineExceeded,
    /// Something that the answer depends on is away. If it went away during a commit, the change may have been made.
    #[error("unavailable: {cause}")]
    Unavailable {
        /// What is away.
        cause: String,
    },
    /// A refresh token names a key that is not known here (yet). Whether the token is good cannot be told.
    #[error("unknown refresh key {id}")]
    UnknownRefreshKey {
        /// The key's number; anybody can write any.
        id: i64,
    },
    /// A fault of ours.
    #[error("internal: {cause}")]
    Internal {
        /// What went wrong; holds no secret.
        cause: String,
    },
}

impl ServiceError {
    /// A fault of ours.
    pub fn internal(cause: impl std::fmt::Display) -> Self {
        Self::Internal { cause: cause.to_string() }
    }
}

impl From<StoreError> for ServiceError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Refused(Refused::TooManySessions) => Self::TooManySessions,
            StoreError::Refused(refused) => Self::Refused(refused),
            StoreError::Unavailable(cause) => Self::Unavailable { cause: cause.to_string() },
            StoreError::Corrupt { .. } | StoreError::Schema(_) | StoreError::Internal(_) => Self::internal(error),
        }
    }
}

impl From<HashError> for ServiceError {
    fn from(error: HashError) -> Self {
        match error {
            HashError::Overloaded { retry_after } => Self::Overloaded { retry_after },
            HashError::Stopped => Self::Unavailable { cause: error.to_string() },
            HashError::Stored(_) | HashError::Failed => Self::internal(error),
        }
    }
}

impl From<FieldViolations> for ServiceError {
    fn from(violations: FieldViolations) -> Self {
        Self::Invalid(violations.into_vec())
    }
}

impl From<FieldViolation> for ServiceError {
    fn from(violation: FieldViolation) -> Self {
        Self::Invalid(vec![violation])
    }
}
