//! What the sidecar counts.

use std::{
    fmt::Write as _,
    sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
};

use super::reason::Reason;
use crate::domain::time::Timestamp;

/// Counters and gauges of one sidecar.
#[derive(Debug)]
pub(super) struct Metrics {
    checks: Box<[AtomicU64]>,
    reloads: AtomicU64,
    failed_reloads: AtomicU64,
    /// Whether the file on disk is the one in force.
    current: AtomicBool,
    /// When the policy in force was loaded.
    loaded: AtomicI64,
}

impl Metrics {
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            checks: Reason::ALL.iter().map(|_| AtomicU64::new(0)).collect(),
            reloads: AtomicU64::new(0),
            failed_reloads: AtomicU64::new(0),
            current: AtomicBool::new(true),
            loaded: AtomicI64::new(now.as_micros()),
        }
    }

    pub(super) fn count(&self, reason: Reason) {
        self.checks[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// A new policy is in force.
    pub(super) fn reloaded(&self, now: Timestamp) {
        self.reloads.fetch_add(1, Ordering::Relaxed);
        self.loaded.store(now.as_micros(), Ordering::Relaxed);
        self.current.store(true, Ordering::Relaxed);
    }

    /// The file cannot be used; the policy stays.
    pub(super) fn reload_failed(&self) {
        self.failed_reloads.fetch_add(1, Ordering::Relaxed);
        self.current.store(false, Ordering::Relaxed);
    }

    /// In the text format of Prometheus, version 0.0.4.
    pub(super) fn to_prometheus(&self, now: Timestamp) -> String {
        let mut text = String::with_capacity(4096);
        head(
            &mut text,
            "vouchsafe_sidecar_checks_total",
            "counter",
            "Requests that proxies asked about, by decision and reason.",
        );
        for (reason, count) in Reason::ALL.iter().zip(&self.checks) {
            let (decision, reason, count) = (reason.decision(), reason.as_str(), count.load(Ordering::Relaxed));
            // Writing to a String cannot fail, here and below.
            let _ =
                writeln!(text, "vouchsafe_sidecar_checks_total{{decision=\"{decision}\",reason=\"{reason}\"}} {count}");
        }
        head(&mut text, "vouchsafe_sidecar_policy_reloads_total", "counter", "New versions of the file, by outcome.");
        for (outcome, count) in [("ok", &self.reloads), ("failed", &self.failed_reloads)] {
            let count = count.load(Ordering::Relaxed);
            let _ = writeln!(text, "vouchsafe_sidecar_policy_reloads_total{{outcome=\"{outcome}\"}} {count}");
        }
        head(
            &mut text,
            "vouchsafe_sidecar_policy_current",
            "gauge",
            "1 if the file is the policy in force, 0 if it cannot be used.",
        );
        let _ = writeln!(text, "vouchsafe_sidecar_policy_current {}", u8::from(self.current.load(Ordering::Relaxed)));
        head(&mut text, "vouchsafe_sidecar_policy_age_seconds", "gauge", "Time since the policy in force was loaded.");
        let age = now.since(Timestamp::from_micros(self.loaded.load(Ordering::Relaxed)));
        let _ = writeln!(text, "vouchsafe_sidecar_policy_age_seconds {}", age.as_secs_f64());
        text
    }
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}
