//! Where time and randomness enter a verifier that is embedded. The core gets both as arguments.

use std::time::{Duration, Instant, SystemTime};

use aws_lc_rs::rand;

use crate::domain::time::{Clock, Timestamp};

/// The date as the machine believes.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the edge: where an embedded verifier reads the date")]
    fn now(&self) -> Timestamp {
        let epoch = Timestamp::from_micros(0);
        match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
            Ok(since) => epoch.plus(since),
            Err(before) => epoch.minus(before.duration()),
        }
    }
}

/// The monotonic clock, for how old something is.
#[expect(clippy::disallowed_methods, reason = "this is the edge: where an embedded verifier reads the monotonic clock")]
pub(super) fn monotonic_now() -> Instant {
    Instant::now()
}

/// A random part of `longest`, so that many who failed at one moment do not come back at one moment. All of it if the system
/// has no random bytes.
#[expect(clippy::disallowed_methods, reason = "this is the edge: where an embedded verifier draws random bytes")]
pub(super) fn jitter(longest: Duration) -> Duration {
    let mut bytes = [0; 4];
    match rand::fill(&mut bytes) {
        Ok(()) => longest.mul_f64(f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX)),
        Err(_) => longest,
    }
}
