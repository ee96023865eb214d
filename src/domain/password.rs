//! Passwords as people choose them (NIST SP 800-63B-4 §3.1.1).

use std::fmt;

use unicode_normalization::{UnicodeNormalization, is_nfc};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// The fewest characters of a password that is the only authenticator.
pub const MIN_CHARS: usize = 15;

/// The most bytes of a password as sent. It bounds the work before hashing; passphrases of hundreds of words fit.
pub const MAX_BYTES: usize = 1024;

/// Why a text cannot be a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// Fewer than [`MIN_CHARS`] characters.
    #[error("is too short: use at least {MIN_CHARS} characters, for instance four unrelated words")]
    TooShort,
    /// More than [`MAX_BYTES`] bytes.
    #[error("is too long: use at most {MAX_BYTES} bytes")]
    TooLong,
    /// Nothing was sent.
    #[error("is empty")]
    Empty,
}

/// A password ready to be hashed or compared: Unicode in NFC, so that two keyboards that write the same characters
/// differently mean the same password.
#[derive(Clone, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Password {
    text: String,
    /// What was sent, if it was not in NFC.
    typed: Option<String>,
}

impl Password {
    /// A password somebody signs in with. It may be older than today's rules, so only its size is checked.
    pub fn presented(text: &str) -> Result<Self, PasswordError> {
        if text.is_empty() {
            return Err(PasswordError::Empty);
        }
        if text.len() > MAX_BYTES {
            return Err(PasswordError::TooLong);
        }
        let typed = (!is_nfc(text)).then(|| text.to_owned());
        Ok(Self { text: text.nfc().collect(), typed })
    }

    /// A password somebody chooses: [`MIN_CHARS`] code points or more after normalisation.
    pub fn chosen(text: &str) -> Result<Self, PasswordError> {
        let password = Self::presented(text)?;
        if password.text.chars().count() < MIN_CHARS {
            return Err(PasswordError::TooShort);
        }
        Ok(password)
    }

    /// The bytes to hash.
    pub fn expose(&self) -> &[u8] {
        self.text.as_bytes()
    }

    /// The text to be judged, in NFC.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The password byte for byte as it was sent, if that differs: what a system hashed that does not normalise.
    pub fn as_typed(&self) -> Option<Self> {
        self.typed.clone().map(|text| Self { text, typed: None })
    }
}

impl PartialEq for Password {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_counts_code_points_not_bytes() {
        assert_eq!(Password::chosen(&"ä".repeat(14)), Err(PasswordError::TooShort));
        assert!(Password::chosen(&"ä".repeat(15)).is_ok());
        assert!(Password::chosen(&"🦀".repeat(64)).is_ok());
    }

    #[test]
    fn two_spellings_of_one_text_are_one_password() {
        let composed = Password::chosen("caf\u{e9} caf\u{e9} caf\u{e9}!").unwrap();
        let decomposed = Password::chosen("cafe\u{301} cafe\u{301} cafe\u{301}!").unwrap();
        assert_eq!(composed.expose(), decomposed.expose());
        assert_eq!(composed, decomposed);
        assert_eq!(composed.as_typed(), None);
        assert_eq!(decomposed.as_typed().unwrap().expose(), "cafe\u{301} cafe\u{301} cafe\u{301}!".as_bytes());
        assert_eq!(
            Password::chosen(&"e\u{301}".repeat(14)),
            Err(PasswordError::TooShort),
            "combining marks are no way around the length"
        );
    }

    #[test]
    fn input_is_capped_before_any_work() {
        assert_eq!(Password::presented(&"x".repeat(2048)), Err(PasswordError::TooLong));
        assert!(Password::presented(&"x".repeat(MAX_BYTES)).is_ok());
        assert_eq!(Password::presented(""), Err(PasswordError::Empty));
        assert!(Password::presented("short").is_ok(), "an old password may still be presented");
    }
}
