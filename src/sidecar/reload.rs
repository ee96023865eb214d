//! Takes up a new version of the file while the sidecar runs.
//!
//! The file is read once a second and on SIGHUP: whatever way it is replaced, also through the links of a Kubernetes volume. A
//! file that cannot be used changes nothing.

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    signal::unix::{SignalKind, signal},
    task::spawn_blocking,
    time::sleep,
};

use super::{
    config::{self, Config, Fixed},
    state::State,
};
use crate::{domain::time::Clock as _, verifier::SystemClock};

const PERIOD: Duration = Duration::from_secs(1);

/// Watches one file.
pub(super) struct Reload {
    path: PathBuf,
    /// Its text as it was last looked at, or why there was none.
    seen: Result<String, String>,
    /// What the sidecar was started with.
    fixed: Fixed,
    state: Arc<State>,
}

impl Reload {
    pub(super) fn new(path: PathBuf, text: String, fixed: Fixed, state: Arc<State>) -> Self {
        Self { path, seen: Ok(text), fixed, state }
    }

    /// Never ends.
    pub(super) async fn run(mut self) -> std::io::Result<()> {
        let mut hangup = signal(SignalKind::hangup())?;
        loop {
            tokio::select! {
                () = sleep(PERIOD) => {}
                _ = hangup.recv() => {}
            }
            let path = self.path.clone();
            let read = spawn_blocking(move || config::read(&path)).await;
            let read = read.map_err(std::io::Error::other).flatten();
            self.consider(read.map_err(|error| format!("cannot read {}: {error}", self.path.display())));
        }
    }

    /// Takes up what was read, if it is new.
    fn consider(&mut self, read: Result<String, String>) {
        if read == self.seen {
            return;
        }
        let parsed =
            read.as_ref().map_err(Clone::clone).and_then(|text| Config::parse(text).map_err(|e| e.to_string()));
        self.seen = read;
        match parsed {
            Ok(config) => self.take(config),
            Err(problems) => {
                self.state.metrics.reload_failed();
                tracing::error!(problems, "the file cannot be used: going on with the policy in force");
            }
        }
    }

    fn take(&self, Config { fixed, policy, warnings }: Config) {
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        if fixed != self.fixed {
            tracing::warn!(
                "the file has changed beyond [headers], [default], [[routes]] and strip_token: restart the sidecar for the rest"
            );
        }
        let routes = policy.routes.len();
        self.state.policy.store(Arc::new(policy));
        self.state.metrics.reloaded(SystemClock.now());
        tracing::info!(routes, "a new policy is in force");
    }
}
