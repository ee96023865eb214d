//! A database for one test, and a back door into it.

use std::{env, os::unix::fs::PermissionsExt as _, time::Duration};

use futures_util::TryStreamExt as _;
use serde_json::json;
use sqlx::{
    AssertSqlSafe, ColumnIndex, Decode, Executor, IntoArguments, PgPool, Pool, Row as _, SqlitePool, Type,
    postgres::PgPoolOptions,
    sqlite::{SqliteConnectOptions, SqlitePoolOptions},
};
use tempfile::TempDir;
use uuid::Uuid;
use vouchsafe::{crypto::machine_date, domain::secret::SecretString, store::Location};

use super::template;

/// Which adapter a test runs against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backend {
    /// The embedded default.
    Sqlite,
    /// A server.
    Postgres,
    /// A server behind PgBouncer in transaction mode.
    PgBouncer,
    /// A server, and one Redis beside it.
    Redis,
    /// A server, and a Redis cluster beside it.
    Cluster,
}

impl Backend {
    /// Where its hot state is.
    fn hot_url(self) -> Option<String> {
        let variable = match self {
            Self::Sqlite | Self::Postgres | Self::PgBouncer => return None,
            Self::Redis => "VOUCHSAFE_TEST_REDIS_URL",
            Self::Cluster => "VOUCHSAFE_TEST_REDIS_CLUSTER_URL",
        };
        Some(env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set: run the tests with `make test`")))
    }
}

/// A database that one test has to itself.
#[derive(Debug)]
pub(crate) struct TestDatabase {
    location: Location,
    back_door: BackDoor,
    hot_url: Option<String>,
}

#[derive(Debug)]
enum BackDoor {
    Sqlite { pool: SqlitePool, folder: TempDir },
    Postgres { pool: PgPool, name: Option<String>, url: String },
}

impl TestDatabase {
    /// A database with the schema.
    pub(crate) async fn migrated(backend: Backend) -> Self {
        let database = match backend {
            Backend::Sqlite => Self::sqlite(Some(template::sqlite_file().await)),
            Backend::Postgres | Backend::PgBouncer | Backend::Redis | Backend::Cluster => {
                Self::postgres(backend, template::postgres_template().await).await
            }
        };
        let database = Self { hot_url: backend.hot_url(), ..database };
        if database.hot_url.is_some() {
            // The copies of a template share its feed's name, under which their nodes would hear each other in the Redis that
            // all tests share, and of tests long gone.
            database.execute("UPDATE feed_head SET incarnation = gen_random_uuid()").await;
        }
        database
    }

    /// A database with nothing in it.
    pub(crate) async fn empty(backend: Backend) -> Self {
        match backend {
            Backend::Sqlite => Self::sqlite(None),
            Backend::Postgres | Backend::PgBouncer | Backend::Redis | Backend::Cluster => {
                Self::postgres(backend, "template0").await
            }
        }
    }

    fn sqlite(content: Option<&[u8]>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vouchsafe.db");
        if let Some(content) = content {
            std::fs::write(&path, content).unwrap();
            // As the program makes it; it refuses one that others may read.
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        let options = SqliteConnectOptions::new().filename(&path).busy_timeout(Duration::from_mins(1));
        let pool = SqlitePoolOptions::new().max_connections(2).connect_lazy_with(options);
        Self { location: Location::Sqlite(path), back_door: BackDoor::Sqlite { pool, folder }, hot_url: None }
    }

    async fn postgres(backend: Backend, template: &str) -> Self {
        let name = template::fresh_name();
        let mut server = template::maintenance().await;
        // Left behind by an earlier process of the same number that was killed.
        template::run(&mut server, format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await;
        template::run(&mut server, format!("CREATE DATABASE {name} TEMPLATE {template}")).await;
        let url = template::url_of(&name);
        let pool = PgPoolOptions::new().max_connections(2).connect_lazy(&url).unwrap();
        let location = match backend {
            Backend::PgBouncer => Location::PgBouncer(SecretString::new(template::pgbouncer_url_of(&name))),
            _ => Location::Postgres(SecretString::new(url.clone())),
        };
        Self { location, back_door: BackDoor::Postgres { pool, name: Some(name), url }, hot_url: None }
    }

    /// A database on a Postgres of the test's own, which goes with its server.
    pub(crate) fn at(url: &str) -> Self {
        let pool = PgPoolOptions::new().max_connections(2).connect_lazy(url).unwrap();
        let location = Location::Postgres(SecretString::new(url.to_owned()));
        Self { location, back_door: BackDoor::Postgres { pool, name: None, url: url.to_owned() }, hot_url: None }
    }

    /// Where it is.
    pub(crate) fn location(&self) -> &Location {
        &self.location
    }

    /// Where the hot state of its nodes is.
    pub(crate) fn hot_url(&self) -> Option<&str> {
        self.hot_url.as_deref()
    }

    /// Where the schema is changed: never through PgBouncer.
    pub(crate) fn schema_location(&self) -> Location {
        match &self.back_door {
            BackDoor::Sqlite { .. } => self.location.clone(),
            BackDoor::Postgres { url, .. } => Location::Postgres(SecretString::new(url.clone())),
        }
    }

    /// Deletes it.
    pub(crate) async fn remove(&self) {
        match &self.back_door {
            BackDoor::Sqlite { pool, folder } => {
                pool.close().await;
                std::fs::remove_dir_all(folder.path()).unwrap();
            }
            BackDoor::Postgres { pool, name, .. } => {
                pool.close().await;
                let Some(name) = name else { return };
                let mut server = template::maintenance().await;
                template::run(&mut server, format!("DROP DATABASE {name} WITH (FORCE)")).await;
            }
        }
    }

    /// Changes rows behind the store's back. How many.
    pub(crate) async fn execute(&self, sql: &str) -> u64 {
        let sql = AssertSqlSafe(sql.to_owned());
        match &self.back_door {
            BackDoor::Sqlite { pool, .. } => sqlx::query(sql).execute(pool).await.unwrap().rows_affected(),
            BackDoor::Postgres { pool, .. } => sqlx::query(sql).execute(pool).await.unwrap().rows_affected(),
        }
    }

    /// Revokes sessions behind every node's back: in the feed, where the nodes find them.
    pub(crate) async fn revoke_sessions(&self, sessions: impl IntoIterator<Item = Uuid>) {
        let now = machine_date().as_micros();
        let mut head = self.integer("SELECT number FROM feed_head").await;
        let sessions: Vec<_> = sessions.into_iter().collect();
        for part in sessions.chunks(1_000) {
            let rows: Vec<_> = part
                .iter()
                .map(|session| {
                    head += 1;
                    let revocation = json!({ "kind": "session", "session": session });
                    format!("({head}, '{revocation}', {now}, {})", now + 3_600_000_000)
                })
                .collect();
            let sql = format!("INSERT INTO feed (number, revocation, time, expire_time) VALUES {}", rows.join(", "));
            assert_eq!(self.execute(&sql).await, part.len() as u64);
        }
        // What is beyond the head, no node reads.
        assert_eq!(self.execute(&format!("UPDATE feed_head SET number = {head}")).await, 1);
    }

    /// The one number that a query answers.
    pub(crate) async fn integer(&self, sql: &str) -> i64 {
        let values = match &self.back_door {
            BackDoor::Sqlite { pool, .. } => first_column::<_, i64>(pool, sql).await,
            BackDoor::Postgres { pool, .. } => first_column::<_, i64>(pool, sql).await,
        };
        assert_eq!(values.len(), 1, "{sql}");
        values[0]
    }

    /// The texts that a query answers; a missing one is empty.
    pub(crate) async fn texts(&self, sql: &str) -> Vec<String> {
        let values = match &self.back_door {
            BackDoor::Sqlite { pool, .. } => first_column::<_, Option<String>>(pool, sql).await,
            BackDoor::Postgres { pool, .. } => first_column::<_, Option<String>>(pool, sql).await,
        };
        values.into_iter().map(Option::unwrap_or_default).collect()
    }

    /// An id as a literal of this database's SQL.
    pub(crate) fn id(&self, id: &Uuid) -> String {
        match &self.back_door {
            BackDoor::Sqlite { .. } => format!("x'{}'", id.simple()),
            BackDoor::Postgres { .. } => format!("'{id}'::uuid"),
        }
    }

    /// Bytes as a literal of this database's SQL.
    pub(crate) fn bytes(&self, hex: &str) -> String {
        match &self.back_door {
            BackDoor::Sqlite { .. } => format!("x'{hex}'"),
            BackDoor::Postgres { .. } => format!("'\\x{hex}'::bytea"),
        }
    }

    /// Everything in a table, with what is no visible ASCII escaped, for looking whether something is in it.
    pub(crate) async fn dump(&self, table: &str) -> String {
        let bytes: Vec<u8> = match &self.back_door {
            BackDoor::Sqlite { pool, .. } => {
                let sql = AssertSqlSafe(format!("SELECT * FROM {table}"));
                let rows = sqlx::query(sql).fetch_all(pool).await.unwrap();
                let bytes = |row: &sqlx::sqlite::SqliteRow| -> Vec<u8> {
                    (0..row.len())
                        .flat_map(|i| row.get_unchecked::<Option<Vec<u8>>, _>(i).unwrap_or_default())
                        .collect()
                };
                rows.iter().flat_map(bytes).collect()
            }
            BackDoor::Postgres { pool, .. } => {
                let sql = format!("COPY {table} TO STDOUT (FORMAT binary)");
                let mut connection = pool.acquire().await.unwrap();
                let mut copy = connection.copy_out_raw(&sql).await.unwrap();
                let mut bytes = Vec::new();
                while let Some(chunk) = copy.try_next().await.unwrap() {
                    bytes.extend_from_slice(&chunk);
                }
                bytes
            }
        };
        bytes.escape_ascii().to_string()
    }

    /// The back door of a Postgres, for what only Postgres can be asked.
    pub(crate) fn postgres_pool(&self) -> Option<&PgPool> {
        match &self.back_door {
            BackDoor::Sqlite { .. } => None,
            BackDoor::Postgres { pool, .. } => Some(pool),
        }
    }
}

async fn first_column<D, T>(pool: &Pool<D>, sql: &str) -> Vec<T>
where
    D: sqlx::Database,
    D::Arguments: IntoArguments<D>,
    for<'c> &'c mut D::Connection: Executor<'c, Database = D>,
    usize: ColumnIndex<D::Row>,
    T: for<'r> Decode<'r, D> + Type<D>,
{
    let mut connection = pool.acquire().await.unwrap();
    let rows = sqlx::query::<D>(AssertSqlSafe(sql.to_owned())).fetch_all(&mut *connection).await.unwrap();
    rows.iter().map(|row| row.try_get::<T, _>(0).unwrap()).collect()
}
