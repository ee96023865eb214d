//! bcrypt: `$2b$12$`, then 22 characters of salt and 31 of hash in an alphabet of its own. `2a`, `2b` and `2y` are the same
//! function, named anew after its implementations were mended; `2x` marks hashes of a broken one and is not read.
//!
//! bcrypt sees only the first 72 bytes of a password. So was the hash made, and so it is checked: any password that begins with
//! these 72 bytes matches. Django's `bcrypt_sha256` is free of that.

use aws_lc_rs::digest;
use base64::{
    alphabet,
    engine::{GeneralPurpose, general_purpose::NO_PAD},
};
use zeroize::{Zeroize, Zeroizing};

use super::{BadHash, Output, StoredHash, text};
use crate::crypto::password_pool::HashError;

/// The bytes of a password that bcrypt sees.
const MAX_KEY_LEN: usize = 72;
/// Eight times the usual 12, measured at 1.9 s of a core. Each step doubles it.
const MAX_COST: u32 = 15;
/// The work of one of the 2^cost rounds, see [`super::Recipe::cost`].
const COST_OF_ROUND: u64 = 100;
const BASE64: GeneralPurpose = GeneralPurpose::new(&alphabet::BCRYPT, NO_PAD);

/// What is given to bcrypt as the password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::crypto::password_pool) enum Input {
    /// The password.
    Password,
    /// The hexadecimal digits of its SHA-256, as Django's default for bcrypt has it.
    HexOfSha256,
}

/// How a bcrypt hash is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::crypto::password_pool) struct Recipe {
    cost: u32,
    input: Input,
}

/// Reads what follows `$2`.
pub(super) fn read(input: Input, rest: &str) -> Result<StoredHash, BadHash> {
    let [version, cost, rest] = text::fields(rest)?;
    if !["a", "b", "y"].contains(&version) {
        return Err(BadHash::Malformed("its version of bcrypt is not 2a, 2b or 2y"));
    }
    // Two digits always.
    let digits = cost.len() == 2 && cost.bytes().all(|byte| byte.is_ascii_digit());
    let cost = cost.parse().ok().filter(|cost| digits && (4..=31).contains(cost));
    let cost = cost.ok_or(BadHash::Malformed("its cost is not 04 to 31"))?;
    if cost > MAX_COST {
        return Err(BadHash::TooCostly("bcrypt's cost is at most 15"));
    }
    let (salt, output) = rest.split_at_checked(22).ok_or(BadHash::Malformed("its salt or hash is missing"))?;
    Ok(StoredHash {
        recipe: super::Recipe::Bcrypt(Recipe { cost, input }),
        salt: text::bytes(&BASE64, salt, 16..=16)?,
        output: text::bytes(&BASE64, output, 23..=23)?,
    })
}

impl Recipe {
    pub(super) fn cost(self) -> u64 {
        COST_OF_ROUND << self.cost
    }

    pub(in crate::crypto::password_pool) fn compute(self, password: &[u8], salt: &[u8]) -> Result<Output, HashError> {
        let salt = salt.try_into().map_err(|_| HashError::Failed)?;
        let mut full = bcrypt::bcrypt(self.cost, salt, &self.key(password));
        // The last byte is not stored: so the first implementation had it.
        let output = Zeroizing::new(full[..23].to_vec());
        full.zeroize();
        Ok(output)
    }

    /// What bcrypt is keyed with: the input and the zero byte that ends it in C, cut to what bcrypt sees.
    fn key(self, password: &[u8]) -> Zeroizing<Vec<u8>> {
        let mut key = Zeroizing::new(Vec::with_capacity(MAX_KEY_LEN));
        match self.input {
            Input::Password => key.extend_from_slice(&password[..password.len().min(MAX_KEY_LEN)]),
            Input::HexOfSha256 => {
                for byte in digest::digest(&digest::SHA256, password).as_ref() {
                    key.extend([byte >> 4, byte & 15].map(|digit| b"0123456789abcdef"[usize::from(digit)]));
                }
            }
        }
        if key.len() < MAX_KEY_LEN {
            key.push(0);
        }
        key
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(input: Input, password: &[u8]) -> Vec<u8> {
        Recipe { cost: 4, input }.key(password).to_vec()
    }

    #[test]
    fn the_key_is_what_c_would_see() {
        assert_eq!(key(Input::Password, b""), b"\0");
        assert_eq!(key(Input::Password, b"abc"), b"abc\0");
        let long = [b'x'; 100];
        assert_eq!(key(Input::Password, &long[..71]), [&long[..71], b"\0"].concat());
        assert_eq!(key(Input::Password, &long[..72]), long[..72]);
        assert_eq!(key(Input::Password, &long), long[..72]);
        assert_eq!(
            key(Input::HexOfSha256, b"abc"),
            b"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\0"
        );
    }
}
