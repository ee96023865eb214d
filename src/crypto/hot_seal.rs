//! Proof that a value in the hot state is ours: whoever can write there shall neither raise a role nor hide a revocation.

use aws_lc_rs::{constant_time::verify_slices_are_equal, hmac};

use super::{DerivedKey, DerivedKeys};

/// Bytes kept of the authenticator. 128 bits: it is checked online, one guess at a time.
const TAG_LEN: usize = 16;

/// The value was not sealed by us, or not for this place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the value is not ours")]
pub struct Foreign;

/// Authenticates values of the hot state under a key derived from the master key.
pub struct HotSeal(hmac::Key);

impl HotSeal {
    /// The seal that goes with `master`.
    pub fn new(keys: &DerivedKeys) -> Self {
        Self(keys.hmac(DerivedKey::HotState))
    }

    /// `value` with its authenticator, for one `place` alone.
    pub fn seal(&self, place: &[u8], mut value: Vec<u8>) -> Vec<u8> {
        let tag = self.tag(place, &value);
        value.extend_from_slice(&tag.as_ref()[..TAG_LEN]);
        value
    }

    /// The value that was sealed for `place`.
    pub fn open<'v>(&self, place: &[u8], sealed: &'v [u8]) -> Result<&'v [u8], Foreign> {
        let (value, tag) = sealed.split_at_checked(sealed.len().wrapping_sub(TAG_LEN)).ok_or(Foreign)?;
        verify_slices_are_equal(&self.tag(place, value).as_ref()[..TAG_LEN], tag).map_err(|_| Foreign)?;
        Ok(value)
    }

    fn tag(&self, place: &[u8], value: &[u8]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.0);
        // The length keeps ("a", "bc") and ("ab", "c") apart.
        context.update(&(place.len() as u64).to_be_bytes());
        context.update(place);
        context.update(value);
        context.sign()
    }
}

impl std::fmt::Debug for HotSeal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HotSeal([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{crypto::MasterKey, domain::secret::SecretKey};

    #[test]
    fn only_what_was_sealed_for_the_place_under_the_key_opens() {
        let seal = HotSeal::new(&DerivedKeys::of(&MasterKey::new(SecretKey::new([1; 32]))));
        let other = HotSeal::new(&DerivedKeys::of(&MasterKey::new(SecretKey::new([2; 32]))));
        let sealed = seal.seal(b"here", b"value".to_vec());
        assert_eq!(seal.open(b"here", &sealed), Ok(&b"value"[..]));
        assert_eq!(seal.open(b"there", &sealed), Err(Foreign));
        assert_eq!(other.open(b"here", &sealed), Err(Foreign));
        for length in 0..sealed.len() {
            assert_eq!(seal.open(b"here", &sealed[..length]), Err(Foreign), "cut to {length}");
        }
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(seal.open(b"here", &changed), Err(Foreign), "bit {bit}");
        }
        assert_eq!(seal.open(b"", &seal.seal(b"", Vec::new())), Ok(&b""[..]));
        assert_eq!(format!("{seal:?}"), "HotSeal([redacted])");
    }
}
