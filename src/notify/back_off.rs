//! When a message is tried again.

use std::time::Duration;

use crate::domain::time::Timestamp;

/// How long is waited after the first failure, the second, and so on; the last one from then on.
const PAUSES: [Duration; 6] = [
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_mins(2),
    Duration::from_mins(10),
    Duration::from_mins(30),
];

/// No message is put off for longer, even spread.
pub const LONGEST_PAUSE: Duration = Duration::from_mins(36);

/// Who has less time than this left does not get a message in time.
const LAST_CALL: Duration = Duration::from_secs(5);

/// When a message is to be tried again that failed for the `attempts`th time at `now`; `None` if it would then be of no use any
/// more. The pause is spread by a fifth to either side by `random`, so that what failed together does not come back together; and
/// it is at most half of what is left, so that a code with little time left is not given up while it has any.
pub fn next_attempt(attempts: i64, now: Timestamp, expire_time: Timestamp, random: u16) -> Option<Timestamp> {
    let left = expire_time.since(now);
    if left < LAST_CALL {
        return None;
    }
    let place = usize::try_from(attempts.saturating_sub(1)).unwrap_or(0).min(PAUSES.len() - 1);
    let spread = 0.8 + 0.4 * f64::from(random) / f64::from(u16::MAX);
    Some(now.plus(PAUSES[place].mul_f64(spread).min(left / 2)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

    fn pause(attempts: i64, left: Duration, random: u16) -> Option<Duration> {
        next_attempt(attempts, NOW, NOW.plus(left), random).map(|time| time.since(NOW))
    }

    #[test]
    fn pauses_grow_and_are_spread() {
        let day = Duration::from_hours(24);
        for (attempts, seconds) in [(0, 1), (1, 1), (2, 5), (3, 30), (4, 120), (5, 600), (6, 1_800), (1_000, 1_800)] {
            let full = Duration::from_secs(seconds);
            assert_eq!(pause(attempts, day, 0), Some(full.mul_f64(0.8)), "{attempts}");
            assert_eq!(pause(attempts, day, u16::MAX), Some(full.mul_f64(1.2)), "{attempts}");
        }
        assert_eq!(pause(1_000, day, u16::MAX), Some(LONGEST_PAUSE));
    }

    #[test]
    fn a_message_is_tried_until_it_is_of_no_use() {
        assert_eq!(pause(5, Duration::from_mins(7), 0), Some(Duration::from_secs(210)));
        assert_eq!(pause(5, Duration::from_secs(5), 0), Some(Duration::from_millis(2_500)));
        assert_eq!(pause(1, Duration::from_millis(4_999), 0), None);
        assert_eq!(next_attempt(1, NOW, NOW.minus(Duration::from_secs(1)), 0), None);
        // From any moment on there is an end.
        let (mut now, end) = (NOW, NOW.plus(Duration::from_hours(48)));
        let mut attempts = 0;
        while let Some(next) = next_attempt(attempts, now, end, 30_000) {
            assert!(next > now && next < end);
            (now, attempts) = (next, attempts + 1);
        }
        assert!((90..140).contains(&attempts), "{attempts}");
    }
}
