//! What a node is, and what it does besides refreshing. Mirrors `service/background.rs` (intervals), `service/feed/mod.rs`
//! (`catch_up`, `read_to_end`, `forget_expired`), `service/feed/observer.rs` (`read`) and `service/hot/behind.rs`. What is known
//! of the feed is the service's own `Progress`.

use std::rc::Rc;

use crate::{
    domain::{hot::HotRecord, refresh::Family, revocation::FeedEntry, time::Timestamp},
    head::{Exchange, HEAD_INTERVAL},
    progress::Progress,
    stores::INCARNATION,
    world::{Event, Mutant, World},
};

pub(crate) const MILLI: i64 = 1_000;
pub(crate) const SECOND: i64 = 1_000_000;
const FEED_INTERVAL: i64 = SECOND;
const FLUSH_INTERVAL: i64 = 500 * MILLI;
const PURGE_INTERVAL: i64 = 3 * SECOND;

/// A complete reading of the feed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    pub(crate) began: i64,
    pub(crate) time: Timestamp,
    pub(crate) number: i64,
}

/// After which number it was read, the entries, and the last number.
type Page = (i64, Vec<FeedEntry>, i64);

/// A node.
#[derive(Debug, Default)]
pub(crate) struct Node {
    /// Which process; every start is another.
    pub(crate) life: u32,
    pub(crate) up: bool,
    pub(crate) skew: i64,
    latest: i64,
    /// How many faults cut it off.
    pub(crate) database_cuts: u32,
    pub(crate) redis_cuts: u32,
    /// Since when it reaches them, and has had time to notice.
    pub(crate) database_since: i64,
    pub(crate) redis_since: i64,
    /// Since when it has not reached the hot state, when it last did not.
    pub(crate) blind_since: i64,
    /// The server it takes for the master, and since when.
    pub(crate) server: usize,
    pub(crate) attached: i64,
    pub(crate) progress: Progress,
    cursor: i64,
    pub(crate) complete: Option<Reading>,
    reading: Option<(i64, Timestamp, Option<Page>)>,
    /// `RowReader::away`.
    pub(crate) away: Option<i64>,
    /// How often a row may have gone past its record, and how many of these times the head tells of.
    pub(crate) overtaken: u64,
    pub(crate) told: u64,
    /// `Hot::unfollowed`, and what its record is being made.
    pub(crate) unfollowed: Option<HotRecord>,
    pub(crate) raising: Option<(Option<u64>, Family, Rc<HotRecord>)>,
    pub(crate) failed_exchanges: u32,
    /// `WriteBehind::waiting`, and what is being written of it.
    behind: Option<Family>,
    flushing: Option<(Family, bool)>,
    /// The head is exchanged by two tasks, each at its own pace.
    pub(crate) exchanges: [Option<Exchange>; 2],
    /// A broken node's row, read before a request came.
    pub(crate) old_row: Option<(i64, crate::stores::Row)>,
}

impl Node {
    pub(crate) fn clock(&mut self, now: i64) -> Timestamp {
        self.latest = self.latest.max(now + self.skew);
        Timestamp::from_micros(self.latest)
    }

    pub(crate) fn reaches_database(&self) -> bool {
        self.up && self.database_cuts == 0
    }

    pub(crate) fn reaches_redis(&self) -> bool {
        self.up && self.redis_cuts == 0
    }

    pub(crate) fn note_behind(&mut self, family: Family) {
        self.behind = Some(self.behind.map_or(family, |known| known.merged(family)));
    }

    pub(crate) fn is_past(&self, generation: i64) -> bool {
        self.behind.is_some_and(|family| family.generation > generation)
    }

    pub(crate) fn is_overtaken(&self) -> bool {
        self.told < self.overtaken
    }

    pub(crate) fn is_away(&self) -> bool {
        self.away.is_some_and(|since| self.complete.is_none_or(|last| last.began <= since))
    }
}

impl World {
    /// A process starts: it knows nothing, and reads the feed before it serves.
    pub(crate) fn start_node(&mut self, n: usize) {
        self.check.started(n);
        let old = &self.nodes[n];
        let (life, skew, latest, database_cuts, redis_cuts) =
            (old.life + 1, old.skew, old.latest, old.database_cuts, old.redis_cuts);
        let server = self.redis.master();
        let since = self.now + SECOND;
        self.nodes[n] = Node {
            life,
            skew,
            latest,
            database_cuts,
            redis_cuts,
            server,
            attached: self.now,
            up: true,
            database_since: if database_cuts == 0 { since } else { i64::MAX },
            redis_since: if redis_cuts == 0 { since } else { i64::MAX },
            ..Node::default()
        };
        for (event, interval) in [
            (Event::Feed(n, life), 20 * MILLI),
            (Event::Heads(n, life), HEAD_INTERVAL),
            (Event::Flush(n, life), FLUSH_INTERVAL),
            (Event::Purge(n, life), PURGE_INTERVAL),
        ] {
            let delay = self.rng.range(0, interval);
            self.later(delay, event);
        }
    }

    pub(crate) fn feed(&mut self, n: usize, life: u32) {
        if self.nodes[n].reading.is_some() {
            return;
        }
        let time = self.nodes[n].clock(self.now);
        self.nodes[n].reading = Some((self.now, time, None));
        let delay = self.io();
        self.later(delay, Event::FeedRead(n, life));
    }

    pub(crate) fn feed_read(&mut self, n: usize, life: u32) {
        let delay = if self.nodes[n].reaches_database() {
            let after = self.nodes[n].cursor;
            let (entries, end) = self.database.read_feed(after);
            if let Some(reading) = &mut self.nodes[n].reading {
                reading.2 = Some((after, entries, end));
            }
            self.io()
        } else {
            self.failing()
        };
        self.later(delay, Event::FeedDone(n, life));
    }

    pub(crate) fn feed_done(&mut self, n: usize, life: u32) {
        let reachable = self.nodes[n].reaches_database();
        let node = &mut self.nodes[n];
        let Some((began, time, page)) = node.reading.take() else { return };
        if let (true, Some((after, entries, end))) = (reachable, page) {
            node.progress.belongs_to(INCARNATION);
            let mut last = after;
            for entry in &entries {
                node.progress.skip(last, entry.number);
                node.progress.note(entry);
                last = entry.number;
            }
            node.progress.skip(last, end + 1);
            node.cursor = end;
            node.complete = Some(Reading { began, time, number: end });
        }
        let next = (began + FEED_INTERVAL - self.now).max(MILLI);
        self.later(next, Event::Feed(n, life));
    }

    pub(crate) fn flush(&mut self, n: usize, life: u32) {
        let node = &mut self.nodes[n];
        node.flushing = node.behind.map(|family| (family, false));
        if node.flushing.is_none() {
            self.later(FLUSH_INTERVAL, Event::Flush(n, life));
        } else {
            let delay = self.io();
            self.later(delay, Event::FlushWrite(n, life));
        }
    }

    pub(crate) fn flush_write(&mut self, n: usize, life: u32) {
        let reachable = self.nodes[n].reaches_database();
        let delay = if reachable { self.io() } else { self.failing() };
        let skips = self.rules == Some(Mutant::NoWriteBehind);
        if let (true, Some((family, written))) = (reachable && !skips, &mut self.nodes[n].flushing) {
            let known = self.database.row.family.generation;
            let equal = self.rules == Some(Mutant::WriteBehindOverwritesEqual) && known == family.generation;
            if known < family.generation || equal {
                self.database.row.family = *family;
                self.check.in_row(self.now, &self.database.row.family);
            }
            *written = true;
            self.say(|| format!("node {n} writes behind, the row is at {}", self.database.row.family.generation));
        }
        self.later(delay, Event::FlushDone(n, life));
    }

    pub(crate) fn flush_done(&mut self, n: usize, life: u32) {
        let node = &mut self.nodes[n];
        let reachable = node.reaches_database();
        if let Some((family, true)) = node.flushing.take()
            && reachable
            && node.behind == Some(family)
        {
            node.behind = None;
        }
        self.later(FLUSH_INTERVAL - 2 * MILLI, Event::Flush(n, life));
    }

    pub(crate) fn purge(&mut self, n: usize, life: u32) {
        let moment = self.nodes[n].clock(self.now).minus(self.grace);
        self.nodes[n].progress.forget_before(moment);
        if self.nodes[n].reaches_database() {
            self.database.purge(self.now);
        }
        self.later(PURGE_INTERVAL, Event::Purge(n, life));
    }
}
