//! A sidecar that has the key of its workload's tokens.

use serde_json::json;
use vouchsafe::{
    jose::{DecryptionKeys, jwe},
    pb::v1::{self, Consistency, InactiveReason},
};

use super::world::{Sidecar, run};
use crate::support::{
    Backend, PASSWORD, TestNode,
    encryption::{agreeing_jwk, private_file, public, wrapping_jwk},
    login_request,
};

#[tokio::test]
async fn with_its_key_a_sidecar_takes_encrypted_tokens_and_no_others() {
    let folder = tempfile::tempdir().unwrap();
    let keys = private_file(folder.path(), "all.json", &json!({"audiences": {"billing": wrapping_jwk()}}));
    let key = private_file(folder.path(), "billing.json", &wrapping_jwk());
    let node = TestNode::builder(Backend::Sqlite).await.set("tokens.audiences=vouchsafe,billing");
    let node = node.set(&format!("tokens.encryption_keys={keys}")).start().await;
    node.register("ada@example.com").await;
    let request = v1::LoginRequest { audience: vec!["billing".into()], ..login_request("ada@example.com", PASSWORD) };
    let token = node.try_login(request).await.unwrap().access_token;
    let held = DecryptionKeys::from_json(&wrapping_jwk().to_string()).unwrap();
    let plain = jwe::decrypt(&token, &held).unwrap().token().to_owned();

    let policy = format!("decryption_key_file = {key:?}\n");
    let sidecar = Sidecar::start_for("billing", &format!("http://{}", node.grpc), false, &policy).await;
    let passed = sidecar.get("/invoices", Some(&token)).await;
    let subject = node.verify(&token).await.claims.unwrap().subject;
    assert_eq!((passed.status, &passed.headers["x-vouchsafe-subject"]), (200, &subject));
    let tampered = format!("{}.{}", "A".repeat(40), token.split_once('.').unwrap().1);
    for (token, reason) in [(&plain, "not_encrypted"), (&tampered, "undecryptable")] {
        assert_eq!(sidecar.get("/invoices", Some(token)).await.status, 401);
        let metrics = sidecar.http("/metrics").await.body;
        let counted = format!("vouchsafe_verifier_verifications_total{{result=\"{reason}\"}} 1");
        assert!(metrics.contains(&counted), "{counted}: {metrics}");
    }
    for (token, reason) in [
        (&token, InactiveReason::Unspecified),
        (&plain, InactiveReason::NotEncrypted),
        (&tampered, InactiveReason::Undecryptable),
    ] {
        for consistency in [Consistency::Local, Consistency::Strong] {
            let request =
                v1::VerifyRequest { token: token.clone(), consistency: consistency.into(), ..Default::default() };
            let answer = sidecar.auth().verify(request).await.unwrap().into_inner();
            assert_eq!((answer.active, answer.inactive_reason()), (reason == InactiveReason::Unspecified, reason));
        }
    }
    sidecar.stop().await;
    node.remove().await;
}

#[tokio::test]
async fn a_key_that_a_sidecar_cannot_use_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let half = private_file(folder.path(), "half.json", &public(agreeing_jwk("b")));
    let config = folder.path().join("sidecar.toml");
    for (file, part) in [(half, "private part d is missing"), ("/nowhere/key.json".to_owned(), "cannot be read")] {
        let text = super::world::file("http://127.0.0.1:1", "127.0.0.1:0", &format!("decryption_key_file = {file:?}"));
        std::fs::write(&config, text).unwrap();
        let said = run(&["--check", "--config", config.to_str().unwrap()]).await.refused();
        assert!(said.contains(&format!("decryption_key_file: {file}")) && said.contains(part), "{said}");
    }
    let key = private_file(folder.path(), "key.json", &wrapping_jwk());
    let text = super::world::file("http://127.0.0.1:1", "127.0.0.1:0", &format!("decryption_key_file = {key:?}"));
    std::fs::write(&config, text).unwrap();
    let said = run(&["--check", "--config", config.to_str().unwrap()]).await.ok();
    assert!(said.contains("takes encrypted tokens only"), "{said}");
}
