//! The world: what there is, and what happens next. Every event is a moment at which one party does one thing; how long things
//! take is drawn at random, so events of different parties come in any order.

use std::time::Duration;

use crate::{
    call::{Call, Outcome, Path},
    check::Check,
    client::Client,
    faults::Fault,
    node::{MILLI, Node, SECOND},
    queue::Queue,
    rng::Rng,
    stores::{Database, Redis},
};

/// A rule broken on purpose, to see whether the model notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// The hot record is believed also where the row knows better.
    HotWins,
    /// A request joins a reading of the row that began before it came.
    RowReadBefore,
    /// A replay is a verdict although nobody waits for it.
    ReplayWithoutCaller,
    /// Records may speak for rows however old the hot state's memory is.
    RecordsSinceIgnored,
    /// The write-behind overwrites a row of the same generation.
    WriteBehindOverwritesEqual,
    /// In an outage the head of the feed is not looked at.
    HeadNotChecked,
    /// It is not noted that a row went past its record.
    OvertakenNotNoted,
    /// A refresh dies with its caller, also between the row and the record.
    DiesWithCaller,
    /// It is not noted that a row may have gone past its record because the row's answer was lost.
    LostCommitNotNoted,
    /// A node that reads the database without the hot state does not say so afterwards.
    BlindnessNotNoted,
    /// In an outage a record is used although this node has written a later one.
    PastNotAsked,
    /// Heads are not renewed without the database.
    NoBeat,
    /// Nothing is written behind.
    NoWriteBehind,
    /// The nodes' clocks are further apart than the rule allows for.
    ClocksApart,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Fault(usize),
    FaultEnds(usize),
    Attach(usize),
    AdminDone(usize),
    Act(usize),
    GiveUp(usize),
    Cancelled(usize),
    Arrive(usize),
    RowRead(usize),
    RowDone(usize),
    RecordRead(usize),
    RecordDone(usize),
    Swap(usize),
    SwapDone(usize),
    Locked(usize),
    LockedDone(usize),
    BringRead(usize),
    BringSwap(usize),
    BringDone(usize),
    CarryRead(usize),
    CarryDone(usize),
    Answer(usize),
    Feed(usize, u32),
    FeedRead(usize, u32),
    FeedDone(usize, u32),
    Heads(usize, u32),
    HeadFound(usize, u32, usize),
    HeadSwap(usize, u32, usize),
    HeadDone(usize, u32, usize),
    RaiseRead(usize, u32),
    RaiseSwap(usize, u32),
    Push(usize, u32, i64),
    Heard(usize, u32),
    Flush(usize, u32),
    FlushWrite(usize, u32),
    FlushDone(usize, u32),
    Purge(usize, u32),
}

/// What is decided before a history begins.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) nodes: usize,
    pub(crate) faults: Vec<Fault>,
    pub(crate) thief: bool,
    pub(crate) rules: Option<Mutant>,
}

pub(crate) struct World {
    pub(crate) now: i64,
    queue: Queue,
    pub(crate) rng: Rng,
    pub(crate) rules: Option<Mutant>,
    pub(crate) window: Duration,
    pub(crate) grace: Duration,
    pub(crate) database: Database,
    pub(crate) redis: Redis,
    pub(crate) nodes: Vec<Node>,
    pub(crate) calls: Vec<Call>,
    pub(crate) clients: Vec<Client>,
    pub(crate) faults: Vec<Fault>,
    pub(crate) check: Check,
    pub(crate) trace: bool,
}

/// When histories begin.
pub(crate) const START: i64 = 1_000_000 * SECOND;
/// How long faults happen.
pub(crate) const TROUBLE: i64 = 12 * SECOND;
/// After that everything is reachable, and after this again an honest client must be served.
const SETTLED: i64 = 4_500 * MILLI;
const END: i64 = 2_500 * MILLI;

impl World {
    pub(crate) fn new(plan: &Plan, trace: bool) -> Self {
        let mut world = Self {
            now: START,
            queue: Queue::default(),
            rng: Rng::new(plan.seed ^ 0xA5A5),
            rules: plan.rules,
            window: Duration::from_secs(2),
            grace: Duration::from_secs(6),
            database: Database::new(START),
            redis: Redis::new(),
            nodes: (0..plan.nodes).map(|_| Node::default()).collect(),
            calls: Vec::new(),
            clients: Vec::new(),
            faults: plan.faults.clone(),
            check: Check::new(START, plan.nodes, plan.thief),
            trace,
        };
        let apart = if plan.rules == Some(Mutant::ClocksApart) { 100 * MILLI } else { 10 * MILLI };
        for n in 0..plan.nodes {
            world.nodes[n].skew = world.rng.range(-apart, apart + 1);
            world.start_node(n);
        }
        for who in 0..=usize::from(plan.thief) {
            let pace = [20 * MILLI, 400 * MILLI, 3 * SECOND][world.rng.below(3)];
            world.clients.push(Client::new((who == 0).then_some(0), pace));
        }
        world.later(500 * MILLI, Event::Act(0));
        for (index, fault) in plan.faults.iter().enumerate() {
            world.later(fault.at, Event::Fault(index));
        }
        world
    }

    pub(crate) fn later(&mut self, delay: i64, event: Event) {
        self.queue.push((self.now + delay.max(0)).abs_diff(START), event);
    }

    /// How long one way to a store takes.
    pub(crate) fn io(&mut self) -> i64 {
        if self.rng.one_in(40) { self.rng.range(100, 20 * MILLI) } else { self.rng.range(100, 2 * MILLI) }
    }

    /// The same where one may have to queue.
    pub(crate) fn slow_io(&mut self) -> i64 {
        if self.rng.one_in(40) { self.rng.range(100, 1_900 * MILLI) } else { self.io() }
    }

    /// How long it takes to find out that something does not answer.
    pub(crate) fn failing(&mut self) -> i64 {
        if self.rng.one_in(4) { self.rng.range(MILLI, 2 * SECOND) } else { self.rng.range(100, 2 * MILLI) }
    }

    pub(crate) fn say(&self, text: impl FnOnce() -> String) {
        if self.trace {
            let since = self.now - START;
            println!("{:>3}.{:06} {}", since / SECOND, since % SECOND, text());
        }
    }

    /// Lives through the history. What was broken, if anything.
    pub(crate) fn run(&mut self) -> Option<String> {
        while let Some((moment, event)) = self.queue.pop() {
            let moment = START.saturating_add_unsigned(moment);
            if moment > START + TROUBLE + SETTLED + END || self.check.broken.is_some() {
                break;
            }
            self.now = moment;
            self.handle(event);
        }
        if self.check.broken.is_none() {
            self.served_at_last();
        }
        self.check.broken.take()
    }

    /// Whether an honest client is served now, or excused.
    pub(crate) fn must_serve(&self) -> bool {
        self.now > START + TROUBLE + SETTLED
    }

    pub(crate) fn lives(&self, n: usize, life: u32) -> bool {
        self.nodes[n].up && self.nodes[n].life == life
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Fault(index) => self.fault(index),
            Event::FaultEnds(index) => self.fault_ends(index),
            Event::Attach(n) => self.attach(n),
            Event::AdminDone(index) => self.admin_done(index),
            Event::Act(who) => self.act(who),
            Event::GiveUp(c) => self.give_up(c),
            Event::Cancelled(c) => self.calls[c].gone = true,
            Event::Arrive(c) => self.arrive(c),
            Event::RowRead(c) => self.row_read(c),
            Event::RowDone(c) => self.row_done(c),
            Event::RecordRead(c) => self.record_read(c),
            Event::RecordDone(c) => self.record_done(c),
            Event::Swap(c) => self.swap(c),
            Event::SwapDone(c) => self.swap_done(c),
            Event::Locked(c) => self.locked(c),
            Event::LockedDone(c) => self.locked_done(c),
            Event::BringRead(c) => self.bring_read(c),
            Event::BringSwap(c) => self.bring_swap(c),
            Event::BringDone(c) => self.bring_done(c),
            Event::CarryRead(c) => self.carry_read(c),
            Event::CarryDone(c) => self.carry_done(c),
            Event::Answer(c) => self.receive(c),
            Event::Feed(n, life) if self.lives(n, life) => self.feed(n, life),
            Event::FeedRead(n, life) if self.lives(n, life) => self.feed_read(n, life),
            Event::FeedDone(n, life) if self.lives(n, life) => self.feed_done(n, life),
            Event::Heads(n, life) if self.lives(n, life) => self.heads(n, life),
            Event::HeadFound(n, life, task) if self.lives(n, life) => self.head_found(n, life, task),
            Event::HeadSwap(n, life, task) if self.lives(n, life) => self.head_swap(n, life, task),
            Event::RaiseRead(n, life) if self.lives(n, life) => self.raise_read(n, life),
            Event::RaiseSwap(n, life) if self.lives(n, life) => self.raise_swap(n, life),
            Event::HeadDone(n, life, task) if self.lives(n, life) => self.head_done(n, life, task),
            Event::Push(n, life, number) if self.lives(n, life) => self.push(n, life, number),
            Event::Heard(n, life) if self.lives(n, life) => self.heard(n, life),
            Event::Flush(n, life) if self.lives(n, life) => self.flush(n, life),
            Event::FlushWrite(n, life) if self.lives(n, life) => self.flush_write(n, life),
            Event::FlushDone(n, life) if self.lives(n, life) => self.flush_done(n, life),
            Event::Purge(n, life) if self.lives(n, life) => self.purge(n, life),
            // Of a process that is no more.
            _ => {}
        }
    }

    /// The node is done with a call.
    pub(crate) fn answer(&mut self, c: usize, outcome: Outcome, path: Path) {
        let call = &mut self.calls[c];
        call.outcome = Some((outcome, path));
        self.say(|| {
            let call = &self.calls[c];
            let Call { who, presented, node, .. } = call;
            format!("call {c}: client {who} presented {presented} to node {node}: {path:?} {}", outcome.brief())
        });
        if let Outcome::Granted { family, claims, late } = outcome {
            let call = &self.calls[c];
            self.check.granted(self.now, call, (family, claims, late), path, &self.nodes, self.redis.master());
        }
        let delay = self.io();
        // Nothing gets lost once the trouble is over.
        if self.now > START + TROUBLE + SECOND || !self.rng.one_in(8) {
            self.later(delay, Event::Answer(c));
        }
    }
}
