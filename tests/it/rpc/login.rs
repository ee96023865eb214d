//! `Login`: what a refusal gives away, and what the caller may ask for.

use tonic::{Code, Status};
use vouchsafe::pb::v1;

use super::on_both_databases;
use crate::support::{Backend, PASSWORD, TestNode, fields, login_request, reason};

on_both_databases!(
    refused_sign_ins_cannot_be_told_apart,
    an_unknown_audience_or_scope_is_refused_by_name,
    the_audience_and_scope_asked_for_are_in_the_token,
    a_token_not_meant_for_vouchsafe_is_refused_by_the_account_service,
    a_device_name_with_control_characters_is_refused,
);

/// All that a caller can see of a refusal, but for its request id and its date.
fn seen(status: &Status) -> (Code, String, Vec<u8>, Vec<String>) {
    let mut headers: Vec<String> = status.metadata().as_ref().keys().map(ToString::to_string).collect();
    headers.sort();
    (status.code(), status.message().to_owned(), status.details().to_vec(), headers)
}

async fn refused_sign_ins_cannot_be_told_apart(backend: Backend) {
    let node = TestNode::start(backend).await;
    let suspended = node.register("suspended@example.com").await;
    let passwordless = node.register("passwordless@example.com").await;
    let damaged = node.register("damaged@example.com").await;
    let costly = node.register("costly@example.com").await;
    node.register("ada@example.com").await;
    let id = |user: &v1::User| node.database.id(&user.id.parse().unwrap());
    let change = |what: &str, user| format!("UPDATE users SET {what} WHERE id = {}", id(user));
    node.database.execute(&change("state = 'suspended'", &suspended)).await;
    node.database.execute(&change("password_hash = NULL", &passwordless)).await;
    node.database.execute(&change("password_hash = '$argon2id$v=19$m=19456,t=2,p=1$nonsense'", &damaged)).await;
    let hours = "bcrypt$$2b$31$abcdefghijklmnopqrstuuFiPhXf1sVd3pCCRO.uVh34H/qI/ZsuS";
    node.database.execute(&change(&format!("password_hash = '{hours}'"), &costly)).await;
    let wrong = "another password altogether";
    let mut answers = Vec::new();
    for (identifier, password) in [
        ("ada@example.com", wrong),
        ("nobody@example.com", PASSWORD),
        ("nobody", PASSWORD),
        ("suspended@example.com", PASSWORD),
        ("suspended@example.com", wrong),
        ("passwordless@example.com", PASSWORD),
        ("damaged@example.com", PASSWORD),
        ("costly@example.com", PASSWORD),
        ("not an @ identifier", PASSWORD),
        ("neither address\nnor name", PASSWORD),
        ("'; DROP TABLE users; --", PASSWORD),
    ] {
        let refused = node.try_login(login_request(identifier, password)).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Unauthenticated, "INVALID_CREDENTIALS"));
        answers.push((identifier, seen(&refused)));
    }
    for (identifier, answer) in &answers {
        assert_eq!(*answer, answers[0].1, "{identifier}");
    }
    // The audit trail knows which was which.
    let cause = |cause: &str| format!("act = 'login.failed' AND CAST(detail AS TEXT) LIKE '%{cause}%'");
    assert_eq!(node.events(&cause("wrong_password")).await, 5);
    assert_eq!(node.events(&cause("unknown_identifier")).await, 5);
    assert_eq!(node.events(&cause("suspended")).await, 1);
    assert_eq!(node.database.integer("SELECT COUNT(*) FROM sessions").await, 0);
    node.login("ada@example.com").await;
    node.remove().await;
}

async fn an_unknown_audience_or_scope_is_refused_by_name(backend: Backend) {
    let node = TestNode::builder(backend)
        .await
        .set("tokens.audiences=vouchsafe,orders")
        .set("tokens.scopes=read")
        .start()
        .await;
    node.register("ada@example.com").await;
    let ask = |audience: &[&str], scope: &str| v1::LoginRequest {
        audience: audience.iter().map(ToString::to_string).collect(),
        scope: scope.into(),
        ..login_request("ada@example.com", PASSWORD)
    };
    for (audience, scope, named) in [
        (&["billing"][..], "", &["audience"][..]),
        (&["orders", "billing"], "", &["audience"]),
        (&["Orders"], "", &["audience"]),
        (&[""], "", &["audience"]),
        (&[], "write", &["scope"]),
        (&[], "read write", &["scope"]),
        (&[], "re\"ad", &["scope"]),
        (&["billing"], "write", &["audience", "scope"]),
    ] {
        let refused = node.try_login(ask(audience, scope)).await.unwrap_err();
        assert_eq!(fields(&refused), named, "{audience:?} {scope:?}");
    }
    assert_eq!(node.database.integer("SELECT COUNT(*) FROM sessions").await, 0);
    node.remove().await;
}

async fn the_audience_and_scope_asked_for_are_in_the_token(backend: Backend) {
    let node = TestNode::builder(backend)
        .await
        .set("tokens.audiences=vouchsafe,orders,billing")
        .set("tokens.default_audience=vouchsafe,orders")
        .set("tokens.scopes=read,write")
        .start()
        .await;
    node.register("ada@example.com").await;
    let ask = |audience: &[&str], scope: &str| v1::LoginRequest {
        audience: audience.iter().map(ToString::to_string).collect(),
        scope: scope.into(),
        ..login_request("ada@example.com", PASSWORD)
    };
    for (audience, scope, granted_audience, granted_scope) in [
        (&[][..], "", &["vouchsafe", "orders"][..], ""),
        (&["billing"], "read", &["billing"], "read"),
        (&["orders", "orders", "vouchsafe"], " write  read write ", &["orders", "vouchsafe"], "write read"),
    ] {
        let tokens = node.try_login(ask(audience, scope)).await.unwrap();
        let renewed = node.refresh(&tokens.refresh_token).await.unwrap();
        for token in [tokens.access_token, renewed.access_token] {
            let claims = node.verify(&token).await.claims.unwrap();
            assert_eq!(
                (claims.audience.as_slice(), claims.scope.as_str()),
                (granted_audience.iter().map(ToString::to_string).collect::<Vec<_>>().as_slice(), granted_scope,)
            );
        }
    }
    node.remove().await;
}

async fn a_token_not_meant_for_vouchsafe_is_refused_by_the_account_service(backend: Backend) {
    let node = TestNode::builder(backend).await.set("tokens.audiences=vouchsafe,orders").start().await;
    node.register("ada@example.com").await;
    let ask = |audience: &[&str]| v1::LoginRequest {
        audience: audience.iter().map(ToString::to_string).collect(),
        ..login_request("ada@example.com", PASSWORD)
    };
    let foreign = node.try_login(ask(&["orders"])).await.unwrap();
    assert!(node.verify(&foreign.access_token).await.active, "good, but not for us");
    assert!(!node.admits(&foreign.access_token).await);
    let refused = node.change_password(&foreign.access_token, PASSWORD, "a longer password than before").await;
    assert_eq!(reason(&refused.unwrap_err()), "ACCESS_TOKEN_INVALID");
    assert!(!node.admits(&node.refresh(&foreign.refresh_token).await.unwrap().access_token).await);
    let both = node.try_login(ask(&["orders", "vouchsafe"])).await.unwrap();
    assert!(node.admits(&both.access_token).await);
    assert!(node.admits(&node.login("ada@example.com").await.access_token).await, "the default includes us");
    node.remove().await;
}

async fn a_device_name_with_control_characters_is_refused(backend: Backend) {
    let node = TestNode::start(backend).await;
    node.register("ada@example.com").await;
    let named = |name: &str| v1::LoginRequest {
        device: Some(v1::Device { name: name.into(), ..v1::Device::default() }),
        ..login_request("ada@example.com", PASSWORD)
    };
    for name in ["a\nb", "a\u{1b}[31m", "a\0b", "a\u{85}b", &"x".repeat(129)] {
        assert_eq!(fields(&node.try_login(named(name)).await.unwrap_err()), ["device.name"], "{name:?}");
    }
    let tokens = node.try_login(named("  Ada's läptop 🦀 ")).await.unwrap();
    assert_eq!(node.sessions(&tokens.access_token).await[0].device_name, "Ada's läptop 🦀");
    node.remove().await;
}
