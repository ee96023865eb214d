//! Where keys come from.

use std::sync::Arc;

use super::fetch::{Document, FetchError, Fetcher};
use crate::{
    jose::{JwkError, KeySet, KeySetError, PublicKey, json::parse_value},
    pb::v1,
    verifier::issuer::Issuer,
};

/// Where they come from.
pub(in crate::verifier) enum Source {
    /// `GetVerificationKeys`, of the issuer that calls itself this.
    Service { issuer: Arc<Issuer>, name: String },
    /// A JWK set over HTTP.
    Jwks { fetcher: Fetcher, url: String },
}

/// Why there are none.
#[derive(Debug, thiserror::Error)]
pub(super) enum SourceError {
    /// There is no answer.
    #[error("{}: {}", .0.code(), .0.message())]
    Call(tonic::Status),
    /// The answer takes too long.
    #[error("no answer in time")]
    Late,
    /// There is no document.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// There is nothing at the URL.
    #[error("there is nothing at the URL")]
    Missing,
    /// The service issues other tokens than those that are verified.
    #[error("the keys are those of the issuer {0:?}")]
    OtherIssuer(String),
    /// The answer is no key set.
    #[error("not a usable set of keys: {0}")]
    Malformed(#[from] KeySetError),
    /// A key says two different things of itself.
    #[error("a key's name or algorithm is not what was said of it")]
    Contradiction,
    /// With these nothing could be verified.
    #[error("the set of keys is empty")]
    Empty,
}

impl Source {
    /// Fetches them: a whole set, or nothing.
    pub(super) async fn fetch(&self) -> Result<KeySet, SourceError> {
        let keys = match self {
            Self::Service { issuer, name } => from_service(issuer.keys().await.map_err(SourceError::Call)?, name)?,
            Self::Jwks { fetcher, url } => match fetcher.fetch(url).await? {
                Document::Found(text) => KeySet::from_jwks(&text)?,
                Document::Missing => return Err(SourceError::Missing),
            },
        };
        if keys.is_empty() { Err(SourceError::Empty) } else { Ok(keys) }
    }
}

fn from_service(
    v1::GetVerificationKeysResponse { issuer, keys }: v1::GetVerificationKeysResponse,
    expected: &str,
) -> Result<KeySet, SourceError> {
    if issuer != expected {
        return Err(SourceError::OtherIssuer(issuer.chars().take(256).collect()));
    }
    let mut set = Vec::with_capacity(keys.len());
    for (index, key) in keys.into_iter().enumerate() {
        let v1::VerificationKey { key_id, algorithm, jwk, state: _, activate_time: _ } = key;
        let malformed = |error| SourceError::Malformed(KeySetError::Key { index, error });
        let jwk = parse_value(jwk.as_bytes()).map_err(|_| malformed(JwkError::NotAnObject))?;
        // A kind of key that this version does not know is skipped, as in a JWK set.
        let Some(key) = PublicKey::from_jwk(&jwk).map_err(malformed)? else { continue };
        if key.kid() != key_id || key.algorithm().as_str() != algorithm {
            return Err(SourceError::Contradiction);
        }
        set.push(key);
    }
    Ok(KeySet::from_keys(set)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{domain::signing_key::Algorithm, jose::SigningKeyPair};

    fn key() -> v1::VerificationKey {
        let key = SigningKeyPair::generate(Algorithm::Es256).unwrap().public_key().clone();
        let (key_id, jwk) = (key.kid().to_owned(), key.to_jwk().to_string());
        v1::VerificationKey { key_id, algorithm: "ES256".into(), jwk, ..Default::default() }
    }

    fn read(issuer: &str, keys: Vec<v1::VerificationKey>) -> Result<KeySet, SourceError> {
        from_service(v1::GetVerificationKeysResponse { issuer: issuer.into(), keys }, "https://a.test")
    }

    #[test]
    fn keys_are_taken_from_the_right_issuer_alone() {
        assert_eq!(read("https://a.test", vec![key(), key()]).unwrap().len(), 2);
        for other in ["https://b.test", "https://a.test/", "HTTPS://a.test", ""] {
            assert!(matches!(read(other, vec![key()]), Err(SourceError::OtherIssuer(_))), "{other}");
        }
    }

    #[test]
    fn one_bad_key_spoils_the_set() {
        let good = key();
        assert!(matches!(read("https://a.test", vec![good.clone(), good.clone()]), Err(SourceError::Malformed(_))));
        let renamed = v1::VerificationKey { key_id: "x".into(), ..good.clone() };
        assert!(matches!(read("https://a.test", vec![key(), renamed]), Err(SourceError::Contradiction)));
        let other = v1::VerificationKey { algorithm: "EdDSA".into(), ..good.clone() };
        assert!(matches!(read("https://a.test", vec![key(), other]), Err(SourceError::Contradiction)));
        let broken = v1::VerificationKey { jwk: "{".into(), ..good };
        assert!(matches!(read("https://a.test", vec![key(), broken]), Err(SourceError::Malformed(_))));
    }
}
