//! The store on Postgres.

use std::{str::FromStr, time::Duration};

use sqlx::{
    ConnectOptions as _, PgConnection, Postgres,
    migrate::Migrator,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use tokio::time::timeout;

use super::{StoreError, connect::Options};
use crate::domain::secret::SecretString;

/// The database of the queries.
pub(super) type Db = Postgres;
/// Its connection.
pub(super) type Conn = PgConnection;

/// How a transaction begins. Every verb that reads before it writes locks the row, so the default isolation suffices.
pub(super) const BEGIN: &str = "BEGIN";

/// The word in logs and traces: `db.system.name` of the OpenTelemetry conventions.
pub(super) const NAME: &str = "postgresql";

/// Whether reads have a pool of their own.
pub(super) const READS_APART: bool = false;

/// How long the database may take to accept a connection at the start.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// Locks the selected row until the transaction ends.
macro_rules! for_update {
    () => {
        " FOR UPDATE"
    };
}

/// The sorted role names of the user row `u`, as a JSON list.
macro_rules! roles_of_user {
    () => {
        "(SELECT COALESCE(json_agg(r.role ORDER BY r.role), '[]'::json) FROM user_roles r WHERE r.user_id = u.id)"
    };
}

/// The database's own time in microseconds since the epoch.
macro_rules! database_time {
    () => {
        "(extract(epoch FROM clock_timestamp()) * 1000000)::BIGINT"
    };
}

#[path = "queries/mod.rs"]
#[expect(clippy::duplicate_mod, reason = "one set of queries, compiled once for each database")]
mod queries;

pub(super) use queries::{Database, Pools};

/// The migrations, compiled in.
pub(super) fn migrator() -> Migrator {
    super::connect::migrator([(1, "initial", include_str!("../../migrations/postgres/0001_initial.sql"))])
}

fn connect_options(url: &SecretString) -> Result<PgConnectOptions, StoreError> {
    let options = PgConnectOptions::from_str(url.expose()).map_err(|_| {
        // The parser's own text may quote the URL, which holds a password.
        StoreError::Schema(
            "database.url is not a Postgres URL: write postgres://user:password@host:5432/database".into(),
        )
    })?;
    Ok(options
        .application_name("vouchsafe")
        // A statement or lock that takes longer than any call may take would only pile up.
        .options([
            ("statement_timeout", "30s"),
            ("lock_timeout", "10s"),
            ("idle_in_transaction_session_timeout", "30s"),
        ])
        .disable_statement_logging())
}

/// One connection. Not out of a pool, because a pool hides why it has none.
pub(super) async fn connect(url: &SecretString) -> Result<Conn, StoreError> {
    match timeout(CONNECT_LIMIT, connect_options(url)?.connect()).await {
        Ok(connection) => Ok(connection?),
        Err(_) => Err(StoreError::Unavailable("it did not accept a connection in time".into())),
    }
}

/// The pools, empty at first.
pub(super) fn open(url: &SecretString, options: &Options) -> Result<Pools, StoreError> {
    let connect = connect_options(url)?;
    let pool = |connections| {
        PgPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(options.acquire_timeout)
            .connect_lazy_with(connect.clone())
    };
    let for_calls = pool(options.max_connections);
    Ok(Pools { write: for_calls.clone(), read: for_calls, feed: pool(1) })
}
