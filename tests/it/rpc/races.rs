//! What happens at the same moment: SECURITY faults 10 and 11, and a sign-in against a change of the password.

use std::sync::Arc;

use tokio::sync::Barrier;
use tokio_util::sync::CancellationToken;
use vouchsafe::pb::v1::{self, InactiveReason};

use super::on_every_form;
use crate::support::{Backend, PASSWORD, TestNode, bearer, login_request, reason, surely_later, wire};

on_every_form!(
    no_sign_in_with_the_old_password_outlives_its_change,
    nothing_minted_for_a_session_outlives_its_end,
    of_two_changes_of_a_password_one_wins_whole,
    nobody_can_keep_the_owner_from_signing_in,
    a_call_arrives_with_its_message
);

/// Refreshes from the newest token on, and gives every pair that was received, until it is refused.
async fn refresh_until_refused(node: &TestNode, mut tokens: v1::TokenPair) -> (Vec<v1::TokenPair>, tonic::Status) {
    let mut received = vec![tokens.clone()];
    loop {
        match node.refresh(&tokens.refresh_token).await {
            Ok(next) => {
                tokens = next;
                received.push(tokens.clone());
            }
            Err(refused) => return (received, refused),
        }
    }
}

async fn no_sign_in_with_the_old_password_outlives_its_change(backend: Backend) {
    let node = TestNode::builder(backend).await.set("throttle.address_failures=0").start().await;
    let node = Arc::new(node);
    node.register("ada@example.com").await;
    let password = |round: usize| if round == 0 { PASSWORD.to_owned() } else { format!("{PASSWORD} {round}") };
    let current = node.login("ada@example.com").await;
    let (mut before, mut refused) = (0, 0);
    for round in 0..50 {
        let start = Arc::new(Barrier::new(4));
        let logins: Vec<_> = (0..3)
            .map(|_| {
                let (node, start, old) = (node.clone(), start.clone(), password(round));
                tokio::spawn(async move {
                    start.wait().await;
                    let tokens = node.try_login(login_request("ada@example.com", &old)).await?;
                    // Some use what they got at once.
                    let _ = node.refresh(&tokens.refresh_token).await;
                    Ok::<_, tonic::Status>(tokens)
                })
            })
            .collect();
        start.wait().await;
        node.change_password(&current.access_token, &password(round), &password(round + 1)).await.unwrap();
        for login in logins {
            match login.await.unwrap() {
                Ok(tokens) => {
                    before += 1;
                    assert_eq!(node.verify(&tokens.access_token).await.inactive_reason(), InactiveReason::Revoked);
                    assert_eq!(reason(&node.refresh(&tokens.refresh_token).await.unwrap_err()), "SESSION_REVOKED");
                }
                Err(status) => {
                    refused += 1;
                    assert_eq!(reason(&status), "INVALID_CREDENTIALS");
                }
            }
        }
        assert_eq!(node.sessions(&current.access_token).await.len(), 1, "round {round}");
        // Whoever came too late has guessed wrongly, as far as anybody can tell: a right password makes that forgotten.
        let right = node.try_login(login_request("ada@example.com", &password(round + 1))).await.unwrap();
        node.logout(&right.refresh_token).await.unwrap();
    }
    assert_eq!(before + refused, 150);
    assert!(before > 0, "no sign-in ever came first: nothing was tested");
    node.refresh(&current.refresh_token).await.unwrap();
    Arc::into_inner(node).unwrap().remove().await;
}

async fn nothing_minted_for_a_session_outlives_its_end(backend: Backend) {
    let node = Arc::new(TestNode::start(backend).await);
    node.register("ada@example.com").await;
    let mut in_between = 0;
    for round in 0..100 {
        let tokens = node.login("ada@example.com").await;
        let start = Arc::new(Barrier::new(3));
        let refreshers: Vec<_> = (0..2)
            .map(|_| {
                let (node, start, tokens) = (node.clone(), start.clone(), tokens.clone());
                tokio::spawn(async move {
                    start.wait().await;
                    refresh_until_refused(&node, tokens).await
                })
            })
            .collect();
        start.wait().await;
        node.logout(&tokens.refresh_token).await.unwrap();
        // Acknowledged. From here on nothing that this session ever had may work.
        assert_eq!(node.verify(&tokens.access_token).await.inactive_reason(), InactiveReason::Revoked);
        for refresher in refreshers {
            let (received, refused) = refresher.await.unwrap();
            // Two callers who refresh independently look like owner and thief: a replay may have come first, or one of them
            // may have been overtaken by the other on the way.
            let reasons = ["SESSION_REVOKED", "REFRESH_TOKEN_REUSED", "REFRESH_OVERTAKEN"];
            assert!(reasons.contains(&&*reason(&refused)), "{refused:?}");
            in_between += received.len() - 1;
            for pair in received {
                let verified = node.verify(&pair.access_token).await;
                assert_eq!(verified.inactive_reason(), InactiveReason::Revoked, "round {round}");
                let refused = node.refresh(&pair.refresh_token).await.unwrap_err();
                assert_eq!(reason(&refused), "SESSION_REVOKED", "round {round}");
            }
        }
    }
    assert!(in_between > 0, "no refresh ever came first: nothing was tested");
    assert_eq!(node.events("act = 'session.ended'").await, 100);
    Arc::into_inner(node).unwrap().remove().await;
}

async fn of_two_changes_of_a_password_one_wins_whole(backend: Backend) {
    let node = Arc::new(TestNode::start(backend).await);
    node.register("ada@example.com").await;
    let mut old = PASSWORD.to_owned();
    for round in 0..20 {
        let sessions = [
            node.try_login(login_request("ada@example.com", &old)).await.unwrap(),
            node.try_login(login_request("ada@example.com", &old)).await.unwrap(),
        ];
        let start = Arc::new(Barrier::new(2));
        let changes: Vec<_> = (0..2)
            .map(|n| {
                let (node, start, token) = (node.clone(), start.clone(), sessions[n].access_token.clone());
                let (old, new) = (old.clone(), format!("{PASSWORD} {round} {n}"));
                tokio::spawn(async move {
                    start.wait().await;
                    node.change_password(&token, &old, &new).await.map(|()| new)
                })
            })
            .collect();
        let mut winners = Vec::new();
        for (n, change) in changes.into_iter().enumerate() {
            match change.await.unwrap() {
                Ok(new) => winners.push((n, new)),
                // Too late by a moment, by more than that, or by so much that its session was dead already.
                Err(status) => assert!(
                    matches!(&*reason(&status), "CONFLICT" | "INVALID_CREDENTIALS" | "ACCESS_TOKEN_INVALID"),
                    "{status:?}"
                ),
            }
        }
        let [(winner, new)] = &winners[..] else { panic!("{} changes won in round {round}", winners.len()) };
        assert!(node.admits(&sessions[*winner].access_token).await);
        assert!(!node.admits(&sessions[1 - *winner].access_token).await);
        assert_eq!(reason(&node.refresh(&sessions[1 - *winner].refresh_token).await.unwrap_err()), "SESSION_REVOKED");
        let loser = format!("{PASSWORD} {round} {}", 1 - *winner);
        assert!(node.try_login(login_request("ada@example.com", &loser)).await.is_err());
        old.clone_from(new);
    }
    Arc::into_inner(node).unwrap().remove().await;
}

/// Whoever holds an access token can end other sessions as often as they like. That must not end sign-ins under way.
async fn nobody_can_keep_the_owner_from_signing_in(backend: Backend) {
    let node = Arc::new(TestNode::start(backend).await);
    node.register("ada@example.com").await;
    let thief = node.login("ada@example.com").await;
    let stop = CancellationToken::new();
    let loops: Vec<_> = (0..2)
        .map(|_| {
            let (node, stop, token) = (node.clone(), stop.clone(), thief.access_token.clone());
            tokio::spawn(async move {
                let mut ended = 0;
                while !stop.is_cancelled() {
                    let request = bearer(&token, v1::RevokeOtherSessionsRequest {});
                    node.account().await.revoke_other_sessions(request).await.unwrap();
                    ended += 1;
                }
                ended
            })
        })
        .collect();
    for _ in 0..30 {
        node.try_login(login_request("ada@example.com", PASSWORD)).await.unwrap();
    }
    stop.cancel();
    for ended in loops {
        assert!(ended.await.unwrap() > 0);
    }
    Arc::into_inner(node).unwrap().remove().await;
}

/// A thief who opens the call early and sends the stolen token later has not been waiting since the beginning.
async fn a_call_arrives_with_its_message(backend: Backend) {
    let node = Arc::new(TestNode::start(backend).await);
    node.register("ada@example.com").await;
    let tokens = node.login("ada@example.com").await;
    let late = async {
        let owner = node.refresh(&tokens.refresh_token).await.unwrap();
        let owner = node.refresh(&owner.refresh_token).await.unwrap();
        node.refresh(&owner.refresh_token).await.unwrap();
        surely_later().await;
        wire::frame(&v1::RefreshRequest { refresh_token: tokens.refresh_token.clone() })
    };
    let answer = wire::late_call(node.grpc, "/vouchsafe.v1.AuthService/Refresh", late).await;
    assert_eq!(reason(&answer.status()), "REFRESH_TOKEN_REUSED");
    Arc::into_inner(node).unwrap().remove().await;
}
