//! Migrated databases to copy from, so that a test pays for a copy and not for a migration.

use std::{
    env,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use tokio::sync::OnceCell;
use vouchsafe::{
    domain::secret::SecretString,
    store::{Location, Options, migrate},
};

/// Held while the template is made, by any process that shares the server.
const TEMPLATE_LOCK: i64 = 0x766f_7563;

/// How the tests hold connections: few, since many tests share a server, and patient, since they share two cores.
pub(crate) const OPTIONS: Options = Options { max_connections: 6, acquire_timeout: Duration::from_mins(1) };

/// The bytes of a migrated SQLite file.
pub(super) async fn sqlite_file() -> &'static [u8] {
    static BYTES: OnceCell<Vec<u8>> = OnceCell::const_new();
    BYTES
        .get_or_init(|| async {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("template.db");
            migrate(&Location::Sqlite(path.clone())).await.unwrap();
            std::fs::read(path).unwrap()
        })
        .await
}

/// A connection to the maintenance database of the tests' own Postgres.
pub(super) async fn maintenance() -> PgConnection {
    PgConnection::connect(&server_url()).await.expect("the Postgres of VOUCHSAFE_TEST_POSTGRES_URL answers")
}

/// The URL of another database on the same server.
pub(super) fn url_of(database: &str) -> String {
    with_database(&server_url(), database)
}

/// The same through PgBouncer.
pub(super) fn pgbouncer_url_of(database: &str) -> String {
    let url = env::var("VOUCHSAFE_TEST_PGBOUNCER_URL").expect(
        "VOUCHSAFE_TEST_PGBOUNCER_URL is not set: run the tests by `make test`, which starts a PgBouncer for them",
    );
    with_database(&url, database)
}

fn with_database(url: &str, database: &str) -> String {
    let (base, query) = url.split_once('?').map_or((url, None), |(base, query)| (base, Some(query)));
    let server = base.rsplit_once('/').expect("the URL names a database").0;
    query.map_or_else(|| format!("{server}/{database}"), |query| format!("{server}/{database}?{query}"))
}

fn server_url() -> String {
    env::var("VOUCHSAFE_TEST_POSTGRES_URL").expect(
        "VOUCHSAFE_TEST_POSTGRES_URL is not set: run the tests by `make test`, which starts a Postgres for them",
    )
}

/// A name that no other database of this server has.
pub(super) fn fresh_name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("vouchsafe_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::SeqCst))
}

/// The name of a migrated database. It is made once and found again by its migrations' hash; being complete, it is renamed
/// into place.
pub(super) async fn postgres_template() -> &'static str {
    static NAME: OnceCell<String> = OnceCell::const_new();
    NAME.get_or_init(|| async {
        let mut hasher = DefaultHasher::new();
        include_str!("../../../migrations/postgres/0001_initial.sql").hash(&mut hasher);
        include_str!("../../../migrations/postgres/0002_administration.sql").hash(&mut hasher);
        include_str!("../../../migrations/postgres/0003_revoked_keys.sql").hash(&mut hasher);
        include_str!("../../../migrations/postgres/0004_people.sql").hash(&mut hasher);
        include_str!("../../../migrations/postgres/0005_trust.sql").hash(&mut hasher);
        let name = format!("vouchsafe_template_{:016x}", hasher.finish());
        let mut server = maintenance().await;
        sqlx::query("SELECT pg_advisory_lock($1)").bind(TEMPLATE_LOCK).execute(&mut server).await.unwrap();
        let found: Option<(i32,)> = sqlx::query_as("SELECT 1 FROM pg_database WHERE datname = $1")
            .bind(&name)
            .fetch_optional(&mut server)
            .await
            .unwrap();
        if found.is_none() {
            run(&mut server, "DROP DATABASE IF EXISTS vouchsafe_template_unfinished WITH (FORCE)".into()).await;
            run(&mut server, "CREATE DATABASE vouchsafe_template_unfinished".into()).await;
            let unfinished = Location::Postgres(SecretString::new(url_of("vouchsafe_template_unfinished")));
            migrate(&unfinished).await.unwrap();
            // A connection that is being closed would be in the way of the renaming.
            let others = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity \
                          WHERE datname = 'vouchsafe_template_unfinished'";
            run(&mut server, others.into()).await;
            run(&mut server, format!("ALTER DATABASE vouchsafe_template_unfinished RENAME TO {name}")).await;
        }
        // Closing releases the lock.
        server.close().await.unwrap();
        name
    })
    .await
}

/// Runs a statement on the server.
pub(super) async fn run(server: &mut PgConnection, sql: String) {
    server.execute(AssertSqlSafe(sql)).await.unwrap();
}
