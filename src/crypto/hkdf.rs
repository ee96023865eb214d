//! Subkeys: HKDF with SHA-256 (RFC 5869), so that one secret serves many purposes without any two sharing a key.

use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};

use crate::domain::secret::SecretKey;

/// Sets keys of this service apart from those that somebody else derives from the same secret.
const SALT: &[u8] = b"vouchsafe";

/// The subkey of `secret` for one `purpose` and `label`.
///
/// `purpose` is a constant of the calling module, `label` its caller's choice. The length in front of `purpose` keeps
/// ("a", "bc") and ("ab", "c") apart.
pub(super) fn subkey(secret: &SecretKey<32>, purpose: &'static str, label: &str) -> SecretKey<32> {
    let length = (purpose.len() as u64).to_be_bytes();
    let info: [&[u8]; 3] = [&length, purpose.as_bytes(), label.as_bytes()];
    let prk = Salt::new(HKDF_SHA256, SALT).extract(secret.expose());
    let mut subkey = [0; 32];
    #[expect(clippy::expect_used, reason = "32 bytes are one block of SHA-256; HKDF fails only beyond 255 blocks")]
    prk.expand(&info, HKDF_SHA256).and_then(|okm| okm.fill(&mut subkey)).expect("HKDF yields one block");
    SecretKey::new(subkey)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn purposes_and_labels_are_kept_apart() {
        let secret = SecretKey::new([7; 32]);
        let keys = [
            subkey(&secret, "a", "bc"),
            subkey(&secret, "ab", "c"),
            subkey(&secret, "abc", ""),
            subkey(&SecretKey::new([8; 32]), "a", "bc"),
        ];
        for (i, one) in keys.iter().enumerate() {
            assert_eq!(keys.iter().filter(|other| *other == one).count(), 1, "key {i} is its own");
        }
        assert_eq!(keys[0], subkey(&secret, "a", "bc"));
    }
}
