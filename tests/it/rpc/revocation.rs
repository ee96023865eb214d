//! `Logout`, `RevokeSession`, `RevokeOtherSessions`: what ends, what goes on, and what is said of nonsense.

use tonic::Code;
use vouchsafe::pb::v1::{self, InactiveReason};

use super::on_every_form;
use crate::support::{Backend, TestNode, bearer, fields, reason};

on_every_form!(
    logout_takes_any_generation_and_any_nonsense_and_ends_one_session,
    a_user_ends_a_session_of_the_own_and_of_nobody_else,
    the_current_session_may_be_ended_too,
    ending_the_others_spares_the_current_session,
    an_ended_session_can_spare_nobody,
);

async fn revoke(node: &TestNode, token: &str, session: &str) -> Result<(), tonic::Status> {
    let request = bearer(token, v1::RevokeSessionRequest { session_id: session.into() });
    node.account().await.revoke_session(request).await.map(|_| ())
}

async fn revoke_others(node: &TestNode, token: &str) -> Result<(), tonic::Status> {
    let request = bearer(token, v1::RevokeOtherSessionsRequest {});
    node.account().await.revoke_other_sessions(request).await.map(|_| ())
}

/// Every door is shut for the session.
pub(crate) async fn assert_dead(node: &TestNode, tokens: &v1::TokenPair) {
    assert_eq!(node.verify(&tokens.access_token).await.inactive_reason(), InactiveReason::Revoked);
    assert_eq!(node.verify_strongly(&tokens.access_token).await, InactiveReason::Revoked);
    assert!(!node.admits(&tokens.access_token).await);
    let refused = node.refresh(&tokens.refresh_token).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Unauthenticated, "SESSION_REVOKED"));
}

/// Every door is open. The newest tokens.
pub(crate) async fn assert_alive(node: &TestNode, tokens: &v1::TokenPair) -> v1::TokenPair {
    assert!(node.verify(&tokens.access_token).await.active);
    assert_eq!(node.verify_strongly(&tokens.access_token).await, InactiveReason::Unspecified);
    assert!(node.admits(&tokens.access_token).await);
    node.refresh(&tokens.refresh_token).await.unwrap()
}

async fn logout_takes_any_generation_and_any_nonsense_and_ends_one_session(backend: Backend) {
    let node = TestNode::start(backend).await;
    node.register("ada@example.com").await;
    let other = node.login("ada@example.com").await;
    let first = node.login("ada@example.com").await;
    let second = node.refresh(&first.refresh_token).await.unwrap();
    let third = node.refresh(&second.refresh_token).await.unwrap();
    // Not even the newest but one: a token that `Refresh` would call a replay.
    node.logout(&first.refresh_token).await.unwrap();
    for tokens in [&first, &second, &third] {
        assert_dead(&node, tokens).await;
    }
    for again in [&first, &second, &third, &first] {
        node.logout(&again.refresh_token).await.unwrap();
    }
    for nonsense in ["x", "vrt_", "vrt_AAAA", &other.access_token, &"A".repeat(10_000)] {
        node.logout(nonsense).await.unwrap();
    }
    let id = node.database.id(&first.session_id.parse().unwrap());
    assert_eq!(node.events("act = 'session.ended'").await, 1, "once, and for nothing else");
    let audited = format!("act = 'session.ended' AND session_id = {id} AND CAST(detail AS TEXT) LIKE '%logout%'");
    assert_eq!(node.events(&audited).await, 1);
    assert_alive(&node, &other).await;
    node.remove().await;
}

async fn a_user_ends_a_session_of_the_own_and_of_nobody_else(backend: Backend) {
    let node = TestNode::start(backend).await;
    for email in ["ada@example.com", "mallory@example.com"] {
        node.register(email).await;
    }
    let phone = node.login("ada@example.com").await;
    let laptop = node.login("ada@example.com").await;
    let mallory = node.login("mallory@example.com").await;
    let not_found = async |token: &str, session: &str| {
        let refused = revoke(&node, token, session).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::NotFound, "SESSION_NOT_FOUND"));
        refused.message().to_owned()
    };
    // A session of another user looks like one that does not exist.
    let foreign = not_found(&mallory.access_token, &phone.session_id).await;
    let missing = not_found(&mallory.access_token, "01900000-0000-7000-8000-000000000001").await;
    assert_eq!(foreign, missing);
    let phone = assert_alive(&node, &phone).await;
    for malformed in
        ["x", "", &phone.session_id.to_uppercase(), &phone.session_id.replace('-', ""), &phone.refresh_token]
    {
        let refused = revoke(&node, &laptop.access_token, malformed).await.unwrap_err();
        assert_eq!(fields(&refused), ["session_id"], "{malformed:?}");
    }
    revoke(&node, &laptop.access_token, &phone.session_id).await.unwrap();
    assert_dead(&node, &phone).await;
    not_found(&laptop.access_token, &phone.session_id).await;
    assert_eq!(node.sessions(&laptop.access_token).await.len(), 1);
    assert_alive(&node, &laptop).await;
    assert_alive(&node, &mallory).await;
    node.remove().await;
}

async fn the_current_session_may_be_ended_too(backend: Backend) {
    let node = TestNode::start(backend).await;
    node.register("ada@example.com").await;
    let current = node.login("ada@example.com").await;
    revoke(&node, &current.access_token, &current.session_id).await.unwrap();
    assert_dead(&node, &current).await;
    node.login("ada@example.com").await;
    node.remove().await;
}

async fn ending_the_others_spares_the_current_session(backend: Backend) {
    let node = TestNode::start(backend).await;
    for email in ["ada@example.com", "grace@example.com"] {
        node.register(email).await;
    }
    let others = [node.login("ada@example.com").await, node.login("ada@example.com").await];
    let grace = node.login("grace@example.com").await;
    // Issued before, and no less good after.
    let mut current = node.login("ada@example.com").await;
    for _ in 0..2 {
        revoke_others(&node, &current.access_token).await.unwrap();
        for tokens in &others {
            assert_dead(&node, tokens).await;
        }
        let before = current.clone();
        current = assert_alive(&node, &current).await;
        assert!(node.verify(&before.access_token).await.active, "a refresh takes nothing away");
    }
    let listed: Vec<_> = node.sessions(&current.access_token).await.into_iter().map(|s| s.id).collect();
    assert_eq!(listed, std::slice::from_ref(&current.session_id));
    assert_alive(&node, &grace).await;
    // A session that begins afterwards is no older one.
    let later = node.login("ada@example.com").await;
    assert_alive(&node, &later).await;
    revoke_others(&node, &later.access_token).await.unwrap();
    assert_dead(&node, &current).await;
    assert_alive(&node, &later).await;
    node.remove().await;
}

async fn an_ended_session_can_spare_nobody(backend: Backend) {
    let node = TestNode::start(backend).await;
    node.register("ada@example.com").await;
    let ended = node.login("ada@example.com").await;
    let other = node.login("ada@example.com").await;
    // By a node that this one has not heard of yet, so that the access token still opens the door.
    let id = node.database.id(&ended.session_id.parse().unwrap());
    node.database.execute(&format!("UPDATE sessions SET end_time = 1, end_reason = 'logout' WHERE id = {id}")).await;
    let refused = revoke_others(&node, &ended.access_token).await.unwrap_err();
    assert_eq!(reason(&refused), "ACCESS_TOKEN_INVALID");
    assert_eq!(node.events("act = 'session.others_ended'").await, 0);
    assert_alive(&node, &other).await;
    node.remove().await;
}
