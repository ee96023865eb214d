//! The table: on standard output as it grows, and as Markdown in `target/bench.md` at the end.

use std::{fmt::Write as _, path::Path};

use crate::stats::Quartiles;

/// What a ratio has to be.
#[derive(Clone, Copy)]
pub(crate) enum Bound {
    AtLeast(f64),
    AtMost(f64),
    /// Reported only.
    None,
}

impl Bound {
    fn text(self) -> String {
        match self {
            Self::AtLeast(bound) => format!("≥ {bound}"),
            Self::AtMost(bound) => format!("≤ {bound}"),
            Self::None => "–".to_owned(),
        }
    }

    fn verdict(self, value: f64) -> &'static str {
        match self {
            Self::AtLeast(bound) if value >= bound => "met",
            Self::AtMost(bound) if value <= bound => "met",
            Self::None => "",
            _ => "**missed**",
        }
    }
}

/// All lines so far.
#[derive(Default)]
pub(crate) struct Report {
    rows: Vec<String>,
    notes: Vec<String>,
}

impl Report {
    /// A ratio of two things, the same of one thing and itself, and the absolute figures.
    pub(crate) fn ratio(&mut self, what: &str, ratio: Quartiles, floor: Option<Quartiles>, bound: Bound, detail: &str) {
        let verdict = bound.verdict(ratio.median);
        let floor = floor.map_or("–".to_owned(), |floor| floor.to_string());
        println!("{what}: {ratio}; A against A {floor}; bound {} {verdict}\n    {detail}", bound.text());
        self.rows.push(format!("| {what} | {ratio} | {floor} | {} | {verdict} | {detail} |", bound.text()));
    }

    /// A figure that is no ratio.
    pub(crate) fn figure(&mut self, what: &str, value: f64, unit: &str, bound: Bound, detail: &str) {
        let digits = usize::from(value < 100.0);
        let bound_text = match bound {
            Bound::None => bound.text(),
            _ => format!("{} {unit}", bound.text()),
        };
        let verdict = bound.verdict(value);
        println!("{what}: {value:.digits$} {unit}; bound {bound_text} {verdict}\n    {detail}");
        self.rows.push(format!("| {what} | {value:.digits$} {unit} | – | {bound_text} | {verdict} | {detail} |"));
    }

    /// Something to know about the run.
    pub(crate) fn note(&mut self, text: String) {
        println!("{text}");
        self.notes.push(text);
    }

    /// Writes the Markdown.
    pub(crate) fn write(&self, path: &Path) {
        let mut text = String::new();
        for note in &self.notes {
            writeln!(text, "- {note}").unwrap();
        }
        text.push_str("\n| what | measured | A against A | bound | | details |\n|---|---|---|---|---|---|\n");
        for row in &self.rows {
            writeln!(text, "{row}").unwrap();
        }
        std::fs::write(path, text).unwrap();
        println!("\nwritten to {}", path.display());
    }
}
