//! Keys change under three nodes on one Postgres, one of which lags. SECURITY faults 15 and 16.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tempfile::TempDir;
use tokio::time::timeout;
use tonic::{Code, Status};
use vouchsafe::{
    crypto::{SystemEntropy, machine_date},
    domain::warrant::Authority,
    jose::jws::Unverified,
    pb::v1::{self, InactiveReason},
    server::{Ambient, Backstage, DatabaseClock},
    store::port::RevokeKey,
};

use crate::{
    process::proxy::{Link, Proxy},
    support::{Backend, TestDatabase, TestNode, until, wire},
};

/// Three nodes, the way of the third to its database, and somebody who orders rotations, as the command line does.
struct World {
    nodes: [TestNode; 3],
    proxy: Proxy,
    operator: Backstage,
    _data_dir: TempDir,
}

impl World {
    async fn new() -> Self {
        let database = Arc::new(TestDatabase::migrated(Backend::Postgres).await);
        let builder = || TestNode::on(database.clone()).set("keys.publish_lead=1s");
        let (proxy, url) = Proxy::before(&database).await;
        let lagging = builder().set(&format!("database.url={url}")).set("database.acquire_timeout=2s");
        let nodes = [builder().start().await, builder().start().await, lagging.start().await];
        nodes[0].register("ada@example.com").await;
        let data_dir = tempfile::tempdir().unwrap();
        let settings = builder().settings(&data_dir);
        let ambient = Ambient { clock: Arc::new(DatabaseClock::new(machine_date())), entropy: Arc::new(SystemEntropy) };
        let operator = Backstage::open(&settings, &ambient).await.unwrap();
        Self { nodes, proxy, operator, _data_dir: data_dir }
    }

    async fn rotate(&self) {
        let Backstage { store, keys, policy, .. } = &self.operator;
        keys.rotate_now(&**store, policy, Authority::operator()).await.unwrap();
    }

    async fn revoke(&self, kid: &str) -> RevokeKey {
        let Backstage { store, keys, policy, .. } = &self.operator;
        keys.revoke(&**store, policy, kid, Authority::operator()).await.unwrap()
    }

    async fn remove(self) {
        self.operator.store.close().await;
        let [a, b, c] = self.nodes;
        a.stop().await;
        b.stop().await;
        c.remove().await;
    }
}

fn kid(tokens: &v1::TokenPair) -> String {
    Unverified::parse(&tokens.access_token).unwrap().kid().to_owned()
}

/// What a node says of a token. An outage is not an answer.
async fn said(node: &TestNode, token: &str) -> Result<InactiveReason, Status> {
    let request = v1::VerifyRequest { token: token.into(), ..Default::default() };
    Ok(node.auth().await.verify(request).await?.into_inner().inactive_reason())
}

/// Every node finds every token good, both by `Verify` and at its own API.
async fn assert_good_everywhere(nodes: &[TestNode], tokens: &[v1::TokenPair]) {
    for (number, node) in nodes.iter().enumerate() {
        for tokens in tokens {
            let said = said(node, &tokens.access_token).await.unwrap();
            assert_eq!(said, InactiveReason::Unspecified, "node {number}, key {}", kid(tokens));
            assert!(node.admits(&tokens.access_token).await, "node {number}");
        }
    }
}

/// A token from each node: one from a sign-in, one from a refresh at the next node.
async fn tokens_of(nodes: &[TestNode]) -> Vec<v1::TokenPair> {
    let mut tokens = Vec::new();
    for (number, node) in nodes.iter().enumerate() {
        let signed_in = node.login("ada@example.com").await;
        tokens.push(nodes[(number + 1) % nodes.len()].refresh(&signed_in.refresh_token).await.unwrap());
        tokens.push(signed_in);
    }
    tokens
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_valid_token_is_refused_while_three_nodes_rotate_and_one_lags() {
    let world = World::new().await;
    let (nodes, proxy) = (&world.nodes, &world.proxy);
    let (mut signed_with, mut could_not_tell, mut signed_late) = (BTreeSet::new(), 0, 0);
    let mut recent: Vec<v1::TokenPair> = Vec::new();
    for round in 0..6 {
        // In every other round the third node does not hear of the new key before the others sign with it.
        let lags = round % 2 == 1;
        if lags {
            proxy.set(Link::Cut);
        }
        world.rotate().await;
        let newest = "SELECT kid FROM signing_keys ORDER BY activate_time DESC LIMIT 1";
        let newest = nodes[0].database.texts(newest).await.swap_remove(0);
        let near = if lags { &nodes[..2] } else { &nodes[..] };
        let handover = async {
            loop {
                let tokens = tokens_of(near).await;
                // Whoever signed them with whichever key, in this very moment.
                assert_good_everywhere(near, &tokens).await;
                signed_with.extend(tokens.iter().map(kid));
                recent.extend(tokens);
                if signed_with.contains(&newest) {
                    return;
                }
            }
        };
        timeout(Duration::from_mins(1), handover).await.expect("the new key signs");
        if lags {
            for tokens in &recent {
                match said(&nodes[2], &tokens.access_token).await {
                    Ok(said) => assert_eq!(said, InactiveReason::Unspecified, "round {round}"),
                    // It says that it cannot tell, and not that the token is no good.
                    Err(outage) => {
                        assert_eq!(outage.code(), Code::Unavailable, "{outage:?}");
                        could_not_tell += 1;
                    }
                }
            }
            proxy.set(Link::Up);
            let newest = recent.last().unwrap().clone();
            until("the third node answers again", async || match said(&nodes[2], &newest.access_token).await {
                Ok(said) => {
                    assert_eq!(said, InactiveReason::Unspecified);
                    true
                }
                Err(_) => false,
            })
            .await;
            let late = nodes[2].login("ada@example.com").await;
            signed_late += usize::from(kid(&late) != kid(&newest));
            recent.push(late);
        }
        assert_good_everywhere(nodes, &recent).await;
        recent.drain(..recent.len().saturating_sub(12));
    }
    assert!(signed_with.len() >= 5, "{} keys signed: nothing was tested", signed_with.len());
    assert!(could_not_tell > 0, "the third node never lagged: nothing was tested ({signed_late} signed late)");
    world.remove().await;
}

/// SECURITY fault 16. The revoked key's tokens are refused at once wherever the feed has been read, those of its successor are
/// good everywhere at once, and sessions go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_key_is_refused_everywhere_and_its_successor_is_not() {
    let world = World::new().await;
    let nodes = &world.nodes;
    for round in 0..4 {
        let tokens = tokens_of(nodes).await;
        let revoked = kid(&tokens[0]);
        assert!(tokens.iter().all(|tokens| kid(tokens) == revoked));
        assert_good_everywhere(nodes, &tokens).await;
        assert_eq!(world.revoke(&revoked).await, RevokeKey::Revoked);
        for node in nodes {
            for tokens in &tokens {
                assert_eq!(node.verify_strongly(&tokens.access_token).await, InactiveReason::Revoked, "{round}");
                assert_eq!(said(node, &tokens.access_token).await.unwrap(), InactiveReason::Revoked, "remembered");
                assert!(!node.admits(&tokens.access_token).await);
            }
        }
        for (number, node) in nodes.iter().enumerate() {
            let renewed = node.refresh(&tokens[2 * number].refresh_token).await.unwrap();
            assert_ne!(kid(&renewed), revoked, "no node that has heard of it signs with a revoked key");
            assert_good_everywhere(nodes, &[renewed]).await;
        }
        assert_eq!(world.revoke(&revoked).await, RevokeKey::Unknown);
    }
    world.remove().await;
}

/// Neither a restart nor the end of the feed entry brings a revoked key back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_key_stays_revoked() {
    let world = World::new().await;
    let node = &world.nodes[0];
    let tokens = node.login("ada@example.com").await;
    world.revoke(&kid(&tokens)).await;
    // As after minutes: every entry has expired.
    node.database.execute("DELETE FROM feed").await;
    let fresh = TestNode::on(node.database.clone()).start().await;
    assert_eq!(said(&fresh, &tokens.access_token).await.unwrap(), InactiveReason::Revoked);
    assert!(!fresh.admits(&tokens.access_token).await);
    let jwks = wire::get(fresh.http, "/.well-known/jwks.json").await.1;
    assert!(!jwks.contains(&kid(&tokens)), "{jwks}");
    let renewed = fresh.refresh(&tokens.refresh_token).await.unwrap();
    assert!(fresh.admits(&renewed.access_token).await);
    fresh.stop().await;
    world.remove().await;
}

/// A node that has heard that a key is revoked, and of no other key yet, would rather sign with none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_node_signs_with_a_key_that_it_knows_to_be_revoked() {
    let world = World::new().await;
    let node = &world.nodes[0];
    let tokens = node.login("ada@example.com").await;
    let now = machine_date();
    let (time, expire_time) = (now.as_micros(), now.plus(Duration::from_hours(1)).as_micros());
    let revocation = serde_json::json!({ "kind": "key", "kid": kid(&tokens) });
    // The entry alone, as if this node's keys were read before it.
    let entry = format!(
        "WITH head AS (UPDATE feed_head SET number = number + 1 RETURNING number) \
         INSERT INTO feed (number, revocation, time, expire_time) \
         SELECT number, '{revocation}'::jsonb, {time}, {expire_time} FROM head"
    );
    assert_eq!(node.database.execute(&entry).await, 1);
    node.catch_up().await;
    assert_eq!(said(node, &tokens.access_token).await.unwrap(), InactiveReason::Revoked);
    let refused = node.refresh(&tokens.refresh_token).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    world.rotate().await;
    // Once there is another key the same refresh token works, as after any outage.
    let renewed = async {
        loop {
            match node.refresh(&tokens.refresh_token).await {
                Ok(renewed) => return renewed,
                Err(outage) => assert_eq!(outage.code(), Code::Unavailable, "{outage:?}"),
            }
        }
    };
    let renewed = timeout(Duration::from_mins(1), renewed).await.expect("another key signs");
    assert_ne!(kid(&renewed), kid(&tokens));
    assert_good_everywhere(&world.nodes[..2], &[renewed]).await;
    world.remove().await;
}
