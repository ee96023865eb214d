//! `Register`: who may, with what, and what is said of a bad one.

use tonic::Code;
use vouchsafe::pb::v1;

use super::on_both_databases;
use crate::support::{Backend, PASSWORD, TestNode, bearer, fields, login_request, reason};

on_both_databases!(
    a_user_signs_in_by_address_in_any_case_and_by_user_name,
    a_taken_address_or_user_name_is_told_apart_and_changes_nothing,
    every_bad_field_of_a_registration_is_named_at_once,
    a_password_beyond_its_bound_is_refused_by_name,
    an_empty_field_is_refused_by_name,
    a_closed_server_registers_nobody,
);

fn registration(email: &str, username: &str) -> v1::RegisterRequest {
    v1::RegisterRequest {
        email: email.into(),
        username: username.into(),
        password: PASSWORD.into(),
        display_name: String::new(),
        ..v1::RegisterRequest::default()
    }
}

async fn a_user_signs_in_by_address_in_any_case_and_by_user_name(backend: Backend) {
    let node = TestNode::start(backend).await;
    let request =
        v1::RegisterRequest { display_name: " Ada Lovelace ".into(), ..registration("Ada@Example.com", "Ada.L") };
    let user = node.auth().await.register(request).await.unwrap().into_inner().user.unwrap();
    assert_eq!((user.email.as_str(), user.username.as_str()), ("Ada@Example.com", "ada.l"));
    assert_eq!((user.display_name.as_str(), user.email_verified), ("Ada Lovelace", false));
    assert_eq!(user.state(), v1::UserState::Active);
    for identifier in ["ada@example.com", "ADA@EXAMPLE.COM", " Ada@Example.com ", "ada.l", "ADA.L"] {
        let tokens = node.login(identifier).await;
        assert_eq!(node.verify(&tokens.access_token).await.claims.unwrap().subject, user.id, "{identifier}");
        assert_eq!(tokens.token_type, "Bearer");
    }
    node.remove().await;
}

async fn a_taken_address_or_user_name_is_told_apart_and_changes_nothing(backend: Backend) {
    let node = TestNode::start(backend).await;
    node.auth().await.register(registration("ada@example.com", "ada")).await.unwrap();
    for (email, username, expected) in [
        ("ADA@example.com", "", "EMAIL_TAKEN"),
        ("ada@EXAMPLE.COM", "other", "EMAIL_TAKEN"),
        // A name is public, and looked at before anything is spent.
        ("ada@example.com", "ada", "USERNAME_TAKEN"),
        ("grace@example.com", "ADA", "USERNAME_TAKEN"),
    ] {
        let refused = node.auth().await.register(registration(email, username)).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::AlreadyExists, expected), "{email} {username}");
    }
    assert_eq!(node.database.integer("SELECT COUNT(*) FROM users").await, 1);
    assert_eq!(node.events("act = 'user.registered'").await, 1, "what was refused left no event");
    node.auth().await.register(registration("grace@example.com", "")).await.unwrap();
    node.auth().await.register(registration("alan@example.com", "")).await.unwrap();
    node.remove().await;
}

async fn every_bad_field_of_a_registration_is_named_at_once(backend: Backend) {
    let node = TestNode::start(backend).await;
    let request = v1::RegisterRequest {
        email: "not an address".into(),
        username: "no@name".into(),
        password: "too short".into(),
        display_name: "line\nbreak".into(),
        ..v1::RegisterRequest::default()
    };
    let refused = node.auth().await.register(request).await.unwrap_err();
    assert_eq!(fields(&refused), ["email", "username", "password", "display_name"]);
    assert!(!refused.message().contains("too short\""), "{}", refused.message());
    for (request, field) in [
        (v1::RegisterRequest { email: format!("{}@example.com", "a".repeat(65)), ..registration("", "") }, "email"),
        (v1::RegisterRequest { password: "fourteen chars".into(), ..registration("a@example.com", "") }, "password"),
        (v1::RegisterRequest { display_name: "x".repeat(129), ..registration("a@example.com", "") }, "display_name"),
        (registration("a@example.com", &"x".repeat(65)), "username"),
    ] {
        assert_eq!(fields(&node.auth().await.register(request).await.unwrap_err()), [field]);
    }
    assert_eq!(node.database.integer("SELECT COUNT(*) FROM users").await, 0);
    node.remove().await;
}

async fn a_password_beyond_its_bound_is_refused_by_name(backend: Backend) {
    let node = TestNode::start(backend).await;
    let long = "x".repeat(2048);
    let request = v1::RegisterRequest { password: long.clone(), ..registration("ada@example.com", "") };
    assert_eq!(fields(&node.auth().await.register(request).await.unwrap_err()), ["password"]);
    node.register("ada@example.com").await;
    let refused = node.try_login(login_request("ada@example.com", &long)).await.unwrap_err();
    assert_eq!(fields(&refused), ["password"]);
    let tokens = node.login("ada@example.com").await;
    let refused = node.change_password(&tokens.access_token, &long, &long).await.unwrap_err();
    assert_eq!(fields(&refused), ["current_password", "new_password"]);
    // The longest that is accepted is accepted whole: its last byte counts.
    let phrase = "seven lanterns over quiet marsh ".repeat(32);
    let longest = format!("{}y", &phrase[..1023]);
    node.change_password(&tokens.access_token, PASSWORD, &longest).await.unwrap();
    let refused = node.try_login(login_request("ada@example.com", &phrase)).await.unwrap_err();
    assert_eq!(reason(&refused), "INVALID_CREDENTIALS");
    node.try_login(login_request("ada@example.com", &longest)).await.unwrap();
    node.remove().await;
}

async fn an_empty_field_is_refused_by_name(backend: Backend) {
    let node = TestNode::start(backend).await;
    let refused = node.try_login(login_request("", "")).await.unwrap_err();
    assert_eq!(fields(&refused), ["identifier", "password"]);
    let refused = node.try_login(login_request(&"x".repeat(1025), PASSWORD)).await.unwrap_err();
    assert_eq!(fields(&refused), ["identifier"]);
    let refused = node.auth().await.register(v1::RegisterRequest::default()).await.unwrap_err();
    assert_eq!(fields(&refused), ["email", "password"]);
    assert_eq!(fields(&node.refresh("").await.unwrap_err()), ["refresh_token"]);
    assert_eq!(fields(&node.logout("").await.unwrap_err()), ["refresh_token"]);
    let refused =
        node.auth().await.verify(v1::VerifyRequest { consistency: 7, ..Default::default() }).await.unwrap_err();
    assert_eq!(fields(&refused), ["token", "consistency"]);
    node.register("ada@example.com").await;
    let token = node.login("ada@example.com").await.access_token;
    // An empty one is that of an account without a password, of which only the account tells.
    assert_eq!(fields(&node.change_password(&token, "", "").await.unwrap_err()), ["new_password"]);
    assert_eq!(fields(&node.change_password(&token, "", PASSWORD).await.unwrap_err()), ["current_password"]);
    let request = bearer(&token, v1::RevokeSessionRequest::default());
    assert_eq!(fields(&node.account().await.revoke_session(request).await.unwrap_err()), ["session_id"]);
    node.remove().await;
}

async fn a_closed_server_registers_nobody(backend: Backend) {
    let node = TestNode::builder(backend).await.set("registration.mode=closed").start().await;
    let refused = node.auth().await.register(registration("ada@example.com", "ada")).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "REGISTRATION_CLOSED"));
    assert_eq!(node.database.integer("SELECT COUNT(*) FROM users").await, 0);
    node.remove().await;
}
