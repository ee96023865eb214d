//! What all parts of a running sidecar share.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use arc_swap::ArcSwap;

use super::{metrics::Metrics, policy::Policy};
use crate::{
    domain::time::Clock,
    verifier::{SystemClock, Verifier},
};

pub(super) struct State {
    pub(super) verifier: Verifier,
    pub(super) policy: Arc<ArcSwap<Policy>>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) stopping: AtomicBool,
}

impl State {
    /// Whether requests can be decided.
    pub(super) fn readiness(&self) -> Result<(), &'static str> {
        if self.stopping.load(Ordering::Acquire) {
            return Err("stopping");
        }
        if !super::ready(&self.verifier) {
            return Err("keys or revocations are missing");
        }
        Ok(())
    }

    /// Everything there is to count.
    pub(super) fn scrape(&self) -> String {
        super::verifier_metrics(&self.verifier) + &self.metrics.to_prometheus(SystemClock.now())
    }
}
