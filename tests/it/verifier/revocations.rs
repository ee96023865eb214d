//! What is revoked is refused by verifiers as well.

use std::{sync::Arc, time::Duration};

use tokio::task::JoinSet;
use vouchsafe::verifier::{Denied, Rule};

use super::{REVOKED, another, builder, check, session_of, until};
use crate::{
    process::proxy::{Link, Proxy},
    rpc::{
        on_both_databases,
        service_accounts::{administrator, create},
    },
    support::{Backend, TestNode},
};

on_both_databases!(what_is_revoked_is_refused_and_whoever_waits_is_told, off_loopback_a_service_account_is_needed,);

async fn what_is_revoked_is_refused_and_whoever_waits_is_told(backend: Backend) {
    let node = TestNode::start(backend).await;
    node.register("ada@example.com").await;
    let verifier = builder(node.grpc).start().await.unwrap();
    let (one, other) = (node.login("ada@example.com").await, node.login("ada@example.com").await);
    let rule = Rule::required();
    let wait = |principal| {
        let (verifier, rule) = (verifier.clone(), rule.clone());
        tokio::spawn(async move { verifier.ended(&principal, &rule).await })
    };
    let ended = wait(verifier.verify(&one.access_token, &rule).await.unwrap());
    let goes_on = wait(verifier.verify(&other.access_token, &rule).await.unwrap());
    node.logout(&one.refresh_token).await.unwrap();
    assert_eq!(ended.await.unwrap(), REVOKED);
    assert_eq!(check(&verifier, &one.access_token).await, Err(REVOKED));
    assert_eq!(check(&verifier, &other.access_token).await, Ok(()));
    assert!(!goes_on.is_finished());
    node.revoke_token(&other.access_token).await.unwrap();
    assert_eq!(goes_on.await.unwrap(), REVOKED);
    node.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_revocations_while_away_are_all_known_after() {
    const MANY: u32 = 10_000;
    /// Of these the sessions, in the database; of the others the tokens, by calls.
    const SESSIONS: u32 = 9_000;
    let node = Arc::new(TestNode::start(Backend::Postgres).await);
    node.register("ada@example.com").await;
    let spared = node.login("ada@example.com").await.access_token;
    let key = node.signing_key().await;
    let tokens: Arc<Vec<_>> = Arc::new((0..MANY).map(|number| another(&key, &spared, number)).collect());
    let proxy = Proxy::to(node.grpc.to_string()).await;
    let verifier = builder(proxy.address).start().await.unwrap();
    for token in tokens.iter().step_by(1_000) {
        assert_eq!(check(&verifier, token).await, Ok(()));
    }
    proxy.set(Link::Cut);
    until("nobody is watched", async || !verifier.metrics().watch_connected).await;
    let mut revoking = JoinSet::new();
    for part in 0..16 {
        let (node, tokens) = (Arc::clone(&node), Arc::clone(&tokens));
        revoking.spawn(async move {
            for token in tokens.iter().skip(SESSIONS as usize + part).step_by(16) {
                node.revoke_token(token).await.unwrap();
            }
        });
    }
    while let Some(ended) = revoking.join_next().await {
        ended.unwrap();
    }
    node.database.revoke_sessions((0..SESSIONS).map(|number| *session_of(number).as_uuid())).await;
    node.catch_up().await;
    let connections = verifier.metrics().watch_connections;
    proxy.set(Link::Up);
    // The last one first: with it all the others must be there.
    until("it is up to date", async || {
        verifier.metrics().watch_connections > connections
            && check(&verifier, &tokens[MANY as usize - 1]).await == Err(REVOKED)
    })
    .await;
    until("nothing is missing", async || verifier.revocations().len() == MANY as usize).await;
    for token in tokens.iter() {
        assert_eq!(check(&verifier, token).await, Err(REVOKED));
    }
    assert_eq!(check(&verifier, &spared).await, Ok(()));
    drop(verifier);
    Arc::into_inner(node).unwrap().remove().await;
}

async fn off_loopback_a_service_account_is_needed(backend: Backend) {
    let node = TestNode::builder(backend).await;
    let node = node.set("grpc.listen=0.0.0.0:0").set("grpc.allow_plaintext=true").start().await;
    let root = administrator(&node).await;
    let (account, secret) = create(&node, &root, &[]).await;
    let token = node.login("root@example.com").await;
    let nobody = || builder(node.grpc).start_timeout(Duration::ZERO);
    let wrong = secret.chars().rev().collect::<String>();
    for closed in [nobody(), nobody().service_account(&account.client_id, wrong)] {
        let verifier = closed.start().await.unwrap();
        until("an attempt", async || verifier.metrics().key_fetches_failed > 1).await;
        assert_eq!(verifier.metrics().watch_connections, 0);
        assert_eq!(check(&verifier, &token.access_token).await, Err(Denied::Unavailable));
    }
    let verifier = builder(node.grpc).service_account(&account.client_id, secret.clone()).start().await.unwrap();
    assert!(verifier.is_ready());
    assert_eq!(check(&verifier, &token.access_token).await, Ok(()));
    node.logout(&token.refresh_token).await.unwrap();
    until("it is revoked", async || check(&verifier, &token.access_token).await == Err(REVOKED)).await;
    assert!(!format!("{verifier:?}").contains(&secret));
    drop(verifier);
    node.remove().await;
}
