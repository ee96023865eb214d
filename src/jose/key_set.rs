//! The keys a token may be signed with, looked up by `kid` (RFC 7517 §5).

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    json::parse_value,
    jwk::{JwkError, PublicKey},
};

/// Why a key set is refused as a whole: with half of it, tokens would fail for no visible reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    /// Not a JSON object with an array `keys`, or some member comes twice.
    #[error("not a JWK set")]
    Malformed,
    /// One of the keys is broken.
    #[error("the key at index {index} of the set is refused")]
    Key {
        /// Its place in `keys`, from 0.
        index: usize,
        /// Why.
        #[source]
        error: JwkError,
    },
    /// Two keys have this `kid`, so that a token could be checked against either.
    #[error("two keys have the kid {0:?}")]
    DuplicateKid(String),
}

/// Public keys by `kid`. Immutable and cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeySet {
    /// In the order of their `kid`.
    keys: Arc<[PublicKey]>,
}

impl KeySet {
    /// Reads a JWK set. Keys for other purposes are skipped.
    pub fn from_jwks(text: &str) -> Result<Self, KeySetError> {
        let set = parse_value(text.as_bytes()).map_err(|_| KeySetError::Malformed)?;
        let jwks = set.get("keys").and_then(Value::as_array).ok_or(KeySetError::Malformed)?;
        let mut keys = Vec::with_capacity(jwks.len());
        for (index, jwk) in jwks.iter().enumerate() {
            keys.extend(PublicKey::from_jwk(jwk).map_err(|error| KeySetError::Key { index, error })?);
        }
        Self::from_keys(keys)
    }

    /// From keys whose `kid` differ.
    pub fn from_keys(mut keys: Vec<PublicKey>) -> Result<Self, KeySetError> {
        keys.sort_by(|a, b| a.kid().cmp(b.kid()));
        match keys.windows(2).find(|pair| pair[0].kid() == pair[1].kid()) {
            Some(pair) => Err(KeySetError::DuplicateKid(pair[0].kid().to_owned())),
            None => Ok(Self { keys: keys.into() }),
        }
    }

    /// The key that is named so.
    pub fn get(&self, kid: &str) -> Option<&PublicKey> {
        self.keys.binary_search_by(|key| key.kid().cmp(kid)).ok().map(|at| &self.keys[at])
    }

    /// All keys, in the order of their `kid`.
    pub fn iter(&self) -> impl Iterator<Item = &PublicKey> {
        self.keys.iter()
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is no key at all, so that no token can be verified.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The set as JSON, public members only. The same keys always give the same text.
    pub fn to_jwks(&self) -> Value {
        json!({ "keys": self.keys.iter().map(PublicKey::to_jwk).collect::<Vec<_>>() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{domain::signing_key::Algorithm, jose::SigningKeyPair};

    fn key(algorithm: Algorithm) -> PublicKey {
        SigningKeyPair::generate(algorithm).unwrap().public_key().clone()
    }

    #[test]
    fn a_set_survives_its_own_json_in_any_order() {
        let keys: Vec<_> = [Algorithm::Es256, Algorithm::EdDsa, Algorithm::Es256].map(key).to_vec();
        let set = KeySet::from_keys(keys.clone()).unwrap();
        assert_eq!(KeySet::from_keys(keys.iter().rev().cloned().collect()).unwrap().to_jwks(), set.to_jwks());
        assert_eq!(KeySet::from_jwks(&set.to_jwks().to_string()), Ok(set.clone()));
        assert!(keys.iter().all(|k| set.get(k.kid()) == Some(k)));
        assert_eq!(set.get(""), None);
        assert_eq!(set.get("../x"), None);
    }

    #[test]
    fn an_unknown_kind_is_skipped_and_a_broken_key_is_not() {
        let good = key(Algorithm::Es256);
        let with = |other: Value| KeySet::from_jwks(&json!({"keys": [good.to_jwk(), other]}).to_string());
        assert_eq!(with(json!({"kty": "AKP", "kid": good.kid()})).unwrap().len(), 1);
        assert_eq!(with(json!({"kty": "EC"})), Err(KeySetError::Key { index: 1, error: JwkError::Member("crv") }));
        assert_eq!(with(json!({"kty": "EC", "d": "A"})), Err(KeySetError::Key { index: 1, error: JwkError::Private }));
        let weak = json!({"kty": "RSA", "n": "_".repeat(171), "e": "AQAB"});
        assert_eq!(with(weak), Err(KeySetError::Key { index: 1, error: JwkError::Member("n") }));
        let weak = json!({"kty": "RSA", "n": format!("{}8", "_".repeat(170)), "e": "AQAB"});
        assert_eq!(with(weak), Err(KeySetError::Key { index: 1, error: JwkError::Rsa }), "1024 bits");
        assert_eq!(with(json!(1)), Err(KeySetError::Key { index: 1, error: JwkError::NotAnObject }));
    }

    #[test]
    fn a_kid_is_held_once() {
        let mut second = key(Algorithm::EdDsa).to_jwk();
        let first = key(Algorithm::Es256);
        second["kid"] = first.kid().into();
        let text = json!({"keys": [first.to_jwk(), second]}).to_string();
        assert_eq!(KeySet::from_jwks(&text), Err(KeySetError::DuplicateKid(first.kid().to_owned())));
        assert!(KeySet::from_keys(vec![first.clone(), first]).is_err());
    }

    #[test]
    fn what_is_no_set_is_refused() {
        for text in ["", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":[],"keys":[]}"#, r#"{"keys":[]}x"#] {
            assert_eq!(KeySet::from_jwks(text), Err(KeySetError::Malformed), "{text}");
        }
        assert!(KeySet::from_jwks(r#"{"keys":[],"more":1}"#).unwrap().is_empty());
    }
}
