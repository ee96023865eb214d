//! The store on SQLite: the embedded default.

use std::{
    ffi::OsString,
    fs::{self, OpenOptions},
    io,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use sqlx::{
    ConnectOptions as _, Sqlite, SqliteConnection,
    migrate::Migrator,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use tokio::time::sleep;

use super::{StoreError, connect::Options, error::is_serialization_failure, link::Manner};

/// The database of the queries.
pub(super) type Db = Sqlite;
/// Its connection, outside of a pool.
pub(super) type Conn = SqliteConnection;

/// How a transaction begins: with the write lock, so that it can never fail half-way to get it.
pub(super) const BEGIN: &str = "BEGIN IMMEDIATE";

/// Never asked: no network lies between a commit and its answer, so that a transaction here has no id to ask for.
pub(super) const OUTCOME: &str = "SELECT CAST(NULL AS TEXT) WHERE $1 IS NULL";

/// How many lanes the audit trail has, numbered from 0.
pub(super) const LANES: i64 = 1;

/// Brings the write-ahead log into the file and cuts it to nothing: what was deleted is overwritten there, and gone here. It waits
/// for readers only briefly, because nobody writes meanwhile.
pub(super) const SCRUB: &str = "PRAGMA busy_timeout = 200; PRAGMA wal_checkpoint(TRUNCATE); PRAGMA busy_timeout = 5000";

/// Bytes as SQL spells them, from their hexadecimal digits.
pub(super) fn bytes_literal(hex: &str) -> String {
    format!("x'{hex}'")
}

/// The word in logs and traces: `db.system.name` of the OpenTelemetry conventions.
pub(super) const NAME: &str = "sqlite";

/// Whether reads have a pool of their own.
pub(super) const READS_APART: bool = true;

/// Nothing to lock: a transaction holds the write lock of the whole database.
macro_rules! for_update {
    () => {
        ""
    };
}

/// Nobody else has locked anything either.
macro_rules! for_update_of_free {
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

/// The roles of the user row `u` and what they hold, as a JSON list of objects.
macro_rules! held_by_user {
    () => {
        "(SELECT json_group_array(json_object('name', r.name, 'permissions', json(r.permissions), 'claims', json(r.custom_claims))) \
         FROM user_roles ur JOIN roles r ON r.name = ur.role WHERE ur.user_id = u.id)"
    };
}

/// The roles of the service account row `a` and what they hold, as a JSON list of objects.
macro_rules! held_by_service {
    () => {
        "(SELECT json_group_array(json_object('name', r.name, 'permissions', json(r.permissions), 'claims', json(r.custom_claims))) \
         FROM service_account_roles ur JOIN roles r ON r.name = ur.role WHERE ur.service_account_id = a.id)"
    };
}

/// After a text that is compared: by its bytes, as always here.
macro_rules! in_byte_order {
    () => {
        ""
    };
}

/// The database's own time in microseconds since the epoch.
macro_rules! database_time {
    () => {
        "CAST(unixepoch('subsec') * 1000000 AS INTEGER)"
    };
}

/// Whether a column of ids is among those of a parameter, a JSON list of UUIDs.
macro_rules! is_listed {
    ($column:literal, $ids:literal) => {
        concat!($column, " IN (SELECT unhex(value, '-') FROM json_each(", $ids, "))")
    };
}

/// The rows of a parameter that is a JSON list of refresh-token families, as the table `w`.
macro_rules! listed_families {
    ($families:literal) => {
        concat!(
            "(SELECT unhex(value ->> 'id', '-') AS id, value ->> 'generation' AS generation, \
             value ->> 'generation_time' AS generation_time, value ->> 'refresh_key' AS refresh_key, \
             value ->> 'late_streak' AS late_streak, value ->> 'late_now' AS late_now FROM json_each(",
            $families,
            ")) AS w"
        )
    };
}

/// A role `r` as a JSON object.
macro_rules! role_object {
    () => {
        "json_object('name', r.name, 'permissions', json(r.permissions), 'claims', json(r.custom_claims))"
    };
}

/// Whether a column is among the texts of a parameter, a JSON list.
macro_rules! is_among {
    ($column:literal, $texts:literal) => {
        concat!($column, " IN (SELECT value FROM json_each(", $texts, "))")
    };
}

/// Whether a column of bytes is among those of a parameter, a JSON list of hexadecimal digits.
macro_rules! is_listed_hex {
    ($column:literal, $list:literal) => {
        concat!($column, " IN (SELECT unhex(value) FROM json_each(", $list, "))")
    };
}

/// The texts of a column that is a JSON list, as the column `value` of the table `r`.
macro_rules! elements {
    ($list:literal) => {
        concat!("json_each(", $list, ") AS r")
    };
}

/// The bytes that a column of hexadecimal digits stands for.
macro_rules! from_hex {
    ($column:literal) => {
        concat!("unhex(", $column, ")")
    };
}

/// The rows of a parameter that is a JSON list of users, as the table `w`.
macro_rules! listed_users {
    ($users:literal) => {
        concat!(
            "(SELECT unhex(value ->> 'id', '-') AS id, value ->> 'email' AS email, value ->> 'email_key' AS email_key, \
             value ->> 'email_verified_time' AS email_verified_time, value ->> 'username' AS username, \
             value ->> 'display_name' AS display_name, value ->> 'password_hash' AS password_hash, \
             value ->> 'state' AS state, value ->> 'epoch' AS epoch, value ->> 'attributes' AS attributes, \
             value ->> 'custom_claims' AS custom_claims, value ->> 'create_time' AS create_time FROM json_each(",
            $users,
            ")) AS w"
        )
    };
}

/// The rows of a parameter that is a JSON list of what goes with new users, as the table `w`.
macro_rules! listed_followers {
    ($followers:literal) => {
        concat!(
            "(SELECT unhex(value ->> 'id', '-') AS id, value ->> 'key' AS key, value ->> 'roles' AS roles FROM json_each(",
            $followers,
            ")) AS w"
        )
    };
}

/// The rows of a parameter that is a JSON list of audit events, as the table `w`.
macro_rules! listed_events {
    ($events:literal) => {
        concat!(
            "(SELECT unhex(value ->> 'id', '-') AS id, value ->> 'time' AS time, value ->> 'act' AS act, \
             value ->> 'succeeded' AS succeeded, value ->> 'actor' AS actor, \
             unhex(value ->> 'actor_id', '-') AS actor_id, unhex(value ->> 'subject_id', '-') AS subject_id, \
             unhex(value ->> 'session_id', '-') AS session_id, value ->> 'request_id' AS request_id, \
             value ->> 'detail' AS detail, value ->> 'personal_sealed' AS personal_sealed, value ->> 'lane' AS lane, \
             value ->> 'position' AS position, value ->> 'hash' AS hash FROM json_each(",
            $events,
            ")) AS w"
        )
    };
}

/// The rows of a parameter that is a JSON list of places of audit events, as the table `w`.
macro_rules! listed_places {
    ($places:literal) => {
        concat!(
            "(SELECT unhex(value ->> 'id', '-') AS id, value ->> 'lane' AS lane, value ->> 'position' AS position, \
             value ->> 'hash' AS hash FROM json_each(",
            $places,
            ")) AS w"
        )
    };
}

/// Whether a column is among the ids that a query selects. There is nobody else who could have locked one.
macro_rules! is_among_taken {
    ($column:literal, $query:expr) => {
        concat!($column, " IN (", $query, ")")
    };
}

#[path = "queries/mod.rs"]
#[expect(clippy::duplicate_mod, reason = "one set of queries, compiled once for each database")]
mod queries;

pub(super) use queries::{Database, Pools};

/// The migrations, compiled in.
pub(super) fn migrator() -> Migrator {
    super::connect::migrator([
        (1, "initial", include_str!("../../migrations/sqlite/0001_initial.sql")),
        (2, "administration", include_str!("../../migrations/sqlite/0002_administration.sql")),
        (3, "revoked_keys", include_str!("../../migrations/sqlite/0003_revoked_keys.sql")),
        (4, "people", include_str!("../../migrations/sqlite/0004_people.sql")),
        (5, "trust", include_str!("../../migrations/sqlite/0005_trust.sql")),
    ])
}

/// How often, and after which pause, a connection is tried again that found another switching to the write-ahead log.
const SWITCH_TRIES: u32 = 100;
const SWITCH_PAUSE: Duration = Duration::from_millis(50);

/// Makes an empty database for its owner alone, if there is none. SQLite would let the umask decide who may read it; what
/// SQLite puts beside it gets the same permissions.
pub(super) fn create(path: &Path) -> Result<(), StoreError> {
    match OpenOptions::new().create_new(true).write(true).mode(0o600).open(path) {
        Ok(_) => Ok(()),
        Err(problem) if problem.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(problem) => Err(StoreError::Unavailable(format!("cannot make {}: {problem}", path.display()).into())),
    }
}

/// Whether there is a database that only those whom its owner chose can read and write.
pub(super) fn check_file(path: &Path) -> Result<(), StoreError> {
    let beside = |suffix: &str| {
        let mut name = OsString::from(path);
        name.push(suffix);
        PathBuf::from(name)
    };
    for file in [path.to_owned(), beside("-wal"), beside("-shm")] {
        let mode = match fs::metadata(&file) {
            Ok(metadata) => metadata.permissions().mode(),
            Err(problem) if problem.kind() == io::ErrorKind::NotFound && file != path => continue,
            Err(problem) if problem.kind() == io::ErrorKind::NotFound => {
                let text = format!("there is no database {} yet: run `vouchsafe migrate`", path.display());
                return Err(StoreError::Schema(text));
            }
            Err(problem) => {
                let text = format!("cannot use {}: {problem}", file.display());
                return Err(StoreError::Unavailable(text.into()));
            }
        };
        if mode & 0o007 != 0 {
            return Err(StoreError::Schema(format!(
                "every user of this machine may use the database file {0} (mode {1:o}): chmod 600 {0}",
                file.display(),
                mode & 0o777
            )));
        }
    }
    Ok(())
}

fn connect_options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        // Made by `create` alone, which sees to it that others cannot read it.
        .create_if_missing(false)
        .journal_mode(SqliteJournalMode::Wal)
        // FULL, not NORMAL: an acknowledged change survives a power cut.
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        // Erased data is overwritten.
        .pragma("secure_delete", "ON")
        .busy_timeout(Duration::from_secs(5))
        .disable_statement_logging()
}

/// One connection for changing the schema. Foreign keys are off: to change a table is to drop the old one, and nothing that
/// refers to it shall go along. What they demand is checked before the change is committed.
pub(super) async fn connect(path: &Path) -> Result<Conn, StoreError> {
    let options = connect_options(path).foreign_keys(false);
    // The first connection of all switches to the write-ahead log, and SQLite does not wait for another that does so too.
    for _ in 0..SWITCH_TRIES {
        match options.connect().await.map_err(StoreError::from) {
            Err(error) if is_serialization_failure(&error) => sleep(SWITCH_PAUSE).await,
            result => return result,
        }
    }
    Ok(options.connect().await?)
}

/// One writing connection, because SQLite has one writer, and pools of readers; all empty at first.
pub(super) fn open(path: &Path, options: &Options) -> Pools {
    let pool = |connections| {
        SqlitePoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(options.acquire_timeout)
            .connect_lazy_with(connect_options(path))
    };
    let manner = Manner { begin: BEGIN, begin_reading: None, keeps_statements: true };
    Pools { write: pool(1), read: pool(options.max_connections.min(8)), feed: pool(1), manner }
}
