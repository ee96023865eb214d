//! Phone numbers in the form of E.164.

use std::fmt;

/// Why a text is no phone number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not a phone number: write it in the international form, + and 8 to 15 digits such as +4930123456")]
pub struct PhoneNumberError;

/// A phone number: `+`, a digit that is not 0, then 7 to 14 more. Personal data.
#[derive(Clone, PartialEq, Eq)]
pub struct PhoneNumber(String);

impl PhoneNumber {
    /// Parses a number; spaces, dashes, dots and parentheses in it are dropped.
    pub fn parse(text: &str) -> Result<Self, PhoneNumberError> {
        if text.len() > 64 {
            return Err(PhoneNumberError);
        }
        let bare: String = text.chars().filter(|c| !matches!(c, ' ' | '-' | '.' | '(' | ')')).collect();
        let digits = bare.strip_prefix('+').ok_or(PhoneNumberError)?;
        let valid =
            (8..=15).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0');
        if valid { Ok(Self(bare)) } else { Err(PhoneNumberError) }
    }

    /// A number that was parsed before it was stored.
    pub const fn stored(text: String) -> Self {
        Self(text)
    }

    /// The number, `+` and digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PhoneNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PhoneNumber([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_one_spelling() {
        assert_eq!(PhoneNumber::parse("+49 (30) 12-34.56").unwrap().as_str(), "+4930123456");
        for bad in ["", "030123456", "+0301234567", "+1234567", "+1234567890123456", "+49x30123456", "+49\n30123456"] {
            assert_eq!(PhoneNumber::parse(bad), Err(PhoneNumberError), "{bad:?}");
        }
    }
}
