//! The address of a Postgres database: recognised, completed, and shown without its password.
//!
//! What the URL leaves out is never filled from libpq's variables (`PGHOST`, `PGPASSWORD`, `PGSSLMODE`, ...) or its password
//! file: a setting has one name, and whether passwords travel encrypted is not left to chance.

use std::fmt;

use crate::{domain::secret::SecretString, verifier::keys::fetch};

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

/// What `sslmode` may be.
const SSL_MODES: [&str; 6] = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];

/// Variables whose value the driver would take and that no completed URL can overrule, and the parameter that does. What
/// `PGOPTIONS` says is added to the parameter.
const OBSTINATE: [(&str, Option<&str>); 4] = [
    ("PGOPTIONS", None),
    ("PGSSLROOTCERT", Some("sslrootcert")),
    ("PGSSLCERT", Some("sslcert")),
    ("PGSSLKEY", Some("sslkey")),
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
    /// It does not say who connects, where, or to what.
    #[error("a Postgres URL that names user, host and database: postgres://user:password@host/database")]
    Incomplete,
    /// Its host is another machine, and it does not say whether the way there is encrypted; or not in a known word.
    #[error(
        "a Postgres URL with one sslmode, because its host is another machine: ?sslmode=verify-full checks the server's \
         certificate (sslrootcert names the file of a private authority), require only encrypts, disable does not even that"
    )]
    SslMode,
}

/// A `postgres://` or `postgresql://` URL. Shown by `Display` and `Debug` without what could be secret.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresUrl {
    whole: SecretString,
    shown: String,
    without_login: String,
    complete: SecretString,
    parameters: Vec<String>,
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
        let parts = Parts::of(login, host, database, query);
        let complete = format!("{text}{}{}", if query.is_some() { "&" } else { "?" }, parts.missing()?);
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
            complete: SecretString::new(complete),
            parameters: parts.parameters.iter().map(|(name, _)| (*name).to_owned()).collect(),
        })
    }

    /// The URL as it is shown, and without the user's name.
    pub fn without_login(&self) -> &str {
        &self.without_login
    }

    /// Whether it has this parameter.
    pub fn has(&self, parameter: &str) -> bool {
        self.parameters.iter().any(|name| name == parameter)
    }

    /// The variables among `names` that would count although they are no settings, and the parameter to write instead.
    pub fn filled_by<'v>(&self, names: impl Fn(&str) -> bool) -> Vec<(&'v str, Option<&'v str>)> {
        let counts = |parameter: Option<&str>| parameter.is_none_or(|parameter| !self.has(parameter));
        OBSTINATE.into_iter().filter(|(name, parameter)| names(name) && counts(*parameter)).collect()
    }

    /// The URL with its password, and with everything that it left out.
    pub fn expose_complete(&self) -> &str {
        self.complete.expose()
    }

    /// The URL with its password. The name is meant to stand out in review.
    pub fn expose(&self) -> &str {
        self.whole.expose()
    }
}

/// What a URL says, wherever it says it.
struct Parts<'u> {
    login: Option<&'u str>,
    host: &'u str,
    database: Option<&'u str>,
    parameters: Vec<(&'u str, &'u str)>,
}

impl<'u> Parts<'u> {
    fn of(login: Option<&'u str>, host: &'u str, database: Option<&'u str>, query: Option<&'u str>) -> Self {
        let parameters = query.into_iter().flat_map(|q| q.split('&')).filter_map(|p| p.split_once('=')).collect();
        Self { login, host, database, parameters }
    }

    /// The values of a parameter. The last is the one that counts.
    fn values(&self, name: &str) -> impl Iterator<Item = &'u str> {
        self.parameters.iter().filter(move |(known, _)| *known == name).map(|(_, value)| *value)
    }

    fn names(&self, name: &str) -> bool {
        self.values(name).last().is_some_and(|value| !value.is_empty())
    }

    fn hosts(&self) -> impl Iterator<Item = &'u str> {
        let in_address = if self.host.starts_with('[') {
            self.host.split(']').next().map(|host| &host[1..])
        } else {
            self.host.split(':').next()
        };
        in_address.filter(|host| !host.is_empty()).into_iter().chain(self.values("host")).chain(self.values("hostaddr"))
    }

    /// The parameters that say what the rest of the URL does not.
    fn missing(&self) -> Result<String, PostgresUrlError> {
        let (user, password) = self.login.map_or(("", None), |login| {
            login.split_once(':').map_or((login, None), |(user, password)| (user, Some(password)))
        });
        let named = (!user.is_empty() || self.names("user"))
            && (self.database.is_some_and(|name| !name.is_empty()) || self.names("dbname"))
            && self.hosts().next().is_some()
            && self.hosts().all(|host| !host.is_empty());
        if !named {
            return Err(PostgresUrlError::Incomplete);
        }
        let mut missing = Vec::new();
        let modes: Vec<_> = self.values("sslmode").collect();
        match modes[..] {
            [mode] if SSL_MODES.contains(&mode) => {}
            [] if self.hosts().all(is_this_machine) => missing.push("sslmode=prefer"),
            _ => return Err(PostgresUrlError::SslMode),
        }
        let has_port = self.host.rsplit(']').next().is_some_and(|after| after.contains(':'));
        if !has_port && !self.names("port") {
            missing.push("port=5432");
        }
        // An empty one is none, and keeps the driver from looking for one elsewhere.
        if password.is_none() && !self.names("password") {
            missing.push("password=");
        }
        Ok(missing.join("&"))
    }
}

/// A socket or a loopback address: nobody between.
fn is_this_machine(host: &str) -> bool {
    let is_socket = host.starts_with('/') || host.get(..3).is_some_and(|start| start.eq_ignore_ascii_case("%2F"));
    is_socket || fetch::is_this_machine(host)
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
            ("postgres://u@localhost/db", "postgres://u@localhost/db"),
            (
                "postgresql://u:S3cret@db.example:5432/app?sslmode=verify-full",
                "postgresql://u:[redacted]@db.example:5432/app?sslmode=verify-full",
            ),
            ("postgres://u:S3cret:x@[::1]:5432/db", "postgres://u:[redacted]@[::1]:5432/db"),
            ("postgres://h/db?sslmode=require&user=u&password=S3cret", "postgres://h/db?sslmode=require"),
            ("postgres:///db?host=/run/postgresql&user=u", "postgres:///db?host=/run/postgresql"),
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
    fn what_is_left_out_is_said() {
        for (text, added) in [
            ("postgres://u@localhost/db", "?sslmode=prefer&port=5432&password="),
            ("postgres://u:p@127.0.0.9:1/db", "?sslmode=prefer"),
            ("postgres://u@[::1]/db?port=7", "&sslmode=prefer&password="),
            ("postgres://u:p@%2Frun%2Fpg/db", "?sslmode=prefer&port=5432"),
            ("postgres:///?user=u&host=/run/pg&dbname=db&password=p", "&sslmode=prefer&port=5432"),
            ("postgres://u:@db.example/db?sslmode=disable", "&port=5432"),
        ] {
            let url = PostgresUrl::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(url.expose_complete(), format!("{text}{added}"));
        }
        for text in [
            "postgres://localhost/db",
            "postgres://:p@localhost/db",
            "postgres://u:p@localhost",
            "postgres://u:p@localhost/",
            "postgres://u:p@/db",
            "postgres://u:p@localhost/db?host=",
        ] {
            assert_eq!(PostgresUrl::parse(text), Err(PostgresUrlError::Incomplete), "{text}");
        }
    }

    #[test]
    fn the_way_to_another_machine_is_encrypted_or_said_not_to_be() {
        for host in ["db.example", "10.0.0.7:5432", "[2001:db8::1]:5432", "localhost.example", "127.0.0.1.example"] {
            for query in ["", "?sslmode=", "?sslmode=on", "?sslmode=require&sslmode=disable", "?SSLMODE=require"] {
                let parsed = PostgresUrl::parse(&format!("postgres://u:S3cret@{host}/db{query}"));
                let refused = parsed.unwrap_err();
                let known = matches!(refused, PostgresUrlError::SslMode | PostgresUrlError::UnknownParameter(_));
                assert!(known && !refused.to_string().contains("S3cret"), "{host}{query}: {refused}");
            }
            for mode in SSL_MODES {
                assert!(PostgresUrl::parse(&format!("postgres://u:p@{host}/db?sslmode={mode}")).is_ok(), "{mode}");
            }
        }
        for hidden in ["host=db.example", "hostaddr=10.0.0.7", "host=localhos%74"] {
            let parsed = PostgresUrl::parse(&format!("postgres://u:p@localhost/db?{hidden}"));
            assert_eq!(parsed, Err(PostgresUrlError::SslMode), "{hidden}");
        }
    }

    #[test]
    fn a_variable_that_no_url_overrules_is_found() {
        let plain = PostgresUrl::parse("postgres://u:p@localhost/db").unwrap();
        let names: Vec<_> = plain.filled_by(|_| true).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["PGOPTIONS", "PGSSLROOTCERT", "PGSSLCERT", "PGSSLKEY"]);
        assert_eq!(plain.filled_by(|name| name == "PGHOST"), []);
        let own = PostgresUrl::parse("postgres://u:p@localhost/db?sslrootcert=/ca.pem&options=-c%20x=y").unwrap();
        assert_eq!(own.filled_by(|name| name != "PGSSLKEY"), [("PGOPTIONS", None), ("PGSSLCERT", Some("sslcert"))]);
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
            let text =
                format!("postgres://u@h/db?{name}={}", if name == "sslmode" { "allow" } else { "1&sslmode=require" });
            assert!(PostgresUrl::parse(&text).is_ok(), "{name}");
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
