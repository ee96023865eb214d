//! Postgres away, for both nodes or for one (R5): refresh goes on from the hot records, whatever has to be written waits.

use std::time::Duration;

use tonic::Code;

use super::{
    load::{Kind, Load},
    world::{Path, World, ends, generation},
};
use crate::{
    process::{client::assert_outage, harness::until, proxy::Link},
    support::reason,
};

/// So that a deadline is met soon, and every second try at a generation is late.
const SETTINGS: &[(&str, &str)] = &[("grpc.max_deadline", "8s"), ("sessions.redelivery_window", "0s")];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_database_refresh_goes_on_and_the_rest_is_an_outage() {
    both_without_the_database(Link::Cut).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_database_that_says_nothing_refresh_goes_on_and_the_rest_ends() {
    both_without_the_database(Link::Frozen).await;
}

async fn both_without_the_database(link: Link) {
    let world = World::with(SETTINGS).await;
    let load = Load::start(&world, Kind::Refresh, 3).await;
    let mut held = world.join("ada@example.com").await;
    let mut late = world.join("bob@example.com").await;
    let leaves = world.join("eve@example.com").await;
    let superseded = world.refresh(&mut late, 4).await;
    load.go_on(5).await;
    world.until_row(&late).await;

    world.database_link(link);
    for node in &world.nodes {
        node.until_path(&mut held, Path::Grace).await;
    }
    let before = generation(&held);
    world.refresh(&mut held, 20).await;
    assert_eq!(generation(&held), before + 20);
    load.go_on(20).await;
    for node in &world.nodes {
        // Late at this one, a replay at that.
        node.assert_unavailable(&superseded[0]).await;
        node.assert_unavailable(&superseded[2]).await;
        let refused = tokio::join!(
            ends(node.client.login("ada@example.com")),
            ends(node.client.register("new@example.com")),
            ends(node.client.logout(&leaves.refresh_token)),
        );
        for status in [refused.0.unwrap_err(), refused.1.unwrap_err(), refused.2.unwrap_err()] {
            if link == Link::Cut {
                assert_outage(&status);
            } else {
                assert!(matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded), "{status:?}");
                assert_ne!(reason(&status), "", "from the server: {status:?}");
            }
        }
        node.client.claims(&held.access_token).await;
        node.client.claims(&leaves.access_token).await;
    }
    assert!(world.generation(&held).await < generation(&held), "the row cannot have followed");

    world.database_link(Link::Up);
    world.until_row(&held).await;
    world.warm(&mut held).await;
    load.go_on(10).await;
    // What could not be decided meanwhile was not decided: the late one is given its successor, late.
    let again = ends(world.nodes[0].client.refresh(&superseded[0].refresh_token)).await.unwrap();
    assert_eq!(again.refresh_token, late.refresh_token);
    world.assert_replay(&world.nodes[1], &superseded[2]).await;
    load.end(&world).await;
    world.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_node_without_the_database_goes_on_beside_the_other() {
    for link in [Link::Cut, Link::Frozen] {
        let world = World::new().await;
        let load = Load::start(&world, Kind::Refresh, 3).await;
        let [a, b] = &world.nodes;
        let mut held = world.join("ada@example.com").await;
        b.database.set(link);
        b.until_path(&mut held, Path::Grace).await;
        load.go_on(20).await;
        a.until_path(&mut held, Path::Hot).await;
        // What only one of them writes follows all the same.
        b.until_path(&mut held, Path::Grace).await;
        a.until_path(&mut held, Path::Hot).await;
        world.until_row(&held).await;
        load.go_on(20).await;
        b.database.set(Link::Up);
        world.warm(&mut held).await;
        world.until_row(&held).await;
        load.end(&world).await;
        world.remove().await;
    }
}

/// What is revoked through the node that reaches both is soon refused by the one that does not reach the database.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_the_database_refuses_what_another_revokes() {
    for link in [Link::Cut, Link::Frozen] {
        let world = World::new().await;
        let [a, b] = &world.nodes;
        let mut left = world.join("ada@example.com").await;
        let mut spared = world.join("bob@example.com").await;
        let mut cut_off = a.client.login("bob@example.com").await.unwrap();
        let mut untouched = world.join("eve@example.com").await;
        for tokens in [&mut cut_off, &mut left] {
            world.warm(tokens).await;
        }
        b.database.set(link);
        for tokens in [&mut left, &mut cut_off, &mut untouched] {
            b.until_path(tokens, Path::Grace).await;
        }
        let issued = [left.clone(), cut_off.clone()];
        a.client.logout(&left.refresh_token).await.unwrap();
        a.change_password(&spared).await;
        for tokens in [&mut left, &mut cut_off] {
            // Far longer than the second that is promised, for the sake of the machine, and far shorter than anything else
            // that could come to the rescue.
            let refusal = until("refused", async || match ends(b.client.refresh(&tokens.refresh_token)).await {
                Ok(next) => {
                    *tokens = next;
                    None
                }
                Err(status) => Some(status),
            });
            assert_outage(&tokio::time::timeout(Duration::from_secs(10), refusal).await.expect("refused soon"));
            b.until_inactive(tokens).await;
        }
        let issued = [&issued[..], &[left, cut_off]].concat();
        for pair in &issued {
            b.assert_unavailable(pair).await;
            b.client.inactive(&pair.access_token).await;
        }
        // Whom it does not concern goes on; who was spared waits for the database, and loses nothing by it.
        b.until_refreshed(&mut untouched).await;
        assert_eq!(b.refresh(&untouched).await.1, Path::Grace);
        b.assert_unavailable(&spared).await;
        b.database.set(Link::Up);
        b.until_refreshed(&mut spared).await;
        world.warm(&mut spared).await;
        world.assert_dead(&issued).await;
        world.remove().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_grace_refresh_waits_for_the_database() {
    let world = World::with(&[("sessions.database_grace", "0s")]).await;
    let mut held = world.join("ada@example.com").await;
    world.database_link(Link::Cut);
    for node in &world.nodes {
        for _ in 0..5 {
            node.assert_unavailable(&held).await;
        }
        node.client.claims(&held.access_token).await;
    }
    world.database_link(Link::Up);
    for node in &world.nodes {
        node.until_refreshed(&mut held).await;
    }
    world.warm(&mut held).await;
    world.remove().await;
}
