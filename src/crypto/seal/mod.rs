//! Encryption at rest: AES-256-GCM, bound to the place where the ciphertext is stored.
//!
//! A sealed value is `version ‖ key id ‖ nonce ‖ ciphertext ‖ tag`, 33 bytes more than the plaintext. The version and the
//! place ([`SealContext`]) are authenticated with it, so a value that somebody copies to another row or column does not
//! open there. The key id tells which key is needed without trying, so that a master key can be changed; it is no secret.
//!
//! The nonce is random: one key may seal 2³² values (NIST SP 800-38D §8.3), more than any master or per-user key will.

mod master;

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    digest::{SHA256, digest},
};
use zeroize::Zeroizing;

pub use self::master::{DataKey, MasterKey, MasterKeyError};
use super::hkdf::subkey;
use crate::domain::secret::{Entropy, SecretKey, random};

/// The only format so far.
const VERSION: u8 = 1;
const KEY_ID_LEN: usize = 4;
/// What names a key in the values it sealed. No secret.
pub type KeyId = [u8; KEY_ID_LEN];
const HEADER_LEN: usize = 1 + KEY_ID_LEN + NONCE_LEN;
const TAG_LEN: usize = 16;

/// The place a sealed value is stored in, and the only one it can be opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealContext<'a> {
    /// The table.
    pub table: &'static str,
    /// The primary key of the row, in any encoding that is the same each time.
    pub row: &'a [u8],
    /// The column.
    pub column: &'static str,
}

impl SealContext<'_> {
    /// The version and each part with its length in front, so that no two places have the same bytes.
    fn authenticated(&self) -> Vec<u8> {
        let parts = [self.table.as_bytes(), self.row, self.column.as_bytes()];
        let mut bytes = Vec::with_capacity(1 + parts.iter().map(|part| 8 + part.len()).sum::<usize>());
        bytes.push(VERSION);
        for part in parts {
            bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
            bytes.extend_from_slice(part);
        }
        bytes
    }
}

/// Why a sealed value cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Another key sealed it: look for that key, for instance the master key before the last rotation.
    #[error("sealed under the key {}, not under {}", hex(*.needed), hex(*.held))]
    WrongKey {
        /// The id of the key that sealed it.
        needed: [u8; 4],
        /// The id of the key that was tried.
        held: [u8; 4],
    },
    /// A format of a later version of this service.
    #[error("sealed in the unknown format {0}, by a later version of this service")]
    UnknownFormat(u8),
    /// It was changed, cut, or moved here from another row or column.
    #[error("the sealed value is damaged or belongs to another place")]
    Corrupt,
}

/// A key's name as people read it.
pub fn hex(id: KeyId) -> String {
    format!("{:08x}", u32::from_be_bytes(id))
}

/// The key that a sealed value names. `None` if it is none.
pub fn key_of(sealed: &[u8]) -> Option<KeyId> {
    match sealed.split_first_chunk::<{ 1 + KEY_ID_LEN }>()? {
        ([VERSION, id @ ..], _) => Some(*id),
        _ => None,
    }
}

/// Seals and opens with one key. The keys people hold ([`MasterKey`], [`DataKey`]) are built on it.
struct Sealer {
    key: LessSafeKey,
    id: [u8; KEY_ID_LEN],
}

impl Sealer {
    /// The sealer of `secret`; `kind` sets master keys apart from data keys, should one ever be used as the other.
    fn new(secret: &SecretKey<32>, kind: &'static str) -> Self {
        let fingerprint = digest(&SHA256, subkey(secret, kind, "key id").expose());
        let mut id = [0; KEY_ID_LEN];
        id.copy_from_slice(&fingerprint.as_ref()[..KEY_ID_LEN]);
        #[expect(clippy::expect_used, reason = "the algorithm takes exactly the 32 bytes that the type holds")]
        let key = UnboundKey::new(&AES_256_GCM, subkey(secret, kind, "AES-256-GCM").expose())
            .expect("AES-256 takes 32 bytes");
        Self { key: LessSafeKey::new(key), id }
    }

    fn seal(&self, context: SealContext<'_>, plaintext: &[u8], entropy: &dyn Entropy) -> Vec<u8> {
        let nonce: [u8; NONCE_LEN] = random(entropy);
        // Room for all of it from the start: a buffer that grows leaves a copy of the plaintext behind.
        let mut sealed = Vec::with_capacity(HEADER_LEN + plaintext.len() + TAG_LEN);
        sealed.push(VERSION);
        sealed.extend_from_slice(&self.id);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(plaintext);
        #[expect(clippy::expect_used, reason = "AES-GCM refuses nothing but plaintexts beyond 64 GiB")]
        let tag = self
            .key
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(context.authenticated()),
                &mut sealed[HEADER_LEN..],
            )
            .expect("the plaintext is below 64 GiB");
        sealed.extend_from_slice(tag.as_ref());
        sealed
    }

    fn open(&self, context: SealContext<'_>, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let (&version, rest) = sealed.split_first().ok_or(SealError::Corrupt)?;
        if version != VERSION {
            return Err(SealError::UnknownFormat(version));
        }
        let (&needed, rest) = rest.split_first_chunk::<KEY_ID_LEN>().ok_or(SealError::Corrupt)?;
        let (&nonce, ciphertext) = rest.split_first_chunk::<NONCE_LEN>().ok_or(SealError::Corrupt)?;
        if needed != self.id {
            return Err(SealError::WrongKey { needed, held: self.id });
        }
        let mut buffer = Zeroizing::new(ciphertext.to_vec());
        let length = self
            .key
            .open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(context.authenticated()), &mut buffer)
            .map_err(|_| SealError::Corrupt)?
            .len();
        buffer.truncate(length);
        Ok(buffer)
    }
}

#[cfg(test)]
mod tests;
