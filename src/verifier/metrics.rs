//! What a verifier counts. A check adds to two counters; everything else is rare.

use std::{
    fmt::{Display, Write as _},
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use super::{check::Inactive, rule::Denied};

/// How a verification went. The first is a success.
const RESULTS: [&str; 15] = [
    "active",
    "malformed",
    "wrong_type",
    "unknown_key",
    "bad_signature",
    "wrong_issuer",
    "wrong_audience",
    "expired",
    "not_yet_valid",
    "revoked",
    "missing_scope",
    "missing_role",
    "unavailable",
    "not_encrypted",
    "undecryptable",
];

/// The counters.
#[derive(Default)]
pub(super) struct Counters {
    verifications: [AtomicU64; RESULTS.len()],
    keys_fetched: AtomicU64,
    keys_failed: AtomicU64,
    connections: AtomicU64,
    connected: AtomicBool,
    received: AtomicU64,
    not_understood: AtomicU64,
    saved: AtomicU64,
    not_saved: AtomicU64,
}

impl Counters {
    pub(super) fn verified<T>(&self, result: &Result<T, Denied>) {
        let at = match result {
            Ok(_) => 0,
            Err(Denied::Inactive(reason)) => match reason {
                Inactive::Malformed => 1,
                Inactive::WrongType => 2,
                Inactive::UnknownKey => 3,
                Inactive::BadSignature => 4,
                Inactive::WrongIssuer => 5,
                Inactive::WrongAudience => 6,
                Inactive::Expired => 7,
                Inactive::NotYetValid => 8,
                Inactive::Revoked => 9,
                Inactive::NotEncrypted => 13,
                Inactive::Undecryptable => 14,
            },
            Err(Denied::MissingScope(_)) => 10,
            Err(Denied::MissingRole) => 11,
            Err(Denied::Unavailable) => 12,
            // Nothing is verified without one token.
            Err(Denied::NoToken | Denied::UnclearToken) => return,
        };
        self.verifications[at].fetch_add(1, Relaxed);
    }

    pub(super) fn key_fetch(&self, worked: bool) {
        if worked { &self.keys_fetched } else { &self.keys_failed }.fetch_add(1, Relaxed);
    }

    pub(super) fn connected(&self) {
        self.connections.fetch_add(1, Relaxed);
        self.connected.store(true, Relaxed);
    }

    pub(super) fn disconnected(&self) {
        self.connected.store(false, Relaxed);
    }

    pub(super) fn received(&self, revocations: usize, not_understood: usize) {
        self.received.fetch_add(revocations as u64, Relaxed);
        self.not_understood.fetch_add(not_understood as u64, Relaxed);
    }

    pub(super) fn saved(&self, worked: bool) {
        if worked { &self.saved } else { &self.not_saved }.fetch_add(1, Relaxed);
    }

    /// The counters' values, with what only the verifier itself knows left at zero.
    pub(super) fn read(&self) -> Metrics {
        let value = |counter: &AtomicU64| counter.load(Relaxed);
        Metrics {
            verifications: RESULTS.iter().copied().zip(self.verifications.iter().map(value)).collect(),
            key_fetches: value(&self.keys_fetched),
            key_fetches_failed: value(&self.keys_failed),
            watch_connections: value(&self.connections),
            watch_connected: self.connected.load(Relaxed),
            revocations_received: value(&self.received),
            revocations_not_understood: value(&self.not_understood),
            saves: value(&self.saved),
            saves_failed: value(&self.not_saved),
            ..Metrics::default()
        }
    }
}

/// What a verifier has counted, and how it is. See [`Verifier::metrics`](super::Verifier::metrics).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metrics {
    /// Verifications by result: `active`, the reasons of [`Inactive`], `missing_scope`, `missing_role` and `unavailable`.
    pub verifications: Vec<(&'static str, u64)>,
    /// Tokens that were remembered from an earlier verification.
    pub remembered: u64,
    /// Tokens that were not, and so were looked at from the beginning.
    pub examined: u64,
    /// Keys held.
    pub keys: usize,
    /// Fetches of the keys that worked.
    pub key_fetches: u64,
    /// Fetches of the keys that did not.
    pub key_fetches_failed: u64,
    /// How many streams of revocations there have been.
    pub watch_connections: u64,
    /// Whether there is one now.
    pub watch_connected: bool,
    /// Sessions, tokens, subjects and keys that are refused something.
    pub revocations: usize,
    /// Revocations received. Those of the beginning come again where a cursor is no use.
    pub revocations_received: u64,
    /// Revocations of kinds that this version does not know.
    pub revocations_not_understood: u64,
    /// How old the list of revocations is; [`Duration::MAX`]: it never was complete.
    pub staleness: Duration,
    /// Whether that is more than `max_staleness`.
    pub stale: bool,
    /// Whether tokens can be verified by a rule that denies when stale.
    pub ready: bool,
    /// How often the state was saved.
    pub saves: u64,
    /// How often it could not be.
    pub saves_failed: u64,
}

impl Metrics {
    /// How often verifications had this result.
    pub fn verified(&self, result: &str) -> u64 {
        self.verifications.iter().find(|(name, _)| *name == result).map_or(0, |(_, count)| *count)
    }

    /// In the Prometheus text format, each name beginning with `vouchsafe_verifier_`.
    pub fn to_prometheus(&self) -> String {
        let mut text = Exposition(String::new());
        text.family("verifications_total", "counter", "Verifications of access tokens by result.");
        for (result, count) in &self.verifications {
            text.sample("verifications_total", &format!("{{result=\"{result}\"}}"), count);
        }
        text.one("remembered_total", "counter", "Tokens remembered from an earlier verification.", self.remembered);
        text.one("examined_total", "counter", "Tokens looked at from the beginning.", self.examined);
        text.one("keys", "gauge", "Verification keys held.", self.keys);
        text.family("key_fetches_total", "counter", "Fetches of the verification keys by result.");
        text.sample("key_fetches_total", "{result=\"ok\"}", self.key_fetches);
        text.sample("key_fetches_total", "{result=\"failed\"}", self.key_fetches_failed);
        text.one("watch_connections_total", "counter", "Streams of revocations opened.", self.watch_connections);
        text.one(
            "watch_connected",
            "gauge",
            "Whether a stream of revocations is open.",
            u8::from(self.watch_connected),
        );
        text.one("revocations", "gauge", "Sessions, tokens, subjects and keys refused something.", self.revocations);
        text.one("revocations_received_total", "counter", "Revocations received.", self.revocations_received);
        let help = "Revocations of kinds that this version does not know.";
        text.one("revocations_not_understood_total", "counter", help, self.revocations_not_understood);
        let help = "Age of the list of revocations; +Inf: it never was complete.";
        match self.staleness {
            Duration::MAX => text.one("staleness_seconds", "gauge", help, "+Inf"),
            staleness => text.one("staleness_seconds", "gauge", help, staleness.as_secs_f64()),
        }
        text.one("stale", "gauge", "Whether the list of revocations is too old.", u8::from(self.stale));
        text.one("ready", "gauge", "Whether tokens can be verified.", u8::from(self.ready));
        text.family("saves_total", "counter", "Saves of the state by result.");
        text.sample("saves_total", "{result=\"ok\"}", self.saves);
        text.sample("saves_total", "{result=\"failed\"}", self.saves_failed);
        text.0
    }
}

struct Exposition(String);

// Writing to a `String` does not fail.
impl Exposition {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP vouchsafe_verifier_{name} {help}\n# TYPE vouchsafe_verifier_{name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &str, value: impl Display) {
        let _ = writeln!(self.0, "vouchsafe_verifier_{name}{labels} {value}");
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample(name, "", value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_result_has_its_counter() {
        let counters = Counters::default();
        let inactive = |reason| Err::<(), _>(Denied::Inactive(reason));
        for (result, name) in [
            (Ok(()), "active"),
            (inactive(Inactive::Malformed), "malformed"),
            (inactive(Inactive::WrongType), "wrong_type"),
            (inactive(Inactive::UnknownKey), "unknown_key"),
            (inactive(Inactive::BadSignature), "bad_signature"),
            (inactive(Inactive::WrongIssuer), "wrong_issuer"),
            (inactive(Inactive::WrongAudience), "wrong_audience"),
            (inactive(Inactive::Expired), "expired"),
            (inactive(Inactive::NotYetValid), "not_yet_valid"),
            (inactive(Inactive::Revoked), "revoked"),
            (inactive(Inactive::NotEncrypted), "not_encrypted"),
            (inactive(Inactive::Undecryptable), "undecryptable"),
            (Err(Denied::MissingScope("a".into())), "missing_scope"),
            (Err(Denied::MissingRole), "missing_role"),
            (Err(Denied::Unavailable), "unavailable"),
        ] {
            assert_eq!(counters.read().verified(name), 0);
            counters.verified(&result);
            assert_eq!(counters.read().verified(name), 1, "{name}");
        }
        let metrics = counters.read();
        counters.verified(&Err::<(), _>(Denied::NoToken));
        assert_eq!(counters.read(), metrics);
    }

    #[test]
    fn a_list_that_never_was_complete_is_infinitely_old() {
        let metrics = Metrics { staleness: Duration::MAX, ..Metrics::default() };
        assert!(metrics.to_prometheus().contains("vouchsafe_verifier_staleness_seconds +Inf\n"));
        let metrics = Metrics { staleness: Duration::from_millis(1_500), ..metrics };
        assert!(metrics.to_prometheus().contains("vouchsafe_verifier_staleness_seconds 1.5\n"));
    }
}
