//! Public keys and their JSON form (RFC 7517, RFC 7518 §6.2 and §6.3, RFC 8037 §2).

use std::{fmt, sync::Arc};

use aws_lc_rs::{
    digest,
    signature::{ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, VerificationAlgorithm},
};
use serde_json::{Map, Value, json};

use super::{base64url, rsa::RsaPublic, small_order::has_small_order};
use crate::domain::signing_key::Algorithm;

/// Bytes of a signature on a curve (RFC 7518 §3.4, RFC 8032 §5.1.6).
const CURVE_SIGNATURE_LEN: usize = 64;

/// The members that hold something private (RFC 7518 §6.2.2 and §6.3.2, RFC 8037 §2).
const PRIVATE_MEMBERS: [&str; 7] = ["d", "p", "q", "dp", "dq", "qi", "oth"];

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
    /// Its RSA modulus has not 2048 to 4096 bits, or its exponent is even, below 65537 or longer than 32 bits.
    #[error("the RSA key is too weak, or larger than anybody needs: 2048 to 4096 bits, and an exponent from 65537 on")]
    Rsa,
}

/// A public key with the one algorithm it is for. Immutable and cheap to clone.
#[derive(Clone)]
pub struct PublicKey(Arc<Inner>);

struct Inner {
    algorithm: Algorithm,
    kid: String,
    /// Parsed once; it also remembers the bytes it came from.
    parsed: ParsedPublicKey,
    signature_len: usize,
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
        if PRIVATE_MEMBERS.iter().any(|name| jwk.contains_key(*name)) {
            return Err(JwkError::Private);
        }
        let Some(algorithm) = algorithm_of(jwk)? else { return Ok(None) };
        let kid = optional_text(jwk, "kid")?;
        let bytes = match algorithm {
            // SEC 1 §2.3.3: an uncompressed point.
            Algorithm::Es256 => [&[4], &coordinate(jwk, "x")?[..], &coordinate(jwk, "y")?[..]].concat(),
            Algorithm::EdDsa => match coordinate(jwk, "x")? {
                x if has_small_order(&x) => return Err(JwkError::Point),
                x => x.to_vec(),
            },
            Algorithm::Rs256 => RsaPublic::from_members(text(jwk, "n")?, text(jwk, "e")?)?.to_der(),
        };
        Self::from_bytes(algorithm, &bytes, kid).map(Some)
    }

    /// From an uncompressed point (ES256), 32 bytes (EdDSA) or an `RSAPublicKey` (RS256). The `kid` is the thumbprint unless there is another.
    pub(super) fn from_bytes(algorithm: Algorithm, bytes: &[u8], kid: Option<&str>) -> Result<Self, JwkError> {
        let verification: &'static dyn VerificationAlgorithm = match algorithm {
            Algorithm::Es256 => &ECDSA_P256_SHA256_FIXED,
            Algorithm::EdDsa => &ED25519,
            Algorithm::Rs256 => &RSA_PKCS1_2048_8192_SHA256,
        };
        let (signature_len, refusal) = match algorithm {
            Algorithm::Es256 | Algorithm::EdDsa => (CURVE_SIGNATURE_LEN, JwkError::Point),
            // Of every way in, so that no key is too weak wherever it comes from.
            Algorithm::Rs256 => (RsaPublic::from_der(bytes)?.signature_len(), JwkError::Rsa),
        };
        // aws-lc refuses a P-256 point off the curve here.
        let parsed = ParsedPublicKey::new(verification, bytes).map_err(|_| refusal)?;
        let kid = match kid {
            Some(kid) => kid.to_owned(),
            None => thumbprint(&members(algorithm, bytes)?),
        };
        Ok(Self(Arc::new(Inner { algorithm, kid, parsed, signature_len })))
    }

    /// The one algorithm this key is for.
    pub fn algorithm(&self) -> Algorithm {
        self.0.algorithm
    }

    /// The string tokens name it by: the SHA-256 thumbprint of RFC 7638 for keys of ours.
    pub fn kid(&self) -> &str {
        &self.0.kid
    }

    /// The key as a JWK: `kty` and the members that make a key of that kind, `kid`, `alg` and `use`.
    pub fn to_jwk(&self) -> Value {
        let mut jwk = json!({ "kid": self.0.kid, "alg": self.0.algorithm.as_str(), "use": "sig" });
        // They were read when the key was made, and are as good now.
        for (name, value) in members(self.0.algorithm, self.0.parsed.as_ref()).unwrap_or_default() {
            jwk[name] = value.into();
        }
        jwk
    }

    /// Bytes of every signature of this key.
    pub(super) fn signature_len(&self) -> usize {
        self.0.signature_len
    }

    /// Checks a signature of exactly 64 bytes, r and s (RFC 7518 §3.4) or Ed25519's (RFC 8032), or of exactly as many as the
    /// RSA modulus has (RFC 8017 §8.2.2).
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), BadSignature> {
        // So does aws-lc, but RFC 7518 §3.4 is our promise and not only its.
        if signature.len() != self.0.signature_len {
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

/// The members that make the key and its thumbprint, in the order of their names (RFC 7638 §3.2). An error only for bytes
/// that are no key.
fn members(algorithm: Algorithm, bytes: &[u8]) -> Result<Vec<(&'static str, String)>, JwkError> {
    let curve = |crv: &str, kty: &str| vec![("crv", crv.to_owned()), ("kty", kty.to_owned())];
    Ok(match algorithm {
        Algorithm::Es256 => {
            // After the byte that says "uncompressed".
            let (x, y) = bytes.get(1..).and_then(|xy| xy.split_at_checked(32)).ok_or(JwkError::Point)?;
            let mut members = curve("P-256", "EC");
            members.extend([("x", base64url::encode(x)), ("y", base64url::encode(y))]);
            members
        }
        Algorithm::EdDsa => {
            let mut members = curve("Ed25519", "OKP");
            members.push(("x", base64url::encode(bytes)));
            members
        }
        Algorithm::Rs256 => {
            let (n, e) = RsaPublic::from_der(bytes)?.members();
            vec![("e", e), ("kty", "RSA".to_owned()), ("n", n)]
        }
    })
}

/// The algorithm of a key that is meant for signatures we know.
fn algorithm_of(jwk: &Map<String, Value>) -> Result<Option<Algorithm>, JwkError> {
    let kty = optional_text(jwk, "kty")?.ok_or(JwkError::Member("kty"))?;
    let by_kind = match kty {
        "EC" if text(jwk, "crv")? == "P-256" => Algorithm::Es256,
        "OKP" if text(jwk, "crv")? == "Ed25519" => Algorithm::EdDsa,
        "RSA" => Algorithm::Rs256,
        _ => return Ok(None),
    };
    if optional_text(jwk, "use")?.is_some_and(|u| u != "sig") || !may_verify(jwk)? {
        return Ok(None);
    }
    match optional_text(jwk, "alg")?.map(str::parse::<Algorithm>) {
        None => Ok(Some(by_kind)),
        Some(Ok(named)) if named == by_kind => Ok(Some(by_kind)),
        Some(Ok(_)) => Err(JwkError::Member("alg")),
        // `ES384`, `ECDH-ES`, `PS256`, or whatever comes: not for us.
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

fn text<'a>(jwk: &'a Map<String, Value>, name: &'static str) -> Result<&'a str, JwkError> {
    optional_text(jwk, name)?.ok_or(JwkError::Member(name))
}

/// RFC 7518 §6.2.1.2: the full length, leading zeros included.
fn coordinate(jwk: &Map<String, Value>, name: &'static str) -> Result<[u8; 32], JwkError> {
    base64url::decode_exactly(text(jwk, name)?).map_err(|_| JwkError::Member(name))
}

/// RFC 7638 §3: the members without white space. Nothing in them needs escaping.
fn thumbprint(members: &[(&'static str, String)]) -> String {
    let members: Vec<_> = members.iter().map(|(name, value)| format!(r#""{name}":"{value}""#)).collect();
    let json = format!("{{{}}}", members.join(","));
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

    /// RFC 7638 §3.1, which is RFC 7515 appendix A.2's key.
    fn rsa() -> Value {
        json!({"kty": "RSA", "e": "AQAB", "n": concat!(
            "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3o",
            "knjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHz",
            "u6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8",
            "awapJzKnqDKgw",
        )})
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
    fn the_thumbprint_of_rfc_7638_3_1_comes_out() {
        let key = PublicKey::from_jwk(&rsa()).unwrap().unwrap();
        assert_eq!((key.kid(), key.algorithm()), ("NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs", Algorithm::Rs256));
    }

    #[test]
    fn a_key_survives_its_own_jwk_and_shows_nothing_private() {
        for jwk in [p256(), ed25519(), rsa(), with(p256(), "kid", "../../etc/passwd"), with(rsa(), "alg", "RS256")] {
            let key = PublicKey::from_jwk(&jwk).unwrap().unwrap();
            let shown = key.to_jwk();
            assert_eq!(PublicKey::from_jwk(&shown), Ok(Some(key.clone())));
            let names: Vec<_> = shown.as_object().unwrap().keys().cloned().collect();
            assert!(
                names.iter().all(|n| ["alg", "crv", "e", "kid", "kty", "n", "use", "x", "y"].contains(&n.as_str()))
            );
        }
    }

    #[test]
    fn a_key_for_something_else_is_skipped() {
        for jwk in [
            json!({"kty": "oct", "k": "AAAA"}),
            // However small: they are not for us.
            json!({"kty": "RSA", "n": "AQAB", "e": "AQAB", "use": "enc"}),
            json!({"kty": "RSA", "n": "AQAB", "e": "AQAB", "alg": "RSA-OAEP-256"}),
            with(rsa(), "alg", "PS256"),
            with(rsa(), "alg", "RS512"),
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
        use JwkError::{Member, NotAnObject, Point, Private, Rsa};
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
            (with(rsa(), "qi", "AQAB"), Private),
            (json!({"kty": "RSA"}), Member("n")),
            (with(rsa(), "n", "AA"), Member("n")),
            (with(rsa(), "e", Value::Null), Member("e")),
            (with(rsa(), "alg", "ES256"), Member("alg")),
            (with(p256(), "alg", "RS256"), Member("alg")),
            (with(rsa(), "n", base64url::encode(&[0xff; 128])), Rsa),
            (with(rsa(), "n", base64url::encode(&[0xff; 1024])), Rsa),
            (with(rsa(), "e", "Aw"), Rsa),
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
