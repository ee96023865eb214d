//! Imports: every row once, whatever breaks off.

use std::sync::Arc;

use uuid::Uuid;
use vouchsafe::{
    domain::{
        audit::Actor,
        id::UserId,
        role::{Permission, Permissions},
        time::Clock as _,
        user::{Identifier, UserState, Username},
        warrant::Warrant,
    },
    store::{
        Refused, StoreError,
        port::{ImportBatch, ImportProgress, ImportedBatch, NewUser, RowError},
    },
};

use super::world::{World, at_once, origin};

const IMPORT: Uuid = Uuid::from_u128(0x1111);

impl World {
    fn batch(&self, first_row: i64, names: &[&str]) -> ImportBatch {
        ImportBatch {
            import: IMPORT,
            first_row,
            rows: i64::try_from(names.len()).unwrap(),
            users: (first_row..).zip(names.iter().map(|name| self.new_user(name))).collect(),
            errors: Vec::new(),
            validate_only: false,
        }
    }

    /// A batch of so many users.
    pub(super) fn batch_of(&self, first_row: i64, count: usize) -> ImportBatch {
        let names: Vec<String> = (0..count).map(|n| format!("user-{n}")).collect();
        self.batch(first_row, &names.iter().map(String::as_str).collect::<Vec<_>>())
    }

    async fn import(&self, batch: ImportBatch) -> ImportedBatch {
        self.store.import_users(Warrant::OPERATOR, batch, origin()).await.unwrap()
    }

    async fn progress(&self) -> ImportProgress {
        self.store.import_progress(Warrant::OPERATOR, IMPORT).await.unwrap()
    }

    async fn users(&self) -> i64 {
        self.database.integer("SELECT COUNT(*) FROM users").await
    }

    /// Somebody who may import, and hold a role with these permissions besides.
    async fn importer(&self, permissions: &str) -> Warrant {
        let (role, now) = (format!("role-{}", self.users().await), 0);
        self.database
            .execute(&format!(
                "INSERT INTO roles (name, permissions, create_time, update_time) VALUES ('{role}', '{permissions}', {now}, {now})"
            ))
            .await;
        let mut new = self.new_user(&format!("importer-{role}"));
        new.user.roles = vec![role];
        let id = new.user.id;
        self.store.create_user(new, Vec::new()).await.unwrap();
        Warrant { actor: Actor::User(id), needs: "users:import", limit: None }
    }
}

fn refusal(error: StoreError) -> Refused {
    match error {
        StoreError::Refused(refused) => refused,
        other => panic!("{other}"),
    }
}

fn error(row: i64, field: &str, description: &str) -> RowError {
    RowError { row, field: field.into(), description: description.into() }
}

fn progress(next_row: i64, imported: i64, failed: i64) -> ImportProgress {
    ImportProgress { next_row, imported, failed }
}

pub(super) async fn imported_users_are_as_they_were_sent(w: Arc<World>) {
    let mut batch = w.batch(1, &["ada", "bob"]);
    batch.users[0].1.user.roles = vec!["admin".into(), "admin".into()];
    batch.users[0].1.user.create_time = batch.users[0].1.user.create_time.minus(std::time::Duration::from_hours(9));
    batch.users[1].1.user.state = UserState::Suspended;
    batch.users[1].1.user.username = None;
    batch.users[1].1.password_hash = None;
    batch.users[1].1.user.has_password = false;
    let serde_json::Value::Object(map) = serde_json::json!({ "plan": "gold", "n": 1.0 }) else { unreachable!() };
    batch.users[1].1.user.attributes = vouchsafe::domain::user::Attributes::new(map).unwrap();
    let sent: Vec<NewUser> = batch.users.iter().map(|(_, new)| new.clone()).collect();
    assert_eq!(w.import(batch).await.progress, progress(3, 2, 0));
    for NewUser { mut user, password_hash } in sent {
        user.roles.dedup();
        assert_eq!(w.store.get_user(user.id).await.unwrap(), Some(user.clone()));
        assert_eq!(w.store.get_credentials(user.id).await.unwrap().unwrap().password_hash, password_hash);
        let key = w.database.id(user.id.as_uuid());
        assert_eq!(w.database.integer(&format!("SELECT COUNT(*) FROM data_keys WHERE owner_id = {key}")).await, 1);
        let events = format!("SELECT COUNT(*) FROM audit_events WHERE act = 'user.imported' AND subject_id = {key}");
        assert_eq!(w.database.integer(&events).await, 1);
    }
    assert_eq!(w.details("user.imported").await[0]["import"], IMPORT.to_string());
}

pub(super) async fn a_row_that_cannot_be_stored_does_not_hold_up_the_others(w: Arc<World>) {
    w.user("ada").await;
    let mut batch = w.batch(1, &["ada", "bob", "bob", "carl", "dora", "eve"]);
    batch.users[3].1.user.email = w.new_user("other").user.email;
    batch.users[3].1.user.username = Some(Username::parse("ada").unwrap());
    batch.users[4].1.user.roles = vec!["no-such-role".into()];
    batch.rows = 7;
    batch.errors = vec![error(7, "email", "is not an address")];
    let done = w.import(batch).await;
    assert_eq!(done.progress, progress(8, 2, 5));
    let taken = "belongs to another account";
    let expected = [
        error(1, "email", taken),
        error(3, "email", taken),
        error(4, "username", taken),
        error(5, "roles", "names a role that does not exist"),
        error(7, "email", "is not an address"),
    ];
    assert_eq!(done.errors, expected);
    assert_eq!(w.store.import_errors(IMPORT, 100).await.unwrap(), expected);
    assert_eq!(w.store.import_errors(IMPORT, 2).await.unwrap(), expected[..2]);
    assert_eq!(w.count("user.imported").await, 2);
}

pub(super) async fn rows_that_were_handled_are_passed_over(w: Arc<World>) {
    assert_eq!(w.progress().await, ImportProgress::START);
    w.import(w.batch(1, &["ada", "bob"])).await;
    // The same rows once more, then some that overlap.
    let again = w.import(w.batch(1, &["ada", "bob"])).await;
    assert_eq!((again.progress, again.errors.len()), (progress(3, 2, 0), 0));
    assert_eq!(w.import(w.batch(2, &["bob", "carl"])).await.progress, progress(4, 3, 0));
    assert_eq!(w.progress().await, progress(4, 3, 0));
    let gap = w.store.import_users(Warrant::OPERATOR, w.batch(5, &["eve"]), origin()).await;
    assert_eq!(refusal(gap.unwrap_err()), Refused::ImportOutOfStep);
    assert_eq!((w.users().await, w.count("user.imported").await), (3, 3));
}

pub(super) async fn of_streams_that_send_the_same_rows_at_once_one_stores_them(w: Arc<World>) {
    let names: Vec<String> = (0..40).map(|n| format!("user-{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let batch = w.batch(1, &names);
    at_once(8, |_| {
        let (w, batch) = (Arc::clone(&w), batch.clone());
        async move { assert_eq!(w.import(batch).await.progress, progress(41, 40, 0)) }
    })
    .await;
    assert_eq!((w.users().await, w.count("user.imported").await), (40, 40));
    assert_eq!(w.store.import_errors(IMPORT, 9).await.unwrap(), []);
}

pub(super) async fn a_rehearsal_says_what_would_happen_and_stores_nothing(w: Arc<World>) {
    w.user("ada").await;
    let before = w.everything().await;
    let batch = ImportBatch { validate_only: true, ..w.batch(101, &["ada", "bob"]) };
    let done = w.import(batch).await;
    assert_eq!(done.progress, progress(103, 1, 1));
    assert_eq!(done.errors, [error(101, "email", "belongs to another account")]);
    assert_eq!(w.everything().await, before);
}

pub(super) async fn nobody_gives_by_import_what_they_do_not_hold(w: Arc<World>) {
    let import = async |warrant: &Warrant, id: u128, name: &str| {
        let mut batch = w.batch(1, &[name]);
        batch.import = Uuid::from_u128(id);
        batch.users[0].1.user.roles = vec!["admin".into()];
        w.store.import_users(warrant.clone(), batch, origin()).await.map(|done| done.errors)
    };
    let plain = w.importer(r#"["users:import"]"#).await;
    assert_eq!(
        import(&plain, 1, "a").await.unwrap(),
        [error(1, "roles", "cannot be given: you lack the permission roles:assign")]
    );
    let assigner = w.importer(r#"["users:import", "roles:assign"]"#).await;
    assert_eq!(
        import(&assigner, 2, "b").await.unwrap(),
        [error(1, "roles", "names a role that allows more than you may do")]
    );
    let all = w.importer(r#"["*"]"#).await;
    assert_eq!(import(&all, 3, "c").await.unwrap(), []);
    let limited = Warrant { limit: Some([Permission::parse("users:read").unwrap()].into_iter().collect()), ..all };
    assert_eq!(refusal(import(&limited, 4, "d").await.unwrap_err()), Refused::NotPermitted);
    let nobody = Warrant {
        actor: Actor::User(UserId::from_uuid(Uuid::from_u128(9))),
        limit: Some(Permissions::all()),
        ..limited
    };
    assert_eq!(refusal(import(&nobody, 5, "e").await.unwrap_err()), Refused::NotPermitted);
    let id = Identifier::Username(Username::parse("c").unwrap());
    let user = w.store.find_credentials(id).await.unwrap().unwrap().user;
    assert_eq!(w.store.get_user(user).await.unwrap().unwrap().roles, ["admin"]);
}

pub(super) async fn an_import_belongs_to_whoever_began_it(w: Arc<World>) {
    w.import(w.batch(1, &["ada"])).await;
    let other = w.importer(r#"["users:import"]"#).await;
    let resumed = w.store.import_users(other.clone(), w.batch(2, &["bob"]), origin()).await;
    assert_eq!(refusal(resumed.unwrap_err()), Refused::RequestIdReused);
    assert_eq!(refusal(w.store.import_progress(other, IMPORT).await.unwrap_err()), Refused::RequestIdReused);
}

pub(super) async fn an_import_that_nobody_goes_on_with_is_forgotten(w: Arc<World>) {
    let mut batch = w.batch(1, &["ada"]);
    batch.rows = 2;
    batch.errors = vec![error(2, "email", "is not an address")];
    w.import(batch).await;
    assert_eq!(w.store.purge_imports(w.clock.now()).await.unwrap(), 0);
    w.wait(std::time::Duration::from_secs(1));
    assert_eq!(w.store.purge_imports(w.clock.now()).await.unwrap(), 1);
    assert_eq!(w.progress().await, ImportProgress::START);
    assert_eq!((w.users().await, w.database.integer("SELECT COUNT(*) FROM import_errors").await), (1, 0));
}
