//! Takes up a new version of the file while the sidecar runs.
//!
//! The file is read once a second and on SIGHUP: whatever way it is replaced, also through the links of a Kubernetes volume. A
//! new text is taken up once two readings agree, so that one that is still being written, which may end where it makes sense
//! without its last routes, is not; SIGHUP says that it is whole. A file that cannot be used changes nothing, and is tried again
//! every second: what is wrong may be another file that it names.

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
    readings: Readings,
    /// What was last said to be wrong, if it still is.
    problems: Option<String>,
    /// What the sidecar was started with.
    fixed: Fixed,
    state: Arc<State>,
}

impl Reload {
    pub(super) fn new(path: PathBuf, text: String, fixed: Fixed, state: Arc<State>) -> Self {
        Self { path, readings: Readings::new(text), problems: None, fixed, state }
    }

    /// Never ends.
    pub(super) async fn run(mut self) -> std::io::Result<()> {
        let mut hangup = signal(SignalKind::hangup())?;
        loop {
            let asked = tokio::select! {
                () = sleep(PERIOD) => false,
                _ = hangup.recv() => true,
            };
            let path = self.path.clone();
            let read = spawn_blocking(move || config::read(&path)).await;
            let read = read.map_err(std::io::Error::other).flatten();
            let read = read.map_err(|error| format!("cannot read {}: {error}", self.path.display()));
            if self.readings.is_due(&read, asked, self.problems.is_some()) {
                self.consider(read);
            }
        }
    }

    fn consider(&mut self, read: Result<String, String>) {
        let parsed = read.and_then(|text| match Config::parse(&text) {
            Ok(config) => Ok((text, config)),
            Err(problems) => Err(problems.to_string()),
        });
        match parsed {
            Ok((text, config)) => {
                self.problems = None;
                self.readings.in_force = text;
                self.take(config);
            }
            // Said and counted once, however often it is tried.
            Err(problems) if self.problems.as_ref() == Some(&problems) => {}
            Err(problems) => {
                self.state.metrics.reload_failed();
                tracing::error!(problems, "the file cannot be used: going on with the policy in force");
                self.problems = Some(problems);
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

/// What was read of the file.
struct Readings {
    /// The text that the policy is from.
    in_force: String,
    /// What was there the last time, or why nothing was.
    last: Result<String, String>,
}

impl Readings {
    fn new(text: String) -> Self {
        Self { in_force: text.clone(), last: Ok(text) }
    }

    /// Whether what has been read now is to be taken up, or tried again.
    fn is_due(&mut self, read: &Result<String, String>, asked: bool, failing: bool) -> bool {
        let agrees = *read == self.last;
        self.last.clone_from(read);
        (agrees || asked) && (failing || read.as_ref() != Ok(&self.in_force))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_taken_up_once_two_readings_agree() {
        let mut readings = Readings::new("old".to_owned());
        let read = |text: &str| Ok(text.to_owned());
        assert!(!readings.is_due(&read("old"), false, false) && !readings.is_due(&read("old"), true, false));
        assert!(!readings.is_due(&read("ne"), false, false), "it may be written still");
        assert!(!readings.is_due(&read("new"), false, false), "and was");
        assert!(readings.is_due(&read("new"), false, false));
        readings.in_force = "new".to_owned();
        assert!(!readings.is_due(&read("new"), false, false));
        assert!(readings.is_due(&read("newer"), true, false), "SIGHUP says that it is whole");
    }

    #[test]
    fn what_failed_is_tried_until_it_does_not() {
        let mut readings = Readings::new("old".to_owned());
        let gone = Err("gone".to_owned());
        assert!(!readings.is_due(&gone, false, false) && readings.is_due(&gone, false, false));
        assert!(readings.is_due(&gone, false, true));
        // Back to what is in force: somebody must say that all is well.
        assert!(!readings.is_due(&Ok("old".to_owned()), false, true));
        assert!(readings.is_due(&Ok("old".to_owned()), false, true));
    }
}
