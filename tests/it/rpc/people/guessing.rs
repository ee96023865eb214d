//! Guesses at passwords: how many are looked at, over all nodes, and that nothing tells whose they are.

use std::{sync::Arc, time::Duration};

use tokio::sync::Barrier;

use crate::{
    rpc::{on_both_databases, on_shared_forms},
    support::{Backend, Guess, ManualClock, PASSWORD, TestDatabase, TestNode, TestNodeBuilder, login_request, patient},
};

on_both_databases!(
    known_and_unknown_are_answered_alike_at_each_count,
    whoever_signs_in_begins_anew_and_others_do_not,
    at_the_cap_the_right_password_is_not_looked_at_either,
    failures_beyond_a_rate_are_counted_in_the_trail,
);

mod shared {
    use super::{of_100_guesses_at_once_at_two_nodes_the_free_ones_are_looked_at, on_shared_forms};
    on_shared_forms!(of_100_guesses_at_once_at_two_nodes_the_free_ones_are_looked_at);
}

/// A node whose clock is told when to move on, and where this test's own address may fail as often as it likes.
fn at(clock: &Arc<ManualClock>, node: TestNodeBuilder) -> TestNodeBuilder {
    patient(node).clock(Arc::clone(clock) as _).set("throttle.address_failures=0")
}

async fn wait(node: &TestNode, clock: &ManualClock, by: Duration) {
    clock.advance(by);
    node.catch_up().await;
}

async fn known_and_unknown_are_answered_alike_at_each_count(backend: Backend) {
    let clock = Arc::new(ManualClock::new());
    let node = at(&clock, TestNode::builder(backend).await).set("throttle.account_failures=10").start().await;
    node.register("ada@example.com").await;
    let identifiers = ["ada@example.com", "nobody@example.com", "nobody", "no body", "@"];
    let mut answers = Vec::new();
    for identifier in identifiers {
        let mut said = Vec::new();
        for _ in 0..8 {
            said.push(node.guess(identifier).await);
        }
        answers.push(said);
    }
    for round in 0..6 {
        wait(&node, &clock, Duration::from_secs(1 << round)).await;
        for (identifier, said) in identifiers.iter().zip(&mut answers) {
            said.push(node.guess(identifier).await);
            said.push(node.guess(identifier).await);
        }
    }
    let (first, rest) = answers.split_first().unwrap();
    assert_eq!(first.iter().filter(|guess| **guess == Guess::Wrong).count(), 10, "{first:?}");
    assert_eq!(first.last(), Some(&Guess::Wait(Duration::from_mins(15))));
    for (identifier, said) in identifiers[1..].iter().zip(rest) {
        assert_eq!(said, first, "{identifier:?}");
    }
    node.remove().await;
}

async fn whoever_signs_in_begins_anew_and_others_do_not(backend: Backend) {
    let clock = Arc::new(ManualClock::new());
    let node = at(&clock, TestNode::builder(backend).await).start().await;
    for email in ["ada@example.com", "bob@example.com"] {
        node.register(email).await;
        for _ in 0..4 {
            assert_eq!(node.guess(email).await, Guess::Wrong);
        }
    }
    for _ in 0..3 {
        // Spelled otherwise it is the same.
        node.login(" Ada@EXAMPLE.com").await;
    }
    for _ in 0..5 {
        assert_eq!(node.guess("ada@example.com").await, Guess::Wrong);
    }
    assert_eq!(node.guess("bob@example.com").await, Guess::Wrong);
    for email in ["ada@example.com", "bob@example.com"] {
        assert_eq!(node.guess(email).await, Guess::Wait(Duration::from_secs(1)));
    }
    node.remove().await;
}

async fn at_the_cap_the_right_password_is_not_looked_at_either(backend: Backend) {
    let clock = Arc::new(ManualClock::new());
    let node = at(&clock, TestNode::builder(backend).await).set("throttle.account_failures=5").start().await;
    node.register("ada@example.com").await;
    for _ in 0..5 {
        assert_eq!(node.guess("ada@example.com").await, Guess::Wrong);
    }
    let events = node.events("act = 'login.failed'").await;
    for _ in 0..3 {
        let refused = node.try_login(login_request("ada@example.com", PASSWORD)).await.unwrap_err();
        assert_eq!(crate::support::guess_of(&refused), Guess::Wait(Duration::from_mins(15)));
        wait(&node, &clock, Duration::from_hours(24)).await;
    }
    assert_eq!(node.events("act = 'login.failed'").await, events, "what is not looked at leaves no trace");
    wait(&node, &clock, Duration::from_hours(27 * 24)).await;
    node.login("ada@example.com").await;
    node.remove().await;
}

async fn of_100_guesses_at_once_at_two_nodes_the_free_ones_are_looked_at(backend: Backend) {
    // It stands still: however long it takes, nobody waits until the next guess is free.
    let clock = Arc::new(ManualClock::new());
    let database = Arc::new(TestDatabase::migrated(backend).await);
    let nodes = [
        Arc::new(at(&clock, TestNode::on(Arc::clone(&database))).start().await),
        Arc::new(at(&clock, TestNode::on(Arc::clone(&database))).start().await),
    ];
    nodes[0].register("ada@example.com").await;
    for identifier in ["ada@example.com", "nobody@example.com"] {
        let start = Arc::new(Barrier::new(100));
        let guesses: Vec<_> = (0..100)
            .map(|n| {
                let (node, start) = (Arc::clone(&nodes[n % 2]), Arc::clone(&start));
                tokio::spawn(async move {
                    start.wait().await;
                    node.guess(identifier).await
                })
            })
            .collect();
        let mut looked_at = 0;
        for guess in guesses {
            looked_at += u32::from(guess.await.unwrap() == Guess::Wrong);
        }
        assert_eq!(looked_at, 5, "{identifier}");
    }
    assert_eq!(nodes[1].events("act = 'login.failed'").await, 10);
    let [a, b] = nodes;
    Arc::into_inner(a).unwrap().stop().await;
    Arc::into_inner(b).unwrap().remove().await;
}

async fn failures_beyond_a_rate_are_counted_in_the_trail(backend: Backend) {
    // It stands still: it is all within one period, however long it takes.
    let clock = Arc::new(ManualClock::new());
    let node = at(&clock, TestNode::builder(backend).await).start().await;
    node.register("ada@example.com").await;
    assert_eq!(node.guess("ada@example.com").await, Guess::Wrong);
    for n in 0..310 {
        assert_eq!(node.guess(&format!("nobody-{n}")).await, Guess::Wrong);
    }
    assert_eq!(node.guess("ada@example.com").await, Guess::Wrong);
    // Whether there is the account makes no difference, which whoever guesses could measure.
    assert_eq!(node.events("act = 'login.failed' AND subject_id IS NULL").await, 299);
    assert_eq!(node.events("act = 'login.failed' AND subject_id IS NOT NULL").await, 1);
    let database = Arc::clone(&node.database);
    node.stop().await;
    let told = "SELECT CAST(detail AS TEXT) FROM audit_events WHERE act = 'login.failures_aggregated' \
                AND NOT succeeded AND actor = 'anonymous' AND subject_id IS NULL AND lane IS NOT NULL";
    let told = database.texts(told).await;
    let told: Vec<serde_json::Value> = told.iter().map(|detail| serde_json::from_str(detail).unwrap()).collect();
    assert_eq!(told.iter().map(|detail| detail["count"].as_u64().unwrap()).sum::<u64>(), 11);
    assert!(told.iter().all(|detail| detail["cause"] == "unknown_identifier"), "{told:?}");
    assert!(told.iter().all(|detail| detail["first_time"].as_str().unwrap().starts_with("2027-")), "{told:?}");
    let known = "act = 'login.failures_aggregated' AND subject_id IS NOT NULL";
    assert_eq!(database.integer(&format!("SELECT count(*) FROM audit_events WHERE {known}")).await, 1);
    database.remove().await;
}
