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
    assert!(admit(&mut backlog, now, Duration::ZERO).is_none(), "late from the start, though a thread is free");
    let late = admit(&mut backlog, now, SECOND).unwrap();
    let in_time = admit(&mut backlog, now, 2 * SECOND).unwrap();
    let next = backlog.next(now + SECOND).unwrap();
    assert!(Rc::ptr_eq(&next.sent_away, &in_time.sent_away));
    assert_eq!(late.sent_away.get(), Some(SECOND), "told, not forgotten");
    assert_eq!(backlog.stats(COST).skipped, 1);
    assert!(admit(&mut backlog, now, Duration::ZERO).is_none(), "late from the start, and nothing known of the pace");
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

#[test]
fn a_place_that_was_kept_is_good_whoever_came_later() {
    let now = monotonic_now();
    let mut backlog = practised(1, 100, now);
    let first = backlog.keep(COST, now + SECOND, now).unwrap();
    assert_eq!(backlog.keep(COST, now + SECOND, now), Err(SECOND), "the kept one counts as work ahead");
    let second = backlog.keep(COST, now + 2 * SECOND, now).unwrap();
    let entry = Fake::new(2 * COST, now + SECOND);
    backlog.admit_kept(entry.clone(), first, now);
    assert_eq!(entry.sent_away.get(), None, "though with the other one it may come too late");
    assert_eq!(backlog.retry_after(), 3 * SECOND, "it counts as what it is");
    assert!(backlog.give_back(second));
    assert!(!backlog.give_back(second), "once");
    assert_eq!(backlog.retry_after(), 2 * SECOND);
    assert!(backlog.next(now).is_some());
}

#[test]
fn a_place_is_kept_no_longer_than_its_deadline() {
    let now = monotonic_now();
    let mut backlog = practised(1, 1, now);
    let late = backlog.keep(COST, now + SECOND, now).unwrap();
    backlog.keep(COST, now + 3 * SECOND, now).unwrap();
    assert!(backlog.keep(COST, now + 9 * SECOND, now).is_err(), "there is room for two");
    let later = now + SECOND;
    assert!(backlog.keep(COST, later + 9 * SECOND, later).is_ok(), "that of the first is over");
    assert!(!backlog.give_back(late));
    let entry = Fake::new(COST, later + SECOND);
    backlog.admit_kept(entry.clone(), late, later);
    assert!(entry.sent_away.get().is_some(), "and it is like any other who comes now");
    assert_eq!(backlog.retry_after(), 2 * SECOND);
}
