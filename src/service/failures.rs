//! What anybody may try in vain as often as they like, in the audit trail: failed sign-ins, wrong codes, passwords and secrets. Each by
//! itself, unless there are too many of them.
//!
//! Up to [`EACH`] in [`PERIOD`] of one account for one reason are events of their own, with address and agent, and up to [`ALL`]
//! together. More are counted in this node's memory, and each period one event says how many there were. Those under way at one
//! moment do not see each other: as many more as there are connections to the database may become events. What a node counted and
//! had not yet written when it was killed is lost to the trail; throttling counts by itself and forgets nothing.
//!
//! An event takes longer than a count, and whoever signs in can measure that. So it must not depend on whether there is the account:
//! sign-ins under names that no account has are no account's, and would soon be counted if they had one limit together, while each
//! account that there is has its own. They have none, and what is common to all ends both at the same moment.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::Service;
use crate::{
    domain::{
        audit::{Act, Actor, Attempted, AuditEvent, Failure, Origin},
        time::Timestamp,
    },
    store::{StoreError, port::CommitObserver as _},
};

/// How often what was counted is written.
pub(super) const PERIOD: Duration = Duration::from_secs(10);

/// So many in a period, of one account for one reason, are events of their own. Nobody who mistypes gets there, throttling lets through fewer of one account,
/// and an attack that does is told by numbers better than by rows.
const EACH: u32 = 30;

/// So many in a period are events of their own, whatever failed and at whose account.
const ALL: u32 = 300;

/// So many accounts are counted apart; the failures of all others together, as if of nobody.
const ACCOUNTS: usize = 4_096;

/// What was counted and not recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counted {
    count: u64,
    first: Timestamp,
    last: Timestamp,
}

/// How many were events of their own, lately.
#[derive(Clone, Copy, Debug)]
struct Own {
    /// When this period began.
    since: Timestamp,
    events: u32,
}

#[derive(Clone, Copy, Debug)]
struct Tally {
    own: Own,
    counted: Option<Counted>,
}

/// By what is alike.
type Tallies = HashMap<Failure, Tally>;

#[derive(Debug, Default)]
struct Memory {
    /// Of all together; `None` before the first.
    own: Option<Own>,
    tallies: Tallies,
}

/// The failures of this node.
#[derive(Debug, Default)]
pub(super) struct Failures(Mutex<Memory>);

impl Failures {
    /// Whether there is room for one more event of this kind.
    pub(super) fn is_event(&self, failure: &Failure, now: Timestamp) -> bool {
        let Memory { own, tallies } = &*self.memory();
        if own.is_some_and(|own| !own.has_room(ALL, now)) {
            return false;
        }
        let kind = counted_as(tallies, *failure);
        is_sign_in_of_nobody(&kind) || tallies.get(&kind).is_none_or(|tally| tally.own.has_room(EACH, now))
    }

    /// Takes note of one, which is an event of its own or is counted.
    pub(super) fn note(&self, failure: Failure, is_event: bool, now: Timestamp) {
        let Memory { own, tallies } = &mut *self.memory();
        let kind = counted_as(tallies, failure);
        let tally = tallies.entry(kind).or_insert(Tally { own: Own::none(now), counted: None });
        if is_event {
            tally.own.add(now);
            own.get_or_insert(Own::none(now)).add(now);
        } else {
            tally.count(Counted { count: 1, first: now, last: now });
        }
    }

    /// What there is a count of.
    fn counted(&self) -> Vec<Failure> {
        let Memory { tallies, .. } = &*self.memory();
        tallies.iter().filter(|(_, tally)| tally.counted.is_some()).map(|(kind, _)| *kind).collect()
    }

    /// The count of this; it is not counted here any more.
    fn take(&self, kind: &Failure) -> Option<Counted> {
        self.memory().tallies.get_mut(kind)?.counted.take()
    }

    /// Counts again what could not be written.
    fn put_back(&self, kind: Failure, counted: Counted) {
        let full = Tally { own: Own { since: counted.last, events: EACH }, counted: None };
        self.memory().tallies.entry(kind).or_insert(full).count(counted);
    }

    /// Forgets whose period is over and of whom nothing is left to be told.
    fn forget(&self, now: Timestamp) {
        self.memory().tallies.retain(|_, tally| tally.counted.is_some() || !tally.own.is_over(now));
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As what a failure is counted: where there are too many accounts, as nobody's.
fn counted_as(tallies: &Tallies, failure: Failure) -> Failure {
    let known = failure.subject.is_none() || tallies.len() < ACCOUNTS || tallies.contains_key(&failure);
    if known { failure } else { Failure { actor: Actor::Anonymous, subject: None, ..failure } }
}

/// A sign-in under a name that no account has, or that is counted with those.
fn is_sign_in_of_nobody(failure: &Failure) -> bool {
    failure.subject.is_none() && matches!(failure.attempted, Attempted::Login(_))
}

impl Own {
    const fn none(now: Timestamp) -> Self {
        Self { since: now, events: 0 }
    }

    /// A clock that was set back ends the period too.
    fn is_over(self, now: Timestamp) -> bool {
        now < self.since || now.since(self.since) >= PERIOD
    }

    fn has_room(self, most: u32, now: Timestamp) -> bool {
        self.events < most || self.is_over(now)
    }

    fn add(&mut self, now: Timestamp) {
        if self.is_over(now) {
            *self = Self::none(now);
        }
        self.events = self.events.saturating_add(1);
    }
}

impl Tally {
    fn count(&mut self, more: Counted) {
        let sum = self.counted.get_or_insert(Counted { count: 0, ..more });
        sum.count = sum.count.saturating_add(more.count);
        sum.first = sum.first.min(more.first);
        sum.last = sum.last.max(more.last);
    }
}

impl Service {
    /// Records that something failed, or counts it without asking the database.
    pub(super) async fn record_failure(&self, event: AuditEvent) -> Result<(), StoreError> {
        let (observer, now) = (self.feed.observer(), self.clock.now());
        if let Some(failure) = Failure::of(&event)
            && !observer.is_event(&failure, now)
        {
            observer.failed(failure, false, now);
            return Ok(());
        }
        self.store.record(event).await
    }

    /// Writes what was counted. One after the other is taken out: should this be dropped, what is under way is written by a task of
    /// its own, and the others are still there.
    pub(super) async fn write_failures(&self) {
        let failures = self.feed.observer().failures();
        for kind in failures.counted() {
            let Some(counted) = failures.take(&kind) else { continue };
            if let Err(error) = self.store.record(aggregated(kind, counted)).await {
                failures.put_back(kind, counted);
                tracing::warn!(%error, "failures that were counted are not in the audit trail yet");
                break;
            }
        }
        failures.forget(self.clock.now());
    }
}

fn aggregated(Failure { actor, subject, attempted }: Failure, Counted { count, first, last }: Counted) -> AuditEvent {
    let act = match attempted {
        Attempted::Login(cause) => Act::LoginFailuresAggregated { cause, count, first, last },
        Attempted::Act(act) => Act::FailuresAggregated { act, count, first, last },
    };
    AuditEvent { actor, subject, act, origin: Origin::default() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::domain::{audit::LoginFailure, id::UserId};

    const WRONG: Attempted = Attempted::Login(LoginFailure::WrongPassword);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_seconds(1_800_000_000 + second)
    }

    fn of(user: u128) -> Failure {
        let subject = Some(UserId::from_uuid(Uuid::from_u128(user)).into());
        Failure { actor: Actor::Anonymous, subject, attempted: WRONG }
    }

    fn of_nobody() -> Failure {
        Failure { subject: None, ..of(0) }
    }

    impl Failures {
        /// One failure after another.
        fn fail(&self, failure: Failure, now: Timestamp) -> bool {
            let is_event = self.is_event(&failure, now);
            self.note(failure, is_event, now);
            is_event
        }

        /// All that was counted.
        fn take_all(&self, now: Timestamp) -> Vec<(Failure, Counted)> {
            let all = self.counted().into_iter().map(|kind| (kind, self.take(&kind).unwrap())).collect();
            self.forget(now);
            all
        }
    }

    fn counted(count: u64, first: i64, last: i64) -> Counted {
        Counted { count, first: at(first), last: at(last) }
    }

    #[test]
    fn so_many_are_events_of_their_own_and_the_others_are_counted() {
        let failures = Failures::default();
        let own = (0..100).filter(|n| failures.fail(of(1), at(n / 20))).count();
        assert_eq!(own, usize::try_from(EACH).unwrap());
        assert!(failures.fail(of(2), at(4)), "of another account");
        let suspended = Attempted::Login(LoginFailure::Suspended);
        assert!(failures.fail(Failure { attempted: suspended, ..of(1) }, at(4)), "for another reason");
        let refused = Attempted::Act(Act::CodeRefused.name());
        assert!(failures.fail(Failure { attempted: refused, ..of(1) }, at(4)), "of another act");
        assert!(failures.fail(of_nobody(), at(4)), "of nobody");
        assert_eq!(failures.take_all(at(9)), [(of(1), counted(70, 1, 4))]);
        assert_eq!(failures.take_all(at(9)), [], "once");
        assert!(!failures.fail(of(1), at(9)), "the period goes on");
        assert!(failures.fail(of(1), at(10)), "until it is over");
        assert_eq!(failures.take_all(at(10)), [(of(1), counted(1, 9, 9))], "and nothing is forgotten");
    }

    #[test]
    fn a_clock_that_is_set_back_begins_a_period() {
        let failures = Failures::default();
        assert!((0..EACH).all(|_| failures.fail(of(1), at(100))));
        assert!(!failures.fail(of(1), at(100)));
        assert!(failures.fail(of(1), at(0)));
        assert!((1..ALL).all(|_| failures.fail(of_nobody(), at(0))));
        assert!(!failures.fail(of_nobody(), at(0)));
        assert!(failures.fail(of_nobody(), at(-1)));
    }

    #[test]
    fn whether_a_sign_in_is_an_event_does_not_tell_whether_there_is_the_account() {
        let failures = Failures::default();
        let scanned = |second| {
            (0..u128::from(ALL))
                .map(|n| (failures.fail(of(n), at(second)), failures.fail(of_nobody(), at(second))))
                .collect()
        };
        let told: Vec<(bool, bool)> = scanned(0);
        let half = usize::try_from(ALL / 2).unwrap();
        assert!(told[..half].iter().all(|told| *told == (true, true)), "each is an event");
        assert!(told[half..].iter().all(|told| *told == (false, false)), "none is any more");
        let refused = Failure { attempted: Attempted::Act(Act::CodeRefused.name()), ..of(1) };
        assert!(!failures.fail(refused, at(9)), "whatever failed");
        let again: Vec<(bool, bool)> = scanned(10);
        assert_eq!(again, told, "and the next period is like this one");
        let counts: u64 = failures.take_all(at(10)).iter().map(|(_, counted)| counted.count).sum();
        assert_eq!(counts, 2 * u64::from(ALL) + 1);
    }

    #[test]
    fn what_is_taken_out_is_one_count_and_the_others_stay() {
        let failures = Failures::default();
        for who in [1, 2] {
            assert_eq!((0..=EACH).filter(|_| failures.fail(of(who), at(0))).count(), usize::try_from(EACH).unwrap());
        }
        assert_eq!(failures.take(&of(1)), Some(counted(1, 0, 0)));
        failures.forget(at(60));
        assert_eq!(failures.counted(), [of(2)]);
        assert_eq!(failures.take(&of(1)), None);
        failures.put_back(of(1), counted(1, 0, 0));
        assert_eq!(failures.take_all(at(60)).len(), 2);
        assert!(failures.0.lock().unwrap().tallies.is_empty());
    }

    #[test]
    fn however_many_accounts_there_are_memory_is_bounded_and_every_failure_counts() {
        let failures = Failures::default();
        let accounts = 3 * ACCOUNTS;
        let own = (0..accounts).filter(|n| failures.fail(of(*n as u128), at(0))).count();
        assert_eq!(own, usize::try_from(ALL).unwrap());
        assert!(failures.0.lock().unwrap().tallies.len() <= ACCOUNTS + 1);
        let all = failures.take_all(at(20));
        let rest = u64::try_from(accounts - ACCOUNTS).unwrap();
        assert!(all.contains(&(of_nobody(), counted(rest, 0, 0))));
        assert_eq!(all.iter().map(|(_, counted)| counted.count).sum::<u64>(), u64::try_from(accounts - own).unwrap());
        assert!(failures.0.lock().unwrap().tallies.is_empty());
    }

    #[test]
    fn what_was_counted_is_told_of_whom_and_what_it_was() {
        let failure = |act: Act| Failure { attempted: Attempted::Act(act.name()), ..of(1) };
        for act in [Act::ChallengeFailed, Act::CodeRefused, Act::ReauthenticationFailed, Act::ServiceTokenRefused] {
            let (actor, subject, origin) = (Actor::Anonymous, of(1).subject, Origin::default());
            let event = AuditEvent { actor, subject, act: act.clone(), origin };
            assert_eq!(Failure::of(&event), Some(failure(act.clone())));
            let told = aggregated(failure(act.clone()), counted(3, 1, 2));
            let expected = Act::FailuresAggregated { act: act.name(), count: 3, first: at(1), last: at(2) };
            assert_eq!((told.actor, told.subject, &told.act), (actor, subject, &expected));
            assert_eq!(Failure::of(&told), None, "not counted in its turn");
        }
    }

    #[test]
    fn what_failed_at_one_moment_is_all_told() {
        let failures = Failures::default();
        let under_way: Vec<bool> = (0..50).map(|_| failures.is_event(&of(1), at(0))).collect();
        for is_event in &under_way {
            failures.note(of(1), *is_event, at(0));
        }
        assert!(under_way.iter().all(|is_event| *is_event));
        assert!(!failures.fail(of(1), at(0)));
        assert_eq!(failures.take_all(at(0)), [(of(1), counted(1, 0, 0))]);
    }

    proptest! {
        /// Whatever comes when, whatever cannot be written: each failure is an event or counted, once.
        #[test]
        fn no_failure_is_lost_or_counted_twice(steps in prop::collection::vec((0_i64..3, 0_u128..3, 0_u8..10), 0..400)) {
            let failures = Failures::default();
            let (mut now, mut own, mut written, mut all) = (0, 0, 0, 0);
            for (pause, who, what) in steps {
                now += pause;
                match what {
                    0 => written += failures.take_all(at(now)).iter().map(|(_, counted)| counted.count).sum::<u64>(),
                    1 => failures.take_all(at(now)).into_iter().for_each(|(kind, counted)| failures.put_back(kind, counted)),
                    _ => {
                        for _ in 0..20 {
                            all += 1;
                            own += u64::from(failures.fail(of(who), at(now)));
                        }
                    }
                }
            }
            written += failures.take_all(at(now)).iter().map(|(_, counted)| counted.count).sum::<u64>();
            prop_assert_eq!(own + written, all);
        }
    }
}
