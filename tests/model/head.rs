//! How nodes tell each other how far the feed goes. Mirrors `service/feed/head.rs` (`exchange_head`, `renewed`, `judge`,
//! `read_head`), `service/feed/stream.rs` and `service/feed/observer.rs` (`heard`, `committed`).

use std::rc::Rc;

use crate::{
    domain::{hot::FeedHead, revocation::FeedEntry, time::Timestamp},
    node::{MILLI, Node},
    world::{Event, World},
};

/// How often heads are exchanged.
pub(crate) const HEAD_INTERVAL: i64 = 500 * MILLI;
const FRESH: i64 = 500 * MILLI;
const TRIES: u32 = 4;

impl World {
    pub(crate) fn heads(&mut self, n: usize, life: u32) {
        self.later(HEAD_INTERVAL, Event::Heads(n, life));
        self.exchange_head(n, life);
        self.later(MILLI, Event::Heard(n, life));
    }

    /// Reads the head and writes it anew if it is due.
    pub(crate) fn exchange_head(&mut self, n: usize, life: u32) {
        let node = &mut self.nodes[n];
        if node.progress.position().is_none() || !node.reaches_redis() || node.head_tries > 0 {
            return;
        }
        node.head_tries = TRIES;
        node.head_found.clone_from(&self.redis.servers[node.server].head);
        let delay = self.io();
        self.later(delay, Event::HeadSwap(n, life));
    }

    pub(crate) fn head_swap(&mut self, n: usize, life: u32) {
        let delay = self.io();
        let now = self.now;
        let time = self.nodes[n].clock(now);
        let node = &mut self.nodes[n];
        node.head_tries -= 1;
        let kept = node.head_found.take();
        let value = kept.as_ref().map(|(_, head)| **head);
        let wanted = judge(node, value);
        let new = renewed(node, value, now, time);
        if wanted {
            self.later(delay, Event::Feed(n, life));
        }
        let node = &mut self.nodes[n];
        let Some(new) = new else {
            node.head_tries = 0;
            return;
        };
        let overtaken = std::mem::take(&mut node.overtaken);
        if !node.reaches_redis() {
            node.overtaken |= overtaken;
            node.head_tries = 0;
            return;
        }
        let swapped = self.redis.swap_head(now, node.server, kept.map(|(stamp, _)| stamp), new);
        let answered = !self.rng.one_in(100);
        if new.records_since != value.map_or(Timestamp::default(), |head| head.records_since) {
            self.say(|| {
                format!("node {n} says that older records do not count: swapped {swapped}, answered {answered}")
            });
        }
        let node = &mut self.nodes[n];
        if swapped {
            let master = node.server == self.redis.master();
            self.check.head_written(now, n, master, new.records_since.as_micros());
        }
        if swapped && answered {
            judge(node, Some(new));
            node.head_tries = 0;
            return;
        }
        node.overtaken |= overtaken;
        if !answered || node.head_tries == 0 {
            node.head_tries = 0;
            return;
        }
        node.head_found.clone_from(&self.redis.servers[node.server].head);
        self.later(delay, Event::HeadSwap(n, life));
    }

    /// This node's own commits: known at once, then pushed, then in the head.
    pub(crate) fn committed(&mut self, n: usize, entry: &FeedEntry) {
        let node = &mut self.nodes[n];
        node.progress.note(entry);
        let life = node.life;
        let delay = self.io();
        self.later(delay, Event::Push(n, life, entry.number));
    }

    pub(crate) fn push(&mut self, n: usize, life: u32, number: i64) {
        if self.nodes[n].reaches_redis() {
            self.redis.push(self.now, self.nodes[n].server, number);
            for other in 0..self.nodes.len() {
                let delay = self.io();
                let life = self.nodes[other].life;
                self.later(delay, Event::Heard(other, life));
            }
        }
        self.exchange_head(n, life);
    }

    /// What others pushed after what is known here.
    pub(crate) fn heard(&mut self, n: usize, life: u32) {
        let node = &mut self.nodes[n];
        let Some(position) = node.progress.position() else { return };
        if !node.reaches_redis() {
            return;
        }
        for number in &self.redis.servers[node.server].stream {
            if *number > position.number
                && let Some(entry) = usize::try_from(number - 1).ok().and_then(|index| self.database.feed.get(index))
            {
                node.progress.note(entry);
            }
        }
        if node.progress.has_gap() {
            self.later(MILLI, Event::Feed(n, life));
        }
    }

    /// The head that `Feed::read_head` finds.
    pub(crate) fn read_head(&self, n: usize) -> Option<Rc<FeedHead>> {
        let node = &self.nodes[n];
        if node.overtaken || !node.reaches_redis() {
            return None;
        }
        node.progress.position()?;
        self.redis.servers[node.server].head.as_ref().map(|(_, head)| Rc::clone(head))
    }
}

/// `Feed::renewed`.
fn renewed(node: &Node, kept: Option<FeedHead>, now: i64, time: Timestamp) -> Option<FeedHead> {
    let reading = node.complete?;
    let known = node.progress.position()?.number.max(reading.number);
    let last_head = node.progress.last_head;
    let forgotten = match (kept, last_head) {
        (None, _) => true,
        (Some(kept), Some(last)) => kept.is_behind(&last),
        (Some(_), None) => false,
    };
    let fresh_reading = now - reading.began < FRESH * 3;
    if (forgotten || node.overtaken) && !fresh_reading {
        return None;
    }
    let old = kept.unwrap_or(FeedHead { number: 0, time: reading.time, records_since: reading.time, beat: 0 });
    let last = last_head.unwrap_or(old);
    let since = if forgotten || node.overtaken { time } else { old.records_since };
    let new = FeedHead {
        number: known.max(old.number),
        time: reading.time.max(old.time).max(last.time),
        records_since: since.max(old.records_since).max(last.records_since),
        beat: old.beat.max(last.beat) + 1,
    };
    let fresh = Timestamp::from_micros(old.time.as_micros() + FRESH);
    let due = new.number > old.number || new.records_since > old.records_since || new.time >= fresh || kept.is_none();
    due.then_some(new)
}

/// `Feed::judge`. Whether the feed should be read.
fn judge(node: &mut Node, head: Option<FeedHead>) -> bool {
    let known = node.progress.position().map_or(0, |position| position.number);
    head.is_some_and(|head| {
        node.progress.saw(head);
        head.number > known
    })
}
