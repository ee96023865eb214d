//! Service errors as gRPC statuses: one exhaustive match. What a caller reads is written here; causes go to the log.

use std::{collections::HashMap, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

use crate::{domain, pb::v1::ErrorReason, service::ServiceError, store::Refused};

/// `google.rpc.ErrorInfo.domain`.
const DOMAIN: &str = "vouchsafe";

/// When to try again after an outage.
pub(super) const OUTAGE_RETRY: Duration = Duration::from_secs(1);

impl From<ServiceError> for Status {
    #[expect(clippy::too_many_lines, reason = "one exhaustive match: a row for each error")]
    fn from(error: ServiceError) -> Self {
        use ErrorReason as R;
        match error {
            ServiceError::Invalid(violations) => invalid(violations),
            ServiceError::InvalidCredentials => {
                status(Code::Unauthenticated, R::InvalidCredentials, "identifier or password is wrong")
            }
            ServiceError::AccessTokenMissing => status(
                Code::Unauthenticated,
                R::AccessTokenMissing,
                "this call needs an access token: send metadata `authorization: Bearer <access token>`",
            ),
            ServiceError::AccessTokenInvalid => status(
                Code::Unauthenticated,
                R::AccessTokenInvalid,
                "the access token is not accepted: refresh it or sign in",
            ),
            ServiceError::VerificationClosed => status(
                Code::Unauthenticated,
                R::VerificationClosed,
                "token verification is not open to everybody on this listener: send metadata `authorization: Bearer <access token>` with a service account's access token, call it over loopback or with client certificates (grpc.client_ca), or open it (grpc.open_verification)",
            ),
            ServiceError::InvalidClient => status(
                Code::Unauthenticated,
                R::InvalidClient,
                "client id and secret do not belong together, the secret has ended, or no client certificate names the service account",
            ),
            ServiceError::RefreshTokenInvalid => {
                status(Code::Unauthenticated, R::RefreshTokenInvalid, "not a refresh token of this issuer: sign in")
            }
            ServiceError::RefreshTokenExpired => {
                status(Code::Unauthenticated, R::RefreshTokenExpired, "the session has expired: sign in")
            }
            ServiceError::RefreshTokenReused => status(
                Code::Unauthenticated,
                R::RefreshTokenReused,
                "a superseded refresh token was presented, so its session has been ended: sign in",
            ),
            ServiceError::SessionRevoked => {
                status(Code::Unauthenticated, R::SessionRevoked, "the session has been ended: sign in")
            }
            ServiceError::RefreshOvertaken => status(
                Code::Aborted,
                R::RefreshOvertaken,
                "newer refreshes of this session overtook this one: use the newest refresh token",
            ),
            ServiceError::EmailTaken => {
                status(Code::AlreadyExists, R::EmailTaken, "an account with this e-mail address exists")
            }
            ServiceError::UsernameTaken => {
                status(Code::AlreadyExists, R::UsernameTaken, "an account with this user name exists")
            }
            ServiceError::RegistrationClosed => status(
                Code::FailedPrecondition,
                R::RegistrationClosed,
                "this server does not accept registrations: ask its administrator for an account",
            ),
            ServiceError::EmailNotVerified => status(
                Code::FailedPrecondition,
                R::EmailNotVerified,
                "the e-mail address has to be verified first: call SendEmailVerification, then VerifyEmail with the mailed code",
            ),
            ServiceError::CodeInvalid => {
                status(Code::Unauthenticated, R::CodeInvalid, "the code is wrong, expired or used")
            }
            ServiceError::ChallengeInvalid => status(
                Code::Unauthenticated,
                R::ChallengeInvalid,
                "the challenge is unknown, expired, answered before or was tried too often: begin anew",
            ),
            ServiceError::TooManyAttempts { retry_after } => {
                let text = "too many attempts: try again later, or on a device that was signed in on before";
                retry(Code::ResourceExhausted, R::TooManyAttempts, text, retry_after)
            }
            ServiceError::ReauthenticationRequired => status(
                Code::Unauthenticated,
                R::ReauthenticationRequired,
                "this needs a sign-in that is recent, and with the second factor if the account has one: sign in again",
            ),
            ServiceError::TotpEnrolled => status(
                Code::FailedPrecondition,
                R::TotpEnrolled,
                "there is an authenticator app: call RemoveTotp first",
            ),
            ServiceError::TotpNotEnrolled => status(
                Code::FailedPrecondition,
                R::TotpNotEnrolled,
                "there is no authenticator app to do this with: call EnrollTotp first",
            ),
            ServiceError::TooManySessions => refused_status(Refused::TooManySessions),
            ServiceError::DeliveryUnavailable => status(
                Code::FailedPrecondition,
                R::DeliveryUnavailable,
                "this server sends no messages of this kind: ask its administrator",
            ),
            ServiceError::SessionNotFound => {
                status(Code::NotFound, R::SessionNotFound, "you have no live session with this id")
            }
            ServiceError::Conflict => {
                status(Code::Aborted, R::Conflict, "the account was changed at the same moment: try again")
            }
            ServiceError::NotAUser => status(
                Code::PermissionDenied,
                R::NotAUser,
                "this is for users, about their own account: the access token is a service account's",
            ),
            ServiceError::Refused(refused) => refused_status(refused),
            ServiceError::Overloaded { retry_after } => {
                let text = "too many passwords are waiting to be checked: try again later";
                retry(Code::ResourceExhausted, R::Overloaded, text, retry_after)
            }
            ServiceError::Busy { retry_after } => {
                let text = "as many calls of this kind as there may be are under way at this node: try again later";
                retry(Code::ResourceExhausted, R::Overloaded, text, retry_after)
            }
            ServiceError::DeadlineExceeded => {
                status(Code::DeadlineExceeded, R::DeadlineExceeded, "the deadline passed before the answer was ready")
            }
            ServiceError::Unavailable { cause } => {
                tracing::warn!(cause, "call refused: unavailable");
                unavailable()
            }
            ServiceError::UnknownRefreshKey { id } => {
                tracing::debug!(id, "call refused: unknown refresh key");
                unavailable()
            }
            ServiceError::Internal { cause } => {
                tracing::error!(cause, "call failed");
                status(
                    Code::Internal,
                    R::Internal,
                    "internal error: the server's log tells more under this x-request-id",
                )
            }
        }
    }
}

fn refused_status(refused: Refused) -> Status {
    use ErrorReason as R;
    let (code, reason, text) = match refused {
        Refused::NotPermitted => (
            Code::PermissionDenied,
            R::PermissionDenied,
            "your roles, or the scope of your token, do not hold the permission that this takes",
        ),
        Refused::ExceedsOwn => (
            Code::PermissionDenied,
            R::ExceedsOwnPermissions,
            "it takes permissions that you do not hold: ask somebody who holds them",
        ),
        Refused::NoUser => (Code::NotFound, R::UserNotFound, "there is no such user"),
        Refused::NoSession => (Code::NotFound, R::SessionNotFound, "the user has no live session with this id"),
        Refused::NoRole => (Code::NotFound, R::RoleNotFound, "there is no such role"),
        Refused::NoSigningKey => {
            (Code::NotFound, R::SigningKeyNotFound, "there is no such signing key, or not any more")
        }
        Refused::NoServiceAccount => (Code::NotFound, R::ServiceAccountNotFound, "there is no such service account"),
        Refused::RoleExists => (Code::AlreadyExists, R::RoleExists, "there is a role of this name"),
        Refused::RoleInUse => {
            (Code::FailedPrecondition, R::RoleInUse, "users or service accounts have the role: take it from them first")
        }
        Refused::RoleBuiltIn => {
            (Code::FailedPrecondition, R::RoleBuiltIn, "the role is built in and cannot be changed or deleted")
        }
        Refused::LastAdministrator => (
            Code::FailedPrecondition,
            R::LastAdministrator,
            "it would leave no active administrator: make another user one first",
        ),
        Refused::EtagMismatch => {
            (Code::Aborted, R::EtagMismatch, "it has changed since its etag was read: read it again")
        }
        Refused::RequestIdReused => {
            (Code::AlreadyExists, R::RequestIdReused, "the request_id was used for another request: use a new one")
        }
        Refused::TooManySessions => (
            Code::FailedPrecondition,
            R::TooManySessions,
            "the account has as many sessions as it may have: sign out on another device first",
        ),
        Refused::EmailTaken => (Code::AlreadyExists, R::EmailTaken, "an account with this e-mail address exists"),
        Refused::UsernameTaken => (Code::AlreadyExists, R::UsernameTaken, "an account with this user name exists"),
        Refused::SpiffeIdTaken => (Code::AlreadyExists, R::SpiffeIdTaken, "another service account has this SPIFFE id"),
        Refused::ClaimsTooLarge => (
            Code::FailedPrecondition,
            R::ClaimsTooLarge,
            "all custom claims together would be more than a token may say, 8192 bytes as JSON: make those of the user, of roles or of the configuration smaller",
        ),
        Refused::ImportOutOfStep => (
            Code::FailedPrecondition,
            R::ImportOutOfStep,
            "the rows do not go on where the import stands: send them from next_row on",
        ),
    };
    status(code, reason, text)
}

fn unavailable() -> Status {
    let text = "a store this answer depends on is not available: try again";
    retry(Code::Unavailable, ErrorReason::StoreUnavailable, text, OUTAGE_RETRY)
}

/// A refusal of what may be tried again after a while.
pub(super) fn retry(code: Code, reason: ErrorReason, text: &str, after: Duration) -> Status {
    let mut details = info(reason);
    details.set_retry_info(Some(after));
    Status::with_error_details(code, text, details)
}

fn invalid(violations: Vec<domain::field::FieldViolation>) -> Status {
    let text: Vec<_> = violations.iter().map(|v| format!("{} {}", v.field, v.description)).collect();
    let mut details = info(ErrorReason::InvalidArgument);
    details.set_bad_request(
        violations.into_iter().map(|v| FieldViolation::new(v.field, v.description)).collect::<Vec<_>>(),
    );
    Status::with_error_details(Code::InvalidArgument, text.join("; "), details)
}

fn status(code: Code, reason: ErrorReason, text: &str) -> Status {
    Status::with_error_details(code, text, info(reason))
}

fn info(reason: ErrorReason) -> ErrorDetails {
    let name = reason.as_str_name();
    let name = name.strip_prefix("ERROR_REASON_").unwrap_or(name);
    ErrorDetails::with_error_info(name, DOMAIN, HashMap::<String, String>::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_names_its_reason_and_hides_its_cause() {
        let status = Status::from(ServiceError::internal("password=hunter2 at 10.0.0.7"));
        assert_eq!(status.code(), Code::Internal);
        assert!(!status.message().contains("hunter2"));
        let details = status.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("INTERNAL", "vouchsafe"));
    }

    #[test]
    fn every_bad_field_is_named() {
        let violations = vec![
            domain::field::FieldViolation::new("email", "is not an address"),
            domain::field::FieldViolation::new("password", "is too short"),
        ];
        let status = Status::from(ServiceError::Invalid(violations));
        assert_eq!(status.code(), Code::InvalidArgument);
        let details = status.get_error_details();
        let fields: Vec<_> = details.bad_request().unwrap().field_violations.iter().map(|v| v.field.clone()).collect();
        assert_eq!(fields, ["email", "password"]);
    }

    #[test]
    fn an_outage_says_when_to_retry() {
        let status = Status::from(ServiceError::Unavailable { cause: "connection refused".into() });
        let details = status.get_error_details();
        assert_eq!(details.retry_info().unwrap().retry_delay, Some(OUTAGE_RETRY));
        assert!(!status.message().contains("refused"));
    }
}
