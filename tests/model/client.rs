//! The clients: the owner of the session, and sometimes a thief with a token of the owner's.
//!
//! A client presents its newest token, with several callers at once if it likes, to any node; gives up when it likes; and tries
//! again until it has a newer one. Before it presents a newer token it gives up those of its calls that have not reached a node
//! yet: a request that comes after its client went on, and whose client still waits for it, nobody can tell from a thief's.

use crate::{
    call::{Call, Outcome},
    node::{MILLI, SECOND},
    world::{Event, World},
};

#[derive(Debug)]
pub(crate) struct Client {
    /// The newest generation it has. `None`: it has not stolen one yet.
    pub(crate) token: Option<i64>,
    pace: i64,
    calls: Vec<usize>,
    pub(crate) over: bool,
    /// When it first presented its newest token.
    first: Option<i64>,
    /// How many generations in a row took it longer than the window.
    late: u32,
    /// It must be served at the next try.
    last_try: bool,
}

impl Client {
    pub(crate) fn new(token: Option<i64>, pace: i64) -> Self {
        Self { token, pace, calls: Vec::new(), over: false, first: None, late: 0, last_try: false }
    }
}

impl World {
    pub(crate) fn act(&mut self, who: usize) {
        let now = self.now;
        let serve = self.must_serve();
        let client = &mut self.clients[who];
        let Some(token) = client.token else { return };
        if client.over || client.calls.iter().any(|call| self.calls[*call].waits) {
            return;
        }
        client.first.get_or_insert(now);
        client.calls.clear();
        client.last_try = serve;
        let callers = if self.rng.one_in(6) { self.rng.range(2, 5) } else { 1 };
        for _ in 0..callers {
            let n = self.rng.below(self.nodes.len());
            let c = self.calls.len();
            self.calls.push(Call::new(who, n, token));
            self.clients[who].calls.push(c);
            let way = if !serve && self.rng.one_in(30) { self.rng.range(100, 3 * SECOND) } else { self.io() };
            self.later(way, Event::Arrive(c));
            let patience = if serve { 5 * SECOND } else { self.rng.range(5 * MILLI, 1_500 * MILLI) };
            self.later(patience, Event::GiveUp(c));
        }
    }

    pub(crate) fn give_up(&mut self, c: usize) {
        if !self.calls[c].waits {
            return;
        }
        self.cancel(c);
        self.try_again(self.calls[c].who);
    }

    fn cancel(&mut self, c: usize) {
        self.calls[c].waits = false;
        if self.calls[c].has_arrived {
            let way = if self.rng.one_in(10) { self.rng.range(0, 2 * SECOND) } else { self.rng.range(0, 500) };
            self.later(way, Event::Cancelled(c));
        }
    }

    fn try_again(&mut self, who: usize) {
        if !self.clients[who].calls.iter().any(|call| self.calls[*call].waits) {
            let pause = self.rng.range(5 * MILLI, 300 * MILLI);
            self.later(pause, Event::Act(who));
        }
    }

    pub(crate) fn receive(&mut self, c: usize) {
        if !self.calls[c].waits {
            return;
        }
        self.calls[c].waits = false;
        let (who, presented) = (self.calls[c].who, self.calls[c].presented);
        match self.calls[c].outcome.map(|(outcome, _)| outcome) {
            Some(Outcome::Granted { family, .. }) => {
                if self.clients[who].token.is_some_and(|token| token < family.generation) {
                    self.newer_token(who, family.generation);
                }
            }
            Some(Outcome::Replayed | Outcome::Ended) => {
                self.clients[who].over = true;
                self.check.told_over(who, presented);
            }
            Some(Outcome::Unavailable | Outcome::Overtaken) | None => {
                let client = &self.clients[who];
                let newer = client.token.is_some_and(|token| token > presented);
                if client.last_try && who == 0 && !newer {
                    self.check.not_served(&self.calls[c]);
                }
                if !newer {
                    self.try_again(who);
                }
            }
        }
    }

    fn newer_token(&mut self, who: usize, generation: i64) {
        let window = i64::try_from(self.window.as_micros()).unwrap_or(i64::MAX);
        let now = self.now;
        let client = &mut self.clients[who];
        client.token = Some(generation);
        let late = client.first.take().is_some_and(|first| now - first > window - 50 * MILLI);
        client.late = if late { client.late + 1 } else { 0 };
        if who == 0 && client.late >= 2 {
            // One more and it could not be told from a thief.
            self.check.excused = true;
        }
        for c in std::mem::take(&mut client.calls) {
            if self.calls[c].waits && (!self.calls[c].has_arrived || self.rng.one_in(2)) {
                self.cancel(c);
            }
        }
        let pace = self.clients[who].pace;
        let pause = self.rng.range(0, 2 * pace);
        self.later(pause, Event::Act(who));
    }

    /// At the end an honest client has been served since everything is reachable again.
    pub(crate) fn served_at_last(&mut self) {
        let owner = &self.clients[0];
        if !owner.over && owner.first.is_some_and(|first| self.now - first > 6 * SECOND) {
            self.check.never_served();
        }
    }
}
