//! Medians, quartiles, and ratios of what was measured side by side.

use std::fmt;

/// The middle of some values, and the bounds of their middle half.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quartiles {
    pub(crate) low: f64,
    pub(crate) median: f64,
    pub(crate) high: f64,
}

impl Quartiles {
    /// Of at least one value.
    pub(crate) fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |share| quantile(&sorted, share);
        Self { low: at(0.25), median: at(0.5), high: at(0.75) }
    }
}

impl fmt::Display for Quartiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { low, median, high } = self;
        write!(f, "{median:.2} ({low:.2}–{high:.2})")
    }
}

/// The value that this share of the sorted values does not exceed, between neighbours in proportion.
pub(crate) fn quantile(sorted: &[f64], share: f64) -> f64 {
    let last = sorted.len() - 1;
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let (place, below) = (share * last as f64, (share * last as f64) as usize);
    #[allow(clippy::cast_precision_loss)]
    let part = place - below as f64;
    sorted[below] * (1.0 - part) + sorted[(below + 1).min(last)] * part
}

/// The median.
pub(crate) fn median(values: &[f64]) -> f64 {
    Quartiles::of(values).median
}

/// Pairs that were measured one right after the other.
#[derive(Clone, Debug, Default)]
pub(crate) struct Paired {
    pub(crate) a: Vec<f64>,
    pub(crate) b: Vec<f64>,
}

impl Paired {
    pub(crate) fn push(&mut self, a: f64, b: f64) {
        self.a.push(a);
        self.b.push(b);
    }

    /// A as a multiple of B, pair by pair.
    pub(crate) fn ratios(&self) -> Quartiles {
        Quartiles::of(&self.a.iter().zip(&self.b).map(|(a, b)| a / b).collect::<Vec<_>>())
    }
}
