//! When to try again: soon at first, so that a restart of the issuer costs nothing, and then ever more seldom, each at a moment
//! of its own, so that a thousand who lost one issuer do not come back at once.

use std::time::Duration;

/// No sooner than this.
const SHORTEST: Duration = Duration::from_millis(100);
/// What may be added to it the first time. Doubles with each further time.
const FIRST: Duration = Duration::from_millis(200);
/// Never longer than this: it is how late a verifier may be after the issuer is back.
const LONGEST: Duration = Duration::from_secs(5);

/// How often it was in vain.
#[derive(Debug, Default)]
pub(in crate::verifier) struct BackOff(u32);

impl BackOff {
    /// The pause before the next attempt, with a random part that `jitter` draws up to what it is given.
    pub(in crate::verifier) fn next(&mut self, jitter: impl FnOnce(Duration) -> Duration) -> Duration {
        let most = FIRST.saturating_mul(1 << self.0.min(16)).min(LONGEST.saturating_sub(SHORTEST));
        self.0 = self.0.saturating_add(1);
        SHORTEST + jitter(most)
    }

    /// It was not in vain.
    pub(in crate::verifier) fn reset(&mut self) {
        self.0 = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn soon_at_first_then_seldom_then_soon_again() {
        let mut back_off = BackOff::default();
        let most = |back_off: &mut BackOff| back_off.next(|most| most).as_millis();
        assert_eq!(back_off.next(|_| Duration::ZERO), SHORTEST);
        back_off.reset();
        let pauses: Vec<_> = (0..7).map(|_| most(&mut back_off)).collect();
        assert_eq!(pauses, [300, 500, 900, 1_700, 3_300, 5_000, 5_000]);
        assert_eq!((0..100).map(|_| most(&mut back_off)).max(), Some(5_000));
        back_off.reset();
        assert_eq!(most(&mut back_off), 300);
    }
}
