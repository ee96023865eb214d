//! What is kept of a request that may be sent again: enough to see that it is the same one, nothing that it says.

use aws_lc_rs::hmac;

use super::{DerivedKey, DerivedKeys};

/// Hashes requests under a key derived from the master key, so that nobody without it can find out by trial what was asked for.
pub struct RequestHasher(hmac::Key);

impl RequestHasher {
    /// The hasher that goes with `master`.
    pub fn new(keys: &DerivedKeys) -> Self {
        Self(keys.hmac(DerivedKey::Requests))
    }

    /// The keyed hash of a request in its one form.
    pub fn hash(&self, request: &[u8]) -> Vec<u8> {
        hmac::sign(&self.0, request).as_ref().to_vec()
    }
}

impl std::fmt::Debug for RequestHasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RequestHasher([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{crypto::MasterKey, domain::secret::SecretKey};

    #[test]
    fn the_same_request_can_be_recognised_only_with_the_key() {
        let hasher = |byte| RequestHasher::new(&DerivedKeys::of(&MasterKey::new(SecretKey::new([byte; 32]))));
        let hash = hasher(1).hash(b"ada@example.com");
        assert_eq!(hash, hasher(1).hash(b"ada@example.com"));
        assert_ne!(hash, hasher(1).hash(b"grace@example.com"));
        assert_ne!(hash, hasher(2).hash(b"ada@example.com"));
    }
}
