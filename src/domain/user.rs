//! User accounts.

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization;

use super::{
    custom_claims::CustomClaims, email::Email, id::UserId, json_text, locale::Locale, phone::PhoneNumber,
    time::Timestamp,
};

/// The name of the built-in role that may do everything.
pub const ADMIN_ROLE: &str = "admin";

/// Why a text is no user name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not a user name: use 1 to 64 of a-z, 0-9, '.', '_' and '-', beginning and ending with a letter or digit")]
pub struct UsernameError;

/// A name to sign in with: ASCII, lower case, no `@`, so that it can never be taken for an e-mail address. Public.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Username(String);

impl Username {
    /// Parses a user name; upper case is folded, surrounding white space dropped.
    pub fn parse(text: &str) -> Result<Self, UsernameError> {
        let name = text.trim();
        let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        let valid = (1..=64).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
            && edge(name.chars().next())
            && edge(name.chars().next_back());
        if valid { Ok(Self(name.to_ascii_lowercase())) } else { Err(UsernameError) }
    }

    /// A name that was parsed before it was stored.
    pub const fn stored(name: String) -> Self {
        Self(name)
    }

    /// The folded name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a text is no name to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not a name that can be shown: use at most 128 characters, without control characters")]
pub struct LabelError;

/// A short text for people: a display name or a device name. NFC, trimmed, may be empty.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Label(String);

impl Label {
    /// Parses a label.
    pub fn parse(text: &str) -> Result<Self, LabelError> {
        // Bytes first: normalising a megabyte to find that it is too long would be work for nothing.
        if text.len() > 1024 {
            return Err(LabelError);
        }
        let label: String = text.trim().nfc().collect();
        if label.chars().count() > 128 || label.chars().any(is_unfit) {
            return Err(LabelError);
        }
        Ok(Self(label))
    }

    /// A label out of metadata that a caller does not control word for word: cut and cleaned instead of refused.
    pub fn lossy(text: &str) -> Self {
        let clean: String = text.chars().filter(|c| !is_unfit(*c)).take(512).collect();
        Self(clean.trim().nfc().take(128).collect())
    }

    /// A label that was parsed before it was stored.
    pub const fn stored(text: String) -> Self {
        Self(text)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Characters that control a display instead of being shown: among them those that reverse the direction of what follows.
fn is_unfit(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}' | '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Label([redacted])")
    }
}

/// What administrators keep of a user beside the rest: a JSON object. Personal data.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Attributes(#[serde(with = "json_text")] serde_json::Map<String, serde_json::Value>);

/// Why an object cannot be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttributesError {
    /// More than [`Attributes::MAX_BYTES`].
    #[error("is too large: keep it within {} bytes as JSON", Attributes::MAX_BYTES)]
    TooLarge,
    /// Not every database can hold it.
    #[error("has a text with the character U+0000, which cannot be stored: leave it out")]
    Nul,
    /// JSON does not know it, or nobody needs it.
    #[error("cannot be kept: use finite numbers, and objects within each other at most 16 deep")]
    Unfit,
}

impl Attributes {
    /// How long the object may be as JSON, in bytes.
    pub const MAX_BYTES: usize = 4096;

    /// Takes an object that is not too large.
    pub fn new(map: serde_json::Map<String, serde_json::Value>) -> Result<Self, AttributesError> {
        // Writing to a string cannot fail, and a map of JSON values is one that can be written.
        let bytes = serde_json::to_vec(&map).map_or(usize::MAX, |json| json.len());
        if bytes > Self::MAX_BYTES {
            return Err(AttributesError::TooLarge);
        }
        if has_nul(&map) { Err(AttributesError::Nul) } else { Ok(Self(map)) }
    }

    /// The object.
    pub fn into_map(self) -> serde_json::Map<String, serde_json::Value> {
        self.0
    }

    /// What is kept under this name.
    pub fn get(&self, name: &str) -> Option<&serde_json::Value> {
        self.0.get(name)
    }

    /// Of what is kept, what has one of these names.
    #[must_use]
    pub fn only(&self, names: &BTreeSet<String>) -> Self {
        Self(self.0.iter().filter(|(name, _)| names.contains(*name)).map(|(n, v)| (n.clone(), v.clone())).collect())
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Whether a key or a text of the object has the character U+0000.
fn has_nul(map: &serde_json::Map<String, serde_json::Value>) -> bool {
    fn within(value: &serde_json::Value) -> bool {
        match value {
            serde_json::Value::String(text) => text.contains('\0'),
            serde_json::Value::Array(values) => values.iter().any(within),
            serde_json::Value::Object(map) => has_nul(map),
            serde_json::Value::Null | serde_json::Value::Bool(_) | serde_json::Value::Number(_) => false,
        }
    }
    map.iter().any(|(name, value)| name.contains('\0') || within(value))
}

impl Eq for Attributes {}

impl fmt::Debug for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Attributes([redacted])")
    }
}

/// What somebody signs in with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identifier {
    /// It has an `@`.
    Email(Email),
    /// It has none.
    Username(Username),
}

impl Identifier {
    /// Tells an e-mail address from a user name. `None` for a text that can be neither: no account has it.
    pub fn parse(text: &str) -> Option<Self> {
        if text.contains('@') {
            Email::parse(text).ok().map(Self::Email)
        } else {
            Username::parse(text).ok().map(Self::Username)
        }
    }
}

/// Whether an account may sign in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserState {
    /// It may.
    Active,
    /// It may not, and its sessions are ended.
    Suspended,
}

impl UserState {
    /// The word in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
        }
    }

    /// From the word in the database.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "active" => Some(Self::Active),
            "suspended" => Some(Self::Suspended),
            _ => None,
        }
    }
}

/// A user account as others may see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The id, the `sub` claim.
    pub id: UserId,
    /// The e-mail address.
    pub email: Email,
    /// When the owner proved control of the address.
    pub email_verified_time: Option<Timestamp>,
    /// The user name, if one was chosen.
    pub username: Option<Username>,
    /// A name to show.
    pub display_name: Label,
    /// The phone number that codes may be sent to.
    pub phone_number: Option<PhoneNumber>,
    /// The language of messages; none for the server's own.
    pub locale: Option<Locale>,
    /// Whether there is a password.
    pub has_password: bool,
    /// Whether signing in takes a code of an authenticator app besides.
    pub totp_enrolled: bool,
    /// Whether the account may sign in.
    pub state: UserState,
    /// Cuts off every session and token that carries a smaller number.
    pub epoch: i64,
    /// Role names, sorted.
    pub roles: Vec<String>,
    /// What administrators keep of the user.
    pub attributes: Attributes,
    /// What the user's tokens say beside the rest.
    pub custom_claims: CustomClaims,
    /// Goes up with each change that an administrator or the owner makes.
    pub revision: i64,
    /// When it was created.
    pub create_time: Timestamp,
    /// When it was last changed.
    pub update_time: Timestamp,
}

/// What a sign-in is checked against.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// Whose.
    pub user: UserId,
    /// Whether the account may sign in.
    pub state: UserState,
    /// The epoch that goes with the hash: a session begun with it dies when the password changes.
    pub epoch: i64,
    /// The password hash; an account may have none.
    pub password_hash: Option<PhcString>,
    /// Whether the owner of the address has proved to be the account's.
    pub email_verified: bool,
    /// Whether there is an authenticator app.
    pub totp_enrolled: bool,
}

/// A password hash as a text: ours in the PHC string format, imported ones as they came. Not a password, but not for
/// anybody's eyes either.
#[derive(Clone, PartialEq, Eq)]
pub struct PhcString(String);

impl PhcString {
    /// Takes a string; whether it is well-formed shows when it is used.
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// The string.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PhcString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PhcString([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_name_is_folded_and_never_looks_like_an_address() {
        assert_eq!(Username::parse(" Ada.L-1 ").unwrap().as_str(), "ada.l-1");
        for bad in ["", "a@b", "-a", "a.", "a b", "ä", "a/b"] {
            assert_eq!(Username::parse(bad), Err(UsernameError), "{bad:?}");
        }
        assert!(Username::parse(&"a".repeat(65)).is_err());
    }

    #[test]
    fn an_identifier_is_an_address_or_a_name_or_nobody() {
        assert!(matches!(Identifier::parse("Ada@example.com"), Some(Identifier::Email(_))));
        assert!(matches!(Identifier::parse("ADA"), Some(Identifier::Username(_))));
        assert_eq!(Identifier::parse("not a name"), None);
    }

    #[test]
    fn labels_are_bounded_and_clean() {
        assert_eq!(Label::parse("  Ada's laptop ").unwrap().as_str(), "Ada's laptop");
        assert!(Label::parse("a\nb").is_err());
        assert!(Label::parse("a\u{202e}b").is_err());
        assert!(Label::parse(&"x".repeat(129)).is_err());
        assert_eq!(Label::lossy(&format!("a\u{1b}[31m{}", "x".repeat(900))).as_str().chars().count(), 128);
    }
}
