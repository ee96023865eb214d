//! The store on Postgres.

use std::{str::FromStr, time::Duration};

use sqlx::{
    ConnectOptions as _, PgConnection, Postgres,
    migrate::Migrator,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use tokio::time::timeout;

use super::{StoreError, connect::Options, link::Manner};
use crate::domain::secret::SecretString;

/// The database of the queries.
pub(super) type Db = Postgres;
/// Its connection, outside of a pool.
pub(super) type Conn = PgConnection;

/// How a transaction begins. Every verb that reads before it writes locks the row, so the default isolation suffices. It
/// asks for the transaction's id, in case nobody hears how the transaction ended.
const DIRECT: Manner =
    Manner { begin: "BEGIN; SELECT pg_current_xact_id()::text", begin_reading: None, keeps_statements: true };

/// The same through PgBouncer in transaction mode: the next statement outside a transaction may go to another session,
/// which does not know what was prepared, nor any limit set before.
const POOLED: Manner = Manner {
    begin: "BEGIN; SET LOCAL statement_timeout = '30s'; SET LOCAL lock_timeout = '10s'; \
            SET LOCAL idle_in_transaction_session_timeout = '30s'; SELECT pg_current_xact_id()::text",
    begin_reading: Some(
        "BEGIN READ ONLY; SET LOCAL statement_timeout = '10s'; SET LOCAL idle_in_transaction_session_timeout = '30s'",
    ),
    keeps_statements: false,
};

/// What became of the transaction with the id `$1`: `committed`, `aborted`, `in progress`; NULL if that is long ago. It is
/// an error if this server knows of no such transaction.
pub(super) const OUTCOME: &str = "SELECT pg_xact_status($1::text::xid8)";

/// How many lanes the audit trail has, numbered from 0.
pub(super) const LANES: i64 = 64;

/// Nothing to do: the server cleans its files by itself (autovacuum), and its log when that is archived.
pub(super) const SCRUB: &str = "SELECT 0";

/// Bytes as SQL spells them, from their hexadecimal digits.
pub(super) fn bytes_literal(hex: &str) -> String {
    format!("decode('{hex}', 'hex')")
}

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

/// The same, and passes over rows that somebody else has locked.
macro_rules! for_update_of_free {
    () => {
        " FOR UPDATE SKIP LOCKED"
    };
}

/// The sorted role names of the user row `u`, as a JSON list.
macro_rules! roles_of_user {
    () => {
        "(SELECT COALESCE(json_agg(r.role ORDER BY r.role), '[]'::json) FROM user_roles r WHERE r.user_id = u.id)"
    };
}

/// The roles of the user row `u` and what they hold, as a JSON list of objects.
macro_rules! held_by_user {
    () => {
        "(SELECT COALESCE(json_agg(json_build_object('name', r.name, 'permissions', r.permissions, 'claims', r.custom_claims)), '[]'::json) \
         FROM user_roles ur JOIN roles r ON r.name = ur.role WHERE ur.user_id = u.id)"
    };
}

/// The roles of the service account row `a` and what they hold, as a JSON list of objects.
macro_rules! held_by_service {
    () => {
        "(SELECT COALESCE(json_agg(json_build_object('name', r.name, 'permissions', r.permissions, 'claims', r.custom_claims)), '[]'::json) \
         FROM service_account_roles ur JOIN roles r ON r.name = ur.role WHERE ur.service_account_id = a.id)"
    };
}

/// After a text that is compared: by its bytes, whatever the database's locale.
macro_rules! in_byte_order {
    () => {
        " COLLATE \"C\""
    };
}

/// The database's own time in microseconds since the epoch.
macro_rules! database_time {
    () => {
        "(extract(epoch FROM clock_timestamp()) * 1000000)::BIGINT"
    };
}

/// Whether a column of ids is among those of a parameter, a JSON list of UUIDs.
macro_rules! is_listed {
    ($column:literal, $ids:literal) => {
        concat!($column, " = ANY(ARRAY(SELECT jsonb_array_elements_text(", $ids, ")::uuid))")
    };
}

/// The rows of a parameter that is a JSON list of refresh-token families, as the table `w`.
macro_rules! listed_families {
    ($families:literal) => {
        concat!(
            "jsonb_to_recordset(",
            $families,
            ") AS w(id uuid, generation bigint, generation_time bigint, refresh_key bigint, late_streak bigint, \
             late_now boolean)"
        )
    };
}

/// A role `r` as a JSON object.
macro_rules! role_object {
    () => {
        "json_build_object('name', r.name, 'permissions', r.permissions, 'claims', r.custom_claims)"
    };
}

/// Whether a column is among the texts of a parameter, a JSON list.
macro_rules! is_among {
    ($column:literal, $texts:literal) => {
        concat!($column, " = ANY(ARRAY(SELECT jsonb_array_elements_text(", $texts, ")))")
    };
}

/// Whether a column of bytes is among those of a parameter, a JSON list of hexadecimal digits.
macro_rules! is_listed_hex {
    ($column:literal, $list:literal) => {
        concat!($column, " = ANY(ARRAY(SELECT decode(jsonb_array_elements_text(", $list, "), 'hex')))")
    };
}

/// The texts of a column that is a JSON list, as the column `value` of the table `r`.
macro_rules! elements {
    ($list:literal) => {
        concat!("jsonb_array_elements_text(", $list, ") AS r(value)")
    };
}

/// The bytes that a column of hexadecimal digits stands for.
macro_rules! from_hex {
    ($column:literal) => {
        concat!("decode(", $column, ", 'hex')")
    };
}

/// The rows of a parameter that is a JSON list of users, as the table `w`.
macro_rules! listed_users {
    ($users:literal) => {
        concat!(
            "jsonb_to_recordset(",
            $users,
            ") AS w(id uuid, email text, email_key text, email_verified_time bigint, username text, display_name text, \
             password_hash text, state text, epoch bigint, attributes jsonb, custom_claims jsonb, \
             create_time bigint)"
        )
    };
}

/// The rows of a parameter that is a JSON list of what goes with new users, as the table `w`.
macro_rules! listed_followers {
    ($followers:literal) => {
        concat!("jsonb_to_recordset(", $followers, ") AS w(id uuid, key text, roles jsonb)")
    };
}

/// The rows of a parameter that is a JSON list of audit events, as the table `w`.
macro_rules! listed_events {
    ($events:literal) => {
        concat!(
            "jsonb_to_recordset(",
            $events,
            ") AS w(id uuid, time bigint, act text, succeeded boolean, actor text, actor_id uuid, subject_id uuid, \
             session_id uuid, request_id text, detail jsonb, personal_sealed text, lane bigint, position bigint, hash text)"
        )
    };
}

/// The rows of a parameter that is a JSON list of places of audit events, as the table `w`.
macro_rules! listed_places {
    ($places:literal) => {
        concat!("jsonb_to_recordset(", $places, ") AS w(id uuid, lane bigint, position bigint, hash text)")
    };
}

/// Whether a column is among the ids that a query selects and locks; rows that somebody else has locked are passed over. The
/// query runs once, whatever the planner would rather do with one that has a limit.
macro_rules! is_among_taken {
    ($column:literal, $query:expr) => {
        concat!($column, " = ANY(ARRAY(", $query, " FOR UPDATE SKIP LOCKED))")
    };
}

#[path = "queries/mod.rs"]
#[expect(clippy::duplicate_mod, reason = "one set of queries, compiled once for each database")]
mod queries;

pub(super) use queries::{Database, Pools};

/// The migrations, compiled in.
pub(super) fn migrator() -> Migrator {
    super::connect::migrator([
        (1, "initial", include_str!("../../migrations/postgres/0001_initial.sql")),
        (2, "administration", include_str!("../../migrations/postgres/0002_administration.sql")),
        (3, "revoked_keys", include_str!("../../migrations/postgres/0003_revoked_keys.sql")),
        (4, "people", include_str!("../../migrations/postgres/0004_people.sql")),
        (5, "trust", include_str!("../../migrations/postgres/0005_trust.sql")),
    ])
}

fn connect_options(url: &SecretString) -> Result<PgConnectOptions, StoreError> {
    let options = PgConnectOptions::from_str(url.expose()).map_err(|_| {
        // The parser's own text may quote the URL, which holds a password.
        StoreError::Schema(
            "database.url is not a Postgres URL: write postgres://user:password@host:5432/database".into(),
        )
    })?;
    Ok(options.application_name("vouchsafe").disable_statement_logging())
}

/// Straight to the server, in sessions of our own.
fn direct(url: &SecretString) -> Result<PgConnectOptions, StoreError> {
    // A statement or lock that takes longer than any call may take would only pile up.
    Ok(connect_options(url)?.options([
        ("statement_timeout", "30s"),
        ("lock_timeout", "10s"),
        ("idle_in_transaction_session_timeout", "30s"),
    ]))
}

/// Through PgBouncer, which refuses a connection that wants more of its session than a few things.
fn pooled(url: &SecretString) -> Result<PgConnectOptions, StoreError> {
    Ok(connect_options(url)?.extra_float_digits(None).statement_cache_capacity(0))
}

/// One connection. Not out of a pool, because a pool hides why it has none.
pub(super) async fn connect(url: &SecretString) -> Result<Conn, StoreError> {
    connect_with(direct(url)?).await
}

/// The same through PgBouncer.
pub(super) async fn connect_pooled(url: &SecretString) -> Result<Conn, StoreError> {
    connect_with(pooled(url)?).await
}

async fn connect_with(options: PgConnectOptions) -> Result<Conn, StoreError> {
    match timeout(CONNECT_LIMIT, options.connect()).await {
        Ok(connection) => Ok(connection?),
        Err(_) => Err(StoreError::Unavailable("it did not accept a connection in time".into())),
    }
}

/// The pools, empty at first.
pub(super) fn open(url: &SecretString, options: &Options) -> Result<Pools, StoreError> {
    Ok(pools(&direct(url)?, options, DIRECT))
}

/// The same through PgBouncer.
pub(super) fn open_pooled(url: &SecretString, options: &Options) -> Result<Pools, StoreError> {
    Ok(pools(&pooled(url)?, options, POOLED))
}

fn pools(connect: &PgConnectOptions, options: &Options, manner: Manner) -> Pools {
    let pool = |connections| {
        PgPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(options.acquire_timeout)
            .connect_lazy_with(connect.clone())
    };
    let for_calls = pool(options.max_connections);
    Pools { write: for_calls.clone(), read: for_calls, feed: pool(1), manner }
}
