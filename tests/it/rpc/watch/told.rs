//! What a watcher is told: every kind, at the beginning and as it comes, and that there is nothing new.

use std::sync::Arc;

use vouchsafe::{
    crypto::{SystemEntropy, machine_date},
    domain::warrant::Authority,
    pb::v1::{self, user_admin_service_client::UserAdminServiceClient},
    server::{Ambient, Backstage, DatabaseClock},
};

use super::{Known, Watcher, request};
use crate::{
    hostile::payload_of,
    rpc::{on_both_databases, service_accounts},
    support::{Backend, TestNode, bearer, reason},
};

on_both_databases!(
    every_kind_is_told_at_the_beginning_and_as_it_comes,
    a_watcher_refuses_what_verify_refuses,
    a_watch_outlasts_the_longest_call_and_not_its_caller_s_deadline,
);

/// What was revoked, and what was not.
#[derive(Default)]
struct Acts {
    refused: Vec<String>,
    accepted: Vec<String>,
    key: String,
}

impl Acts {
    fn are_known_to(&self, known: &Known) -> bool {
        self.refused.iter().all(|token| known.refuses(token)) && known.keys.contains(&self.key)
    }
}

/// Revokes one of each kind.
async fn one_of_each(node: &TestNode, operator: &Backstage, root: &str, round: usize) -> Acts {
    let email = |name: &str| format!("{name}{round}@example.com");
    let join = async |name: &str| {
        let id = node.register(&email(name)).await.id;
        (id, node.login(&email(name)).await)
    };
    let mut users = UserAdminServiceClient::new(node.shared().await);
    let mut acts = Acts::default();

    let (_, left) = join("left").await;
    let stayed = node.login(&email("left")).await;
    node.logout(&left.refresh_token).await.unwrap();
    let (_, gone) = join("token").await;
    let other = node.refresh(&gone.refresh_token).await.unwrap();
    node.revoke_token(&gone.access_token).await.unwrap();
    let (id, suspended) = join("suspended").await;
    users.suspend_user(bearer(root, v1::SuspendUserRequest { user_id: id })).await.unwrap();
    let (id, promoted) = join("promoted").await;
    let request = v1::AssignRoleRequest { user_id: id, role: "admin".into() };
    users.assign_role(bearer(root, request)).await.unwrap();
    let after = node.refresh(&promoted.refresh_token).await.unwrap();
    // The session that changes the password is spared.
    let (_, elsewhere) = join("password").await;
    let here = node.login(&email("password")).await;
    let new = "another correct horse battery";
    node.change_password(&here.access_token, crate::support::PASSWORD, new).await.unwrap();
    let (account, secret) = service_accounts::create(node, root, &[]).await;
    let service = service_accounts::token(node, &account.client_id, &secret).await;
    service_accounts::delete(node, root, &account.client_id, "").await.unwrap();

    acts.refused = [left, gone, suspended, promoted, elsewhere].map(|tokens| tokens.access_token).into();
    acts.refused.push(service);
    acts.accepted = [stayed, other, after, here].map(|tokens| tokens.access_token).into();
    // The last: no token that this key signed is good for anything more.
    let Backstage { store, keys, policy, .. } = operator;
    keys.reload(&**store).await.unwrap();
    let newest = "SELECT kid FROM signing_keys ORDER BY activate_time DESC LIMIT 1";
    acts.key = node.database.texts(newest).await.swap_remove(0);
    keys.revoke(&**store, policy, &acts.key, Authority::operator()).await.unwrap();
    acts
}

async fn every_kind_is_told_at_the_beginning_and_as_it_comes(backend: Backend) {
    let builder = TestNode::builder(backend).await;
    let data_dir = tempfile::tempdir().unwrap();
    let settings = builder.settings(&data_dir);
    let node = builder.start().await;
    let ambient = Ambient { clock: Arc::new(DatabaseClock::new(machine_date())), entropy: Arc::new(SystemEntropy) };
    let operator = Backstage::open(&settings, &ambient).await.unwrap();
    let root = service_accounts::administrator(&node).await;

    let before = one_of_each(&node, &operator, &root, 0).await;
    node.catch_up().await;
    let mut watcher = Watcher::at(&node, "").await;
    watcher.catch_up().await;
    assert!(before.are_known_to(&watcher.known));
    assert!(!before.accepted.iter().any(|token| watcher.known.refuses(token)));
    assert_eq!(watcher.known.key_set_changes, 1);

    // The administrator's token was signed by that key.
    let root = node.login("root@example.com").await.access_token;
    let coming = one_of_each(&node, &operator, &root, 1).await;
    watcher.until("one of each kind", |known| coming.are_known_to(known) && known.key_set_changes > 1).await;
    for token in before.accepted.iter().chain(&coming.accepted) {
        assert!(!watcher.known.refuses(token));
    }
    // Nothing is no message: the list is complete up to later and later.
    let (complete, told) = (watcher.known.complete, watcher.known.told);
    watcher.until("a heartbeat", |known| known.complete > complete).await;
    assert_eq!(watcher.known.told, told);
    operator.store.close().await;
    drop(watcher);
    node.remove().await;
}

/// In every order of sign-ins and changes of the epoch, a newcomer and whoever watched all the time agree with `Verify`.
async fn a_watcher_refuses_what_verify_refuses(backend: Backend) {
    let node = TestNode::start(backend).await;
    let mut watcher = Watcher::at(&node, "").await;
    let (root, id) = (service_accounts::administrator(&node).await, node.register("ada@example.com").await.id);
    let mut users = UserAdminServiceClient::new(node.shared().await);
    let mut tokens = Vec::new();
    for round in 0..4 {
        let others = [node.login("ada@example.com").await, node.login("ada@example.com").await];
        tokens.extend(others.iter().map(|pair| pair.access_token.clone()));
        let spared = bearer(&others[round % 2].access_token, v1::RevokeOtherSessionsRequest {});
        node.account().await.revoke_other_sessions(spared).await.unwrap();
        tokens.push(node.login("ada@example.com").await.access_token);
        if round == 2 {
            let request = v1::AssignRoleRequest { user_id: id.clone(), role: "admin".into() };
            users.assign_role(bearer(&root, request)).await.unwrap();
        }
    }
    let last = node.login("ada@example.com").await;
    node.logout(&last.refresh_token).await.unwrap();
    let session = payload_of(&last.access_token)["sid"].as_str().unwrap().to_owned();
    watcher.until("the last logout", |known| known.sessions.contains(&session)).await;
    let mut newcomer = Watcher::at(&node, "").await;
    newcomer.catch_up().await;
    tokens.push(last.access_token);
    let mut refused = 0;
    for token in &tokens {
        let active = node.verify(token).await.active;
        assert_eq!([watcher.known.refuses(token), newcomer.known.refuses(token)], [!active; 2], "{token}");
        refused += usize::from(!active);
    }
    assert!(refused > 4 && refused < tokens.len(), "{refused} of {}", tokens.len());
    drop((watcher, newcomer));
    node.remove().await;
}

async fn a_watch_outlasts_the_longest_call_and_not_its_caller_s_deadline(backend: Backend) {
    let node = TestNode::builder(backend).await.set("grpc.max_deadline=1s").start().await;
    let mut asked = request("");
    asked.set_timeout(std::time::Duration::from_secs(10));
    let mut watcher = Watcher::on(node.channel().await, asked).await.unwrap();
    watcher.catch_up().await;
    let begun = watcher.known.complete;
    watcher.until("two seconds more", |known| known.complete > begun + 2_000_000).await;
    let end = watcher.end().await.unwrap();
    assert_eq!((end.code(), &*reason(&end)), (tonic::Code::DeadlineExceeded, "DEADLINE_EXCEEDED"));
    drop(watcher);
    node.remove().await;
}
