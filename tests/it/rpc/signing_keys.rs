//! `KeyAdminService` as an administrator meets it.

use tonic::{Code, Status, transport::Channel};
use vouchsafe::pb::v1::{self, InactiveReason, SigningKeyState, key_admin_service_client::KeyAdminServiceClient};

use super::on_both_databases;
use crate::support::{Backend, TestNode, bearer, reason, until};

on_both_databases!(
    keys_are_listed_without_anything_private,
    a_rotation_is_the_caller_s_and_published_at_once,
    a_revoked_key_s_tokens_are_refused_and_another_signs,
    each_permission_is_asked_in_the_transaction,
);

async fn keys(node: &TestNode) -> KeyAdminServiceClient<Channel> {
    KeyAdminServiceClient::new(node.shared().await)
}

async fn list(node: &TestNode, token: &str) -> Vec<v1::SigningKey> {
    let request = bearer(token, v1::ListSigningKeysRequest {});
    keys(node).await.list_signing_keys(request).await.unwrap().into_inner().signing_keys
}

async fn rotate(node: &TestNode, token: &str) -> Result<v1::SigningKey, Status> {
    let request = bearer(token, v1::RotateSigningKeyRequest {});
    Ok(keys(node).await.rotate_signing_key(request).await?.into_inner().signing_key.unwrap())
}

async fn revoke(node: &TestNode, token: &str, key_id: &str) -> Result<Vec<v1::SigningKey>, Status> {
    let request = bearer(token, v1::RevokeSigningKeyRequest { key_id: key_id.into() });
    Ok(keys(node).await.revoke_signing_key(request).await?.into_inner().signing_keys)
}

fn refusal<T: std::fmt::Debug>(answer: Result<T, Status>) -> (Code, String) {
    let status = answer.unwrap_err();
    (status.code(), reason(&status))
}

async fn keys_are_listed_without_anything_private(backend: Backend) {
    let node = TestNode::start(backend).await;
    let admin = node.join("root", &["admin"], "").await.access_token;
    let listed = list(&node, &admin).await;
    let [key] = &listed[..] else { panic!("{listed:?}") };
    assert_eq!((key.algorithm.as_str(), key.state()), ("ES256", SigningKeyState::Active));
    assert!(key.publish_time.is_some() && key.activate_time.is_some());
    assert_eq!((&key.retire_time, &key.remove_time), (&None, &None));
    let jwk: serde_json::Value = serde_json::from_str(&key.jwk).unwrap();
    let mut members: Vec<_> = jwk.as_object().unwrap().keys().map(String::as_str).collect();
    members.sort_unstable();
    assert_eq!(members, ["alg", "crv", "kid", "kty", "use", "x", "y"]);
    assert_eq!(jwk["kid"], *key.key_id);
    node.remove().await;
}

async fn a_rotation_is_the_caller_s_and_published_at_once(backend: Backend) {
    let node = TestNode::start(backend).await;
    let admin = node.join("root", &["admin"], "").await;
    let before = list(&node, &admin.access_token).await;
    let new = rotate(&node, &admin.access_token).await.unwrap();
    assert_eq!(new.state(), SigningKeyState::Published);
    let after = list(&node, &admin.access_token).await;
    assert_eq!(after.iter().map(|key| &key.key_id).collect::<Vec<_>>(), [&before[0].key_id, &new.key_id]);
    assert_eq!(after[0].retire_time, new.activate_time, "the old one signs until then");
    // Whoever did it, from where.
    let condition = "act = 'key.published' AND actor = 'user' AND request_id <> '' AND personal_sealed IS NOT NULL";
    assert_eq!(node.events(condition).await, 2, "a signing key and a refresh key");
    assert!(node.verify(&admin.access_token).await.active);
    node.refresh(&admin.refresh_token).await.unwrap();
    node.remove().await;
}

async fn a_revoked_key_s_tokens_are_refused_and_another_signs(backend: Backend) {
    let node = TestNode::start(backend).await;
    let admin = node.join("root", &["admin"], "").await;
    let token = &admin.access_token;
    let not_found = (Code::NotFound, "SIGNING_KEY_NOT_FOUND".to_owned());
    assert_eq!(refusal(revoke(&node, token, "").await), not_found);
    assert_eq!(refusal(revoke(&node, token, "no such key").await), not_found);
    let key = list(&node, token).await.swap_remove(0);
    let left = revoke(&node, token, &key.key_id).await.unwrap();
    let [successor] = &left[..] else { panic!("{left:?}") };
    assert_eq!(successor.state(), SigningKeyState::Active);
    assert_ne!(successor.key_id, key.key_id);
    // The caller's own token too.
    assert_eq!(node.verify(token).await.inactive_reason(), InactiveReason::Revoked);
    assert_eq!(refusal(rotate(&node, token).await).1, "ACCESS_TOKEN_INVALID");
    let next = node.refresh(&admin.refresh_token).await.unwrap().access_token;
    assert_eq!(list(&node, &next).await, left);
    assert_eq!(refusal(revoke(&node, &next, &key.key_id).await), not_found, "it is revoked for good");
    assert_eq!(node.events("act = 'key.revoked' AND actor = 'user'").await, 1);
    node.remove().await;
}

/// The layer that looks at a call asks first; what decides is what the caller holds when the keys are changed.
async fn each_permission_is_asked_in_the_transaction(backend: Backend) {
    let node = TestNode::start(backend).await;
    node.database.make_role("reader", &["keys:read"]).await;
    node.database.make_role("keeper", &["keys:read", "keys:rotate"]).await;
    let reader = node.join("reader", &["reader"], "").await.access_token;
    let keeper = node.join("keeper", &["keeper"], "").await.access_token;
    let denied = (Code::PermissionDenied, "PERMISSION_DENIED".to_owned());
    let key = list(&node, &reader).await.swap_remove(0);
    assert_eq!(refusal(rotate(&node, &reader).await), denied);
    assert_eq!(refusal(revoke(&node, &keeper, &key.key_id).await), denied);
    rotate(&node, &keeper).await.unwrap();

    // A rotation waits for the lock of the keys while the role is taken away.
    let Some(pool) = node.database.postgres_pool() else {
        // One writer at a time: nothing comes between.
        return node.remove().await;
    };
    let mut holder = pool.begin().await.unwrap();
    sqlx::query("SELECT 1 FROM feed_head FOR UPDATE").execute(&mut *holder).await.unwrap();
    let waiting = async { rotate(&node, &keeper).await };
    let taking = async {
        let blocked = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' \
                       AND datname = current_database() AND query LIKE '%feed_head%'";
        until("the rotation waits", || async { node.database.integer(blocked).await > 0 }).await;
        sqlx::query("DELETE FROM user_roles WHERE role = 'keeper'").execute(&mut *holder).await.unwrap();
        holder.commit().await.unwrap();
    };
    let before = node.database.integer("SELECT count(*) FROM signing_keys").await;
    let (waited, ()) = tokio::join!(waiting, taking);
    assert_eq!(refusal(waited), denied);
    assert_eq!(node.database.integer("SELECT count(*) FROM signing_keys").await, before);
    node.remove().await;
}
