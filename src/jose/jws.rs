//! Compact JWS (RFC 7515): taken apart without trusting it, then verified.

use std::ops::Range;

use serde::de::{Error, MapAccess};

use super::{
    base64url,
    json::{Members, Text, once, parse_object},
    jwk::PublicKey,
    key_set::KeySet,
};
use crate::domain::signing_key::Algorithm;

/// The longest token looked at, in bytes: the header list of a request is capped at as much, so none longer can arrive
/// as a bearer token.
pub const MAX_TOKEN_LEN: usize = 16 * 1024;

/// Why a text is no token we could verify.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwsError {
    /// Longer than [`MAX_TOKEN_LEN`].
    #[error("the token is longer than {MAX_TOKEN_LEN} bytes")]
    TooLong,
    /// Not three parts with dots between.
    #[error("the token has not three parts")]
    Parts,
    /// A part is not canonical base64url.
    #[error("a part of the token is not canonical base64url without padding")]
    Base64,
    /// The header is not one JSON object of unique members with strings `alg` and `kid`, and `typ` a string if present;
    /// or it holds `crit` or `b64`, which nobody here understands (RFC 7515 §4.1.11, RFC 7797).
    #[error("the token's header is malformed")]
    Header,
    /// `alg` is none of those offered; `none` and the symmetric ones never are.
    #[error("the token's algorithm is not offered")]
    Algorithm,
}

/// Why a well-formed token is not authentic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// No key has its `kid`.
    #[error("no key has the token's kid")]
    UnknownKey,
    /// The key is for another algorithm than the header says.
    #[error("the token's algorithm is not the key's")]
    WrongAlgorithm,
    /// The signature does not match.
    #[error("the token's signature does not match")]
    BadSignature,
}

/// A token that is well-formed as far as can be told without trusting it: it names a key, and keeps its payload back.
///
/// Of the header only `alg`, `kid` and `typ` are read. `jku`, `jwk`, `x5u` and `x5c` are members like any unknown one:
/// nobody looks at them, so nothing is fetched and no key comes from a token (RFC 8725 §3.10).
pub struct Unverified<'a> {
    signing_input: &'a str,
    algorithm: Algorithm,
    kid: String,
    typ: Option<String>,
    /// Header, payload and signature, decoded one after the other.
    decoded: Vec<u8>,
    payload: Range<usize>,
}

impl<'a> Unverified<'a> {
    /// Takes a token apart. Its length is looked at before anything else.
    pub fn parse(token: &'a str) -> Result<Self, JwsError> {
        if token.len() > MAX_TOKEN_LEN {
            return Err(JwsError::TooLong);
        }
        let (header, rest) = token.split_once('.').ok_or(JwsError::Parts)?;
        let (payload, signature) = rest.split_once('.').ok_or(JwsError::Parts)?;
        if signature.contains('.') {
            return Err(JwsError::Parts);
        }
        let mut decoded = Vec::with_capacity(token.len());
        let mut decode = |part| {
            base64url::decode_onto(part, &mut decoded).map_err(|_| JwsError::Base64)?;
            Ok(decoded.len())
        };
        let (header_end, payload_end) = (decode(header)?, decode(payload)?);
        decode(signature)?;
        let Header { alg: Some(alg), kid: Some(kid), typ } =
            parse_object(&decoded[..header_end]).map_err(|_| JwsError::Header)?
        else {
            return Err(JwsError::Header);
        };
        Ok(Self {
            signing_input: &token[..header.len() + 1 + payload.len()],
            algorithm: alg.0.parse().map_err(|_| JwsError::Algorithm)?,
            kid: kid.0.into_owned(),
            typ: typ.map(|typ| typ.0.into_owned()),
            payload: header_end..payload_end,
            decoded,
        })
    }

    /// The key it claims to be signed by. Good for a look-up and for nothing else.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// What kind of token it claims to be.
    pub fn typ(&self) -> Option<&str> {
        self.typ.as_deref()
    }

    /// Verifies it with the key that it names.
    pub fn verify(self, keys: &KeySet) -> Result<Verified, VerifyError> {
        let key = keys.get(&self.kid).ok_or(VerifyError::UnknownKey)?;
        self.verify_with(key)
    }

    /// Verifies it with this key, if it names it.
    pub fn verify_with(self, key: &PublicKey) -> Result<Verified, VerifyError> {
        if self.kid != key.kid() {
            return Err(VerifyError::UnknownKey);
        }
        // The key decides by which algorithm; the header may only agree (RFC 8725 §3.1).
        if self.algorithm != key.algorithm() {
            return Err(VerifyError::WrongAlgorithm);
        }
        key.verify(self.signing_input.as_bytes(), &self.decoded[self.payload.end..])
            .map_err(|_| VerifyError::BadSignature)?;
        Ok(Verified { kid: self.kid, typ: self.typ, decoded: self.decoded, payload: self.payload })
    }
}

/// An authentic token: whoever holds the key signed this payload. Whether it is worth anything is for others to check.
pub struct Verified {
    kid: String,
    typ: Option<String>,
    decoded: Vec<u8>,
    payload: Range<usize>,
}

impl Verified {
    /// The key that signed it.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// What kind of token it is.
    pub fn typ(&self) -> Option<&str> {
        self.typ.as_deref()
    }

    /// What was signed.
    pub fn payload(&self) -> &[u8] {
        &self.decoded[self.payload.clone()]
    }

    /// The key that signed it, without the rest.
    pub fn into_kid(self) -> String {
        self.kid
    }
}

#[derive(Default)]
struct Header<'a> {
    alg: Option<Text<'a>>,
    kid: Option<Text<'a>>,
    typ: Option<Text<'a>>,
}

impl<'de> Members<'de> for Header<'de> {
    fn take<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<bool, A::Error> {
        match name {
            "alg" => once(&mut self.alg, map),
            "kid" => once(&mut self.kid, map),
            "typ" => once(&mut self.typ, map),
            // Even an empty `crit`: it must not be empty where it stands (RFC 7515 §4.1.11).
            "crit" | "b64" => Err(A::Error::custom("an extension that nobody here understands")),
            _ => Ok(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::jose::SigningKeyPair;

    fn error(token: &str) -> Option<JwsError> {
        Unverified::parse(token).err()
    }

    fn of(header: &str) -> String {
        format!("{}.e30.", base64url::encode(header.as_bytes()))
    }

    #[test]
    fn the_length_is_looked_at_before_anything_else() {
        assert_eq!(error(&"a".repeat(1 << 20)), Some(JwsError::TooLong));
        assert_eq!(error(&".".repeat(1_000_000)), Some(JwsError::TooLong));
        assert_eq!(error(&".".repeat(MAX_TOKEN_LEN)), Some(JwsError::Parts));
        assert_eq!(error(&"a".repeat(MAX_TOKEN_LEN)), Some(JwsError::Parts));
    }

    #[test]
    fn a_header_is_read_strictly() {
        assert_eq!(error(&of(r#"{"alg":"ES256","kid":"k"}"#)), None);
        assert_eq!(error(&of(r#"{"alg":"ES256","kid":"k","typ":"t","jku":"https://x","jwk":{},"x5c":[]}"#)), None);
        for header in [
            "",
            "[]",
            r#"{"alg":"ES256"}"#,
            r#"{"kid":"k"}"#,
            r#"{"alg":"ES256","kid":1}"#,
            r#"{"alg":"ES256","kid":null}"#,
            r#"{"alg":["ES256"],"kid":"k"}"#,
            r#"{"alg":"ES256","kid":"k","typ":1}"#,
            r#"{"alg":"ES256","kid":"k","typ":null}"#,
            r#"{"alg":"ES256","kid":"k","crit":[]}"#,
            r#"{"alg":"ES256","kid":"k","cr\u0069t":["exp"]}"#,
            r#"{"alg":"ES256","kid":"k","b64":true}"#,
            r#"{"alg":"ES256","kid":"k","kid":"k"}"#,
            r#"{"alg":"ES256","kid":"k","x":1,"x":1}"#,
            r#"{"alg":"ES256","kid":"k"}x"#,
        ] {
            assert_eq!(error(&of(header)), Some(JwsError::Header), "{header}");
        }
        for alg in [
            "none", "None", "NONE", "nOnE", "", "HS256", "RS384", "PS256", "rs256", "es256", "ES256 ", "eddsa",
            "Ed25519",
        ] {
            assert_eq!(error(&of(&json!({"alg": alg, "kid": "k"}).to_string())), Some(JwsError::Algorithm), "{alg}");
        }
    }

    fn signed(algorithm: Algorithm) -> (PublicKey, String) {
        let pair = SigningKeyPair::generate(algorithm).unwrap();
        let token = pair.sign("at+jwt", &json!({"sub": "x", "n": [1, 2, 3]})).unwrap();
        (pair.public_key().clone(), token)
    }

    #[test]
    fn a_key_serves_one_algorithm_and_one_kid() {
        let (es256, token) = signed(Algorithm::Es256);
        let (ed25519, _) = signed(Algorithm::EdDsa);
        let verify = |key: &PublicKey| Unverified::parse(&token).unwrap().verify_with(key).err();
        assert_eq!(verify(&es256), None);
        assert_eq!(verify(&ed25519), Some(VerifyError::UnknownKey));
        let mut jwk = ed25519.to_jwk();
        jwk["kid"] = es256.kid().into();
        assert_eq!(verify(&PublicKey::from_jwk(&jwk).unwrap().unwrap()), Some(VerifyError::WrongAlgorithm));
        let empty = Unverified::parse(&token).unwrap().verify(&KeySet::default());
        assert_eq!(empty.err(), Some(VerifyError::UnknownKey));
    }

    /// Every one of them: a bit that is not covered by the signature would be a second spelling.
    #[test]
    fn a_token_with_any_byte_changed_is_refused() {
        for algorithm in Algorithm::ALL {
            let (key, token) = signed(algorithm);
            for at in 0..token.len() {
                for with in ['A', 'B', 'w', '_', '.', '='] {
                    let mut changed = token.clone();
                    changed.replace_range(at..=at, with.encode_utf8(&mut [0; 4]));
                    let verified = Unverified::parse(&changed).ok().and_then(|t| t.verify_with(&key).ok());
                    assert!(changed == token || verified.is_none(), "{with} at {at} of {token}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[A-Za-z0-9_.=é-]{0,80}") {
            let _ = Unverified::parse(&text);
        }

        #[test]
        fn no_header_makes_it_panic(header: Vec<u8>) {
            let _ = Unverified::parse(&format!("{}.e30.", base64url::encode(&header)));
        }
    }
}
