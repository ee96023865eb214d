//! What an access token says (RFC 9068, with `sid`, `roles` and `epoch` beside it).

use super::{
    audience::{Audience, Scope},
    custom_claims::CustomClaims,
    id::{SessionId, Subject, TokenId},
    time::Timestamp,
};

/// The claims of an access token, complete and well-formed. Times are whole seconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessClaims {
    /// `iss`.
    pub issuer: String,
    /// `sub`.
    pub subject: Subject,
    /// `aud`, at least one.
    pub audience: Vec<Audience>,
    /// `exp`.
    pub expire_time: Timestamp,
    /// `iat`.
    pub issue_time: Timestamp,
    /// `jti`.
    pub token_id: TokenId,
    /// `client_id`.
    pub client_id: String,
    /// `scope`; left out of the token when empty.
    pub scope: Scope,
    /// `roles`.
    pub roles: Vec<String>,
    /// `permissions`; left out of the token when empty.
    pub permissions: Vec<String>,
    /// `epoch`: the subject's epoch when the token was issued. A revocation of the subject refuses smaller ones.
    pub epoch: i64,
    /// What it says beside: members of their own.
    pub custom: CustomClaims,
    /// How the user signed in. A user's token has it, a service account's does not.
    pub sign_in: Option<SignIn>,
}

/// The claims that tell of a sign-in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignIn {
    /// `sid`.
    pub session_id: SessionId,
    /// `auth_time`.
    pub auth_time: Timestamp,
    /// `amr` (RFC 8176).
    pub amr: Vec<String>,
    /// `acr`.
    pub acr: String,
}

impl AccessClaims {
    /// `sid`, if there is a session.
    pub fn session_id(&self) -> Option<SessionId> {
        self.sign_in.as_ref().map(|sign_in| sign_in.session_id)
    }
}
