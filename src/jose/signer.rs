//! Key pairs that sign tokens.

use std::fmt;

use aws_lc_rs::{
    encoding::{AsDer as _, Pkcs8V1Der},
    rand::SystemRandom,
    rsa::KeySize,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair},
};
use serde::Serialize;
use zeroize::Zeroizing;

use super::{base64url, jwk::PublicKey, jws::MAX_TOKEN_LEN};
use crate::domain::signing_key::Algorithm;

/// Of RSA keys made here: what RFC 7518 §3.3 demands at least, and enough until past 2030 (NIST SP 800-57 part 1, table 2).
/// Larger ones make every signature several times as slow.
const RSA_SIZE: KeySize = KeySize::Rsa2048;

/// A key pair could not be made, read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyPairError {
    /// The bytes are no PKCS#8 key of that algorithm.
    #[error("not a PKCS#8 private key of the expected algorithm")]
    Malformed,
    /// The cryptographic library failed, for want of memory or random bytes.
    #[error("the cryptographic library failed")]
    Library,
}

/// A token could not be signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The claims are no JSON object, or cannot be written as JSON.
    #[error("the claims are no JSON object")]
    Claims(#[source] Option<serde_json::Error>),
    /// The token would be longer than [`MAX_TOKEN_LEN`], which no verifier accepts.
    #[error("the token would be longer than {MAX_TOKEN_LEN} bytes")]
    TooLong,
    /// The cryptographic library failed.
    #[error("the cryptographic library failed")]
    Library,
}

/// A private key, parsed once, with its public half.
pub struct SigningKeyPair {
    private: Private,
    public: PublicKey,
}

enum Private {
    Es256(EcdsaKeyPair),
    EdDsa(Ed25519KeyPair),
    Rs256(Box<RsaKeyPair>),
}

/// Members in the order of RFC 7515's examples.
#[derive(Serialize)]
struct Header<'a> {
    alg: &'static str,
    typ: &'a str,
    kid: &'a str,
}

impl SigningKeyPair {
    /// A new key pair from aws-lc's own random numbers. An RSA one takes from a tenth of a second to more than one, so make
    /// it where nothing else waits.
    pub fn generate(algorithm: Algorithm) -> Result<Self, KeyPairError> {
        let private = match algorithm {
            Algorithm::Es256 => EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map(Private::Es256),
            Algorithm::EdDsa => Ed25519KeyPair::generate().map(Private::EdDsa),
            Algorithm::Rs256 => RsaKeyPair::generate(RSA_SIZE).map(|pair| Private::Rs256(Box::new(pair))),
        };
        Self::new(private.map_err(|_| KeyPairError::Library)?)
    }

    /// Reads a PKCS#8 document, as [`Self::to_pkcs8`] and `openssl genpkey` write them. The caller wipes the bytes.
    pub fn from_pkcs8(algorithm: Algorithm, document: &[u8]) -> Result<Self, KeyPairError> {
        let private = match algorithm {
            Algorithm::Es256 => {
                EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document).map(Private::Es256)
            }
            Algorithm::EdDsa => Ed25519KeyPair::from_pkcs8(document).map(Private::EdDsa),
            Algorithm::Rs256 => RsaKeyPair::from_pkcs8(document).map(|pair| Private::Rs256(Box::new(pair))),
        };
        Self::new(private.map_err(|_| KeyPairError::Malformed)?)
    }

    fn new(private: Private) -> Result<Self, KeyPairError> {
        let public = match &private {
            Private::Es256(pair) => PublicKey::from_bytes(Algorithm::Es256, pair.public_key().as_ref(), None),
            Private::EdDsa(pair) => PublicKey::from_bytes(Algorithm::EdDsa, pair.public_key().as_ref(), None),
            Private::Rs256(pair) => PublicKey::from_bytes(Algorithm::Rs256, pair.public_key().as_ref(), None),
        };
        Ok(Self { private, public: public.map_err(|_| KeyPairError::Malformed)? })
    }

    /// The private key as a PKCS#8 document of version 1, which is what other libraries read. Wiped when dropped.
    pub fn to_pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, KeyPairError> {
        // The documents wipe themselves, too.
        let copied = match &self.private {
            Private::Es256(pair) => pair.to_pkcs8v1().map(|document| document.as_ref().to_vec()),
            Private::EdDsa(pair) => pair.to_pkcs8v1().map(|document| document.as_ref().to_vec()),
            Private::Rs256(pair) => pair.as_der().map(|document: Pkcs8V1Der<'static>| document.as_ref().to_vec()),
        };
        copied.map(Zeroizing::new).map_err(|_| KeyPairError::Library)
    }

    /// The public half. Its `kid` is its thumbprint.
    pub fn public_key(&self) -> &PublicKey {
        &self.public
    }

    /// Signs claims, which must be a JSON object, as a compact JWS with the header `alg`, `typ`, `kid`.
    pub fn sign(&self, typ: &str, claims: &impl Serialize) -> Result<String, SignError> {
        let (header, claims) = self.parts(typ, claims)?;
        let mut token = String::with_capacity(self.length(&header, &claims));
        base64url::encode_onto(&header, &mut token);
        token.push('.');
        base64url::encode_onto(&claims, &mut token);
        let signature = self.signature(token.as_bytes())?;
        token.push('.');
        base64url::encode_onto(&signature, &mut token);
        if token.len() > MAX_TOKEN_LEN { Err(SignError::TooLong) } else { Ok(token) }
    }

    /// How long the token would be that [`Self::sign`] makes of this, whether or not that is too long.
    pub fn signed_len(&self, typ: &str, claims: &impl Serialize) -> Result<usize, SignError> {
        let (header, claims) = self.parts(typ, claims)?;
        Ok(self.length(&header, &claims))
    }

    /// Header and claims as JSON.
    fn parts(&self, typ: &str, claims: &impl Serialize) -> Result<(Vec<u8>, Vec<u8>), SignError> {
        let header = Header { alg: self.public.algorithm().as_str(), typ, kid: self.public.kid() };
        let header = serde_json::to_vec(&header).map_err(|e| SignError::Claims(Some(e)))?;
        let claims = serde_json::to_vec(claims).map_err(|e| SignError::Claims(Some(e)))?;
        if claims.first() == Some(&b'{') { Ok((header, claims)) } else { Err(SignError::Claims(None)) }
    }

    fn length(&self, header: &[u8], claims: &[u8]) -> usize {
        let parts = [header.len(), claims.len(), self.public.signature_len()];
        parts.map(base64url::encoded_len).iter().sum::<usize>() + 2
    }

    fn signature(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        match &self.private {
            Private::Es256(pair) => pair.sign(&SystemRandom::new(), message).map(|s| s.as_ref().to_vec()),
            Private::EdDsa(pair) => pair.try_sign(message).map(|s| s.as_ref().to_vec()),
            Private::Rs256(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature).map(|()| signature)
            }
        }
        .map_err(|_| SignError::Library)
    }
}

impl fmt::Debug for SigningKeyPair {
    /// The public half only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKeyPair").field("private", &"[redacted]").field("public", &self.public).finish()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::jose::jws::Unverified;

    #[test]
    fn what_one_signs_its_public_half_verifies_and_no_other() {
        for algorithm in Algorithm::ALL {
            let pair = SigningKeyPair::generate(algorithm).unwrap();
            let token = pair.sign("at+jwt", &json!({"a": 1})).unwrap();
            let parsed = Unverified::parse(&token).unwrap();
            assert_eq!((parsed.kid(), parsed.typ()), (pair.public_key().kid(), Some("at+jwt")));
            let verified = parsed.verify_with(pair.public_key()).unwrap();
            assert_eq!(verified.payload(), br#"{"a":1}"#);
            for claims in [json!({"a": 1}), json!({"a": 12}), json!({"a": 123}), json!({"a": "x".repeat(9_000)})] {
                let (foretold, made) = (pair.signed_len("at+jwt", &claims), pair.sign("at+jwt", &claims));
                assert_eq!(foretold.unwrap(), made.unwrap().len());
            }
            let other = SigningKeyPair::generate(algorithm).unwrap();
            assert!(Unverified::parse(&token).unwrap().verify_with(other.public_key()).is_err());
        }
    }

    #[test]
    fn a_pair_survives_pkcs8_of_version_1_and_is_not_taken_for_another_algorithm() {
        for algorithm in Algorithm::ALL {
            let pair = SigningKeyPair::generate(algorithm).unwrap();
            let document = pair.to_pkcs8().unwrap();
            // After the outer SEQUENCE, whose length takes one byte or some more.
            let header = 2 + usize::from(document[1].saturating_sub(0x80));
            let version = &document[header..header + 3];
            assert_eq!(version, [0x02, 0x01, 0x00], "version 1 is written as 0");
            let again = SigningKeyPair::from_pkcs8(algorithm, &document).unwrap();
            assert_eq!(again.public_key(), pair.public_key());
            for other in Algorithm::ALL.into_iter().filter(|other| *other != algorithm) {
                assert_eq!(SigningKeyPair::from_pkcs8(other, &document).err(), Some(KeyPairError::Malformed));
            }
            assert_eq!(SigningKeyPair::from_pkcs8(algorithm, &document[1..]).err(), Some(KeyPairError::Malformed));
        }
    }

    #[test]
    fn only_an_object_of_a_length_that_verifies_is_signed() {
        let pair = SigningKeyPair::generate(Algorithm::EdDsa).unwrap();
        assert!(matches!(pair.sign("x", &"text"), Err(SignError::Claims(None))));
        assert!(matches!(pair.sign("x", &[1]), Err(SignError::Claims(None))));
        assert!(matches!(pair.sign("x", &json!({"a": "x".repeat(12_200)})), Err(SignError::TooLong)));
        let token = pair.sign("x", &json!({"a": "x".repeat(12_000)})).unwrap();
        assert!(Unverified::parse(&token).is_ok());
    }

    #[test]
    fn debug_does_not_show_the_private_key() {
        for algorithm in Algorithm::ALL {
            let pair = SigningKeyPair::generate(algorithm).unwrap();
            let shown = format!("{pair:?}");
            assert!(shown.contains("[redacted]") && shown.len() < 200, "{shown}");
        }
    }
}
