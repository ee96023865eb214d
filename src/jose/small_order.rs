//! Ed25519 public keys that anybody can sign for.

/// The two y coordinates, little-endian, of the points of order 8.
const ORDER_8: [[u8; 32]; 2] = [
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5, 0xdf,
        0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a, 0x20,
        0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
    ],
];

/// Whether `key` is a point of order 8 or less, in any spelling.
///
/// Such a key fits signatures that need no private key, and aws-lc does not refuse it. Thirty-two zero bytes, what a bug
/// leaves behind where a key should be, are one.
pub(super) fn has_small_order(key: &[u8; 32]) -> bool {
    let mut y = *key;
    // The sign of x: a point has the order of its negative.
    y[31] &= 0x7f;
    let (first, rest) = (y[0], &y[1..]);
    // y is 0 or 1; or the prime less 1, or 0 or 1 spelled with the prime added.
    let near_zero = first <= 1 && rest.iter().all(|&b| b == 0);
    let near_prime = (0xec..=0xee).contains(&first) && rest[..30].iter().all(|&b| b == 0xff) && rest[30] == 0x7f;
    near_zero || near_prime || ORDER_8.contains(&y)
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};

    use super::*;

    fn key(first: u8, middle: u8, last: u8) -> [u8; 32] {
        let mut key = [middle; 32];
        (key[0], key[31]) = (first, last);
        key
    }

    fn negative(mut key: [u8; 32]) -> [u8; 32] {
        key[31] |= 0x80;
        key
    }

    /// R is the neutral element and S is zero: it fits as soon as the hash is a multiple of the key's order.
    #[test]
    fn each_refused_key_can_be_signed_for_without_its_private_key() {
        let mut signature = [0; 64];
        signature[0] = 1;
        let [a, b] = ORDER_8;
        for key in [a, b, negative(a), negative(b), key(0, 0, 0), key(1, 0, 0), key(0xec, 0xff, 0x7f)] {
            let forged = (0..200_u8).any(|m| UnparsedPublicKey::new(&ED25519, key).verify(&[m], &signature).is_ok());
            assert!(forged, "{key:02x?} is refused without need");
            assert!(has_small_order(&key), "{key:02x?}");
        }
    }

    #[test]
    fn other_spellings_of_these_points_are_refused_whether_aws_lc_reads_them_or_not() {
        for key in [key(1, 0, 0), key(0xec, 0xff, 0x7f), key(0xed, 0xff, 0x7f), key(0xee, 0xff, 0x7f)] {
            assert!(has_small_order(&key) && has_small_order(&negative(key)), "{key:02x?}");
        }
    }

    #[test]
    fn an_honest_key_is_not_refused() {
        for key in [key(2, 0, 0), key(0, 0, 1), key(0xeb, 0xff, 0x7f), key(0xef, 0xff, 0x7f), key(7, 7, 7)] {
            assert!(!has_small_order(&key), "{key:02x?}");
        }
    }
}
