//! A node dies in the midst of refreshes (FAULTS 9): whoever tries again, there or elsewhere, goes on, on the one branch there is.

use futures_util::{
    future::join_all,
    stream::{StreamExt as _, iter},
};
use tokio::sync::{Barrier, watch};
use vouchsafe::pb::v1::TokenPair;

use super::{
    rounds,
    world::{Node, World, ends, generation},
};
use crate::{process::client::Client, support::TestEntropy, support::reason};

/// As many as FAULTS asks for.
const ROUNDS: usize = 200;
/// Callers with the same token at the node that dies. Some more use the other.
const CALLERS: usize = 6;
/// Nodes that are being started while another dies: that is what a round takes longest for.
const SPARES: usize = 3;
/// What no round may leave behind.
const ALARMS: &str = "SELECT count(*) FROM audit_events WHERE act LIKE 'refresh.%' OR act = 'session.ended'";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_killed_amid_refreshes_signs_nobody_out_and_splits_no_family() {
    let mut world = World::new().await;
    let mut held = world.join("ada@example.com").await;
    let entropy = TestEntropy::default();
    let (mut lost, mut answered) = (0, 0);
    let rounds = rounds(ROUNDS);
    let mut spares = iter(0..rounds).map(|_| Node::start(&world.place, &world.redis)).buffered(SPARES);
    for round in 0..rounds {
        let next = spares.next().await.unwrap();
        let victim = round % 2;
        let [dying, survivor] = [&world.nodes[victim], &world.nodes[1 - victim]];
        let (start, answers) = (Barrier::new(CALLERS + 3), watch::Sender::new(0));
        let callers = join_all((0..CALLERS + 2).map(|number| {
            let (client, answers) = if number < CALLERS { (dying, Some(&answers)) } else { (survivor, None) };
            // The next one is where the dead one was, as far as callers know.
            let retry = if number % 2 == 0 { survivor } else { &next };
            present(&client.client, &retry.client, &held, &start, answers)
        }));
        let killer = async {
            start.wait().await;
            // Between two answers, or before the first of them, at any moment of what takes a few milliseconds.
            let enough = entropy.below(CALLERS as u64);
            answers.subscribe().wait_for(|count| *count >= enough).await.unwrap();
            for _ in 0..entropy.below(300) {
                tokio::task::yield_now().await;
            }
            rustix::process::kill_process(dying.server.pid(), rustix::process::Signal::KILL).unwrap();
        };
        let (successors, ()) = tokio::join!(callers, killer);
        for (successor, _) in &successors {
            assert_eq!(successor.refresh_token, successors[0].0.refresh_token, "round {round}: two branches");
            assert_eq!(generation(successor), generation(&held) + 1, "round {round}");
        }
        let unanswered = successors.iter().filter(|(_, retried)| *retried).count();
        lost += unanswered;
        answered += CALLERS - unanswered;
        held = successors.into_iter().next().unwrap().0;
        for node in [survivor, &next] {
            ends(node.client.claims(&held.access_token)).await;
        }
        assert_eq!(world.place.database.integer(ALARMS).await, 0, "round {round}");
        std::mem::replace(&mut world.nodes[victim], next).server.kill().await;
    }
    drop(spares);
    println!("{rounds} kills: {lost} calls were cut off, {answered} were answered by the node that died");
    assert!(lost > 0 && answered > 0, "{lost} lost, {answered} answered: never amid refreshes");
    world.warm(&mut held).await;
    world.until_row(&held).await;
    assert_eq!(world.ended("").await, 0);
    assert_eq!(world.place.database.integer(ALARMS).await, 0);
    world.remove().await;
}

/// Presents a token, and again elsewhere if no answer comes. The successor, and whether it had to be asked for twice.
async fn present(
    client: &Client,
    elsewhere: &Client,
    held: &TokenPair,
    start: &Barrier,
    answers: Option<&watch::Sender<u64>>,
) -> (TokenPair, bool) {
    start.wait().await;
    match ends(client.refresh(&held.refresh_token)).await {
        Ok(next) => {
            answers.inspect(|count| count.send_modify(|count| *count += 1));
            (next, false)
        }
        Err(status) => {
            assert!(answers.is_some(), "the survivor refused: {status:?}");
            assert_eq!(reason(&status), "", "the node refused: {status:?}");
            (ends(elsewhere.refresh(&held.refresh_token)).await.unwrap(), true)
        }
    }
}
