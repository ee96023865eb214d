//! The secrets of service accounts: how they are made, and what is kept of them.
//!
//! `vss_` and the base64url of `secret id ‖ HMAC-SHA256(secret id)`, 68 characters, with one spelling. The key is derived from
//! the master key, so that nobody without it can make one, and a lost answer can be given again bit for bit. What is stored
//! is the SHA-256 of the whole text; a secret is checked against that alone.

use aws_lc_rs::{
    digest::{SHA256, digest},
    hmac,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use uuid::Uuid;
use zeroize::Zeroize;

use super::{DerivedKey, DerivedKeys};
use crate::domain::{
    secret::SecretString,
    service_account::{PresentedSecret, SecretHash},
};

/// Tells a service account's secret from every other kind, for people and for secret scanners.
const PREFIX: &str = "vss_";
const ID_LEN: usize = 16;
const SECRET_LEN: usize = ID_LEN + 32;
const TEXT_LEN: usize = PREFIX.len() + SECRET_LEN / 3 * 4;

/// Makes secrets, under a key derived from the master key.
pub struct ServiceSecrets(hmac::Key);

impl ServiceSecrets {
    /// The maker that goes with `master`: secrets of two master keys have nothing in common.
    pub fn new(keys: &DerivedKeys) -> Self {
        Self(keys.hmac(DerivedKey::ServiceSecrets))
    }

    /// The secret with this id: the same each time.
    pub fn mint(&self, id: Uuid) -> SecretString {
        let mut secret = Vec::with_capacity(SECRET_LEN);
        secret.extend_from_slice(id.as_bytes());
        secret.extend_from_slice(hmac::sign(&self.0, id.as_bytes()).as_ref());
        let mut text = String::with_capacity(TEXT_LEN);
        text.push_str(PREFIX);
        URL_SAFE_NO_PAD.encode_string(&secret, &mut text);
        secret.zeroize();
        SecretString::new(text)
    }
}

impl std::fmt::Debug for ServiceSecrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ServiceSecrets([redacted])")
    }
}

/// A text that somebody presents as a secret. Whatever it is, it costs one hash.
pub fn present(text: &SecretString) -> PresentedSecret {
    // What is too long is cut before it is hashed: it is no secret, and its id is nobody's.
    let text = text.expose().as_bytes();
    let hash = hash(&text[..text.len().min(TEXT_LEN)]);
    PresentedSecret { id: id_in(text).unwrap_or(Uuid::nil()), hash }
}

/// What is stored of a secret.
pub fn stored(secret: &SecretString) -> SecretHash {
    hash(secret.expose().as_bytes())
}

fn hash(text: &[u8]) -> SecretHash {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, text).as_ref());
    SecretHash::new(hash)
}

/// The id that a text of the right form carries.
fn id_in(text: &[u8]) -> Option<Uuid> {
    if text.len() != TEXT_LEN {
        return None;
    }
    let mut secret = [0; SECRET_LEN];
    let length = URL_SAFE_NO_PAD.decode_slice(text.strip_prefix(PREFIX.as_bytes())?, &mut secret).ok()?;
    let id = secret.first_chunk::<ID_LEN>().filter(|_| length == SECRET_LEN).copied();
    secret.zeroize();
    id.map(Uuid::from_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{crypto::MasterKey, domain::secret::SecretKey};

    fn maker(byte: u8) -> ServiceSecrets {
        ServiceSecrets::new(&DerivedKeys::of(&MasterKey::new(SecretKey::new([byte; 32]))))
    }

    #[test]
    fn a_secret_is_a_function_of_its_id_and_the_master_key() {
        let id = Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001);
        let secret = maker(1).mint(id);
        assert_eq!(secret.expose().len(), TEXT_LEN);
        assert!(secret.expose().starts_with("vss_AZAAAAAAcACAAAAAAAAAA"), "the id is in front");
        assert_eq!(secret, maker(1).mint(id));
        assert_ne!(secret, maker(2).mint(id));
        assert_ne!(secret, maker(1).mint(Uuid::from_u128(1)));
        assert_eq!(present(&secret).id, id);
        assert_eq!(present(&secret).hash.as_bytes(), stored(&secret).as_bytes());
        assert_eq!(format!("{:?}", maker(1)), "ServiceSecrets([redacted])");
    }

    #[test]
    fn no_other_text_carries_an_id_or_has_the_same_hash() {
        let secret = maker(1).mint(Uuid::from_u128(7)).expose().to_owned();
        for other in [
            String::new(),
            "vss_".to_owned(),
            secret[4..].to_owned(),
            secret.replacen("vss_", "vrt_", 1),
            format!("{secret}="),
            format!(" {secret}"),
            secret[..secret.len() - 1].to_owned(),
            format!("{}é", &secret[..secret.len() - 2]),
            "x".repeat(1_000_000),
        ] {
            assert_eq!(present(&SecretString::new(other.clone())).id, Uuid::nil(), "{other:.80}");
        }
    }
}
