//! What a use case knows about the call that asks for it.

use std::time::Instant;

use crate::domain::{
    audit::Origin,
    id::{SessionId, UserId},
    time::Timestamp,
};

/// One call.
#[derive(Clone, Debug)]
pub struct RequestContext {
    /// From where, for the audit trail.
    pub origin: Origin,
    /// When the request reached this node.
    pub arrived: Timestamp,
    /// When the caller stops waiting.
    pub deadline: Instant,
}

/// A caller whose access token was verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The user, `sub`.
    pub user: UserId,
    /// The session, `sid`.
    pub session: SessionId,
    /// When the user proved who they are, `auth_time`.
    pub auth_time: Timestamp,
    /// Whether with more than one factor: `mfa` in `amr`.
    pub second_factor: bool,
}
