//! What an access token says (RFC 9068, with `sid`, `roles` and `epoch` beside it).

use super::{
    audience::{Audience, Scope},
    id::{SessionId, TokenId, UserId},
    time::Timestamp,
};

/// The claims of an access token, complete and well-formed. Times are whole seconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessClaims {
    /// `iss`.
    pub issuer: String,
    /// `sub`.
    pub subject: UserId,
    /// `aud`, at least one.
    pub audience: Vec<Audience>,
    /// `exp`.
    pub expire_time: Timestamp,
    /// `iat`.
    pub issue_time: Timestamp,
    /// `jti`.
    pub token_id: TokenId,
    /// `sid`.
    pub session_id: SessionId,
    /// `client_id`.
    pub client_id: String,
    /// `scope`; left out of the token when empty.
    pub scope: Scope,
    /// `roles`.
    pub roles: Vec<String>,
    /// `auth_time`.
    pub auth_time: Timestamp,
    /// `amr` (RFC 8176).
    pub amr: Vec<String>,
    /// `acr`.
    pub acr: String,
    /// `epoch`: the user's epoch when the token was issued. A revocation of the user refuses smaller ones.
    pub epoch: i64,
}
