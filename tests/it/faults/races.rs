//! Very many at once, at two nodes (FAULTS 10 and 11, R1 and R3).

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use tokio::{sync::Barrier, task::JoinSet};
use vouchsafe::pb::v1::TokenPair;

use super::{
    rounds,
    world::{World, ends, generation},
};
use crate::{
    process::{
        client::{Client, assert_outage},
        web::metric,
    },
    support::reason,
};

/// Rounds of one test run. FAULTS asks for a thousand: `VOUCHSAFE_TEST_ROUNDS`.
const ROUNDS: usize = 300;
/// Callers with the same token, half of them at either node.
const CALLERS: usize = 200;
/// How often one that is told to try again does so.
const TRIES: usize = 10;
/// Families whose rounds go on side by side, so that the machine is never idle between two rounds of one.
const FAMILIES: usize = 2;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_callers_at_each_of_two_nodes_get_one_successor() {
    // Two hundred thousand lines about what each refresh decided are of no use here; and so many at once on a busy machine
    // want patience.
    let settings = [("log.filter", "info"), ("database.acquire_timeout", "20s"), ("redis.timeout", "5s")];
    let world = World::with(&settings).await;
    let each = rounds(ROUNDS).div_ceil(FAMILIES);
    let mut families = JoinSet::new();
    for number in 0..FAMILIES {
        let first = world.nodes[0].client.join(&format!("user{number}@example.com")).await;
        // Connections of its own: one has room for no more calls at once than a family makes.
        let nodes = [Client::of(&world.nodes[0].server).await, Client::of(&world.nodes[1].server).await];
        families.spawn(async move {
            let mut held = first;
            for round in 0..each {
                held = one_successor(&nodes, &held, round).await;
            }
            held
        });
    }
    for held in families.join_all().await {
        world.until_row(&held).await;
        assert_eq!(world.generation(&held).await, i64::try_from(each).unwrap(), "one generation a round");
    }
    let (mut hot, mut outages) = (0.0, 0.0);
    for node in &world.nodes {
        let unavailable = "rpc_server_call_duration_seconds_count{rpc_system_name=\"grpc\",\
                           rpc_method=\"vouchsafe.v1.AuthService/Refresh\",rpc_response_status_code=\"UNAVAILABLE\"}";
        outages += metric(&node.server, unavailable).await;
        hot += metric(&node.server, "vouchsafe_refreshes_total{decision=\"rotate\",path=\"hot\"}").await;
    }
    let made = each * FAMILIES;
    println!("{made} rounds of {CALLERS} callers, {hot} decided by the hot record, {outages} calls told to try again");
    assert!(hot > 0.0, "never by the hot record");
    assert!(outages < 2_000.0, "{outages} calls told to try again");
    assert_eq!(world.place.database.integer("SELECT count(*) FROM audit_events WHERE act LIKE 'refresh.%'").await, 0);
    assert_eq!(world.ended("").await, 0);
    world.remove().await;
}

/// All present the same token at once. What they all get.
async fn one_successor(nodes: &[Client; 2], held: &TokenPair, round: usize) -> TokenPair {
    let start = Arc::new(Barrier::new(CALLERS));
    let mut callers = JoinSet::new();
    for number in 0..CALLERS {
        let (client, start) = (nodes[number % 2].clone(), Arc::clone(&start));
        let token = held.refresh_token.clone();
        callers.spawn(async move {
            start.wait().await;
            // A node that got nothing of a busy machine for seconds says so; the same token still works.
            for _ in 0..TRIES {
                match ends(client.refresh(&token)).await {
                    Ok(next) => return next,
                    Err(status) => assert_outage(&status),
                }
            }
            panic!("never refreshed");
        });
    }
    let mut successors = callers.join_all().await;
    assert_eq!(generation(&successors[0]), generation(held) + 1);
    for successor in &successors {
        assert_eq!(successor.refresh_token, successors[0].refresh_token, "round {round}");
    }
    let one = successors.swap_remove(round % CALLERS);
    for node in nodes {
        ends(node.claims(&one.access_token)).await;
    }
    one
}

/// What was issued to a family, and whether its end was acknowledged.
#[derive(Default)]
struct Family {
    issued: Mutex<Vec<TokenPair>>,
    over: AtomicBool,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_issued_after_a_revocation_was_acknowledged() {
    let world = World::new().await;
    let owner = world.join("ada@example.com").await;
    let nodes = world.nodes.each_ref().map(|node| node.client.clone());
    let (mut everything, mut between) = (Vec::new(), 0);
    for round in 0..30 {
        let mut first = nodes[round % 2].login("ada@example.com").await.unwrap();
        world.warm(&mut first).await;
        let family = Arc::new(Family::default());
        let start = Arc::new(Barrier::new(2));
        let refreshing =
            tokio::spawn(refresh_until_refused(nodes.clone(), first.clone(), Arc::clone(&family), Arc::clone(&start)));
        start.wait().await;
        // Not at the first of them each time.
        let wanted = round % 5;
        while family.issued.lock().unwrap().len() < wanted {
            tokio::task::yield_now().await;
        }
        ends(nodes[round / 2 % 2].logout(&first.refresh_token)).await.unwrap();
        family.over.store(true, Ordering::SeqCst);
        refreshing.await.unwrap();
        let mut issued = std::mem::take(&mut *family.issued.lock().unwrap());
        between += usize::from(issued.len() > wanted);
        issued.push(first);
        everything.extend(issued);
    }
    assert!(between > 0, "no refresh was ever under way: nothing was tested");
    world.assert_dead(&everything).await;
    for node in &world.nodes {
        node.client.claims(&owner.access_token).await;
    }
    assert_eq!(world.ended("replay").await, 0);
    world.remove().await;
}

/// Presents the newest token to both nodes at once, again and again.
async fn refresh_until_refused(nodes: [Client; 2], mut held: TokenPair, family: Arc<Family>, start: Arc<Barrier>) {
    start.wait().await;
    loop {
        // Read before the calls begin: they arrive after the acknowledgement then.
        let over = family.over.load(Ordering::SeqCst);
        let [one, other] = &nodes;
        let answers = tokio::join!(ends(one.refresh(&held.refresh_token)), ends(other.refresh(&held.refresh_token)));
        let mut refused = 0;
        for answer in [answers.0, answers.1] {
            match answer {
                Ok(next) => {
                    assert!(!over, "refreshed after the revocation was acknowledged");
                    family.issued.lock().unwrap().push(next.clone());
                    held = next;
                }
                Err(status) => {
                    assert_eq!(reason(&status), "SESSION_REVOKED", "{status:?}");
                    refused += 1;
                }
            }
        }
        if refused == 2 && over {
            return;
        }
    }
}
