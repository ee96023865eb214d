//! Which database it is, and what follows from that: the data directory and the issuer's default.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::{
    names::env_name,
    postgres_url::{PostgresUrl, PostgresUrlError},
    reader::Reader,
    settings::{Backend, DATABASE_FILE},
    uri, value,
};

/// Where the embedded server says it is. Not the bound address: that is not what tokens are bound to.
pub(super) const EMBEDDED_ISSUER: &str = "http://localhost:50052";

/// Which database. `None` only with a problem noted.
pub(super) fn read(r: &mut Reader, env: &BTreeMap<String, String>) -> Option<Backend> {
    let url = r.read("database.url", |raw| {
        let wanted = "nothing, sqlite:/path/file.db, or postgres://user:password@host/database with /, ?, # and @ in the \
                      password percent-encoded";
        location_of(&value::any_text(raw, wanted)?, wanted)
    });
    // Also checked where it is not used, so that it is right when it is needed.
    let given_dir = r.is_given("data_dir");
    let dir = r.read("data_dir", |raw| value::text(raw, "the path of a directory")).map(PathBuf::from);
    let file = match url? {
        Location::Postgres(url) => {
            for (name, parameter) in url.filled_by(|name| env.contains_key(name)) {
                let instead = parameter.map_or_else(String::new, |name| format!(", or write {name} in database.url"));
                r.problem(
                    format!("Unset environment variable {name}{instead}"),
                    "it would change how the database is reached, and only settings may do that",
                );
            }
            return Some(Backend::Postgres { url });
        }
        Location::DataDir => None,
        Location::File(file) => Some(file),
    };
    let data_dir = if given_dir { dir } else { default_data_dir(r, env) }?;
    Some(Backend::Sqlite { file: file.unwrap_or_else(|| data_dir.join(DATABASE_FILE)), data_dir })
}

enum Location {
    DataDir,
    File(PathBuf),
    Postgres(PostgresUrl),
}

fn location_of(url: &str, wanted: &str) -> Result<Location, String> {
    if url.is_empty() {
        return Ok(Location::DataDir);
    }
    let Some(path) = url.strip_prefix("sqlite:") else {
        return PostgresUrl::parse(url).map(Location::Postgres).map_err(|error| match error {
            PostgresUrlError::NotOne => wanted.to_owned(),
            PostgresUrlError::UnknownParameter(_) | PostgresUrlError::Incomplete | PostgresUrlError::SslMode => {
                error.to_string()
            }
        });
    };
    // sqlite:///path is the same file; sqlite://path would be one in the root directory, which nobody means.
    let absolute = path.starts_with('/') && (!path.starts_with("//") || path.starts_with("///"));
    let names_a_file = !path.ends_with('/') && !path.contains(['?', '\0']);
    if absolute && names_a_file {
        Ok(Location::File(PathBuf::from(format!("/{}", path.trim_start_matches('/')))))
    } else {
        Err(wanted.to_owned())
    }
}

/// As the XDG Base Directory Specification has it: an empty or relative path there counts as not set.
fn default_data_dir(r: &mut Reader, env: &BTreeMap<String, String>) -> Option<PathBuf> {
    let dir = |name: &str| env.get(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = dir("XDG_DATA_HOME").or_else(|| dir("HOME").map(|home| home.join(Path::new(".local/share"))));
    if base.is_none() {
        let advice = format!("Set data_dir, with --data-dir or environment variable {}", env_name("data_dir"));
        r.problem(advice, "SQLite needs a directory, and neither XDG_DATA_HOME nor HOME names one");
    }
    Some(base?.join("vouchsafe"))
}

/// What `iss` is. `embedded` is whether the database is SQLite, if that could be told.
pub(super) fn issuer(r: &mut Reader, embedded: Option<bool>) -> Option<String> {
    if r.is_given("issuer") {
        let wanted = "an http(s) URL without login, query or fragment such as https://id.example.com, or another URI";
        return r.read("issuer", |raw| {
            value::text(raw, wanted).and_then(|t| if uri::is_issuer(&t) { Ok(t) } else { Err(wanted.to_owned()) })
        });
    }
    if !embedded? {
        let advice = format!(
            "Set issuer to the URL of this service such as https://id.example.com, with environment variable {}",
            env_name("issuer")
        );
        r.problem(advice, "on Postgres it has no default, because all nodes must have the same");
        return None;
    }
    Some(EMBEDDED_ISSUER.to_owned())
}
