//! A node dies in the midst of refreshes (FAULTS 9): whoever tries again at the other goes on, on the one branch there is.

use futures_util::future::join_all;
use tokio::sync::{Barrier, watch};
use vouchsafe::pb::v1::TokenPair;

use super::world::{Node, World, ends, generation};
use crate::{process::client::Client, support::TestEntropy, support::reason};

const ROUNDS: usize = 100;
/// Callers with the same token at the node that dies. Some more use the other.
const CALLERS: usize = 6;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_killed_amid_refreshes_signs_nobody_out_and_splits_no_family() {
    let mut world = World::new().await;
    let mut held = world.join("ada@example.com").await;
    let entropy = TestEntropy::default();
    let (mut lost, mut answered) = (0, 0);
    for round in 0..ROUNDS {
        let victim = round % 2;
        let survivor = world.nodes[1 - victim].client.clone();
        // The next one starts while this one still works.
        let next = Node::start(&world.place, &world.redis);
        let (next, (successors, unanswered)) = tokio::join!(next, async {
            let start = Barrier::new(CALLERS + 3);
            let answered = watch::Sender::new(0);
            let dying = world.nodes[victim].client.clone();
            let callers = join_all((0..CALLERS + 2).map(|number| {
                let client = if number < CALLERS { dying.clone() } else { survivor.clone() };
                let answered = (number < CALLERS).then_some(&answered);
                present(client, &survivor, &held, &start, answered)
            }));
            let killer = async {
                start.wait().await;
                // Between two answers, or before the first of them, at any moment of what takes a few milliseconds.
                let enough = entropy.below(CALLERS as u64);
                answered.subscribe().wait_for(|count| *count >= enough).await.unwrap();
                for _ in 0..entropy.below(300) {
                    tokio::task::yield_now().await;
                }
                rustix::process::kill_process(world.nodes[victim].server.pid(), rustix::process::Signal::KILL).unwrap();
            };
            let (answers, ()) = tokio::join!(callers, killer);
            let unanswered = answers.iter().filter(|(_, retried)| *retried).count();
            (answers.into_iter().map(|(tokens, _)| tokens).collect::<Vec<_>>(), unanswered)
        });
        std::mem::replace(&mut world.nodes[victim], next).server.kill().await;
        for successor in &successors {
            assert_eq!(successor.refresh_token, successors[0].refresh_token, "round {round}: two branches");
            assert_eq!(generation(successor), generation(&held) + 1, "round {round}");
        }
        lost += unanswered;
        answered += CALLERS - unanswered.min(CALLERS);
        held = successors.into_iter().next().unwrap();
        ends(world.nodes[1 - victim].client.claims(&held.access_token)).await;
    }
    println!("{lost} calls were cut off by a kill, {answered} were answered by the node that died");
    assert!(lost > 0 && answered > 0, "{lost} lost, {answered} answered: never amid refreshes");
    world.warm(&mut held).await;
    world.until_row(&held).await;
    assert_eq!(world.ended("").await, 0);
    let alarms = "SELECT count(*) FROM audit_events WHERE act LIKE 'refresh.%' OR act = 'session.ended'";
    assert_eq!(world.place.database.integer(alarms).await, 0);
    world.remove().await;
}

/// Presents a token, and again at the survivor if no answer comes. The successor, and whether it had to be asked for twice.
async fn present(
    client: Client,
    survivor: &Client,
    held: &TokenPair,
    start: &Barrier,
    answered: Option<&watch::Sender<u64>>,
) -> (TokenPair, bool) {
    start.wait().await;
    match ends(client.refresh(&held.refresh_token)).await {
        Ok(next) => {
            answered.inspect(|count| count.send_modify(|count| *count += 1));
            (next, false)
        }
        Err(status) => {
            assert_eq!(reason(&status), "", "the node refused: {status:?}");
            (ends(survivor.refresh(&held.refresh_token)).await.unwrap(), true)
        }
    }
}
