//! What the audit trail keeps of a login identifier that no account has: people type passwords into that field, so only a
//! keyed hash, enough to see that it is the same one again.

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{DerivedKey, DerivedKeys};

/// Bytes kept of the hash. 128 bits: two identifiers never share a hash by chance.
const KEPT: usize = 16;

/// Hashes unknown identifiers under a key derived from the master key.
pub struct IdentifierHasher(hmac::Key);

impl IdentifierHasher {
    /// The hasher that goes with `master`: hashes of two master keys have nothing in common.
    pub fn new(keys: &DerivedKeys) -> Self {
        Self(keys.hmac(DerivedKey::Identifiers))
    }

    /// The keyed hash of `identifier` exactly as given, as 22 characters of base64url. Fold case and white space before,
    /// where two spellings should count as one.
    pub fn hash(&self, identifier: &str) -> String {
        let tag = hmac::sign(&self.0, identifier.as_bytes());
        URL_SAFE_NO_PAD.encode(&tag.as_ref()[..KEPT])
    }
}

impl std::fmt::Debug for IdentifierHasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("IdentifierHasher([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{crypto::MasterKey, domain::secret::SecretKey};

    #[test]
    fn the_same_identifier_can_be_recognised_only_with_the_key() {
        let hasher = IdentifierHasher::new(&DerivedKeys::of(&MasterKey::new(SecretKey::new([1; 32]))));
        let other = IdentifierHasher::new(&DerivedKeys::of(&MasterKey::new(SecretKey::new([2; 32]))));
        let hash = hasher.hash("hunter2");
        assert_eq!(hash.len(), 22);
        assert_eq!(hash, hasher.hash("hunter2"));
        assert_ne!(hash, hasher.hash("hunter3"));
        assert_ne!(hash, other.hash("hunter2"));
        assert!(!hash.contains("hunter"));
        assert_eq!(format!("{hasher:?}"), "IdentifierHasher([redacted])");
    }
}
