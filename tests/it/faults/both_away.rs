//! Both away, together or one after the other (R4, R5): a hot record that may have been left behind speaks for no row.

use std::time::Duration;

use vouchsafe::pb::v1::TokenPair;

use super::world::{Node, Path, World, ends};
use crate::process::{harness::until, proxy::Link};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_database_and_with_an_empty_redis_refresh_waits() {
    let world = World::new().await;
    let mut held = world.join("ada@example.com").await;
    let mut fresh = world.nodes[1].client.login("ada@example.com").await.unwrap();
    world.database_link(Link::Cut);
    for node in &world.nodes {
        node.until_path(&mut held, Path::Grace).await;
        // Login writes no record: there is nothing to go by.
        node.assert_unavailable(&fresh).await;
    }
    world.redis.ask::<()>(&["FLUSHALL"]).await.unwrap();
    for _ in 0..5 {
        for node in &world.nodes {
            node.assert_unavailable(&held).await;
            node.client.claims(&held.access_token).await;
        }
    }
    world.database_link(Link::Up);
    for node in &world.nodes {
        node.until_refreshed(&mut held).await;
        node.until_refreshed(&mut fresh).await;
    }
    world.warm(&mut held).await;
    world.until_row(&held).await;
    assert_eq!(world.ended("").await, 0);
    world.remove().await;
}

/// The memory that Redis comes back with is of before: its records must not be believed, though its head is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_database_and_with_an_old_dump_refresh_waits() {
    let mut world = World::new().await;
    let mut held = world.join("ada@example.com").await;
    world.redis.ask::<()>(&["SAVE"]).await.unwrap();
    let superseded = world.refresh(&mut held, 6).await;
    world.until_row(&held).await;
    // Twice: then each node has seen a newer head than the one that was saved.
    for _ in 0..2 {
        let before = world.head().await;
        until("the head has been renewed", async || (world.head().await != before).then_some(())).await;
    }
    world.database_link(Link::Cut);
    // Time passing is the event: nobody has read the database so lately that he could begin the head anew.
    tokio::time::sleep(Duration::from_secs(2)).await;
    world.redis.kill();
    world.redis.launch().await;
    never_granted(&world, &superseded).await;
    world.database_link(Link::Up);
    for node in &world.nodes {
        node.until_refreshed(&mut held).await;
    }
    world.warm(&mut held).await;
    world.assert_replay(&world.nodes[0], superseded.last().unwrap()).await;
    world.remove().await;
}

/// What a row has gone past is refused by both nodes for long enough that everything which happens by itself has happened.
async fn never_granted(world: &World, superseded: &[TokenPair]) {
    for _ in 0..20 {
        for node in &world.nodes {
            for tokens in superseded {
                node.assert_unavailable(tokens).await;
            }
        }
        // Time passing is the event: heads are exchanged, connections made, the feed is looked for.
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_its_row_went_past_at_both_nodes_is_not_believed() {
    back_with_an_old_memory(&[0, 1]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_its_row_went_past_elsewhere_is_not_believed() {
    back_with_an_old_memory(&[0]).await;
}

/// Rows go ahead of the records, at these nodes, while Redis is away. It comes back with its old memory just as the database
/// goes.
async fn back_with_an_old_memory(nodes: &[usize]) {
    let world = World::new().await;
    let mut held = world.join("ada@example.com").await;
    world.redis_link(Link::Cut);
    let mut superseded = Vec::new();
    for turn in 0..6 {
        superseded.insert(0, by_row(&world.nodes[nodes[turn % nodes.len()]], &mut held).await);
    }
    // Time passing is the event: an outage too short for anybody to notice is none.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    world.database_link(Link::Cut);
    let seen = world.nodes.each_ref().map(|node| node.server.log.count());
    world.redis_link(Link::Up);
    for (node, seen) in world.nodes.iter().zip(seen) {
        node.server.log.wait_after(seen, |line| line.contains("Redis answers")).await;
    }
    never_granted(&world, &superseded).await;
    goes_on(&world, held, &superseded).await;
    world.remove().await;
}

/// Refreshes by the row. What was superseded by it.
async fn by_row(node: &Node, held: &mut TokenPair) -> TokenPair {
    let (next, path) = node.refresh(held).await;
    assert_eq!(path, Path::Row);
    std::mem::replace(held, next)
}

/// Only one node was without Redis, and it is back there before it is back at the database: the other has noticed nothing, and
/// must be told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_tells_of_rows_that_went_past_their_records_even_without_the_database() {
    let world = World::new().await;
    let mut held = world.join("ada@example.com").await;
    let mut other = world.join("bob@example.com").await;
    let [a, b] = &world.nodes;
    a.redis.set(Link::Cut);
    let mut superseded = Vec::new();
    for _ in 0..6 {
        superseded.insert(0, by_row(a, &mut held).await);
    }
    // Time passing is the event: an outage too short for anybody to notice is none.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    world.database_link(Link::Cut);
    b.until_path(&mut other, Path::Grace).await;
    // Time passing is the event: no node has read anything lately, or the head would be renewed as ever.
    tokio::time::sleep(Duration::from_secs(2)).await;
    a.redis.set(Link::Up);
    // Nor are other records believed, once the head says so: after so long nobody can tell which of them are concerned.
    until("the head says so", async || match ends(b.client.refresh(&other.refresh_token)).await {
        Ok(next) => {
            other = next;
            None
        }
        Err(_) => Some(()),
    })
    .await;
    b.assert_unavailable(&other).await;
    // What was superseded last may be answered again, by the table.
    never_granted(&world, &superseded[1..]).await;
    goes_on(&world, held, &superseded).await;
    world.warm(&mut other).await;
    world.remove().await;
}

/// The same with the database there for a while after Redis is back, so that the nodes can tell each other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_its_row_went_past_is_not_believed_later() {
    let world = World::new().await;
    let mut held = world.join("ada@example.com").await;
    let mut other = world.join("bob@example.com").await;
    // For one node only: the other does not notice anything.
    world.nodes[0].redis.set(Link::Cut);
    let mut superseded = Vec::new();
    for _ in 0..4 {
        superseded.insert(0, by_row(&world.nodes[0], &mut held).await);
    }
    world.nodes[0].redis.set(Link::Up);
    world.warm(&mut other).await;
    // Time passing is the event: longer than nodes take to tell each other.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    world.database_link(Link::Cut);
    // The record was brought up to its row by now: what was superseded last may be answered again, by the table.
    never_granted(&world, &superseded[1..]).await;
    goes_on(&world, held, &superseded).await;
    world.remove().await;
}

/// With the database back, whoever holds the newest goes on, and the others are replays.
async fn goes_on(world: &World, mut held: TokenPair, superseded: &[TokenPair]) {
    world.database_link(Link::Up);
    for node in &world.nodes {
        node.until_refreshed(&mut held).await;
    }
    world.warm(&mut held).await;
    assert_eq!(world.ended("").await, 0);
    world.assert_replay(&world.nodes[0], &superseded[3]).await;
}
