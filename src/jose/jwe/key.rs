//! Keys that tokens are encrypted for, as JWKs (RFC 7517, RFC 7518 §6.2 and §6.4), and how each protects the key of one token.

use std::{fmt, sync::Arc};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    agreement::{ECDH_P256, PrivateKey, UnparsedPublicKey, agree},
    digest,
    key_wrap::{AES_256, AesKek, KeyWrap as _},
};
use serde_json::{Map, Value, json};

use super::{ENC, EncryptError, IV_LEN, TAG_LEN};
use crate::{
    domain::secret::{Entropy, SecretKey, random},
    jose::base64url,
};

/// Bytes of a key of `A256GCM`, and of `A256KW`.
pub(super) const CEK_LEN: usize = 32;
/// Bytes of such a key wrapped (RFC 3394 §2.2.1).
pub(super) const WRAPPED_LEN: usize = CEK_LEN + 8;
/// Bytes of an uncompressed point of P-256 (SEC 1 §2.3.3).
pub(super) const POINT_LEN: usize = 65;
/// Longest `kid`: it stands in every token.
const MAX_KID: usize = 128;

/// Operations of which a JWK with `key_ops` must name one (RFC 7517 §4.3).
const OPERATIONS: [&str; 6] = ["encrypt", "decrypt", "wrapKey", "unwrapKey", "deriveKey", "deriveBits"];

/// How the key that a token's content is encrypted with comes about (RFC 7518 §4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyManagement {
    /// `dir`: the shared key itself.
    Dir,
    /// `A256KW`: a new one for each token, wrapped by the shared key.
    A256Kw,
    /// `ECDH-ES`: agreed upon between an ephemeral key of the token and the recipient's.
    EcdhEs,
}

impl KeyManagement {
    /// The value of `alg`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dir => "dir",
            Self::A256Kw => "A256KW",
            Self::EcdhEs => "ECDH-ES",
        }
    }

    pub(super) fn parse(alg: &str) -> Option<Self> {
        [Self::Dir, Self::A256Kw, Self::EcdhEs].into_iter().find(|known| known.as_str() == alg)
    }

    /// Bytes of the second part of a token (RFC 7516 §5.2 step 10).
    pub(super) const fn encrypted_key_len(self) -> usize {
        match self {
            Self::Dir | Self::EcdhEs => 0,
            Self::A256Kw => WRAPPED_LEN,
        }
    }
}

/// Why a JWK is no key to encrypt for. Nothing of the key is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JweKeyError {
    /// Not a JSON object.
    #[error("a JWK is a JSON object")]
    NotAnObject,
    /// A member that is needed is missing, of the wrong type or malformed.
    #[error("the JWK's member {0:?} is missing or malformed")]
    Member(&'static str),
    /// Neither `oct` nor `EC` on P-256.
    #[error("the JWK's kty must be oct, or EC with the crv P-256")]
    Kind,
    /// `alg` is missing or does not fit `kty`.
    #[error("the JWK's alg must be dir or A256KW with kty oct, ECDH-ES with kty EC")]
    Algorithm,
    /// It is for something else.
    #[error(
        "the JWK is not for encryption: use must be enc, and key_ops name an operation of it, where they are there"
    )]
    Purpose,
    /// A shared key of another length.
    #[error(
        "the JWK's k must be 32 random bytes in base64url: make them with `openssl rand 32 | basenc --base64url -w0 | tr -d =`"
    )]
    Length,
    /// Every byte is the same, as in an example somebody forgot to replace.
    #[error("the JWK's k is a placeholder, all its bytes are the same: use 32 random bytes")]
    Placeholder,
    /// A shared key has no name. What names a key stands in every token, so no name is derived from a secret.
    #[error("the JWK needs a kid of 1 to 128 characters")]
    NoName,
    /// The coordinates are no point of the curve.
    #[error("the JWK's x and y are not a point of P-256")]
    Point,
    /// The private part is that of another key.
    #[error("the JWK's d does not belong to its x and y")]
    Pair,
}

/// A key that tokens are encrypted for. Immutable and cheap to clone.
#[derive(Clone)]
pub struct JweKey(Arc<Inner>);

struct Inner {
    kid: String,
    secret: Secret,
}

enum Secret {
    Dir(Cek),
    A256Kw(SecretKey<CEK_LEN>),
    EcdhEs { public: [u8; POINT_LEN], private: Option<PrivateKey> },
}

/// What goes into a token so that its recipient finds the content's key.
pub(super) struct SealedCek {
    pub(super) cek: Cek,
    pub(super) encrypted_key: Vec<u8>,
    pub(super) epk: Option<Value>,
}

impl JweKey {
    /// Reads a JWK: `oct` with `alg` `dir` or `A256KW` and a `kid`, or `EC` on P-256 with `alg` `ECDH-ES`, with its private
    /// part or without. Without a `kid` the latter is named by its thumbprint (RFC 7638).
    pub fn from_jwk(jwk: &Value) -> Result<Self, JweKeyError> {
        let jwk = jwk.as_object().ok_or(JweKeyError::NotAnObject)?;
        let kty = text(jwk, "kty")?;
        let alg = optional_text(jwk, "alg")?.and_then(KeyManagement::parse).ok_or(JweKeyError::Algorithm);
        let purpose = optional_text(jwk, "use")?.is_none_or(|purpose| purpose == "enc") && may_encrypt(jwk)?;
        let secret = match kty {
            "oct" => match alg? {
                KeyManagement::Dir => Secret::Dir(Cek::new(shared(jwk)?)),
                KeyManagement::A256Kw => Secret::A256Kw(SecretKey::new(shared(jwk)?)),
                KeyManagement::EcdhEs => return Err(JweKeyError::Algorithm),
            },
            "EC" if text(jwk, "crv")? == "P-256" => match alg? {
                KeyManagement::EcdhEs => curve(jwk)?,
                KeyManagement::Dir | KeyManagement::A256Kw => return Err(JweKeyError::Algorithm),
            },
            _ => return Err(JweKeyError::Kind),
        };
        if !purpose {
            return Err(JweKeyError::Purpose);
        }
        let kid = match (optional_text(jwk, "kid")?, &secret) {
            (Some(kid), _) if (1..=MAX_KID).contains(&kid.len()) => kid.to_owned(),
            (None, Secret::EcdhEs { public, .. }) => thumbprint(public),
            (Some(_) | None, _) => return Err(JweKeyError::NoName),
        };
        Ok(Self(Arc::new(Inner { kid, secret })))
    }

    /// The string tokens name it by.
    pub fn kid(&self) -> &str {
        &self.0.kid
    }

    /// The one way that it is used.
    pub fn management(&self) -> KeyManagement {
        match &self.0.secret {
            Secret::Dir(_) => KeyManagement::Dir,
            Secret::A256Kw(_) => KeyManagement::A256Kw,
            Secret::EcdhEs { .. } => KeyManagement::EcdhEs,
        }
    }

    /// Whether it opens tokens, too. A public key does not.
    pub fn can_decrypt(&self) -> bool {
        !matches!(&self.0.secret, Secret::EcdhEs { private: None, .. })
    }

    /// A key for one token's content.
    pub(super) fn new_cek(&self, entropy: &dyn Entropy) -> Result<SealedCek, EncryptError> {
        let none = || EncryptError::Library;
        match &self.0.secret {
            Secret::Dir(key) => Ok(SealedCek { cek: key.clone(), encrypted_key: Vec::new(), epk: None }),
            Secret::A256Kw(key) => {
                let cek = Cek::new(random(entropy));
                let encrypted_key = wrap(key, &cek).ok_or_else(none)?.to_vec();
                Ok(SealedCek { cek, encrypted_key, epk: None })
            }
            Secret::EcdhEs { public, .. } => {
                let ephemeral = PrivateKey::generate(&ECDH_P256).map_err(|_| none())?;
                let epk = ephemeral.compute_public_key().map_err(|_| none())?;
                let cek = agreed(&ephemeral, public).ok_or_else(none)?;
                Ok(SealedCek { cek, encrypted_key: Vec::new(), epk: Some(public_jwk(epk.as_ref())) })
            }
        }
    }

    /// The key of a token's content. Where the parts are those of another way, the work is done on others, for nothing.
    pub(super) fn unwrap_cek(&self, encrypted_key: &[u8], epk: Option<&[u8; POINT_LEN]>) -> Option<Cek> {
        match &self.0.secret {
            Secret::Dir(key) => Some(key.clone()),
            Secret::A256Kw(key) => {
                let fits = encrypted_key.len() == WRAPPED_LEN;
                let unwrapped = unwrap(key, if fits { encrypted_key } else { &[0; WRAPPED_LEN] });
                unwrapped.filter(|_| fits)
            }
            Secret::EcdhEs { public, private } => {
                let agreed = agreed(private.as_ref()?, epk.unwrap_or(public));
                agreed.filter(|_| epk.is_some())
            }
        }
    }
}

impl fmt::Debug for JweKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JweKey")
            .field("management", &self.management())
            .field("kid", &self.0.kid)
            .finish_non_exhaustive()
    }
}

/// The key of a token's content.
#[derive(Clone)]
pub(super) struct Cek(SecretKey<CEK_LEN>);

impl Cek {
    pub(super) const fn new(bytes: [u8; CEK_LEN]) -> Self {
        Self(SecretKey::new(bytes))
    }

    fn cipher(&self) -> Option<LessSafeKey> {
        UnboundKey::new(&AES_256_GCM, self.0.expose()).map(LessSafeKey::new).ok()
    }

    /// Encrypts in place. The nonce must never come twice with one key.
    pub(super) fn seal(&self, iv: [u8; IV_LEN], aad: &[u8], content: &mut [u8]) -> Option<[u8; TAG_LEN]> {
        let tag = self.cipher()?.seal_in_place_separate_tag(Nonce::assume_unique_for_key(iv), Aad::from(aad), content);
        tag.ok()?.as_ref().try_into().ok()
    }

    /// Decrypts in place, and says whether it was what was encrypted.
    pub(super) fn open(&self, iv: [u8; IV_LEN], aad: &[u8], tag: &[u8; TAG_LEN], content: &mut [u8]) -> bool {
        let nonce = Nonce::assume_unique_for_key(iv);
        let Some(cipher) = self.cipher() else { return false };
        cipher.open_in_place_separate_tag(nonce, Aad::from(aad), tag, content).is_ok()
    }
}

/// RFC 3394 §2.2.1.
pub(super) fn wrap(kek: &SecretKey<CEK_LEN>, cek: &Cek) -> Option<[u8; WRAPPED_LEN]> {
    let mut wrapped = [0; WRAPPED_LEN];
    AesKek::new(&AES_256, kek.expose()).ok()?.wrap(cek.0.expose(), &mut wrapped).ok()?;
    Some(wrapped)
}

/// RFC 3394 §2.2.2.
fn unwrap(kek: &SecretKey<CEK_LEN>, wrapped: &[u8]) -> Option<Cek> {
    let mut cek = zeroize::Zeroizing::new([0; CEK_LEN]);
    AesKek::new(&AES_256, kek.expose()).ok()?.unwrap(wrapped, &mut *cek).ok()?;
    Some(Cek::new(*cek))
}

/// The content's key from a private key and a point (RFC 7518 §4.6.2). aws-lc refuses a point off the curve.
fn agreed(private: &PrivateKey, public: &[u8; POINT_LEN]) -> Option<Cek> {
    agree(private, UnparsedPublicKey::new(&ECDH_P256, public), (), |z| {
        Ok(Cek::new(concat_kdf(z, (ENC, 256), [b"", b""])))
    })
    .ok()
}

/// The one round of the Concat KDF with SHA-256 (NIST SP 800-56A §5.8.1) that a key of at most 256 bits takes: for an algorithm
/// with keys of so many bits, and what both parties are called.
pub(super) fn concat_kdf(z: &[u8], (alg, bits): (&str, u32), parties: [&[u8]; 2]) -> [u8; CEK_LEN] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(&1_u32.to_be_bytes());
    context.update(z);
    for part in [alg.as_bytes(), parties[0], parties[1]] {
        // A few bytes each.
        context.update(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        context.update(part);
    }
    context.update(&bits.to_be_bytes());
    let mut key = [0; CEK_LEN];
    key.copy_from_slice(context.finish().as_ref());
    key
}

pub(super) fn point(x: &[u8; 32], y: &[u8; 32]) -> [u8; POINT_LEN] {
    let mut point = [4; POINT_LEN];
    point[1..33].copy_from_slice(x);
    point[33..].copy_from_slice(y);
    point
}

/// The members that make a public key (RFC 7518 §6.2.1).
pub(super) fn public_jwk(point: &[u8]) -> Value {
    let coordinate = |range| point.get(range).map(base64url::encode).unwrap_or_default();
    json!({ "kty": "EC", "crv": "P-256", "x": coordinate(1..33), "y": coordinate(33..POINT_LEN) })
}

/// RFC 7638: the members in the order of their names.
fn thumbprint(public: &[u8; POINT_LEN]) -> String {
    let (x, y) = (base64url::encode(&public[1..33]), base64url::encode(&public[33..]));
    let json = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
    base64url::encode(digest::digest(&digest::SHA256, json.as_bytes()).as_ref())
}

fn shared(jwk: &Map<String, Value>) -> Result<[u8; CEK_LEN], JweKeyError> {
    let bytes: [u8; CEK_LEN] = base64url::decode_exactly(text(jwk, "k")?).map_err(|_| JweKeyError::Length)?;
    if bytes.iter().all(|byte| *byte == bytes[0]) { Err(JweKeyError::Placeholder) } else { Ok(bytes) }
}

fn curve(jwk: &Map<String, Value>) -> Result<Secret, JweKeyError> {
    let member = |name| base64url::decode_exactly::<32>(text(jwk, name)?).map_err(|_| JweKeyError::Member(name));
    let public = point(&member("x")?, &member("y")?);
    // Agreed upon with a key of our own, so that a point off the curve is noticed here and not when a token is issued.
    let other = PrivateKey::generate(&ECDH_P256).map_err(|_| JweKeyError::Point)?;
    agreed(&other, &public).ok_or(JweKeyError::Point)?;
    let private = if jwk.contains_key("d") {
        let d = zeroize::Zeroizing::new(member("d")?);
        Some(PrivateKey::from_private_key(&ECDH_P256, &*d).map_err(|_| JweKeyError::Pair)?)
    } else {
        None
    };
    if let Some(private) = &private
        && !private.compute_public_key().is_ok_and(|computed| computed.as_ref() == public)
    {
        return Err(JweKeyError::Pair);
    }
    Ok(Secret::EcdhEs { public, private })
}

fn may_encrypt(jwk: &Map<String, Value>) -> Result<bool, JweKeyError> {
    match jwk.get("key_ops") {
        None => Ok(true),
        Some(Value::Array(named)) => Ok(named.iter().any(|one| OPERATIONS.iter().any(|known| one == known))),
        Some(_) => Err(JweKeyError::Member("key_ops")),
    }
}

fn optional_text<'a>(jwk: &'a Map<String, Value>, name: &'static str) -> Result<Option<&'a str>, JweKeyError> {
    match jwk.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(JweKeyError::Member(name)),
    }
}

fn text<'a>(jwk: &'a Map<String, Value>, name: &'static str) -> Result<&'a str, JweKeyError> {
    optional_text(jwk, name)?.ok_or(JweKeyError::Member(name))
}

#[cfg(test)]
mod tests;
