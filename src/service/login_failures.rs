//! Failed sign-ins in the audit trail: each by itself, unless there are too many of them.
//!
//! Up to [`EACH`] in [`PERIOD`] of one account for one reason are events of their own, with address and agent. More are
//! counted in this node's memory, and each period one event says how many there were. What a node counted and had not yet
//! written when it was killed is lost to the trail; throttling counts by itself and forgets nothing.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use super::Service;
use crate::{
    domain::{
        audit::{Act, Actor, AuditEvent, LoginFailure, Origin},
        id::Subject,
        time::Timestamp,
    },
    store::StoreError,
};

/// How often what was counted is written.
pub(super) const PERIOD: Duration = Duration::from_secs(10);

/// So many in a period are events of their own. Nobody who mistypes gets there, throttling lets through fewer of one account,
/// and an attack that does is told by numbers better than by rows.
const EACH: u32 = 30;

/// So many accounts are counted apart; the failures of all others together, as if of nobody.
const ACCOUNTS: usize = 4_096;

/// Whose sign-ins failed, and why.
type Kind = (Option<Subject>, LoginFailure);

/// What was counted and not recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counted {
    count: u64,
    first: Timestamp,
    last: Timestamp,
}

#[derive(Clone, Copy, Debug)]
struct Tally {
    /// When this period began.
    since: Timestamp,
    /// Events of their own in it.
    own: u32,
    counted: Option<Counted>,
}

/// The failures of this node.
#[derive(Debug, Default)]
pub(super) struct LoginFailures(Mutex<HashMap<Kind, Tally>>);

impl LoginFailures {
    /// Takes note of a failure. Whether it is to be an event of its own; otherwise it has been counted.
    fn note(&self, (subject, cause): Kind, now: Timestamp) -> bool {
        let mut tallies = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = subject.is_none() || tallies.len() < ACCOUNTS || tallies.contains_key(&(subject, cause));
        let kind = (subject.filter(|_| known), cause);
        let tally = tallies.entry(kind).or_insert(Tally { since: now, own: 0, counted: None });
        if tally.is_over(now) {
            (tally.since, tally.own) = (now, 0);
        }
        if tally.own < EACH {
            tally.own += 1;
            return true;
        }
        tally.count(Counted { count: 1, first: now, last: now });
        false
    }

    /// What was counted so far; it is not counted here any more. Forgets whose period is over.
    fn take(&self, now: Timestamp) -> Vec<(Kind, Counted)> {
        let mut tallies = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let counted = tallies.iter_mut().filter_map(|(kind, tally)| Some((*kind, tally.counted.take()?))).collect();
        tallies.retain(|_, tally| !tally.is_over(now));
        counted
    }

    /// Counts again what could not be written.
    fn put_back(&self, kind: Kind, counted: Counted) {
        let mut tallies = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tallies.entry(kind).or_insert(Tally { since: counted.last, own: EACH, counted: None }).count(counted);
    }
}

impl Tally {
    /// A clock that was set back ends it too.
    fn is_over(&self, now: Timestamp) -> bool {
        now < self.since || now.since(self.since) >= PERIOD
    }

    fn count(&mut self, more: Counted) {
        let sum = self.counted.get_or_insert(Counted { count: 0, ..more });
        sum.count = sum.count.saturating_add(more.count);
        sum.first = sum.first.min(more.first);
        sum.last = sum.last.max(more.last);
    }
}

impl Service {
    /// Records that a sign-in failed, or counts it.
    pub(super) async fn record_login_failure(&self, event: AuditEvent) -> Result<(), StoreError> {
        if let Act::LoginFailed { cause, .. } = event.act
            && !self.login_failures.note((event.subject, cause), self.clock.now())
        {
            return Ok(());
        }
        self.store.record(event).await
    }

    /// Writes what was counted.
    pub(super) async fn write_login_failures(&self) {
        let mut failing = None;
        for (kind, counted) in self.login_failures.take(self.clock.now()) {
            if failing.is_none() {
                failing = self.store.record(aggregated(kind, counted)).await.err();
            }
            if failing.is_some() {
                self.login_failures.put_back(kind, counted);
            }
        }
        if let Some(error) = failing {
            tracing::warn!(%error, "failed sign-ins that were counted are not in the audit trail yet");
        }
    }
}

fn aggregated((subject, cause): Kind, Counted { count, first, last }: Counted) -> AuditEvent {
    let act = Act::LoginFailuresAggregated { cause, count, first, last };
    AuditEvent { actor: Actor::Anonymous, subject, act, origin: Origin::default() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::domain::id::UserId;

    const WRONG: LoginFailure = LoginFailure::WrongPassword;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_seconds(1_800_000_000 + second)
    }

    fn user(n: u128) -> Subject {
        UserId::from_uuid(Uuid::from_u128(n)).into()
    }

    fn counted(count: u64, first: i64, last: i64) -> Counted {
        Counted { count, first: at(first), last: at(last) }
    }

    #[test]
    fn so_many_are_events_of_their_own_and_the_others_are_counted() {
        let failures = LoginFailures::default();
        let own = (0..100).filter(|n| failures.note((Some(user(1)), WRONG), at(n / 20))).count();
        assert_eq!(own, usize::try_from(EACH).unwrap());
        assert!(failures.note((Some(user(2)), WRONG), at(4)), "of another account");
        assert!(failures.note((Some(user(1)), LoginFailure::Suspended), at(4)), "for another reason");
        assert!(failures.note((None, WRONG), at(4)), "of nobody");
        assert_eq!(failures.take(at(9)), [((Some(user(1)), WRONG), counted(70, 1, 4))]);
        assert_eq!(failures.take(at(9)), [], "once");
        assert!(!failures.note((Some(user(1)), WRONG), at(9)), "the period goes on");
        assert!(failures.note((Some(user(1)), WRONG), at(10)), "until it is over");
        assert_eq!(failures.take(at(10)), [((Some(user(1)), WRONG), counted(1, 9, 9))], "and nothing is forgotten");
    }

    #[test]
    fn a_clock_that_is_set_back_begins_a_period() {
        let failures = LoginFailures::default();
        assert!((0..EACH).all(|_| failures.note((None, WRONG), at(100))));
        assert!(!failures.note((None, WRONG), at(100)));
        assert!(failures.note((None, WRONG), at(0)));
    }

    #[test]
    fn however_many_accounts_there_are_memory_is_bounded_and_every_failure_counts() {
        let failures = LoginFailures::default();
        let accounts = 3 * ACCOUNTS;
        let own = (0..accounts).filter(|n| failures.note((Some(user(*n as u128)), WRONG), at(0))).count();
        assert_eq!(own, ACCOUNTS + usize::try_from(EACH).unwrap());
        assert!(failures.0.lock().unwrap().len() <= ACCOUNTS + 1);
        let rest = u64::try_from(accounts - own).unwrap();
        assert_eq!(failures.take(at(20)), [((None, WRONG), counted(rest, 0, 0))]);
        assert!(failures.0.lock().unwrap().is_empty());
    }

    proptest! {
        /// Whatever comes when, whatever cannot be written: each failure is an event or counted, once.
        #[test]
        fn no_failure_is_lost_or_counted_twice(steps in prop::collection::vec((0_i64..3, 0_u128..3, 0_u8..10), 0..400)) {
            let failures = LoginFailures::default();
            let (mut now, mut own, mut written, mut all) = (0, 0, 0, 0);
            for (pause, who, what) in steps {
                now += pause;
                match what {
                    0 => written += failures.take(at(now)).iter().map(|(_, counted)| counted.count).sum::<u64>(),
                    1 => failures.take(at(now)).into_iter().for_each(|(kind, counted)| failures.put_back(kind, counted)),
                    _ => {
                        for _ in 0..20 {
                            all += 1;
                            own += u64::from(failures.note((Some(user(who)), WRONG), at(now)));
                        }
                    }
                }
            }
            written += failures.take(at(now)).iter().map(|(_, counted)| counted.count).sum::<u64>();
            prop_assert_eq!(own + written, all);
        }
    }
}
