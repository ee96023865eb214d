//! The database and the hot state, as far as refreshes see them.
//!
//! The database keeps what it acknowledged, and a transaction is one event. The hot state is a register per key with
//! compare-and-set; it may forget its last writes, everything, or come back as it was long ago. Two of its servers may be
//! believed to be the master by different nodes.

use std::rc::Rc;

use uuid::Uuid;

use crate::domain::{
    audience::Scope,
    claim_rules::{OwnClaims, SaidMark},
    hot::{FeedHead, FeedPosition, HotRecord},
    id::{SessionId, UserId},
    refresh::Family,
    revocation::{FeedEntry, Revocation},
    role::HeldRoles,
    session::Grant,
    time::Timestamp,
};

pub(crate) const INCARNATION: Uuid = Uuid::from_u128(7);

pub(crate) const fn session(number: u128) -> SessionId {
    SessionId::from_uuid(Uuid::from_u128(number))
}

pub(crate) const fn user(number: u128) -> UserId {
    UserId::from_uuid(Uuid::from_u128(number))
}

/// The session row beside its user's, at a place of the feed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) seen: i64,
    pub(crate) alive: bool,
    /// How often what the tokens say was changed.
    pub(crate) claims: usize,
    pub(crate) family: Family,
}

/// The database.
#[derive(Debug)]
pub(crate) struct Database {
    pub(crate) row: Row,
    /// Every entry there ever was; those up to `purged` are deleted.
    pub(crate) feed: Vec<FeedEntry>,
    pub(crate) purged: usize,
}

/// How long an entry lives.
const ENTRY_LIFE: i64 = 3_000_000;

impl Database {
    pub(crate) fn new(now: i64) -> Self {
        let family = Family::first(Timestamp::from_micros(now), 1);
        Self { row: Row { seen: 0, alive: true, claims: 0, family }, feed: Vec::new(), purged: 0 }
    }

    /// Appends to the feed, in the transaction of the effect.
    pub(crate) fn append(&mut self, now: i64, revocation: Revocation) -> FeedEntry {
        self.row.seen += 1;
        let (time, expire_time) = (Timestamp::from_micros(now), Timestamp::from_micros(now + ENTRY_LIFE));
        let entry = FeedEntry { number: self.row.seen, revocation, time, expire_time };
        self.feed.push(entry.clone());
        entry
    }

    pub(crate) fn purge(&mut self, now: i64) {
        let now = Timestamp::from_micros(now);
        while self.feed.get(self.purged).is_some_and(|entry| entry.expire_time < now) {
            self.purged += 1;
        }
    }

    /// The entries after `number`, and the last number.
    pub(crate) fn read_feed(&self, after: i64) -> (Vec<FeedEntry>, i64) {
        let after = usize::try_from(after).unwrap_or(0).max(self.purged);
        (self.feed[after.min(self.feed.len())..].to_vec(), self.row.seen)
    }
}

/// A value and the stamp that tells it from all others.
pub(crate) type Kept<T> = Option<(u64, Rc<T>)>;

/// One server.
#[derive(Clone, Debug, Default)]
pub(crate) struct Server {
    pub(crate) record: Kept<HotRecord>,
    pub(crate) head: Kept<FeedHead>,
    /// Numbers of the entries that were pushed.
    pub(crate) stream: Vec<i64>,
}

/// The hot state: the last server is the master.
#[derive(Debug, Default)]
pub(crate) struct Redis {
    pub(crate) servers: Vec<Server>,
    /// What the master was, whenever it changed.
    past: Vec<(i64, Server)>,
    stamp: u64,
}

impl Redis {
    pub(crate) fn new() -> Self {
        Self { servers: vec![Server::default()], ..Self::default() }
    }

    pub(crate) fn master(&self) -> usize {
        self.servers.len() - 1
    }

    fn keep(&mut self, now: i64, server: usize) {
        if server == self.master() {
            self.past.push((now, self.servers[server].clone()));
        }
    }

    pub(crate) fn swap_record(&mut self, now: i64, server: usize, expected: Option<u64>, new: Rc<HotRecord>) -> bool {
        self.stamp += 1;
        let kept = &mut self.servers[server].record;
        let same = kept.as_ref().map(|(stamp, _)| *stamp) == expected;
        if same {
            *kept = Some((self.stamp, new));
            self.keep(now, server);
        }
        same
    }

    pub(crate) fn swap_head(&mut self, now: i64, server: usize, expected: Option<u64>, new: FeedHead) -> bool {
        self.stamp += 1;
        let kept = &mut self.servers[server].head;
        let same = kept.as_ref().map(|(stamp, _)| *stamp) == expected;
        if same {
            *kept = Some((self.stamp, Rc::new(new)));
            self.keep(now, server);
        }
        same
    }

    pub(crate) fn push(&mut self, now: i64, server: usize, number: i64) {
        let stream = &mut self.servers[server].stream;
        if stream.last().is_none_or(|last| *last < number) {
            stream.push(number);
            self.keep(now, server);
        }
    }

    /// The master as it was at `moment`.
    fn as_of(&self, moment: i64) -> Server {
        self.past.iter().rev().find(|(at, _)| *at <= moment).map(|(_, server)| server.clone()).unwrap_or_default()
    }

    /// The master is what it was at `moment`.
    pub(crate) fn restore(&mut self, now: i64, moment: i64) {
        let master = self.master();
        self.servers[master] = self.as_of(moment);
        self.keep(now, master);
    }

    /// Another server is the master, with what it had heard of by `moment`.
    pub(crate) fn fail_over(&mut self, now: i64, moment: i64) {
        let server = self.as_of(moment);
        self.servers.push(server);
        self.keep(now, self.master());
    }
}

/// The record of a family that is as its row was at a place of the feed.
pub(crate) fn record_of(row: &Row, family: Family) -> HotRecord {
    let start = Timestamp::from_micros(0);
    let grant = Grant {
        user: user(1),
        epoch: 0,
        client_id: String::new(),
        audience: Vec::new(),
        scope: Scope::default(),
        auth_time: start,
        amr: Vec::new(),
        acr: String::new(),
    };
    HotRecord {
        family,
        grant,
        // As many roles as there were changes: the model's claims.
        held: HeldRoles { names: vec![String::new(); row.claims], ..HeldRoles::default() },
        own: OwnClaims::default(),
        said: SaidMark::default(),
        create_time: start,
        absolute_expire_time: start,
        seen: FeedPosition { incarnation: INCARNATION, number: row.seen },
    }
}
