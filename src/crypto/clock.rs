//! Where time enters the process.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::{Duration, Instant, SystemTime},
};

use crate::domain::time::{Clock, Timestamp};

/// The monotonic clock, for deadlines and for measuring work. Says nothing about the date.
#[expect(clippy::disallowed_methods, reason = "this is the edge: the one place that reads the monotonic clock")]
pub fn monotonic_now() -> Instant {
    Instant::now()
}

/// Microseconds since the epoch as the machine believes; negative before 1970.
#[expect(clippy::disallowed_methods, reason = "this is the edge: the one place that reads the machine's date")]
fn wall_now() -> i64 {
    match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => micros(since),
        Err(before) => micros(before.duration()).saturating_neg(),
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// The machine's date, which never goes backwards while the process lives: an expired token must not revive because
/// somebody sets the clock back.
///
/// When the date is set back, this clock neither follows nor stands still (a clock that stands still would let tokens
/// live for ever) but goes on at its usual pace, ahead of the date by [`SystemClock::lead`]. A restart ends that.
#[derive(Debug)]
pub struct SystemClock {
    started: Instant,
    /// The date at `started`, by the latest date ever seen: microseconds since the epoch.
    start_date: AtomicI64,
}

impl SystemClock {
    /// A clock that agrees with the machine's date now.
    pub fn new() -> Self {
        Self { started: monotonic_now(), start_date: AtomicI64::new(wall_now()) }
    }

    /// How far this clock runs ahead of the machine's date because that was set back: worth an operator's attention when
    /// it is more than a second.
    pub fn lead(&self) -> Duration {
        let wall = Timestamp::from_micros(wall_now());
        self.now().since(wall)
    }

    /// The time, given that the machine's date was `wall` when `elapsed` microseconds had passed since the start.
    fn tell(&self, wall: i64, elapsed: i64) -> Timestamp {
        let start_date = wall.saturating_sub(elapsed);
        let latest = self.start_date.fetch_max(start_date, Ordering::AcqRel).max(start_date);
        Timestamp::from_micros(latest.saturating_add(elapsed))
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        // The date first: a pause between the two readings then makes the date look old, which changes nothing, while the
        // other way round it would push this clock ahead for good.
        let wall = wall_now();
        let elapsed = micros(monotonic_now().saturating_duration_since(self.started));
        self.tell(wall, elapsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_the_date_forwards_but_never_backwards() {
        let clock = SystemClock { started: monotonic_now(), start_date: AtomicI64::new(1_000) };
        let at = |wall, elapsed| clock.tell(wall, elapsed).as_micros();
        assert_eq!(at(1_010, 10), 1_010);
        assert_eq!(at(5_020, 20), 5_020, "set ahead: follows at once");
        assert_eq!(at(1_030, 30), 5_030, "set back: goes on at its usual pace");
        assert_eq!(at(5_035, 40), 5_040, "still behind: the lead stays");
        assert_eq!(at(9_000, 50), 9_000);
        assert_eq!(at(-9_000, 51), 9_001);
    }

    #[test]
    fn it_tells_the_present_and_never_repeats_the_past() {
        let clock = SystemClock::new();
        let first = clock.now();
        assert!(first > Timestamp::from_seconds(1_700_000_000), "later than this code: {first}");
        let mut last = first;
        for _ in 0..1_000 {
            let now = clock.now();
            assert!(now >= last);
            last = now;
        }
        assert!(clock.lead() < Duration::from_secs(1));
    }
}
