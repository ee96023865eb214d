//! Service accounts: who may manage them, how they are known, and what ends with what.

use std::{sync::Arc, time::Duration};

use uuid::Uuid;
use vouchsafe::{
    domain::{
        audit::Actor,
        id::{ServiceAccountId, TokenId, UserId},
        revocation::Revocation,
        secret::random,
        service_account::{ClientProof, PresentedSecret, SecretHash, ServiceAccount},
        spiffe::SpiffeId,
        time::Clock as _,
        user::Label,
        warrant::Warrant,
    },
    store::{
        Refused, StoreError,
        port::{
            CreateRequest, KnownService, NewSecret, NewServiceAccount, ServiceAccountChange, Store, TokenRevocation,
        },
    },
};

use super::world::{World, at_once, origin};

const HOUR: Duration = Duration::from_hours(1);
const ORDERS: &str = "spiffe://example.org/orders";

/// The hash of nothing: any 32 bytes will do here.
fn hash(number: u8) -> SecretHash {
    SecretHash::new([number; 32])
}

fn named(name: &str) -> Label {
    Label::parse(name).unwrap()
}

fn spiffe(text: &str) -> SpiffeId {
    SpiffeId::parse(text).unwrap()
}

fn new(w: &World, name: &str) -> NewServiceAccount {
    NewServiceAccount {
        id: ServiceAccountId::new(w.clock.now(), &random(&*w.entropy)),
        display_name: named(name),
        spiffe_id: None,
        roles: Vec::new(),
        secret: Some(hash(1)),
        request: None,
    }
}

/// A service account that exists, a millisecond after the one before.
async fn made(w: &World, new: NewServiceAccount) -> ServiceAccount {
    w.wait(Duration::from_millis(1));
    w.store.create_service_account(Warrant::OPERATOR, new, origin()).await.unwrap()
}

async fn role(w: &World, name: &str, permissions: &str) {
    let sql = format!(
        "INSERT INTO roles (name, permissions, create_time, update_time) VALUES ('{name}', '{permissions}', 0, 0)"
    );
    assert_eq!(w.database.execute(&sql).await, 1);
}

/// A user with a role that allows this.
async fn manager(w: &World, name: &str, permissions: &str) -> UserId {
    let user = w.user(name).await;
    role(w, name, permissions).await;
    let id = w.database.id(user.as_uuid());
    let sql = format!("INSERT INTO user_roles (user_id, role, assign_time) VALUES ({id}, '{name}', 0)");
    assert_eq!(w.database.execute(&sql).await, 1);
    user
}

fn warrant(user: UserId) -> Warrant {
    Warrant { actor: Actor::User(user), needs: "service_accounts:write", limit: None }
}

fn proof(account: ServiceAccountId, id: Uuid, number: u8) -> ClientProof {
    ClientProof::Secret { account, secret: PresentedSecret { id, hash: hash(number) } }
}

async fn admit(w: &World, proof: ClientProof) -> Option<KnownService> {
    let token = TokenId::new(w.clock.now(), &random(&*w.entropy));
    w.store.admit_service(proof, token, origin()).await.unwrap()
}

async fn rotate(w: &World, id: ServiceAccountId, number: u8, keep: Option<Duration>) -> ServiceAccount {
    w.wait(Duration::from_millis(1));
    let new = NewSecret {
        id: Uuid::from_u128(number.into()),
        hash: hash(number),
        keep_previous_until: keep.map(|keep| w.clock.now().plus(keep)),
    };
    w.store.rotate_service_account_secret(Warrant::OPERATOR, id, new, origin()).await.unwrap()
}

async fn update(w: &World, id: ServiceAccountId, change: ServiceAccountChange) -> Result<ServiceAccount, StoreError> {
    w.store.update_service_account(Warrant::OPERATOR, id, change, origin()).await
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, StoreError>) -> Refused {
    match result {
        Err(StoreError::Refused(refused)) => refused,
        other => panic!("not refused: {other:?}"),
    }
}

/// Everything that is kept of service accounts.
async fn everything(w: &World) -> Vec<String> {
    let mut all = Vec::new();
    for table in [
        "service_accounts",
        "service_account_roles",
        "service_account_secrets",
        "create_requests",
        "feed",
        "audit_events",
    ] {
        all.push(w.database.dump(table).await);
    }
    all
}

fn ended(account: ServiceAccountId, epoch: i64) -> Revocation {
    Revocation::ServiceAccount { account, epoch }
}

fn revoked(w: &World) -> Vec<Revocation> {
    w.observer.entries().into_iter().map(|entry| entry.revocation).collect()
}

pub(super) async fn a_service_account_is_found_again_as_it_was_created(w: Arc<World>) {
    role(&w, "reader", r#"["orders:read"]"#).await;
    role(&w, "writer", r#"["orders:write"]"#).await;
    let new = NewServiceAccount {
        spiffe_id: Some(spiffe(ORDERS)),
        roles: vec!["reader".into(), "writer".into()],
        ..new(&w, "orders")
    };
    let (id, begun) = (new.id, w.clock.now().plus(Duration::from_millis(1)));
    let account = made(&w, new).await;
    assert_eq!((account.id, account.display_name.as_str(), account.revision), (id, "orders", 1));
    assert_eq!(account.spiffe_id, Some(spiffe(ORDERS)));
    assert_eq!(account.roles, ["reader", "writer"]);
    assert_eq!((account.create_time, account.update_time), (begun, begun));
    assert_eq!(account.secrets.len(), 1);
    assert_eq!((account.secrets[0].id, account.secrets[0].expire_time), (*id.as_uuid(), None));
    assert_eq!(w.store.get_service_account(id).await.unwrap(), Some(account.clone()));
    assert_eq!(w.store.get_service_account(ServiceAccountId::from_uuid(Uuid::nil())).await.unwrap(), None);
    let subject = w.database.id(id.as_uuid());
    let events = format!("SELECT COUNT(*) FROM audit_events WHERE actor = 'operator' AND subject_id = {subject}");
    assert_eq!(w.database.integer(&format!("{events} AND act = 'service_account.created'")).await, 1);
    assert_eq!(w.database.integer(&format!("{events} AND act = 'role.assigned'")).await, 2);
    assert_eq!(revoked(&w), []);
}

pub(super) async fn service_accounts_are_listed_oldest_first_page_by_page(w: Arc<World>) {
    let mut all = Vec::new();
    for i in 0..7 {
        let account = made(&w, new(&w, &format!("service {i}"))).await;
        all.push(if i % 2 == 0 { account } else { rotate(&w, account.id, i, Some(HOUR)).await });
    }
    let (mut listed, mut after) = (Vec::new(), None);
    loop {
        let page = w.store.list_service_accounts(after, 3).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.id);
        listed.extend(page);
    }
    assert_eq!(listed, all, "with the secrets of each");
    assert_eq!(listed[1].secrets.len(), 2);
}

pub(super) async fn a_service_is_known_by_a_secret_of_its_own_alone(w: Arc<World>) {
    role(&w, "reader", r#"["orders:read"]"#).await;
    let mine = made(&w, NewServiceAccount { roles: vec!["reader".into()], ..new(&w, "mine") }).await.id;
    let other = made(&w, NewServiceAccount { secret: Some(hash(2)), ..new(&w, "other") }).await.id;
    let nobody = ServiceAccountId::from_uuid(Uuid::from_u128(7));
    let known = admit(&w, proof(mine, *mine.as_uuid(), 1)).await.unwrap();
    assert_eq!((known.account, known.epoch), (mine, 0));
    assert_eq!(known.held.names, ["reader"]);
    assert!(known.held.permissions.allow("orders:read"));
    for (why, wrong, exists) in [
        ("another secret", proof(mine, *mine.as_uuid(), 2), true),
        ("another id", proof(mine, *other.as_uuid(), 1), true),
        ("another's secret", proof(mine, *other.as_uuid(), 2), true),
        ("the own secret for another", proof(other, *mine.as_uuid(), 1), true),
        ("no secret", proof(mine, Uuid::nil(), 0), true),
        ("nobody", proof(nobody, *mine.as_uuid(), 1), false),
        ("nobody at all", proof(ServiceAccountId::from_uuid(Uuid::nil()), Uuid::nil(), 0), false),
    ] {
        let about = "SELECT COUNT(*) FROM audit_events WHERE act = 'service_token.refused' AND actor = 'anonymous' AND subject_id";
        let before = w.database.integer(&format!("{about} IS NOT NULL")).await;
        assert_eq!(admit(&w, wrong).await, None, "{why}");
        assert_eq!(w.database.integer(&format!("{about} IS NOT NULL")).await - before, i64::from(exists), "{why}");
    }
    assert_eq!((w.count("service_token.issued").await, w.count("service_token.refused").await), (1, 7));
    let token = w.details("service_token.issued").await.remove(0);
    assert!(token["token"].is_string(), "{token}");
}

pub(super) async fn a_service_is_known_by_its_certificate(w: Arc<World>) {
    let mine = NewServiceAccount { spiffe_id: Some(spiffe(ORDERS)), secret: None, ..new(&w, "mine") };
    let mine = made(&w, mine).await;
    let other = made(&w, new(&w, "other")).await.id;
    assert_eq!(mine.secrets, []);
    let mine = mine.id;
    let certificate = |account, text: &str| ClientProof::Certificate { account, spiffe_id: Some(spiffe(text)) };
    for account in [None, Some(mine)] {
        assert_eq!(admit(&w, certificate(account, ORDERS)).await.unwrap().account, mine);
        let none = ClientProof::Certificate { account, spiffe_id: None };
        assert_eq!(admit(&w, none).await, None);
        assert_eq!(admit(&w, certificate(account, "spiffe://example.org/payments")).await, None);
    }
    assert_eq!(admit(&w, certificate(Some(other), ORDERS)).await, None, "it is not the one it says it is");
    let change = ServiceAccountChange { spiffe_id: Some(None), ..Default::default() };
    assert_eq!(update(&w, mine, change).await.unwrap().spiffe_id, None);
    assert_eq!(admit(&w, certificate(None, ORDERS)).await, None);
}

pub(super) async fn a_spiffe_id_is_one_account_s(w: Arc<World>) {
    let with = |name: &str| NewServiceAccount { spiffe_id: Some(spiffe(ORDERS)), ..new(&w, name) };
    made(&w, with("first")).await;
    let second = made(&w, new(&w, "second")).await.id;
    let before = everything(&w).await;
    let third = with("third");
    assert_eq!(
        refused(w.store.create_service_account(Warrant::OPERATOR, third, origin()).await),
        Refused::SpiffeIdTaken
    );
    let change = ServiceAccountChange { spiffe_id: Some(Some(spiffe(ORDERS))), ..Default::default() };
    assert_eq!(refused(update(&w, second, change).await), Refused::SpiffeIdTaken);
    assert_eq!(everything(&w).await, before);
}

pub(super) async fn a_rotated_secret_goes_on_for_as_long_as_asked_and_never_a_third(w: Arc<World>) {
    let id = made(&w, new(&w, "orders")).await.id;
    let first = proof(id, *id.as_uuid(), 1);
    let of = |number: u8| proof(id, Uuid::from_u128(number.into()), number);
    let account = rotate(&w, id, 2, Some(HOUR)).await;
    assert_eq!(account.secrets.iter().map(|s| s.id).collect::<Vec<_>>(), [Uuid::from_u128(2), *id.as_uuid()]);
    assert_eq!(account.secrets[1].expire_time, Some(w.clock.now().plus(HOUR)));
    assert_eq!((account.secrets[0].expire_time, account.revision), (None, 2));
    assert!(admit(&w, first.clone()).await.is_some() && admit(&w, of(2)).await.is_some());

    rotate(&w, id, 3, Some(HOUR * 2)).await;
    assert!(admit(&w, first.clone()).await.is_none(), "the oldest ends at once");
    assert!(admit(&w, of(2)).await.is_some() && admit(&w, of(3)).await.is_some());
    w.wait(HOUR + Duration::from_micros(3_599_999_999));
    assert!(admit(&w, of(2)).await.is_some());
    w.wait(Duration::from_micros(1));
    assert!(admit(&w, of(2)).await.is_none(), "it ends at its end");
    assert_eq!(w.store.get_service_account(id).await.unwrap().unwrap().secrets.len(), 1);
    assert_eq!(w.store.purge_service_accounts().await.unwrap(), 1);
    assert_eq!(w.store.purge_service_accounts().await.unwrap(), 0);
    assert!(admit(&w, of(3)).await.is_some());
    assert_eq!(revoked(&w), [], "its tokens go on");
    assert_eq!(w.count("service_account.secret_rotated").await, 2);
}

pub(super) async fn a_rotation_without_grace_ends_secrets_and_tokens(w: Arc<World>) {
    let id = made(&w, new(&w, "orders")).await.id;
    rotate(&w, id, 2, Some(HOUR)).await;
    let account = rotate(&w, id, 3, None).await;
    assert_eq!(account.secrets.len(), 1);
    for (secret, number) in [(*id.as_uuid(), 1), (Uuid::from_u128(2), 2)] {
        assert!(admit(&w, proof(id, secret, number)).await.is_none());
    }
    assert_eq!(admit(&w, proof(id, Uuid::from_u128(3), 3)).await.unwrap().epoch, 1);
    assert_eq!(revoked(&w), [ended(id, 1)]);
}

pub(super) async fn of_20_rotations_at_once_two_secrets_are_left(w: Arc<World>) {
    let id = made(&w, new(&w, "orders")).await.id;
    let nodes = [Arc::clone(&w.store), w.another_node().await];
    let until = w.clock.now().plus(HOUR);
    at_once(20, |i| {
        let node = Arc::clone(&nodes[i % 2]);
        let number = u8::try_from(i).unwrap() + 2;
        let new =
            NewSecret { id: Uuid::from_u128(number.into()), hash: hash(number), keep_previous_until: Some(until) };
        async move {
            let account = node.rotate_service_account_secret(Warrant::OPERATOR, id, new, origin()).await.unwrap();
            assert_eq!(account.secrets.len(), 2);
        }
    })
    .await;
    nodes[1].close().await;
    assert_eq!(w.database.integer("SELECT COUNT(*) FROM service_account_secrets").await, 2);
    assert_eq!(w.database.integer("SELECT COUNT(*) FROM service_account_secrets WHERE expire_time IS NULL").await, 1);
}

pub(super) async fn a_change_of_roles_refuses_tokens_and_no_other_does(w: Arc<World>) {
    role(&w, "reader", r#"["orders:read"]"#).await;
    role(&w, "writer", r#"["orders:write"]"#).await;
    let id = made(&w, NewServiceAccount { roles: vec!["reader".into()], ..new(&w, "orders") }).await.id;
    w.wait(HOUR);
    let rename = ServiceAccountChange { display_name: Some(named("bills")), ..Default::default() };
    let account = update(&w, id, rename.clone()).await.unwrap();
    assert_eq!((account.display_name.as_str(), account.revision), ("bills", 2));
    assert_eq!(account.update_time, w.clock.now());
    assert_eq!(update(&w, id, rename).await.unwrap(), account, "what changes nothing is no change");
    assert_eq!(revoked(&w), []);

    let give = ServiceAccountChange { roles: Some(vec!["writer".into()]), ..Default::default() };
    let account = update(&w, id, give.clone()).await.unwrap();
    assert_eq!((account.roles.clone(), account.revision), (vec!["writer".to_owned()], 3));
    assert_eq!(update(&w, id, give).await.unwrap(), account);
    assert_eq!(revoked(&w), [ended(id, 1)]);
    let known = admit(&w, proof(id, *id.as_uuid(), 1)).await.unwrap();
    assert_eq!((known.epoch, known.held.names), (1, vec!["writer".to_owned()]));
    assert_eq!(
        w.details("service_account.updated").await,
        [serde_json::json!({"fields": ["display_name"]}), serde_json::json!({"fields": ["roles"]})]
    );
    assert_eq!((w.count("role.assigned").await, w.count("role.unassigned").await), (2, 1));

    let unknown = ServiceAccountChange { roles: Some(vec!["nothing".into()]), ..Default::default() };
    assert_eq!(refused(update(&w, id, unknown).await), Refused::NoRole);
}

pub(super) async fn a_deleted_service_account_leaves_no_way_in(w: Arc<World>) {
    role(&w, "reader", r#"["orders:read"]"#).await;
    let new = NewServiceAccount { roles: vec!["reader".into()], spiffe_id: Some(spiffe(ORDERS)), ..new(&w, "orders") };
    let id = made(&w, new).await.id;
    let delete = async |revision| w.store.delete_service_account(Warrant::OPERATOR, id, revision, origin()).await;
    assert_eq!(refused(delete(Some(2)).await), Refused::EtagMismatch);
    delete(Some(1)).await.unwrap();
    assert_eq!(refused(delete(None).await), Refused::NoServiceAccount);
    assert_eq!(revoked(&w), [ended(id, 1)]);
    assert_eq!(w.store.get_service_account(id).await.unwrap(), None);
    assert!(admit(&w, proof(id, *id.as_uuid(), 1)).await.is_none());
    let certificate = ClientProof::Certificate { account: None, spiffe_id: Some(spiffe(ORDERS)) };
    assert!(admit(&w, certificate).await.is_none());
    for table in ["service_accounts", "service_account_roles", "service_account_secrets"] {
        assert_eq!(w.database.integer(&format!("SELECT COUNT(*) FROM {table}")).await, 0, "{table}");
    }
    assert_eq!(w.count("service_account.deleted").await, 1);
}

pub(super) async fn a_change_by_a_stale_revision_changes_nothing(w: Arc<World>) {
    let id = made(&w, new(&w, "orders")).await.id;
    rotate(&w, id, 2, Some(HOUR)).await;
    let before = everything(&w).await;
    for stale in [-1, 0, 1, 3] {
        let change =
            ServiceAccountChange { revision: Some(stale), display_name: Some(named("x")), ..Default::default() };
        assert_eq!(refused(update(&w, id, change).await), Refused::EtagMismatch);
    }
    assert_eq!(everything(&w).await, before);
    let change = ServiceAccountChange { revision: Some(2), display_name: Some(named("x")), ..Default::default() };
    assert_eq!(update(&w, id, change).await.unwrap().revision, 3);
}

pub(super) async fn nobody_manages_more_than_they_hold(w: Arc<World>) {
    role(&w, "reader", r#"["orders:read"]"#).await;
    role(&w, "writer", r#"["orders:write"]"#).await;
    let clerk = warrant(manager(&w, "clerk", r#"["service_accounts:write", "orders:read"]"#).await);
    let chief = warrant(manager(&w, "chief", r#"["service_accounts:write", "roles:assign", "orders:read"]"#).await);
    let nobody = warrant(w.user("nobody").await);
    let strong = made(&w, NewServiceAccount { roles: vec!["writer".into()], ..new(&w, "strong") }).await.id;
    let weak = made(&w, NewServiceAccount { roles: vec!["reader".into()], ..new(&w, "weak") }).await.id;
    let before = everything(&w).await;
    let create = async |by: &Warrant, roles: &[&str]| {
        let roles = roles.iter().map(|role| (*role).to_owned()).collect();
        w.store.create_service_account(by.clone(), NewServiceAccount { roles, ..new(&w, "x") }, origin()).await
    };
    let change =
        async |by: &Warrant, id, change| w.store.update_service_account(by.clone(), id, change, origin()).await;
    let roles = |roles: &[&str]| ServiceAccountChange {
        roles: Some(roles.iter().map(|role| (*role).to_owned()).collect()),
        ..Default::default()
    };
    let name = || ServiceAccountChange { display_name: Some(named("x")), ..Default::default() };
    let secret = NewSecret { id: Uuid::from_u128(9), hash: hash(9), keep_previous_until: None };
    let rotate = async |by: &Warrant, id| w.store.rotate_service_account_secret(by.clone(), id, secret, origin()).await;
    let delete = async |by: &Warrant, id| w.store.delete_service_account(by.clone(), id, None, origin()).await;

    assert_eq!(refused(create(&nobody, &[]).await), Refused::NotPermitted);
    assert_eq!(refused(create(&clerk, &["reader"]).await), Refused::NotPermitted, "without roles:assign");
    assert_eq!(refused(change(&clerk, weak, roles(&[])).await), Refused::NotPermitted, "not even taking");
    assert_eq!(refused(create(&chief, &["writer"]).await), Refused::ExceedsOwn);
    assert_eq!(refused(create(&chief, &["reader", "admin"]).await), Refused::ExceedsOwn);
    assert_eq!(refused(create(&chief, &["nothing"]).await), Refused::NoRole);
    assert_eq!(refused(change(&chief, weak, roles(&["reader", "writer"])).await), Refused::ExceedsOwn);
    for by in [&clerk, &chief] {
        assert_eq!(refused(change(by, strong, name()).await), Refused::ExceedsOwn);
        assert_eq!(refused(rotate(by, strong).await), Refused::ExceedsOwn, "its secret would be theirs");
        assert_eq!(refused(delete(by, strong).await), Refused::ExceedsOwn);
    }
    for id in [strong, weak] {
        assert_eq!(refused(change(&nobody, id, name()).await), Refused::NotPermitted);
        assert_eq!(refused(rotate(&nobody, id).await), Refused::NotPermitted);
        assert_eq!(refused(delete(&nobody, id).await), Refused::NotPermitted);
    }
    // What the token is limited to counts as what is held.
    let limit = Some(["service_accounts:write"].iter().map(|p| (*p).to_owned().try_into().unwrap()).collect());
    let limited = Warrant { limit, ..chief.clone() };
    assert_eq!(refused(rotate(&limited, weak).await), Refused::ExceedsOwn);
    assert_eq!(everything(&w).await, before);

    create(&clerk, &[]).await.unwrap();
    change(&clerk, weak, name()).await.unwrap();
    change(&chief, weak, roles(&[])).await.unwrap();
    change(&chief, weak, roles(&["reader"])).await.unwrap();
    rotate(&clerk, weak).await.unwrap();
    delete(&clerk, weak).await.unwrap();
}

pub(super) async fn of_20_creations_by_one_request_one_is_made(w: Arc<World>) {
    let forgotten = || w.clock.now().minus(Duration::from_hours(24));
    let request = |number, fingerprint: u8| {
        Some(CreateRequest { id: Uuid::from_u128(number), fingerprint: vec![fingerprint; 32], forgotten: forgotten() })
    };
    let nodes = [Arc::clone(&w.store), w.another_node().await];
    let create = |node: &Arc<dyn Store>, by: Warrant, request| {
        let (node, new) = (Arc::clone(node), NewServiceAccount { request, ..new(&w, "orders") });
        async move { node.create_service_account(by, new, origin()).await }
    };
    let made = at_once(20, |i| create(&nodes[i % 2], Warrant::OPERATOR, request(1, 1))).await;
    let made: Vec<_> = made.into_iter().map(Result::unwrap).collect();
    assert!(made.iter().all(|account| *account == made[0]));
    assert_eq!(w.database.integer("SELECT COUNT(*) FROM service_accounts").await, 1);
    assert_eq!(w.count("service_account.created").await, 1);
    nodes[1].close().await;

    let again = create(&w.store, Warrant::OPERATOR, request(1, 2)).await;
    assert_eq!(refused(again), Refused::RequestIdReused);
    let chief = warrant(manager(&w, "chief", r#"["service_accounts:write"]"#).await);
    assert_ne!(create(&w.store, chief, request(1, 2)).await.unwrap().id, made[0].id, "another's number");
    assert_ne!(create(&w.store, Warrant::OPERATOR, request(2, 1)).await.unwrap().id, made[0].id);

    w.wait(Duration::from_hours(23) + Duration::from_micros(3_599_999_999));
    assert_eq!(create(&w.store, Warrant::OPERATOR, request(1, 1)).await.unwrap().id, made[0].id);
    w.store.delete_service_account(Warrant::OPERATOR, made[0].id, None, origin()).await.unwrap();
    let gone = create(&w.store, Warrant::OPERATOR, request(1, 1)).await;
    assert_eq!(refused(gone), Refused::NoServiceAccount, "it is not made a second time");
    w.wait(Duration::from_micros(2));
    create(&w.store, Warrant::OPERATOR, request(1, 2)).await.unwrap();
    assert_eq!(w.store.purge_create_requests(forgotten()).await.unwrap(), 2);
}

pub(super) async fn a_service_token_is_revoked_once_by_however_many(w: Arc<World>) {
    let id = made(&w, new(&w, "orders")).await.id;
    let nodes = [Arc::clone(&w.store), w.another_node().await];
    let revocation = |token| TokenRevocation { token, session: None, subject: id.into(), issue_time: w.clock.now() };
    let mut tokens = Vec::new();
    for round in 0..20 {
        let token = TokenId::new(w.clock.now(), &[round; 10]);
        let done = at_once(8, |i| {
            let (node, revocation) = (Arc::clone(&nodes[i % 2]), revocation(token));
            async move { node.revoke_token(revocation, origin()).await.unwrap() }
        })
        .await;
        assert_eq!(done.into_iter().filter(|done| *done).count(), 1, "round {round}");
        tokens.push(Revocation::Token { token });
    }
    nodes[1].close().await;
    assert_eq!(revoked(&w), tokens);
    w.store.delete_service_account(Warrant::OPERATOR, id, None, origin()).await.unwrap();
    let other = revocation(TokenId::new(w.clock.now(), &[99; 10]));
    assert!(!w.store.revoke_token(other, origin()).await.unwrap(), "dead with its account");
}
