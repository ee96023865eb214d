//! What is done at one of two nodes holds at the other.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::task::JoinHandle;
use tonic::Code;
use vouchsafe::pb::v1::{self, InactiveReason};

use super::{Admin, assert_dead, refusal, remove, role, two_nodes};
use crate::{
    rpc::on_shared_forms,
    support::{Backend, PASSWORD, TestNode, login_request, reason, until},
};

on_shared_forms!(what_is_done_at_one_node_holds_at_the_other, no_refresh_says_a_role_that_was_taken);

const OTHER: &str = "another correct horse battery";

async fn what_is_done_at_one_node_holds_at_the_other(backend: Backend) {
    let (a, b) = two_nodes(backend).await;
    let admin = Admin::of(&a).await;
    let acts: [(&str, &str); 4] = [
        ("suspended", "SESSION_REVOKED"),
        ("deleted", "REFRESH_TOKEN_EXPIRED"),
        ("given another password", "SESSION_REVOKED"),
        ("signed out", "SESSION_REVOKED"),
    ];
    for (number, (act, said)) in acts.into_iter().enumerate() {
        let email = format!("user{number}@example.com");
        let id = a.register(&email).await.id;
        let tokens = b.login(&email).await;
        let tokens = b.refresh(&tokens.refresh_token).await.unwrap();
        assert!(b.admits(&tokens.access_token).await);
        match act {
            "suspended" => admin.suspend(&id).await.map(|_| ()),
            "deleted" => admin.delete(&id, "").await,
            "signed out" => admin.revoke(&id, "").await,
            _ => admin.set_password(&id, OTHER).await,
        }
        .unwrap();
        // Not asked for it strongly: the feed is followed.
        until("refused from memory", async || !b.verify(&tokens.access_token).await.active).await;
        assert_eq!(reason(&b.refresh(&tokens.refresh_token).await.unwrap_err()), said, "{act}");
        assert_dead(&a, &tokens, said).await;
        assert_dead(&b, &tokens, said).await;
        let login = b.try_login(login_request(&email, PASSWORD)).await;
        assert_eq!(login.is_ok(), act == "signed out", "{act}");
    }
    // Whoever manages is asked for their roles where the call is, as they are at this moment.
    let elsewhere = admin.at(&b).await;
    let deputy = Admin::with_role(&b, "deputy@example.com", "admin").await;
    elsewhere.get(&deputy.id).await.unwrap();
    admin.unassign(&deputy.id, "admin").await.unwrap();
    let refused = refusal(deputy.get(&admin.id).await);
    let known = [(Code::Unauthenticated, "ACCESS_TOKEN_INVALID"), (Code::PermissionDenied, "PERMISSION_DENIED")];
    assert!(known.iter().any(|(code, reason)| refused == (*code, (*reason).to_owned())), "{refused:?}");
    remove(a, b).await;
}

/// A token, and whether it was asked for after the role had gone.
type Received = (v1::TokenPair, bool);

/// Refreshes at a node, until it is told to stop and has done so once more. Every pair that it received.
fn refresher(
    node: &Arc<TestNode>,
    mut tokens: v1::TokenPair,
    gone: &Arc<AtomicBool>,
    stop: &Arc<AtomicBool>,
) -> JoinHandle<Vec<Received>> {
    let (node, gone, stop) = (node.clone(), gone.clone(), stop.clone());
    tokio::spawn(async move {
        let mut received = vec![(tokens.clone(), false)];
        loop {
            let last = stop.load(Ordering::SeqCst);
            let after = gone.load(Ordering::SeqCst);
            tokens = node.refresh(&tokens.refresh_token).await.unwrap();
            received.push((tokens.clone(), after));
            if last {
                return received;
            }
        }
    })
}

async fn no_refresh_says_a_role_that_was_taken(backend: Backend) {
    let (a, b) = two_nodes(backend).await;
    let admin = Admin::of(&a).await;
    role(&a, "clerk", &["orders:read"]).await;
    let id = a.register("ada@example.com").await.id;
    let (mut before, mut later) = (0, 0);
    for round in 0..10 {
        admin.assign(&id, "clerk").await.unwrap();
        let (gone, stop) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let mut refreshers = Vec::new();
        for node in [&a, &b, &a, &b] {
            refreshers.push(refresher(node, node.login("ada@example.com").await, &gone, &stop));
        }
        for _ in 0..round {
            // Somewhere in the middle of theirs.
            a.verify("x").await;
        }
        admin.unassign(&id, "clerk").await.unwrap();
        gone.store(true, Ordering::SeqCst);
        for _ in 0..3 {
            a.verify_strongly("x").await;
        }
        stop.store(true, Ordering::SeqCst);
        for refresher in refreshers {
            for (tokens, after) in refresher.await.unwrap() {
                for node in [&a, &b] {
                    let strongly = node.verify_strongly(&tokens.access_token).await;
                    let verified = node.verify(&tokens.access_token).await;
                    assert_eq!(verified.active, strongly == InactiveReason::Unspecified);
                    let roles = verified.claims.map(|claims| claims.roles);
                    assert_ne!(roles.as_deref(), Some(&["clerk".to_owned()][..]), "round {round}: still good with it");
                    assert!(!after || roles == Some(Vec::new()), "round {round}: refused, though asked for after it");
                }
                *(if after { &mut later } else { &mut before }) += 1;
            }
        }
    }
    assert!(before > 40 && later >= 40, "{before} tokens from before, {later} from after");
    remove(a, b).await;
}
