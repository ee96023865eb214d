//! The address of a Postgres database: recognised, and shown without its password.

use std::fmt;

use crate::domain::secret::SecretString;

/// The parameters that are understood, and whether their values may be shown. sqlx would pass over any other with a warning
/// that quotes its value.
const PARAMETERS: [(&str, bool); 13] = [
    ("application_name", true),
    ("dbname", true),
    ("host", true),
    ("hostaddr", true),
    ("options", false),
    ("password", false),
    ("port", true),
    ("sslcert", false),
    ("sslkey", false),
    ("sslmode", true),
    ("sslrootcert", false),
    ("statement-cache-capacity", true),
    ("user", false),
];

/// Why a text is no URL of a Postgres database. Holds no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PostgresUrlError {
    /// It is none, or it is ambiguous where the password ends: one that holds `/`, `?`, `#` or `@` has to be
    /// percent-encoded, or a part of it would be taken for the host, and be shown.
    #[error("postgres://user:password@host/database with /, ?, # and @ in the password percent-encoded")]
    NotOne,
    /// It has a parameter that is not understood. Its name, unless that could be something else.
    #[error(
        "a Postgres URL without {}: it may have {}",
        .0.as_ref().map_or_else(|| "an unknown parameter".to_owned(), |name| format!("the unknown parameter {name}")),
        PARAMETERS.map(|(name, _)| name).join(", ")
    )]
    UnknownParameter(Option<String>),
}

/// A `postgres://` or `postgresql://` URL. Shown by `Display` and `Debug` without what could be secret.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresUrl {
    whole: SecretString,
    shown: String,
    without_login: String,
}

impl PostgresUrl {
    /// Recognises a URL.
    ///
    /// # Errors
    /// See [`PostgresUrlError`].
    pub fn parse(text: &str) -> Result<Self, PostgresUrlError> {
        if !text.bytes().all(|b| b.is_ascii_graphic()) || text.contains('#') {
            return Err(PostgresUrlError::NotOne);
        }
        let (scheme, rest) = text
            .split_once("://")
            .filter(|(s, _)| matches!(*s, "postgres" | "postgresql"))
            .ok_or(PostgresUrlError::NotOne)?;
        let (address, query) = rest.split_once('?').map_or((rest, None), |(address, query)| (address, Some(query)));
        let (authority, database) =
            address.split_once('/').map_or((address, None), |(authority, database)| (authority, Some(database)));
        let (login, host) = authority.split_once('@').map_or((None, authority), |(login, host)| (Some(login), host));
        // Without an address at all the host is a parameter: postgres:///db?host=/run/postgresql
        let nameless = authority.is_empty() && query.is_none() && database.is_none_or(str::is_empty);
        let misread = [Some(host), database, query].into_iter().flatten().any(|part| part.contains('@'));
        if nameless || misread || !has_valid_port(host) || database.is_some_and(|d| d.contains('/')) {
            return Err(PostgresUrlError::NotOne);
        }
        let public = public_parameters(query)?;
        let mut place = host.to_owned();
        if let Some(database) = database {
            place.extend(["/", database]);
        }
        if !public.is_empty() {
            place.extend(["?", &public.join("&")]);
        }
        let login = login.map_or_else(String::new, |login| {
            let (user, password) = login.split_once(':').map_or((login, ""), |(user, _)| (user, ":[redacted]"));
            format!("{user}{password}@")
        });
        Ok(Self {
            whole: SecretString::new(text.to_owned()),
            shown: format!("{scheme}://{login}{place}"),
            without_login: format!("{scheme}://{place}"),
        })
    }

    /// The URL as it is shown, and without the user's name.
    pub fn without_login(&self) -> &str {
        &self.without_login
    }

    /// The URL with its password. The name is meant to stand out in review.
    pub fn expose(&self) -> &str {
        self.whole.expose()
    }
}

fn has_valid_port(host: &str) -> bool {
    // The colons of an IPv6 address stand in brackets.
    let after_brackets = host.rsplit(']').next().unwrap_or(host);
    match after_brackets.split_once(':') {
        None => true,
        Some((_, port)) => port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok(),
    }
}

/// The parameters that may be shown, if all are known.
fn public_parameters(query: Option<&str>) -> Result<Vec<&str>, PostgresUrlError> {
    let mut public = Vec::new();
    for parameter in query.into_iter().flat_map(|q| q.split('&')).filter(|p| !p.is_empty()) {
        let (name, value) = parameter.split_once('=').map_or((parameter, None), |(name, value)| (name, Some(value)));
        match PARAMETERS.iter().find(|(known, _)| *known == name) {
            Some((_, true)) if value.is_some() => public.push(parameter),
            Some(_) => {}
            None => {
                // Without a value, or with other characters, it could be the end of a password that holds a question mark.
                let is_name = name.bytes().all(|b| b.is_ascii_lowercase() || matches!(b, b'-' | b'_'));
                let name = (is_name && value.is_some()).then(|| name.to_owned());
                return Err(PostgresUrlError::UnknownParameter(name));
            }
        }
    }
    Ok(public)
}

impl fmt::Display for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_left_out_and_the_rest_is_shown() {
        for (text, shown) in [
            ("postgres://h/db", "postgres://h/db"),
            ("postgresql://u:S3cret@db.example:5432/app", "postgresql://u:[redacted]@db.example:5432/app"),
            ("postgres://u@h", "postgres://u@h"),
            ("postgres://u:S3cret:x@[::1]:5432/db", "postgres://u:[redacted]@[::1]:5432/db"),
            ("postgres://h/db?sslmode=require&password=S3cret", "postgres://h/db?sslmode=require"),
            ("postgres:///db?host=/run/postgresql", "postgres:///db?host=/run/postgresql"),
            ("postgres://u:S3cret@%2Frun%2Fpg/db", "postgres://u:[redacted]@%2Frun%2Fpg/db"),
        ] {
            let url = PostgresUrl::parse(text).unwrap_or_else(|_| panic!("{text}"));
            assert_eq!(url.expose(), text);
            assert_eq!(url.to_string(), shown);
            assert_eq!(format!("{url:?}"), shown);
            let place = url.without_login();
            assert!(!place.contains("u:") && !place.contains('@') && !place.contains("S3cret"), "{place}");
        }
    }

    #[test]
    fn an_unknown_parameter_is_named_without_its_value() {
        for (query, shown) in [
            ("sslpassword=S3cret", "without the unknown parameter sslpassword: it may have application_name, "),
            ("sslmode=require&ssl_mode=S3cret", "the unknown parameter ssl_mode"),
            ("sslmode=require&pass%77ord=S3cret", "an unknown parameter:"),
            ("S3cret", "an unknown parameter:"),
            ("S3cret=1", "an unknown parameter:"),
        ] {
            let error = PostgresUrl::parse(&format!("postgres://h/db?{query}")).unwrap_err();
            assert!(matches!(error, PostgresUrlError::UnknownParameter(_)), "{query}");
            let text = error.to_string();
            assert!(text.contains(shown) && !text.contains("S3cret"), "{text}");
        }
        for (name, _) in PARAMETERS {
            assert!(PostgresUrl::parse(&format!("postgres://h/db?{name}=1&sslmode=require")).is_ok(), "{name}");
        }
    }

    #[test]
    fn a_url_that_could_be_misread_is_refused() {
        for bad in [
            "",
            "postgres:",
            "postgres://",
            "postgres:///",
            "mysql://h/db",
            "Postgres://h/db",
            "postgres://u:a@b@h/db",
            "postgres://u:pa/ss@h/db",
            "postgres://u:12/ss@h/db",
            "postgres://u:12?ss@h/db",
            "postgres://u:pa#ss@h/db",
            "postgres://h:port/db",
            "postgres://h:99999/db",
            "postgres://h/a/b",
            "postgres://h/d b",
            "postgres://h/db\n",
        ] {
            assert_eq!(PostgresUrl::parse(bad), Err(PostgresUrlError::NotOne), "{bad:?}");
        }
    }
}
