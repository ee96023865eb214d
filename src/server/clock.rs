//! A clock that keeps the database's time.
//!
//! Nodes compare moments that other nodes wrote, so what counts is not the right time but the same time. Between two readings
//! of the database's clock this one goes on with the machine's own.

use std::sync::atomic::{AtomicI64, Ordering};

use crate::{
    crypto::SystemClock,
    domain::time::{Clock, Timestamp},
};

/// Differences this small, in microseconds, are as likely the network's as the clock's.
const TOLERANCE: i64 = 5_000;
/// Differences beyond this, in microseconds, are worth telling an operator.
const REMARKABLE: i64 = 1_000_000;

/// The clock.
#[derive(Debug, Default)]
pub struct DatabaseClock {
    base: SystemClock,
    /// Microseconds by which the database's clock is ahead of the machine's.
    ahead: AtomicI64,
}

impl DatabaseClock {
    /// A clock that goes by the machine until it hears from the database.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Clock for DatabaseClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.base.now().as_micros().saturating_add(self.ahead.load(Ordering::Acquire)))
    }

    fn observe(&self, sent: Timestamp, database_time: Timestamp) {
        let received = self.now();
        if let Some(correction) = correction(sent, received, database_time) {
            let before = self.ahead.fetch_add(correction, Ordering::AcqRel);
            if correction.saturating_abs() > REMARKABLE && before == 0 {
                tracing::warn!(
                    milliseconds = correction / 1_000,
                    "this machine's clock differs from the database's, going by the database's"
                );
            }
        }
    }
}

/// By how much a clock that showed `sent` and then `received` must be put forward, given that the database showed
/// `database_time` in between. `None`: by nothing that could be told from the network's delay.
fn correction(sent: Timestamp, received: Timestamp, database_time: Timestamp) -> Option<i64> {
    let (sent, received) = (sent.as_micros(), received.as_micros());
    let half = (received - sent) / 2;
    let difference = database_time.as_micros() - (sent + half);
    (half >= 0 && difference.saturating_abs() > half + TOLERANCE).then_some(difference)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    #[test]
    fn only_a_difference_beyond_the_round_trip_counts() {
        assert_eq!(correction(at(0), at(10_000), at(5_000)), None);
        assert_eq!(correction(at(0), at(10_000), at(14_000)), None, "within half the round trip and the tolerance");
        assert_eq!(correction(at(0), at(10_000), at(3_605_000_000)), Some(3_600_000_000));
        assert_eq!(correction(at(3_600_000_000), at(3_600_010_000), at(5_000)), Some(-3_600_000_000));
    }

    #[test]
    fn the_clock_takes_over_the_databases_time() {
        let clock = DatabaseClock::new();
        let sent = clock.now();
        let hour = std::time::Duration::from_hours(1);
        clock.observe(sent, sent.plus(hour));
        assert!(clock.now() >= sent.plus(hour).minus(std::time::Duration::from_secs(1)));
    }
}
