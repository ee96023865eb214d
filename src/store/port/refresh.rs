//! What a refresh asks of the sessions, and how it ends.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};

use crate::{
    domain::{
        audit::Origin,
        claim_rules::OwnClaims,
        hot::FeedPosition,
        id::SessionId,
        refresh::{Delivery, Family, Presented},
        role::HeldRoles,
        session::{Session, SessionPolicy},
    },
    store::StoreError,
};

/// A session together with what its tokens say about its user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveSession {
    /// The session, with its family as it is now.
    pub session: Session,
    /// The user's roles at this moment and what they allow.
    pub held: HeldRoles,
    /// What tokens say of the user beside.
    pub own: OwnClaims,
}

/// A refresh to decide.
#[derive(Clone, Debug)]
pub struct RefreshAttempt {
    /// The session of the refresh token.
    pub session: SessionId,
    /// The generation presented and when it arrived.
    pub presented: Presented,
    /// The redelivery window.
    pub window: Duration,
    /// How long sessions live.
    pub policy: SessionPolicy,
    /// The HMAC key that signs now.
    pub key_id: i64,
    /// What the hot state knows of the counter. The row may be behind it.
    pub hot: Option<Family>,
    /// A replay is a verdict only while somebody waits for it.
    pub caller: Caller,
    /// From where, for the audit trail.
    pub origin: Origin,
}

/// Whether the caller of a refresh still waits for the answer. A request that lay about while its client gave up and went on
/// elsewhere must not be taken for a thief's.
#[derive(Clone, Debug)]
pub struct Caller(Weak<()>);

/// Held by the call for as long as it lasts.
#[derive(Debug)]
pub struct Waiting {
    _held: Arc<()>,
}

impl Caller {
    /// A caller who waits until the guard is dropped.
    pub fn waiting() -> (Self, Waiting) {
        let guard = Arc::new(());
        (Self(Arc::downgrade(&guard)), Waiting { _held: guard })
    }

    /// Whether nobody waits any more.
    pub fn is_gone(&self) -> bool {
        self.0.strong_count() == 0
    }
}

/// How a refresh ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RefreshOutcome {
    /// Answer with the family's generation: a new one or the redelivered current one.
    Granted(Box<LiveSession>, Delivery),
    /// Newer refreshes overtook it; nothing was done.
    Overtaken,
    /// It was a replay; the session has been ended.
    Replayed,
    /// The session has ended before.
    Ended,
    /// The session has expired.
    Expired,
    /// There is no such session (any more).
    Unknown,
}

/// A session's row, as far as a refresh asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionState {
    /// The session lives, unless it has expired.
    Live(Box<LiveSession>),
    /// It has ended.
    Ended,
}

/// Rows of several sessions, all of one moment.
#[derive(Debug)]
pub struct SessionRows {
    /// Every change up to this place of the feed is in the rows, none after it.
    pub seen: FeedPosition,
    /// What is there. A damaged row harms no other.
    pub sessions: HashMap<SessionId, Result<SessionState, StoreError>>,
}
