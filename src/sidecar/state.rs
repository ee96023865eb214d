//! What all parts of a running sidecar share.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use arc_swap::ArcSwap;

use super::{metrics::Metrics, policy::Policy};
use crate::{
    domain::{audience::Audience, time::Clock as _},
    verifier::{SystemClock, Verifier},
};

pub(super) struct State {
    pub(super) verifier: Verifier,
    /// Whom tokens must be meant for.
    pub(super) audience: Vec<Audience>,
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
        // Where no rule minds that revocations are missing, keys will do.
        let will_do = || self.policy.load().allows_stale() && self.verifier.metrics().keys > 0;
        if self.verifier.is_ready() || will_do() { Ok(()) } else { Err("keys or revocations are missing") }
    }

    /// Everything there is to count.
    pub(super) fn scrape(&self) -> String {
        self.verifier.metrics().to_prometheus() + &self.metrics.to_prometheus(SystemClock.now())
    }
}
