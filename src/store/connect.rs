//! Finding the database, checking that it fits this program, and opening it.

use std::{path::PathBuf, sync::Arc, time::Duration};

use sqlx::{
    AssertSqlSafe, Connection as _, FromRow as _, SqlSafeStr as _,
    migrate::{Migrate, MigrateError, Migration, MigrationType, Migrator},
};

use super::{
    StoreError,
    port::{CommitObserver, PersonalDataVault, Store},
    postgres,
    secrets::insert_secrets,
    sqlite,
};
use crate::domain::{
    secret::{Entropy, SecretString},
    time::{Clock, Timestamp},
};

/// The schema version this program was built for: the number of its newest migration.
pub const SCHEMA_VERSION: i64 = 5;

/// The version of the schema whose programs read the keys of hashes and seals from the database, and all later ones. Those of before
/// derive them from the master key. Programs of before are kept out only of a database that has these keys: a migration that kept
/// them out of one that has not would make the keys look lost.
pub(super) const FIRST_WITH_STORED_SECRETS: i64 = 5;

/// Where the database is.
#[derive(Clone, Debug)]
pub enum Location {
    /// A file of the embedded default.
    Sqlite(PathBuf),
    /// A server.
    Postgres(SecretString),
    /// A server, through PgBouncer in transaction mode.
    PgBouncer(SecretString),
}

/// How connections are held.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// At most this many connections.
    pub max_connections: u32,
    /// How long a call waits for one.
    pub acquire_timeout: Duration,
}

/// What the store needs from outside.
#[derive(Clone)]
pub struct Surroundings {
    /// Tells the time of effects.
    pub clock: Arc<dyn Clock>,
    /// Makes event ids.
    pub entropy: Arc<dyn Entropy>,
    /// Encrypts personal data of events.
    pub vault: Arc<dyn PersonalDataVault>,
    /// Hears of revocations right after their commit.
    pub observer: Arc<dyn CommitObserver>,
    /// How many former passwords of a user are kept.
    pub kept_passwords: u32,
}

impl std::fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Surroundings")
    }
}

/// Opens the store, after [`check_schema`]; the first time ever, begins the audit trail.
///
/// # Errors
/// `Unavailable` if the database does not answer, `Schema` if it does not fit.
pub async fn open(location: &Location, options: &Options, around: Surroundings) -> Result<Arc<dyn Store>, StoreError> {
    check_schema(location).await?;
    match location {
        Location::Sqlite(path) => {
            let database = sqlite::Database::new(sqlite::open(path, options), around);
            database.begin_trail().await?;
            Ok(Arc::new(database))
        }
        Location::Postgres(url) => begun(postgres::open(url, options)?, around).await,
        Location::PgBouncer(url) => begun(postgres::open_pooled(url, options)?, around).await,
    }
}

async fn begun(pools: postgres::Pools, around: Surroundings) -> Result<Arc<dyn Store>, StoreError> {
    let database = postgres::Database::new(pools, around);
    database.begin_trail().await?;
    Ok(Arc::new(database))
}

/// What a database holds from its first moment on, so that nobody ever found it without.
#[derive(Debug)]
pub struct Founding {
    /// Keys of hashes and seals, sealed, by name.
    pub secrets: Vec<(&'static str, Vec<u8>)>,
    /// When they were made.
    pub time: Timestamp,
}

/// Brings the database's schema up to this program's, and makes an embedded database that is not there. Safe to run on several nodes at once, and again.
///
/// # Errors
/// `Unavailable`, or `Schema` if the schema is newer than this program can read, or a migration was changed or left half done.
pub async fn migrate(location: &Location) -> Result<(), StoreError> {
    migrate_with(location, None).await
}

/// The same. A database without any schema gets it together with these contents in one transaction, so that no program that would not use
/// them ever starts there. For one that has a schema they mean nothing.
///
/// # Errors
/// As [`migrate`].
pub async fn found_or_migrate(location: &Location, founding: &Founding) -> Result<(), StoreError> {
    migrate_with(location, Some(founding)).await
}

async fn migrate_with(location: &Location, founding: Option<&Founding>) -> Result<(), StoreError> {
    match location {
        Location::Sqlite(path) => {
            sqlite::create(path)?;
            sqlite::check_file(path)?;
            let mut connection = sqlite::connect(path).await?;
            migrate_sqlite(&mut connection, founding).await?;
            Ok(connection.close().await?)
        }
        Location::Postgres(url) => {
            let mut connection = postgres::connect(url).await?;
            migrate_postgres(&mut connection, founding).await?;
            Ok(connection.close().await?)
        }
        // The lock that keeps two migrations apart belongs to a session, which PgBouncer takes away after each statement.
        Location::PgBouncer(_) => Err(StoreError::Schema(
            "a migration cannot go through PgBouncer: run `vouchsafe migrate` with database.url naming the Postgres server \
             itself and database.pgbouncer false"
                .into(),
        )),
    }
}

/// Whether this program and the database's schema fit. Makes no database and changes no schema.
///
/// # Errors
/// `Schema` saying what to do; `Unavailable`.
pub async fn check_schema(location: &Location) -> Result<(), StoreError> {
    let found = match location {
        Location::Sqlite(path) => {
            sqlite::check_file(path)?;
            let mut connection = sqlite::connect(path).await?;
            let found = read_versions::<sqlite::Db>(&mut connection).await?;
            connection.close().await?;
            found
        }
        Location::Postgres(url) => {
            let mut connection = postgres::connect(url).await?;
            let found = read_versions::<postgres::Db>(&mut connection).await?;
            connection.close().await?;
            found
        }
        Location::PgBouncer(url) => {
            let mut connection = postgres::connect_pooled(url).await?;
            let found = read_versions::<postgres::Db>(&mut connection).await?;
            connection.close().await?;
            found
        }
    };
    match found {
        None => Err(StoreError::Schema("the database has no schema yet: run `vouchsafe migrate`".into())),
        Some(v) if v.oldest_reader > SCHEMA_VERSION => Err(StoreError::Schema(format!(
            "the database's schema needs a program that knows version {}, and this one knows version {SCHEMA_VERSION}: \
             run a newer vouchsafe",
            v.oldest_reader
        ))),
        Some(v) if v.applied < SCHEMA_VERSION => Err(StoreError::Schema(format!(
            "the database's schema has version {} and this program needs version {SCHEMA_VERSION}: run `vouchsafe migrate`",
            v.applied
        ))),
        Some(_) => Ok(()),
    }
}

/// The migrations of one database.
pub(super) fn migrator<const N: usize>(files: [(i64, &'static str, &'static str); N]) -> Migrator {
    let mut migrator = Migrator::with_migrations(
        files
            .into_iter()
            .map(|(version, name, sql)| {
                Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
            })
            .collect(),
    );
    // An older program may meet a newer schema that it can still read.
    migrator.set_ignore_missing(true);
    migrator
}

struct Versions {
    applied: i64,
    oldest_reader: i64,
}

/// The migrator has no lock for SQLite, so that two at once would both find nothing applied: the write lock is taken first.
async fn migrate_sqlite(connection: &mut sqlite::Conn, founding: Option<&Founding>) -> Result<(), StoreError> {
    let mut transaction = connection.begin_with(sqlite::BEGIN).await?;
    let found = read_versions::<sqlite::Db>(&mut transaction).await?;
    apply(&sqlite::migrator(), found.as_ref(), &mut *transaction).await?;
    if let (None, Some(founding)) = (found, founding) {
        sqlx::raw_sql(founding_of(founding, sqlite::bytes_literal)).execute(&mut *transaction).await?;
    }
    let orphans = sqlx::query("PRAGMA foreign_key_check").fetch_all(&mut *transaction).await?;
    if !orphans.is_empty() {
        return Err(StoreError::Schema(format!(
            "the migration would leave {} rows without what they refer to",
            orphans.len()
        )));
    }
    Ok(transaction.commit().await?)
}

/// On Postgres the migrator locks by itself, and each migration is a transaction. A database that comes into being is one as a whole: an older
/// program that found it half made would make keys of its own.
async fn migrate_postgres(connection: &mut postgres::Conn, founding: Option<&Founding>) -> Result<(), StoreError> {
    // Its lock, which is counted: taken once more here, it keeps others out until the whole is committed. It goes with the connection.
    connection.lock().await.map_err(refusal)?;
    let found = read_versions::<postgres::Db>(connection).await?;
    match (&found, founding) {
        (None, Some(founding)) => {
            let mut transaction = connection.begin().await?;
            apply(&postgres::migrator(), None, &mut *transaction).await?;
            sqlx::raw_sql(founding_of(founding, postgres::bytes_literal)).execute(&mut *transaction).await?;
            transaction.commit().await?;
        }
        _ => apply(&postgres::migrator(), found.as_ref(), connection).await?,
    }
    connection.unlock().await.map_err(refusal)
}

/// The statements that store what a database begins with. Made of names that are ours, of digits and of hexadecimal digits.
fn founding_of(founding: &Founding, literal: fn(&str) -> String) -> AssertSqlSafe<String> {
    let Founding { secrets, time } = founding;
    let insert = insert_secrets(secrets, *time, literal);
    AssertSqlSafe(format!(
        "{insert}; UPDATE schema_compatibility SET oldest_reader = {FIRST_WITH_STORED_SECRETS} WHERE id = 1"
    ))
}

async fn apply<C: Migrate>(
    migrator: &Migrator,
    found: Option<&Versions>,
    connection: &mut C,
) -> Result<(), StoreError> {
    if let Some(found) = found
        && found.oldest_reader > SCHEMA_VERSION
    {
        return Err(StoreError::Schema(format!(
            "the database's schema needs a program that knows version {}, and this one knows version {SCHEMA_VERSION}: \
             run a newer vouchsafe",
            found.oldest_reader
        )));
    }
    migrator.run_direct(None, connection, false).await.map_err(refusal)
}

fn refusal(error: MigrateError) -> StoreError {
    match error {
        MigrateError::Execute(error) => error.into(),
        MigrateError::VersionMismatch(version) => StoreError::Schema(format!(
            "migration {version} was applied in another form than this program has it: this database belongs to a \
             different build"
        )),
        MigrateError::Dirty(version) => StoreError::Schema(format!(
            "migration {version} was left half done: restore the database from its backup, then run `vouchsafe migrate`"
        )),
        other => StoreError::Internal(other.into()),
    }
}

/// What the database says of its schema; `None` if it has none. Asked without prepared statements, which PgBouncer does not
/// keep.
async fn read_versions<D>(connection: &mut D::Connection) -> Result<Option<Versions>, StoreError>
where
    D: sqlx::Database,
    for<'c> &'c mut D::Connection: sqlx::Executor<'c, Database = D>,
    for<'r> (i64,): sqlx::FromRow<'r, D::Row>,
{
    let oldest = sqlx::raw_sql("SELECT oldest_reader FROM schema_compatibility WHERE id = 1")
        .fetch_optional(&mut *connection)
        .await;
    let oldest_reader = match oldest {
        Ok(Some(row)) => <(i64,)>::from_row(&row)?.0,
        Ok(None) => return Ok(None),
        // The table is missing: 42P01 on Postgres, a plain error 1 on SQLite.
        Err(sqlx::Error::Database(e)) if matches!(e.code().as_deref(), Some("42P01" | "1")) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let applied = sqlx::raw_sql("SELECT COALESCE(MAX(version), 0) FROM _sqlx_migrations WHERE success")
        .fetch_one(&mut *connection)
        .await?;
    Ok(Some(Versions { applied: <(i64,)>::from_row(&applied)?.0, oldest_reader }))
}
