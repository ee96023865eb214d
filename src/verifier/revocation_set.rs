//! What tokens must no longer say, in memory, for every check of a token to ask.
//!
//! Reads are on the path of every verification and writes are rare. A check takes three locks of 256 each, for reading
//! and for tens of nanoseconds, so cores seldom share one; nothing is copied when an entry is added, which rules out one
//! map behind an `ArcSwap`: with a million entries that would copy them all. The revoked keys, which every check asks
//! for and which are a handful, are behind an `ArcSwap`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use uuid::Uuid;

use super::sharded::{Sharded, Spread};
use crate::domain::{
    claims::AccessClaims,
    id::{SessionId, Subject, TokenId},
    revocation::{FeedEntry, Revocation},
    time::Timestamp,
};

/// All revocations a node has heard of.
///
/// Entries may be applied in any order and any number of times: what is refused depends on which were applied, and
/// nothing but expiry or [`Self::replace`] makes it accepted again.
#[derive(Default)]
pub struct RevocationSet {
    sessions: Sharded<SessionId, Timestamp>,
    tokens: Sharded<TokenId, Timestamp>,
    subjects: Sharded<Subject, Cut>,
    keys: ArcSwap<Vec<String>>,
    /// Held by whoever changes the set, so that nothing applied while a snapshot is put in place gets lost.
    writer: Mutex<()>,
}

/// What all entries about one user or service account amount to, in constant space.
///
/// A token is refused if there is an entry with a larger epoch that does not spare its session. So what counts for a
/// session is the largest epoch among the entries that do not spare it; and that is the largest of all for every session
/// but the one that the largest spares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cut {
    /// The largest epoch.
    epoch: i64,
    /// The session that it spares.
    spared: Option<SessionId>,
    /// The largest epoch among the entries that do not spare `spared`.
    spared_epoch: i64,
    /// The latest expiry. It may outlive the entry that refuses most, which is harmless: by then no token is left that
    /// the entry could refuse.
    expire_time: Timestamp,
}

impl Cut {
    const fn new(epoch: i64, spared: Option<SessionId>, expire_time: Timestamp) -> Self {
        Self { epoch, spared, spared_epoch: if spared.is_some() { i64::MIN } else { epoch }, expire_time }
    }

    /// Adds an entry. The result does not depend on the order.
    fn merge(&mut self, entry: &Self) {
        if entry.spared.is_some() && entry.spared == self.spared {
            self.epoch = self.epoch.max(entry.epoch);
        } else if entry.spared.is_some() && entry.epoch > self.epoch {
            // Another session is spared, up to what cut everybody off so far.
            self.spared_epoch = self.epoch;
            self.spared = entry.spared;
            self.epoch = entry.epoch;
        } else {
            self.epoch = self.epoch.max(entry.epoch);
            self.spared_epoch = self.spared_epoch.max(entry.epoch);
        }
        self.expire_time = self.expire_time.max(entry.expire_time);
    }

    fn refuses(&self, session: Option<SessionId>, epoch: i64) -> bool {
        epoch < if self.spared.is_some() && self.spared == session { self.spared_epoch } else { self.epoch }
    }
}

impl RevocationSet {
    /// An empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an entry. Once this returns, every check on every thread knows of it.
    pub fn apply(&self, entry: &FeedEntry) {
        let _writer = self.writer();
        self.add(entry);
    }

    fn add(&self, entry: &FeedEntry) {
        let expire_time = entry.expire_time;
        match &entry.revocation {
            Revocation::Session { session } => self.sessions.merge(*session, expire_time, later),
            Revocation::Token { token } => self.tokens.merge(*token, expire_time, later),
            Revocation::User { user, epoch, spared } => {
                self.cut_off((*user).into(), Cut::new(*epoch, *spared, expire_time));
            }
            Revocation::Key { kid } => {
                let mut kids = Vec::clone(&self.keys.load());
                if !kids.contains(kid) {
                    kids.push(kid.clone());
                    self.keys.store(Arc::new(kids));
                }
            }
            Revocation::ServiceAccount { account, epoch } => {
                self.cut_off((*account).into(), Cut::new(*epoch, None, expire_time));
            }
            Revocation::Role { .. } | Revocation::KeySetChanged => {}
        }
    }

    fn cut_off(&self, subject: Subject, cut: Cut) {
        self.subjects.merge(subject, cut, |present, new| present.merge(&new));
    }

    /// Whether a token with these claims, signed by this key, is revoked.
    pub fn is_revoked(&self, claims: &AccessClaims, kid: &str) -> bool {
        let session = claims.session_id();
        session.is_some_and(|session| self.sessions.is(&session, |_| true))
            || self.subjects.is(&claims.subject, |cut| cut.refuses(session, claims.epoch))
            || self.tokens.is(&claims.token_id, |_| true)
            || self.is_key_revoked(kid)
    }

    /// Whether every token signed by this key is revoked.
    pub fn is_key_revoked(&self, kid: &str) -> bool {
        self.keys.load().iter().any(|revoked| revoked == kid)
    }

    /// Forgets the entries that have expired by `now`.
    ///
    /// Revoked keys stay: whoever stole one writes what expiry he likes into his tokens, so there is no moment at which
    /// the last of them has expired. They are few.
    pub fn purge(&self, now: Timestamp) {
        let _writer = self.writer();
        self.sessions.retain(|expire_time| *expire_time > now);
        self.tokens.retain(|expire_time| *expire_time > now);
        self.subjects.retain(|cut| cut.expire_time > now);
    }

    /// Makes a snapshot of the feed the whole of the set: for a new incarnation of the feed, whose entries need not
    /// include the old one's. What is revoked before and after stays so all the time.
    ///
    /// To catch up with the same incarnation [`Self::apply`] every entry instead: that cannot undo anything.
    pub fn replace<'a>(&self, snapshot: impl IntoIterator<Item = &'a FeedEntry>) {
        let new = Self::default();
        for entry in snapshot {
            new.add(entry);
        }
        let _writer = self.writer();
        let Self { sessions, tokens, subjects, keys, writer: _ } = new;
        self.sessions.replace(sessions);
        self.tokens.replace(tokens);
        self.subjects.replace(subjects);
        self.keys.store(keys.into_inner());
    }

    /// How many sessions, tokens, users, service accounts and keys are refused something.
    pub fn len(&self) -> usize {
        self.sessions.len() + self.tokens.len() + self.subjects.len() + self.keys.load().len()
    }

    /// Whether nothing is revoked.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn writer(&self) -> MutexGuard<'_, ()> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn later(present: &mut Timestamp, new: Timestamp) {
    *present = new.max(*present);
}

impl Spread for SessionId {
    fn uuid(&self) -> &Uuid {
        self.as_uuid()
    }
}

impl Spread for TokenId {
    fn uuid(&self) -> &Uuid {
        self.as_uuid()
    }
}

impl Spread for Subject {
    fn uuid(&self) -> &Uuid {
        self.as_uuid()
    }
}

mod dump;

pub use dump::DumpPlace;

#[cfg(test)]
mod tests;
