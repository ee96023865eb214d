//! Access tokens that are encrypted for their audience.

use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;
use tonic::{Code, Status};
use vouchsafe::{
    domain::secret::Entropy,
    jose::{DecryptionKeys, JweKey, jwe},
    pb::v1::{self, InactiveReason},
};

use super::{on_both_databases, service_accounts};
use crate::{
    hostile::payload_of,
    support::{
        Backend, PASSWORD, TestNode, TestNodeBuilder, bearer,
        encryption::{agreeing_jwk, private_file, public, wrapping_jwk},
        fields, login_request, reason,
    },
};

on_both_databases!(
    a_token_is_encrypted_for_its_audience_alone,
    sessions_from_before_encryption_go_on,
    a_service_token_is_encrypted_too,
    a_token_that_only_its_audience_can_read_is_refused_here,
    a_key_is_replaced_without_a_gap,
);

/// A folder that holds the keys, and the setting that names them.
fn keys(audiences: &Value) -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let setting = setting(folder.path(), audiences);
    (folder, setting)
}

fn setting(folder: &Path, audiences: &Value) -> String {
    let file = private_file(folder, "encryption.json", &json!({ "audiences": audiences }));
    format!("tokens.encryption_keys={file}")
}

fn with_audiences(builder: TestNodeBuilder) -> TestNodeBuilder {
    builder.set("tokens.audiences=vouchsafe,orders,billing,sealed")
}

async fn login_for(node: &TestNode, audience: &[&str]) -> Result<v1::TokenPair, Status> {
    let audience = audience.iter().map(|name| (*name).to_owned()).collect();
    node.try_login(v1::LoginRequest { audience, ..login_request("ada@example.com", PASSWORD) }).await
}

fn decryption(jwk: &Value) -> DecryptionKeys {
    DecryptionKeys::from_json(&jwk.to_string()).unwrap()
}

/// The signed token inside.
fn open(token: &str, jwk: &Value) -> String {
    jwe::decrypt(token, &decryption(jwk)).unwrap().token().to_owned()
}

struct Fixed;

impl Entropy for Fixed {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(5);
    }
}

fn wrap(token: &str, jwk: &Value) -> String {
    jwe::encrypt(token, &JweKey::from_jwk(jwk).unwrap(), &Fixed).unwrap()
}

fn aud(token: &str) -> Value {
    payload_of(token)["aud"].clone()
}

async fn a_token_is_encrypted_for_its_audience_alone(backend: Backend) {
    let (_folder, setting) = keys(&json!({"billing": wrapping_jwk(), "sealed": agreeing_jwk("sealed")}));
    let node = with_audiences(TestNode::builder(backend).await).set(&setting).start().await;
    node.register("ada@example.com").await;
    for beside in [&["billing", "vouchsafe"][..], &["orders", "billing"], &["billing", "sealed"]] {
        let status = login_for(&node, beside).await.unwrap_err();
        assert_eq!(
            (status.code(), fields(&status)),
            (Code::InvalidArgument, vec!["audience".to_owned()]),
            "{beside:?}"
        );
    }
    let plain = login_for(&node, &["orders", "vouchsafe"]).await.unwrap();
    assert_eq!(plain.access_token.split('.').count(), 3);
    assert!(node.admits(&plain.access_token).await);

    for (audience, jwk) in [("billing", wrapping_jwk()), ("sealed", agreeing_jwk("sealed"))] {
        // Named twice is still alone.
        let begun = login_for(&node, &[audience, audience]).await.unwrap();
        let renewed = node.refresh(&begun.refresh_token).await.unwrap();
        for token in [&begun.access_token, &renewed.access_token] {
            assert_eq!(token.split('.').count(), 5);
            let verified = node.verify(token).await;
            assert!(verified.active, "{verified:?}");
            let claims = verified.claims.unwrap();
            assert_eq!((&claims.audience[..], &claims.session_id), (&[audience.to_owned()][..], &begun.session_id));
            assert!(!node.admits(token).await, "it is not for the service itself");
            let inner = open(token, &jwk);
            assert_eq!(payload_of(&inner)["aud"], json!([audience]));
            assert_eq!(node.verify(&inner).await.inactive_reason(), InactiveReason::NotEncrypted);
            // In the wrapping of another audience, and with a byte of each part changed.
            let wrong = if audience == "billing" { agreeing_jwk("sealed") } else { wrapping_jwk() };
            assert_eq!(node.verify(&wrap(&inner, &wrong)).await.inactive_reason(), InactiveReason::WrongAudience);
            for (at, letter) in token.char_indices().filter(|(at, letter)| *letter != '.' && at % 17 == 0) {
                let mut changed = token.clone();
                changed.replace_range(at..=at, if letter == 'A' { "B" } else { "A" });
                let said = node.verify(&changed).await;
                assert_eq!((said.inactive_reason(), said.claims), (InactiveReason::Undecryptable, None), "{at}");
            }
            let unsigned = format!("eyJhbGciOiJub25lIiwidHlwIjoiYXQrand0In0.{}.", inner.split('.').nth(1).unwrap());
            assert_eq!(node.verify(&wrap(&unsigned, &jwk)).await.inactive_reason(), InactiveReason::Malformed);
        }
        node.revoke_token(&begun.access_token).await.unwrap();
        assert_eq!(node.verify(&begun.access_token).await.inactive_reason(), InactiveReason::Revoked);
        node.logout(&renewed.refresh_token).await.unwrap();
        assert_eq!(node.verify_strongly(&renewed.access_token).await, InactiveReason::Revoked);
    }
    node.remove().await;
}

async fn sessions_from_before_encryption_go_on(backend: Backend) {
    let node = with_audiences(TestNode::builder(backend).await).start().await;
    node.register("ada@example.com").await;
    let mixed = login_for(&node, &["billing", "vouchsafe", "orders"]).await.unwrap();
    let alone = login_for(&node, &["billing"]).await.unwrap();
    let both = login_for(&node, &["sealed", "billing"]).await.unwrap();
    let database = node.database.clone();
    node.stop().await;

    let (_folder, setting) = keys(&json!({"billing": wrapping_jwk(), "sealed": public(agreeing_jwk("sealed"))}));
    let node = with_audiences(TestNode::on(database)).set(&setting).start().await;
    for before in [&mixed, &alone, &both] {
        assert_eq!(node.verify(&before.access_token).await.inactive_reason(), InactiveReason::NotEncrypted);
        assert!(!node.admits(&before.access_token).await);
    }
    // Verifiers without the key take it until it expires, so it can be revoked.
    let feed = async || node.database.integer("SELECT number FROM feed_head").await;
    let published = feed().await;
    node.revoke_token(&alone.access_token).await.unwrap();
    assert_eq!(feed().await, published + 1);

    let mixed = node.refresh(&mixed.refresh_token).await.unwrap();
    assert_eq!(aud(&mixed.access_token), json!(["vouchsafe", "orders"]));
    assert!(node.admits(&mixed.access_token).await);
    let alone = node.refresh(&alone.refresh_token).await.unwrap();
    assert_eq!(aud(&open(&alone.access_token, &wrapping_jwk())), json!(["billing"]));
    assert!(node.verify(&alone.access_token).await.active);
    let both = node.refresh(&both.refresh_token).await.unwrap();
    assert_eq!(aud(&open(&both.access_token, &agreeing_jwk("sealed"))), json!(["sealed"]), "the first");
    let database = node.database.clone();
    node.stop().await;

    // Turned off again, each session has all that it was begun for.
    let node = with_audiences(TestNode::on(database)).start().await;
    let mixed = node.refresh(&mixed.refresh_token).await.unwrap();
    assert_eq!(aud(&mixed.access_token), json!(["billing", "vouchsafe", "orders"]));
    assert_eq!(node.verify(&alone.access_token).await.inactive_reason(), InactiveReason::Undecryptable);
    // Its services, which have the key, take it for as long as it lives: it would be a lie to say that it is revoked.
    let status = node.revoke_token(&alone.access_token).await.unwrap_err();
    assert_eq!((status.code(), fields(&status)), (Code::InvalidArgument, vec!["token".to_owned()]));
    node.remove().await;
}

async fn a_service_token_is_encrypted_too(backend: Backend) {
    let (_folder, setting) = keys(&json!({"billing": wrapping_jwk()}));
    let node = with_audiences(TestNode::builder(backend).await).set(&setting).start().await;
    let root = service_accounts::administrator(&node).await;
    let (account, secret) = service_accounts::create(&node, &root, &[]).await;
    let ask = async |audience: &[&str]| {
        let request = v1::IssueServiceTokenRequest {
            client_id: account.client_id.clone(),
            client_secret: secret.clone(),
            audience: audience.iter().map(|name| (*name).to_owned()).collect(),
            ..Default::default()
        };
        Ok::<_, Status>(node.auth().await.issue_service_token(request).await?.into_inner().access_token)
    };
    assert_eq!(fields(&ask(&["billing", "orders"]).await.unwrap_err()), ["audience"]);
    let token = ask(&["billing"]).await.unwrap();
    assert_eq!(payload_of(&open(&token, &wrapping_jwk()))["sub"], json!(account.client_id));
    assert_eq!(node.verify(&token).await.claims.unwrap().subject, account.client_id);
    assert_eq!(ask(&["orders"]).await.unwrap().split('.').count(), 3);
    node.remove().await;
}

async fn a_token_that_only_its_audience_can_read_is_refused_here(backend: Backend) {
    let (_folder, setting) = keys(&json!({"sealed": public(agreeing_jwk("sealed"))}));
    let node = with_audiences(TestNode::builder(backend).await).set(&setting).start().await;
    node.register("ada@example.com").await;
    let pair = login_for(&node, &["sealed"]).await.unwrap();
    let said = node.verify(&pair.access_token).await;
    assert_eq!((said.inactive_reason(), said.claims), (InactiveReason::Undecryptable, None));
    assert_eq!(aud(&open(&pair.access_token, &agreeing_jwk("sealed"))), json!(["sealed"]));
    // It would be a lie to say that it is revoked.
    let status = node.revoke_token(&pair.access_token).await.unwrap_err();
    assert_eq!((status.code(), fields(&status)), (Code::InvalidArgument, vec!["token".to_owned()]));
    node.revoke_token(&pair.refresh_token).await.unwrap();
    assert_eq!(reason(&node.refresh(&pair.refresh_token).await.unwrap_err()), "SESSION_REVOKED");
    let refused = node.account().await.get_account(bearer(&pair.access_token, v1::GetAccountRequest {})).await;
    assert_eq!(reason(&refused.unwrap_err()), "ACCESS_TOKEN_INVALID");
    node.remove().await;
}

async fn a_key_is_replaced_without_a_gap(backend: Backend) {
    let folder = tempfile::tempdir().unwrap();
    let first = setting(folder.path(), &json!({"billing": wrapping_jwk()}));
    let node = with_audiences(TestNode::builder(backend).await).set(&first).start().await;
    node.register("ada@example.com").await;
    let before = login_for(&node, &["billing"]).await.unwrap();
    let database = node.database.clone();
    node.stop().await;
    let second = setting(folder.path(), &json!({"billing": [agreeing_jwk("new"), wrapping_jwk()]}));
    let node = with_audiences(TestNode::on(database)).set(&second).start().await;
    assert!(node.verify(&before.access_token).await.active, "by the key of before");
    let after = node.refresh(&before.refresh_token).await.unwrap();
    assert!(node.verify(&after.access_token).await.active);
    assert_eq!(aud(&open(&after.access_token, &agreeing_jwk("new"))), json!(["billing"]));
    assert!(jwe::decrypt(&after.access_token, &decryption(&wrapping_jwk())).is_err());
    node.remove().await;
}
