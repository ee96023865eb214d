//! Why a request is let through or not: for the client, the proxy and the metrics.

use tonic::Code;

use crate::verifier::{Denied, Inactive, route::PathError};

/// Why a request is not let through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The proxy did not say what it is about.
    NoRequest,
    /// No such path can be meant honestly.
    Path(PathError),
    /// No such host can be meant honestly.
    Host,
    /// Open to nobody.
    Closed,
    /// As the verifier says.
    Denied(Denied),
    /// The token says what no header can.
    Untellable,
}

impl Refusal {
    pub(super) const fn http_status(&self) -> u16 {
        match self {
            Self::Path(_) | Self::Host => 400,
            Self::NoRequest | Self::Closed | Self::Untellable => 403,
            Self::Denied(denied) => denied.http_status(),
        }
    }

    pub(super) const fn grpc_code(&self) -> Code {
        match self {
            Self::Path(_) | Self::Host => Code::InvalidArgument,
            Self::NoRequest | Self::Closed | Self::Untellable => Code::PermissionDenied,
            Self::Denied(denied) => denied.grpc_code(),
        }
    }

    /// The value of `www-authenticate`.
    pub(super) fn challenge(&self) -> Option<String> {
        match self {
            Self::Denied(denied) => denied.challenge(),
            Self::NoRequest | Self::Path(_) | Self::Host | Self::Closed | Self::Untellable => None,
        }
    }

    /// Whether the same request may be let through in a moment.
    pub(super) const fn is_passing(&self) -> bool {
        matches!(self, Self::Denied(Denied::Unavailable))
    }

    /// What the client reads, in one line: Envoy makes a `grpc-message` of it. Why a token is no good is not said.
    pub(super) fn text(&self) -> String {
        match self {
            Self::NoRequest | Self::Closed => "this is not open to anybody".to_owned(),
            Self::Path(error) => format!("the path {error}"),
            Self::Host => "the host is no name".to_owned(),
            Self::Untellable => "the access token says what cannot be passed on".to_owned(),
            Self::Denied(Denied::Inactive(_)) => "the access token is not accepted".to_owned(),
            Self::Denied(denied) => denied.to_string(),
        }
    }

    pub(super) const fn reason(&self) -> Reason {
        match self {
            Self::NoRequest => Reason::NoRequest,
            Self::Path(_) => Reason::Path,
            Self::Host => Reason::Host,
            Self::Closed => Reason::Closed,
            Self::Untellable => Reason::Untellable,
            Self::Denied(Denied::NoToken) => Reason::NoToken,
            Self::Denied(Denied::UnclearToken) => Reason::UnclearToken,
            Self::Denied(Denied::MissingScope(_)) => Reason::MissingScope,
            Self::Denied(Denied::MissingRole) => Reason::MissingRole,
            Self::Denied(Denied::Unavailable) => Reason::Unavailable,
            Self::Denied(Denied::Inactive(reason)) => Reason::of(*reason),
        }
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $decision:literal $text:literal,)+) => {
        /// Every reason, in one word.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Reason {
            $($(#[$doc])* $variant,)+
        }

        impl Reason {
            pub(super) const ALL: &[Self] = &[$(Self::$variant,)+];

            pub(super) const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }

            pub(super) const fn decision(self) -> &'static str {
                match self {
                    $(Self::$variant => $decision,)+
                }
            }
        }
    };
}

reasons! {
    /// With a good token.
    Token = "allow" "token",
    /// Without one, where it may be missing.
    Anonymous = "allow" "anonymous",
    /// Where nobody looks at tokens.
    Public = "allow" "public",
    NoRequest = "deny" "no_request",
    Path = "deny" "path",
    Host = "deny" "host",
    Closed = "deny" "closed",
    Untellable = "deny" "untellable",
    NoToken = "deny" "no_token",
    UnclearToken = "deny" "unclear_token",
    Malformed = "deny" "malformed",
    WrongType = "deny" "wrong_type",
    UnknownKey = "deny" "unknown_key",
    BadSignature = "deny" "bad_signature",
    WrongIssuer = "deny" "wrong_issuer",
    WrongAudience = "deny" "wrong_audience",
    Expired = "deny" "expired",
    NotYetValid = "deny" "not_yet_valid",
    Revoked = "deny" "revoked",
    NotEncrypted = "deny" "not_encrypted",
    Undecryptable = "deny" "undecryptable",
    MissingScope = "deny" "missing_scope",
    MissingRole = "deny" "missing_role",
    Unavailable = "deny" "unavailable",
}

impl Reason {
    const fn of(reason: Inactive) -> Self {
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
