//! Which part of the keys is known to be away, so that only the first calls wait for a server that does not answer.
//!
//! One server is one part. A cluster is 64, by slot, because one of its nodes may be away while the others answer.
//! Where the border of two nodes is not one of parts, the part across it may be held for away although one of them answers.

use std::sync::atomic::{AtomicU64, Ordering};

use super::keys;

/// 16384 slots in parts of 256.
const CLUSTER_PARTS: u32 = 64;

/// A part of the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part(u32);

/// The moment in which a call began, as the breaker counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Begun(u64);

/// The breaker. Whoever mends parts is not its business.
#[derive(Debug)]
pub(super) struct Breaker {
    parts: u32,
    /// A bit for each part that is away.
    away: AtomicU64,
    /// How often a part was mended.
    mended: AtomicU64,
}

impl Breaker {
    /// A breaker of which all is away until it was tried.
    pub(super) fn new(is_cluster: bool) -> Self {
        let parts = if is_cluster { CLUSTER_PARTS } else { 1 };
        Self { parts, away: AtomicU64::new(u64::MAX >> (64 - parts)), mended: AtomicU64::new(0) }
    }

    /// Where a key belongs.
    pub(super) fn part_of(&self, key: &str) -> Part {
        Part(if self.parts == 1 { 0 } else { u32::from(keys::slot(key)) * self.parts / 16_384 })
    }

    /// A key in a part.
    pub(super) fn key_in(&self, part: Part) -> String {
        // About one key in as many as there are parts is in a given one.
        (0..10_000).map(keys::probe).find(|key| self.part_of(key) == part).unwrap_or_default()
    }

    /// Now, for a call that begins.
    pub(super) fn begin(&self) -> Begun {
        Begun(self.mended.load(Ordering::Acquire))
    }

    /// Whether a part is not known to be away.
    pub(super) fn admits(&self, part: Part) -> bool {
        self.away.load(Ordering::Acquire) & (1 << part.0) == 0
    }

    /// A call that began then found a part away. What it says is old if a part was mended since: then nothing happens.
    pub(super) fn trip(&self, part: Part, begun: Begun) {
        if self.begin() == begun {
            self.away.fetch_or(1 << part.0, Ordering::AcqRel);
        }
    }

    /// A part answers again.
    pub(super) fn mend(&self, part: Part) {
        // Counted first, so that no call of before can trip it afterwards.
        self.mended.fetch_add(1, Ordering::AcqRel);
        self.away.fetch_and(!(1 << part.0), Ordering::AcqRel);
    }

    /// The parts that are away.
    pub(super) fn away(&self) -> Vec<Part> {
        let away = self.away.load(Ordering::Acquire);
        (0..self.parts).filter(|part| away & (1 << part) != 0).map(Part).collect()
    }

    /// The parts that are not.
    pub(super) fn present(&self) -> Vec<Part> {
        (0..self.parts).map(Part).filter(|part| self.admits(*part)).collect()
    }

    /// Whether a part can be away without the others.
    pub(super) fn is_cluster(&self) -> bool {
        self.parts > 1
    }

    /// Whether nothing is away.
    pub(super) fn is_whole(&self) -> bool {
        self.away.load(Ordering::Acquire) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_away_until_it_was_tried() {
        for (is_cluster, parts) in [(false, 1), (true, 64)] {
            let breaker = Breaker::new(is_cluster);
            assert_eq!(breaker.away().len(), parts);
            for part in breaker.away() {
                assert!(!breaker.admits(part) && !breaker.is_whole());
                assert!(!breaker.present().contains(&part));
                assert_eq!(breaker.part_of(&breaker.key_in(part)), part);
                breaker.mend(part);
                assert!(breaker.admits(part));
            }
            assert!(breaker.is_whole() && breaker.away().is_empty());
        }
    }

    #[test]
    fn a_part_is_away_alone() {
        let breaker = Breaker::new(true);
        breaker.away().into_iter().for_each(|part| breaker.mend(part));
        let (one, other) = (Part(63), Part(0));
        breaker.trip(one, breaker.begin());
        assert!(!breaker.admits(one) && breaker.admits(other) && !breaker.is_whole());
        assert_eq!(breaker.away(), [one]);
    }

    #[test]
    fn what_a_call_of_before_found_is_forgotten() {
        let breaker = Breaker::new(false);
        let before = breaker.begin();
        breaker.mend(Part(0));
        breaker.trip(Part(0), before);
        assert!(breaker.is_whole());
        breaker.trip(Part(0), breaker.begin());
        assert!(!breaker.is_whole());
    }
}
