//! Answers that are given at full steps of time only. Whether there is an account, and in which state, shows in no answer; what the
//! database does for one is so nearly the same that it takes a tenth of a millisecond more or less, which whoever asks often enough would
//! measure. Between two steps nothing of it is seen.

use std::time::{Duration, Instant};

use tokio::time::sleep_until;

use crate::crypto::monotonic_now;

/// From one moment that an answer may be given at to the next. Many times what the work takes, so that hardly any answer comes near a
/// step's end, where the difference could push it into the next one; and little for people, who wait for a message anyway.
const STEP: Duration = Duration::from_millis(20);

/// Does the work, and answers a full number of steps after it was begun. Errors alike.
pub(super) async fn in_step<T>(work: impl Future<Output = T>) -> T {
    let began = monotonic_now();
    let answer = work.await;
    sleep_until(next_step(began, monotonic_now()).into()).await;
    answer
}

/// The first full step after `now`.
fn next_step(began: Instant, now: Instant) -> Instant {
    let steps = now.saturating_duration_since(began).as_nanos() / STEP.as_nanos() + 1;
    // More steps than that are more than two years.
    began + STEP.saturating_mul(u32::try_from(steps).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_the_work_takes_the_answer_comes_at_a_full_step() {
        let began = monotonic_now();
        let after = |took: Duration| next_step(began, began + took).duration_since(began);
        for (took, answered) in
            [(0, 20_000), (2_150, 20_000), (2_360, 20_000), (19_999, 20_000), (20_000, 40_000), (65_000, 80_000)]
        {
            assert_eq!(after(Duration::from_micros(took)), Duration::from_micros(answered), "{took}");
        }
        assert_eq!(next_step(began, began), began + STEP);
    }
}
