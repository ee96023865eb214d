//! What tokens must stop saying, and the numbered feed that carries it to every node.

use serde::{Deserialize, Serialize};

use super::{
    id::{ServiceAccountId, SessionId, TokenId, UserId},
    time::Timestamp,
};

/// One thing that tokens must stop saying.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Revocation {
    /// Every access token of this session.
    Session {
        /// The session that ended.
        session: SessionId,
    },
    /// Every access token of this user with a smaller epoch, except those of one session that may be spared.
    User {
        /// The user.
        user: UserId,
        /// The user's new epoch: tokens with a smaller one are refused.
        epoch: i64,
        /// A session that goes on, for instance the one that changed the password.
        spared: Option<SessionId>,
    },
    /// Every access token of this service account with a smaller epoch.
    ServiceAccount {
        /// The service account.
        account: ServiceAccountId,
        /// Its new epoch.
        epoch: i64,
    },
    /// Revokes nothing: what this role allows has changed. Who holds it is to be told so by the next token.
    Role {
        /// The role's name.
        role: String,
    },
    /// One access token.
    Token {
        /// Its `jti`.
        token: TokenId,
    },
    /// Every token signed by this key.
    Key {
        /// Its `kid`.
        kid: String,
    },
    /// Revokes nothing: the set of signing keys has changed, fetch it anew.
    KeySetChanged,
}

/// A revocation with its place in the feed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedEntry {
    /// Consecutive from 1. Numbers follow commits without gaps.
    pub number: i64,
    /// What must no longer be said.
    pub revocation: Revocation,
    /// When it was recorded.
    pub time: Timestamp,
    /// When every token it could refuse has expired: the entry may be forgotten.
    pub expire_time: Timestamp,
}
