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

/// What takes the place of a signing key that is revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Succession {
    /// Nothing: another key signs, and goes on.
    None,
    /// A key published already signs at once: the one with this place among the others.
    Next(usize),
    /// The key that signs goes on until this moment, when one published already takes over.
    Until(Timestamp),
    /// A new key is needed, with this life. What signs until then goes on so long.
    New(KeyLife),
}

impl Succession {
    /// Decides it from the `others`, the lives of all keys but the revoked one.
    pub fn after_revocation(others: &[KeyLife], now: Timestamp, lead: Duration) -> Self {
        let in_state = |state| others.iter().enumerate().filter(move |(_, life)| life.state(now) == state);
        let next = in_state(KeyState::Published).min_by_key(|(_, life)| life.activate_time);
        let mut active = in_state(KeyState::Active).peekable();
        match (active.peek().is_some(), next) {
            (false, Some((place, _))) => Self::Next(place),
            // Nobody can have learnt of it before, and without it nobody can sign in.
            (false, None) => Self::New(KeyLife::first(now)),
            (true, Some((_, life))) => Self::Until(life.activate_time),
            (true, None) if active.any(|(_, life)| life.retire_time.is_none()) => Self::None,
            (true, None) => Self::New(KeyLife::successor(now, lead)),
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

    /// Whatever is revoked, somebody signs now and later.
    #[test]
    fn what_is_left_after_a_revocation_signs_without_a_gap() {
        let lead = Duration::from_secs(10);
        let live = |from, until: Option<i64>| KeyLife {
            activate_time: at(from),
            retire_time: until.map(at),
            remove_time: until.map(|t| at(t + 50)),
            ..KeyLife::first(at(0))
        };
        let after = |others: &[KeyLife]| Succession::after_revocation(others, at(100), lead);
        assert_eq!(after(&[]), Succession::New(KeyLife::first(at(100))), "the only key");
        assert_eq!(after(&[live(0, Some(90))]), Succession::New(KeyLife::first(at(100))), "one retired key is left");
        assert_eq!(after(&[live(50, None)]), Succession::None, "it was retired or removed");
        assert_eq!(after(&[live(130, None), live(120, Some(130))]), Succession::Next(1), "it signed");
        assert_eq!(after(&[live(50, Some(110))]), Succession::New(KeyLife::successor(at(100), lead)), "the successor");
        assert_eq!(after(&[live(50, Some(110)), live(130, None)]), Succession::Until(at(130)), "one in between");
        assert_eq!(after(&[live(50, Some(130)), live(130, None)]), Succession::Until(at(130)), "a retired one");
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
