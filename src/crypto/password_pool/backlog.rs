//! Who waits, who runs, and who is sent away: the arithmetic of the hashing pool. No threads and no clock in here.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

/// The shortest and longest time a caller is told to stay away.
const RETRY: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(30);

/// Something that waits for a thread.
pub(super) trait Entry {
    /// The work in it, in any unit that time is proportional to.
    fn cost(&self) -> u64;
    /// When its result is of no use any more.
    fn deadline(&self) -> Instant;
    /// Whether nobody waits for its result any more.
    fn is_abandoned(&self) -> bool;
    /// Tells whoever waits that it was not done, and when to come again.
    fn send_away(self, retry_after: Duration);
}

/// What the pool is doing, for metrics. The counts only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueStats {
    /// Hashes waiting for a thread now.
    pub queued: usize,
    /// Hashes being computed now, at most one per thread.
    pub running: usize,
    /// How long a hash with today's parameters takes, by the latest ones; zero before the first.
    pub mean: Duration,
    /// Hashes computed.
    pub hashed: u64,
    /// Callers sent away because the queue was full or their turn would have come too late.
    pub shed: u64,
    /// Hashes that were queued but skipped: the deadline had passed or the caller had gone.
    pub skipped: u64,
}

/// How long work takes: time and cost of the latest work, older work counting ever less. Two averages rather than one
/// average of ratios, so that a tiny job, whose time is mostly overhead, says little.
#[derive(Default)]
struct Pace {
    nanos: u64,
    cost: u64,
}

impl Pace {
    fn learn(&mut self, cost: u64, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let blend = |old: u64, new: u64| if self.cost == 0 { new } else { old - old / 8 + new / 8 };
        (self.nanos, self.cost) = (blend(self.nanos, nanos), blend(self.cost, cost).max(1));
    }

    /// The time for work of this cost; zero as long as nothing is known.
    fn time_for(&self, cost: u64) -> Duration {
        let nanos = u128::from(self.nanos) * u128::from(cost) / u128::from(self.cost.max(1));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// A place that is kept for an entry to come. The earlier its deadline, the less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct KeptPlace {
    deadline: Instant,
    number: u64,
}

/// The queue in front of the threads.
pub(super) struct Backlog<E> {
    threads: usize,
    limit: usize,
    waiting: VecDeque<E>,
    /// Places that are kept for entries to come, and what these cost.
    kept: BTreeMap<KeptPlace, u64>,
    /// The number of the next of them.
    number: u64,
    /// The cost of all that wait or run, or that a place is kept for.
    pending: u64,
    pace: Pace,
    stats: QueueStats,
}

impl<E: Entry> Backlog<E> {
    /// For `threads` threads and at most `limit` entries beyond those that the threads can take up at once.
    pub(super) fn new(threads: usize, limit: usize) -> Self {
        Self {
            threads,
            limit,
            waiting: VecDeque::new(),
            kept: BTreeMap::new(),
            number: 0,
            pending: 0,
            pace: Pace::default(),
            stats: QueueStats::default(),
        }
    }

    /// Queues an entry, or sends it away at once if there is no room or it would not be done in time.
    pub(super) fn admit(&mut self, entry: E, now: Instant) {
        if let Some(retry_after) = self.refusal(entry.cost(), entry.deadline(), now) {
            return entry.send_away(retry_after);
        }
        self.pending += entry.cost();
        self.waiting.push_back(entry);
    }

    /// Keeps a place for an entry of this cost, until [`Backlog::give_back`] or the deadline; otherwise when to come again.
    pub(super) fn keep(&mut self, cost: u64, deadline: Instant, now: Instant) -> Result<KeptPlace, Duration> {
        if let Some(retry_after) = self.refusal(cost, deadline, now) {
            return Err(retry_after);
        }
        let place = KeptPlace { deadline, number: self.number };
        self.number += 1;
        self.kept.insert(place, cost);
        self.pending += cost;
        Ok(place)
    }

    /// A place that was kept is free again. Whether it still was.
    pub(super) fn give_back(&mut self, place: KeptPlace) -> bool {
        let cost = self.kept.remove(&place);
        self.pending -= cost.unwrap_or(0);
        cost.is_some()
    }

    /// Queues an entry at a place that was kept. It is not sent away any more: whoever came later and keeps a place too must not push it
    /// out, and what was done meanwhile must not have been done for nothing.
    pub(super) fn admit_kept(&mut self, entry: E, place: KeptPlace, now: Instant) {
        if !self.give_back(place) {
            return self.admit(entry, now);
        }
        self.pending += entry.cost();
        self.waiting.push_back(entry);
    }

    /// Frees what was kept for those whose time is up: a database that does not answer must not hold up those who need none.
    fn drop_overdue(&mut self, now: Instant) {
        while let Some(place) = self.kept.first_entry().filter(|place| place.key().deadline <= now) {
            self.pending -= place.remove();
        }
    }

    /// When to come again, if an entry like this would be sent away now. Counts it as sent away.
    fn refusal(&mut self, cost: u64, deadline: Instant, now: Instant) -> Option<Duration> {
        self.drop_overdue(now);
        if !self.has_room_for(cost, deadline, now) {
            // Whoever has given up must not take the place of somebody who still waits.
            self.drop_abandoned();
            if !self.has_room_for(cost, deadline, now) {
                self.stats.shed += 1;
                return Some(self.retry_after());
            }
        }
        None
    }

    fn has_room_for(&self, cost: u64, deadline: Instant, now: Instant) -> bool {
        let patience = deadline.saturating_duration_since(now);
        let ahead = self.stats.running + self.waiting.len() + self.kept.len();
        if patience.is_zero() {
            false
        } else if ahead < self.threads {
            // A thread is free. Whether it will be done in time is not asked: the estimate may be wrong, and can only be
            // corrected by hashing.
            true
        } else {
            ahead < self.threads.saturating_add(self.limit) && self.drain_time() + self.pace.time_for(cost) <= patience
        }
    }

    fn drop_abandoned(&mut self) {
        let (before, pending) = (self.waiting.len(), &mut self.pending);
        self.waiting.retain(|entry| {
            let abandoned = entry.is_abandoned();
            if abandoned {
                *pending -= entry.cost();
            }
            !abandoned
        });
        self.stats.skipped += (before - self.waiting.len()) as u64;
    }

    /// The next entry worth doing, which counts as running until [`Backlog::done`]. Those that nobody waits for any more
    /// are skipped.
    pub(super) fn next(&mut self, now: Instant) -> Option<E> {
        while let Some(entry) = self.waiting.pop_front() {
            if !entry.is_abandoned() && now < entry.deadline() {
                self.stats.running += 1;
                return Some(entry);
            }
            self.pending -= entry.cost();
            self.stats.skipped += 1;
            entry.send_away(self.retry_after());
        }
        None
    }

    /// An entry of this cost was done in this time.
    pub(super) fn done(&mut self, cost: u64, took: Duration) {
        self.pending -= cost;
        self.pace.learn(cost, took);
        self.stats.running -= 1;
        self.stats.hashed += 1;
    }

    /// Forgets all who wait.
    pub(super) fn clear(&mut self) {
        for entry in self.waiting.drain(..) {
            self.pending -= entry.cost();
            self.stats.skipped += 1;
        }
    }

    /// How long until all that is pending is done.
    fn drain_time(&self) -> Duration {
        self.pace.time_for(self.pending / self.threads as u64)
    }

    /// When somebody who is sent away now should come again: after the present backlog.
    pub(super) fn retry_after(&self) -> Duration {
        self.drain_time().clamp(*RETRY.start(), *RETRY.end())
    }

    /// The state of things; `usual_cost` is the cost that [`QueueStats::mean`] is about.
    pub(super) fn stats(&self, usual_cost: u64) -> QueueStats {
        QueueStats { queued: self.waiting.len(), mean: self.pace.time_for(usual_cost), ..self.stats }
    }
}

#[cfg(test)]
mod tests;
