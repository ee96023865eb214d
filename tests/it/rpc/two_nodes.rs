//! Two nodes on one Postgres, with and without Redis: what one revokes, the other refuses. (An embedded database has one node.)

use std::{sync::Arc, time::Duration};

use tokio::sync::Barrier;
use vouchsafe::{
    crypto::machine_date,
    pb::v1::{self, InactiveReason},
    server::DatabaseClock,
};

use super::on_shared_forms;
use crate::support::{Backend, PASSWORD, TestDatabase, TestNode, bearer, login_request, patient, reason, until};

on_shared_forms!(
    what_one_node_revokes_the_other_refuses_strongly_at_once_and_locally_soon,
    a_hundred_callers_on_two_nodes_get_one_successor,
    a_refresh_at_one_node_never_outlives_a_logout_at_the_other,
    a_logout_that_another_node_did_is_known_before_it_is_acknowledged,
    a_node_on_a_machine_with_a_wrong_date_goes_by_the_database,
);

async fn two_nodes(backend: Backend) -> (Arc<TestNode>, Arc<TestNode>) {
    let database = Arc::new(TestDatabase::migrated(backend).await);
    let first = patient(TestNode::on(database.clone())).start().await;
    let second = patient(TestNode::on(database)).start().await;
    (Arc::new(first), Arc::new(second))
}

async fn remove(first: Arc<TestNode>, second: Arc<TestNode>) {
    Arc::into_inner(first).unwrap().stop().await;
    Arc::into_inner(second).unwrap().remove().await;
}

async fn what_one_node_revokes_the_other_refuses_strongly_at_once_and_locally_soon(backend: Backend) {
    let (a, b) = two_nodes(backend).await;
    a.register("ada@example.com").await;
    let logged_out = b.login("ada@example.com").await;
    let revoked = b.login("ada@example.com").await;
    let cut_off = b.login("ada@example.com").await;
    let current = a.login("ada@example.com").await;
    for tokens in [&logged_out, &revoked, &cut_off, &current] {
        assert!(b.verify(&tokens.access_token).await.active);
    }
    let dead = async |tokens: &v1::TokenPair| {
        assert_eq!(b.verify_strongly(&tokens.access_token).await, InactiveReason::Revoked);
        assert_eq!(b.verify(&tokens.access_token).await.inactive_reason(), InactiveReason::Revoked, "remembered");
        assert_eq!(reason(&b.refresh(&tokens.refresh_token).await.unwrap_err()), "SESSION_REVOKED");
    };
    a.logout(&logged_out.refresh_token).await.unwrap();
    dead(&logged_out).await;
    let request = bearer(&current.access_token, v1::RevokeSessionRequest { session_id: revoked.session_id.clone() });
    a.account().await.revoke_session(request).await.unwrap();
    dead(&revoked).await;
    a.change_password(&current.access_token, PASSWORD, "another correct horse battery").await.unwrap();
    dead(&cut_off).await;
    assert_eq!(b.verify_strongly(&current.access_token).await, InactiveReason::Unspecified, "spared there too");

    // Without asking for it: the feed is followed.
    let soon = a.try_login(login_request("ada@example.com", "another correct horse battery")).await.unwrap();
    assert!(b.verify(&soon.access_token).await.active);
    a.logout(&soon.refresh_token).await.unwrap();
    let refused = async || b.verify(&soon.access_token).await.inactive_reason() == InactiveReason::Revoked;
    until("the other node refuses from memory", refused).await;
    assert!(!b.admits(&soon.access_token).await);
    remove(a, b).await;
}

async fn a_hundred_callers_on_two_nodes_get_one_successor(backend: Backend) {
    let (a, b) = two_nodes(backend).await;
    a.register("ada@example.com").await;
    let mut tokens = a.login("ada@example.com").await;
    for generation in 1..=5 {
        let start = Arc::new(Barrier::new(100));
        let callers: Vec<_> = (0..100)
            .map(|n| {
                let node = if n % 2 == 0 { a.clone() } else { b.clone() };
                let (start, token) = (start.clone(), tokens.refresh_token.clone());
                tokio::spawn(async move {
                    start.wait().await;
                    node.refresh(&token).await.unwrap()
                })
            })
            .collect();
        let mut answers = Vec::new();
        for caller in callers {
            answers.push(caller.await.unwrap());
        }
        assert!(answers.iter().all(|answer| answer.refresh_token == answers[0].refresh_token));
        // With a hot state the row follows a moment later.
        let written = async || a.database.integer("SELECT generation FROM sessions").await == generation;
        until("the row has followed", written).await;
        tokens = answers.swap_remove(0);
    }
    assert_eq!(a.events("act LIKE 'refresh.%' OR act = 'session.ended'").await, 0);
    remove(a, b).await;
}

async fn a_refresh_at_one_node_never_outlives_a_logout_at_the_other(backend: Backend) {
    let (a, b) = two_nodes(backend).await;
    a.register("ada@example.com").await;
    let mut came_first = 0;
    for round in 0..30 {
        let tokens = a.login("ada@example.com").await;
        let start = Arc::new(Barrier::new(2));
        let refreshes = {
            let (b, start, mut newest) = (b.clone(), start.clone(), tokens.clone());
            tokio::spawn(async move {
                start.wait().await;
                let mut received = Vec::new();
                loop {
                    match b.refresh(&newest.refresh_token).await {
                        Ok(next) => newest = next,
                        Err(refused) => return (received, refused),
                    }
                    received.push(newest.clone());
                }
            })
        };
        start.wait().await;
        a.logout(&tokens.refresh_token).await.unwrap();
        let (received, refused) = refreshes.await.unwrap();
        assert_eq!(reason(&refused), "SESSION_REVOKED");
        came_first += received.len();
        for renewed in received {
            for node in [&a, &b] {
                assert_eq!(node.verify_strongly(&renewed.access_token).await, InactiveReason::Revoked, "{round}");
                assert_eq!(reason(&node.refresh(&renewed.refresh_token).await.unwrap_err()), "SESSION_REVOKED");
            }
        }
    }
    assert!(came_first > 0, "no refresh ever came first: nothing was tested");
    remove(a, b).await;
}

/// What a node acknowledges it must know, even if another node did it.
async fn a_logout_that_another_node_did_is_known_before_it_is_acknowledged(backend: Backend) {
    let (a, b) = two_nodes(backend).await;
    a.register("ada@example.com").await;
    for _ in 0..20 {
        let tokens = a.login("ada@example.com").await;
        b.logout(&tokens.refresh_token).await.unwrap();
        a.logout(&tokens.refresh_token).await.unwrap();
        assert_eq!(a.verify(&tokens.access_token).await.inactive_reason(), InactiveReason::Revoked);
    }
    remove(a, b).await;
}

/// A machine whose date is wrong must neither go blind nor sign tokens of another day.
async fn a_node_on_a_machine_with_a_wrong_date_goes_by_the_database(backend: Backend) {
    let database = Arc::new(TestDatabase::migrated(backend).await);
    let right = TestNode::on(database.clone()).start().await;
    right.register("ada@example.com").await;
    let hour = Duration::from_hours(1);
    for date in [machine_date().plus(hour), machine_date().minus(hour)] {
        let wrong = TestNode::on(database.clone()).clock(Arc::new(DatabaseClock::new(date))).start().await;
        let tokens = wrong.login("ada@example.com").await;
        assert!(right.verify(&tokens.access_token).await.active);
        assert!(wrong.verify(&tokens.access_token).await.active);
        right.logout(&tokens.refresh_token).await.unwrap();
        assert_eq!(wrong.verify_strongly(&tokens.access_token).await, InactiveReason::Revoked);
        let later = right.login("ada@example.com").await;
        right.logout(&later.refresh_token).await.unwrap();
        let refused = async || wrong.verify(&later.access_token).await.inactive_reason() == InactiveReason::Revoked;
        until("the feed is followed", refused).await;
        wrong.stop().await;
    }
    right.remove().await;
}
