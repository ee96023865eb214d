//! A revocation reaches the other node whichever way is left to it, and a change of what tokens say is in the next one (R6).

use vouchsafe::pb::v1::TokenPair;

use super::world::{OTHER_PASSWORD, Path, World, ends};
use crate::{process::proxy::Link, support::reason};

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
