//! Migrations, and what a program says to a database that does not fit it.

use std::sync::Arc;

use vouchsafe::{
    domain::secret::SecretString,
    store::{Location, SCHEMA_VERSION, StoreError, check_schema, migrate},
};

use super::world::{World, at_once};
use crate::support::{Backend, TestDatabase};

fn advice(error: StoreError) -> String {
    match error {
        StoreError::Schema(text) => text,
        other => panic!("{other:?}"),
    }
}

impl TestDatabase {
    async fn check(&self) -> Result<(), StoreError> {
        check_schema(self.location()).await
    }

    async fn migrate(&self) -> Result<(), StoreError> {
        migrate(&self.schema_location()).await
    }
}

/// An empty database of the same kind as the world's.
async fn empty(w: &World) -> TestDatabase {
    let backend = match w.database.location() {
        Location::Sqlite(_) => Backend::Sqlite,
        Location::Postgres(_) => Backend::Postgres,
        Location::PgBouncer(_) => Backend::PgBouncer,
    };
    TestDatabase::empty(backend).await
}

pub(super) async fn a_database_without_schema_is_sent_to_migrate(w: Arc<World>) {
    let database = empty(&w).await;
    assert!(advice(database.check().await.unwrap_err()).contains("run `vouchsafe migrate`"));
    database.migrate().await.unwrap();
    database.check().await.unwrap();
    database.remove().await;
}

pub(super) async fn a_schema_for_newer_programs_asks_for_one(w: Arc<World>) {
    let newer = SCHEMA_VERSION + 1;
    w.database.execute(&format!("UPDATE schema_compatibility SET oldest_reader = {newer}")).await;
    let before = w.everything().await;
    for error in [w.database.check().await.unwrap_err(), w.database.migrate().await.unwrap_err()] {
        let advice = advice(error);
        assert!(advice.contains("run a newer vouchsafe") && advice.contains(&format!("version {newer}")), "{advice}");
    }
    assert_eq!(w.everything().await, before);
}

pub(super) async fn a_newer_schema_that_this_program_can_read_is_welcome(w: Arc<World>) {
    let added = w
        .database
        .execute(&format!(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
             SELECT {SCHEMA_VERSION} + 1, 'later', success, checksum, 0 FROM _sqlx_migrations WHERE version = 1"
        ))
        .await;
    assert_eq!(added, 1);
    w.database.check().await.unwrap();
    w.database.migrate().await.unwrap();
}

pub(super) async fn a_half_done_schema_is_sent_to_migrate_or_to_its_backup(w: Arc<World>) {
    let newest = format!("UPDATE _sqlx_migrations SET success = FALSE WHERE version = {SCHEMA_VERSION}");
    assert_eq!(w.database.execute(&newest).await, 1);
    assert!(advice(w.database.check().await.unwrap_err()).contains("run `vouchsafe migrate`"));
    assert!(advice(w.database.migrate().await.unwrap_err()).contains("half done"));
}

pub(super) async fn a_migration_in_another_form_is_refused(w: Arc<World>) {
    let checksum = w.database.bytes("00");
    let changed =
        w.database.execute(&format!("UPDATE _sqlx_migrations SET checksum = {checksum} WHERE version = 1")).await;
    assert_eq!(changed, 1);
    assert!(advice(w.database.migrate().await.unwrap_err()).contains("another form"));
}

pub(super) async fn migrating_again_changes_nothing(w: Arc<World>) {
    w.user("ada").await;
    let before = w.everything().await;
    for _ in 0..2 {
        w.database.migrate().await.unwrap();
    }
    assert_eq!(w.everything().await, before);
}

pub(super) async fn nodes_that_migrate_at_once_do_it_once(w: Arc<World>) {
    for _ in 0..3 {
        let database = Arc::new(empty(&w).await);
        at_once(4, |_| {
            let database = Arc::clone(&database);
            async move {
                database.migrate().await.unwrap();
            }
        })
        .await;
        database.check().await.unwrap();
        assert_eq!(database.integer("SELECT COUNT(*) FROM _sqlx_migrations").await, SCHEMA_VERSION);
        assert_eq!(database.integer("SELECT COUNT(*) FROM feed_head").await, 1);
        database.remove().await;
    }
}

pub(super) async fn a_database_that_is_not_there_is_unavailable(w: Arc<World>) {
    let nowhere = match w.database.location() {
        Location::Sqlite(path) => Location::Sqlite(path.join("not-a-folder").join("vouchsafe.db")),
        // A port that nobody can listen on.
        Location::Postgres(_) | Location::PgBouncer(_) => {
            Location::Postgres(SecretString::new("postgres://x:y@127.0.0.1:1/z".into()))
        }
    };
    for error in [check_schema(&nowhere).await.unwrap_err(), migrate(&nowhere).await.unwrap_err()] {
        assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
        assert!(!error.to_string().contains("x:y"), "no password in an error");
    }
}
