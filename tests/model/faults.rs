//! What befalls the world: cuts, losses, crashes, clocks, administrators and the theft. Drawn before a history begins, so that a
//! history that breaks something can be lived again with fewer of them.

use crate::{
    domain::revocation::Revocation,
    node::{MILLI, SECOND},
    rng::Rng,
    stores::{Redis, session, user},
    world::{Event, Plan, TROUBLE, World},
};

/// The links of one node, or of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The node does not reach the database.
    NoDatabase(usize),
    DatabaseAway,
    /// The node does not reach the hot state.
    NoRedis(usize),
    RedisAway,
    /// The hot state forgets everything.
    Flush,
    /// The hot state is what it was so long before.
    Restore(i64),
    /// Another server becomes the master, without the last writes; nodes find out at once, or one by one.
    FailOver {
        lost: i64,
        at_once: bool,
    },
    /// The node is killed, and started again.
    Crash(usize),
    /// The node's clock steps.
    Clock(usize, i64),
    /// The session is revoked at the node.
    Revoke(usize),
    /// What the tokens say is changed at the node.
    Change(usize),
    /// Somebody else is revoked at the node.
    Unrelated(usize),
    /// The thief copies the owner's token.
    Theft,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    /// After the history began.
    pub(crate) at: i64,
    lasts: i64,
    kind: Kind,
}

/// Draws a history.
pub(crate) fn plan(seed: u64) -> Plan {
    let mut rng = Rng::new(seed);
    let nodes = 2 + rng.below(2);
    let mut plan = Plan { seed, nodes, faults: Vec::new(), thief: rng.one_in(2), rules: None };
    let mut kinds = Vec::new();
    if plan.thief {
        kinds.push(Kind::Theft);
    }
    if rng.one_in(4) {
        kinds.push(Kind::Revoke(rng.below(nodes)));
    }
    for _ in 0..rng.below(3) {
        kinds.push(if rng.one_in(3) { Kind::Unrelated(rng.below(nodes)) } else { Kind::Change(rng.below(nodes)) });
    }
    let chained = rng.one_in(2);
    for kind in kinds {
        let at = rng.range(0, TROUBLE);
        plan.faults.push(Fault { at, lasts: rng.range(0, 8 * SECOND), kind });
    }
    if plan.thief && rng.one_in(3) {
        worst_moment(&mut rng, &mut plan);
    }
    let mut next = rng.range(SECOND, TROUBLE / 2);
    for _ in 0..rng.below(8) {
        let kind = trouble(&mut rng, nodes);
        // Either anywhere, or about when the one before it is over.
        let at = if chained { next } else { rng.range(0, TROUBLE) };
        let longest = [100 * MILLI, 2 * SECOND, 8 * SECOND][rng.below(3)];
        let lasts = rng.range(MILLI, longest).min(TROUBLE - at);
        plan.faults.push(Fault { at, lasts, kind });
        next = (at + lasts + rng.range(-200 * MILLI, 500 * MILLI)).clamp(0, TROUBLE - MILLI);
    }
    plan.faults.sort_unstable_by_key(|fault| fault.at);
    plan
}

/// The hot state is away or loses something, then the database goes away, and a thief who took a token before uses it now.
fn worst_moment(rng: &mut Rng, plan: &mut Plan) {
    let first = match rng.below(7) {
        0 | 1 => Kind::NoRedis(rng.below(plan.nodes)),
        2 | 3 => Kind::RedisAway,
        4 => Kind::Restore(rng.range(0, 4 * SECOND)),
        5 => Kind::FailOver { lost: rng.range(0, 3 * SECOND), at_once: true },
        _ => Kind::Crash(rng.below(plan.nodes)),
    };
    let at = rng.range(SECOND, TROUBLE / 2);
    // Also so briefly that no head is missed.
    let lasts = if rng.one_in(2) { rng.range(5 * MILLI, 400 * MILLI) } else { rng.range(200 * MILLI, 2 * SECOND) };
    let outage = at + lasts + rng.range(-500 * MILLI, 1_500 * MILLI);
    if first == Kind::RedisAway && rng.one_in(2) {
        // Somebody who knows what happened meanwhile is killed before it is told.
        let (killed, n) = (at + lasts - rng.range(-200 * MILLI, 300 * MILLI), rng.below(plan.nodes));
        plan.faults.push(Fault { at: killed, lasts: rng.range(SECOND, 4 * SECOND), kind: Kind::Crash(n) });
    }
    let theft = rng.range(at - 500 * MILLI, at + lasts);
    plan.faults.retain(|fault| fault.kind != Kind::Theft);
    plan.faults.push(Fault { at, lasts, kind: first });
    plan.faults.push(Fault { at: outage, lasts: rng.range(SECOND, 4 * SECOND), kind: Kind::DatabaseAway });
    plan.faults.push(Fault { at: theft, lasts: (outage - theft).max(0) + rng.range(0, SECOND), kind: Kind::Theft });
}

fn trouble(rng: &mut Rng, nodes: usize) -> Kind {
    let n = rng.below(nodes);
    match rng.below(12) {
        0 | 1 => Kind::NoDatabase(n),
        2 | 3 => Kind::DatabaseAway,
        4 => Kind::NoRedis(n),
        5 => Kind::RedisAway,
        6 => Kind::Flush,
        7 => Kind::Restore(rng.range(0, 8 * SECOND)),
        8 | 9 => {
            let most = [5 * MILLI, 500 * MILLI, 3 * SECOND][rng.below(3)];
            Kind::FailOver { lost: rng.range(0, most), at_once: rng.one_in(2) }
        }
        10 => Kind::Crash(n),
        _ => Kind::Clock(n, rng.range(-10 * MILLI, 10 * MILLI + 1)),
    }
}

impl World {
    pub(crate) fn fault(&mut self, index: usize) {
        let Fault { lasts, kind, .. } = self.faults[index];
        self.say(|| format!("{kind:?}, for {} ms", lasts / MILLI));
        self.check.spread(self.now, &self.nodes, self.redis.master());
        let all = 0..self.nodes.len();
        match kind {
            Kind::NoDatabase(n) => self.cut_database(n),
            Kind::DatabaseAway => all.for_each(|n| self.cut_database(n)),
            Kind::NoRedis(n) => self.cut_redis(n),
            Kind::RedisAway => all.for_each(|n| self.cut_redis(n)),
            Kind::Flush => self.lose(i64::MIN, Redis::restore),
            Kind::Restore(depth) => self.lose(self.now - depth, Redis::restore),
            Kind::FailOver { lost, at_once } => {
                self.lose(self.now - lost, Redis::fail_over);
                for n in all {
                    let delay = if at_once { 0 } else { self.rng.range(0, 2 * SECOND) };
                    self.later(delay, Event::Attach(n));
                }
            }
            Kind::Crash(n) => self.nodes[n].up = false,
            Kind::Clock(n, skew) => self.nodes[n].skew = skew,
            Kind::Revoke(n) | Kind::Change(n) | Kind::Unrelated(n) => self.administer(index, n, kind),
            Kind::Theft => {
                self.clients[1].token = self.clients[0].token;
                // And waits for its moment.
                self.later(lasts, Event::Act(1));
            }
        }
        if matches!(
            kind,
            Kind::NoDatabase(_) | Kind::DatabaseAway | Kind::NoRedis(_) | Kind::RedisAway | Kind::Crash(_)
        ) {
            self.later(lasts, Event::FaultEnds(index));
        }
    }

    pub(crate) fn fault_ends(&mut self, index: usize) {
        let kind = self.faults[index].kind;
        self.say(|| format!("over: {kind:?}"));
        let all = 0..self.nodes.len();
        match kind {
            Kind::NoDatabase(n) => self.mend_database(n),
            Kind::DatabaseAway => all.for_each(|n| self.mend_database(n)),
            Kind::NoRedis(n) => self.mend_redis(n),
            Kind::RedisAway => all.for_each(|n| self.mend_redis(n)),
            Kind::Crash(n) if !self.nodes[n].up => self.start_node(n),
            _ => {}
        }
    }

    fn cut_database(&mut self, n: usize) {
        self.nodes[n].database_cuts += 1;
        self.nodes[n].database_since = i64::MAX;
    }

    fn mend_database(&mut self, n: usize) {
        self.nodes[n].database_cuts -= 1;
        // Something under way may be waiting for an answer that never comes.
        if self.nodes[n].database_cuts == 0 {
            self.nodes[n].database_since = self.now + 2_200 * MILLI;
        }
    }

    fn cut_redis(&mut self, n: usize) {
        if self.nodes[n].redis_cuts == 0 {
            self.nodes[n].blind_since = self.now;
        }
        self.nodes[n].redis_cuts += 1;
        self.nodes[n].redis_since = i64::MAX;
    }

    fn mend_redis(&mut self, n: usize) {
        self.nodes[n].redis_cuts -= 1;
        if self.nodes[n].redis_cuts == 0 {
            self.nodes[n].redis_since = self.now + 200 * MILLI;
            self.check.sees_again(self.now, n, &self.nodes[n]);
        }
    }

    /// The hot state is as it was at `moment`.
    fn lose(&mut self, moment: i64, how: fn(&mut Redis, i64, i64)) {
        self.check.owe(self.now, &self.nodes);
        self.check.lost(self.now, moment, &self.nodes, self.redis.master());
        how(&mut self.redis, self.now, moment);
    }

    pub(crate) fn attach(&mut self, n: usize) {
        self.check.owe(self.now, &self.nodes);
        self.nodes[n].server = self.redis.master();
        self.nodes[n].attached = self.now;
    }

    /// A transaction at a node; who asked for it hears of it unless the link is cut meanwhile.
    fn administer(&mut self, index: usize, n: usize, kind: Kind) {
        if !self.nodes[n].reaches_database() || self.nodes[n].complete.is_none() {
            return;
        }
        let revocation = match kind {
            Kind::Revoke(_) => {
                self.database.row.alive = false;
                self.check.excused = true;
                Revocation::Session { session: session(1) }
            }
            Kind::Change(_) => {
                self.database.row.claims += 1;
                Revocation::User { user: user(1), epoch: 0, spared: None }
            }
            _ => Revocation::Session { session: session(2) },
        };
        let entry = self.database.append(self.now, revocation);
        self.faults[index].lasts = entry.number;
        let delay = self.io();
        self.later(delay, Event::AdminDone(index));
    }

    pub(crate) fn admin_done(&mut self, index: usize) {
        let Fault { lasts: number, kind, .. } = self.faults[index];
        let (Kind::Revoke(n) | Kind::Change(n) | Kind::Unrelated(n)) = kind else { return };
        let entry = usize::try_from(number - 1).ok().and_then(|place| self.database.feed.get(place)).cloned();
        let Some(entry) = entry.filter(|_| self.nodes[n].reaches_database()) else { return };
        self.committed(n, &entry);
        let claims = self.database.row.claims;
        match kind {
            Kind::Revoke(_) => self.check.revoked(self.now, number),
            Kind::Change(_) => self.check.changed(self.now, number, claims),
            _ => {}
        }
        self.say(|| format!("acknowledged: {kind:?}, entry {number}"));
    }
}
