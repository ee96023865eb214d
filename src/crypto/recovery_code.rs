//! Recovery codes: what gets somebody in whose authenticator app is gone. 80 random bits each, so that they need no slow
//! hash; written as people can read and type them.

use super::{KeyedHash, KeyedHasher, Purpose, base32};
use crate::domain::{
    id::UserId,
    secret::{Entropy, SecretString, random},
};

/// How many codes an account gets at once.
pub const CODES: usize = 10;

/// New codes, `XXXX-XXXX-XXXX-XXXX` each.
pub fn mint(entropy: &dyn Entropy) -> [SecretString; CODES] {
    std::array::from_fn(|_| {
        let digits = base32::encode(base32::CROCKFORD, &random::<10>(entropy));
        let groups = [0, 4, 8, 12].map(|at| &digits[at..at + 4]);
        SecretString::new(groups.join("-"))
    })
}

/// A code as it is hashed, however it was typed: in capitals, without spaces and dashes, and with the digits that letters were
/// taken for.
pub fn normalised(text: &str) -> String {
    let plain = text.chars().filter(|c| !c.is_whitespace() && *c != '-');
    plain
        .map(|c| match c.to_ascii_uppercase() {
            'O' => '0',
            'I' | 'L' => '1',
            other => other,
        })
        .collect()
}

/// What is stored of a user's code.
pub fn hash(hasher: &KeyedHasher, user: UserId, code: &str) -> KeyedHash {
    hasher.hash(Purpose::RecoveryCode, user.as_uuid().as_bytes(), normalised(code).as_bytes())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::crypto::SystemEntropy;

    #[test]
    fn codes_are_many_plain_and_all_different() {
        let mut seen = HashSet::new();
        for code in (0..20).flat_map(|_| mint(&SystemEntropy)) {
            let groups: Vec<_> = code.expose().split('-').collect();
            assert!(groups.len() == 4 && groups.iter().all(|group| group.len() == 4), "{}", code.expose());
            assert!(!code.expose().contains(['I', 'L', 'O', 'U']) && code.expose().to_uppercase() == code.expose());
            assert_eq!(normalised(code.expose()), code.expose().replace('-', ""));
            seen.insert(code.expose().to_owned());
        }
        assert_eq!(seen.len(), 20 * CODES);
    }

    #[test]
    fn however_it_was_typed_it_is_the_same_code() {
        for typed in ["01AB-CDEF-GH1J-0KMN", "oiab cdef ghlj okmn", " 0lAbCdEf-gHiJ\t0kMn\n"] {
            assert_eq!(normalised(typed), "01ABCDEFGH1J0KMN", "{typed:?}");
        }
        assert_ne!(normalised("01AB-CDEF-GH1J-0KMM"), "01ABCDEFGH1J0KMN");
        assert_eq!(normalised("– é"), "–é", "what no code has stays and matches none");
    }
}
