//! A refresh that goes to the locked row, and its record that follows. Mirrors `service/refresh.rs` (`refresh_by_row`,
//! `bring_up_record`) and `store/queries/refresh.rs`.

use std::rc::Rc;

use crate::{
    call::{Outcome, Path},
    domain::{
        hot::HotRecord,
        refresh::{Decision, Family, decide},
        revocation::Revocation,
    },
    refresh::REDIS_PATIENCE,
    stores::session,
    world::{Event, Mutant, World},
};

impl World {
    pub(crate) fn by_row(&mut self, c: usize, hot: Option<Family>) {
        self.calls[c].hot = hot;
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
        if !self.nodes[n].up || self.nodes[n].life != self.calls[c].life {
            return;
        }
        if !self.nodes[n].reaches_database() {
            let delay = self.failing();
            return self.later(delay, Event::LockedDone(c));
        }
        let delay = self.io();
        self.later(delay, Event::LockedDone(c));
        let now = self.nodes[n].clock(self.now);
        let row = self.database.row;
        let granted = |family, late| Outcome::Granted { family, claims: row.claims, late };
        let outcome = if row.alive {
            let family = self.calls[c].hot.map_or(row.family, |hot| row.family.merged(hot));
            match decide(&family, self.presented(c), self.window, now, 1) {
                Decision::Rotate { next, .. } => (granted(next, false), true, next),
                Decision::Redeliver => (granted(family, false), false, family),
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
        if outcome.1 {
            self.database.row.family = outcome.2;
            if matches!(outcome.0, Outcome::Granted { late: false, .. }) {
                self.check.made(self.now, &outcome.2, n, self.calls[c].life);
                self.check.made_by_row(self.now, n, outcome.2.generation);
            }
            self.check.in_row(self.now, &outcome.2);
        }
        self.calls[c].by_row = Some(outcome);
    }

    fn end_session(&mut self, n: usize) {
        self.database.row.alive = false;
        let entry = self.database.append(self.now, Revocation::Session { session: session(1) });
        self.committed(n, &entry);
    }

    pub(crate) fn locked_done(&mut self, c: usize) {
        if self.dropped_by_row(c) {
            return;
        }
        let n = self.calls[c].node;
        let Some((outcome, stored, _)) = self.calls[c].by_row.filter(|_| self.nodes[n].reaches_database()) else {
            // It may have been committed, and no record was there to follow it.
            let blind = self.calls[c].record.as_ref().is_some_and(Option::is_none);
            self.nodes[n].overtaken |= blind && self.rules != Some(Mutant::LostCommitNotNoted);
            return self.answer(c, Outcome::Unavailable, Path::Row);
        };
        if stored {
            let delay = self.io();
            self.later(delay, Event::BringRead(c));
        } else {
            self.answer(c, outcome, Path::Row);
        }
    }

    /// Whether the call was dropped on its way from the row to the record, which is noted.
    fn dropped_by_row(&mut self, c: usize) -> bool {
        let dropped = self.dropped(c);
        let node = &mut self.nodes[self.calls[c].node];
        node.overtaken |= dropped && node.life == self.calls[c].life && self.rules != Some(Mutant::GoneWithoutNote);
        dropped
    }

    /// `bring_up_record`.
    pub(crate) fn bring_read(&mut self, c: usize) {
        if self.dropped_by_row(c) {
            return;
        }
        let Some((outcome, _, family)) = self.calls[c].by_row else { return };
        let node = &self.nodes[self.calls[c].node];
        if !node.reaches_redis() {
            let delay = if self.rng.one_in(2) { self.io() } else { REDIS_PATIENCE };
            return self.later(delay, Event::BringSwap(c));
        }
        let Some((stamp, record)) = &self.redis.servers[node.server].record else {
            return self.answer(c, outcome, Path::Row);
        };
        let next = HotRecord { family: record.family.merged(family), ..(**record).clone() };
        self.calls[c].bringing = Some((Some(*stamp), Rc::new(next)));
        let delay = self.io();
        self.later(delay, Event::BringSwap(c));
    }

    pub(crate) fn bring_swap(&mut self, c: usize) {
        let bringing = self.calls[c].bringing.take();
        let dropped = self.dropped(c);
        let node = &mut self.nodes[self.calls[c].node];
        if node.life != self.calls[c].life {
            return;
        }
        match bringing.filter(|_| node.reaches_redis()) {
            Some((stamp, next)) => {
                if self.redis.swap_record(self.now, node.server, stamp, Rc::clone(&next)) {
                    let master = node.server == self.redis.master();
                    self.check.in_record(self.now, &next.family, master);
                }
            }
            None if self.rules == Some(Mutant::OvertakenNotNoted) => {}
            None => node.overtaken |= !dropped || self.rules != Some(Mutant::GoneWithoutNote),
        }
        if let (false, Some((outcome, ..))) = (dropped, self.calls[c].by_row) {
            self.answer(c, outcome, Path::Row);
        }
    }
}
