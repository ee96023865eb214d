//! Accounts: unique keys, roles, credentials.

use std::{collections::BTreeSet, sync::Arc};

use vouchsafe::{
    domain::{
        audit::Act,
        email::Email,
        id::UserId,
        time::{Clock as _, Timestamp},
        user::{Identifier, Label, User, UserState, Username},
    },
    store::port::{CreateUser, NewUser},
};

use super::world::{World, at_once};

async fn create(w: &World, new: NewUser) -> CreateUser {
    let events = vec![w.event(Some(new.user.id), Act::Registered)];
    w.store.create_user(new, events).await.unwrap()
}

pub(super) async fn an_account_is_found_again_as_it_was_created(w: Arc<World>) {
    let mut new = w.new_user("ada");
    new.user.email = Email::parse("Ada.L+x@BÜCHER.example").unwrap();
    new.user.email_verified_time = Some(Timestamp::from_micros(1_234_567));
    new.user.display_name = Label::parse("Ada „Countess“ Lovelace 🦀").unwrap();
    new.user.roles = vec!["admin".into()];
    new.user.epoch = 3;
    let user = new.user.clone();
    assert_eq!(create(&w, new).await, CreateUser::Created);
    assert_eq!(w.store.get_user(user.id).await.unwrap(), Some(user));
}

pub(super) async fn an_account_needs_neither_user_name_nor_roles(w: Arc<World>) {
    for name in ["ada", "grace"] {
        let mut new = w.new_user(name);
        new.user.username = None;
        let user = new.user.clone();
        assert_eq!(create(&w, new).await, CreateUser::Created, "two without a user name do not collide");
        assert_eq!(w.store.get_user(user.id).await.unwrap(), Some(user));
    }
}

pub(super) async fn get_user_lists_roles_in_order(w: Arc<World>) {
    w.database
        .execute("INSERT INTO roles (name, permissions, create_time, update_time) VALUES ('zoo', '[]', 0, 0), ('ape', '[]', 0, 0)")
        .await;
    let mut new = w.new_user("ada");
    new.user.roles = vec!["zoo".into(), "admin".into(), "ape".into()];
    let id = new.user.id;
    create(&w, new).await;
    let user: User = w.store.get_user(id).await.unwrap().unwrap();
    assert_eq!(user.roles, ["admin", "ape", "zoo"]);
}

pub(super) async fn an_unknown_id_is_nobody(w: Arc<World>) {
    w.user("ada").await;
    let nobody = UserId::new(w.clock.now(), &[9; 10]);
    assert_eq!(w.store.get_user(nobody).await.unwrap(), None);
    assert!(w.store.get_credentials(nobody).await.unwrap().is_none());
}

pub(super) async fn create_user_reports_taken_email(w: Arc<World>) {
    w.user("ada").await;
    let before = w.everything().await;
    let mut twin = w.new_user("ada2");
    twin.user.email = Email::parse(" ADA@Example.COM").unwrap();
    assert_eq!(create(&w, twin).await, CreateUser::EmailTaken);
    assert_eq!(w.everything().await, before, "no event and no data key of an account that does not exist");
}

pub(super) async fn create_user_reports_taken_user_name(w: Arc<World>) {
    w.user("ada").await;
    let before = w.everything().await;
    let mut twin = w.new_user("grace");
    twin.user.username = Some(Username::parse("ADA").unwrap());
    assert_eq!(create(&w, twin).await, CreateUser::UsernameTaken);
    assert_eq!(w.everything().await, before);
}

pub(super) async fn of_50_creations_of_one_address_exactly_one_succeeds(w: Arc<World>) {
    let outcomes = at_once(50, |i| {
        let w = Arc::clone(&w);
        async move {
            let mut new = w.new_user(&format!("ada{i}"));
            new.user.email = Email::parse(if i % 2 == 0 { "ada@example.com" } else { "ADA@EXAMPLE.COM" }).unwrap();
            create(&w, new).await
        }
    })
    .await;
    assert_eq!(outcomes.iter().filter(|o| **o == CreateUser::Created).count(), 1);
    assert_eq!(outcomes.iter().filter(|o| **o == CreateUser::EmailTaken).count(), 49);
    for table in ["users", "data_keys", "audit_events"] {
        assert_eq!(w.database.integer(&format!("SELECT COUNT(*) FROM {table}")).await, 1, "{table}");
    }
}

pub(super) async fn of_50_creations_of_one_user_name_exactly_one_succeeds(w: Arc<World>) {
    let outcomes = at_once(50, |i| {
        let w = Arc::clone(&w);
        async move {
            let mut new = w.new_user(&format!("ada{i}"));
            new.user.username = Some(Username::parse("ada").unwrap());
            create(&w, new).await
        }
    })
    .await;
    assert_eq!(outcomes.iter().filter(|o| **o == CreateUser::Created).count(), 1);
    assert_eq!(outcomes.iter().filter(|o| **o == CreateUser::UsernameTaken).count(), 49);
}

pub(super) async fn concurrent_creations_of_different_accounts_all_succeed(w: Arc<World>) {
    let outcomes = at_once(50, |i| {
        let w = Arc::clone(&w);
        async move { w.user(&format!("ada{i}")).await }
    })
    .await;
    assert_eq!(outcomes.into_iter().collect::<BTreeSet<_>>().len(), 50);
    assert_eq!(w.count("user.registered").await, 50);
}

pub(super) async fn an_account_with_an_unknown_role_leaves_nothing_behind(w: Arc<World>) {
    let before = w.everything().await;
    let mut new = w.new_user("ada");
    new.user.roles = vec!["admin".into(), "no-such-role".into()];
    let events = vec![w.event(Some(new.user.id), Act::Registered)];
    assert!(w.store.create_user(new, events).await.is_err());
    assert_eq!(w.everything().await, before);
    w.user("ada").await;
}

pub(super) async fn credentials_are_found_by_address_user_name_and_id(w: Arc<World>) {
    let ada = w.user("ada").await;
    w.user("grace").await;
    for typed in ["ada@example.com", "ADA@EXAMPLE.com", "ada", "Ada"] {
        let found = w.store.find_credentials(Identifier::parse(typed).unwrap()).await.unwrap().expect(typed);
        assert_eq!((found.user, found.state, found.epoch), (ada, UserState::Active, 0), "{typed}");
        assert_eq!(found.password_hash.unwrap().expose(), "hash of ada", "{typed}");
    }
    let found = w.store.get_credentials(ada).await.unwrap().unwrap();
    assert_eq!((found.user, found.password_hash.unwrap().expose()), (ada, "hash of ada"));
    for typed in ["nobody@example.com", "nobody"] {
        assert!(w.store.find_credentials(Identifier::parse(typed).unwrap()).await.unwrap().is_none(), "{typed}");
    }
}

pub(super) async fn credentials_say_that_an_account_is_suspended_or_has_no_password(w: Arc<World>) {
    let ada = w.user("ada").await;
    w.suspend(ada).await;
    w.database.execute("UPDATE users SET password_hash = NULL").await;
    let found = w.store.find_credentials(Identifier::parse("ada").unwrap()).await.unwrap().unwrap();
    assert_eq!(found.state, UserState::Suspended);
    assert!(found.password_hash.is_none());
}

pub(super) async fn a_word_that_no_version_writes_is_a_corrupt_row_and_not_a_missing_one(w: Arc<World>) {
    let ada = w.user("ada").await;
    let session = w.sign_in(ada).await;
    let damage = w.database.execute("UPDATE sessions SET scope = 'a\"b'").await;
    assert_eq!(damage, 1);
    let error = w.store.refresh(w.attempt(session, 0)).await.unwrap_err();
    assert_eq!(error.to_string(), "corrupt row: sessions.scope: not a list of names");
}
