//! Where the mail server is: a URL that is shown without its password.

use std::fmt;

use crate::{domain::secret::SecretString, verifier::keys::fetch::is_this_machine};

/// Why a text is no URL of a mail server. Holds no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SmtpUrlError {
    /// It is none.
    #[error(
        "smtp://user:password@host:587 (with STARTTLS), smtps://user:password@host:465 (with TLS) or smtp://localhost:25?tls=none, \
         with /, ?, #, @, : and % in the user's name and the password percent-encoded"
    )]
    Form,
    /// Everybody on the way could read the codes in the messages.
    #[error(
        "a URL without ?tls=none, which is for localhost and loopback addresses only (remove it for STARTTLS, or write smtps://; \
         for a server without TLS set up a relay on this machine)"
    )]
    Plain,
}

/// How the connection is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SmtpTls {
    /// By STARTTLS, and not used without.
    StartTls,
    /// From the beginning.
    Implicit,
    /// Not at all: only to this machine.
    None,
}

/// The URL of a mail server. Shown by `Display` and `Debug` without its password.
#[derive(Clone, PartialEq, Eq)]
pub struct SmtpUrl {
    /// A name or an IP address, that without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) tls: SmtpTls,
    pub(super) login: Option<(String, SecretString)>,
    shown: String,
}

impl SmtpUrl {
    /// Recognises a URL.
    ///
    /// # Errors
    /// [`SmtpUrlError`].
    pub fn parse(text: &str) -> Result<Self, SmtpUrlError> {
        if !text.bytes().all(|b| b.is_ascii_graphic()) || text.contains('#') {
            return Err(SmtpUrlError::Form);
        }
        let (scheme, rest) = text.split_once("://").ok_or(SmtpUrlError::Form)?;
        let (place, query) = rest.split_once('?').map_or((rest, None), |(place, query)| (place, Some(query)));
        let tls = match (scheme, query) {
            ("smtp", None) => SmtpTls::StartTls,
            ("smtp", Some("tls=none")) => SmtpTls::None,
            ("smtps", None) => SmtpTls::Implicit,
            _ => return Err(SmtpUrlError::Form),
        };
        let place = place.strip_suffix('/').unwrap_or(place);
        let (login, address) = place.rsplit_once('@').map_or((None, place), |(login, host)| (Some(login), host));
        let login = login.map(login_of).transpose()?;
        let authority: http::uri::Authority = address.parse().map_err(|_| SmtpUrlError::Form)?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let port = match authority.port_u16() {
            Some(0) => return Err(SmtpUrlError::Form),
            Some(port) => port,
            // A port that is no number is none to `http` either.
            None if authority.as_str().len() != authority.host().len() => return Err(SmtpUrlError::Form),
            None if tls == SmtpTls::Implicit => 465,
            None => 587,
        };
        if host.is_empty() {
            return Err(SmtpUrlError::Form);
        }
        if tls == SmtpTls::None && !is_this_machine(host) {
            return Err(SmtpUrlError::Plain);
        }
        let shown_login = login.as_ref().map_or_else(String::new, |(user, _)| {
            // What would have to be percent-encoded is rather left out than shown ambiguously.
            let plain = user.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
            format!("{}:[redacted]@", if plain { user } else { "[user]" })
        });
        let query = query.map_or_else(String::new, |query| format!("?{query}"));
        let shown = format!("{scheme}://{shown_login}{address}{query}");
        Ok(Self { host: host.to_owned(), port, tls, login, shown })
    }

    /// Whether the connections are encrypted.
    pub fn is_tls(&self) -> bool {
        self.tls != SmtpTls::None
    }
}

fn login_of(text: &str) -> Result<(String, SecretString), SmtpUrlError> {
    let (user, password) = text.split_once(':').ok_or(SmtpUrlError::Form)?;
    if password.contains([':', '@', '/']) || user.contains('/') {
        return Err(SmtpUrlError::Form);
    }
    let (user, password) = (decoded(user)?, decoded(password)?);
    if user.is_empty() || password.is_empty() {
        Err(SmtpUrlError::Form)
    } else {
        Ok((user, SecretString::new(password)))
    }
}

/// Takes percent-encoding away (RFC 3986 section 2.1).
fn decoded(text: &str) -> Result<String, SmtpUrlError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let byte = if byte == b'%' {
            let mut digit = || rest.next().and_then(|b| char::from(b).to_digit(16)).ok_or(SmtpUrlError::Form);
            let value = digit()? * 16 + digit()?;
            u8::try_from(value).map_err(|_| SmtpUrlError::Form)?
        } else {
            byte
        };
        bytes.push(byte);
    }
    String::from_utf8(bytes).map_err(|_| SmtpUrlError::Form)
}

impl fmt::Display for SmtpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for SmtpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_how_it_is_encrypted_and_hides_its_password() {
        let url = SmtpUrl::parse("smtp://mailer:S3%40cret%25@mail.example.com").unwrap();
        assert_eq!((url.host.as_str(), url.port, url.tls), ("mail.example.com", 587, SmtpTls::StartTls));
        let (user, password) = url.login.as_ref().unwrap();
        assert_eq!((user.as_str(), password.expose()), ("mailer", "S3@cret%"));
        assert_eq!(url.to_string(), "smtp://mailer:[redacted]@mail.example.com");
        assert_eq!(format!("{url:?}"), url.to_string());
        let url = SmtpUrl::parse("smtps://[::1]/").unwrap();
        assert_eq!((url.host.as_str(), url.port, url.tls), ("::1", 465, SmtpTls::Implicit));
        let url = SmtpUrl::parse("smtp://localhost:2525?tls=none").unwrap();
        assert_eq!((url.port, url.tls, url.is_tls()), (2525, SmtpTls::None, false));
    }

    #[test]
    fn only_this_machine_is_spoken_to_without_tls() {
        for here in ["localhost", "127.0.0.1:25", "[::1]:25"] {
            assert!(SmtpUrl::parse(&format!("smtp://{here}?tls=none")).is_ok(), "{here}");
        }
        for elsewhere in ["mail.example.com", "192.0.2.1", "[2001:db8::1]:25", "localhost.example.com", "u:p@mail"] {
            let parsed = SmtpUrl::parse(&format!("smtp://{elsewhere}?tls=none"));
            assert_eq!(parsed, Err(SmtpUrlError::Plain), "{elsewhere}");
        }
        assert!(SmtpUrlError::Plain.to_string().contains("remove it for STARTTLS"));
    }

    #[test]
    fn nothing_else_is_one() {
        for bad in [
            "",
            "mail.example.com",
            "http://h",
            "smtp://",
            "smtp://h:0",
            "smtp://h:x",
            "smtp://h:99999",
            "smtp://u@h",
            "smtp://u:p:q@h",
            "smtp://u:p/q@h",
            "smtp://:p@h",
            "smtp://u:@h",
            "smtp://h?tls=required",
            "smtps://h?tls=none",
            "smtp://h/path",
            "smtp://h#x",
            "smtp://u:%zz@h",
            "smtp://u:%f@h",
            "smtp://a b",
            "smtp://u:p@h@i",
        ] {
            assert_eq!(SmtpUrl::parse(bad), Err(SmtpUrlError::Form), "{bad:?}");
        }
    }
}
