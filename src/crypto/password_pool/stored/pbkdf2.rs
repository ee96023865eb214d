//! PBKDF2 in three spellings:
//! - Django: `pbkdf2_sha256$1000000$salt$hash`, the salt a text, the hash in padded base64;
//! - passlib: `$pbkdf2-sha256$29000$salt$hash`, both in base64 with `.` in place of `+` and without padding;
//! - PHC: `$pbkdf2-sha256$i=600000,l=32$salt$hash`, both in unpadded standard base64; `l` may be missing.

use std::num::NonZeroU32;

use aws_lc_rs::pbkdf2;
use base64::{
    alphabet::Alphabet,
    engine::{
        GeneralPurpose,
        general_purpose::{NO_PAD, STANDARD, STANDARD_NO_PAD},
    },
};
use zeroize::Zeroizing;

use super::{BadHash, OUTPUT_LEN, Output, SALT_LEN, StoredHash, text};

/// The most work, in iterations with SHA-256: five times Django's million, measured at 1.3 s of a core. A processor without
/// instructions for SHA may take three times as long.
const MAX_COST: u64 = 5_000_000;

/// passlib's base64.
const AB64: GeneralPurpose = GeneralPurpose::new(
    &match Alphabet::new("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789./") {
        Ok(alphabet) => alphabet,
        // When this is compiled, not when it runs.
        Err(_) => panic!("no alphabet"),
    },
    NO_PAD,
);

/// The hash function in HMAC, the pseudorandom function of PBKDF2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::crypto::password_pool) enum Prf {
    Sha1,
    Sha256,
    Sha512,
}

impl Prf {
    const fn output_len(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }

    const fn algorithm(self) -> pbkdf2::Algorithm {
        match self {
            Self::Sha1 => pbkdf2::PBKDF2_HMAC_SHA1,
            Self::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
            Self::Sha512 => pbkdf2::PBKDF2_HMAC_SHA512,
        }
    }

    /// The work of one iteration, see [`super::Recipe::cost`].
    const fn cost(self) -> u64 {
        match self {
            Self::Sha1 | Self::Sha256 => 1,
            Self::Sha512 => 2,
        }
    }
}

/// How a PBKDF2 hash is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::crypto::password_pool) struct Recipe {
    prf: Prf,
    iterations: NonZeroU32,
    output_len: usize,
}

/// Reads what follows `pbkdf2_sha256$`.
pub(super) fn read_django(prf: Prf, rest: &str) -> Result<StoredHash, BadHash> {
    let [iterations, salt, output] = text::fields(rest)?;
    let salt = text::plain_salt(salt)?;
    let output = text::bytes(&STANDARD, output, prf.output_len()..=prf.output_len())?;
    stored(prf, iterations, salt, output)
}

/// Reads what follows `$pbkdf2-sha256$`.
pub(super) fn read(prf: Prf, rest: &str) -> Result<StoredHash, BadHash> {
    let [head, salt, output] = text::fields(rest)?;
    let Some(params) = head.strip_prefix("i=") else {
        let salt = text::bytes(&AB64, salt, SALT_LEN)?;
        let output = text::bytes(&AB64, output, prf.output_len()..=prf.output_len())?;
        return stored(prf, head, salt, output);
    };
    let salt = text::bytes(&STANDARD_NO_PAD, salt, SALT_LEN)?;
    let output = text::bytes(&STANDARD_NO_PAD, output, OUTPUT_LEN)?;
    let (iterations, length) = params.split_once(",l=").map_or((params, None), |(i, l)| (i, Some(l)));
    if length.is_some_and(|length| text::decimal(length).is_none_or(|length| length as usize != output.len())) {
        return Err(BadHash::Malformed("its hash is not of the length that it tells"));
    }
    stored(prf, iterations, salt, output)
}

fn stored(prf: Prf, iterations: &str, salt: Vec<u8>, output: Vec<u8>) -> Result<StoredHash, BadHash> {
    let iterations = text::decimal(iterations).and_then(NonZeroU32::new);
    let iterations = iterations.ok_or(BadHash::Malformed("its iterations are not a number"))?;
    let recipe = Recipe { prf, iterations, output_len: output.len() };
    if recipe.cost() > MAX_COST {
        return Err(BadHash::TooCostly(
            "PBKDF2 has at most 5 million iterations, half as many with SHA-512 or for a long hash",
        ));
    }
    Ok(StoredHash { recipe: super::Recipe::Pbkdf2(recipe), salt, output })
}

impl Recipe {
    /// Each stretch of output as long as the hash function's is computed apart.
    pub(super) fn cost(&self) -> u64 {
        let stretches = self.output_len.div_ceil(self.prf.output_len()) as u64;
        u64::from(self.iterations.get()) * stretches * self.prf.cost()
    }

    pub(in crate::crypto::password_pool) fn compute(&self, password: &[u8], salt: &[u8]) -> Output {
        let mut output = Zeroizing::new(vec![0; self.output_len]);
        pbkdf2::derive(self.prf.algorithm(), self.iterations, salt, password, &mut output);
        output
    }
}
