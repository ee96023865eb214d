//! The keys that open tokens, looked up by `kid`.

use std::sync::Arc;

use serde_json::Value;

use super::key::{JweKey, JweKeyError, KeyManagement};
use crate::jose::json::parse_value;

/// Why keys to decrypt with are refused, all of them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecryptionKeysError {
    /// Neither a JWK nor a JWK set, or some member comes twice.
    #[error("is neither a JWK nor a JWK set of at least one key")]
    Malformed,
    /// One of the keys is broken, or no key to decrypt with.
    #[error("has at index {index} a key that is refused: {error}")]
    Key {
        /// Its place, from 0.
        index: usize,
        /// Why.
        error: JweKeyError,
    },
    /// A public key opens nothing.
    #[error("has a public key ({0}), which opens nothing: its private part d is missing")]
    Public(String),
    /// Two keys have this `kid`.
    #[error("has two keys with the kid {0:?}")]
    DuplicateKid(String),
}

/// Keys that open tokens, by `kid`. Immutable and cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct DecryptionKeys {
    /// In the order of their `kid`.
    keys: Arc<[JweKey]>,
}

impl DecryptionKeys {
    /// Reads one JWK, or a JWK set with at least one key. None is skipped: one that is not understood is a mistake here, unlike
    /// among published ones.
    pub fn from_json(text: &str) -> Result<Self, DecryptionKeysError> {
        let value = parse_value(text.as_bytes()).map_err(|_| DecryptionKeysError::Malformed)?;
        let one = [value.clone()];
        let jwks = match value.get("keys") {
            Some(Value::Array(keys)) if !keys.is_empty() => &keys[..],
            None if value.is_object() => &one,
            _ => return Err(DecryptionKeysError::Malformed),
        };
        let read = |(index, jwk)| JweKey::from_jwk(jwk).map_err(|error| DecryptionKeysError::Key { index, error });
        Self::from_keys(jwks.iter().enumerate().map(read).collect::<Result<_, _>>()?)
    }

    /// From keys whose `kid` differ, each of which opens tokens.
    pub fn from_keys(mut keys: Vec<JweKey>) -> Result<Self, DecryptionKeysError> {
        if let Some(public) = keys.iter().find(|key| !key.can_decrypt()) {
            return Err(DecryptionKeysError::Public(public.kid().to_owned()));
        }
        keys.sort_by(|a, b| a.kid().cmp(b.kid()));
        match keys.windows(2).find(|pair| pair[0].kid() == pair[1].kid()) {
            Some(pair) => Err(DecryptionKeysError::DuplicateKid(pair[0].kid().to_owned())),
            None => Ok(Self { keys: keys.into() }),
        }
    }

    /// The key that is named so.
    pub fn get(&self, kid: &str) -> Option<&JweKey> {
        self.keys.binary_search_by(|key| key.kid().cmp(kid)).ok().map(|at| &self.keys[at])
    }

    /// The key that is named so, if this is its way; otherwise another one of the same way, to do work with that is not to be told from
    /// real work. Whether it is the one. If none of that way is held, some key does the work, always the same one: that much everybody
    /// knows who has seen a token. `None` if there is no key at all, so that nothing can be learned of any.
    pub(super) fn to_work_with(&self, kid: &str, way: KeyManagement) -> Option<(&JweKey, bool)> {
        let fits = |key: &&JweKey| key.management() == way;
        if let Some(key) = self.get(kid).filter(fits) {
            return Some((key, true));
        }
        Some((self.keys.iter().find(fits).or_else(|| self.keys.first())?, false))
    }

    /// Whether there is none, so that no token is opened.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}
