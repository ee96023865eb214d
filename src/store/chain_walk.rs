//! Following one lane of the audit trail from event to event: what fits, and where something is wrong. Where the events come
//! from does not matter: the database, an export, or what is about to be removed.

use crate::{
    crypto::audit_chain::{ChainHash, ChainedEvent, NOTHING, Place},
    domain::id::EventId,
    store::port::{ChainFault, ChainLink, FaultKind},
};

/// So many places of one gap are told at most, so that it hides nothing behind it.
const GAP: i64 = 20;

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

    /// Adds the places from `first` on to before `end`, at which events are missing.
    fn push_gap(&mut self, lane: i64, first: i64, end: i64) {
        let told = end.min(first.saturating_add(GAP));
        for position in first..told {
            self.push(FaultKind::Missing, Place { lane, position }, None);
        }
        self.more |= told < end;
    }

    /// Whether nothing was found.
    pub(crate) const fn is_empty(&self) -> bool {
        self.found.is_empty() && !self.more
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
        faults.push_gap(lane, next, step.position);
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

    /// Holds what was passed behind `since` against what somebody saw there before: it is there, with that hash.
    pub(crate) fn compare(&self, since: i64, checkpoint: &[ChainLink], faults: &mut Faults) {
        for seen in self.of_lane(checkpoint) {
            let Place { position, .. } = seen.place;
            if position > since && position <= self.last.place.position && *seen != self.last {
                faults.push(FaultKind::Checkpoint, seen.place, None);
            }
        }
    }

    /// What somebody saw behind `since` and nobody can see any more, where this begins behind what was removed for its age.
    pub(crate) fn removed(&self, since: i64, checkpoint: &[ChainLink]) -> Vec<ChainLink> {
        let base = self.last.place.position;
        let is_gone = |seen: &&ChainLink| seen.place.position > since && seen.place.position < base;
        self.of_lane(checkpoint).filter(is_gone).copied().collect()
    }

    /// At the end: what somebody saw there before, and it did not come.
    pub(crate) fn misses(&self, checkpoint: &[ChainLink], faults: &mut Faults) {
        for seen in self.of_lane(checkpoint).filter(|seen| seen.place.position > self.last.place.position) {
            faults.push(FaultKind::Checkpoint, seen.place, None);
        }
    }

    fn of_lane<'c>(&self, checkpoint: &'c [ChainLink]) -> impl Iterator<Item = &'c ChainLink> {
        let lane = self.last.place.lane;
        checkpoint.iter().filter(move |seen| seen.place.lane == lane)
    }
}

#[cfg(test)]
mod tests;
