//! Compact JWE (RFC 7516) around a signed token: `A256GCM`, with `dir`, `A256KW` or `ECDH-ES` on P-256.
//!
//! What is promised:
//! - How a token is opened comes from the key that it names. Its header may only agree.
//! - Every failure is [`Undecryptable`], and costs the same work from where a secret comes into it: with an unknown `kid`, a
//!   wrapped key that does not open or a point that is none, the content is decrypted all the same, with a key that opens
//!   nothing (RFC 7516 §11.5). How much work it is follows from the `alg` that anybody can read, and not from the `kid`.
//! - What is not offered cannot be asked for: no compression, no passwords, no RSA, no other content encryption, no extension.

mod key;
mod keys;

use serde::de::{Error, MapAccess};
use serde_json::{Value, json};
use zeroize::Zeroizing;

pub use key::{JweKey, JweKeyError, KeyManagement};
pub use keys::{DecryptionKeys, DecryptionKeysError};

use self::key::{CEK_LEN, Cek, POINT_LEN, WRAPPED_LEN};
use super::{
    base64url,
    json::{Members, Object, Text, once, parse_object},
    jws::MAX_TOKEN_LEN,
};
use crate::domain::secret::{Entropy, random};

/// The one content encryption (RFC 7518 §5.3).
const ENC: &str = "A256GCM";
/// Bytes of its nonce and of its tag.
const IV_LEN: usize = 12;
const TAG_LEN: usize = 16;
/// Bytes of the longest header looked at: one of ours has some 300.
const MAX_HEADER: usize = 2 * 1024;

/// A token is not encrypted for a key that is held here, or it was tampered with. Which of these is not said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the token cannot be decrypted")]
pub struct Undecryptable;

/// A token could not be encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncryptError {
    /// It would be longer than [`MAX_TOKEN_LEN`], which no verifier accepts.
    #[error("the encrypted token would be longer than {MAX_TOKEN_LEN} bytes")]
    TooLong,
    /// The cryptographic library failed.
    #[error("the cryptographic library failed")]
    Library,
}

/// Whether a text has the five parts of a compact JWE. A signed token has three.
pub fn is_encrypted(token: &str) -> bool {
    token.bytes().filter(|byte| *byte == b'.').count() == 4
}

/// Whether a text could be a token that somebody can open, for all that can be seen without a key: five parts, a content, and a header
/// that names how it is encrypted (RFC 7516 §4.1), be it in a way that is not offered here.
pub fn may_be_opened_elsewhere(token: &str) -> bool {
    if token.len() > MAX_TOKEN_LEN || !is_encrypted(token) {
        return false;
    }
    let parts: Vec<_> = token.split('.').collect();
    let mut header = Vec::new();
    let has_header = parts[0].len() <= MAX_HEADER && base64url::decode_onto(parts[0], &mut header).is_ok();
    let names_a_way = |header: &[u8]| matches!(parse_object(header), Ok(Ways { alg: Some(_), enc: Some(_) }));
    has_header && !parts[3].is_empty() && names_a_way(&header)
}

/// What every JWE's header names.
#[derive(Default)]
struct Ways<'a> {
    alg: Option<Text<'a>>,
    enc: Option<Text<'a>>,
}

impl<'de> Members<'de> for Ways<'de> {
    fn take<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<bool, A::Error> {
        match name {
            "alg" => once(&mut self.alg, map),
            "enc" => once(&mut self.enc, map),
            _ => Ok(false),
        }
    }
}

/// What was encrypted, and the key that opened it.
pub struct Opened {
    token: Zeroizing<String>,
    key: JweKey,
}

impl Opened {
    /// The token inside. Whether it is worth anything is for its signature to say.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// The key that it was encrypted for.
    pub fn key(&self) -> &JweKey {
        &self.key
    }
}

/// Opens a token with the key that it names.
pub fn decrypt(token: &str, keys: &DecryptionKeys) -> Result<Opened, Undecryptable> {
    let parts = Parts::parse(token)?;
    let (key, mut opens) = keys.to_work_with(&parts.header.kid, parts.header.alg).ok_or(Undecryptable)?;
    let cek = key.unwrap_cek(&parts.encrypted_key, parts.header.epk.as_ref());
    opens &= cek.is_some();
    // One that opens nothing, whatever it decrypts.
    let cek = cek.unwrap_or_else(|| Cek::new([0; CEK_LEN]));
    let mut content = Zeroizing::new(parts.content);
    let opened = cek.open(parts.iv, parts.aad.as_bytes(), &parts.tag, &mut content);
    if !(opened && opens) {
        return Err(Undecryptable);
    }
    let token = std::str::from_utf8(&content).map_err(|_| Undecryptable)?;
    Ok(Opened { token: Zeroizing::new(token.to_owned()), key: key.clone() })
}

/// Encrypts a signed token (RFC 7519 §5.2: `cty` says that it is one).
pub fn encrypt(token: &str, key: &JweKey, entropy: &dyn Entropy) -> Result<String, EncryptError> {
    let sealed = key.new_cek(entropy)?;
    let header = header_for(key, sealed.epk);
    let content = Content { header: &header, encrypted_key: &sealed.encrypted_key, iv: random(entropy) };
    let text = content.encrypt(&sealed.cek, token)?;
    if text.len() > MAX_TOKEN_LEN { Err(EncryptError::TooLong) } else { Ok(text) }
}

/// How long a signed token of this length is once it is encrypted, whether or not that is too long.
pub fn encrypted_len(signed: usize, key: &JweKey) -> usize {
    let epk = (key.management() == KeyManagement::EcdhEs).then(|| key::public_jwk(&[0; POINT_LEN]));
    let parts = [header_for(key, epk).len(), key.management().encrypted_key_len(), IV_LEN, signed, TAG_LEN];
    parts.map(base64url::encoded_len).iter().sum::<usize>() + 4
}

fn header_for(key: &JweKey, epk: Option<Value>) -> String {
    let mut header = json!({ "alg": key.management().as_str(), "enc": ENC, "cty": "JWT", "kid": key.kid() });
    if let Some(epk) = epk {
        header["epk"] = epk;
    }
    header.to_string()
}

/// What decides a compact JWE beside the key and the plaintext.
struct Content<'a> {
    header: &'a str,
    encrypted_key: &'a [u8],
    iv: [u8; IV_LEN],
}

impl Content<'_> {
    fn encrypt(&self, cek: &Cek, plaintext: &str) -> Result<String, EncryptError> {
        let mut text = base64url::encode(self.header.as_bytes());
        let mut content = plaintext.as_bytes().to_vec();
        let tag = cek.seal(self.iv, text.as_bytes(), &mut content).ok_or(EncryptError::Library)?;
        for part in [self.encrypted_key, &self.iv, &content, &tag] {
            text.push('.');
            base64url::encode_onto(part, &mut text);
        }
        Ok(text)
    }
}

/// A compact JWE taken apart. Whatever is said of it so far, anybody can see.
struct Parts<'a> {
    /// The header as it is spelt, which is what the tag covers (RFC 7516 §5.1 step 14).
    aad: &'a str,
    header: Header,
    encrypted_key: Vec<u8>,
    iv: [u8; IV_LEN],
    content: Vec<u8>,
    tag: [u8; TAG_LEN],
}

impl<'a> Parts<'a> {
    fn parse(token: &'a str) -> Result<Self, Undecryptable> {
        if token.len() > MAX_TOKEN_LEN || !is_encrypted(token) {
            return Err(Undecryptable);
        }
        let mut parts = token.split('.');
        let parts: [Option<&str>; 5] = std::array::from_fn(|_| parts.next());
        let [Some(aad), Some(wrapped), Some(iv), Some(content), Some(tag)] = parts else { return Err(Undecryptable) };
        if aad.len() > MAX_HEADER || wrapped.len() > WRAPPED_LEN.div_ceil(3) * 4 || content.is_empty() {
            return Err(Undecryptable);
        }
        let decode = |text: &str| {
            let mut bytes = Vec::with_capacity(text.len());
            base64url::decode_onto(text, &mut bytes).map(|()| bytes).map_err(|_| Undecryptable)
        };
        let header = Header::parse(&decode(aad)?)?;
        let encrypted_key = decode(wrapped)?;
        if encrypted_key.len() != header.alg.encrypted_key_len() {
            return Err(Undecryptable);
        }
        Ok(Self {
            aad,
            header,
            encrypted_key,
            iv: base64url::decode_exactly(iv).map_err(|_| Undecryptable)?,
            content: decode(content)?,
            tag: base64url::decode_exactly(tag).map_err(|_| Undecryptable)?,
        })
    }
}

/// What is read of a header.
struct Header {
    alg: KeyManagement,
    kid: String,
    /// An uncompressed point (SEC 1 §2.3.3), of `ECDH-ES` alone.
    epk: Option<[u8; POINT_LEN]>,
}

impl Header {
    fn parse(json: &[u8]) -> Result<Self, Undecryptable> {
        let RawHeader { alg: Some(alg), enc: Some(enc), kid: Some(kid), cty: Some(cty), epk } =
            parse_object(json).map_err(|_| Undecryptable)?
        else {
            return Err(Undecryptable);
        };
        let alg = KeyManagement::parse(&alg.0).ok_or(Undecryptable)?;
        let epk = epk.map(|Object(epk)| epk.point().ok_or(Undecryptable)).transpose()?;
        // RFC 7519 §5.2: its case may differ.
        if enc.0 != ENC || !cty.0.eq_ignore_ascii_case("JWT") || epk.is_some() != (alg == KeyManagement::EcdhEs) {
            return Err(Undecryptable);
        }
        Ok(Self { alg, kid: kid.0.into_owned(), epk })
    }
}

#[derive(Default)]
struct RawHeader<'a> {
    alg: Option<Text<'a>>,
    enc: Option<Text<'a>>,
    kid: Option<Text<'a>>,
    cty: Option<Text<'a>>,
    epk: Option<Object<Epk<'a>>>,
}

impl<'de> Members<'de> for RawHeader<'de> {
    fn take<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<bool, A::Error> {
        match name {
            "alg" => once(&mut self.alg, map),
            "enc" => once(&mut self.enc, map),
            "kid" => once(&mut self.kid, map),
            "cty" => once(&mut self.cty, map),
            "epk" => once(&mut self.epk, map),
            // They would change what is decrypted, or by which key: nobody here understands them.
            "zip" | "crit" | "b64" | "apu" | "apv" => Err(A::Error::custom("what nobody here understands")),
            _ => Ok(false),
        }
    }
}

/// An ephemeral public key (RFC 7518 §4.6.1.1).
#[derive(Default)]
struct Epk<'a> {
    kty: Option<Text<'a>>,
    crv: Option<Text<'a>>,
    x: Option<Text<'a>>,
    y: Option<Text<'a>>,
}

impl<'de> Members<'de> for Epk<'de> {
    fn take<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<bool, A::Error> {
        match name {
            "kty" => once(&mut self.kty, map),
            "crv" => once(&mut self.crv, map),
            "x" => once(&mut self.x, map),
            "y" => once(&mut self.y, map),
            "d" => Err(A::Error::custom("a private key in a token")),
            _ => Ok(false),
        }
    }
}

impl Epk<'_> {
    fn point(&self) -> Option<[u8; POINT_LEN]> {
        let is = |member: &Option<Text<'_>>, wanted| member.as_ref().is_some_and(|text| text.0 == wanted);
        let coordinate = |member: &Option<Text<'_>>| base64url::decode_exactly(&member.as_ref()?.0).ok();
        let (x, y) = (coordinate(&self.x)?, coordinate(&self.y)?);
        (is(&self.kty, "EC") && is(&self.crv, "P-256")).then(|| key::point(&x, &y))
    }
}

#[cfg(test)]
mod tests;
