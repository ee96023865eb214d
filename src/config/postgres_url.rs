//! The address of a Postgres database: recognised, and shown without its password.

use std::fmt;

use crate::domain::secret::SecretString;

/// Parameters whose values are no secrets. Anything else in the query is left out when the URL is shown.
const PUBLIC_PARAMETERS: [&str; 7] =
    ["application_name", "dbname", "host", "hostaddr", "port", "sslmode", "statement-cache-capacity"];

/// A `postgres://` or `postgresql://` URL. Shown by `Display` and `Debug` without what could be secret.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresUrl {
    whole: SecretString,
    shown: String,
}

impl PostgresUrl {
    /// Recognises a URL. `None` if it is none, or if it is ambiguous where the password ends: one that holds `/`, `?`,
    /// `#` or `@` has to be percent-encoded, or a part of it would be taken for the host, and be shown.
    pub fn parse(text: &str) -> Option<Self> {
        if !text.bytes().all(|b| b.is_ascii_graphic()) || text.contains('#') {
            return None;
        }
        let (scheme, rest) = text.split_once("://").filter(|(s, _)| matches!(*s, "postgres" | "postgresql"))?;
        let (address, query) = rest.split_once('?').map_or((rest, None), |(address, query)| (address, Some(query)));
        let (authority, database) =
            address.split_once('/').map_or((address, None), |(authority, database)| (authority, Some(database)));
        let (login, host) = authority.split_once('@').map_or((None, authority), |(login, host)| (Some(login), host));
        // Without an address at all the host is a parameter: postgres:///db?host=/run/postgresql
        let nameless = authority.is_empty() && query.is_none() && database.is_none_or(str::is_empty);
        let misread = [Some(host), database, query].into_iter().flatten().any(|part| part.contains('@'));
        if nameless || misread || !has_valid_port(host) || database.is_some_and(|d| d.contains('/')) {
            return None;
        }
        let mut shown = format!("{scheme}://");
        if let Some(login) = login {
            let (user, password) = login.split_once(':').map_or((login, ""), |(user, _)| (user, ":[redacted]"));
            shown.extend([user, password, "@"]);
        }
        shown.push_str(host);
        if let Some(database) = database {
            shown.extend(["/", database]);
        }
        let public: Vec<&str> = query.into_iter().flat_map(|q| q.split('&')).filter(|p| is_public(p)).collect();
        if !public.is_empty() {
            shown.extend(["?", &public.join("&")]);
        }
        Some(Self { whole: SecretString::new(text.to_owned()), shown })
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

fn is_public(parameter: &str) -> bool {
    parameter.split_once('=').is_some_and(|(name, _)| PUBLIC_PARAMETERS.contains(&name))
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
            let url = PostgresUrl::parse(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(url.expose(), text);
            assert_eq!(url.to_string(), shown);
            assert_eq!(format!("{url:?}"), shown);
        }
    }

    #[test]
    fn a_url_that_could_be_misread_is_none() {
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
            assert_eq!(PostgresUrl::parse(bad), None, "{bad:?}");
        }
    }
}
