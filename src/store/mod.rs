//! The durable store: what must survive everything.
//!
//! [`port`] says what the service needs, as verbs: one security invariant is one verb, one transaction, one name. There is
//! one set of queries (`queries/`), compiled once for Postgres and once for SQLite; where the two really differ, a named
//! constant or macro in the database's own module says how.
//!
//! A transaction runs in a task of its own, so that a caller who goes away cannot leave half an effect. What it revoked is
//! handed to the [`port::CommitObserver`] after the commit and before the verb returns.

pub(crate) mod chain_walk;
mod columns;
mod connect;
mod error;
mod held;
mod link;
pub mod port;
mod postgres;
mod secrets;
mod sqlite;

pub use connect::{
    Founding, Location, Options, SCHEMA_VERSION, Surroundings, check_schema, found_or_migrate, migrate, open,
};
pub use error::{Refused, StoreError};
pub use secrets::{StoredSecrets, keep_secrets, stored_secrets};
