//! A clock that keeps the database's time.
//!
//! Nodes compare moments that other nodes wrote, so what counts is not the right time but the same time. The machine's date
//! only serves until the database has been heard from; after that it may be set as anybody likes. Between two readings of the
//! database's clock this one goes on with the monotonic clock.
//!
//! It never goes back: an expired token must not revive. When the database's clock is set back, this one runs at half its pace
//! until they agree again. (To stand still would let tokens live for ever.)

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    crypto::monotonic_now,
    domain::time::{Clock, Timestamp},
};

/// Differences this small, in microseconds, are as likely the network's as the clock's.
const TOLERANCE: i64 = 5_000;
/// Differences beyond this, in microseconds, are worth telling an operator.
const REMARKABLE: i64 = 1_000_000;

/// The clock.
#[derive(Debug)]
pub struct DatabaseClock {
    started: Instant,
    hands: Mutex<Hands>,
}

#[derive(Clone, Copy, Debug)]
struct Hands {
    /// What the clock would have shown at `started`, as far as is known by now.
    origin: Timestamp,
    /// The latest moment that was shown.
    latest: Timestamp,
    /// When the database was last heard from, since `started`.
    observed: Option<Duration>,
}

impl DatabaseClock {
    /// A clock that goes by the machine's `date` until it hears from the database.
    pub fn new(date: Timestamp) -> Self {
        Self { started: monotonic_now(), hands: Mutex::new(Hands { origin: date, latest: date, observed: None }) }
    }

    fn with_hands<T>(&self, look: impl FnOnce(&mut Hands, Duration) -> T) -> T {
        let mut hands = self.hands.lock().unwrap_or_else(PoisonError::into_inner);
        look(&mut hands, monotonic_now().saturating_duration_since(self.started))
    }
}

impl Clock for DatabaseClock {
    fn now(&self) -> Timestamp {
        self.with_hands(Hands::show)
    }

    fn observe(&self, sent: Timestamp, database_time: Timestamp) {
        let correction = self.with_hands(|hands, elapsed| hands.observe(sent, database_time, elapsed));
        if correction.saturating_abs() > REMARKABLE {
            tracing::warn!(milliseconds = correction / 1_000, "clock corrected, going by the database's");
        }
    }
}

impl Hands {
    fn show(&mut self, elapsed: Duration) -> Timestamp {
        self.latest = self.latest.max(self.origin.plus(elapsed));
        self.latest
    }

    /// Goes by the database. By how many microseconds the hands were moved.
    fn observe(&mut self, sent: Timestamp, database_time: Timestamp, elapsed: Duration) -> i64 {
        let wanted = correction(sent, self.origin.plus(elapsed), database_time);
        let applied = match self.observed {
            // The first time: nobody has acted on what was shown so far.
            None => {
                self.latest = Timestamp::from_micros(i64::MIN);
                wanted
            }
            Some(last) => {
                let slack = i64::try_from((elapsed.saturating_sub(last) / 2).as_micros()).unwrap_or(i64::MAX);
                wanted.max(-slack)
            }
        };
        self.origin = Timestamp::from_micros(self.origin.as_micros().saturating_add(applied));
        self.observed = Some(elapsed);
        applied
    }
}

/// By how much a clock that showed `sent` and then `received` must be put forward, given that the database showed
/// `database_time` in between. Nothing, if it could as well be the network's delay.
fn correction(sent: Timestamp, received: Timestamp, database_time: Timestamp) -> i64 {
    let (sent, received) = (sent.as_micros(), received.as_micros());
    // Less than nothing if the clock was corrected in between: then this reading says nothing.
    let half = (received - sent) / 2;
    let difference = database_time.as_micros() - (sent + half);
    if half >= 0 && difference.saturating_abs() > half + TOLERANCE { difference } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    const fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    const fn after(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn clock(origin: i64) -> Hands {
        Hands { origin: at(origin), latest: at(origin), observed: None }
    }

    #[test]
    fn only_a_difference_beyond_the_round_trip_counts() {
        let micros = Timestamp::from_micros;
        assert_eq!(correction(micros(0), micros(10_000), micros(5_000)), 0);
        assert_eq!(correction(micros(0), micros(10_000), micros(14_000)), 0, "half the round trip and the tolerance");
        assert_eq!(correction(micros(0), micros(10_000), micros(3_605_000_000)), 3_604_995_000);
        assert_eq!(correction(micros(10_000), micros(0), micros(9)), 0, "corrected in between");
    }

    #[test]
    fn the_first_reading_sets_it_whatever_the_machine_says() {
        for machine in [0, 100_000] {
            let mut hands = clock(machine);
            let sent = hands.show(after(10));
            hands.observe(sent, at(50_000), after(10));
            assert_eq!(hands.show(after(11)), at(50_001));
        }
    }

    #[test]
    fn it_follows_the_database_forward_at_once() {
        let mut hands = clock(1_000);
        hands.observe(at(1_000), at(1_000), after(0));
        let sent = hands.show(after(1));
        hands.observe(sent, at(1_001).plus(HOUR), after(1));
        assert_eq!(hands.show(after(2)), at(1_002).plus(HOUR));
    }

    #[test]
    fn it_never_goes_back_and_never_stands_still_for_long() {
        let mut hands = clock(10_000);
        hands.observe(at(10_000), at(10_000), after(0));
        let mut last = hands.show(after(0));
        // The database's clock was set back by an hour; it is read each second.
        for second in 1..=10_000 {
            let sent = hands.show(after(second));
            assert!(sent >= last);
            last = sent;
            hands.observe(sent, at(10_000 - 3_600 + i64::try_from(second).unwrap()), after(second));
        }
        assert_eq!(hands.show(after(10_000)), at(10_000 - 3_600 + 10_000), "they agree again after two hours");
        let mut hands = clock(10_000);
        hands.observe(at(10_000), at(10_000), after(0));
        for second in 1..=1_000 {
            let sent = hands.show(after(second));
            hands.observe(sent, at(10_000 - 3_600 + i64::try_from(second).unwrap()), after(second));
        }
        let shown = hands.show(after(1_000));
        assert!(shown >= at(10_499) && shown <= at(10_501), "half the pace until then: {shown}");
    }

    #[test]
    fn a_real_one_shows_the_present() {
        let clock = DatabaseClock::new(at(1_800_000_000));
        let sent = clock.now();
        clock.observe(sent, sent.plus(HOUR));
        assert!(clock.now() >= sent.plus(HOUR));
    }
}
