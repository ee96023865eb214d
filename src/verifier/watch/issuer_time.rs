//! What the issuer's clock shows at least. Moments are arguments.
//!
//! Revocations are forgotten once the last token that they refuse has expired. If that were judged by this machine's clock alone, a
//! clock that is set forward and back again would make revoked tokens good: forgotten in between, and not expired afterwards.
//! The issuer said what time it was when it sent something, and this machine's monotonic clock says how long ago that came.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::{Duration, Instant},
};

use super::freshness::signed_micros;
use crate::domain::time::Timestamp;

/// Nothing is under way for so long: a response that says so much less than the ones before it is of a clock that was set back.
const SET_BACK: Duration = Duration::from_secs(30);
/// The issuer has not said anything yet.
const NEVER: i64 = i64::MIN;

/// A lower bound of the issuer's clock. Read by every check of a token, hence no lock.
#[derive(Debug)]
pub(in crate::verifier) struct IssuerTime {
    /// What moments are counted from.
    origin: Instant,
    /// What the issuer's clock showed at `origin`, at least, in microseconds since 1970; or [`NEVER`].
    at_origin: AtomicI64,
}

/// What one stream has said of the issuer's clock so far. Another stream may be of another node, whose clock is another.
#[derive(Debug, Default)]
pub(super) struct Heard(Option<i64>);

impl IssuerTime {
    /// Of an issuer that has not said anything yet.
    pub(in crate::verifier) const fn new(now: Instant) -> Self {
        Self { origin: now, at_origin: AtomicI64::new(NEVER) }
    }

    /// A response that is here `now` says that it was sent at `server`: so that is over now. The one that was quickest here says
    /// most.
    pub(super) fn hear(&self, heard: &mut Heard, server: Timestamp, now: Instant) {
        let since = signed_micros(now.saturating_duration_since(self.origin));
        let bound = server.as_micros().saturating_sub(since).max(NEVER + 1);
        let was_set_back = |best: i64| best.saturating_sub(bound) > signed_micros(SET_BACK);
        let best = heard.0.filter(|best| !was_set_back(*best)).map_or(bound, |best| best.max(bound));
        heard.0 = Some(best);
        self.at_origin.store(best, Ordering::Release);
    }

    /// What the issuer's clock shows `now`, at least. `None`: it has not said anything yet.
    pub(in crate::verifier) fn now(&self, now: Instant) -> Option<Timestamp> {
        match self.at_origin.load(Ordering::Acquire) {
            NEVER => None,
            at_origin => Some(Timestamp::from_micros(at_origin).plus(now.saturating_duration_since(self.origin))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verifier::ambient::monotonic_now;

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_seconds(4_000_000_000 + secs)
    }

    #[test]
    fn the_quickest_response_of_a_stream_says_what_time_it_is() {
        let start = monotonic_now();
        let (time, mut heard) = (IssuerTime::new(start), Heard::default());
        assert_eq!(time.now(start + secs(5)), None);
        time.hear(&mut heard, at(0), start + secs(3));
        assert_eq!(time.now(start + secs(3)), Some(at(0)));
        time.hear(&mut heard, at(2), start + secs(4));
        assert_eq!(time.now(start + secs(4)), Some(at(2)));
        // Held up for 20 s: it says nothing that is not known.
        time.hear(&mut heard, at(3), start + secs(25));
        assert_eq!(time.now(start + secs(25)), Some(at(23)));
    }

    #[test]
    fn a_clock_that_is_set_back_and_another_stream_are_believed() {
        let start = monotonic_now();
        let (time, mut heard) = (IssuerTime::new(start), Heard::default());
        time.hear(&mut heard, at(3_600), start);
        time.hear(&mut heard, at(1), start + secs(1));
        assert_eq!(time.now(start + secs(1)), Some(at(1)), "set back by an hour");
        time.hear(&mut Heard::default(), at(-8), start + secs(2));
        assert_eq!(time.now(start + secs(2)), Some(at(-8)), "a node of which the clock is behind");
    }
}
