//! Signing keys that are revoked: named to every newcomer for ever, and gone from what is published once anybody is told.

use std::sync::Arc;

use tempfile::TempDir;
use vouchsafe::{
    crypto::{SystemEntropy, machine_date},
    domain::warrant::Authority,
    jose::jws::Unverified,
    pb::v1::{self, InactiveReason},
    server::{Ambient, Backstage, DatabaseClock},
    store::port::RevokeKey,
};

use super::Watcher;
use crate::{
    rpc::on_both_databases,
    support::{Backend, TestNode, until, wire},
};

on_both_databases!(
    a_key_revoked_long_ago_is_named_by_a_node_that_begins,
    a_key_that_only_the_database_names_is_told_to_who_watches,
    who_is_told_of_a_change_of_keys_gets_the_new_ones,
);

/// Whoever revokes keys, as the command line does.
async fn operator(node: &TestNode) -> (Backstage, TempDir) {
    let data_dir = tempfile::tempdir().unwrap();
    let settings = TestNode::on(node.database.clone()).settings(&data_dir);
    let ambient = Ambient { clock: Arc::new(DatabaseClock::new(machine_date())), entropy: Arc::new(SystemEntropy) };
    (Backstage::open(&settings, &ambient).await.unwrap(), data_dir)
}

async fn revoke(operator: &Backstage, kid: &str) {
    let Backstage { store, keys, policy, .. } = operator;
    assert_eq!(keys.revoke(&**store, policy, kid, Authority::operator()).await.unwrap(), RevokeKey::Revoked);
}

fn kid(token: &str) -> String {
    Unverified::parse(token).unwrap().kid().to_owned()
}

async fn a_key_revoked_long_ago_is_named_by_a_node_that_begins(backend: Backend) {
    let node = TestNode::start(backend).await;
    node.register("ada@example.com").await;
    let token = node.login("ada@example.com").await.access_token;
    let (operator, _data_dir) = operator(&node).await;
    revoke(&operator, &kid(&token)).await;
    let database = Arc::clone(&node.database);
    // Minutes pass.
    assert!(database.execute("UPDATE feed SET expire_time = 1").await > 0);
    assert!(operator.store.purge_feed().await.unwrap() > 0);
    operator.store.close().await;
    assert_eq!(database.integer("SELECT COUNT(*) FROM feed").await, 0);
    node.stop().await;

    let fresh = TestNode::on(database).start().await;
    let mut watcher = Watcher::at(&fresh, "").await;
    watcher.catch_up().await;
    assert!(watcher.known.keys.contains(&kid(&token)), "{:?}", watcher.known.keys);
    assert_eq!(fresh.verify(&token).await.inactive_reason(), InactiveReason::Revoked);
    drop(watcher);
    fresh.remove().await;
}

/// Its entry has expired before this node saw it.
async fn a_key_that_only_the_database_names_is_told_to_who_watches(backend: Backend) {
    let node = TestNode::start(backend).await;
    node.register("ada@example.com").await;
    let token = node.login("ada@example.com").await.access_token;
    let mut watcher = Watcher::at(&node, "").await;
    watcher.catch_up().await;
    assert!(watcher.known.keys.is_empty());
    let sql = format!("INSERT INTO revoked_keys (kid, time) VALUES ('{}', 1)", kid(&token));
    assert_eq!(node.database.execute(&sql).await, 1);
    node.database.execute("UPDATE feed_head SET number = number + 1").await;
    watcher.until("the key", |known| known.keys.contains(&kid(&token))).await;
    assert_eq!(node.verify(&token).await.inactive_reason(), InactiveReason::Revoked);
    drop(watcher);
    node.remove().await;
}

/// The new key signs at once: who got the keys of before would refuse good tokens, and accept those of the thief.
async fn who_is_told_of_a_change_of_keys_gets_the_new_ones(backend: Backend) {
    let node = TestNode::start(backend).await;
    node.register("ada@example.com").await;
    let (operator, _data_dir) = operator(&node).await;
    let mut watcher = Watcher::at(&node, "").await;
    watcher.catch_up().await;
    for round in 0..30 {
        operator.keys.reload(&*operator.store).await.unwrap();
        let signs = "SELECT kid FROM signing_keys ORDER BY activate_time DESC LIMIT 1";
        let old = node.database.texts(signs).await.swap_remove(0);
        let changes = watcher.known.key_set_changes;
        let listening = async {
            watcher.until("the change", |known| known.keys.contains(&old) && known.key_set_changes > changes).await;
            let mut verifier = node.verifier().await;
            let by_rpc = verifier.get_verification_keys(v1::GetVerificationKeysRequest {});
            let by_http = wire::get(node.http, "/.well-known/jwks.json");
            let (by_rpc, by_http) = tokio::join!(by_rpc, by_http);
            (by_rpc.unwrap().into_inner().keys, by_http.1)
        };
        let ((by_rpc, by_http), ()) = tokio::join!(listening, revoke(&operator, &old));
        let new = node.database.texts(signs).await.swap_remove(0);
        let kids: Vec<_> = by_rpc.iter().map(|key| key.key_id.as_str()).collect();
        assert!(kids.contains(&new.as_str()) && !kids.contains(&old.as_str()), "round {round}: {kids:?}");
        assert!(by_http.contains(&new) && !by_http.contains(&old), "round {round}: {by_http}");
    }
    let signs = async || node.login("ada@example.com").await.access_token;
    until("the newest signs", async || node.verify(&signs().await).await.active).await;
    operator.store.close().await;
    drop(watcher);
    node.remove().await;
}
