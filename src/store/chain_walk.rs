//! Following one lane of the audit trail from event to event: what fits, and where something is wrong. Where the events come
//! from does not matter: the database, an export, or what is about to be removed.

use crate::{
    crypto::audit_chain::{ChainHash, ChainedEvent, NOTHING, Place},
    domain::id::EventId,
    store::port::{ChainFault, ChainLink, FaultKind},
};

/// What is wrong, up to a limit.
#[derive(Clone, Debug)]
pub(crate) struct Faults {
    found: Vec<ChainFault>,
    limit: usize,
    more: bool,
}

impl Faults {
    /// None yet.
    pub(crate) const fn up_to(limit: usize) -> Self {
        Self { found: Vec::new(), limit, more: false }
    }

    /// Adds one, or takes note that there are more than the limit.
    pub(crate) fn push(&mut self, kind: FaultKind, place: Place, event: Option<EventId>) {
        if self.found.len() < self.limit {
            self.found.push(ChainFault { kind, place, event });
        } else {
            self.more = true;
        }
    }

    /// Whether nothing was found.
    pub(crate) const fn is_empty(&self) -> bool {
        self.found.is_empty() && !self.more
    }

    /// Whether there was more than is kept.
    pub(crate) const fn is_full(&self) -> bool {
        self.more
    }

    /// Those that are kept, and whether there were more.
    pub(crate) fn into_parts(self) -> (Vec<ChainFault>, bool) {
        (self.found, self.more)
    }
}

/// An event where it claims to stand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step<'a> {
    /// Which of the lane.
    pub(crate) position: i64,
    /// The hash that is stored; none where it is not even the length of one.
    pub(crate) hash: Option<ChainHash>,
    /// What it says; none if that cannot even be read.
    pub(crate) says: Option<ChainedEvent<'a>>,
}

/// How far a lane was followed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Walk {
    last: ChainLink,
    /// What the hash of the last event should have been, if that is not what is stored: whoever changed either one of the two
    /// did not change the other, and the next event tells which.
    instead: Option<ChainHash>,
}

impl Walk {
    /// Begins behind an event.
    pub(crate) const fn behind(last: ChainLink) -> Self {
        Self { last, instead: None }
    }

    /// Begins with the first event of a lane.
    pub(crate) const fn of(lane: i64) -> Self {
        Self::behind(ChainLink { place: Place { lane, position: 0 }, hash: NOTHING })
    }

    /// The last event that was passed.
    pub(crate) const fn last(&self) -> ChainLink {
        self.last
    }

    /// Passes an event: it must be the next one, and be what its hash says.
    pub(crate) fn pass(&mut self, step: Step<'_>, faults: &mut Faults) {
        let lane = self.last.place.lane;
        let (place, event) = (Place { lane, position: step.position }, step.says.map(|says| says.id));
        let next = self.last.place.position.saturating_add(1);
        if step.position < next {
            // Two at one place: the first of them was passed.
            faults.push(FaultKind::Unexpected, place, event);
            return;
        }
        let follows = step.position == next;
        for position in next..step.position {
            if faults.is_full() {
                break;
            }
            faults.push(FaultKind::Missing, Place { lane, position }, None);
        }
        let computed = |previous: &ChainHash| step.says.map(|says| says.hash(place, previous));
        // Behind a gap nobody can tell what an event follows: the next one vouches for what is stored.
        let fits = !follows
            || step.hash.is_some() && {
                computed(&self.last.hash) == step.hash
                    || self.instead.is_some_and(|instead| computed(&instead) == step.hash)
            };
        if !fits || step.hash.is_none() || step.says.is_none() {
            faults.push(FaultKind::Altered, place, event);
        }
        self.instead = if fits { None } else { computed(&self.last.hash) };
        self.last = ChainLink { place, hash: step.hash.unwrap_or(NOTHING) };
    }

    /// Ends where the lane is said to end.
    pub(crate) fn end(&self, head: ChainLink, faults: &mut Faults) {
        let Place { lane, position } = self.last.place;
        if position < head.place.position {
            faults.push(FaultKind::Head, Place { lane, position: position.saturating_add(1) }, None);
        } else if position == head.place.position && self.last.hash != head.hash {
            faults.push(FaultKind::Head, head.place, None);
        }
    }

    /// Holds what was just passed against what somebody saw there before.
    pub(crate) fn compare(&self, checkpoint: &[ChainLink], faults: &mut Faults) {
        for seen in checkpoint.iter().filter(|seen| seen.place == self.last.place && seen.hash != self.last.hash) {
            faults.push(FaultKind::Checkpoint, seen.place, None);
        }
    }
}

#[cfg(test)]
mod tests;
