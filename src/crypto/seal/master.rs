//! The keys that seal: the master key an operator provides, and the data keys it protects.

use std::{any::Any, fmt};

use base64::{
    DecodeError, Engine,
    engine::general_purpose::{STANDARD, STANDARD_PAD_INDIFFERENT, URL_SAFE_PAD_INDIFFERENT},
};
use zeroize::Zeroizing;

use super::{KeyId, SealContext, SealError, Sealer, key_of};
use crate::{
    crypto::hkdf::subkey,
    domain::secret::{Entropy, SecretKey, SecretString, random},
};

/// Why a text is no master key. The text itself is never repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MasterKeyError {
    /// Not base64.
    #[error("the master key is not base64: make one with `openssl rand -base64 32`")]
    NotBase64,
    /// Not 32 bytes.
    #[error("the master key has {0} bytes instead of 32: make one with `openssl rand -base64 32`")]
    WrongLength(usize),
    /// Every byte is the same, as in an example somebody forgot to replace.
    #[error("the master key is a placeholder, all its bytes are the same: make one with `openssl rand -base64 32`")]
    Placeholder,
    /// The second of two keys is the first one.
    #[error("the other master key is the same one: two different keys are needed to go from one to the other")]
    Same,
}

/// The key under which everything secret in the database is sealed, directly or through a [`DataKey`].
///
/// While it is being changed there is another one beside it: what either sealed is opened, and what is sealed from now on is
/// sealed under this one.
pub struct MasterKey {
    secret: SecretKey<32>,
    sealer: Sealer,
    other: Option<Box<MasterKey>>,
    #[expect(dead_code, reason = "held for as long as the key")]
    guard: Option<Box<dyn Any + Send + Sync>>,
}

impl MasterKey {
    /// Takes charge of `secret`, which must be random.
    pub fn new(secret: SecretKey<32>) -> Self {
        let sealer = Sealer::new(&secret, "master key v1");
        Self { secret, sealer, other: None, guard: None }
    }

    /// With something that lasts for as long as anybody can use the key, and keeps it from being replaced meanwhile.
    #[must_use]
    pub fn holding(self, guard: impl Any + Send + Sync) -> Self {
        Self { guard: Some(Box::new(guard)), ..self }
    }

    /// With another key beside it, whose seals are opened too.
    ///
    /// # Errors
    /// [`MasterKeyError::Same`]: the two could not be told apart.
    pub fn beside(self, other: Self) -> Result<Self, MasterKeyError> {
        if self.id() == other.id() {
            return Err(MasterKeyError::Same);
        }
        Ok(Self { other: Some(Box::new(other)), ..self })
    }

    /// A new key.
    pub fn generate(entropy: &dyn Entropy) -> Self {
        Self::new(SecretKey::new(random(entropy)))
    }

    /// Reads a key as [`MasterKey::to_text`] or `openssl rand -base64 32` writes it: base64 in the standard or the URL
    /// alphabet, padded or not; white space around it is dropped.
    pub fn parse(text: &str) -> Result<Self, MasterKeyError> {
        let bytes = decode(text.trim()).map_err(|_| MasterKeyError::NotBase64)?;
        let secret: [u8; 32] = bytes.as_slice().try_into().map_err(|_| MasterKeyError::WrongLength(bytes.len()))?;
        if secret.iter().all(|byte| *byte == secret[0]) {
            return Err(MasterKeyError::Placeholder);
        }
        Ok(Self::new(SecretKey::new(secret)))
    }

    /// The key as text, for the file it is kept in.
    pub fn to_text(&self) -> SecretString {
        SecretString::new(STANDARD.encode(self.secret.expose()))
    }

    /// Names the key in stored values and in logs. No secret.
    pub fn id(&self) -> KeyId {
        self.sealer.id
    }

    /// The key beside it, if there is one.
    pub fn other(&self) -> Option<&Self> {
        self.other.as_deref()
    }

    /// That of the two which is named so.
    pub fn named(&self, id: KeyId) -> Option<&Self> {
        if id == self.id() { Some(self) } else { self.other().filter(|other| other.id() == id) }
    }

    /// Encrypts `plaintext` for one place.
    pub fn seal(&self, context: SealContext<'_>, plaintext: &[u8], entropy: &dyn Entropy) -> Vec<u8> {
        self.sealer.seal(context, plaintext, entropy)
    }

    /// Decrypts what [`MasterKey::seal`] made for the same place. The plaintext is wiped when it is dropped.
    pub fn open(&self, context: SealContext<'_>, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        match self.other() {
            Some(other) if key_of(sealed) == Some(other.id()) => other.open(context, sealed),
            _ => self.sealer.open(context, sealed),
        }
    }

    /// The same sealed under this key; `None` if it is so already.
    ///
    /// # Errors
    /// If neither this key nor the one beside it sealed it for this place.
    pub fn reseal(
        &self,
        context: SealContext<'_>,
        sealed: &[u8],
        entropy: &dyn Entropy,
    ) -> Result<Option<Vec<u8>>, SealError> {
        if key_of(sealed) == Some(self.id()) {
            return Ok(None);
        }
        Ok(Some(self.seal(context, &self.open(context, sealed)?, entropy)))
    }

    /// A key of its own for one purpose: the same each time, and no help in finding any other.
    pub fn derive(&self, label: &str) -> SecretKey<32> {
        subkey(&self.secret, "derived key v1", label)
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey([redacted])")
    }
}

fn decode(text: &str) -> Result<Zeroizing<Vec<u8>>, DecodeError> {
    let engine = if text.contains(['-', '_']) { &URL_SAFE_PAD_INDIFFERENT } else { &STANDARD_PAD_INDIFFERENT };
    engine.decode(text).map(Zeroizing::new)
}

/// A key for the data of one user: to destroy it is to erase everything sealed under it, wherever copies lie.
pub struct DataKey {
    secret: SecretKey<32>,
    sealer: Sealer,
}

impl DataKey {
    fn new(secret: SecretKey<32>) -> Self {
        let sealer = Sealer::new(&secret, "data key v1");
        Self { secret, sealer }
    }

    /// A new key.
    pub fn generate(entropy: &dyn Entropy) -> Self {
        Self::new(SecretKey::new(random(entropy)))
    }

    /// The key itself, sealed under the master key for the place where it is kept.
    pub fn wrap(&self, master: &MasterKey, context: SealContext<'_>, entropy: &dyn Entropy) -> Vec<u8> {
        master.seal(context, self.secret.expose(), entropy)
    }

    /// The key that [`DataKey::wrap`] sealed.
    pub fn from_wrapped(master: &MasterKey, context: SealContext<'_>, wrapped: &[u8]) -> Result<Self, SealError> {
        let bytes = master.open(context, wrapped)?;
        let secret: [u8; 32] = bytes.as_slice().try_into().map_err(|_| SealError::Corrupt)?;
        Ok(Self::new(SecretKey::new(secret)))
    }

    /// Encrypts `plaintext` for one place.
    pub fn seal(&self, context: SealContext<'_>, plaintext: &[u8], entropy: &dyn Entropy) -> Vec<u8> {
        self.sealer.seal(context, plaintext, entropy)
    }

    /// Decrypts what [`DataKey::seal`] made for the same place. The plaintext is wiped when it is dropped.
    pub fn open(&self, context: SealContext<'_>, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        self.sealer.open(context, sealed)
    }
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataKey([redacted])")
    }
}
