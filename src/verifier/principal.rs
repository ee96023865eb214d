//! Who calls, as a verified access token says.

use std::{fmt, sync::Arc};

use http::Extensions;
use serde_json::Value;

use super::check::Authentic;
use crate::domain::{
    claims::{AccessClaims, SignIn},
    id::{SessionId, Subject, TokenId},
    time::Timestamp,
};

/// The bearer of a verified access token. Cheap to clone.
///
/// The layer and the interceptor put it into the extensions of every request they let through with a token. It says what was
/// true when it was made: a handler that goes on for long asks [`Verifier::ended`](super::Verifier::ended) when that ends.
#[derive(Clone, PartialEq, Eq)]
pub struct Principal {
    token: Arc<Authentic>,
}

impl Principal {
    pub(super) fn new(token: Arc<Authentic>) -> Self {
        Self { token }
    }

    pub(super) fn token(&self) -> &Authentic {
        &self.token
    }

    /// Whom the layer or the interceptor let through with a token, in the extensions of a request. `None`: nobody in particular,
    /// which a public or optional method has to expect.
    ///
    /// In tonic `Principal::of(request.extensions())`. In axum an extractor does it: `Extension<Principal>`, or
    /// `Option<Extension<Principal>>` where a token is optional.
    pub fn of(extensions: &Extensions) -> Option<&Self> {
        extensions.get()
    }

    /// Everything the token says.
    pub fn claims(&self) -> &AccessClaims {
        self.token.claims()
    }

    /// `sub`: a user or a service account.
    pub fn subject(&self) -> Subject {
        self.claims().subject
    }

    /// Whether it is a service account.
    pub fn is_service(&self) -> bool {
        matches!(self.subject(), Subject::Service(_))
    }

    /// `sid`: the session. A service account has none.
    pub fn session_id(&self) -> Option<SessionId> {
        self.claims().session_id()
    }

    /// `jti`: the token's own id.
    pub fn token_id(&self) -> TokenId {
        self.claims().token_id
    }

    /// `client_id`: the client the token was issued to.
    pub fn client_id(&self) -> &str {
        &self.claims().client_id
    }

    /// `roles`.
    pub fn roles(&self) -> &[String] {
        &self.claims().roles
    }

    /// Whether `roles` has this one.
    pub fn has_role(&self, role: &str) -> bool {
        self.roles().iter().any(|held| held == role)
    }

    /// The scope tokens of `scope`.
    pub fn scopes(&self) -> impl Iterator<Item = &str> {
        self.claims().scope.tokens()
    }

    /// Whether `scope` has this token.
    pub fn has_scope(&self, scope: &str) -> bool {
        self.scopes().any(|granted| granted == scope)
    }

    /// `permissions`, where the issuer is configured to say them.
    pub fn permissions(&self) -> &[String] {
        &self.claims().permissions
    }

    /// A custom claim: what an administrator has tokens say beside.
    pub fn custom(&self, claim: &str) -> Option<&Value> {
        self.claims().custom.get(claim)
    }

    /// How and when the user signed in. A service account did not.
    pub fn sign_in(&self) -> Option<&SignIn> {
        self.claims().sign_in.as_ref()
    }

    /// `exp`: when the token expires.
    pub fn expire_time(&self) -> Timestamp {
        self.claims().expire_time
    }

    /// The key that the token was signed with.
    pub fn key_id(&self) -> &str {
        self.token.kid()
    }
}

impl fmt::Debug for Principal {
    /// Whom and which token, for logs; not what else it says.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Principal")
            .field("subject", &self.subject())
            .field("session_id", &self.session_id())
            .field("token_id", &self.token_id())
            .finish_non_exhaustive()
    }
}
