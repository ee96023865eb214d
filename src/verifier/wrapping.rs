//! Whether tokens come signed, or signed and encrypted, and what opens them.
//!
//! Where encryption is on, a plain token is refused: otherwise whoever takes one to a verifier with a key would get around what
//! encryption is for, and a client could not be told apart from one that was never given an encrypted token.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read as _},
    path::Path,
    sync::Arc,
};

use zeroize::Zeroizing;

use super::check::Inactive;
use crate::{
    domain::{audience::Audience, claims::AccessClaims},
    jose::{
        DecryptionKeys,
        jwe::{self, Opened},
    },
};

/// Larger than any file of keys.
const MAX_FILE: u64 = 1 << 20;

/// How tokens come.
#[derive(Clone, Debug, Default)]
pub enum Wrapping {
    /// Signed. One that is encrypted cannot be read.
    #[default]
    Signed,
    /// Encrypted for one of these keys. A plain one is refused.
    Encrypted(DecryptionKeys),
    /// As their audience says: for the service itself, which issues for all of them.
    ByAudience(EncryptedAudiences),
}

/// The audiences whose tokens are encrypted, and the keys of those that can be opened here. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct EncryptedAudiences {
    /// The names of its keys, for each of them.
    audiences: Arc<BTreeMap<Audience, Vec<String>>>,
    keys: DecryptionKeys,
}

impl EncryptedAudiences {
    /// Audiences with the `kid` of each of their keys, and those keys that open tokens. No `kid` belongs to two audiences.
    pub fn new(audiences: BTreeMap<Audience, Vec<String>>, keys: DecryptionKeys) -> Self {
        Self { audiences: Arc::new(audiences), keys }
    }
}

/// A signed token, as it came or out of its wrapping.
pub(super) enum Signed<'a> {
    Plain(&'a str),
    Opened(Opened),
}

impl Signed<'_> {
    pub(super) fn token(&self) -> &str {
        match self {
            Self::Plain(token) => token,
            Self::Opened(opened) => opened.token(),
        }
    }
}

impl Wrapping {
    /// The signed token. What has the parts of an encrypted one is decrypted, or refused for one and the same reason.
    pub(super) fn open<'a>(&self, token: &'a str) -> Result<Signed<'a>, Inactive> {
        if !jwe::is_encrypted(token) {
            return Ok(Signed::Plain(token));
        }
        let none = DecryptionKeys::default();
        let keys = match self {
            Self::Signed => &none,
            Self::Encrypted(keys) => keys,
            Self::ByAudience(audiences) => &audiences.keys,
        };
        jwe::decrypt(token, keys).map(Signed::Opened).map_err(|_| Inactive::Undecryptable)
    }

    /// Whether a token may come like this, whatever it says.
    pub(super) fn admits(&self, signed: &Signed<'_>) -> Result<(), Inactive> {
        match (self, signed) {
            (Self::Encrypted(_), Signed::Plain(_)) => Err(Inactive::NotEncrypted),
            (Self::Signed | Self::ByAudience(_), _) | (Self::Encrypted(_), Signed::Opened(_)) => Ok(()),
        }
    }

    /// Whether one that says this may come like this.
    pub(super) fn suits(&self, signed: &Signed<'_>, claims: &AccessClaims) -> Result<(), Inactive> {
        let Self::ByAudience(EncryptedAudiences { audiences, .. }) = self else { return Ok(()) };
        match signed {
            Signed::Plain(_) if claims.audience.iter().any(|audience| audiences.contains_key(audience)) => {
                Err(Inactive::NotEncrypted)
            }
            Signed::Plain(_) => Ok(()),
            // Whoever holds the key of one audience can wrap the token of another, or of several.
            Signed::Opened(opened) => match &claims.audience[..] {
                [one] if audiences.get(one).is_some_and(|kids| kids.iter().any(|kid| kid == opened.key().kid())) => {
                    Ok(())
                }
                _ => Err(Inactive::WrongAudience),
            },
        }
    }
}

/// Why a file with keys to decrypt with is of no use.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    /// Its mode lets everybody read it.
    #[error("can be read by every user of this machine: take that away with `chmod o= FILE`")]
    Open,
    /// It holds something else.
    #[error(transparent)]
    Keys(#[from] jwe::DecryptionKeysError),
}

/// Keys to decrypt with: a JWK or a JWK set in a file that not everybody can read. Blocks.
///
/// # Errors
/// See [`KeyFileError`].
pub fn read_decryption_keys(path: &Path) -> Result<DecryptionKeys, KeyFileError> {
    let (text, access) = read_key_file(path)?;
    let keys = DecryptionKeys::from_json(&text)?;
    if access == Everybody::default() { Ok(keys) } else { Err(KeyFileError::Open) }
}

/// What every user of the machine can do with a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Everybody {
    pub(crate) reads: bool,
    pub(crate) writes: bool,
}

/// The text of a file, and what everybody can do with it. Blocks.
pub(crate) fn read_key_file(path: &Path) -> io::Result<(Zeroizing<String>, Everybody)> {
    let file = fs::File::open(path)?;
    let access = everybody(&file)?;
    let mut text = Zeroizing::new(String::new());
    if file.take(MAX_FILE).read_to_string(&mut text)? as u64 == MAX_FILE {
        return Err(io::Error::other("is larger than any file of keys"));
    }
    Ok((text, access))
}

#[cfg(unix)]
fn everybody(file: &fs::File) -> io::Result<Everybody> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = file.metadata()?.permissions().mode();
    Ok(Everybody { reads: mode & 0o005 != 0, writes: mode & 0o002 != 0 })
}

#[cfg(not(unix))]
fn everybody(_: &fs::File) -> io::Result<Everybody> {
    Ok(Everybody::default())
}
