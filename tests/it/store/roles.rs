//! Roles: nobody gives a role, or takes from one, what they do not hold.

use std::{sync::Arc, time::Duration};

use vouchsafe::{
    domain::{
        audit::{Act, Actor},
        custom_claims::CustomClaims,
        id::{SessionId, UserId},
        revocation::Revocation,
        role::{Permission, Permissions, Role, RoleChange, RoleName},
        secret::random,
        time::Clock as _,
        user::Label,
        warrant::Warrant,
    },
    store::{
        Refused, StoreError,
        port::{CreateUser, NewRole},
    },
};

use super::world::{World, at_once, origin};

const NEEDS: &str = "roles:write";

fn name(text: &str) -> RoleName {
    RoleName::parse(text).unwrap()
}

fn permissions(list: &[&str]) -> Permissions {
    list.iter().map(|text| Permission::parse(text).unwrap()).collect()
}

fn new_role(role: &str, list: &[&str]) -> NewRole {
    let (name, description) = (name(role), Label::parse("What for").unwrap());
    NewRole { name, description, permissions: permissions(list), custom_claims: CustomClaims::default() }
}

fn allowing(list: &[&str]) -> RoleChange {
    RoleChange { permissions: Some(permissions(list)), ..RoleChange::default() }
}

fn described(text: &str) -> RoleChange {
    RoleChange { description: Some(Label::parse(text).unwrap()), ..RoleChange::default() }
}

/// A user who has these roles.
async fn holder(w: &World, who: &str, roles: &[&str]) -> UserId {
    let mut new = w.new_user(who);
    new.user.roles = roles.iter().map(|&role| role.to_owned()).collect();
    let (id, events) = (new.user.id, vec![w.event(Some(new.user.id), Act::Registered)]);
    assert_eq!(w.store.create_user(new, events).await.unwrap(), CreateUser::Created);
    id
}

fn warrant(user: UserId) -> Warrant {
    Warrant { actor: Actor::User(user), needs: NEEDS, limit: None }
}

/// Made by the operator, who may do everything.
async fn made(w: &World, role: &str, list: &[&str]) -> Role {
    w.store.create_role(new_role(role, list), Warrant::OPERATOR, origin()).await.unwrap()
}

async fn update(w: &World, role: &str, change: RoleChange, by: Warrant) -> Result<Role, StoreError> {
    w.store.update_role(name(role), change, None, by, origin()).await
}

fn refused<T: std::fmt::Debug>(answer: Result<T, StoreError>) -> Refused {
    match answer {
        Err(StoreError::Refused(refused)) => refused,
        other => panic!("not refused: {other:?}"),
    }
}

pub(super) async fn a_role_is_kept_as_it_was_created(w: Arc<World>) {
    let admin = holder(&w, "ada", &["admin"]).await;
    let role = w.store.create_role(new_role("clerk", &["b:x", "a:x"]), warrant(admin), origin()).await.unwrap();
    let now = w.clock.now();
    let expected = Role {
        name: name("clerk"),
        description: Label::parse("What for").unwrap(),
        custom_claims: CustomClaims::default(),
        permissions: permissions(&["a:x", "b:x"]),
        built_in: false,
        revision: role.revision,
        create_time: now,
        update_time: now,
    };
    assert_eq!(role, expected);
    assert_eq!(w.store.get_role(name("clerk")).await.unwrap(), Some(expected));
    assert_eq!(w.store.get_role(name("nobody")).await.unwrap(), None);
    assert_eq!(
        refused(w.store.create_role(new_role("clerk", &[]), warrant(admin), origin()).await),
        Refused::RoleExists
    );
    assert_eq!(
        w.details("role.created").await,
        [serde_json::json!({ "role": "clerk", "permissions": ["a:x", "b:x"] })]
    );
}

pub(super) async fn roles_are_listed_in_the_order_of_their_bytes(w: Arc<World>) {
    let names = ["a", "a-b", "a.b", "a_b", "aa", "admin", "b1", "b10", "b2"];
    for role in names.iter().rev().filter(|role| **role != "admin") {
        made(&w, role, &[]).await;
    }
    let list = async |after: Option<&str>, limit: u32| {
        let roles = w.store.list_roles(after.map(name), limit).await.unwrap();
        roles.iter().map(|role| role.name.as_str().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(list(None, 100).await, names);
    assert_eq!(list(None, 2).await, names[..2]);
    assert_eq!(list(Some("a-b"), 3).await, names[2..5]);
    assert_eq!(list(Some("a0"), 2).await, names[3..5], "after what is no role");
    assert_eq!(list(Some("b2"), 100).await, [""; 0]);
}

/// A keeper of roles, and what there is to keep.
async fn keeper(w: &World) -> Warrant {
    made(w, "keeper", &[NEEDS, "a:x"]).await;
    made(w, "inside", &["a:x"]).await;
    made(w, "outside", &["a:x", "b:x"]).await;
    made(w, "mighty", &["*"]).await;
    warrant(holder(w, "ada", &["keeper"]).await)
}

pub(super) async fn nobody_gives_a_role_what_they_do_not_hold(w: Arc<World>) {
    let keeper = keeper(&w).await;
    let before = w.everything().await;
    for list in [&["b:x"][..], &["a:x", "b:x"], &["*"]] {
        let created = w.store.create_role(new_role("new", list), keeper.clone(), origin()).await;
        assert_eq!(refused(created), Refused::ExceedsOwn, "{list:?}");
        for role in ["inside", "keeper"] {
            assert_eq!(
                refused(update(&w, role, allowing(list), keeper.clone()).await),
                Refused::ExceedsOwn,
                "{list:?}"
            );
        }
    }
    assert_eq!(w.everything().await, before);
    w.store.create_role(new_role("new", &["a:x"]), keeper.clone(), origin()).await.unwrap();
    update(&w, "inside", allowing(&["a:x", NEEDS]), keeper).await.unwrap();
}

pub(super) async fn nobody_takes_from_a_role_what_they_do_not_hold(w: Arc<World>) {
    let keeper = keeper(&w).await;
    let before = w.everything().await;
    for role in ["outside", "mighty"] {
        for change in [allowing(&[]), allowing(&["a:x"]), described("Mine now")] {
            assert_eq!(refused(update(&w, role, change, keeper.clone()).await), Refused::ExceedsOwn);
        }
        let deleted = w.store.delete_role(name(role), None, keeper.clone(), origin()).await;
        assert_eq!(refused(deleted), Refused::ExceedsOwn);
    }
    assert_eq!(w.everything().await, before);
    update(&w, "inside", allowing(&[]), keeper.clone()).await.unwrap();
    w.store.delete_role(name("inside"), None, keeper, origin()).await.unwrap();
}

pub(super) async fn a_token_s_limit_is_a_limit_here_too(w: Arc<World>) {
    let admin = holder(&w, "ada", &["admin"]).await;
    made(&w, "mighty", &["*"]).await;
    let limited = |list: &[&str]| Warrant { limit: Some(permissions(list)), ..warrant(admin) };
    let before = w.everything().await;
    let create = async |list: &[&str], by| w.store.create_role(new_role("new", list), by, origin()).await;
    assert_eq!(refused(create(&[], limited(&["a:x"])).await), Refused::NotPermitted);
    assert_eq!(refused(create(&[], limited(&[])).await), Refused::NotPermitted);
    assert_eq!(refused(create(&["a:x"], limited(&[NEEDS])).await), Refused::ExceedsOwn);
    assert_eq!(refused(update(&w, "mighty", allowing(&[]), limited(&[NEEDS])).await), Refused::ExceedsOwn);
    assert_eq!(w.everything().await, before);
    create(&["a:x"], limited(&[NEEDS, "a:x"])).await.unwrap();
}

pub(super) async fn who_lacks_the_permission_or_is_suspended_changes_nothing(w: Arc<World>) {
    made(&w, "reader", &["roles:read"]).await;
    made(&w, "clerk", &[]).await;
    let nobody = holder(&w, "eve", &["reader"]).await;
    let suspended = holder(&w, "bob", &["admin"]).await;
    w.suspend(suspended).await;
    let stranger = UserId::new(w.clock.now(), &random(&*w.entropy));
    let anonymous = Warrant { actor: Actor::Anonymous, needs: NEEDS, limit: None };
    let before = w.everything().await;
    for by in [warrant(nobody), warrant(suspended), warrant(stranger), anonymous] {
        let created = w.store.create_role(new_role("new", &[]), by.clone(), origin()).await;
        assert_eq!(refused(created), Refused::NotPermitted);
        assert_eq!(refused(update(&w, "clerk", described("Mine"), by.clone()).await), Refused::NotPermitted);
        assert_eq!(refused(update(&w, "missing", described("Mine"), by.clone()).await), Refused::NotPermitted);
        let deleted = w.store.delete_role(name("clerk"), None, by, origin()).await;
        assert_eq!(refused(deleted), Refused::NotPermitted);
    }
    assert_eq!(w.everything().await, before);
}

pub(super) async fn the_built_in_role_stays_as_it_is(w: Arc<World>) {
    let before = w.everything().await;
    for change in [allowing(&[]), allowing(&["*"]), described("Mine")] {
        assert_eq!(refused(update(&w, "admin", change, Warrant::OPERATOR).await), Refused::RoleBuiltIn);
    }
    let deleted = w.store.delete_role(name("admin"), None, Warrant::OPERATOR, origin()).await;
    assert_eq!(refused(deleted), Refused::RoleBuiltIn);
    assert_eq!(w.everything().await, before);
    let admin = w.store.get_role(name("admin")).await.unwrap().unwrap();
    assert!(admin.built_in && admin.permissions == Permissions::all());
}

pub(super) async fn a_change_of_what_a_role_allows_is_in_the_feed(w: Arc<World>) {
    let first = made(&w, "clerk", &["a:x"]).await;
    let bob = holder(&w, "bob", &["clerk"]).await;
    let session = w.sign_in(bob).await;
    assert_eq!(w.observer.entries(), []);
    w.wait(Duration::from_secs(1));
    let second = update(&w, "clerk", allowing(&["b:x"]), Warrant::OPERATOR).await.unwrap();
    let told = |w: &World| w.observer.entries().into_iter().map(|entry| entry.revocation).collect::<Vec<_>>();
    let entry = Revocation::Role { role: "clerk".into() };
    assert_eq!(told(&w), std::slice::from_ref(&entry));
    assert_eq!((second.create_time, second.update_time), (first.create_time, w.clock.now()));
    assert_eq!(w.granted(session, 0).await.held.permissions, permissions(&["b:x"]));
    let third = update(&w, "clerk", described("What for, then"), Warrant::OPERATOR).await.unwrap();
    assert_eq!(told(&w), [entry], "tokens say nothing of what it is for");
    assert!(first.revision != second.revision && second.revision != third.revision);
    let expected = serde_json::json!({ "role": "clerk", "permissions": ["b:x"] });
    assert_eq!(w.details("role.updated").await, [expected.clone(), expected]);
}

pub(super) async fn what_is_so_already_is_not_changed_again(w: Arc<World>) {
    let role = made(&w, "clerk", &["a:x"]).await;
    let before = w.everything().await;
    let same = RoleChange {
        description: Some(role.description.clone()),
        permissions: Some(role.permissions.clone()),
        custom_claims: Some(role.custom_claims.clone()),
    };
    for change in [same, allowing(&["a:x"]), described("What for"), RoleChange::default()] {
        assert_eq!(update(&w, "clerk", change, Warrant::OPERATOR).await.unwrap(), role);
    }
    assert_eq!(w.everything().await, before);
}

pub(super) async fn a_change_of_a_role_that_was_changed_meanwhile_is_refused(w: Arc<World>) {
    let first = made(&w, "clerk", &["a:x"]).await;
    let second = update(&w, "clerk", allowing(&["b:x"]), Warrant::OPERATOR).await.unwrap();
    let before = w.everything().await;
    for revision in [0, first.revision, second.revision + 1] {
        let (role, change) = (name("clerk"), allowing(&["b:x"]));
        let updated = w.store.update_role(role.clone(), change, Some(revision), Warrant::OPERATOR, origin()).await;
        assert_eq!(refused(updated), Refused::EtagMismatch);
        let deleted = w.store.delete_role(role, Some(revision), Warrant::OPERATOR, origin()).await;
        assert_eq!(refused(deleted), Refused::EtagMismatch);
    }
    assert_eq!(w.everything().await, before);
    w.store.delete_role(name("clerk"), Some(second.revision), Warrant::OPERATOR, origin()).await.unwrap();
    assert_eq!(refused(update(&w, "clerk", described("Gone"), Warrant::OPERATOR).await), Refused::NoRole);
}

pub(super) async fn a_role_that_was_made_again_is_another(w: Arc<World>) {
    let first = made(&w, "clerk", &["a:x"]).await;
    w.store.delete_role(name("clerk"), None, Warrant::OPERATOR, origin()).await.unwrap();
    w.wait(Duration::from_millis(1));
    made(&w, "clerk", &["a:x"]).await;
    let stale = w.store.delete_role(name("clerk"), Some(first.revision), Warrant::OPERATOR, origin()).await;
    assert_eq!(refused(stale), Refused::EtagMismatch);
}

pub(super) async fn a_role_that_somebody_has_is_not_deleted(w: Arc<World>) {
    for role in ["clerk", "robot", "free"] {
        made(&w, role, &[]).await;
    }
    holder(&w, "bob", &["clerk"]).await;
    let id = w.database.id(UserId::new(w.clock.now(), &random(&*w.entropy)).as_uuid());
    for sql in [
        format!(
            "INSERT INTO service_accounts (id, display_name, epoch, revision, create_time, update_time) \
             VALUES ({id}, 'robot', 0, 1, 0, 0)"
        ),
        format!("INSERT INTO service_account_roles (service_account_id, role, assign_time) VALUES ({id}, 'robot', 0)"),
    ] {
        assert_eq!(w.database.execute(&sql).await, 1);
    }
    let before = w.everything().await;
    for role in ["clerk", "robot"] {
        let deleted = w.store.delete_role(name(role), None, Warrant::OPERATOR, origin()).await;
        assert_eq!(refused(deleted), Refused::RoleInUse, "{role}");
    }
    assert_eq!(w.everything().await, before);
    w.store.delete_role(name("free"), None, Warrant::OPERATOR, origin()).await.unwrap();
    assert_eq!(w.count("role.deleted").await, 1);
}

pub(super) async fn of_20_changes_of_one_revision_exactly_one_is_made(w: Arc<World>) {
    let role = made(&w, "clerk", &[]).await;
    let answers = at_once(20, |i| {
        let (w, revision) = (Arc::clone(&w), Some(role.revision));
        async move {
            let change = allowing(&[&format!("a:x{i}")]);
            w.store.update_role(name("clerk"), change, revision, Warrant::OPERATOR, origin()).await
        }
    })
    .await;
    let (made, others): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!((made.len(), others.len()), (1, 19));
    assert!(others.into_iter().all(|answer| refused(answer) == Refused::EtagMismatch));
    assert_eq!((w.count("role.updated").await, w.observer.entries().len()), (1, 1));
}

pub(super) async fn of_20_creations_of_one_role_exactly_one_succeeds(w: Arc<World>) {
    let answers = at_once(20, |_| {
        let w = Arc::clone(&w);
        async move { w.store.create_role(new_role("clerk", &[]), Warrant::OPERATOR, origin()).await }
    })
    .await;
    let (made, others): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!((made.len(), others.len()), (1, 19));
    assert!(others.into_iter().all(|answer| refused(answer) == Refused::RoleExists));
    assert_eq!(w.count("role.created").await, 1);
}

pub(super) async fn a_role_is_given_or_deleted_and_never_both(w: Arc<World>) {
    let mut given = 0;
    for round in 0..30 {
        let role = format!("role{round}");
        made(&w, &role, &[]).await;
        let outcomes = at_once(2, |i| {
            let (w, role) = (Arc::clone(&w), role.clone());
            async move {
                // In turns, so that each comes first now and then.
                if (i + round) % 2 == 0 {
                    return w.store.delete_role(name(&role), None, Warrant::OPERATOR, origin()).await.map(|()| true);
                }
                let mut new = w.new_user(&format!("user{round}"));
                new.user.roles = vec![role];
                let events = vec![w.event(Some(new.user.id), Act::Registered)];
                w.store.create_user(new, events).await.map(|created| created == CreateUser::Created)
            }
        })
        .await;
        let holders = w.database.integer(&format!("SELECT COUNT(*) FROM user_roles WHERE role = '{role}'")).await;
        let there = w.store.get_role(name(&role)).await.unwrap().is_some();
        match (&outcomes[round % 2], &outcomes[1 - round % 2]) {
            (Ok(true), Err(_)) => assert_eq!((there, holders), (false, 0)),
            (Err(StoreError::Refused(Refused::RoleInUse)), Ok(true)) => {
                assert_eq!((there, holders), (true, 1));
                given += 1;
            }
            other => panic!("round {round}: {other:?}"),
        }
    }
    assert!((1..30).contains(&given), "one of them always came first: nothing was tested ({given})");
}

/// Whoever waits for the lock of the own role behind a change that takes something from it does not go by what was before.
pub(super) async fn what_was_taken_from_a_role_its_holder_does_not_put_back(w: Arc<World>) {
    made(&w, "keeper", &[NEEDS, "a:x"]).await;
    let ada = holder(&w, "ada", &["keeper"]).await;
    let mut too_late = 0;
    for round in 0..40 {
        update(&w, "keeper", allowing(&[NEEDS, "a:x"]), Warrant::OPERATOR).await.unwrap();
        let answers = at_once(2, |i| {
            let w = Arc::clone(&w);
            async move {
                if i == 0 {
                    return update(&w, "keeper", allowing(&[NEEDS]), Warrant::OPERATOR).await;
                }
                let description = described(&format!("Mine {round}")).description;
                let change = RoleChange { description, ..allowing(&[NEEDS, "a:x"]) };
                update(&w, "keeper", change, warrant(ada)).await
            }
        })
        .await;
        assert!(answers[0].is_ok());
        if answers[1].is_err() {
            too_late += 1;
        }
        let role = w.store.get_role(name("keeper")).await.unwrap().unwrap();
        assert_eq!(role.permissions, permissions(&[NEEDS]), "round {round}: {:?}", answers[1]);
    }
    assert!(too_late > 0, "the holder was never second: nothing was tested");
}

pub(super) async fn a_scope_is_found_by_its_session(w: Arc<World>) {
    let bob = w.user("bob").await;
    let session = w.sign_in(bob).await;
    assert_eq!(w.store.session_scope(session).await.unwrap().map(|scope| scope.to_string()), Some("read write".into()));
    let nobody = SessionId::new(w.clock.now(), &[9; 10]);
    assert_eq!(w.store.session_scope(nobody).await.unwrap(), None);
}
