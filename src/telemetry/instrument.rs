//! What counts and measures: atomics, resolved once, so that to record costs a few nanoseconds and waits for nobody.

use std::{
    marker::PhantomData,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use super::{
    family::{Distribution, Point, Value, float},
    label::Label,
};

/// Something that only grows.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    pub(super) fn add_many(&self, number: u64) {
        self.0.fetch_add(number, Relaxed);
    }

    pub(super) fn value(&self) -> Value {
        Value::Number(float(self.0.load(Relaxed)))
    }
}

/// A counter for each value of a label.
#[derive(Debug)]
pub(super) struct Counters<L> {
    counters: Box<[Counter]>,
    label: PhantomData<fn(L)>,
}

impl<L: Label> Default for Counters<L> {
    fn default() -> Self {
        Self { counters: L::ALL.iter().map(|_| Counter::default()).collect(), label: PhantomData }
    }
}

impl<L: Label> Counters<L> {
    pub(super) fn add(&self, label: L) {
        self.counters[label.index()].add();
    }

    /// All of them, also those that nothing was counted by: an alert on a rate must see the first event.
    pub(super) fn points(&self) -> Vec<Point> {
        let point =
            |(label, counter): (&L, &Counter)| Point { labels: vec![(L::KEY, label.as_str())], value: counter.value() };
        L::ALL.iter().zip(&self.counters).map(point).collect()
    }
}

/// A counter for each pair of two labels' values.
#[derive(Debug)]
pub(super) struct CountersBy<A, B> {
    rows: Box<[Counters<B>]>,
    label: PhantomData<fn(A)>,
}

impl<A: Label, B: Label> Default for CountersBy<A, B> {
    fn default() -> Self {
        Self { rows: A::ALL.iter().map(|_| Counters::default()).collect(), label: PhantomData }
    }
}

impl<A: Label, B: Label> CountersBy<A, B> {
    pub(super) fn add(&self, a: A, b: B) {
        self.rows[a.index()].add(b);
    }

    pub(super) fn points(&self) -> Vec<Point> {
        let labelled = |(a, row): (&A, &Counters<B>)| {
            let with_a = |mut point: Point| {
                point.labels.insert(0, (A::KEY, a.as_str()));
                point
            };
            row.points().into_iter().map(with_a).collect::<Vec<_>>()
        };
        A::ALL.iter().zip(&self.rows).flat_map(labelled).collect()
    }
}

/// Upper bounds of a histogram's buckets, in seconds. From a verification (tens of microseconds) to the longest deadline
/// that is of use; those of the conventions for RPCs are among them from 5 ms on, below which they see nothing.
pub(super) const BOUNDS: [f64; 17] =
    [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// The same in nanoseconds, so that to record computes with integers.
const BOUNDS_NANOS: [u64; BOUNDS.len()] = {
    const MICROS: [u64; BOUNDS.len()] = [
        100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
        5_000_000, 10_000_000, 30_000_000,
    ];
    let mut nanos = MICROS;
    let mut index = 0;
    while index < nanos.len() {
        nanos[index] *= 1_000;
        index += 1;
    }
    nanos
};

/// How long things took.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    /// One for each bound, and one beyond the last.
    buckets: [AtomicU64; BOUNDS.len() + 1],
    /// Overflows after 584 years of work.
    nanos: AtomicU64,
}

impl Histogram {
    pub(super) fn record(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_NANOS.partition_point(|bound| *bound < nanos);
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.nanos.fetch_add(nanos, Relaxed);
    }

    pub(super) fn value(&self) -> Value {
        Value::Distribution(Distribution {
            bounds: &BOUNDS,
            counts: self.buckets.iter().map(|bucket| bucket.load(Relaxed)).collect(),
            sum: Duration::from_nanos(self.nanos.load(Relaxed)).as_secs_f64(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bounds_are_the_same_in_both_units_and_rise() {
        for (seconds, nanos) in BOUNDS.iter().zip(BOUNDS_NANOS) {
            assert_eq!(Duration::from_secs_f64(*seconds), Duration::from_nanos(nanos));
        }
        assert!(BOUNDS_NANOS.is_sorted());
    }

    #[test]
    fn a_bound_belongs_to_its_own_bucket() {
        let histogram = Histogram::default();
        for micros in [0, 100, 101, 30_000_000, 30_000_001] {
            histogram.record(Duration::from_micros(micros));
        }
        let Value::Distribution(Distribution { counts, sum, .. }) = histogram.value() else { panic!() };
        assert_eq!((counts[0], counts[1], counts[16], counts[17]), (2, 1, 1, 1));
        assert_eq!(counts.iter().sum::<u64>(), 5);
        assert!((sum - 60.000_202).abs() < 1e-9, "{sum}");
    }
}
