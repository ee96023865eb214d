//! A verifier of encrypted tokens beside a real node.

use serde_json::{Value, json};
use vouchsafe::{
    jose::{DecryptionKeys, jwe},
    pb::v1,
    verifier::{BuildError, Builder, Denied, Inactive, Rule, Verifier},
};

use super::{ISSUER, REVOKED, check, until};
use crate::support::{
    Backend, PASSWORD, TestNode,
    encryption::{agreeing_jwk, direct_jwk, private_file, public, wrapping_jwk},
    login_request,
};

fn builder(node: &TestNode) -> Builder {
    Verifier::builder(ISSUER, ["billing"]).service_url(&format!("http://{}", node.grpc)).unwrap()
}

fn keys(jwk: &Value) -> DecryptionKeys {
    DecryptionKeys::from_json(&jwk.to_string()).unwrap()
}

async fn login(node: &TestNode) -> v1::TokenPair {
    let audience = vec!["billing".to_owned()];
    node.try_login(v1::LoginRequest { audience, ..login_request("ada@example.com", PASSWORD) }).await.unwrap()
}

#[tokio::test]
async fn with_a_key_encrypted_tokens_are_taken_and_plain_ones_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let content = json!({"audiences": {"billing": public(agreeing_jwk("b"))}});
    let file = private_file(folder.path(), "encryption.json", &content);
    let node = TestNode::builder(Backend::Sqlite).await.set("tokens.audiences=vouchsafe,billing");
    let node = node.set(&format!("tokens.encryption_keys={file}")).start().await;
    node.register("ada@example.com").await;
    let pair = login(&node).await;
    let plain = jwe::decrypt(&pair.access_token, &keys(&agreeing_jwk("b"))).unwrap().token().to_owned();

    let verifier = builder(&node).decryption_keys(keys(&agreeing_jwk("b"))).start().await.unwrap();
    for _ in 0..2 {
        let principal = verifier.verify(&pair.access_token, &Rule::required()).await.unwrap();
        assert_eq!(principal.claims().audience[0].as_str(), "billing");
        assert_eq!(check(&verifier, &plain).await, Err(Denied::Inactive(Inactive::NotEncrypted)));
    }
    let letter = if pair.access_token.ends_with('A') { "Q" } else { "A" };
    let tampered = format!("{}{letter}", &pair.access_token[..pair.access_token.len() - 1]);
    assert_eq!(check(&verifier, &tampered).await, Err(Denied::Inactive(Inactive::Undecryptable)));
    let metrics = verifier.metrics();
    assert_eq!(["active", "not_encrypted", "undecryptable"].map(|name| metrics.verified(name)), [2, 2, 1]);

    let other = builder(&node).decryption_keys(keys(&wrapping_jwk())).start().await.unwrap();
    let without = builder(&node).start().await.unwrap();
    for verifier in [&other, &without] {
        assert_eq!(check(verifier, &pair.access_token).await, Err(Denied::Inactive(Inactive::Undecryptable)));
    }
    // It cannot know that the service issues no plain ones.
    assert_eq!(check(&without, &plain).await, Ok(()));

    node.logout(&pair.refresh_token).await.unwrap();
    until("the revocation is there", async || check(&verifier, &pair.access_token).await == Err(REVOKED)).await;
    node.remove().await;
}

#[tokio::test]
async fn keys_that_open_nothing_are_refused_at_the_start() {
    let node = TestNode::start(Backend::Sqlite).await;
    let folder = tempfile::tempdir().unwrap();
    let keyless = builder(&node).decryption_keys(DecryptionKeys::default()).start().await;
    assert!(matches!(keyless, Err(BuildError::EmptyDecryptionKeys)));
    let good = private_file(folder.path(), "good.json", &json!({"keys": [direct_jwk(), wrapping_jwk()]}));
    builder(&node).decryption_key_file(good).validate().unwrap();
    let half = private_file(folder.path(), "half.json", &public(agreeing_jwk("b")));
    let open = folder.path().join("open.json");
    std::fs::write(&open, direct_jwk().to_string()).unwrap();
    let missing = folder.path().join("missing.json");
    for (file, part) in [(half.into(), "private part"), (open, "chmod o="), (missing, "cannot be read")] {
        let error = builder(&node).decryption_key_file(&file).validate().unwrap_err().to_string();
        assert!(error.contains(part) && error.contains(&file.display().to_string()), "{error}");
    }
    node.remove().await;
}
