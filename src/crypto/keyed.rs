//! Codes, handles and device secrets: how they are made, and what is stored of them.
//!
//! What is stored is a keyed hash (HMAC-SHA-256 under a key from the master key), so that whoever reads the database can
//! neither use a code nor guess a short one.

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use super::{DerivedKey, DerivedKeys};
use crate::domain::secret::{Entropy, SecretString, random};

/// What a hash is for: texts of one purpose have nothing in common with those of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Codes in mails: `vev_…`, `vpr_…`.
    MailedCode,
    /// Handles of challenges: `vch_…`.
    Challenge,
    /// Digits that were sent for a challenge; hashed with its handle's hash.
    OneTimeCode,
    /// Recovery codes; hashed with the user's id.
    RecoveryCode,
    /// What a known device keeps: `vds_…`.
    DeviceSecret,
    /// What failures are counted by.
    Throttle,
    /// What messages are counted by.
    Budget,
    /// Identifiers that no account has, for the audit trail: people type passwords into that field.
    UnknownIdentifier,
    /// Requests that may be sent again: enough to see that it is the same one, nothing that it says.
    Request,
}

impl Purpose {
    const fn label(self) -> &'static str {
        match self {
            Self::MailedCode => "mailed code",
            Self::Challenge => "challenge",
            Self::OneTimeCode => "one-time code",
            Self::RecoveryCode => "recovery code",
            Self::DeviceSecret => "device secret",
            Self::Throttle => "throttle",
            Self::Budget => "budget",
            Self::UnknownIdentifier => "unknown identifier",
            Self::Request => "request",
        }
    }
}

/// A keyed hash. Not a secret by itself.
pub type KeyedHash = [u8; 32];

/// Hashes texts under a key derived from the master key.
pub struct KeyedHasher(hmac::Key);

impl KeyedHasher {
    /// The hasher that goes with `master`.
    pub fn new(keys: &DerivedKeys) -> Self {
        Self(keys.hmac(DerivedKey::KeyedHashes))
    }

    /// The hash of `text` for a purpose and in the scope of, say, one user; an empty scope is one too.
    pub fn hash(&self, purpose: Purpose, scope: &[u8], text: &[u8]) -> KeyedHash {
        let mut context = hmac::Context::with_key(&self.0);
        for part in [purpose.label().as_bytes(), scope] {
            // The length in front keeps parts apart.
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        context.update(text);
        let mut hash = [0; 32];
        hash.copy_from_slice(context.sign().as_ref());
        hash
    }
}

impl std::fmt::Debug for KeyedHasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyedHasher([redacted])")
    }
}

/// A new secret of 256 bits: the prefix and 43 characters of base64url.
pub fn mint(prefix: &'static str, entropy: &dyn Entropy) -> SecretString {
    let bytes = Zeroizing::new(random::<32>(entropy));
    let mut text = String::with_capacity(prefix.len() + 43);
    text.push_str(prefix);
    URL_SAFE_NO_PAD.encode_string(bytes.as_slice(), &mut text);
    SecretString::new(text)
}

/// A new code of eight decimal digits, each as likely as any other.
pub fn mint_digits(entropy: &dyn Entropy) -> SecretString {
    const CODES: u32 = 100_000_000;
    // Above the last multiple, small codes would be likelier.
    const FAIR: u32 = u32::MAX - u32::MAX % CODES;
    loop {
        let drawn = u32::from_be_bytes(random(entropy));
        if drawn < FAIR {
            return SecretString::new(format!("{:08}", drawn % CODES));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        crypto::{MasterKey, SystemEntropy},
        domain::secret::SecretKey,
    };

    #[test]
    fn purposes_scopes_and_master_keys_are_kept_apart() {
        let hasher = KeyedHasher::new(&DerivedKeys::of(&MasterKey::new(SecretKey::new([1; 32]))));
        let other = KeyedHasher::new(&DerivedKeys::of(&MasterKey::new(SecretKey::new([2; 32]))));
        let hash = hasher.hash(Purpose::RecoveryCode, b"ab", b"c");
        assert_eq!(hash, hasher.hash(Purpose::RecoveryCode, b"ab", b"c"));
        for different in [
            hasher.hash(Purpose::RecoveryCode, b"a", b"bc"),
            hasher.hash(Purpose::OneTimeCode, b"ab", b"c"),
            other.hash(Purpose::RecoveryCode, b"ab", b"c"),
        ] {
            assert_ne!(hash, different);
        }
    }

    #[test]
    fn secrets_are_prefixed_and_codes_have_eight_digits() {
        let secret = mint("vch_", &SystemEntropy);
        assert_eq!((secret.expose().len(), &secret.expose()[..4]), (47, "vch_"));
        assert_ne!(secret, mint("vch_", &SystemEntropy));
        for _ in 0..100 {
            let code = mint_digits(&SystemEntropy);
            assert!(code.expose().len() == 8 && code.expose().bytes().all(|b| b.is_ascii_digit()));
        }
    }
}
