//! How nodes tell each other how far the feed goes. Mirrors `service/feed/head.rs` (`exchange_head`, `renewed`, `judge`), `service/feed/stream.rs` and `service/feed/observer.rs` (`heard`, `committed`).

use crate::{
    domain::{hot::FeedHead, revocation::FeedEntry, time::Timestamp},
    node::{MILLI, Node},
    stores::Kept,
    world::{Event, Mutant, World},
};

/// How often heads are exchanged.
pub(crate) const HEAD_INTERVAL: i64 = 500 * MILLI;
const FRESH: i64 = 500 * MILLI;
const TRIES: u32 = 4;
const ABANDONED: i64 = 3_000 * MILLI;
const UNDER_WAY: i64 = 1_000 * MILLI;

/// The tasks that exchange heads: in turns, and after a push.
const TURNS: usize = 0;
const PUSHES: usize = 1;
/// `Feed::reads_the_database`.
const LATELY: i64 = 3 * FRESH;

/// An exchange under way.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    began: i64,
    tries: u32,
    /// The last head when it began.
    last: Option<FeedHead>,
    /// What was found, or found in the way.
    kept: Option<Kept<FeedHead>>,
    /// What is to be there, and when and with what that was decided.
    new: Option<FeedHead>,
    decided: i64,
    overtaken: u64,
    swapped: Option<bool>,
}

impl World {
    pub(crate) fn heads(&mut self, n: usize, life: u32) {
        self.exchange_head(n, life, TURNS);
        self.later(MILLI, Event::Heard(n, life));
    }

    /// Reads the head and writes it anew if it is due.
    pub(crate) fn exchange_head(&mut self, n: usize, life: u32, task: usize) {
        let node = &self.nodes[n];
        let kept = node.reaches_redis().then(|| self.redis.servers[node.server].head.clone());
        let delay = if kept.is_some() { self.io() } else { self.silence() };
        let node = &mut self.nodes[n];
        let exchange = Exchange {
            began: self.now,
            tries: TRIES,
            last: node.progress.last_head,
            kept,
            new: None,
            decided: 0,
            overtaken: 0,
            swapped: None,
        };
        if node.progress.position().is_none() {
            return self.exchanged(n, life, task, self.now, true);
        }
        node.exchanges[task] = Some(exchange);
        self.later(delay, Event::HeadFound(n, life, task));
    }

    /// The exchange is over. What failed while the database is read is noted: rows may go past their records elsewhere too.
    fn exchanged(&mut self, n: usize, life: u32, task: usize, began: i64, done: bool) {
        let blind = !done && self.rules != Some(Mutant::BlindnessNotNoted);
        let node = &mut self.nodes[n];
        node.exchanges[task] = None;
        if task == TURNS {
            // Not a single call that was slow.
            node.failed_exchanges = if done { 0 } else { node.failed_exchanges + 1 };
            let reads = node.complete.is_some_and(|reading| self.now - reading.began < LATELY);
            if blind && node.failed_exchanges > 1 && reads {
                node.overtaken += 1;
            }
            if done && node.unfollowed.is_some() && node.raising.is_none() {
                let delay = self.io();
                self.later(delay, Event::RaiseRead(n, life));
            }
            self.later((began + HEAD_INTERVAL - self.now).max(MILLI), Event::Heads(n, life));
        }
    }

    pub(crate) fn head_found(&mut self, n: usize, life: u32, task: usize) {
        let (now, beats) = (self.now, self.rules != Some(Mutant::NoBeat));
        let node = &mut self.nodes[n];
        let time = node.clock(now);
        let Some(mut exchange) = node.exchanges[task].take() else { return };
        let Some(kept) = exchange.kept.take().filter(|_| node.reaches_redis()) else {
            return self.exchanged(n, life, task, exchange.began, false);
        };
        let value = kept.as_ref().map(|(_, head)| **head);
        // Others may renew what is left until it looks as late as what was lost.
        if exchange.tries == TRIES && exchange.last.is_some_and(|seen| value.is_none_or(|head| head.is_behind(&seen))) {
            node.overtaken += 1;
        }
        let wanted = judge(node, value);
        exchange.overtaken = node.overtaken;
        exchange.decided = now;
        exchange.new = renewed(node, value, exchange.last, (now, time), beats);
        exchange.kept = Some(kept);
        exchange.swapped = None;
        exchange.tries -= 1;
        let (due, began) = (exchange.new.is_some(), exchange.began);
        node.exchanges[task] = Some(exchange);
        if wanted {
            let delay = self.io();
            self.later(delay, Event::Feed(n, life));
        }
        if !due {
            return self.exchanged(n, life, task, began, true);
        }
        let (there, back) = (self.io(), self.io());
        self.later(there, Event::HeadSwap(n, life, task));
        self.later(there + back, Event::HeadDone(n, life, task));
    }

    pub(crate) fn head_swap(&mut self, n: usize, _life: u32, task: usize) {
        let now = self.now;
        let node = &mut self.nodes[n];
        let (reached, server) = (node.reaches_redis(), node.server);
        let Some(exchange) = node.exchanges[task].as_mut().filter(|_| reached) else { return };
        let (Some(kept), Some(new)) = (&exchange.kept, exchange.new) else { return };
        let swapped = self.redis.swap_head(now, server, kept.as_ref().map(|(stamp, _)| *stamp), new);
        let before = kept.as_ref().map(|(_, head)| head.records_since);
        let decided = exchange.decided;
        exchange.swapped = Some(swapped);
        if !swapped {
            exchange.kept = Some(self.redis.servers[server].head.clone());
        } else if server == self.redis.master() {
            self.check.head_written((now, decided), n, &new);
        }
        if before != Some(new.records_since) {
            self.say(|| format!("node {n} says that older records do not count: swapped {swapped}"));
        }
    }

    pub(crate) fn head_done(&mut self, n: usize, life: u32, task: usize) {
        let answered = !self.rng.one_in(100);
        let node = &mut self.nodes[n];
        let reached = node.reaches_redis() && answered;
        let Some(exchange) = &node.exchanges[task] else { return };
        let (began, tries, overtaken, new) = (exchange.began, exchange.tries, exchange.overtaken, exchange.new);
        match exchange.swapped.filter(|_| reached) {
            Some(true) => {
                node.told = node.told.max(overtaken);
                judge(node, new);
                self.exchanged(n, life, task, began, true);
            }
            Some(false) if tries > 0 => self.head_found(n, life, task),
            Some(false) => self.exchanged(n, life, task, began, true),
            None => self.exchanged(n, life, task, began, false),
        }
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
        if self.nodes[n].exchanges[PUSHES].is_some() {
            return self.later(MILLI, Event::Push(n, life, number));
        }
        if self.nodes[n].reaches_redis() {
            self.redis.push(self.now, self.nodes[n].server, number);
            for other in 0..self.nodes.len() {
                let delay = self.io();
                let life = self.nodes[other].life;
                self.later(delay, Event::Heard(other, life));
            }
        }
        self.exchange_head(n, life, PUSHES);
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
}

/// `Feed::renewed`.
fn renewed(
    node: &Node,
    kept: Option<FeedHead>,
    seen: Option<FeedHead>,
    (now, time): (i64, Timestamp),
    beats: bool,
) -> Option<FeedHead> {
    let reading = node.complete?;
    let known = node.progress.position()?.number.max(reading.number);
    let last_head = node.progress.last_head;
    let forgotten = match (kept, seen) {
        (None, _) => true,
        (Some(kept), Some(seen)) => kept.is_behind(&seen),
        (Some(kept), None) => reading.time.as_micros() > kept.time.as_micros() + ABANDONED,
    };
    if forgotten && now - reading.began >= LATELY {
        return None;
    }
    let old = kept.unwrap_or(FeedHead { number: 0, time: reading.time, records_since: reading.time, beat: 0 });
    let last = last_head.unwrap_or(old);
    let since = match (forgotten, node.is_overtaken()) {
        (_, true) => Timestamp::from_micros(time.as_micros() + UNDER_WAY),
        (true, false) => time,
        (false, false) => old.records_since,
    };
    let new = FeedHead {
        number: known.max(old.number),
        time: reading.time.max(old.time).max(last.time),
        records_since: since.max(old.records_since).max(last.records_since),
        beat: if beats { old.beat.max(last.beat) + 1 } else { 0 },
    };
    let unbeaten = beats && seen.is_none_or(|seen| old.beat <= seen.beat);
    let fresh = Timestamp::from_micros(old.time.as_micros() + FRESH);
    let due = new.number > old.number || new.records_since > old.records_since || new.time >= fresh || unbeaten;
    (due || !beats && kept.is_none()).then_some(new)
}

/// `Feed::judge`. Whether the feed should be read.
fn judge(node: &mut Node, head: Option<FeedHead>) -> bool {
    let known = node.progress.position().map_or(0, |position| position.number);
    head.is_some_and(|head| {
        node.progress.saw(head);
        head.number > known
    })
}
