//! Keys of hashes and seals, which must be there before the store is opened: what it writes is vouched for with one of them.
//!
//! Over a connection of its own and without prepared statements, which PgBouncer does not keep.

use std::collections::BTreeMap;

use sqlx::{AssertSqlSafe, Connection as _, FromRow};

use super::{Location, StoreError, connect::FIRST_WITH_STORED_SECRETS, postgres, sqlite};
use crate::domain::time::Timestamp;

/// What the database says before it is opened.
#[derive(Debug, Default)]
pub struct StoredSecrets {
    /// The sealed keys by name.
    pub sealed: BTreeMap<String, Vec<u8>>,
    /// Whether programs that do not look for them are kept out, which happens only where all are stored.
    pub were_complete: bool,
    /// Something that was sealed under the master key when there was no other one yet; `None` in a database that no server
    /// has been started on.
    pub oldest_seal: Option<Vec<u8>>,
}

/// Reads the keys that are stored.
///
/// # Errors
/// `Unavailable`, or a fault.
pub async fn stored_secrets(location: &Location) -> Result<StoredSecrets, StoreError> {
    with_connection(location, None).await
}

/// Stores these keys, each unless there is one of its name, and reads what is stored then. Of any number of nodes that do so at
/// once, all find the same.
///
/// # Errors
/// `Unavailable`, or a fault.
pub async fn keep_secrets(
    location: &Location,
    sealed: &[(&'static str, Vec<u8>)],
    now: Timestamp,
) -> Result<StoredSecrets, StoreError> {
    let statement = match location {
        Location::Sqlite(_) => insert_secrets(sealed, now, sqlite::bytes_literal),
        Location::Postgres(_) | Location::PgBouncer(_) => insert_secrets(sealed, now, postgres::bytes_literal),
    };
    with_connection(location, Some(statement)).await
}

/// The statement that stores these keys, each unless there is one of its name: of names that are ours, of digits and of hexadecimal digits.
pub(super) fn insert_secrets(
    sealed: &[(&'static str, Vec<u8>)],
    now: Timestamp,
    literal: fn(&str) -> String,
) -> String {
    let row = |(name, sealed): &(&str, Vec<u8>)| {
        let hex = sealed.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
        format!("('{name}', {}, {})", literal(&hex), now.as_micros())
    };
    let rows: Vec<_> = sealed.iter().map(row).collect();
    format!(
        "INSERT INTO stored_secrets (name, secret_sealed, create_time) VALUES {} ON CONFLICT (name) DO NOTHING",
        rows.join(", ")
    )
}

async fn with_connection(location: &Location, first: Option<String>) -> Result<StoredSecrets, StoreError> {
    match location {
        Location::Sqlite(path) => {
            let mut connection = sqlite::connect(path).await?;
            let read = run::<sqlite::Db>(&mut connection, first).await?;
            connection.close().await?;
            Ok(read)
        }
        Location::Postgres(url) => {
            let mut connection = postgres::connect(url).await?;
            let read = run::<postgres::Db>(&mut connection, first).await?;
            connection.close().await?;
            Ok(read)
        }
        Location::PgBouncer(url) => {
            let mut connection = postgres::connect_pooled(url).await?;
            let read = run::<postgres::Db>(&mut connection, first).await?;
            connection.close().await?;
            Ok(read)
        }
    }
}

async fn run<D>(connection: &mut D::Connection, first: Option<String>) -> Result<StoredSecrets, StoreError>
where
    D: sqlx::Database,
    for<'c> &'c mut D::Connection: sqlx::Executor<'c, Database = D>,
    for<'r> (String, Vec<u8>): FromRow<'r, D::Row>,
    for<'r> (Vec<u8>,): FromRow<'r, D::Row>,
    for<'r> (i64,): FromRow<'r, D::Row>,
{
    if let Some(statement) = first {
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut *connection).await?;
    }
    // Before the keys, which are all there by the time that it says so.
    let oldest = sqlx::raw_sql("SELECT oldest_reader FROM schema_compatibility WHERE id = 1");
    let (oldest_reader,) = <(i64,)>::from_row(&oldest.fetch_one(&mut *connection).await?)?;
    let rows = sqlx::raw_sql("SELECT name, secret_sealed FROM stored_secrets").fetch_all(&mut *connection).await?;
    let sealed = rows.iter().map(<(String, Vec<u8>)>::from_row).collect::<Result<_, _>>()?;
    // Refresh keys are never removed.
    let oldest = sqlx::raw_sql("SELECT key_sealed FROM refresh_keys ORDER BY id LIMIT 1");
    let oldest = oldest.fetch_optional(&mut *connection).await?;
    let oldest_seal = oldest.as_ref().map(<(Vec<u8>,)>::from_row).transpose()?.map(|(sealed,)| sealed);
    Ok(StoredSecrets { sealed, were_complete: oldest_reader >= FIRST_WITH_STORED_SECRETS, oldest_seal })
}
