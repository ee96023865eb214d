//! Whether an unknown `kid` is worth a fetch. Anybody can write tokens that name keys nobody has, so all callers together cause
//! no more than one fetch per interval. The present moment is an argument.

use std::time::{Duration, Instant};

/// The fetches so far.
#[derive(Debug)]
pub(super) struct Gate {
    cool_down: Duration,
    /// When the latest one began.
    began: Option<Instant>,
    /// Whether one is under way, or asked for.
    pending: bool,
    /// Whether the latest one that ended has failed.
    failed: bool,
    /// When the issuer last said that the keys have changed.
    changed: Option<Instant>,
}

/// For so long after the issuer has said that the keys have changed, those that it gives out may be the old ones: another of its
/// nodes, or the one that said so, may not have read them yet. Longer than the second look takes.
const UNSETTLED: Duration = Duration::from_secs(3);

/// What to do about an unknown `kid`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Wait for the fetch that is under way.
    Wait,
    /// Begin a fetch, and wait for it.
    Begin,
    /// The keys are those of a moment ago: there is no such key.
    Known,
    /// The keys could not be fetched a moment ago, or may not be the newest: nobody can say.
    Failed,
}

impl Gate {
    pub(super) const fn new(cool_down: Duration) -> Self {
        Self { cool_down, began: None, pending: false, failed: false, changed: None }
    }

    /// Somebody asks for an unknown `kid`.
    pub(super) fn ask(&mut self, now: Instant) -> Look {
        if self.pending {
            return Look::Wait;
        }
        match self.began {
            Some(began) if now.saturating_duration_since(began) < self.cool_down => {
                if self.failed || self.is_unsettled(now) { Look::Failed } else { Look::Known }
            }
            _ => {
                self.pending = true;
                Look::Begin
            }
        }
    }

    /// A fetch begins, for whatever reason.
    pub(super) fn begin(&mut self, now: Instant) {
        self.pending = true;
        self.began = Some(now);
    }

    /// It has ended.
    pub(super) fn end(&mut self, failed: bool) {
        self.pending = false;
        self.failed = failed;
    }

    /// The issuer says that the keys have changed.
    pub(super) const fn change(&mut self, now: Instant) {
        self.changed = Some(now);
    }

    /// Whether a key that is not among those fetched may be one all the same.
    pub(super) fn is_unsettled(&self, now: Instant) -> bool {
        self.changed.is_some_and(|changed| now.saturating_duration_since(changed) < UNSETTLED)
    }

    /// Whether the latest fetch that ended has failed.
    pub(super) const fn failed(&self) -> bool {
        self.failed
    }

    /// How soon after the latest fetch another may begin that the issuer itself asks for: at once, but not all the time.
    pub(super) fn pause(&self, now: Instant) -> Duration {
        let least = self.cool_down.min(Duration::from_secs(1));
        self.began.map_or(Duration::ZERO, |began| least.saturating_sub(now.saturating_duration_since(began)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verifier::ambient::monotonic_now;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn any_number_of_unknown_kids_is_one_fetch_per_interval() {
        let start = monotonic_now();
        let mut gate = Gate::new(10 * SECOND);
        let mut fetches = 0;
        // A question each millisecond for a minute; a fetch takes half a second and every third fails.
        let mut ends = None;
        for millis in 0..60_000 {
            let now = start + Duration::from_millis(millis);
            if ends == Some(now) {
                gate.end(fetches % 3 == 0);
                ends = None;
            }
            match gate.ask(now) {
                Look::Begin => {
                    assert_eq!(ends, None);
                    gate.begin(now);
                    fetches += 1;
                    ends = Some(now + SECOND / 2);
                }
                Look::Wait => assert!(ends.is_some()),
                Look::Known => assert!(ends.is_none() && fetches % 3 != 0),
                Look::Failed => assert!(ends.is_none() && fetches % 3 == 0),
            }
        }
        assert_eq!(fetches, 6);
    }

    #[test]
    fn a_fetch_for_another_reason_counts_too() {
        let start = monotonic_now();
        let mut gate = Gate::new(10 * SECOND);
        assert_eq!(gate.pause(start), Duration::ZERO);
        gate.begin(start);
        assert_eq!(gate.ask(start), Look::Wait);
        gate.end(false);
        assert_eq!(gate.pause(start + SECOND / 4), SECOND * 3 / 4);
        assert_eq!(gate.pause(start + SECOND), Duration::ZERO);
        assert_eq!(gate.ask(start + 9 * SECOND), Look::Known);
        assert_eq!(gate.ask(start + 10 * SECOND), Look::Begin);
        assert_eq!(gate.ask(start + 10 * SECOND), Look::Wait, "asked for, though not begun");
    }
    #[test]
    fn right_after_a_change_nobody_can_say_that_a_key_is_unknown() {
        let start = monotonic_now();
        let mut gate = Gate::new(10 * SECOND);
        gate.begin(start);
        gate.end(false);
        assert_eq!(gate.ask(start), Look::Known);
        gate.change(start + SECOND);
        gate.begin(start + SECOND);
        gate.end(false);
        assert_eq!(gate.ask(start + SECOND), Look::Failed);
        assert_eq!(gate.ask(start + 7 * SECOND / 2), Look::Failed);
        assert_eq!(gate.ask(start + 4 * SECOND), Look::Known);
    }
}
