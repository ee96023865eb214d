//! How old the list of revocations is, without trusting two machines' clocks to agree. Moments are arguments.
//!
//! Age is measured by the monotonic clock, and by the date too: the one stands still on some systems while the machine sleeps, and
//! the other can be set. The larger age counts, so that neither makes a list look younger than it is.
//!
//! The issuer says by its own clock when it sent something and up to when the list was complete then. What is known for
//! certain is that it sent the first response after it was asked: so that response is taken to be as old as the question, and the
//! later ones to be as much younger as the issuer's clock says. A response that was held up on its way is so not taken for a
//! fresh one.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::{Duration, Instant},
};

use crate::domain::time::Timestamp;

/// Where the issuer's clock and ours meet, for one connection.
#[derive(Clone, Copy, Debug)]
pub(in crate::verifier) struct Anchor {
    /// Not after the issuer's clock showed `server`.
    local: Instant,
    server: Timestamp,
}

impl Anchor {
    /// From the moment at which the issuer was asked, and when it says that it sent its first response.
    pub(in crate::verifier) const fn new(asked: Instant, server: Timestamp) -> Self {
        Self { local: asked, server }
    }

    /// The moment up to which the list is complete at least, if a response that is here `now` says that it was sent at `server`
    /// and is complete up to `complete`. `None`: longer ago than this machine can say.
    pub(in crate::verifier) fn moment(
        &mut self,
        server: Timestamp,
        complete: Timestamp,
        now: Instant,
    ) -> Option<Instant> {
        let ahead = server.since(self.server);
        let behind = self.server.since(server);
        let sent = self.local.checked_add(ahead)?.checked_sub(behind)?;
        if sent > now {
            // Nothing comes before it is sent. Their clock is faster than ours, or was set: from here on it is compared anew.
            *self = Self { local: now, server };
        }
        sent.min(now).checked_sub(server.since(complete))
    }
}

/// This moment, by both clocks of this machine.
#[derive(Clone, Copy, Debug)]
pub(in crate::verifier) struct Now {
    pub(in crate::verifier) monotonic: Instant,
    pub(in crate::verifier) date: Timestamp,
}

impl Now {
    /// Whether the date has gone on by `most` more than the monotonic clock since then: the machine slept, or the date was set.
    pub(super) fn leapt(&self, then: &Self, most: Duration) -> bool {
        let passed = self.monotonic.saturating_duration_since(then.monotonic);
        self.date.since(then.date) > passed.saturating_add(most)
    }
}

/// Up to when the list is complete. Read by every check of a token, hence no lock.
#[derive(Debug)]
pub(in crate::verifier) struct Freshness {
    /// What moments are counted from.
    origin: Instant,
    /// Microseconds after `origin`, or [`NEVER`].
    complete: AtomicI64,
    /// The same as a date, in microseconds since 1970.
    date: AtomicI64,
    /// `None`: there is no list, and nobody misses it.
    max_staleness: Option<Duration>,
}

const NEVER: i64 = i64::MIN;

impl Freshness {
    /// Of a list that is not complete yet. Without `max_staleness`: of one that is not asked for.
    pub(in crate::verifier) const fn new(max_staleness: Option<Duration>, now: Instant) -> Self {
        Self { origin: now, complete: AtomicI64::new(NEVER), date: AtomicI64::new(0), max_staleness }
    }

    /// The list is complete up to this moment, or was already up to a later one. Whether that is news. One at a time.
    pub(in crate::verifier) fn vouch(&self, moment: Instant, now: Now) -> bool {
        let micros = match moment.checked_duration_since(self.origin) {
            Some(after) => signed_micros(after),
            None => -signed_micros(self.origin.saturating_duration_since(moment)),
        };
        if self.complete.load(Ordering::Acquire) >= micros {
            return false;
        }
        let date = now.date.minus(now.monotonic.saturating_duration_since(moment));
        self.date.store(date.as_micros(), Ordering::Release);
        self.complete.store(micros, Ordering::Release);
        true
    }

    /// How old the list is; [`Duration::MAX`] if it was never complete, zero if there is none.
    pub(in crate::verifier) fn staleness(&self, now: Now) -> Duration {
        if self.max_staleness.is_none() {
            return Duration::ZERO;
        }
        match self.complete.load(Ordering::Acquire) {
            NEVER => Duration::MAX,
            complete => {
                let elapsed = signed_micros(now.monotonic.saturating_duration_since(self.origin));
                let age = Duration::from_micros(u64::try_from(elapsed.saturating_sub(complete)).unwrap_or(0));
                age.max(now.date.since(Timestamp::from_micros(self.date.load(Ordering::Acquire))))
            }
        }
    }

    /// Whether revocations could be missing for longer than is allowed.
    pub(in crate::verifier) fn is_stale(&self, now: Now) -> bool {
        self.max_staleness.is_some_and(|max| self.staleness(now) > max)
    }

    /// Whether there is to be a list.
    pub(in crate::verifier) const fn is_asked_for(&self) -> bool {
        self.max_staleness.is_some()
    }

    /// Whether a second or two more do not make it stale.
    pub(in crate::verifier) fn is_young(&self, now: Now) -> bool {
        self.max_staleness.is_none_or(|max| self.staleness(now) < max / 3)
    }

    /// How long the list is still good for if nothing more comes; `None` if it is not, or is for ever.
    pub(in crate::verifier) fn good_for(&self, now: Now) -> Option<Duration> {
        self.max_staleness?.checked_sub(self.staleness(now))
    }
}

pub(super) fn signed_micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
#[allow(clippy::unchecked_time_subtraction)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::verifier::ambient::monotonic_now;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// What the issuer's clock shows. It has nothing to do with ours.
    fn at(millis: u64) -> Timestamp {
        Timestamp::from_seconds(4_000_000_000).plus(ms(millis))
    }

    #[test]
    fn a_list_is_as_old_as_the_question_and_not_as_its_arrival() {
        let asked = monotonic_now() + ms(100_000);
        let mut anchor = Anchor::new(asked, at(0));
        // The answer took 3 s; when it was sent, the list was 200 ms old.
        assert_eq!(anchor.moment(at(0), at(0).minus(ms(200)), asked + ms(3_000)), Some(asked - ms(200)));
        // A heartbeat that lay in a buffer for 50 s.
        assert_eq!(anchor.moment(at(1_000), at(1_000), asked + ms(51_000)), Some(asked + ms(1_000)));
    }

    #[test]
    fn a_faster_clock_never_makes_a_list_complete_beyond_now() {
        let asked = monotonic_now() + ms(100_000);
        let mut anchor = Anchor::new(asked, at(0));
        // An hour ahead after a second: set meanwhile.
        assert_eq!(anchor.moment(at(3_600_000), at(3_600_000), asked + ms(1_000)), Some(asked + ms(1_000)));
        // What is held up after that is still found out.
        assert_eq!(anchor.moment(at(3_601_000), at(3_601_000), asked + ms(40_000)), Some(asked + ms(2_000)));
        // And set back: the list looks older than it is, until the next connection.
        assert_eq!(anchor.moment(at(3_598_000), at(3_598_000), asked + ms(41_000)), Some(asked - ms(1_000)));
        // Complete up to a moment after it was sent: nobody knows the future.
        assert_eq!(anchor.moment(at(3_601_500), at(3_700_000), asked + ms(41_000)), Some(asked + ms(2_500)));
    }

    /// This moment by clocks of which nobody has set one.
    fn by_both(monotonic: Instant, start: Instant) -> Now {
        Now { monotonic, date: at(0).plus(monotonic.saturating_duration_since(start)) }
    }

    #[test]
    fn a_list_is_stale_until_it_is_complete_and_again_when_nothing_comes() {
        let start = monotonic_now();
        let now = start + ms(100_000);
        let by = |moment| by_both(moment, start);
        let list = Freshness::new(Some(ms(2_000)), now);
        assert_eq!(
            (list.is_stale(by(now)), list.staleness(by(now)), list.good_for(by(now))),
            (true, Duration::MAX, None)
        );
        assert!(list.vouch(now - ms(500), by(now)), "from before this process looked");
        let known = (list.is_stale(by(now)), list.staleness(by(now)), list.good_for(by(now)));
        assert_eq!(known, (false, ms(500), Some(ms(1_500))));
        assert!(!list.vouch(now - ms(600), by(now)), "older news are none");
        assert_eq!(list.staleness(by(now)), ms(500));
        assert_eq!((list.is_stale(by(now + ms(1_500))), list.is_stale(by(now + ms(1_501)))), (false, true));
        assert!(list.vouch(now + ms(1_000), by(now + ms(1_000))));
        assert!(!list.is_stale(by(now + ms(3_000))));
    }

    #[test]
    fn a_machine_that_slept_knows_that_its_list_is_old_and_a_date_set_back_makes_none_younger() {
        let start = monotonic_now();
        let list = Freshness::new(Some(ms(30_000)), start);
        let awake = by_both(start + ms(1_000), start);
        assert!(list.vouch(awake.monotonic - ms(200), awake));
        // An hour by the date, of which the monotonic clock saw a second.
        let woken = Now { monotonic: awake.monotonic + ms(1_000), date: awake.date.plus(ms(3_600_000)) };
        assert_eq!((list.is_stale(woken), list.staleness(woken)), (true, ms(3_600_200)));
        assert!(woken.leapt(&awake, ms(2_000)) && !by_both(start + ms(9_000), start).leapt(&awake, ms(2_000)));
        let set_back = Now { monotonic: awake.monotonic + ms(40_000), date: awake.date.minus(ms(3_600_000)) };
        assert_eq!((list.is_stale(set_back), list.staleness(set_back)), (true, ms(40_200)));
        assert!(!set_back.leapt(&awake, ms(0)));
    }

    #[test]
    fn without_a_list_nothing_is_stale() {
        let start = monotonic_now();
        let (none, now) = (Freshness::new(None, start), by_both(start, start));
        let far = by_both(start + ms(u32::MAX.into()), start);
        assert_eq!((none.is_stale(far), none.staleness(now), none.good_for(now)), (false, Duration::ZERO, None));
    }

    proptest! {
        /// With clocks of one speed, whatever is held up and however clocks are set against each other: never complete beyond
        /// what is true.
        #[test]
        fn no_delay_makes_a_list_look_fresher_than_it_is(
            request_takes in 0..5_000_u64,
            heartbeats in prop::collection::vec((0..3_000_u64, 0..60_000_u64, 0..4_000_u64), 1..20),
        ) {
            let asked = monotonic_now() + ms(1_000_000);
            // Sent at this moment of ours, which only the test knows.
            let first_sent = asked + ms(request_takes);
            let mut anchor = Anchor::new(asked, at(0));
            let (mut sent, mut arrived) = (0, request_takes);
            for (pause, delay, age) in heartbeats {
                sent += pause;
                arrived = arrived.max(request_takes + sent + delay);
                let moment = anchor.moment(at(sent), at(sent).minus(ms(age)), asked + ms(arrived)).unwrap();
                let truth = first_sent + ms(sent) - ms(age);
                prop_assert!(moment <= truth);
                prop_assert!(truth - moment <= ms(request_takes), "and no older than the request was under way");
            }
        }
    }
}
