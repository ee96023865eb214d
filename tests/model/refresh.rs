//! A refresh on a node, step by step. Mirrors `service/refresh/by_record.rs` (`refresh_by_both`, `refresh_by_record`,
//! `make_move`) and `service/hot/rows.rs`. What decides is the domain's own.

use std::rc::Rc;

use crate::{
    call::{Outcome, Path},
    domain::{
        hot::HotRecord,
        refresh::{Decision, Presented, decide},
    },
    row::Record,
    stores::{Kept, Row, record_of},
    world::{Event, Mutant, World},
};

pub(crate) const TRIES: u32 = 8;
/// A call to the hot state that takes longer is given up, done or not.
pub(crate) const REDIS_PATIENCE: i64 = 100_000;

impl World {
    /// A call's task outlives its caller, but not its process.
    pub(crate) fn dropped(&self, c: usize) -> bool {
        let call = &self.calls[c];
        !self.lives(call.node, call.life) || call.gone && self.rules == Some(Mutant::DiesWithCaller)
    }

    pub(crate) fn arrive(&mut self, c: usize) {
        let n = self.calls[c].node;
        if !self.nodes[n].up || self.nodes[n].complete.is_none() {
            return;
        }
        self.calls[c].given_up = !self.calls[c].waits;
        let arrived = self.nodes[n].clock(self.now);
        let (life, now) = (self.nodes[n].life, self.now);
        let call = &mut self.calls[c];
        (call.life, call.arrived, call.arrived_at, call.has_arrived) = (life, arrived, now, true);
        let old = self.nodes[n].old_row.filter(|(at, _)| now - at < 1_000_000);
        if self.nodes[n].is_away() {
            self.calls[c].row = Some(None);
        } else if let (Some(Mutant::RowReadBefore), Some((_, row))) = (self.rules, old) {
            self.calls[c].row = Some(Some(row));
        } else {
            let delay = self.slow_io();
            self.later(delay, Event::RowRead(c));
        }
        let delay = self.io();
        self.later(delay, Event::RecordRead(c));
    }

    pub(crate) fn row_read(&mut self, c: usize) {
        let n = self.calls[c].node;
        let delay = if self.nodes[n].reaches_database() {
            self.calls[c].row_said = Some(self.database.row);
            self.nodes[n].old_row = Some((self.now, self.database.row));
            self.io()
        } else {
            self.failing()
        };
        self.later(delay, Event::RowDone(c));
    }

    pub(crate) fn row_done(&mut self, c: usize) {
        if self.dropped(c) {
            return;
        }
        let node = &mut self.nodes[self.calls[c].node];
        let call = &mut self.calls[c];
        call.row = Some(call.row_said.filter(|_| node.reaches_database()));
        node.away = if call.row.flatten().is_some() { None } else { Some(self.now) };
        self.both_read(c);
    }

    pub(crate) fn record_read(&mut self, c: usize) {
        let delay = if self.nodes[self.calls[c].node].reaches_redis() {
            self.said(c);
            self.io()
        } else {
            self.silence()
        };
        self.later(delay, Event::RecordDone(c));
    }

    /// What the hot state says at this moment.
    fn said(&mut self, c: usize) {
        let call = &mut self.calls[c];
        let server = self.nodes[call.node].server;
        call.record_said = Some(self.redis.servers[server].record.clone());
        call.from_master = (server == self.redis.master()).then_some(self.check.losses);
    }

    pub(crate) fn record_done(&mut self, c: usize) {
        if self.dropped(c) {
            return;
        }
        let call = &mut self.calls[c];
        let reached = self.nodes[call.node].reaches_redis();
        call.record = Some(call.record_said.take().filter(|_| reached));
        self.both_read(c);
    }

    /// `refresh_by_both`, once both have answered.
    fn both_read(&mut self, c: usize) {
        let call = &self.calls[c];
        let (Some(row), Some(record)) = (call.row, &call.record) else { return };
        match (row, record) {
            (Some(row), _) if !row.alive => self.answer(c, Outcome::Ended, Path::Hot),
            (Some(row), Some(found)) => {
                let found = found.clone();
                self.by_record(c, row, &found);
            }
            (Some(_), None) => self.by_row(c, Record::OutOfReach(None)),
            (None, Some(found)) => {
                let found = found.clone();
                self.in_outage(c, &found);
            }
            (None, None) => self.answer(c, Outcome::Unavailable, Path::Hot),
        }
    }

    pub(crate) fn presented(&self, c: usize) -> Presented {
        Presented { generation: self.calls[c].presented, arrived: self.calls[c].arrived }
    }

    fn by_record(&mut self, c: usize, row: Row, found: &Kept<HotRecord>) {
        let hot = found.as_ref().map(|(_, record)| record.family);
        let n = self.calls[c].node;
        // Whoever made it may have gone before it was noted.
        if let Some(hot) = hot.filter(|hot| hot.generation > row.family.generation) {
            self.nodes[n].note_behind(hot);
        }
        let now = self.nodes[n].clock(self.now);
        let family = match hot {
            Some(hot) if self.rules == Some(Mutant::HotWins) => hot,
            Some(hot) => row.family.merged(hot),
            None => row.family,
        };
        match decide(&family, self.presented(c), self.window, now, 1) {
            Decision::Rotate { next, state_lost: false } if self.calls[c].tries > 0 => {
                let next = record_of(&row, next);
                self.make_move(c, found, next);
            }
            Decision::Redeliver => {
                self.answer(c, Outcome::Granted { family, claims: row.claims, late: false }, Path::Hot);
            }
            Decision::Overtaken => self.answer(c, Outcome::Overtaken, Path::Hot),
            // To be audited, or it has tried for long: the record may not hear of it.
            Decision::Rotate { .. } => self.by_row(c, Record::OutOfReach(hot)),
            Decision::RedeliverLate { .. } | Decision::Replay => self.by_row(c, Record::Found(hot)),
        }
    }

    pub(crate) fn make_move(&mut self, c: usize, found: &Kept<HotRecord>, next: HotRecord) {
        let call = &mut self.calls[c];
        call.tries -= 1;
        call.known = Record::OutOfReach(found.as_ref().map(|(_, record)| record.family));
        call.next = Some((found.as_ref().map(|(stamp, _)| *stamp), Rc::new(next)));
        call.swapped = None;
        let delay = self.io();
        self.swap_soon(delay, Event::Swap(c), Event::SwapDone(c));
    }

    pub(crate) fn swap(&mut self, c: usize) {
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
            let (family, n, life) = (next.family, call.node, call.life);
            self.check.made(now, &family, n, life);
            self.check.in_record(now, &family, master);
        } else {
            self.said(c);
        }
    }

    pub(crate) fn swap_done(&mut self, c: usize) {
        if self.dropped(c) {
            return;
        }
        let reached = self.nodes[self.calls[c].node].reaches_redis();
        let call = &mut self.calls[c];
        let Some((_, next)) = call.next.clone() else { return };
        let in_outage = call.row.is_some_and(|row| row.is_none());
        match call.swapped.filter(|_| reached) {
            Some(true) => {
                self.nodes[call.node].note_behind(next.family);
                self.check.made_by_record(self.now, call.node, next.family.generation);
                let granted = Outcome::Granted { family: next.family, claims: next.held.names.len(), late: false };
                self.answer(c, granted, if in_outage { Path::Grace } else { Path::Hot });
            }
            Some(false) => {
                call.next = None;
                let found = call.record_said.take().flatten();
                match call.row {
                    Some(Some(row)) => self.by_record(c, row, &found),
                    _ => self.in_outage(c, &found),
                }
            }
            None if in_outage => self.answer(c, Outcome::Unavailable, Path::Grace),
            None => {
                // It may have been stored or not. The row makes the same generation again.
                let known = call.known;
                self.by_row(c, known);
            }
        }
    }
}
