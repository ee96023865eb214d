//! A failover that loses writes which Redis had acknowledged (FAULTS 4): nobody is signed out, nothing revoked returns.

use super::{
    load::{Kind, Load},
    world::{World, generation},
};
use crate::{
    process::proxy::{Link, Proxy},
    state::own::OwnRedis,
    support::until,
};

/// A replica that follows over a network of its own.
async fn replica_of(primary: &OwnRedis) -> (OwnRedis, Proxy) {
    let network = Proxy::to(format!("127.0.0.1:{}", primary.port)).await;
    let replica = OwnRedis::start(&[&format!("replicaof 127.0.0.1 {}", network.address.port())]).await;
    until("the replica follows", || async {
        replica.ask::<String>(&["INFO", "replication"]).await.unwrap().contains("master_link_status:up")
    })
    .await;
    (replica, network)
}

/// Waits until everything that the primary wrote has reached the replica.
async fn until_caught_up(primary: &OwnRedis, replica: &OwnRedis) {
    primary.ask::<()>(&["SET", "mark", "1"]).await.unwrap();
    until("the replica has all of it", || async {
        replica.ask::<Option<String>>(&["GET", "mark"]).await.unwrap().is_some()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_with_lost_writes_loses_nobody_and_revives_nothing() {
    let mut world = World::new().await;
    let load = Load::start(&world, Kind::Everything, 3).await;
    let [a, b] = &world.nodes;
    let mut held = world.join("ada@example.com").await;
    let mut left = b.client.login("ada@example.com").await.unwrap();
    let mut cut_off = a.client.login("ada@example.com").await.unwrap();
    let mut stolen = world.join("bob@example.com").await;
    for tokens in [&mut left, &mut cut_off] {
        world.warm(tokens).await;
    }
    let (replica, network) = replica_of(&world.redis).await;
    until_caught_up(&world.redis, &replica).await;

    network.set(Link::Frozen);
    for tokens in [&mut held, &mut left, &mut cut_off] {
        world.refresh(tokens, 6).await;
    }
    let superseded = world.refresh(&mut stolen, 6).await;
    b.client.logout(&left.refresh_token).await.unwrap();
    a.change_password(&held).await;
    load.go_on(10).await;
    world.until_row(&stolen).await;

    world.redis.kill();
    replica.ask::<()>(&["REPLICAOF", "NO", "ONE"]).await.unwrap();
    for node in &world.nodes {
        node.redis.lead_to(format!("127.0.0.1:{}", replica.port));
    }
    let lost = generation(&held);
    world.assert_dead(&[left.clone(), cut_off.clone()]).await;
    world.refresh(&mut held, 3).await;
    assert_eq!(generation(&held), lost + 3);
    // Current by what the replica knows.
    world.assert_replay(&world.nodes[0], superseded.last().unwrap()).await;
    world.warm(&mut held).await;
    load.go_on(10).await;
    world.assert_dead(&[left, cut_off]).await;
    load.end(&world).await;
    world.remove().await;
}
