//! base64url without padding, in its one canonical spelling (RFC 7515 §2, RFC 4648 §3.5).

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

/// The text is not canonical: padded, with white space, a foreign letter, an impossible length or stray trailing bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotCanonical;

/// Appends what `text` decodes to.
pub(super) fn decode_onto(text: &str, bytes: &mut Vec<u8>) -> Result<(), NotCanonical> {
    URL_SAFE_NO_PAD.decode_vec(text, bytes).map_err(|_| NotCanonical)
}

/// What `text` decodes to, if that is exactly `N` bytes.
pub(super) fn decode_exactly<const N: usize>(text: &str) -> Result<[u8; N], NotCanonical> {
    // Before decoding, so that a huge text costs nothing: three bytes take four letters.
    if text.len() > N.div_ceil(3) * 4 {
        return Err(NotCanonical);
    }
    let mut bytes = Vec::with_capacity(N + 3);
    decode_onto(text, &mut bytes)?;
    bytes.try_into().map_err(|_| NotCanonical)
}

/// Appends the encoding of `bytes`.
pub(super) fn encode_onto(bytes: &[u8], text: &mut String) {
    URL_SAFE_NO_PAD.encode_string(bytes, text);
}

/// How many letters the encoding of so many bytes has.
pub(super) const fn encoded_len(bytes: usize) -> usize {
    (bytes * 4).div_ceil(3)
}

/// The encoding of `bytes`.
pub(super) fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(text: &str) -> Result<Vec<u8>, NotCanonical> {
        let mut bytes = Vec::new();
        decode_onto(text, &mut bytes)?;
        Ok(bytes)
    }

    #[test]
    fn only_the_canonical_spelling_is_accepted() {
        assert_eq!(decode("-_8"), Ok(vec![0xfb, 0xff]));
        for bad in ["-_8=", "+/8", " -_8", "-_8\n", "-_8 ", "-_9", "-", "AAAAA", "ä", "-_8.", "\0"] {
            assert_eq!(decode(bad), Err(NotCanonical), "{bad:?}");
        }
    }

    #[test]
    fn a_length_is_exact() {
        assert_eq!(decode_exactly::<2>("-_8"), Ok([0xfb, 0xff]));
        assert!(decode_exactly::<1>("-_8").is_err());
        assert!(decode_exactly::<3>("-_8").is_err());
        assert!(decode_exactly::<2>(&"A".repeat(1 << 20)).is_err());
    }

    proptest! {
        #[test]
        fn whatever_decodes_has_no_second_spelling(text in "[A-Za-z0-9_=+/ -]{0,12}") {
            if let Ok(bytes) = decode(&text) {
                prop_assert_eq!(encode(&bytes), text);
            }
        }

        #[test]
        fn every_byte_string_survives(bytes: Vec<u8>) {
            prop_assert_eq!(decode(&encode(&bytes)), Ok(bytes));
        }
    }
}
