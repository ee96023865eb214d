//! Settings: read from every place, checked whole, and only then used.
//!
//! Layers, the later ones win: the built-in defaults, a TOML file (only if one is named), the environment, the command
//! line. [`load`] gives settings that hold no nonsense, or every problem it found. Nothing here reads the process's
//! environment or binds anything; what it needs is passed in as [`Sources`].
//!
//! [`REFERENCE`] is the one list of settings: what is accepted, what the defaults are, and what the README shows.

mod backend;
mod build;
mod dump;
mod env;
mod error;
mod file;
mod listener;
mod names;
mod postgres_url;
mod reader;
mod reference;
mod settings;
mod sources;
mod uri;
mod value;

#[cfg(test)]
mod tests;

pub use crate::domain::duration::parse_duration;
pub use error::{ConfigError, Problem};
pub use postgres_url::{PostgresUrl, PostgresUrlError};
pub use reference::{DefaultText, REFERENCE, SettingDoc, markdown_table};
pub use settings::{
    Audit, Backend, Channel, DATABASE_FILE, Database, Factors, Grpc, Http, Keys, Log, MasterKey, Notify, Passwords,
    Redis, Registration, RegistrationMode, Sessions, Settings, Shutdown, Telemetry, Throttle, Tls, Tokens,
};
pub use sources::{Sources, load};
