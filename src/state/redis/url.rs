//! Where the hot state is: the URL of one server, of sentinels or of a cluster, shown without its passwords.

use std::{fmt, path::PathBuf};

use crate::domain::secret::SecretString;

/// What a URL may look like, for whoever wrote another one.
const FORMS: &str = "redis://user:password@host:6379/0, redis+sentinel://user:password@host1:26379,host2:26379/master-name, \
                     redis+cluster://user:password@host1:6379,host2:6379, the same with rediss for TLS, or redis+unix:///path";

/// Why a text is no URL of a hot state. Holds no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RedisUrlError {
    /// It is none, or it is ambiguous where the password ends.
    #[error("{FORMS}, with /, ?, #, @ and % in the password percent-encoded")]
    NotOne,
    /// It has a parameter that this form does not take.
    #[error(
        "a URL without parameters, except user, password and db for redis+unix, and sentinel_user and sentinel_password for sentinels"
    )]
    UnknownParameter,
}

/// A host and its port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    /// A name or an IP address, that without brackets.
    pub(super) host: String,
    pub(super) port: u16,
}

/// Who we are to a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Login {
    /// `None`: the user `default`.
    pub(super) user: Option<String>,
    pub(super) password: SecretString,
}

/// How the servers are arranged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// One server.
    Single(Address),
    /// One server on this machine, at the path of its socket.
    Unix(PathBuf),
    /// The server that these sentinels call the master of that name.
    Sentinel { sentinels: Vec<Address>, master: String, login: Option<Login> },
    /// The cluster that these nodes are of.
    Cluster(Vec<Address>),
}

/// The URL of a hot state. Shown by `Display` and `Debug` without its passwords.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl {
    pub(super) form: Form,
    pub(super) tls: bool,
    pub(super) login: Option<Login>,
    pub(super) database: u16,
    shown: String,
    without_login: String,
}

impl RedisUrl {
    /// Recognises a URL.
    ///
    /// # Errors
    /// See [`RedisUrlError`].
    pub fn parse(text: &str) -> Result<Self, RedisUrlError> {
        if !text.bytes().all(|b| b.is_ascii_graphic()) || text.contains('#') {
            return Err(RedisUrlError::NotOne);
        }
        let (scheme, rest) = text.split_once("://").ok_or(RedisUrlError::NotOne)?;
        let (address, query) = rest.split_once('?').map_or((rest, ""), |(address, query)| (address, query));
        if scheme == "redis+unix" {
            return unix(address, query);
        }
        let (tls, kind) = match scheme.split_once('+').unwrap_or((scheme, "")) {
            ("redis", kind) => (false, kind),
            ("rediss", kind) => (true, kind),
            _ => return Err(RedisUrlError::NotOne),
        };
        let (authority, path) = address.split_once('/').unwrap_or((address, ""));
        let (login, hosts) = authority.split_once('@').map_or((None, authority), |(login, hosts)| (Some(login), hosts));
        if query.contains('@') || path.contains('@') {
            return Err(RedisUrlError::NotOne);
        }
        let (form, database) = match kind {
            "" => (Form::Single(one(addresses(hosts, 6379)?)?), database(path)?),
            "cluster" if path.is_empty() => (Form::Cluster(addresses(hosts, 6379)?), 0),
            "sentinel" => {
                let (master, number) = path.split_once('/').unwrap_or((path, ""));
                let sentinels = addresses(hosts, 26379)?;
                let [user, password, _] = parameters(query, ["sentinel_user", "sentinel_password", ""])?;
                let login = login_of(user, password)?;
                (Form::Sentinel { sentinels, master: name(master)?, login }, database(number)?)
            }
            _ => return Err(RedisUrlError::NotOne),
        };
        if kind != "sentinel" && !query.is_empty() {
            return Err(RedisUrlError::UnknownParameter);
        }
        let login = match login.map(|login| login.split_once(':').ok_or(RedisUrlError::NotOne)).transpose()? {
            Some((user, password)) => login_of(Some(decoded(user)?), Some(decoded(password)?))?,
            None => None,
        };
        let path = if path.is_empty() { String::new() } else { format!("/{path}") };
        Ok(Self::new(form, tls, login, database, scheme, &format!("{hosts}{path}")))
    }

    fn new(form: Form, tls: bool, login: Option<Login>, database: u16, scheme: &str, place: &str) -> Self {
        let shown_login = login.as_ref().map_or_else(String::new, |login| {
            let user = login.user.as_deref().unwrap_or("");
            // What would have to be percent-encoded is rather left out than shown ambiguously.
            let plain = user.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
            format!("{}:[redacted]@", if plain { user } else { "[user]" })
        });
        Self {
            form,
            tls,
            login,
            database,
            shown: format!("{scheme}://{shown_login}{place}"),
            without_login: format!("{scheme}://{place}"),
        }
    }

    /// The URL as it is shown, and without the user's name.
    pub fn without_login(&self) -> &str {
        &self.without_login
    }

    /// Whether the connections are encrypted.
    pub const fn is_tls(&self) -> bool {
        self.tls
    }
}

fn unix(path: &str, query: &str) -> Result<RedisUrl, RedisUrlError> {
    if !path.starts_with('/') || path.ends_with('/') || path.contains('@') {
        return Err(RedisUrlError::NotOne);
    }
    let [user, password, number] = parameters(query, ["user", "password", "db"])?;
    let database = database(number.as_deref().unwrap_or(""))?;
    let login = login_of(user, password)?;
    let place = if database == 0 { path.to_owned() } else { format!("{path}?db={database}") };
    let socket = PathBuf::from(decoded(path)?);
    let mut url = RedisUrl::new(Form::Unix(socket), false, login, database, "redis+unix", &place);
    // The login is a parameter in this form, not a part before the path.
    url.shown.clone_from(&url.without_login);
    Ok(url)
}

fn one(mut addresses: Vec<Address>) -> Result<Address, RedisUrlError> {
    let first = addresses.pop().ok_or(RedisUrlError::NotOne)?;
    if addresses.is_empty() { Ok(first) } else { Err(RedisUrlError::NotOne) }
}

fn addresses(hosts: &str, default_port: u16) -> Result<Vec<Address>, RedisUrlError> {
    hosts.split(',').map(|host| address(host, default_port)).collect()
}

fn address(text: &str, default_port: u16) -> Result<Address, RedisUrlError> {
    let bad = RedisUrlError::NotOne;
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        // The colons of an IPv6 address stand in brackets.
        let (host, port) = rest.split_once(']').ok_or(bad.clone())?;
        host.parse::<std::net::Ipv6Addr>().map_err(|_| bad.clone())?;
        (host, port)
    } else {
        let (host, port) = text.split_at(text.find(':').unwrap_or(text.len()));
        let is_host = !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
        (if is_host { host } else { return Err(bad) }, port)
    };
    let port = match port.strip_prefix(':') {
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().map_err(|_| bad.clone())?,
        None if port.is_empty() => default_port,
        _ => return Err(bad),
    };
    if port == 0 { Err(bad) } else { Ok(Address { host: host.to_owned(), port }) }
}

fn name(text: &str) -> Result<String, RedisUrlError> {
    let is_name = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
    if is_name { Ok(text.to_owned()) } else { Err(RedisUrlError::NotOne) }
}

/// The number of a database; none is 0.
fn database(text: &str) -> Result<u16, RedisUrlError> {
    match text {
        "" => Ok(0),
        digits if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().map_err(|_| RedisUrlError::NotOne),
        _ => Err(RedisUrlError::NotOne),
    }
}

/// A user alone cannot log in, and is more likely a password in the wrong place.
fn login_of(user: Option<String>, password: Option<String>) -> Result<Option<Login>, RedisUrlError> {
    let user = user.filter(|user| !user.is_empty());
    match (user, password.filter(|password| !password.is_empty())) {
        (user, Some(password)) => Ok(Some(Login { user, password: SecretString::new(password) })),
        (None, None) => Ok(None),
        (Some(_), None) => Err(RedisUrlError::NotOne),
    }
}

/// The values of these parameters, decoded. Any other is an error, and so is one that comes twice.
fn parameters<const N: usize>(query: &str, names: [&str; N]) -> Result<[Option<String>; N], RedisUrlError> {
    let mut values = [const { None }; N];
    for parameter in query.split('&').filter(|p| !p.is_empty()) {
        let (name, value) = parameter.split_once('=').ok_or(RedisUrlError::UnknownParameter)?;
        let known = names.iter().position(|known| *known == name).ok_or(RedisUrlError::UnknownParameter)?;
        if values[known].replace(decoded(value)?).is_some() {
            return Err(RedisUrlError::NotOne);
        }
    }
    Ok(values)
}

/// Takes percent-encoding away (RFC 3986 §2.1).
fn decoded(text: &str) -> Result<String, RedisUrlError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let mut digit = || rest.next().and_then(|b| char::from(b).to_digit(16)).and_then(|d| u8::try_from(d).ok());
            let (high, low) = (digit().ok_or(RedisUrlError::NotOne)?, digit().ok_or(RedisUrlError::NotOne)?);
            bytes.push(high << 4 | low);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).map_err(|_| RedisUrlError::NotOne)
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

#[cfg(test)]
mod tests;
