//! A refresh that goes to the locked row, and its record that follows. Mirrors `service/refresh/by_record.rs`
//! (`refresh_by_row`, `bring_up_record`), `service/hot/mod.rs` (`raise`, `follow_rows`) and `store/queries/refresh.rs`.

use std::rc::Rc;

use crate::{
    call::{Outcome, Path},
    domain::{
        hot::HotRecord,
        refresh::{Decision, Family, decide},
        revocation::Revocation,
    },
    refresh::{REDIS_PATIENCE, TRIES},
    stores::{Row, record_of, session},
    world::{Event, Mutant, World},
};

/// What is known of the hot record when the row decides.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Record {
    Found(Option<Family>),
    OutOfReach(Option<Family>),
}

/// What the row's transaction came to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ByRow {
    outcome: Outcome,
    /// Whether it stored something.
    stored: bool,
    /// The row as the transaction left it.
    row: Row,
}

impl World {
    pub(crate) fn by_row(&mut self, c: usize, record: Record) {
        self.calls[c].known = record;
        let delay = self.slow_io();
        if self.calls[c].given_up {
            let sooner = self.rng.range(0, delay);
            self.later(sooner, Event::Cancelled(c));
        }
        self.later(delay, Event::Locked(c));
    }

    /// `Tx::refresh`: in a task of its own, so it happens whether or not anybody waits.
    pub(crate) fn locked(&mut self, c: usize) {
        let n = self.calls[c].node;
        if !self.lives(n, self.calls[c].life) {
            return;
        }
        if !self.nodes[n].reaches_database() {
            let delay = self.failing();
            return self.later(delay, Event::LockedDone(c));
        }
        let delay = self.io();
        self.later(delay, Event::LockedDone(c));
        let now = self.nodes[n].clock(self.now);
        let mut row = self.database.row;
        let (Record::Found(hot) | Record::OutOfReach(hot)) = self.calls[c].known;
        let granted = |family, late| Outcome::Granted { family, claims: row.claims, late };
        let (outcome, stored, family) = if row.alive {
            let family = hot.map_or(row.family, |hot| row.family.merged(hot));
            match decide(&family, self.presented(c), self.window, now, 1) {
                Decision::Rotate { next, .. } => (granted(next, false), true, next),
                Decision::Redeliver => (granted(family, false), false, family),
                // It counts against its owner only if somebody waits for it.
                Decision::RedeliverLate { .. } if self.calls[c].gone => (Outcome::Overtaken, false, family),
                Decision::RedeliverLate { next } => (granted(next, true), true, next),
                Decision::Overtaken => (Outcome::Overtaken, false, family),
                Decision::Replay => {
                    let heeded = !self.calls[c].gone || self.rules == Some(Mutant::ReplayWithoutCaller);
                    if heeded {
                        self.end_session(n);
                    }
                    (if heeded { Outcome::Replayed } else { Outcome::Overtaken }, false, family)
                }
            }
        } else {
            (Outcome::Ended, false, row.family)
        };
        row.family = family;
        if stored {
            self.database.row.family = family;
            if matches!(outcome, Outcome::Granted { late: false, .. }) {
                self.check.made(self.now, &family, n, self.calls[c].life);
            }
            self.check.in_row(self.now, &family);
        }
        self.calls[c].by_row = Some(ByRow { outcome, stored, row });
        // Answers get lost also on their own.
        self.calls[c].overdue = self.rng.one_in(25) && !self.must_serve();
    }

    fn end_session(&mut self, n: usize) {
        self.database.row.alive = false;
        let entry = self.database.append(self.now, Revocation::Session { session: session(1) });
        self.committed(n, &entry);
    }

    pub(crate) fn locked_done(&mut self, c: usize) {
        let n = self.calls[c].node;
        if self.dropped_by_row(c) {
            return;
        }
        if !self.nodes[n].reaches_database() && !self.calls[c].overdue {
            // An answer that does not come is waited for.
            self.calls[c].overdue = true;
            let delay = self.failing();
            return self.later(delay, Event::LockedDone(c));
        }
        match self.calls[c].by_row.filter(|_| !self.calls[c].overdue) {
            Some(ByRow { stored: true, .. }) => {
                self.calls[c].tries = TRIES;
                let delay = self.io();
                self.later(delay, Event::BringRead(c));
            }
            Some(ByRow { outcome, .. }) => self.answer(c, outcome, Path::Row),
            None => {
                // It may have been committed all the same.
                let noted = match self.calls[c].known {
                    Record::Found(_) => false,
                    Record::OutOfReach(_) => self.rules != Some(Mutant::LostCommitNotNoted),
                };
                self.past_its_record(c, noted);
                self.answer(c, Outcome::Unavailable, Path::Row);
            }
        }
    }

    /// The node knows that a row may have gone past its record, and notes it.
    fn past_its_record(&mut self, c: usize, noted: bool) {
        let n = self.calls[c].node;
        self.nodes[n].overtaken += u64::from(noted);
        if let Some(ByRow { stored: true, row, .. }) = self.calls[c].by_row {
            self.check.made_by_row(self.now, n, row.family.generation);
            self.say(|| format!("call {c}: the row went past its record, to {}, noted {noted}", row.family.generation));
        }
    }

    /// `Hot::note_unfollowed`: the node brings the record up when it can.
    fn unfollowed(&mut self, c: usize) {
        let n = self.calls[c].node;
        let Some(ByRow { row, .. }) = self.calls[c].by_row else { return };
        let generation = row.family.generation;
        self.check.unfollowed(self.now, n, generation);
        if self.rules != Some(Mutant::OvertakenNotNoted) {
            let seen = self.calls[c].row.flatten().map_or(0, |row| row.seen);
            let node = &mut self.nodes[n];
            let known = node.unfollowed.as_ref().map_or(row.family, |known| known.family.merged(row.family));
            node.unfollowed = Some(record_of(&Row { seen, ..row }, known));
        }
        self.say(|| format!("call {c}: the row went past its record, to {generation}, which follows later"));
    }

    /// `Hot::follow_rows`: what there is.
    pub(crate) fn raise_read(&mut self, n: usize, life: u32) {
        let node = &mut self.nodes[n];
        let Some(wanted) = node.unfollowed.clone().filter(|_| node.reaches_redis()) else { return };
        let found = self.redis.servers[node.server].record.clone();
        let next = raised(found.as_ref().map(|(_, record)| &**record), &wanted, wanted.family);
        node.raising = Some((found.map(|(stamp, _)| stamp), wanted.family, Rc::new(next)));
        let delay = self.io() + self.io();
        self.later(delay, Event::RaiseSwap(n, life));
    }

    pub(crate) fn raise_swap(&mut self, n: usize, life: u32) {
        let now = self.now;
        let node = &mut self.nodes[n];
        let Some((stamp, wanted, next)) = node.raising.take().filter(|_| node.reaches_redis()) else { return };
        if !self.redis.swap_record(now, node.server, stamp, Rc::clone(&next)) {
            return self.raise_read(n, life);
        }
        let master = node.server == self.redis.master();
        if node.unfollowed.as_ref().is_some_and(|record| record.family == wanted) {
            node.unfollowed = None;
        }
        self.check.in_record(now, &next.family, master);
        self.check.followed(n, wanted.generation);
    }

    /// Whether the call was dropped on its way from the row to the record.
    fn dropped_by_row(&mut self, c: usize) -> bool {
        let dropped = self.dropped(c);
        if dropped && self.lives(self.calls[c].node, self.calls[c].life) {
            self.past_its_record(c, false);
        }
        dropped
    }

    /// `bring_up_record`: what there is.
    pub(crate) fn bring_read(&mut self, c: usize) {
        if self.dropped_by_row(c) {
            return;
        }
        let node = &self.nodes[self.calls[c].node];
        if node.reaches_redis() {
            self.calls[c].carried = self.redis.servers[node.server].record.clone();
            self.bring(c);
        } else {
            self.calls[c].swapped = None;
            let delay = self.silence();
            self.later(delay, Event::BringDone(c));
        }
    }

    fn bring(&mut self, c: usize) {
        let Some(ByRow { row, .. }) = self.calls[c].by_row else { return };
        let seen = self.calls[c].row.flatten().map_or(0, |row| row.seen);
        let from_row = record_of(&Row { seen, ..row }, row.family);
        let next = raised(self.calls[c].carried.as_ref().map(|(_, record)| &**record), &from_row, row.family);
        let call = &mut self.calls[c];
        call.next = Some((call.carried.as_ref().map(|(stamp, _)| *stamp), Rc::new(next)));
        call.swapped = None;
        call.tries -= 1;
        let delay = self.io() + self.io();
        self.swap_soon(delay, Event::BringSwap(c), Event::BringDone(c));
    }

    pub(crate) fn bring_swap(&mut self, c: usize) {
        let (call, now) = (&mut self.calls[c], self.now);
        let node = &self.nodes[call.node];
        let Some((stamp, next)) = &call.next else { return };
        if call.swapped.is_some() || node.life != call.life || !node.reaches_redis() {
            return;
        }
        let done = self.redis.swap_record(now, node.server, *stamp, Rc::clone(next));
        call.swapped = Some(done);
        if done {
            let master = node.server == self.redis.master();
            self.check.in_record(now, &next.family, master);
        } else {
            call.carried = self.redis.servers[node.server].record.clone();
        }
    }

    pub(crate) fn bring_done(&mut self, c: usize) {
        if self.dropped_by_row(c) {
            return;
        }
        let reached = self.nodes[self.calls[c].node].reaches_redis();
        match self.calls[c].swapped.filter(|_| reached) {
            Some(false) if self.calls[c].tries > 0 => return self.bring(c),
            Some(_) => {}
            None => self.unfollowed(c),
        }
        if let Some(ByRow { outcome, .. }) = self.calls[c].by_row {
            self.answer(c, outcome, Path::Row);
        }
    }

    /// A compare-and-set: what is done at the server, and what the node hears of it.
    pub(crate) fn swap_soon(&mut self, delay: i64, swap: Event, done: Event) {
        if self.rng.one_in(100) {
            // Given up by the node, done all the same, and possibly much later.
            let late = self.rng.range(0, 3_000_000);
            self.later(late, swap);
            self.later(REDIS_PATIENCE, done);
        } else {
            let back = self.io();
            self.later(delay, swap);
            self.later(delay + back, done);
        }
    }

    /// How long it takes to find out that the hot state does not answer.
    pub(crate) fn silence(&mut self) -> i64 {
        if self.rng.one_in(2) { self.io() } else { REDIS_PATIENCE }
    }
}

/// `Hot::raise`: what the record should be.
fn raised(found: Option<&HotRecord>, wanted: &HotRecord, family: Family) -> HotRecord {
    match found {
        Some(record) if record.seen.number > wanted.seen.number => {
            HotRecord { family: record.family.merged(family), ..record.clone() }
        }
        Some(record) => HotRecord { family: record.family.merged(family), ..wanted.clone() },
        None => wanted.clone(),
    }
}
