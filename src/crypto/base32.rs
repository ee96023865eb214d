//! Base32 in either alphabet that people are shown. Only written: what is read back is compared by its hash.

/// RFC 4648 section 6: what authenticator apps take a secret in.
pub(super) const RFC4648: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// Crockford's, without letters that are taken for one another or for digits.
pub(super) const CROCKFORD: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// The digits of `bytes`, which are a multiple of five, so that none is half-filled.
pub(super) fn encode(alphabet: &[u8; 32], bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() / 5 * 8);
    for group in bytes.chunks_exact(5) {
        let bits = group.iter().fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
        text.extend((0..8).rev().map(|digit| {
            // Five bits are always below 32.
            let value = usize::try_from(bits >> (digit * 5) & 31).unwrap_or_default();
            char::from(alphabet[value])
        }));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4648 section 10, those that fill their digits.
    #[test]
    fn the_digits_are_those_of_the_rfc() {
        assert_eq!(encode(RFC4648, b""), "");
        assert_eq!(encode(RFC4648, b"fooba"), "MZXW6YTB");
        assert_eq!(encode(RFC4648, b"12345678901234567890"), "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");
        assert_eq!(encode(CROCKFORD, &[0, 0x44, 0x32, 0x14, 0xc7]), "01234567");
        assert_eq!(encode(CROCKFORD, &[0xff; 5]), "ZZZZZZZZ");
    }
}
