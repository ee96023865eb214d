//! Encrypts personal data in audit events under a key per user. To destroy a user's key is to erase that data; the events
//! themselves stay.

use std::sync::Arc;

use aws_lc_rs::hmac;
use uuid::Uuid;

use super::{DataKey, DerivedKey, DerivedKeys, MasterKey, SealContext};
use crate::domain::{audit::PersonalDataVault, id::EventId, secret::Entropy};

/// The vault. Data keys are stored sealed under the master key.
#[derive(Clone)]
pub struct Vault {
    master: Arc<MasterKey>,
    trail: hmac::Key,
    entropy: Arc<dyn Entropy>,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Vault")
    }
}

impl Vault {
    /// A vault under this master key, with the keys derived that stay when it is changed.
    pub fn new(master: Arc<MasterKey>, keys: &DerivedKeys, entropy: Arc<dyn Entropy>) -> Self {
        Self { master, trail: keys.hmac(DerivedKey::Trail), entropy }
    }

    fn data_key(&self, owner: Uuid, sealed: &[u8]) -> Result<DataKey, String> {
        DataKey::from_wrapped(&self.master, key_context(owner.as_bytes()), sealed).map_err(|e| e.to_string())
    }
}

impl PersonalDataVault for Vault {
    fn new_key(&self, owner: Uuid) -> Vec<u8> {
        DataKey::generate(&*self.entropy).wrap(&self.master, key_context(owner.as_bytes()), &*self.entropy)
    }

    fn seal(&self, owner: Uuid, sealed_key: &[u8], event: EventId, personal: &[u8]) -> Result<Vec<u8>, String> {
        let key = self.data_key(owner, sealed_key)?;
        Ok(key.seal(personal_context(event.as_uuid().as_bytes()), personal, &*self.entropy))
    }

    fn open(&self, owner: Uuid, sealed_key: &[u8], event: EventId, sealed: &[u8]) -> Result<Vec<u8>, String> {
        let key = self.data_key(owner, sealed_key)?;
        let personal = key.open(personal_context(event.as_uuid().as_bytes()), sealed).map_err(|e| e.to_string())?;
        Ok(personal.to_vec())
    }

    fn attest(&self, statement: &[u8]) -> [u8; 32] {
        let mut mac = [0; 32];
        mac.copy_from_slice(hmac::sign(&self.trail, statement).as_ref());
        mac
    }
}

const fn key_context(owner: &[u8]) -> SealContext<'_> {
    SealContext { table: "data_keys", row: owner, column: "key_sealed" }
}

const fn personal_context(event: &[u8]) -> SealContext<'_> {
    SealContext { table: "audit_events", row: event, column: "personal_sealed" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        crypto::SystemEntropy,
        domain::{secret::random, time::Timestamp},
    };

    #[test]
    fn personal_data_opens_only_for_its_event_and_its_owner() {
        let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
        let master = Arc::new(MasterKey::generate(&*entropy));
        let vault = Vault::new(Arc::clone(&master), &DerivedKeys::of(&master), Arc::clone(&entropy));
        let event = |n| EventId::new(Timestamp::from_seconds(n), &random(&*entropy));
        let (owner, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let key = vault.new_key(owner);
        let (this, that) = (event(1), event(2));
        let sealed = vault.seal(owner, &key, this, b"198.51.100.7").unwrap();
        assert_eq!(vault.open(owner, &key, this, &sealed).unwrap(), b"198.51.100.7");
        assert!(vault.open(owner, &key, that, &sealed).is_err());
        assert!(vault.open(other, &key, this, &sealed).is_err());
        assert!(vault.open(owner, &vault.new_key(owner), this, &sealed).is_err());
    }
}
