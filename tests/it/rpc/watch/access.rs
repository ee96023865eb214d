//! Who may watch, and for how long: no longer than the token lasts that let it in.

use std::{sync::Arc, time::Duration};

use tonic::{Code, Request, Status};
use vouchsafe::pb::v1;

use super::{Watcher, request};
use crate::{
    rpc::{on_both_databases, service_accounts},
    support::{Backend, ManualClock, TestNode, TestNodeBuilder, bearer, reason},
};

on_both_databases!(
    off_loopback_nobody_watches_but_service_accounts,
    a_watch_ends_when_its_token_is_revoked,
    a_watch_ends_when_its_token_expires,
);

/// One that is not open to everybody.
async fn closed(backend: Backend) -> TestNodeBuilder {
    TestNode::builder(backend).await.set("grpc.listen=0.0.0.0:0").set("grpc.allow_plaintext=true")
}

fn by(token: &str) -> Request<v1::WatchRevocationsRequest> {
    bearer(token, request("").into_inner())
}

fn refusal(status: &Status) -> (Code, String) {
    (status.code(), reason(status))
}

async fn off_loopback_nobody_watches_but_service_accounts(backend: Backend) {
    let node = closed(backend).await.start().await;
    let root = service_accounts::administrator(&node).await;
    for (request, expected) in
        [(request(""), "VERIFICATION_CLOSED"), (by(&root), "VERIFICATION_CLOSED"), (by("x"), "ACCESS_TOKEN_INVALID")]
    {
        let refused = Watcher::on(node.shared().await, request).await.err().unwrap();
        assert_eq!(refusal(&refused), (Code::Unauthenticated, expected.to_owned()));
    }
    let (account, secret) = service_accounts::create(&node, &root, &[]).await;
    let token = service_accounts::token(&node, &account.client_id, &secret).await;
    let mut watcher = Watcher::on(node.shared().await, by(&token)).await.unwrap();
    watcher.catch_up().await;
    drop(watcher);
    node.remove().await;
}

async fn a_watch_ends_when_its_token_is_revoked(backend: Backend) {
    let node = closed(backend).await.start().await;
    let root = service_accounts::administrator(&node).await;
    let (account, secret) = service_accounts::create(&node, &root, &[]).await;
    let mut admitted = Vec::new();
    for _ in 0..3 {
        let token = service_accounts::token(&node, &account.client_id, &secret).await;
        let mut watcher = Watcher::on(node.shared().await, by(&token)).await.unwrap();
        watcher.catch_up().await;
        admitted.push((token, watcher));
    }
    let ended = (Code::Unauthenticated, "ACCESS_TOKEN_INVALID".to_owned());
    // One token, then all of them.
    let (token, mut revoked) = admitted.remove(1);
    node.revoke_token(&token).await.unwrap();
    assert_eq!(refusal(&revoked.end().await.unwrap()), ended);
    for (_, watcher) in &mut admitted {
        let complete = watcher.known.complete;
        watcher.until("the others go on", |known| known.complete > complete).await;
    }
    service_accounts::delete(&node, &root, &account.client_id, "").await.unwrap();
    for (_, watcher) in &mut admitted {
        assert_eq!(refusal(&watcher.end().await.unwrap()), ended);
    }
    drop(admitted);
    node.remove().await;
}

async fn a_watch_ends_when_its_token_expires(backend: Backend) {
    let clock = Arc::new(ManualClock::new());
    let node = closed(backend).await.clock(clock.clone()).start().await;
    let root = service_accounts::administrator(&node).await;
    let (account, secret) = service_accounts::create(&node, &root, &[]).await;
    let token = service_accounts::token(&node, &account.client_id, &secret).await;
    let mut watcher = Watcher::on(node.shared().await, by(&token)).await.unwrap();
    watcher.catch_up().await;
    clock.advance(Duration::from_hours(24));
    let end = watcher.end().await.unwrap();
    assert_eq!(refusal(&end), (Code::Unauthenticated, "ACCESS_TOKEN_INVALID".to_owned()));
    node.remove().await;
}
