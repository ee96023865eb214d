//! The hot record of a session, and when it may carry a refresh while the database is away.
//!
//! With the database there, the record is a counter and nothing else: whether a session lives and what its tokens say is read
//! from its row each time. Without the database the record speaks for the row, as it was when the record was made; so
//! everything that could have changed since must be known not to have.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    claim_rules::{OwnClaims, SaidMark},
    id::{SessionId, UserId},
    refresh::Family,
    revocation::{FeedEntry, Revocation},
    role::HeldRoles,
    session::Grant,
    time::Timestamp,
};

/// A place in the feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedPosition {
    /// Which history.
    pub incarnation: Uuid,
    /// The number of the last entry.
    pub number: i64,
}

/// What the hot state keeps of a session. Nothing personal beyond the user's id, and what an administrator has tokens say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HotRecord {
    /// The refresh-token counter.
    pub family: Family,
    /// What sign-in fixed.
    pub grant: Grant,
    /// The user's roles and what they allow.
    pub held: HeldRoles,
    /// What tokens say of the user beside; of the attributes those that tokens say.
    pub own: OwnClaims,
    /// Which attributes these were. A node whose tokens say others does not find them here.
    pub said: SaidMark,
    /// When the session began.
    pub create_time: Timestamp,
    /// When it ends however busy it is.
    pub absolute_expire_time: Timestamp,
    /// Everything above but the counter is as the row was at this place of the feed.
    pub seen: FeedPosition,
}

/// What nodes that reach both the database and the hot state leave in the latter each second, for those that do not reach
/// the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedHead {
    /// The last entry of the feed.
    pub number: i64,
    /// When that was so.
    pub time: Timestamp,
    /// Records written before this moment may have been overtaken by rows: some node went without the hot state, or the hot
    /// state came back with an older memory.
    pub records_since: Timestamp,
    /// Goes up at least every second while any node reaches the hot state, with the database or without: so that whoever saw it
    /// notices when the hot state comes back with an older memory.
    pub beat: u64,
}

impl FeedHead {
    /// Whether this head is older than one that was seen before: the hot state has forgotten something.
    pub fn is_behind(&self, known: &Self) -> bool {
        self.number < known.number
            || self.time < known.time
            || self.records_since < known.records_since
            || self.beat < known.beat
    }
}

/// Why the hot record may not carry a refresh now. None of these burns a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotCarried {
    /// Switched off, or the database has been away for longer than is allowed.
    #[error("the database has been away for too long")]
    TooLong,
    /// There is no trustworthy head in the hot state.
    #[error("the hot state has lost its memory")]
    HeadLost,
    /// The hot state knows of revocations that this node has not heard of.
    #[error("revocations are missing here")]
    Behind,
    /// The record is of another history, or older than what this node remembers of the feed.
    #[error("the record is too old to tell what changed since")]
    TooOld,
    /// The record was made by a node whose tokens say other attributes.
    #[error("the record does not have what tokens say here")]
    OtherClaims,
    /// Something about the session, its user or its roles has changed since the record was made.
    #[error("the session has changed since its record was made")]
    Touched,
}

/// A node's view of the feed while it does without the database.
#[derive(Clone, Copy, Debug)]
pub struct Outage<'a> {
    /// How long ago this node last read the whole feed from the database.
    pub lasts: Duration,
    /// How long records may speak for rows; zero: never.
    pub grace: Duration,
    /// Up to where this node knows the feed without a gap.
    pub known: FeedPosition,
    /// The head found in the hot state after the request arrived.
    pub head: Option<FeedHead>,
    /// The latest head this node has seen or written.
    pub last_head: Option<FeedHead>,
    /// What changed lately.
    pub changes: &'a RecentChanges,
    /// Which attributes this node's tokens say.
    pub said: SaidMark,
}

/// Whether `record` may speak for the row of `session`.
pub fn may_carry(session: SessionId, record: &HotRecord, outage: &Outage<'_>) -> Result<(), NotCarried> {
    if outage.lasts > outage.grace {
        return Err(NotCarried::TooLong);
    }
    let (Some(head), Some(last)) = (outage.head, outage.last_head) else { return Err(NotCarried::HeadLost) };
    if head.is_behind(&last) {
        return Err(NotCarried::HeadLost);
    }
    if head.number > outage.known.number {
        return Err(NotCarried::Behind);
    }
    if record.seen.incarnation != outage.known.incarnation
        || record.family.made_at < head.records_since
        || !outage.changes.reach_back_to(record.seen.number)
    {
        return Err(NotCarried::TooOld);
    }
    if record.said != outage.said {
        return Err(NotCarried::OtherClaims);
    }
    if outage.changes.touched_since(record.seen.number, session, record.grant.user, &record.held.names) {
        return Err(NotCarried::Touched);
    }
    Ok(())
}

/// Whom the feed's latest entries were about. Kept for longer than the revocations themselves: a record may be older than the
/// longest access token.
#[derive(Debug, Default)]
pub struct RecentChanges {
    /// The last entry that is not known here. Entries after it are.
    horizon: i64,
    sessions: HashMap<SessionId, i64>,
    users: HashMap<UserId, i64>,
    roles: HashMap<String, i64>,
    order: VecDeque<(Timestamp, i64, Touches)>,
}

#[derive(Clone, Debug)]
enum Touches {
    Session(SessionId),
    User(UserId),
    Role(String),
    Nobody,
}

impl RecentChanges {
    /// Nothing is known of the entries up to `number`.
    pub fn forget_up_to(&mut self, number: i64) {
        self.horizon = self.horizon.max(number);
    }

    /// Everything is forgotten: the feed has another history.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// Takes note of an entry.
    pub fn note(&mut self, entry: &FeedEntry) {
        let touches = match &entry.revocation {
            Revocation::Session { session } => Touches::Session(*session),
            Revocation::User { user, .. } => Touches::User(*user),
            Revocation::Role { role } => Touches::Role(role.clone()),
            // These concern access tokens, not what the next one of a session says.
            Revocation::ServiceAccount { .. }
            | Revocation::Token { .. }
            | Revocation::Key { .. }
            | Revocation::KeySetChanged => Touches::Nobody,
        };
        match &touches {
            Touches::Session(session) => raise(self.sessions.entry(*session).or_default(), entry.number),
            Touches::User(user) => raise(self.users.entry(*user).or_default(), entry.number),
            Touches::Role(role) => raise(self.roles.entry(role.clone()).or_default(), entry.number),
            Touches::Nobody => {}
        }
        self.order.push_back((entry.expire_time, entry.number, touches));
    }

    /// Forgets what expired before `moment`.
    pub fn forget_before(&mut self, moment: Timestamp) {
        while let Some((expired, number, touches)) = self.order.front().cloned()
            && expired < moment
        {
            self.order.pop_front();
            self.horizon = self.horizon.max(number);
            match touches {
                Touches::Session(session) if self.sessions.get(&session).is_some_and(|last| *last <= number) => {
                    self.sessions.remove(&session);
                }
                Touches::User(user) if self.users.get(&user).is_some_and(|last| *last <= number) => {
                    self.users.remove(&user);
                }
                Touches::Role(role) if self.roles.get(&role).is_some_and(|last| *last <= number) => {
                    self.roles.remove(&role);
                }
                Touches::Session(_) | Touches::User(_) | Touches::Role(_) | Touches::Nobody => {}
            }
        }
    }

    /// Whether every entry after `number` is known here.
    pub fn reach_back_to(&self, number: i64) -> bool {
        number >= self.horizon
    }

    /// Whether an entry after `number` is about the session, its user or one of these roles.
    pub fn touched_since(&self, number: i64, session: SessionId, user: UserId, roles: &[String]) -> bool {
        let later = |last: Option<&i64>| last.is_some_and(|last| *last > number);
        later(self.sessions.get(&session))
            || later(self.users.get(&user))
            || roles.iter().any(|role| later(self.roles.get(role)))
    }
}

fn raise(last: &mut i64, number: i64) {
    *last = number.max(*last);
}

#[cfg(test)]
mod tests;
