//! The store on SQLite: the embedded default.

use std::{path::Path, time::Duration};

use sqlx::{
    ConnectOptions as _, Sqlite, SqliteConnection,
    migrate::Migrator,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use super::{StoreError, connect::Options};

/// The database of the queries.
pub(super) type Db = Sqlite;
/// Its connection.
pub(super) type Conn = SqliteConnection;

/// How a transaction begins: with the write lock, so that it can never fail half-way to get it.
pub(super) const BEGIN: &str = "BEGIN IMMEDIATE";

/// The word in test names and logs.
pub(super) const NAME: &str = "sqlite";

/// Nothing to lock: a transaction holds the write lock of the whole database.
macro_rules! for_update {
    () => {
        ""
    };
}

/// The sorted role names of the user row `u`, as a JSON list.
macro_rules! roles_of_user {
    () => {
        "(SELECT json_group_array(r.role ORDER BY r.role) FROM user_roles r WHERE r.user_id = u.id)"
    };
}

/// The database's own time in microseconds since the epoch.
macro_rules! database_time {
    () => {
        "CAST(unixepoch('subsec') * 1000000 AS INTEGER)"
    };
}

#[path = "queries/mod.rs"]
#[expect(clippy::duplicate_mod, reason = "one set of queries, compiled once for each database")]
mod queries;

pub(super) use queries::Database;

/// The migrations, compiled in.
pub(super) fn migrator() -> Migrator {
    super::connect::migrator([(1, "initial", include_str!("../../migrations/sqlite/0001_initial.sql"))])
}

fn connect_options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        // FULL, not NORMAL: an acknowledged change survives a power cut.
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        // Erased data is overwritten.
        .pragma("secure_delete", "ON")
        .busy_timeout(Duration::from_secs(5))
        .disable_statement_logging()
}

/// Opens one writing connection, because SQLite has one writer, and a pool of readers.
pub(super) async fn open(path: &Path, options: &Options) -> Result<(sqlx::Pool<Db>, sqlx::Pool<Db>), StoreError> {
    let write = SqlitePoolOptions::new()
        .max_connections(1)
        .acquire_timeout(options.acquire_timeout)
        .connect_with(connect_options(path))
        .await?;
    let read = SqlitePoolOptions::new()
        .max_connections(options.max_connections.min(8))
        .acquire_timeout(options.acquire_timeout)
        .connect_with(connect_options(path))
        .await?;
    Ok((write, read))
}
