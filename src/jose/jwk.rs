//! Public keys and their JSON form (RFC 7517, RFC 7518 §6.2, RFC 8037 §2).

use std::{fmt, sync::Arc};

use aws_lc_rs::{
    digest,
    signature::{ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey, VerificationAlgorithm},
};
use serde_json::{Map, Value, json};

use super::{base64url, small_order::has_small_order};
use crate::domain::signing_key::Algorithm;

/// Bytes of a signature: of both algorithms (RFC 7518 §3.4, RFC 8032 §5.1.6).
pub(super) const SIGNATURE_LEN: usize = 64;

/// The signature does not match the message and the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not match")]
pub struct BadSignature;

/// Why a JWK of a known kind is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwkError {
    /// Not a JSON object.
    #[error("a JWK is a JSON object")]
    NotAnObject,
    /// A member that is needed is missing, of the wrong type, or contradicts another one.
    #[error("the JWK's member {0:?} is missing, malformed or contradicts the rest")]
    Member(&'static str),
    /// It holds a private key, which has no place among public ones.
    #[error("the JWK holds a private key: it must be taken for compromised")]
    Private,
    /// Its coordinates are no usable point of the curve.
    #[error("the JWK's coordinates are not a usable point of its curve")]
    Point,
}

/// A public key with the one algorithm it is for. Immutable and cheap to clone.
#[derive(Clone)]
pub struct PublicKey(Arc<Inner>);

struct Inner {
    algorithm: Algorithm,
    kid: String,
    /// Parsed once; it also remembers the bytes it came from.
    parsed: ParsedPublicKey,
}

impl PublicKey {
    /// Reads a JWK.
    ///
    /// `Ok(None)` is a key for something else, to be skipped: an unknown `kty`, `crv` or `alg`, a `use` other than `sig`,
    /// `key_ops` without `verify` (RFC 7517 §5). Its `kid`, if it has one, is kept as it is; otherwise it is the RFC 7638
    /// thumbprint.
    ///
    /// An Ed25519 key off the curve is not noticed here, as aws-lc looks when it verifies: such a key verifies nothing.
    pub fn from_jwk(jwk: &Value) -> Result<Option<Self>, JwkError> {
        let jwk = jwk.as_object().ok_or(JwkError::NotAnObject)?;
        // Whatever the key is for: somebody has published a secret.
        if jwk.contains_key("d") {
            return Err(JwkError::Private);
        }
        let Some(algorithm) = algorithm_of(jwk)? else { return Ok(None) };
        let kid = optional_text(jwk, "kid")?;
        let x = coordinate(jwk, "x")?;
        let bytes = match algorithm {
            // SEC 1 §2.3.3: an uncompressed point.
            Algorithm::Es256 => [&[4], &x[..], &coordinate(jwk, "y")?[..]].concat(),
            Algorithm::EdDsa if has_small_order(&x) => return Err(JwkError::Point),
            Algorithm::EdDsa => x.to_vec(),
        };
        Self::from_bytes(algorithm, &bytes, kid).map(Some)
    }

    /// From an uncompressed point (ES256) or 32 bytes (EdDSA). The `kid` is the thumbprint unless there is another.
    pub(super) fn from_bytes(algorithm: Algorithm, bytes: &[u8], kid: Option<&str>) -> Result<Self, JwkError> {
        let verification: &'static dyn VerificationAlgorithm = match algorithm {
            Algorithm::Es256 => &ECDSA_P256_SHA256_FIXED,
            Algorithm::EdDsa => &ED25519,
        };
        // aws-lc refuses a P-256 point off the curve here.
        let parsed = ParsedPublicKey::new(verification, bytes).map_err(|_| JwkError::Point)?;
        let kid = kid.map_or_else(|| thumbprint(algorithm, bytes), str::to_owned);
        Ok(Self(Arc::new(Inner { algorithm, kid, parsed })))
    }

    /// The one algorithm this key is for.
    pub fn algorithm(&self) -> Algorithm {
        self.0.algorithm
    }

    /// The string tokens name it by: the SHA-256 thumbprint of RFC 7638 for keys of ours.
    pub fn kid(&self) -> &str {
        &self.0.kid
    }

    /// The key as a JWK: `kty`, `crv`, `x`, `y`, `kid`, `alg` and `use`.
    pub fn to_jwk(&self) -> Value {
        let (kty, crv) = kind(self.0.algorithm);
        let (x, y) = coordinates(self.0.algorithm, self.0.parsed.as_ref());
        let mut jwk = json!({
            "kty": kty, "crv": crv, "x": x, "kid": self.0.kid, "alg": self.0.algorithm.as_str(), "use": "sig",
        });
        if let Some(y) = y {
            jwk["y"] = y.into();
        }
        jwk
    }

    /// Checks a signature of exactly 64 bytes, r and s (RFC 7518 §3.4) or Ed25519's (RFC 8032).
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), BadSignature> {
        // So does aws-lc, but RFC 7518 §3.4 is our promise and not only its.
        if signature.len() != SIGNATURE_LEN {
            return Err(BadSignature);
        }
        self.0.parsed.verify_sig(message, signature).map_err(|_| BadSignature)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublicKey").field("algorithm", &self.0.algorithm).field("kid", &self.0.kid).finish()
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.algorithm == other.0.algorithm
            && self.0.kid == other.0.kid
            && self.0.parsed.as_ref() == other.0.parsed.as_ref()
    }
}

impl Eq for PublicKey {}

/// `kty` and `crv`.
const fn kind(algorithm: Algorithm) -> (&'static str, &'static str) {
    match algorithm {
        Algorithm::Es256 => ("EC", "P-256"),
        Algorithm::EdDsa => ("OKP", "Ed25519"),
    }
}

/// The members that make the key and its thumbprint, encoded: `x`, and `y` where the curve has one.
fn coordinates(algorithm: Algorithm, bytes: &[u8]) -> (String, Option<String>) {
    match algorithm {
        // After the byte that says "uncompressed".
        Algorithm::Es256 => (base64url::encode(&bytes[1..33]), Some(base64url::encode(&bytes[33..]))),
        Algorithm::EdDsa => (base64url::encode(bytes), None),
    }
}

/// The algorithm of a key that is meant for signatures we know.
fn algorithm_of(jwk: &Map<String, Value>) -> Result<Option<Algorithm>, JwkError> {
    let kty = optional_text(jwk, "kty")?.ok_or(JwkError::Member("kty"))?;
    if !matches!(kty, "EC" | "OKP") {
        return Ok(None);
    }
    let by_curve = match (kty, optional_text(jwk, "crv")?.ok_or(JwkError::Member("crv"))?) {
        ("EC", "P-256") => Algorithm::Es256,
        ("OKP", "Ed25519") => Algorithm::EdDsa,
        _ => return Ok(None),
    };
    if optional_text(jwk, "use")?.is_some_and(|u| u != "sig") || !may_verify(jwk)? {
        return Ok(None);
    }
    match optional_text(jwk, "alg")?.map(str::parse::<Algorithm>) {
        None => Ok(Some(by_curve)),
        Some(Ok(named)) if named == by_curve => Ok(Some(by_curve)),
        Some(Ok(_)) => Err(JwkError::Member("alg")),
        // `ES256` on another curve, `ECDH-ES`, or whatever comes: not for us.
        Some(Err(_)) => Ok(None),
    }
}

/// RFC 7517 §4.3.
fn may_verify(jwk: &Map<String, Value>) -> Result<bool, JwkError> {
    match jwk.get("key_ops") {
        None => Ok(true),
        Some(Value::Array(operations)) => Ok(operations.iter().any(|o| o == "verify")),
        Some(_) => Err(JwkError::Member("key_ops")),
    }
}

fn optional_text<'a>(jwk: &'a Map<String, Value>, name: &'static str) -> Result<Option<&'a str>, JwkError> {
    match jwk.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(JwkError::Member(name)),
    }
}

/// RFC 7518 §6.2.1.2: the full length, leading zeros included.
fn coordinate(jwk: &Map<String, Value>, name: &'static str) -> Result<[u8; 32], JwkError> {
    let text = optional_text(jwk, name)?.ok_or(JwkError::Member(name))?;
    base64url::decode_exactly(text).map_err(|_| JwkError::Member(name))
}

/// RFC 7638 §3: the required members in lexicographic order, without white space. Nothing in them needs escaping.
fn thumbprint(algorithm: Algorithm, bytes: &[u8]) -> String {
    let (kty, crv) = kind(algorithm);
    let json = match coordinates(algorithm, bytes) {
        (x, Some(y)) => format!(r#"{{"crv":"{crv}","kty":"{kty}","x":"{x}","y":"{y}"}}"#),
        (x, None) => format!(r#"{{"crv":"{crv}","kty":"{kty}","x":"{x}"}}"#),
    };
    base64url::encode(digest::digest(&digest::SHA256, json.as_bytes()).as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7515 appendix A.3.
    fn p256() -> Value {
        json!({
            "kty": "EC", "crv": "P-256",
            "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
            "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
        })
    }

    /// RFC 8037 appendix A.2.
    fn ed25519() -> Value {
        json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"})
    }

    fn with(mut jwk: Value, name: &str, value: impl Into<Value>) -> Value {
        jwk[name] = value.into();
        jwk
    }

    fn signature(text: &str) -> Vec<u8> {
        base64url::decode_exactly::<64>(text).unwrap().to_vec()
    }

    #[test]
    fn the_vectors_of_rfc_7515_a_3_and_rfc_8037_a_4_verify() {
        let key = PublicKey::from_jwk(&p256()).unwrap().unwrap();
        let input = concat!(
            "eyJhbGciOiJFUzI1NiJ9.",
            "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ",
        );
        let good = signature("DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q");
        assert_eq!(key.verify(input.as_bytes(), &good), Ok(()));
        assert_eq!(key.verify(b"else", &good), Err(BadSignature));

        let key = PublicKey::from_jwk(&ed25519()).unwrap().unwrap();
        assert_eq!(key.kid(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k", "RFC 8037 A.3");
        let input = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
        let good = signature("hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg");
        assert_eq!(key.verify(input.as_bytes(), &good), Ok(()));
        assert_eq!(key.verify(b"else", &good), Err(BadSignature));
    }

    #[test]
    fn a_key_survives_its_own_jwk_and_shows_nothing_private() {
        for jwk in [p256(), ed25519(), with(p256(), "kid", "../../etc/passwd")] {
            let key = PublicKey::from_jwk(&jwk).unwrap().unwrap();
            let shown = key.to_jwk();
            assert_eq!(PublicKey::from_jwk(&shown), Ok(Some(key.clone())));
            let names: Vec<_> = shown.as_object().unwrap().keys().cloned().collect();
            assert!(names.iter().all(|n| ["alg", "crv", "kid", "kty", "use", "x", "y"].contains(&n.as_str())));
        }
    }

    #[test]
    fn a_key_for_something_else_is_skipped() {
        for jwk in [
            json!({"kty": "oct", "k": "AAAA"}),
            json!({"kty": "RSA", "n": "AQAB", "e": "AQAB"}),
            json!({"kty": "AKP", "alg": "ML-DSA-44", "pub": "AAAA"}),
            with(p256(), "crv", "P-384"),
            with(p256(), "alg", "ES384"),
            with(p256(), "alg", "ECDH-ES"),
            with(ed25519(), "crv", "X25519"),
            with(p256(), "use", "enc"),
            with(p256(), "key_ops", json!(["deriveBits"])),
        ] {
            assert_eq!(PublicKey::from_jwk(&jwk), Ok(None), "{jwk}");
        }
        assert!(PublicKey::from_jwk(&with(p256(), "key_ops", json!(["verify"]))).unwrap().is_some());
    }

    #[test]
    fn a_malformed_key_of_a_known_kind_is_an_error() {
        use JwkError::{Member, NotAnObject, Point, Private};
        let short = base64url::encode(&[1; 31]);
        let long = base64url::encode(&[1; 33]);
        let zero = base64url::encode(&[0; 32]);
        for (jwk, error) in [
            (json!([]), NotAnObject),
            (json!({}), Member("kty")),
            (with(p256(), "kty", 1), Member("kty")),
            (with(p256(), "crv", Value::Null), Member("crv")),
            (with(p256(), "alg", "EdDSA"), Member("alg")),
            (with(p256(), "alg", 1), Member("alg")),
            (with(p256(), "kid", 1), Member("kid")),
            (with(p256(), "key_ops", "verify"), Member("key_ops")),
            (with(p256(), "x", short.clone()), Member("x")),
            (with(p256(), "y", long.clone()), Member("y")),
            (with(p256(), "y", "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0="), Member("y")),
            (with(p256(), "y", Value::Null), Member("y")),
            (with(p256(), "d", "AAAA"), Private),
            (with(ed25519(), "d", "AAAA"), Private),
            (json!({"kty": "RSA", "n": "AQAB", "e": "AQAB", "d": "AQAB"}), Private),
            (with(p256(), "y", base64url::encode(&[1; 32])), Point),
            (with(with(p256(), "x", zero.clone()), "y", zero.clone()), Point),
            (with(ed25519(), "x", zero), Point),
            (with(ed25519(), "x", short), Member("x")),
            (with(ed25519(), "x", long), Member("x")),
        ] {
            assert_eq!(PublicKey::from_jwk(&jwk), Err(error), "{jwk}");
        }
    }
}
