//! Redis loses what it knew: killed, emptied, or back with an old memory (FAULTS 1 and 2, R4).

use std::time::Duration;

use vouchsafe::pb::v1::TokenPair;

use super::{
    load::{Kind, Load},
    world::{World, ends},
};
use crate::{
    process::harness::until,
    support::{Guess, guess_of, reason},
};

/// What was so before.
struct Before {
    /// A session that goes on.
    held: TokenPair,
    /// The newest token of another, and those it superseded, the last one first.
    stolen: (TokenPair, Vec<TokenPair>),
    /// Of sessions that were ended.
    dead: [TokenPair; 2],
}

/// Sessions of which one goes on, one was stolen from, one was signed out, and one was cut off by a change of password. All this
/// happens after `memorise`, and the rows have followed.
async fn sessions(world: &World, email: &str, memorise: impl AsyncFn()) -> Before {
    let [a, b] = &world.nodes;
    let mut held = world.join(email).await;
    let mut others = Vec::new();
    for node in [a, b] {
        let mut tokens = node.client.login(email).await.unwrap();
        world.warm(&mut tokens).await;
        others.push(tokens);
    }
    let [mut left, mut cut_off] = [others.remove(0), others.remove(0)];
    let mut stolen_user = world.join(&format!("victim.of.{email}")).await;
    memorise().await;
    for tokens in [&mut held, &mut left, &mut cut_off] {
        world.refresh(tokens, 5).await;
    }
    let superseded = world.refresh(&mut stolen_user, 5).await;
    b.client.logout(&left.refresh_token).await.unwrap();
    a.change_password(&held).await;
    world.until_row(&held).await;
    world.until_row(&stolen_user).await;
    Before { held, stolen: (stolen_user, superseded), dead: [left, cut_off] }
}

/// Nobody is signed out, nothing revoked returns, a replay is noticed though no node has seen its session since.
async fn nothing_is_lost(world: &World, before: Before) {
    let Before { mut held, stolen: (newest, superseded), dead } = before;
    // The oldest of them was current when Redis was asked to remember.
    world.assert_replay(&world.nodes[1], superseded.last().unwrap()).await;
    assert_eq!(reason(&world.nodes[0].refused(&newest).await), "SESSION_REVOKED");
    world.assert_dead(&superseded).await;
    world.assert_dead(&dead).await;
    let superseded = world.refresh(&mut held, 5).await;
    world.assert_dead(&dead).await;
    world.assert_replay(&world.nodes[0], superseded.last().unwrap()).await;
}

/// Callers who do everything meanwhile, and are refused nothing.
async fn under_load(fault: impl AsyncFnOnce(&mut World, &Load)) {
    let mut world = World::new().await;
    let load = Load::start(&world, Kind::Everything, 4).await;
    load.go_on(10).await;
    fault(&mut world, &load).await;
    load.go_on(10).await;
    load.end(&world).await;
    world.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_killed_and_restarted_loses_nobody_and_revives_nothing() {
    under_load(async |world, load| {
        for round in 0..3 {
            world.redis.kill();
            load.go_on(10).await;
            world.redis.launch().await;
            // The hot path is found again without a restart of ours.
            world.join(&format!("after{round}@example.com")).await;
            load.go_on(10).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_flushed_loses_nobody_and_revives_nothing() {
    under_load(async |world, load| {
        for _ in 0..5 {
            world.redis.ask::<()>(&["FLUSHALL"]).await.unwrap();
            load.go_on(10).await;
        }
    })
    .await;
}

/// Without load: also what nobody looks at meanwhile stays as it was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_revoked_or_superseded_before_redis_lost_its_memory_stays_so() {
    let mut world = World::new().await;
    // Before it is back, by the rows, and afterwards.
    for email in ["killed@example.com", "restarted@example.com"] {
        let before = sessions(&world, email, async || {}).await;
        world.redis.kill();
        if email.starts_with("restarted") {
            world.redis.launch().await;
        }
        nothing_is_lost(&world, before).await;
        if email.starts_with("killed") {
            world.redis.launch().await;
        }
    }

    let before = sessions(&world, "flushed@example.com", async || {}).await;
    world.redis.ask::<()>(&["FLUSHALL"]).await.unwrap();
    nothing_is_lost(&world, before).await;

    // Killed, it comes back with what it saved.
    let before = sessions(&world, "restored@example.com", async || world.redis.ask(&["SAVE"]).await.unwrap()).await;
    world.redis.kill();
    world.redis.launch().await;
    nothing_is_lost(&world, before).await;
    world.remove().await;
}

/// Guesses at passwords are counted where no flush reaches (FAULTS 2, R4): with Redis emptied, killed and back with an old memory, at
/// either node, an attack goes on where it was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_that_lost_its_memory_gives_no_new_guesses() {
    let mut world = World::with(&[("throttle.address_failures", "1000"), ("throttle.overall_failures", "1000")]).await;
    world.join("ada@example.com").await;
    let guess = async |world: &World, node: usize, email: &str| {
        let tried = ends(world.nodes[node].client.login_with(email, "a wrong password of some length")).await;
        guess_of(&tried.expect_err("a wrong password"))
    };
    for email in ["ada@example.com", "nobody@example.com"] {
        for number in 0..5 {
            assert_eq!(guess(&world, number % 2, email).await, Guess::Wrong);
        }
    }
    until("Redis has heard of it", async || {
        let keys: Vec<String> = world.redis.ask(&["KEYS", "vouchsafe:spent:*"]).await.unwrap();
        (!keys.is_empty()).then_some(())
    })
    .await;
    // Further on, where the waits are longer than any of this takes: 512 seconds.
    assert_eq!(world.place.database.execute("UPDATE throttles SET failures = 14 WHERE failures = 5").await, 2);
    for fault in ["none", "flushed", "killed", "back"] {
        match fault {
            "flushed" => world.redis.ask::<()>(&["FLUSHALL"]).await.unwrap(),
            "killed" => world.redis.kill(),
            "back" => world.redis.launch().await,
            _ => {}
        }
        for email in ["ada@example.com", "nobody@example.com"] {
            for node in [0, 1] {
                let answer = guess(&world, node, email).await;
                assert!(matches!(answer, Guess::Wait(wait) if wait > Duration::from_mins(1)), "{fault}: {answer:?}");
            }
        }
    }
    assert_eq!(world.place.database.integer("SELECT count(*) FROM audit_events WHERE act = 'login.failed'").await, 10);
    // Whoever has the password of another account signs in meanwhile.
    world.nodes[1].client.join("bob@example.com").await;
    world.remove().await;
}
