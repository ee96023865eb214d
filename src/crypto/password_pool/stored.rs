//! Stored hashes, our own and those of others, read strictly.
//!
//! A hash may have been imported, so a stored string is not to be trusted: it can be nonsense, or ask for hours of work or
//! for all memory. The dearest that [`StoredHash::parse`] lets through of each kind took one to three seconds of a core, and none
//! takes more than 256 MiB.

pub(super) mod argon2;
mod bcrypt;
mod pbkdf2;
mod scrypt;
mod text;

use std::ops::RangeInclusive;

use zeroize::Zeroizing;

use crate::domain::user::PhcString;

/// What [`import_hash`] takes, for people.
pub const ACCEPTED_HASHES: &str = "argon2 ($argon2id$, $argon2i$, $argon2d$), bcrypt ($2a$, $2b$, $2y$), scrypt ($scrypt$ln=), \
     PBKDF2 ($pbkdf2-sha256$, $pbkdf2-sha512$, $pbkdf2$) and Django's argon2$, bcrypt_sha256$, bcrypt$, pbkdf2_sha256$, \
     pbkdf2_sha1$, scrypt$";

/// Memory beyond which no hash is computed, in KiB: 256 MiB.
pub(super) const MAX_MEMORY_KIB: u32 = 256 * 1024;
/// Lengths of a salt in bytes. What is usual is 16, and 12 to 22 characters at Django.
const SALT_LEN: RangeInclusive<usize> = 8..=64;
/// Lengths of a hash in bytes, where the format leaves it open.
const OUTPUT_LEN: RangeInclusive<usize> = 16..=64;
/// Longer than the longest string within all bounds, so that a megabyte is refused unread.
const MAX_TEXT_LEN: usize = 256;

/// Why a string is no password hash that can be checked here. Says nothing of the string.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadHash {
    /// It begins like none of the formats.
    #[error("is in no known format; known are {ACCEPTED_HASHES}")]
    Unknown,
    /// It begins like one of the formats and goes on differently.
    #[error("cannot be read: {0}")]
    Malformed(&'static str),
    /// It is well-formed, but to check one password would cost more than one login may.
    #[error("would cost too much to check: {0}")]
    TooCostly(&'static str),
}

/// Checks a password hash that was made elsewhere, so that it can be stored as the hash of an account: it is in one of the
/// [`ACCEPTED_HASHES`], complete, and within what one login may cost. It is kept as it came until its owner signs in.
pub fn import_hash(text: &str) -> Result<PhcString, BadHash> {
    let hash = PhcString::new(text.to_owned());
    StoredHash::parse(&hash).map(|_| hash)
}

/// How strings of each format begin, and what they are called where a person is told how a password is kept.
const NAMES: [(&str, &str); 16] = [
    ("$argon2id$", "argon2id"),
    ("$argon2i$", "argon2i"),
    ("$argon2d$", "argon2d"),
    ("$2", "bcrypt"),
    ("$scrypt$", "scrypt"),
    ("$pbkdf2-sha256$", "pbkdf2-sha256"),
    ("$pbkdf2-sha512$", "pbkdf2-sha512"),
    ("$pbkdf2$", "pbkdf2-sha1"),
    ("argon2$argon2id$", "argon2id"),
    ("argon2$argon2i$", "argon2i"),
    ("argon2$argon2d$", "argon2d"),
    ("bcrypt$$2", "bcrypt"),
    ("bcrypt_sha256$$2", "bcrypt-sha256"),
    ("scrypt$", "scrypt"),
    ("pbkdf2_sha256$", "pbkdf2-sha256"),
    ("pbkdf2_sha1$", "pbkdf2-sha1"),
];

/// What the format of a stored hash is called. Tells nothing else of it.
pub fn password_scheme(stored: &PhcString) -> &'static str {
    NAMES.iter().find(|(prefix, _)| stored.expose().starts_with(prefix)).map_or("unknown", |(_, name)| name)
}

/// How a hash is computed, short of password and salt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recipe {
    Argon2(argon2::Recipe),
    Bcrypt(bcrypt::Recipe),
    Pbkdf2(pbkdf2::Recipe),
    Scrypt(scrypt::Recipe),
}

impl Recipe {
    /// The work, in what takes argon2 as long as to fill a KiB, about half a microsecond. The kinds are brought to one measure
    /// by what they took on one machine: the queue needs no more than an estimate.
    pub(super) fn cost(&self) -> u64 {
        match self {
            Self::Argon2(recipe) => recipe.cost(),
            Self::Bcrypt(recipe) => recipe.cost(),
            Self::Pbkdf2(recipe) => recipe.cost(),
            Self::Scrypt(recipe) => recipe.cost(),
        }
    }
}

/// A stored hash, within the bounds of what will be computed.
#[derive(Clone)]
pub(super) struct StoredHash {
    pub(super) recipe: Recipe,
    pub(super) salt: Vec<u8>,
    pub(super) output: Vec<u8>,
}

/// Reads what follows the prefix.
type Reader = fn(&str) -> Result<StoredHash, BadHash>;

/// How strings of each format begin. None of these is the beginning of another.
const FORMATS: [(&str, Reader); 12] = [
    ("$argon2", argon2::read),
    ("$2", |rest| bcrypt::read(bcrypt::Input::Password, rest)),
    ("$scrypt$", scrypt::read),
    ("$pbkdf2-sha256$", |rest| pbkdf2::read(pbkdf2::Prf::Sha256, rest)),
    ("$pbkdf2-sha512$", |rest| pbkdf2::read(pbkdf2::Prf::Sha512, rest)),
    ("$pbkdf2$", |rest| pbkdf2::read(pbkdf2::Prf::Sha1, rest)),
    // Django puts a name of its own in front, also of what begins with a dollar already.
    ("argon2$argon2", argon2::read),
    ("bcrypt$$2", |rest| bcrypt::read(bcrypt::Input::Password, rest)),
    ("bcrypt_sha256$$2", |rest| bcrypt::read(bcrypt::Input::HexOfSha256, rest)),
    ("scrypt$", scrypt::read_django),
    ("pbkdf2_sha256$", |rest| pbkdf2::read_django(pbkdf2::Prf::Sha256, rest)),
    ("pbkdf2_sha1$", |rest| pbkdf2::read_django(pbkdf2::Prf::Sha1, rest)),
];

impl StoredHash {
    /// Parses a stored hash: order, spelling of numbers and base64 as the format demands, nothing left over.
    pub(super) fn parse(stored: &PhcString) -> Result<Self, BadHash> {
        let text = stored.expose();
        if text.len() > MAX_TEXT_LEN {
            return Err(BadHash::Malformed("it is too long"));
        }
        let read = |&(prefix, read): &(&str, Reader)| text.strip_prefix(prefix).map(read);
        FORMATS.iter().find_map(read).unwrap_or(Err(BadHash::Unknown))
    }
}

/// The bytes that a hash function puts out.
pub(super) type Output = Zeroizing<Vec<u8>>;

#[cfg(test)]
mod tests;
