//! `Refresh`: rotation, redelivery, replay. DESIGN §5, promises R1 and R2.

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use tonic::Code;
use tonic_types::StatusExt as _;
use vouchsafe::{domain::time::Clock as _, pb::v1};

use super::on_every_form;
use crate::support::{Backend, ManualClock, TestNode, TestNodeBuilder, patient, reason, until};

on_every_form!(
    a_hundred_callers_with_one_token_get_one_successor,
    a_retry_within_the_window_gets_the_identical_refresh_token_and_a_fresh_access_token,
    a_retry_after_the_window_is_answered_again_and_audited_once,
    late_retries_at_three_generations_in_a_row_are_a_replay,
    a_replay_ends_its_own_session_and_no_other,
    a_damaged_refresh_token_is_refused,
    a_token_of_an_unknown_key_is_an_outage_and_not_a_refusal,
    an_idle_session_and_an_old_one_expire,
    a_role_given_meanwhile_is_in_the_next_token,
);

/// A node whose clock the test sets, with a user to sign in.
async fn node_with_clock(
    backend: Backend,
    configure: impl FnOnce(TestNodeBuilder) -> TestNodeBuilder,
) -> (TestNode, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new());
    let node = configure(TestNode::builder(backend).await.clock(clock.clone())).start().await;
    node.register("ada@example.com").await;
    (node, clock)
}

async fn pass(node: &TestNode, clock: &ManualClock, time: Duration) {
    clock.advance(time);
    node.catch_up().await;
}

fn session_row(node: &TestNode, tokens: &v1::TokenPair, column: &str) -> String {
    let id = node.database.id(&tokens.session_id.parse().unwrap());
    format!("SELECT {column} FROM sessions WHERE id = {id}")
}

async fn a_hundred_callers_with_one_token_get_one_successor(backend: Backend) {
    let node = patient(TestNode::builder(backend).await).start().await;
    let node = Arc::new(node);
    node.register("ada@example.com").await;
    let mut tokens = node.login("ada@example.com").await;
    let mut channels = Vec::new();
    for _ in 0..4 {
        channels.push(node.channel().await);
    }
    for round in 1..=3 {
        let start = Arc::new(tokio::sync::Barrier::new(100));
        let callers: Vec<_> = (0..100)
            .map(|n| {
                let mut auth = v1::auth_service_client::AuthServiceClient::new(channels[n % 4].clone());
                let (start, request) =
                    (start.clone(), v1::RefreshRequest { refresh_token: tokens.refresh_token.clone() });
                tokio::spawn(async move {
                    start.wait().await;
                    auth.refresh(request).await.unwrap().into_inner().tokens.unwrap()
                })
            })
            .collect();
        let mut answers = Vec::new();
        for caller in callers {
            answers.push(caller.await.unwrap());
        }
        for answer in &answers {
            assert_eq!(answer.refresh_token, answers[0].refresh_token);
            assert!(node.verify(&answer.access_token).await.active);
        }
        assert_ne!(answers[0].refresh_token, tokens.refresh_token);
        // With a hot state the row follows a moment later.
        let generation = session_row(&node, &tokens, "generation");
        until("the row has followed", async || node.database.integer(&generation).await == round).await;
        tokens = answers.swap_remove(0);
    }
    node.refresh(&tokens.refresh_token).await.unwrap();
    assert_eq!(node.events("act LIKE 'refresh.%' OR act = 'session.ended'").await, 0, "no false alarm");
    drop(channels);
    Arc::into_inner(node).unwrap().remove().await;
}

async fn a_retry_within_the_window_gets_the_identical_refresh_token_and_a_fresh_access_token(backend: Backend) {
    let (node, clock) = node_with_clock(backend, |node| node.set("sessions.redelivery_window=10s")).await;
    let first = node.login("ada@example.com").await;
    clock.advance(Duration::from_secs(1));
    let second = node.refresh(&first.refresh_token).await.unwrap();
    // To the last moment of the window, which is not moved by a retry.
    for _ in 0..2 {
        clock.advance(Duration::from_secs(5));
        let again = node.refresh(&first.refresh_token).await.unwrap();
        assert_eq!(again.refresh_token, second.refresh_token);
        assert_eq!(again.refresh_token_expire_time, second.refresh_token_expire_time);
        assert_ne!(again.access_token, second.access_token);
        assert_eq!(again.expires_in, 300, "fresh, not given again");
        assert!(node.verify(&again.access_token).await.active);
    }
    assert!(node.verify(&second.access_token).await.active, "both are good");
    assert_eq!(node.events("act = 'refresh.late_redelivery'").await, 0);
    clock.advance(Duration::from_micros(1));
    assert_eq!(node.refresh(&first.refresh_token).await.unwrap().refresh_token, second.refresh_token);
    assert_eq!(node.events("act = 'refresh.late_redelivery'").await, 1, "one microsecond later");
    node.remove().await;
}

async fn a_retry_after_the_window_is_answered_again_and_audited_once(backend: Backend) {
    let (node, clock) = node_with_clock(backend, |node| node.set("sessions.redelivery_window=0s")).await;
    let first = node.login("ada@example.com").await;
    let second = node.refresh(&first.refresh_token).await.unwrap();
    clock.advance(Duration::from_secs(1));
    for _ in 0..3 {
        let again = node.refresh(&first.refresh_token).await.unwrap();
        assert_eq!(again.refresh_token, second.refresh_token);
    }
    let id = node.database.id(&first.session_id.parse().unwrap());
    assert_eq!(node.events(&format!("act = 'refresh.late_redelivery' AND session_id = {id}")).await, 1);
    let third = node.refresh(&second.refresh_token).await.unwrap();
    assert_ne!(third.refresh_token, second.refresh_token, "the session goes on");
    node.remove().await;
}

async fn late_retries_at_three_generations_in_a_row_are_a_replay(backend: Backend) {
    let (node, clock) = node_with_clock(backend, |node| node.set("sessions.redelivery_window=0s")).await;
    let mut tokens = node.login("ada@example.com").await;
    let late = async |tokens: &v1::TokenPair| {
        let next = node.refresh(&tokens.refresh_token).await.unwrap();
        clock.advance(Duration::from_secs(1));
        (next, node.refresh(&tokens.refresh_token).await)
    };
    // Two in a row, then one that is not late: the count begins anew.
    for _ in 0..2 {
        let (next, again) = late(&tokens).await;
        assert_eq!(again.unwrap().refresh_token, next.refresh_token);
        tokens = next;
    }
    let on_time = node.refresh(&tokens.refresh_token).await.unwrap();
    tokens = node.refresh(&on_time.refresh_token).await.unwrap();
    for _ in 0..2 {
        let (next, again) = late(&tokens).await;
        assert_eq!(again.unwrap().refresh_token, next.refresh_token);
        tokens = next;
    }
    let (next, again) = late(&tokens).await;
    assert_eq!(reason(&again.unwrap_err()), "REFRESH_TOKEN_REUSED");
    assert_eq!(reason(&node.refresh(&next.refresh_token).await.unwrap_err()), "SESSION_REVOKED");
    assert_eq!(node.database.texts(&session_row(&node, &tokens, "end_reason")).await, ["replay"]);
    node.remove().await;
}

async fn a_replay_ends_its_own_session_and_no_other(backend: Backend) {
    let (node, clock) = node_with_clock(backend, |node| node).await;
    let other = node.login("ada@example.com").await;
    let first = node.login("ada@example.com").await;
    let second = node.refresh(&first.refresh_token).await.unwrap();
    let third = node.refresh(&second.refresh_token).await.unwrap();
    clock.advance(Duration::from_secs(1));
    let refused = node.refresh(&first.refresh_token).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Unauthenticated, "REFRESH_TOKEN_REUSED"));
    for tokens in [&first, &second, &third] {
        let verified = node.verify(&tokens.access_token).await;
        assert_eq!(verified.inactive_reason(), v1::InactiveReason::Revoked, "in this node's memory at once");
        assert!(!node.admits(&tokens.access_token).await);
        let refused = node.refresh(&tokens.refresh_token).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Unauthenticated, "SESSION_REVOKED"));
    }
    assert_eq!(node.database.texts(&session_row(&node, &first, "end_reason")).await, ["replay"]);
    let id = node.database.id(&first.session_id.parse().unwrap());
    let audited = format!("act = 'session.ended' AND session_id = {id} AND CAST(detail AS TEXT) LIKE '%replay%'");
    assert_eq!(node.events(&audited).await, 1, "once, however often it comes back");
    assert!(node.admits(&other.access_token).await);
    assert_eq!(node.sessions(&other.access_token).await.len(), 1);
    node.refresh(&other.refresh_token).await.unwrap();
    node.remove().await;
}

async fn a_damaged_refresh_token_is_refused(backend: Backend) {
    let node = TestNode::start(backend).await;
    node.register("ada@example.com").await;
    let good = node.login("ada@example.com").await.refresh_token;
    let bytes = decode(&good);
    // Every bit but those of the key's number, which name another key.
    for bit in (0..bytes.len() * 8).filter(|bit| !(8..40).contains(bit)) {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let refused = node.refresh(&encode(&changed)).await.unwrap_err();
        let answer = (refused.code(), reason(&refused));
        assert_eq!(answer, (Code::Unauthenticated, "REFRESH_TOKEN_INVALID".to_owned()), "bit {bit}");
    }
    for text in ["x", "vrt_", &good[4..], &good[..good.len() - 1], &format!("{good}="), &good.to_uppercase()] {
        assert_eq!(reason(&node.refresh(text).await.unwrap_err()), "REFRESH_TOKEN_INVALID", "{text}");
    }
    node.refresh(&good).await.unwrap();
    node.remove().await;
}

fn decode(token: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(token.strip_prefix("vrt_").unwrap()).unwrap()
}

fn encode(bytes: &[u8]) -> String {
    format!("vrt_{}", URL_SAFE_NO_PAD.encode(bytes))
}

async fn a_token_of_an_unknown_key_is_an_outage_and_not_a_refusal(backend: Backend) {
    let node = TestNode::start(backend).await;
    node.register("ada@example.com").await;
    let good = node.login("ada@example.com").await.refresh_token;
    let mut bytes = decode(&good);
    for key in [0_u32, 2, 77, u32::MAX] {
        bytes[1..5].copy_from_slice(&key.to_be_bytes());
        for refused in
            [node.refresh(&encode(&bytes)).await.unwrap_err(), node.logout(&encode(&bytes)).await.unwrap_err()]
        {
            assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Unavailable, "STORE_UNAVAILABLE"), "{key}");
            let details = refused.get_error_details();
            assert!(details.retry_info().unwrap().retry_delay.unwrap() > Duration::ZERO);
        }
    }
    node.refresh(&good).await.unwrap();
    node.remove().await;
}

async fn an_idle_session_and_an_old_one_expire(backend: Backend) {
    let (node, clock) =
        node_with_clock(backend, |node| node.set("sessions.idle_timeout=10m").set("sessions.absolute_timeout=25m"))
            .await;
    let minute = Duration::from_mins(1);
    let begin = clock.now().as_seconds();
    let expires = |tokens: &v1::TokenPair| (tokens.refresh_token_expire_time.unwrap().seconds - begin) / 60;
    let idle = node.login("ada@example.com").await;
    let busy = node.login("ada@example.com").await;
    assert_eq!(expires(&busy), 10);
    pass(&node, &clock, 9 * minute).await;
    let busy = node.refresh(&busy.refresh_token).await.unwrap();
    assert_eq!(expires(&busy), 19);
    pass(&node, &clock, minute).await;
    let refused = node.refresh(&idle.refresh_token).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Unauthenticated, "REFRESH_TOKEN_EXPIRED"));
    pass(&node, &clock, 8 * minute).await;
    let busy = node.refresh(&busy.refresh_token).await.unwrap();
    assert_eq!(expires(&busy), 25, "capped by the absolute end");
    pass(&node, &clock, (7 * minute).saturating_sub(Duration::from_micros(1))).await;
    let busy = node.refresh(&busy.refresh_token).await.unwrap();
    assert_eq!(expires(&busy), 25);
    clock.advance(Duration::from_micros(1));
    assert_eq!(reason(&node.refresh(&busy.refresh_token).await.unwrap_err()), "REFRESH_TOKEN_EXPIRED");
    // To have expired is not to have been ended: an old token that comes back now is no replay.
    assert_eq!(reason(&node.refresh(&idle.refresh_token).await.unwrap_err()), "REFRESH_TOKEN_EXPIRED");
    assert_eq!(node.events("act = 'session.ended'").await, 0);
    node.remove().await;
}

async fn a_role_given_meanwhile_is_in_the_next_token(backend: Backend) {
    let node = TestNode::start(backend).await;
    let user = node.register("ada@example.com").await;
    let tokens = node.login("ada@example.com").await;
    let roles = async |token: &str| node.verify(token).await.claims.unwrap().roles;
    assert!(roles(&tokens.access_token).await.is_empty());
    let id = node.database.id(&user.id.parse().unwrap());
    node.database
        .execute(&format!("INSERT INTO user_roles (user_id, role, assign_time) VALUES ({id}, 'admin', 0)"))
        .await;
    let with = node.refresh(&tokens.refresh_token).await.unwrap();
    assert_eq!(roles(&with.access_token).await, ["admin"]);
    node.database.execute(&format!("DELETE FROM user_roles WHERE user_id = {id}")).await;
    let without = node.refresh(&with.refresh_token).await.unwrap();
    assert!(roles(&without.access_token).await.is_empty());
    node.remove().await;
}
