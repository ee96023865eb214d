//! scrypt (RFC 7914) in two spellings:
//! - PHC and passlib: `$scrypt$ln=16,r=8,p=1$salt$hash`, `ln` the logarithm of N, salt and hash in unpadded base64;
//! - Django: `scrypt$16384$salt$8$5$hash`, which is N, a text as the salt, r, p, and 64 bytes in padded base64.

use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use scrypt::{Params, scrypt};
use zeroize::Zeroizing;

use super::{BadHash, MAX_MEMORY_KIB, OUTPUT_LEN, Output, SALT_LEN, StoredHash, text};
use crate::crypto::password_pool::HashError;

/// The most work, as N·r·p: four times what OWASP recommends (N = 2^17, r = 8, p = 1), six times Django's; measured at
/// 1.6 s of a core.
const MAX_COST: u64 = 1 << 22;
/// The largest r·p, which takes 128 bytes each: what is usual is 8 to 40.
const MAX_LANES: u64 = 1024;
const TOO_COSTLY: BadHash = BadHash::TooCostly(
    "scrypt takes at most 256 MiB (N·r at most 2097152), N·r·p is at most 4194304, r·p at most 1024",
);

/// How a scrypt hash is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::crypto::password_pool) struct Recipe {
    log_n: u8,
    r: u32,
    p: u32,
    output_len: usize,
}

/// Reads what follows `$scrypt$`.
pub(super) fn read(rest: &str) -> Result<StoredHash, BadHash> {
    let [params, salt, output] = text::fields(rest)?;
    let mut params = params.split(',');
    let mut number = |name| {
        let digits = params.next().and_then(|param| param.strip_prefix(name)).unwrap_or_default();
        text::decimal(digits).ok_or(BadHash::Malformed("its parameters are not ln, r and p"))
    };
    let (log_n, r, p) = (number("ln=")?, number("r=")?, number("p=")?);
    if params.next().is_some() {
        return Err(BadHash::Malformed("it has parameters other than ln, r and p"));
    }
    let salt = text::bytes(&STANDARD_NO_PAD, salt, SALT_LEN)?;
    let output = text::bytes(&STANDARD_NO_PAD, output, OUTPUT_LEN)?;
    stored(log_n, r, p, salt, output)
}

/// Reads what follows `scrypt$`.
pub(super) fn read_django(rest: &str) -> Result<StoredHash, BadHash> {
    let [n, salt, r, p, output] = text::fields(rest)?;
    let number = |digits| text::decimal(digits).ok_or(BadHash::Malformed("its parameters are not numbers"));
    let (n, r, p) = (number(n)?, number(r)?, number(p)?);
    // What is too large for 32 bits was read as the largest number there is.
    if n == u32::MAX {
        return Err(TOO_COSTLY);
    }
    if !n.is_power_of_two() {
        return Err(BadHash::Malformed("its N is not a power of two"));
    }
    let output = text::bytes(&STANDARD, output, 64..=64)?;
    stored(n.ilog2(), r, p, text::plain_salt(salt)?, output)
}

fn stored(log_n: u32, r: u32, p: u32, salt: Vec<u8>, output: Vec<u8>) -> Result<StoredHash, BadHash> {
    if log_n == 0 || r == 0 || p == 0 {
        return Err(BadHash::Malformed("scrypt allows no such parameters"));
    }
    let lanes = u64::from(r) * u64::from(p);
    // The first comparison makes the rest safe to compute.
    let log_n = u8::try_from(log_n).ok().filter(|&log_n| log_n < 32 && lanes <= MAX_LANES).ok_or(TOO_COSTLY)?;
    let recipe = Recipe { log_n, r, p, output_len: output.len() };
    if recipe.memory() > u64::from(MAX_MEMORY_KIB) * 1024 || recipe.cost() > MAX_COST {
        return Err(TOO_COSTLY);
    }
    Ok(StoredHash { recipe: super::Recipe::Scrypt(recipe), salt, output })
}

impl Recipe {
    /// Bytes of its large buffer; the others have at most 128 KiB each.
    fn memory(&self) -> u64 {
        (u64::from(self.r) * 128) << self.log_n
    }

    pub(super) fn cost(&self) -> u64 {
        (u64::from(self.r) * u64::from(self.p)) << self.log_n
    }

    pub(in crate::crypto::password_pool) fn compute(&self, password: &[u8], salt: &[u8]) -> Result<Output, HashError> {
        self.ask_for_memory()?;
        let mut output = Zeroizing::new(vec![0; self.output_len]);
        let params = Params::new(self.log_n, self.r, self.p).map_err(|_| HashError::Failed)?;
        scrypt(password, salt, &params, &mut output).map_err(|_| HashError::Failed)?;
        Ok(output)
    }

    /// scrypt takes its memory itself, and if there is none the process ends. So it is asked for once before.
    fn ask_for_memory(&self) -> Result<(), HashError> {
        let bytes = usize::try_from(self.memory()).unwrap_or(usize::MAX);
        Vec::<u8>::new().try_reserve_exact(bytes).map_err(|error| {
            tracing::error!(%error, bytes, "no memory to hash a password");
            HashError::Failed
        })
    }
}
