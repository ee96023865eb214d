//! Who waits, who runs, and who is sent away: the arithmetic of the hashing pool. No threads and no clock in here.

use std::{
    collections::VecDeque,
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

/// The queue in front of the threads.
pub(super) struct Backlog<E> {
    threads: usize,
    limit: usize,
    waiting: VecDeque<E>,
    /// The cost of all that wait or run.
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
            pending: 0,
            pace: Pace::default(),
            stats: QueueStats::default(),
        }
    }

    /// Queues an entry, or sends it away at once if there is no room or it would not be done in time.
    pub(super) fn admit(&mut self, entry: E, now: Instant) {
        if !self.has_room_for(&entry, now) {
            // Whoever has given up must not take the place of somebody who still waits.
            self.drop_abandoned();
            if !self.has_room_for(&entry, now) {
                self.stats.shed += 1;
                entry.send_away(self.retry_after());
                return;
            }
        }
        self.pending += entry.cost();
        self.waiting.push_back(entry);
    }

    fn has_room_for(&self, entry: &E, now: Instant) -> bool {
        let patience = entry.deadline().saturating_duration_since(now);
        let ahead = self.stats.running + self.waiting.len();
        if ahead < self.threads {
            // A thread is free. Whether it will be done in time is not asked: the estimate may be wrong, and can only be
            // corrected by hashing.
            return !patience.is_zero();
        }
        ahead < self.threads.saturating_add(self.limit)
            && self.drain_time() + self.pace.time_for(entry.cost()) <= patience
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
mod tests {
    use std::{cell::Cell, rc::Rc};

    use super::*;
    use crate::crypto::monotonic_now;

    const SECOND: Duration = Duration::from_secs(1);
    const COST: u64 = 800;

    #[derive(Clone)]
    struct Fake {
        cost: u64,
        deadline: Instant,
        abandoned: Rc<Cell<bool>>,
        sent_away: Rc<Cell<Option<Duration>>>,
    }

    impl Fake {
        fn new(cost: u64, deadline: Instant) -> Self {
            Self { cost, deadline, abandoned: Rc::default(), sent_away: Rc::default() }
        }
    }

    impl Entry for Fake {
        fn cost(&self) -> u64 {
            self.cost
        }
        fn deadline(&self) -> Instant {
            self.deadline
        }
        fn is_abandoned(&self) -> bool {
            self.abandoned.get()
        }
        fn send_away(self, retry_after: Duration) {
            self.sent_away.set(Some(retry_after));
        }
    }

    /// Admits an entry of cost [`COST`] and tells whether it was let in.
    fn admit(backlog: &mut Backlog<Fake>, now: Instant, patience: Duration) -> Option<Fake> {
        let entry = Fake::new(COST, now + patience);
        backlog.admit(entry.clone(), now);
        entry.sent_away.get().is_none().then_some(entry)
    }

    /// A backlog that has learnt that [`COST`] takes a second.
    fn practised(threads: usize, limit: usize, now: Instant) -> Backlog<Fake> {
        let mut backlog = Backlog::new(threads, limit);
        admit(&mut backlog, now, SECOND).unwrap();
        backlog.next(now).unwrap();
        backlog.done(COST, SECOND);
        backlog
    }

    #[test]
    fn the_queue_is_bounded_however_patient_its_callers() {
        let now = monotonic_now();
        let mut backlog = Backlog::new(2, 3);
        for _ in 0..5 {
            assert!(admit(&mut backlog, now, 1_000 * SECOND).is_some(), "two to run, three to wait");
        }
        assert!(admit(&mut backlog, now, 1_000 * SECOND).is_none());
        backlog.next(now).unwrap();
        assert!(admit(&mut backlog, now, 1_000 * SECOND).is_none(), "running counts");
        backlog.done(COST, SECOND);
        assert!(admit(&mut backlog, now, 1_000 * SECOND).is_some());
        assert_eq!(backlog.stats(COST).shed, 2);
    }

    #[test]
    fn whoever_would_come_too_late_is_sent_away_at_once() {
        let now = monotonic_now();
        let mut backlog = practised(1, 100, now);
        assert!(admit(&mut backlog, now, SECOND / 1000).is_some(), "a thread is free: the estimate is not asked");
        assert!(admit(&mut backlog, now, 19 * SECOND / 10).is_none(), "one second of waiting, one of work");
        assert!(admit(&mut backlog, now, 2 * SECOND).is_some());
        assert!(admit(&mut backlog, now, 2 * SECOND).is_none());
        assert!(admit(&mut backlog, now, 3 * SECOND).is_some());
        assert_eq!(backlog.stats(COST).queued, 3);
        assert_eq!(backlog.retry_after(), 3 * SECOND);

        let mut two_threads = practised(2, 100, now);
        for _ in 0..4 {
            assert!(admit(&mut two_threads, now, 3 * SECOND).is_some());
        }
        assert!(admit(&mut two_threads, now, 29 * SECOND / 10).is_none());
        assert!(admit(&mut two_threads, now, 3 * SECOND).is_some(), "two threads halve the wait");
    }

    #[test]
    fn a_heavy_hash_counts_for_what_it_costs() {
        let now = monotonic_now();
        let mut backlog = practised(1, 100, now);
        backlog.admit(Fake::new(10 * COST, now + SECOND), now);
        assert!(admit(&mut backlog, now, 10 * SECOND).is_none(), "ten seconds of waiting, one of work");
        assert!(admit(&mut backlog, now, 11 * SECOND).is_some());
        backlog.next(now).unwrap();
        backlog.done(10 * COST, 10 * SECOND);
        assert_eq!(backlog.stats(COST).mean, SECOND, "and says nothing new about the pace");
    }

    #[test]
    fn a_wrong_estimate_is_unlearnt() {
        let now = monotonic_now();
        let mut backlog = practised(1, 100, now);
        backlog.pace = Pace { nanos: u64::MAX / 8, cost: 1 };
        for _ in 0..400 {
            assert!(admit(&mut backlog, now, SECOND).is_some(), "a free thread is always given work");
            backlog.next(now).unwrap();
            backlog.done(COST, SECOND / 100);
        }
        assert!(backlog.stats(COST).mean < SECOND / 50, "{:?}", backlog.stats(COST).mean);
    }

    #[test]
    fn nobody_waits_for_those_who_gave_up() {
        let now = monotonic_now();
        let mut backlog = Backlog::new(1, 2);
        let entries: Vec<_> = (0..3).map(|_| admit(&mut backlog, now, SECOND).unwrap()).collect();
        assert!(admit(&mut backlog, now, SECOND).is_none());
        entries[1].abandoned.set(true);
        assert!(admit(&mut backlog, now, SECOND).is_some(), "took the place of the one who gave up");
        entries[0].abandoned.set(true);
        assert!(Rc::ptr_eq(&backlog.next(now).unwrap().abandoned, &entries[2].abandoned));
        assert_eq!(backlog.stats(COST).skipped, 2);
    }

    #[test]
    fn what_is_late_is_not_begun() {
        let now = monotonic_now();
        let mut backlog = Backlog::new(1, 10);
        assert!(admit(&mut backlog, now, Duration::ZERO).is_none(), "late from the start");
        let late = admit(&mut backlog, now, SECOND).unwrap();
        let in_time = admit(&mut backlog, now, 2 * SECOND).unwrap();
        let next = backlog.next(now + SECOND).unwrap();
        assert!(Rc::ptr_eq(&next.sent_away, &in_time.sent_away));
        assert_eq!(late.sent_away.get(), Some(SECOND), "told, not forgotten");
        assert_eq!(backlog.stats(COST).skipped, 1);
    }

    #[test]
    fn the_books_balance() {
        let now = monotonic_now();
        let mut backlog = practised(2, 50, now);
        let entries: Vec<_> = (0..40).map(|_| admit(&mut backlog, now, 100 * SECOND).unwrap()).collect();
        entries.iter().step_by(3).for_each(|entry| entry.abandoned.set(true));
        for _ in 0..10 {
            backlog.next(now).unwrap();
            backlog.done(COST, SECOND);
        }
        backlog.drop_abandoned();
        backlog.clear();
        assert_eq!(backlog.pending, 0);
        let stats = backlog.stats(COST);
        assert_eq!((stats.queued, stats.running), (0, 0));
        assert_eq!(stats.hashed + stats.skipped, 41);
    }
}
