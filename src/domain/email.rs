//! E-mail addresses: kept as typed, found by a normalised key.

use std::fmt;

/// Why a text is no e-mail address we accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EmailError {
    /// No single `@` with something on both sides.
    #[error("is not an e-mail address: write it as name@example.com")]
    Malformed,
    /// The part before the `@`.
    #[error(
        "has characters before the @ that are not accepted: use letters a-z, digits and .!#$%&'*+/=?^_`{{|}}~-, with single dots inside"
    )]
    Local,
    /// The part after the `@`.
    #[error("has no valid domain after the @: write it as name@example.com")]
    Domain,
    /// RFC 5321 §4.5.3.1.
    #[error("is too long: at most 64 characters before the @ and 254 in all")]
    TooLong,
}

/// An e-mail address that mail could be sent to.
///
/// The key decides whether two spellings are one account: letters are folded to lower case and the domain is in its
/// ASCII form (UTS 46), nothing else. Dots and `+tags` count, because only the receiving host knows whether they matter.
/// The local part is ASCII, so that no two Unicode spellings can collide.
#[derive(Clone, PartialEq, Eq)]
pub struct Email {
    typed: String,
    key: String,
}

impl Email {
    /// Parses an address. Surrounding white space is dropped.
    pub fn parse(text: &str) -> Result<Self, EmailError> {
        let typed = text.trim();
        // Before any other work, so that a huge input costs nothing. A domain may be longer in UTF-8 than in ASCII.
        if typed.len() > 1024 {
            return Err(EmailError::TooLong);
        }
        let (local, domain) = typed.rsplit_once('@').ok_or(EmailError::Malformed)?;
        if local.is_empty() || domain.is_empty() {
            return Err(EmailError::Malformed);
        }
        if !is_dot_atom(local) {
            return Err(EmailError::Local);
        }
        let domain = idna::domain_to_ascii_strict(domain).map_err(|_| EmailError::Domain)?;
        if !is_host(&domain) {
            return Err(EmailError::Domain);
        }
        let key = format!("{}@{domain}", local.to_ascii_lowercase());
        if local.len() > 64 || key.len() > 254 || typed.chars().count() > 254 {
            return Err(EmailError::TooLong);
        }
        Ok(Self { typed: typed.to_owned(), key })
    }

    /// An address that was parsed before it was stored.
    pub const fn stored(typed: String, key: String) -> Self {
        Self { typed, key }
    }

    /// The address as it was typed.
    pub fn as_typed(&self) -> &str {
        &self.typed
    }

    /// The normalised form that is unique among accounts.
    pub fn key(&self) -> &str {
        &self.key
    }
}

impl fmt::Debug for Email {
    /// Redacted: an address is personal data and has no place in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Email([redacted])")
    }
}

/// RFC 5322 §3.2.3 dot-atom.
fn is_dot_atom(text: &str) -> bool {
    text.split('.').all(|atom| {
        !atom.is_empty() && atom.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+/=?^_`{|}~-".contains(&b))
    })
}

/// A host name of two labels or more that is no IP address.
fn is_host(domain: &str) -> bool {
    let mut labels = domain.split('.');
    let last = domain.rsplit('.').next().unwrap_or_default();
    labels.clone().count() >= 2
        && labels.all(|l| (1..=63).contains(&l.len()))
        && !last.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_address_share_a_key() {
        let typed = Email::parse("  Ada.Lovelace+x@Example.COM ").unwrap();
        assert_eq!(typed.as_typed(), "Ada.Lovelace+x@Example.COM");
        assert_eq!(typed.key(), "ada.lovelace+x@example.com");
        assert_eq!(
            Email::parse("a@BÜCHER.example").unwrap().key(),
            Email::parse("A@xn--bcher-kva.example").unwrap().key()
        );
    }

    #[test]
    fn nonsense_is_refused_with_what_to_do() {
        use EmailError::{Domain, Local, Malformed, TooLong};
        let long = format!("{}@example.com", "a".repeat(65));
        let cases = [
            ("", Malformed),
            ("ada", Malformed),
            ("@example.com", Malformed),
            ("ada@", Malformed),
            ("a b@example.com", Local),
            (".a@example.com", Local),
            ("a..b@example.com", Local),
            ("a@b@example.com", Local),
            ("ädä@example.com", Local),
            ("a\u{0}@example.com", Local),
            ("\"a\"@example.com", Local),
            ("a\r\nBcc: x@example.com", Local),
            ("a@localhost", Domain),
            ("a@127.0.0.1", Domain),
            ("a@-x.com", Domain),
            ("a@x_y.com", Domain),
            ("a@x..com", Domain),
            ("a@[::1]", Domain),
            (long.as_str(), TooLong),
        ];
        for (text, error) in cases {
            assert_eq!(Email::parse(text), Err(error), "{text:?}");
        }
        assert_eq!(Email::parse(&"a".repeat(1 << 20)), Err(TooLong));
    }

    #[test]
    fn debug_does_not_show_the_address() {
        assert!(!format!("{:?}", Email::parse("ada@example.com").unwrap()).contains("ada"));
    }
}
