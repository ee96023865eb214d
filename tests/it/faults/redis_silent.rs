//! Redis says nothing, to one node or to both, and is away for long (FAULTS 1 and 3): every call ends, and ends well.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    load::{Kind, Load},
    world::{Path, World},
};
use crate::process::proxy::Link;

/// As short as an operator might have it: nobody should wait for what says nothing.
const SETTINGS: &[(&str, &str)] = &[("redis.timeout", "250ms")];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_waits_for_a_redis_that_is_frozen() {
    let world = World::with(SETTINGS).await;
    let load = Load::start(&world, Kind::Everything, 4).await;
    let mut held = world.join("ada@example.com").await;
    for _ in 0..2 {
        world.redis.freeze();
        for node in &world.nodes {
            node.until_path(&mut held, Path::Row).await;
        }
        load.go_on(20).await;
        world.redis.thaw();
        world.warm(&mut held).await;
        load.go_on(20).await;
    }
    load.end(&world).await;
    world.remove().await;
}

/// The network swallows everything, for one node, for the other, for both.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_waits_for_a_redis_that_is_cut_off() {
    let world = World::with(SETTINGS).await;
    let load = Load::start(&world, Kind::Everything, 4).await;
    let mut held = world.join("ada@example.com").await;
    for (link, cut_off) in [
        (Link::Frozen, &[0][..]),
        (Link::Frozen, &[1]),
        (Link::Deaf, &[0]),
        (Link::Frozen, &[0, 1]),
        (Link::Cut, &[0, 1]),
    ] {
        for (number, node) in world.nodes.iter().enumerate() {
            let wanted = if cut_off.contains(&number) { Path::Row } else { Path::Hot };
            node.redis.set(if wanted == Path::Row { link } else { Link::Up });
            node.until_path(&mut held, wanted).await;
        }
        load.go_on(15).await;
        world.redis_link(Link::Up);
        world.warm(&mut held).await;
        load.go_on(5).await;
    }
    load.end(&world).await;
    world.remove().await;
}

/// A minute under load, with a caller's refresh by the row at either node.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_away_for_long_signs_nobody_out() {
    let mut world = World::new().await;
    // They rest now and then: it is the time that counts here, and other tests want the machine.
    let load = Load::with_rest(&world, Kind::Everything, 4, Duration::from_millis(400)).await;
    let mut held = world.join("ada@example.com").await;
    load.go_on(5).await;
    world.redis.kill();
    for node in &world.nodes {
        node.until_path(&mut held, Path::Row).await;
    }
    // Being away for long is the event: whatever has a limit in time has reached it, whatever piles up has piled up.
    tokio::time::sleep(Duration::from_mins(1)).await;
    world.refresh(&mut held, 2).await;
    load.go_on(5).await;
    world.redis.launch().await;
    let back = Instant::now();
    world.warm(&mut held).await;
    println!("both nodes refresh by the hot record again {:.2} s after Redis is back", back.elapsed().as_secs_f64());
    load.go_on(5).await;
    load.end(&world).await;
    assert_eq!(world.ended("").await, 0);
    world.remove().await;
}
