//! What a method demands of whoever calls it, and why somebody is denied.

use tonic::Code;

use super::{check::Inactive, principal::Principal};

/// Whether a token is needed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// Nobody is asked for a token, and none is looked at.
    Public,
    /// Without a token, go on without a [`Principal`]. With one, it must be good.
    Optional,
    /// Only with a good token.
    #[default]
    Required,
}

/// What to do when the list of revocations is older than `max_staleness`, because the issuer cannot be reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenStale {
    /// Deny: tokens could be revoked by now.
    #[default]
    Deny,
    /// Go on with what is known: a token that was revoked meanwhile works until it expires.
    Allow,
}

/// What a method demands of whoever calls it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Whether a token is needed.
    pub access: Access,
    /// Scope tokens that `scope` must have, all of them.
    pub scopes: Vec<String>,
    /// Roles of which `roles` must have at least one; empty: any or none.
    pub roles: Vec<String>,
    /// What to do while revocations could be missing.
    pub when_stale: WhenStale,
}

impl Rule {
    /// A good token is needed.
    pub fn required() -> Self {
        Self::default()
    }

    /// A token that is sent must be good; none is fine too.
    pub fn optional() -> Self {
        Self { access: Access::Optional, ..Self::default() }
    }

    /// Open to everybody.
    pub fn public() -> Self {
        Self { access: Access::Public, ..Self::default() }
    }

    /// And its scope has this token too.
    #[must_use]
    pub fn scope(mut self, scope: impl Into<String>) -> Self {
        self.scopes.push(scope.into());
        self
    }

    /// And it has this role, or another that is named so.
    #[must_use]
    pub fn role(mut self, role: impl Into<String>) -> Self {
        self.roles.push(role.into());
        self
    }

    /// And it goes on while revocations could be missing, because to be refused would be worse.
    #[must_use]
    pub fn allow_stale(mut self) -> Self {
        self.when_stale = WhenStale::Allow;
        self
    }

    /// Whether the scopes and roles suffice.
    pub(super) fn check(&self, principal: &Principal) -> Result<(), Denied> {
        if !self.scopes.iter().all(|scope| principal.has_scope(scope)) {
            return Err(Denied::MissingScope(self.scopes.join(" ")));
        }
        if !self.roles.is_empty() && !self.roles.iter().any(|role| principal.has_role(role)) {
            return Err(Denied::MissingRole);
        }
        Ok(())
    }
}

/// Why somebody is denied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// A token is needed and there is none.
    #[error("an access token is needed: send `authorization: Bearer <access token>`")]
    NoToken,
    /// There is not exactly one `authorization` of readable text. Which of two was checked by whom before cannot be known.
    #[error("not exactly one readable authorization header")]
    UnclearToken,
    /// The token is no good.
    #[error("the access token is not accepted: {0}")]
    Inactive(Inactive),
    /// The token's scope lacks something. What is needed, separated by spaces.
    #[error("the access token needs the scope {0}")]
    MissingScope(String),
    /// The token has none of the roles that would do.
    #[error("the access token has none of the roles that this needs")]
    MissingRole,
    /// The issuer could not be reached for so long that the token may have been revoked, or its key is not known yet.
    #[error("tokens cannot be verified at the moment: try again")]
    Unavailable,
}

impl Denied {
    /// As an HTTP status (RFC 6750 §3.1).
    pub const fn http_status(&self) -> u16 {
        match self {
            Self::NoToken | Self::UnclearToken | Self::Inactive(_) => 401,
            Self::MissingScope(_) | Self::MissingRole => 403,
            Self::Unavailable => 503,
        }
    }

    /// As a gRPC status.
    pub const fn grpc_code(&self) -> Code {
        match self {
            Self::NoToken | Self::UnclearToken | Self::Inactive(_) => Code::Unauthenticated,
            Self::MissingScope(_) | Self::MissingRole => Code::PermissionDenied,
            Self::Unavailable => Code::Unavailable,
        }
    }

    /// The value of `www-authenticate` (RFC 6750 §3), if there should be one.
    ///
    /// Why a token is no good is not said: its bearer can only get a new one, and others have no business with it.
    pub fn challenge(&self) -> Option<String> {
        match self {
            Self::NoToken => Some("Bearer".to_owned()),
            Self::UnclearToken | Self::Inactive(_) => Some(r#"Bearer error="invalid_token""#.to_owned()),
            // Names that a `Scope` accepts have no quotes; those of a rule need not have been one.
            Self::MissingScope(scope) => {
                Some(format!(r#"Bearer error="insufficient_scope", scope="{}""#, scope.replace(['"', '\\'], "")))
            }
            Self::MissingRole => Some(r#"Bearer error="insufficient_scope""#.to_owned()),
            Self::Unavailable => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denial_says_what_the_bearer_can_do() {
        assert_eq!(Denied::NoToken.challenge().as_deref(), Some("Bearer"), "no error where no token was tried");
        let scope = Denied::MissingScope("orders:write".into());
        assert_eq!((scope.http_status(), scope.grpc_code()), (403, Code::PermissionDenied));
        assert!(scope.challenge().unwrap().contains(r#"scope="orders:write""#));
        assert_eq!(Denied::Unavailable.challenge(), None);
    }
}
