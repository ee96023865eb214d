//! Keys of hashes and seals that stay what they are when the master key is changed.
//!
//! They are random, made with the database and stored sealed, as everything else is. Those of a database that was made before they were
//! stored are derived from the master key that it began with, and stored from then on: were they derived anew from another one, every
//! device would be unknown, every code in a mail wrong and every throttle at zero. A founded database says that it is one: whatever is
//! missing there was lost, and nothing that could be derived would be what it was.

use aws_lc_rs::hmac;

use super::{MasterKey, SealContext, SealError};
use crate::domain::secret::{Entropy, SecretKey, random};

/// What a derived key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DerivedKey {
    /// Hashes of codes, handles, device secrets, and of what is counted ([`super::KeyedHasher`]).
    KeyedHashes,
    /// Secrets of service accounts ([`super::ServiceSecrets`]).
    ServiceSecrets,
    /// Values of the hot state ([`super::HotSeal`]).
    HotState,
    /// What is vouched for of the audit trail ([`super::Vault`]).
    Trail,
}

impl DerivedKey {
    /// Every one. All of these are in every founded database. Whichever is added later is to be made at random on one
    /// that was founded before, and never derived.
    pub const ALL: [Self; 4] = [Self::KeyedHashes, Self::ServiceSecrets, Self::HotState, Self::Trail];

    /// The label it is derived with and stored under. Never changed: it would be another key.
    pub const fn name(self) -> &'static str {
        match self {
            Self::KeyedHashes => "keyed hash v1",
            Self::ServiceSecrets => "service account secret v1",
            Self::HotState => "hot state v1",
            Self::Trail => "audit trail v1",
        }
    }

    /// Where it is stored.
    pub const fn context(self) -> SealContext<'static> {
        place(self.name())
    }

    /// A new key, for the storing of which a database is founded: nobody can derive it.
    pub fn found(self, master: &MasterKey, entropy: &dyn Entropy) -> Vec<u8> {
        let key: SecretKey<32> = SecretKey::new(random(entropy));
        master.seal(self.context(), key.expose(), entropy)
    }

    /// The key of a database that was made without, for storing.
    pub fn seal(self, origin: &MasterKey, master: &MasterKey, entropy: &dyn Entropy) -> Vec<u8> {
        master.seal(self.context(), origin.derive(self.name()).expose(), entropy)
    }

    /// The stored key.
    ///
    /// # Errors
    /// If it was sealed under another master key, or is damaged.
    pub fn open(self, master: &MasterKey, sealed: &[u8]) -> Result<SecretKey<32>, SealError> {
        let bytes = master.open(self.context(), sealed)?;
        Ok(SecretKey::new(bytes.as_slice().try_into().map_err(|_| SealError::Corrupt)?))
    }
}

/// Where what has this name is stored.
const fn place(name: &'static str) -> SealContext<'static> {
    SealContext { table: "stored_secrets", row: name.as_bytes(), column: "secret_sealed" }
}

/// All of them.
#[derive(Clone)]
pub struct DerivedKeys([SecretKey<32>; DerivedKey::ALL.len()]);

impl DerivedKeys {
    /// The name under which a database says that it was founded with keys that nobody can derive.
    pub const FOUNDED: &str = "founded v1";

    /// What stands there, for storing: sealed, so that a change of the master key meets it as it meets the others.
    pub fn founded(master: &MasterKey, entropy: &dyn Entropy) -> Vec<u8> {
        master.seal(place(Self::FOUNDED), b"founded", entropy)
    }

    /// Those of a database that has had no other master key than this.
    pub fn of(origin: &MasterKey) -> Self {
        Self(DerivedKey::ALL.map(|key| origin.derive(key.name())))
    }

    /// Those that `find` finds.
    ///
    /// # Errors
    /// Its.
    pub fn gather<E>(mut find: impl FnMut(DerivedKey) -> Result<SecretKey<32>, E>) -> Result<Self, E> {
        let [hashes, secrets, hot, trail] = DerivedKey::ALL;
        Ok(Self([find(hashes)?, find(secrets)?, find(hot)?, find(trail)?]))
    }

    /// One of them.
    pub fn key(&self, key: DerivedKey) -> SecretKey<32> {
        // They stand in the order in which they are declared.
        self.0[key as usize].clone()
    }

    /// One of them, for HMAC-SHA-256.
    pub(super) fn hmac(&self, key: DerivedKey) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, self.key(key).expose())
    }
}

impl std::fmt::Debug for DerivedKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DerivedKeys([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::SystemEntropy;

    fn master(byte: u8) -> MasterKey {
        MasterKey::new(SecretKey::new([byte; 32]))
    }

    #[test]
    fn each_key_stands_at_its_place_and_is_its_own() {
        let keys = DerivedKeys::of(&master(1));
        for (place, key) in DerivedKey::ALL.into_iter().enumerate() {
            assert_eq!(key as usize, place, "{key:?}");
            assert_eq!(keys.0[place], master(1).derive(key.name()));
            assert_eq!(keys.0.iter().filter(|other| **other == keys.0[place]).count(), 1, "{key:?}");
        }
        assert_eq!(format!("{keys:?}"), "DerivedKeys([redacted])");
    }

    #[test]
    fn a_founded_key_is_derived_from_nothing() {
        let found = DerivedKey::ALL.map(|key| {
            let (one, two) = (key.found(&master(1), &SystemEntropy), key.found(&master(1), &SystemEntropy));
            let [one, two] = [one, two].map(|sealed| key.open(&master(1), &sealed).unwrap());
            assert!(one != two && one != master(1).derive(key.name()), "{key:?}");
            one
        });
        assert_eq!(found.iter().filter(|key| **key == found[0]).count(), 1);
    }

    #[test]
    fn a_stored_key_outlives_the_master_key_it_was_derived_from() {
        let both = master(2).beside(master(1)).unwrap();
        let stored = DerivedKey::ALL.map(|key| key.seal(&master(1), &both, &SystemEntropy));
        let found = DerivedKeys::gather(|key| key.open(&master(2), &stored[key as usize])).unwrap();
        assert_eq!(found.0, DerivedKeys::of(&master(1)).0);
        assert!(DerivedKeys::gather(|key| key.open(&master(1), &stored[key as usize])).is_err());
        let swapped = DerivedKeys::gather(|key| key.open(&master(2), &stored[(key as usize + 1) % stored.len()]));
        assert_eq!(swapped.unwrap_err(), SealError::Corrupt, "one is not taken for another");
    }
}
