//! Metrics at one moment, as both ways out take them: the scrape and OTLP.

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows while the process lives.
    Counter,
    /// Goes up and down.
    Gauge,
    /// How many values fell into which range.
    Histogram,
}

/// What there is to say about a metric whatever its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Description {
    /// Its name in OTLP.
    pub name: &'static str,
    /// Its name in a scrape.
    pub prometheus: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Its unit, in UCUM as OTLP wants it.
    pub unit: &'static str,
    /// What it tells.
    pub help: &'static str,
}

/// A metric with its values.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// What it is.
    pub about: &'static Description,
    /// Its values, by their labels.
    pub points: Vec<Point>,
}

/// A value with its labels. Names and values of labels are fixed in the program: nothing that a caller sent can be one.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// Names in OTLP, and values.
    pub labels: Vec<(&'static str, &'static str)>,
    /// The value.
    pub value: Value,
}

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Of a counter or a gauge.
    Number(f64),
    /// Of a histogram.
    Distribution(Distribution),
}

/// How many values fell into which range.
#[derive(Clone, Debug, PartialEq)]
pub struct Distribution {
    /// Upper bounds, inclusive.
    pub bounds: &'static [f64],
    /// One for each bound, and one beyond the last.
    pub counts: Vec<u64>,
    /// The sum of all values.
    pub sum: f64,
}

impl Distribution {
    /// How many values there were.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// A count as a float.
#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53, which no count reaches")]
pub(super) fn float(count: u64) -> f64 {
    count as f64
}
