//! A refresh while the database is away. Mirrors `service/refresh/by_record.rs` (`refresh_in_outage`) and `service/feed/mod.rs`
//! (`may_carry`). What decides is the domain's own.

use std::time::Duration;

use crate::{
    call::{Outcome, Path},
    domain::{
        hot::{FeedHead, FeedPosition, HotRecord, Outage, may_carry},
        refresh::{Decision, decide},
        time::Timestamp,
    },
    stores::{INCARNATION, Kept, session},
    world::{Event, Mutant, World},
};

impl World {
    fn refuse(&mut self, c: usize) {
        self.answer(c, Outcome::Unavailable, Path::Grace);
    }

    /// The record may decide, if it has not been written past here and the head allows it.
    pub(crate) fn in_outage(&mut self, c: usize, found: &Kept<HotRecord>) {
        let node = &self.nodes[self.calls[c].node];
        let Some((_, record)) = found else { return self.refuse(c) };
        let past = node.is_past(record.family.generation) && self.rules != Some(Mutant::PastNotAsked);
        if past || node.unfollowed.is_some() || node.is_overtaken() || node.progress.position().is_none() {
            return self.refuse(c);
        }
        self.calls[c].carried.clone_from(found);
        // Before the head is read.
        self.calls[c].last_head = node.progress.last_head;
        self.calls[c].head = None;
        let delay = self.io();
        self.later(delay, Event::CarryRead(c));
    }

    pub(crate) fn carry_read(&mut self, c: usize) {
        let node = &self.nodes[self.calls[c].node];
        let delay = if node.reaches_redis() {
            self.calls[c].head = self.redis.servers[node.server].head.as_ref().map(|(_, head)| **head);
            self.io()
        } else {
            self.silence()
        };
        self.later(delay, Event::CarryDone(c));
    }

    pub(crate) fn carry_done(&mut self, c: usize) {
        if self.dropped(c) {
            return;
        }
        let found = self.calls[c].carried.take();
        let Some((_, record)) = &found else { return self.refuse(c) };
        let n = self.calls[c].node;
        let head = self.calls[c].head.filter(|_| self.nodes[n].reaches_redis());
        let allowed = self.may_carry(n, record, head, self.calls[c].last_head);
        if let Some(head) = head {
            self.nodes[n].progress.saw(head);
        }
        if !allowed {
            return self.refuse(c);
        }
        let now = self.nodes[n].clock(self.now);
        let (family, claims) = (record.family, record.held.names.len());
        match decide(&family, self.presented(c), self.window, now, 1) {
            Decision::Rotate { next, state_lost: false } if self.calls[c].tries > 0 => {
                let next = HotRecord { family: next, ..(**record).clone() };
                self.make_move(c, &found, next);
            }
            Decision::Redeliver => self.answer(c, Outcome::Granted { family, claims, late: false }, Path::Grace),
            Decision::Overtaken => self.answer(c, Outcome::Overtaken, Path::Grace),
            Decision::Rotate { .. } | Decision::RedeliverLate { .. } | Decision::Replay => self.refuse(c),
        }
    }

    fn may_carry(
        &self,
        n: usize,
        record: &HotRecord,
        mut head: Option<FeedHead>,
        mut last_head: Option<FeedHead>,
    ) -> bool {
        let node = &self.nodes[n];
        let lasts = node.complete.map_or(i64::MAX, |last| self.now - last.began);
        let Some(mut known) = node.progress.position() else { return false };
        match self.rules {
            Some(Mutant::HeadNotChecked) => {
                head = last_head.or(head);
                last_head = head;
                known.number = head.map_or(0, |head| head.number).max(known.number);
            }
            Some(Mutant::RecordsSinceIgnored) => {
                for head in [&mut head, &mut last_head].into_iter().flatten() {
                    head.records_since = Timestamp::from_micros(0);
                }
            }
            _ => {}
        }
        let outage = Outage {
            lasts: Duration::from_micros(u64::try_from(lasts).unwrap_or(u64::MAX)),
            grace: self.grace,
            known: FeedPosition { incarnation: INCARNATION, number: known.number },
            head,
            last_head,
            changes: node.progress.changes(),
            said: record.said,
        };
        may_carry(session(1), record, &outage).is_ok()
    }
}
