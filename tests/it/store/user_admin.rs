//! Users, as administrators manage them: what must hold in the store itself.

use std::{sync::Arc, time::Duration};

use uuid::Uuid;
use vouchsafe::{
    domain::{
        audit::Actor,
        id::UserId,
        role::Permission,
        time::Clock as _,
        user::{ADMIN_ROLE, PhcString, User, UserState},
        users::UserChange,
        warrant::Warrant,
    },
    store::{
        Refused, StoreError,
        port::{CreateRequest, CreateUser, NewUser, UserAct, UserAddition},
    },
};

use super::world::{World, at_once, origin};

/// A user with a role.
async fn with_role(world: &World, name: &str, role: &str) -> UserId {
    let mut new = world.new_user(name);
    new.user.roles = vec![role.to_owned()];
    let id = new.user.id;
    assert_eq!(world.store.create_user(new, Vec::new()).await.unwrap(), CreateUser::Created);
    id
}

fn act(by: UserId, on: UserId) -> UserAct {
    let warrant = Warrant { actor: Actor::User(by), needs: "users:write", limit: None };
    UserAct { warrant, user: on, origin: origin() }
}

fn addition(new: NewUser, request: Option<CreateRequest>) -> UserAddition {
    UserAddition { warrant: Warrant::OPERATOR, new, request, origin: origin() }
}

fn refused<T: std::fmt::Debug>(answer: Result<T, StoreError>) -> Refused {
    match answer.unwrap_err() {
        StoreError::Refused(refused) => refused,
        other => panic!("{other:?}"),
    }
}

pub(super) async fn whoever_lacks_the_permission_changes_nothing(world: Arc<World>) {
    let sql =
        "INSERT INTO roles (name, permissions, create_time, update_time) VALUES ('reader', '[\"users:read\"]', 0, 0)";
    world.database.execute(sql).await;
    let reader = with_role(&world, "reader", "reader").await;
    let nobody = world.user("grace").await;
    let ada = world.user("ada").await;
    world.sign_in(ada).await;
    let before = world.everything().await;
    let change = UserChange { username: Some(None), ..UserChange::default() };
    let store = &world.store;
    for by in [reader, nobody, UserId::from_uuid(Uuid::nil())] {
        let limited =
            Warrant { limit: Some([Permission::parse("a:b").unwrap()].into_iter().collect()), ..act(by, ada).warrant };
        for act in [act(by, ada), UserAct { warrant: limited, ..act(by, ada) }] {
            let new = UserAddition { warrant: act.warrant.clone(), ..addition(world.new_user("new"), None) };
            assert_eq!(refused(store.add_user(new).await), Refused::NotPermitted);
            let state = UserState::Suspended;
            let hash = PhcString::new("x".into());
            assert_eq!(refused(store.update_user(act.clone(), None, change.clone()).await), Refused::NotPermitted);
            assert_eq!(refused(store.set_user_state(act.clone(), state).await), Refused::NotPermitted);
            assert_eq!(
                refused(store.set_user_password(act.clone(), hash, Vec::new(), None).await),
                Refused::NotPermitted
            );
            assert_eq!(refused(store.end_user_sessions(act.clone(), None).await), Refused::NotPermitted);
            assert_eq!(refused(store.assign_role(act.clone(), "reader".into()).await), Refused::NotPermitted);
            assert_eq!(refused(store.unassign_role(act.clone(), "reader".into()).await), Refused::NotPermitted);
            assert_eq!(refused(store.delete_user(act.clone(), None).await), Refused::NotPermitted);
        }
    }
    assert_eq!(world.everything().await, before);
}

pub(super) async fn of_administrators_who_remove_each_other_one_remains(world: Arc<World>) {
    let other_node = world.another_node().await;
    let mut round = 0;
    let mut ids = Vec::new();
    for _ in 0..12 {
        while ids.len() < 4 {
            round += 1;
            ids.push(with_role(&world, &format!("admin{round}"), ADMIN_ROLE).await);
        }
        let outcomes = at_once(ids.len(), |n| {
            let store = if n % 2 == 0 { Arc::clone(&world.store) } else { Arc::clone(&other_node) };
            let (by, on) = (ids[n], ids[(n + 1) % ids.len()]);
            let act = UserAct { warrant: Warrant { needs: "*", ..act(by, on).warrant }, ..act(by, on) };
            async move {
                match n % 3 {
                    0 => store.set_user_state(act, UserState::Suspended).await.map(|_| ()),
                    1 => store.unassign_role(act, ADMIN_ROLE.into()).await.map(|_| ()),
                    _ => store.delete_user(act, None).await.map(|_| ()),
                }
            }
        })
        .await;
        for outcome in outcomes {
            if outcome.is_err() {
                assert!(matches!(
                    refused(outcome),
                    Refused::LastAdministrator | Refused::NotPermitted | Refused::NoUser
                ));
            }
        }
        let mut left = Vec::new();
        for id in &ids {
            let user = world.store.get_user(*id).await.unwrap();
            let counts = |user: &User| user.state == UserState::Active && user.roles == [ADMIN_ROLE];
            if user.as_ref().is_some_and(counts) {
                left.push(*id);
            }
        }
        assert!(!left.is_empty(), "nobody is left");
        ids = left;
    }
    other_node.close().await;
}

pub(super) async fn a_creation_is_known_again_for_a_day(world: Arc<World>) {
    let day = Duration::from_hours(24);
    let request = |world: &World, fingerprint: u8| {
        let forgotten = world.clock.now().minus(day);
        Some(CreateRequest { id: Uuid::nil(), fingerprint: vec![fingerprint], forgotten })
    };
    let first = world.store.add_user(addition(world.new_user("ada"), request(&world, 1))).await.unwrap();
    let again = addition(world.new_user("ada"), request(&world, 1));
    assert_eq!(world.store.add_user(again).await.unwrap(), first);
    let other = addition(world.new_user("grace"), request(&world, 2));
    assert_eq!(refused(world.store.add_user(other).await), Refused::RequestIdReused);
    world.wait(day + Duration::from_micros(1));
    let later = addition(world.new_user("grace"), request(&world, 2));
    assert_eq!(world.store.add_user(later).await.unwrap().username.unwrap().as_str(), "grace");

    let count = || world.database.integer("SELECT COUNT(*) FROM create_requests");
    let now = world.clock.now();
    assert_eq!(world.store.purge_create_requests(now).await.unwrap(), 0);
    assert_eq!(count().await, 1);
    assert_eq!(world.store.purge_create_requests(now.plus(Duration::from_micros(1))).await.unwrap(), 1);
    assert_eq!(count().await, 0);
}

pub(super) async fn roles_given_and_taken_at_once_end_no_session(world: Arc<World>) {
    let admin = with_role(&world, "root", ADMIN_ROLE).await;
    let ada = world.user("ada").await;
    let session = world.sign_in(ada).await;
    at_once(20, |n| {
        let (store, act) = (
            Arc::clone(&world.store),
            UserAct { warrant: Warrant { needs: "roles:assign", ..act(admin, ada).warrant }, ..act(admin, ada) },
        );
        let attempt = world.attempt(session, 0);
        async move {
            match n % 4 {
                0 => drop(store.assign_role(act, ADMIN_ROLE.into()).await.unwrap()),
                1 => drop(store.unassign_role(act, ADMIN_ROLE.into()).await.unwrap()),
                _ => drop(super::world::granted(store.refresh(attempt).await.unwrap())),
            }
        }
    })
    .await;
    assert_eq!(world.live(ada).await, [session]);
    let changes = world.count("role.assigned").await + world.count("role.unassigned").await;
    let user = world.store.get_user(ada).await.unwrap().unwrap();
    assert_eq!((user.epoch, user.revision), (changes, changes + 1), "one of each for every change");
}
