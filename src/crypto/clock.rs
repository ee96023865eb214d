//! Where time enters the process.

use std::time::{Instant, SystemTime};

use crate::domain::time::Timestamp;

/// The monotonic clock, for deadlines and for measuring work. Says nothing about the date.
#[expect(clippy::disallowed_methods, reason = "this is the edge: the one place that reads the monotonic clock")]
pub fn monotonic_now() -> Instant {
    Instant::now()
}

/// The date as the machine believes; before 1970 for a machine that has no idea.
#[expect(clippy::disallowed_methods, reason = "this is the edge: the one place that reads the machine's date")]
pub fn machine_date() -> Timestamp {
    let epoch = Timestamp::from_micros(0);
    match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => epoch.plus(since),
        Err(before) => epoch.minus(before.duration()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_is_later_than_this_code() {
        assert!(machine_date() > Timestamp::from_seconds(1_700_000_000));
    }
}
