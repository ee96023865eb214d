//! The life of a signing key: `published → active → retired → removed`, decided by time alone.
//!
//! Every moment of a key's life is written down when it becomes known, so that any number of nodes agree on which key
//! signs without talking to each other.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

use super::time::Timestamp;

/// The signature algorithms of access tokens. Symmetric ones are missing on purpose: a verifier must not be able to mint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Algorithm {
    /// ECDSA on P-256 with SHA-256 (RFC 7518 §3.4).
    #[default]
    #[serde(rename = "ES256")]
    Es256,
    /// Ed25519 (RFC 8037).
    #[serde(rename = "EdDSA")]
    EdDsa,
    /// RSASSA-PKCS1-v1_5 with SHA-256 (RFC 7518 §3.3), for verifiers that know nothing else: tokens four times as long and
    /// slow to sign.
    #[serde(rename = "RS256")]
    Rs256,
}

impl Algorithm {
    /// All that are offered.
    pub const ALL: [Self; 3] = [Self::Es256, Self::EdDsa, Self::Rs256];

    /// The name in `alg`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
            Self::Rs256 => "RS256",
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Algorithm {
    type Err = UnknownAlgorithm;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "ES256" => Ok(Self::Es256),
            "EdDSA" => Ok(Self::EdDsa),
            "RS256" => Ok(Self::Rs256),
            _ => Err(UnknownAlgorithm),
        }
    }
}

/// The name of an algorithm that is not offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the algorithms offered are ES256, EdDSA and RS256")]
pub struct UnknownAlgorithm;

/// The moments of a key's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyLife {
    /// When the key became visible to verifiers.
    pub publish_time: Timestamp,
    /// When it begins to sign.
    pub activate_time: Timestamp,
    /// When it stops signing; set when its successor is published.
    pub retire_time: Option<Timestamp>,
    /// When the last token it signed has expired; set together with `retire_time`.
    pub remove_time: Option<Timestamp>,
}

/// Where a key stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyState {
    /// Visible to verifiers, does not sign yet.
    Published,
    /// Signs.
    Active,
    /// Signs no more, still verifies.
    Retired,
    /// Neither signs nor verifies.
    Removed,
}

impl KeyState {
    /// The lower-case name shown to people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Published => "published",
            Self::Active => "active",
            Self::Retired => "retired",
            Self::Removed => "removed",
        }
    }
}

impl KeyLife {
    /// The first key of all: nobody could have learnt of it before, so it signs at once.
    pub const fn first(now: Timestamp) -> Self {
        Self { publish_time: now, activate_time: now, retire_time: None, remove_time: None }
    }

    /// A successor, published now and signing `lead` later.
    pub fn successor(now: Timestamp, lead: Duration) -> Self {
        Self { publish_time: now, activate_time: now.plus(lead), retire_time: None, remove_time: None }
    }

    /// Where the key stands at `now`.
    pub fn state(&self, now: Timestamp) -> KeyState {
        if self.remove_time.is_some_and(|t| t <= now) {
            KeyState::Removed
        } else if self.retire_time.is_some_and(|t| t <= now) {
            KeyState::Retired
        } else if self.activate_time <= now {
            KeyState::Active
        } else {
            KeyState::Published
        }
    }
}

/// How often keys change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RotationPolicy {
    /// How long a key signs before its successor takes over.
    pub period: Duration,
    /// How long a key is published before it signs.
    pub lead: Duration,
}

impl RotationPolicy {
    /// Whether a successor is due: nothing is published that would take over, and what signs is old enough that a
    /// successor published now takes over at the end of its period.
    pub fn is_due<'a>(&self, keys: impl IntoIterator<Item = &'a KeyLife>, now: Timestamp) -> bool {
        match keys.into_iter().map(|k| k.activate_time).max() {
            None => true,
            Some(newest) => now.plus(self.lead) >= newest.plus(self.period),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    #[test]
    fn a_key_lives_through_its_states_in_order() {
        let key = KeyLife {
            retire_time: Some(at(30)),
            remove_time: Some(at(40)),
            ..KeyLife::successor(at(0), Duration::from_secs(10))
        };
        for (now, state) in [
            (9, KeyState::Published),
            (10, KeyState::Active),
            (29, KeyState::Active),
            (30, KeyState::Retired),
            (39, KeyState::Retired),
            (40, KeyState::Removed),
        ] {
            assert_eq!(key.state(at(now)), state, "at {now}");
        }
    }

    #[test]
    fn a_successor_is_due_one_lead_before_the_period_ends() {
        let policy = RotationPolicy { period: Duration::from_secs(100), lead: Duration::from_secs(10) };
        let key = KeyLife::first(at(0));
        assert!(policy.is_due([], at(0)));
        assert!(!policy.is_due([&key], at(89)));
        assert!(policy.is_due([&key], at(90)));
        let successor = KeyLife::successor(at(90), policy.lead);
        assert!(!policy.is_due([&key, &successor], at(91)), "one successor is enough");
    }
}
