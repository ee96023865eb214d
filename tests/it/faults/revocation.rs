//! A revocation reaches the other node whichever way is left to it, and a change of what tokens say is in the next one (R6).

use futures_util::future::join_all;
use vouchsafe::pb::v1::TokenPair;

use super::world::{Node, OTHER_PASSWORD, Path, World, ends};
use crate::{
    process::{
        client::{Client, kid},
        proxy::Link,
    },
    support::reason,
};

/// One of two sessions of a user, signed out at the first node.
async fn sign_out(world: &World) -> (TokenPair, TokenPair) {
    let [a, b] = &world.nodes;
    let left = a.client.login("ada@example.com").await.unwrap();
    let stays = a.client.login("ada@example.com").await.unwrap();
    b.client.claims(&left.access_token).await;
    a.client.logout(&left.refresh_token).await.unwrap();
    a.client.inactive(&left.access_token).await;
    (left, stays)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_comes_by_the_stream_where_the_database_says_nothing() {
    let world = World::new().await;
    world.join("ada@example.com").await;
    for link in [Link::Frozen, Link::Cut, Link::Deaf] {
        world.nodes[1].database.set(link);
        for _ in 0..10 {
            let (left, stays) = sign_out(&world).await;
            world.nodes[1].until_inactive(&left).await;
            world.nodes[1].client.claims(&stays.access_token).await;
        }
        world.nodes[1].database.set(Link::Up);
        let (left, _) = sign_out(&world).await;
        world.assert_dead(&[left]).await;
    }
    world.remove().await;
}

/// Sessions of one user.
async fn sign_in(client: &Client, times: usize) -> Vec<TokenPair> {
    let mut sessions = Vec::new();
    for _ in 0..times {
        sessions.push(client.login("ada@example.com").await.unwrap());
    }
    sessions
}

/// Signs all of them out at one moment. Each is acknowledged.
async fn sign_all_out(client: &Client, sessions: &[TokenPair]) {
    let calls = sessions.iter().map(|tokens| ends(client.logout(&tokens.refresh_token)));
    join_all(calls).await.into_iter().for_each(Result::unwrap);
}

async fn until_all_inactive(node: &Node, sessions: &[TokenPair]) {
    for tokens in sessions {
        node.until_inactive(tokens).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_revocation_is_lost_on_its_way_to_a_node_that_has_only_redis() {
    let world = World::new().await;
    let stays = world.join("ada@example.com").await;
    let [a, b] = &world.nodes;
    // It has no Redis.
    let lone = world.place.serve().await;
    let lone_client = Client::of(&lone).await;
    let sessions = sign_in(&a.client, 80).await;
    let [at_once, by_lone, late] = [&sessions[..60], &sessions[60..70], &sessions[70..]];
    b.database.set(Link::Cut);

    let (halves, all) = (at_once.split_at(30), by_lone);
    tokio::join!(sign_all_out(&a.client, halves.0), sign_all_out(&a.client, halves.1), sign_all_out(&lone_client, all));
    until_all_inactive(b, at_once).await;
    until_all_inactive(b, by_lone).await;

    // What could not be pushed is pushed when it can be.
    a.redis.set(Link::Cut);
    sign_all_out(&a.client, &late[..5]).await;
    a.redis.set(Link::Up);
    until_all_inactive(b, &late[..5]).await;

    // Somebody else has used up all ids of the stream.
    let keys: Vec<String> = world.redis.ask(&["KEYS", "vouchsafe:feed:*"]).await.unwrap();
    let last = "18446744073709551615-18446744073709551615";
    world.redis.ask::<String>(&["XADD", &keys[0], last, "n", "1"]).await.unwrap();
    sign_all_out(&a.client, &late[5..]).await;
    until_all_inactive(b, &late[5..]).await;

    // By a program that has no Redis either.
    b.client.claims(&stays.access_token).await;
    world.place.run(&["keys", "revoke", &kid(&stays.access_token), "--yes"]).await.ok();
    b.until_inactive(&stays).await;
    lone.stop().await;
    world.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_comes_by_the_database_where_redis_says_nothing() {
    let mut world = World::with(&[("redis.timeout", "250ms")]).await;
    world.join("ada@example.com").await;
    for (number, link) in [(1, Link::Frozen), (0, Link::Frozen), (1, Link::Cut), (0, Link::Cut)] {
        world.nodes[number].redis.set(link);
        let (left, stays) = sign_out(&world).await;
        world.nodes[1].until_inactive(&left).await;
        world.nodes[1].client.claims(&stays.access_token).await;
        world.nodes[number].redis.set(Link::Up);
    }
    world.redis.kill();
    let (left, stays) = sign_out(&world).await;
    world.nodes[1].until_inactive(&left).await;
    world.nodes[1].client.claims(&stays.access_token).await;
    world.redis.launch().await;
    let (left, _) = sign_out(&world).await;
    world.nodes[1].until_inactive(&left).await;
    world.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_or_a_password_changed_at_one_node_is_in_the_next_token_of_the_other() {
    let world = World::new().await;
    let [a, b] = &world.nodes;
    let mut held = world.join("ada@example.com").await;
    let mut cut_off = a.client.login("ada@example.com").await.unwrap();
    world.warm(&mut cut_off).await;
    let user = b.client.claims(&held.access_token).await.subject;
    let id = world.place.database.id(&user.parse().unwrap());
    let given = format!("INSERT INTO user_roles (user_id, role, assign_time) VALUES ({id}, 'admin', 0)");
    let taken = format!("DELETE FROM user_roles WHERE user_id = {id}");
    for node in [a, b, b, a] {
        for (sql, roles) in [(&given, &["admin"][..]), (&taken, &[])] {
            assert_eq!(world.place.database.execute(sql).await, 1);
            let (next, path) = node.refresh(&held).await;
            assert_eq!(path, Path::Hot);
            held = next;
            for node in &world.nodes {
                assert_eq!(node.client.claims(&held.access_token).await.roles, roles);
            }
        }
    }

    a.change_password(&held).await;
    let refused = ends(b.client.refresh(&cut_off.refresh_token)).await.unwrap_err();
    assert_eq!(reason(&refused), "SESSION_REVOKED");
    let (next, path) = b.refresh(&held).await;
    assert_eq!(path, Path::Hot);
    for node in &world.nodes {
        node.client.claims(&next.access_token).await;
    }
    b.client.login_with("ada@example.com", OTHER_PASSWORD).await.unwrap();
    world.remove().await;
}
