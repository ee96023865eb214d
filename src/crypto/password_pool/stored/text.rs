//! The pieces that the formats are made of, each in its one spelling.

use std::ops::RangeInclusive;

use base64::{Engine, engine::GeneralPurpose};

use super::{BadHash, SALT_LEN};

const MISSING: BadHash = BadHash::Malformed("something is missing");

/// A decimal number in its one spelling. What does not fit 32 bits is as good as the largest that does: too costly.
pub(super) fn decimal(digits: &str) -> Option<u32> {
    let canonical = (1..=10).contains(&digits.len())
        && digits.bytes().all(|byte| byte.is_ascii_digit())
        && (digits == "0" || !digits.starts_with('0'));
    canonical.then(|| digits.parse().unwrap_or(u32::MAX))
}

/// Exactly so many fields between dollars.
pub(super) fn fields<const N: usize>(text: &str) -> Result<[&str; N], BadHash> {
    let mut fields = text.split('$');
    let mut found = [""; N];
    for field in &mut found {
        *field = fields.next().ok_or(MISSING)?;
    }
    if fields.next().is_some() { Err(BadHash::Malformed("something follows the hash")) } else { Ok(found) }
}

/// Bytes in base64 as `engine` reads it: no spaces, no stray bits, padding always or never.
pub(super) fn bytes(engine: &GeneralPurpose, text: &str, length: RangeInclusive<usize>) -> Result<Vec<u8>, BadHash> {
    let bytes = engine.decode(text).map_err(|_| BadHash::Malformed("its salt or hash is not in the right base64"))?;
    if length.contains(&bytes.len()) {
        Ok(bytes)
    } else {
        Err(BadHash::Malformed("its salt or hash has a strange length"))
    }
}

/// A salt that is a text, as Django's are: hashed as it stands.
pub(super) fn plain_salt(text: &str) -> Result<Vec<u8>, BadHash> {
    if SALT_LEN.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(text.as_bytes().to_vec())
    } else {
        Err(BadHash::Malformed("its salt has a strange length or characters"))
    }
}
