//! `RevokeToken` (RFC 7009): what it ends, what goes on, and that it says nothing about tokens that are not good.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use tonic::Code;
use vouchsafe::{
    crypto::SystemEntropy,
    jose::{
        JweKey,
        jwe::{self, may_be_opened_elsewhere},
    },
    pb::v1::{self, InactiveReason, auth_service_client::AuthServiceClient},
};

use super::{
    on_both_databases,
    revocation::{assert_alive, assert_dead},
};
use crate::{
    hostile::{self, Forge},
    support::{Backend, ManualClock, TestDatabase, TestNode, bearer, encryption::wrapping_jwk, fields, until},
};

on_both_databases!(
    an_access_token_is_refused_at_once_and_its_session_goes_on,
    a_refresh_token_of_any_generation_ends_its_session,
    what_is_not_good_is_a_success_and_leaves_no_trace,
    many_callers_fill_the_feed_once,
);

async fn feed(node: &TestNode) -> i64 {
    node.database.integer("SELECT number FROM feed_head").await
}

async fn an_access_token_is_refused_at_once_and_its_session_goes_on(backend: Backend) {
    let node = TestNode::start(backend).await;
    node.register("ada@example.com").await;
    let other = node.login("ada@example.com").await;
    let mine = node.login("ada@example.com").await;
    let sibling = node.refresh(&mine.refresh_token).await.unwrap();
    let before = feed(&node).await;
    for _ in 0..3 {
        node.revoke_token(&mine.access_token).await.unwrap();
        assert_eq!(node.verify(&mine.access_token).await.inactive_reason(), InactiveReason::Revoked);
        assert_eq!(node.verify_strongly(&mine.access_token).await, InactiveReason::Revoked);
        assert!(!node.admits(&mine.access_token).await);
    }
    assert_eq!(feed(&node).await, before + 1);
    assert_eq!(node.events("act = 'token.revoked'").await, 1);
    assert_alive(&node, &sibling).await;
    assert_alive(&node, &other).await;
    node.remove().await;
}

async fn a_refresh_token_of_any_generation_ends_its_session(backend: Backend) {
    let node = TestNode::start(backend).await;
    node.register("ada@example.com").await;
    let other = node.login("ada@example.com").await;
    let first = node.login("ada@example.com").await;
    let second = node.refresh(&first.refresh_token).await.unwrap();
    let before = feed(&node).await;
    for _ in 0..2 {
        for token in [&first.refresh_token, &second.refresh_token, &first.access_token, &second.access_token] {
            node.revoke_token(token).await.unwrap();
        }
    }
    for tokens in [&first, &second] {
        assert_dead(&node, tokens).await;
    }
    assert_eq!(feed(&node).await, before + 1, "one entry for the session");
    assert_eq!(node.events("act = 'session.ended' AND CAST(detail AS TEXT) LIKE '%revoked%'").await, 1);
    assert_eq!(node.events("act = 'token.revoked'").await, 0);
    assert_alive(&node, &other).await;
    node.remove().await;
}

async fn what_is_not_good_is_a_success_and_leaves_no_trace(backend: Backend) {
    let clock = Arc::new(ManualClock::new());
    let node = TestNode::builder(backend).await.clock(clock.clone()).set("tokens.access_ttl=30s").start().await;
    let foreign = TestNode::start(backend).await;
    for node in [&node, &foreign] {
        node.register("ada@example.com").await;
    }
    let mine = node.login("ada@example.com").await;
    let theirs = foreign.login("ada@example.com").await;
    let tables = async || {
        let mut all = Vec::new();
        for table in ["sessions", "feed_head", "feed", "audit_events"] {
            all.push(node.database.dump(table).await);
        }
        all
    };
    let before = tables().await;
    let key = node.signing_key().await;
    // An ID token of ours, for instance: signed, and no access token.
    let of_another_type = Forge::new(&key, &mine.access_token).with_header("typ", json!("JWT"));
    for nonsense in [&theirs.access_token, &of_another_type, "x", "vrt_", "vrt_AAAA", "a.b.c", &"A".repeat(10_000)] {
        node.revoke_token(nonsense).await.unwrap();
    }
    for hostile::Hostile { name, token, .. } in hostile::all(&key, &mine.access_token).into_iter().step_by(5) {
        if !(1..48 * 1024).contains(&token.len()) {
            continue;
        }
        match node.revoke_token(&token).await {
            Ok(()) => assert!(!may_be_opened_elsewhere(&token), "{name}"),
            Err(status) => assert!(may_be_opened_elsewhere(&token), "{name}: {status:?}"),
        }
    }
    // Nobody here knows whether somebody can open it.
    let sealed = jwe::encrypt(&mine.access_token, &JweKey::from_jwk(&wrapping_jwk()).unwrap(), &SystemEntropy).unwrap();
    let status = node.revoke_token(&sealed).await.unwrap_err();
    assert_eq!((status.code(), fields(&status)), (Code::InvalidArgument, vec!["token".to_owned()]));
    // What nobody can.
    for nothing in ["....", "a.b.c.d.e", &sealed[1..], &sealed.replacen("ey", "xy", 1), &format!("{sealed}.")] {
        node.revoke_token(nothing).await.unwrap();
    }
    clock.advance(Duration::from_secs(30));
    node.catch_up().await;
    node.revoke_token(&mine.access_token).await.unwrap();
    assert_eq!(tables().await, before, "expired, and nothing to do");
    assert_eq!(fields(&node.revoke_token("").await.unwrap_err()), ["token"]);
    foreign.remove().await;
    node.remove().await;
}

async fn many_callers_fill_the_feed_once(backend: Backend) {
    let node = TestNode::start(backend).await;
    node.register("ada@example.com").await;
    let token = node.login("ada@example.com").await.access_token;
    let before = feed(&node).await;
    let channel = node.shared().await;
    let callers: Vec<_> = (0..100)
        .map(|_| {
            let mut auth = AuthServiceClient::new(channel.clone());
            let request = v1::RevokeTokenRequest { token: token.clone() };
            tokio::spawn(async move { auth.revoke_token(request).await })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap().unwrap();
    }
    assert_eq!(feed(&node).await, before + 1);
    assert_eq!(node.events("act = 'token.revoked'").await, 1);
    node.remove().await;
}

/// At the other node too: soon by itself, at once for whoever asks strongly, and before it acknowledges a revocation of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_node_revokes_the_other_refuses() {
    let database = Arc::new(TestDatabase::migrated(Backend::Postgres).await);
    let (a, b) = (TestNode::on(database.clone()).start().await, TestNode::on(database).start().await);
    a.register("ada@example.com").await;
    let mut tokens = a.login("ada@example.com").await;
    for round in 0..20 {
        tokens = b.refresh(&tokens.refresh_token).await.unwrap();
        let token = &tokens.access_token;
        assert!(b.verify(token).await.active);
        a.revoke_token(token).await.unwrap();
        if round % 2 == 0 {
            assert_eq!(b.verify_strongly(token).await, InactiveReason::Revoked);
        } else {
            b.revoke_token(token).await.unwrap();
        }
        assert_eq!(b.verify(token).await.inactive_reason(), InactiveReason::Revoked, "{round}");
        assert!(!b.admits(token).await);
    }
    let last = b.refresh(&tokens.refresh_token).await.unwrap();
    assert!(b.verify(&last.access_token).await.active);
    a.revoke_token(&last.access_token).await.unwrap();
    until("the other node refuses it from memory", async || !b.verify(&last.access_token).await.active).await;
    assert_eq!(a.events("act = 'token.revoked'").await, 21);
    let refused = b.account().await.get_account(bearer(&last.access_token, v1::GetAccountRequest {})).await;
    assert_eq!(refused.unwrap_err().code(), Code::Unauthenticated);
    a.stop().await;
    b.remove().await;
}
