//! The refresh token: what it says, and how it is proved.
//!
//! `vrt_` and the base64url of `version ‖ key id ‖ session ‖ generation ‖ HMAC-SHA256`, 86 characters, with one spelling.
//! The token of a generation is a pure function of (key, session, generation): nothing secret is stored per token, and a
//! lost answer can be given again bit for bit.
//!
//! A parsed token tells its key id and nothing else; session and generation come out of [`ParsedRefreshToken::verify`].

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use uuid::Uuid;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::domain::{
    id::SessionId,
    secret::{SecretKey, SecretString},
};

/// Tells a refresh token from every other kind, for people and for secret scanners.
const PREFIX: &str = "vrt_";
const VERSION: u8 = 1;
/// Keeps this HMAC apart from any other that might ever be made with the same key.
const LABEL: &[u8] = b"vouchsafe refresh token\0";

/// Version, key id, session, generation.
const CLAIMS_LEN: usize = 1 + 4 + 16 + 8;
const MAC_LEN: usize = 32;
const TOKEN_LEN: usize = CLAIMS_LEN + MAC_LEN;
const TEXT_LEN: usize = PREFIX.len() + (TOKEN_LEN * 8).div_ceil(6);

/// A key number that does not fit a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the refresh-token key id {0} is outside 0..=4294967295")]
pub struct KeyIdOutOfRange(pub i64);

/// A key that refresh tokens are made and proved with.
#[derive(Clone)]
pub struct RefreshTokenKey {
    id: u32,
    key: hmac::Key,
}

impl RefreshTokenKey {
    /// The key with the number `id`, which must fit 32 bits unsigned.
    pub fn new(id: i64, key: &SecretKey<32>) -> Result<Self, KeyIdOutOfRange> {
        let id = u32::try_from(id).map_err(|_| KeyIdOutOfRange(id))?;
        Ok(Self { id, key: hmac::Key::new(hmac::HMAC_SHA256, key.expose()) })
    }

    /// The key's number.
    pub fn id(&self) -> i64 {
        self.id.into()
    }
}

impl std::fmt::Debug for RefreshTokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RefreshTokenKey({}, [redacted])", self.id)
    }
}

/// The token of one generation of a session: the same each time. `generation` must not be negative, or nobody will accept
/// the token.
pub fn mint(key: &RefreshTokenKey, session: SessionId, generation: i64) -> SecretString {
    debug_assert!(generation >= 0, "generations count from 0");
    let mut token = Vec::with_capacity(TOKEN_LEN);
    token.push(VERSION);
    token.extend_from_slice(&key.id.to_be_bytes());
    token.extend_from_slice(session.as_uuid().as_bytes());
    token.extend_from_slice(&generation.to_be_bytes());
    let mac = labelled(&key.key, &token).sign();
    token.extend_from_slice(mac.as_ref());

    let mut text = String::with_capacity(TEXT_LEN);
    text.push_str(PREFIX);
    URL_SAFE_NO_PAD.encode_string(&token, &mut text);
    token.zeroize();
    SecretString::new(text)
}

fn labelled(key: &hmac::Key, claims: &[u8]) -> hmac::Context {
    let mut context = hmac::Context::with_key(key);
    context.update(LABEL);
    context.update(claims);
    context
}

/// The text is not a refresh token of a version known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a refresh token")]
pub struct MalformedRefreshToken;

/// Why a well-formed refresh token was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RefreshTokenError {
    /// It names another key than the one it was tried with; whether it is genuine is unknown.
    #[error("the refresh token names the key {named}")]
    WrongKey {
        /// The key to look up.
        named: i64,
    },
    /// The key it names did not make it.
    #[error("the refresh token is forged or damaged")]
    Forged,
}

/// What a genuine refresh token says. Whether its session still lives is another question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefreshClaims {
    /// The session.
    pub session: SessionId,
    /// The generation, in 0..=[`i64::MAX`] − 1, so that a successor exists.
    pub generation: i64,
}

/// A text that has the form of a refresh token. Nothing in it is proved yet.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct ParsedRefreshToken([u8; TOKEN_LEN]);

impl ParsedRefreshToken {
    /// Parses a refresh token. Strict: the exact length, the one canonical base64url, the known version, a generation that
    /// has a successor.
    pub fn parse(text: &str) -> Result<Self, MalformedRefreshToken> {
        // The length first, so that a megabyte costs nothing.
        if text.len() != TEXT_LEN {
            return Err(MalformedRefreshToken);
        }
        let encoded = text.strip_prefix(PREFIX).ok_or(MalformedRefreshToken)?;
        let mut token = Self([0; TOKEN_LEN]);
        let length = URL_SAFE_NO_PAD.decode_slice(encoded, &mut token.0).map_err(|_| MalformedRefreshToken)?;
        if length != TOKEN_LEN || token.0[0] != VERSION || !(0..i64::MAX).contains(&token.claims().generation) {
            return Err(MalformedRefreshToken);
        }
        Ok(token)
    }

    /// The number of the key to verify with. Anybody can write any number here.
    pub fn key_id(&self) -> i64 {
        u32::from_be_bytes(self.field::<1, 4>()).into()
    }

    /// Checks the authenticator, in constant time, and tells what the token says.
    pub fn verify(&self, key: &RefreshTokenKey) -> Result<RefreshClaims, RefreshTokenError> {
        if self.key_id() != key.id() {
            return Err(RefreshTokenError::WrongKey { named: self.key_id() });
        }
        let (claims, mac) = self.0.split_at(CLAIMS_LEN);
        let expected = labelled(&key.key, claims).sign();
        aws_lc_rs::constant_time::verify_slices_are_equal(expected.as_ref(), mac)
            .map_err(|_| RefreshTokenError::Forged)?;
        Ok(self.claims())
    }

    fn claims(&self) -> RefreshClaims {
        RefreshClaims {
            session: SessionId::from_uuid(Uuid::from_bytes(self.field::<5, 16>())),
            generation: i64::from_be_bytes(self.field::<21, 8>()),
        }
    }

    fn field<const START: usize, const LEN: usize>(&self) -> [u8; LEN] {
        std::array::from_fn(|i| self.0[START + i])
    }
}

impl std::fmt::Debug for ParsedRefreshToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ParsedRefreshToken(key {}, [redacted])", self.key_id())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(id: i64) -> RefreshTokenKey {
        RefreshTokenKey::new(id, &SecretKey::new([u8::try_from(id % 256).unwrap(); 32])).unwrap()
    }

    fn session(number: u128) -> SessionId {
        SessionId::from_uuid(Uuid::from_u128(number))
    }

    fn parse(text: &str) -> Result<ParsedRefreshToken, MalformedRefreshToken> {
        ParsedRefreshToken::parse(text)
    }

    #[test]
    fn the_format_is_what_it_was() {
        // Tokens outlive releases: this one must be accepted for ever. Another implementation made it.
        let token = mint(&key(7), session(0x0190_0000_0000_7000_8000_0000_0000_0001), 42);
        assert_eq!(
            token.expose(),
            "vrt_AQAAAAcBkAAAAABwAIAAAAAAAAABAAAAAAAAACoDvvxyOys7bOVFD7W70wmw4tfCeXDl-FtsopCq6tPpyA"
        );
    }

    #[test]
    fn a_token_names_its_key_and_no_other_key_proves_it() {
        let token = parse(mint(&key(7), session(1), 3).expose()).unwrap();
        assert_eq!(token.key_id(), 7);
        assert_eq!(token.verify(&key(7)), Ok(RefreshClaims { session: session(1), generation: 3 }));
        assert_eq!(token.verify(&key(8)), Err(RefreshTokenError::WrongKey { named: 7 }));
        let impostor = RefreshTokenKey::new(7, &SecretKey::new([0; 32])).unwrap();
        assert_eq!(token.verify(&impostor), Err(RefreshTokenError::Forged));
    }

    #[test]
    fn only_the_one_spelling_is_accepted() {
        let text = mint(&key(7), session(1), 3).expose().to_owned();
        assert_eq!(text.len(), TEXT_LEN);
        assert!(parse(&text).is_ok());
        for bad in [
            String::new(),
            PREFIX.to_owned(),
            format!("{text}="),
            format!("{text} "),
            format!(" {text}"),
            format!("{text}A"),
            text[..text.len() - 1].to_owned(),
            text[4..].to_owned(),
            text.replacen("vrt_", "VRT_", 1),
            text.replacen("vrt_", "vat_", 1),
            format!("{}ä", &text[..text.len() - 2]),
            "x".repeat(1_000_000),
        ] {
            assert_eq!(parse(&bad).err(), Some(MalformedRefreshToken), "{bad:.100}");
        }
    }

    #[test]
    fn version_and_generation_are_checked_even_when_the_authenticator_is_right() {
        let text = |version: u8, generation: i64| {
            let mut token = vec![version];
            token.extend_from_slice(&7_u32.to_be_bytes());
            token.extend_from_slice(session(1).as_uuid().as_bytes());
            token.extend_from_slice(&generation.to_be_bytes());
            let mac = labelled(&key(7).key, &token).sign();
            token.extend_from_slice(mac.as_ref());
            format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(token))
        };
        assert!(parse(&text(1, 0)).is_ok());
        assert!(parse(&text(1, i64::MAX - 1)).is_ok());
        for (version, generation) in [(0, 1), (2, 1), (255, 1), (1, -1), (1, i64::MIN), (1, i64::MAX)] {
            assert!(parse(&text(version, generation)).is_err(), "version {version}, generation {generation}");
        }
    }

    #[test]
    fn a_key_number_fits_the_token() {
        assert_eq!(key(i64::from(u32::MAX)).id(), 4_294_967_295);
        for id in [-1, i64::MIN, i64::from(u32::MAX) + 1, i64::MAX] {
            assert_eq!(RefreshTokenKey::new(id, &SecretKey::new([0; 32])).err(), Some(KeyIdOutOfRange(id)));
        }
    }

    #[test]
    fn debug_shows_neither_key_nor_token() {
        let text = mint(&key(7), session(1), 3);
        assert_eq!(format!("{:?}", key(7)), "RefreshTokenKey(7, [redacted])");
        assert_eq!(format!("{:?}", parse(text.expose()).unwrap()), "ParsedRefreshToken(key 7, [redacted])");
    }

    proptest! {
        #[test]
        fn what_was_minted_is_what_is_read(id in 0..=i64::from(u32::MAX), number: u128, generation in 0..i64::MAX) {
            let (key, session) = (key(id), session(number));
            let text = mint(&key, session, generation);
            prop_assert_eq!(&text, &mint(&key, session, generation), "a pure function");
            let token = parse(text.expose()).unwrap();
            prop_assert_eq!(token.key_id(), id);
            prop_assert_eq!(token.verify(&key), Ok(RefreshClaims { session, generation }));
        }

        #[test]
        fn any_changed_character_is_refused(generation in 0..i64::MAX, at in 0..TEXT_LEN, with in 0x20_u8..0x7f) {
            let key = key(7);
            let mut text = mint(&key, session(1), generation).expose().to_owned().into_bytes();
            prop_assume!(text[at] != with);
            text[at] = with;
            let changed = String::from_utf8(text).unwrap();
            prop_assert!(parse(&changed).ok().and_then(|token| token.verify(&key).ok()).is_none());
        }

        #[test]
        fn any_changed_bit_is_refused(generation in 0..i64::MAX, bit in 0..TOKEN_LEN * 8) {
            let key = key(7);
            let mut token = parse(mint(&key, session(1), generation).expose()).unwrap();
            token.0[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(token.verify(&key).is_err(), "even behind the parser's back");
        }

        #[test]
        fn no_text_at_all_makes_it_panic(text in "(vrt_)?[A-Za-z0-9_-]{0,100}|.{0,90}") {
            if let Ok(token) = parse(&text) {
                prop_assert_eq!(token.verify(&key(7)).ok(), None);
            }
        }
    }
}
