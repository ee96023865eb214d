//! Callers of both nodes who never rest, or hardly. None of them may be refused what is theirs, or given what is not.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{sleep, timeout},
};
use tonic::Code;
use vouchsafe::pb::v1;

use super::world::{World, ends, generation};
use crate::{
    process::{client::Client, harness::BOUND},
    support::reason,
};

/// What the callers do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Refresh and verify.
    Refresh,
    /// Sign in and out as well.
    Everything,
    /// Present each token to both nodes at once, again and again until one of them answers: outages are taken as they come.
    Insist,
}

/// Callers at work.
pub(super) struct Load {
    over: Arc<AtomicBool>,
    calls: Arc<watch::Sender<u64>>,
    callers: Vec<JoinHandle<Caller>>,
}

/// One of them, and what it has.
pub(super) struct Caller {
    nodes: [Client; 2],
    kind: Kind,
    rest: Duration,
    email: String,
    held: v1::TokenPair,
    left: Vec<v1::TokenPair>,
}

impl Load {
    pub(super) async fn start(world: &World, kind: Kind, count: usize) -> Self {
        Self::with_rest(world, kind, count, Duration::ZERO).await
    }

    /// One whose callers rest this long between two turns, for a test that lasts.
    pub(super) async fn with_rest(world: &World, kind: Kind, count: usize, rest: Duration) -> Self {
        let (over, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(watch::Sender::new(0)));
        let mut callers = Vec::new();
        for number in 0..count {
            let email = format!("caller{number}@example.com");
            let held = world.join(&email).await;
            let nodes = world.nodes.each_ref().map(|node| node.client.clone());
            let caller = Caller { nodes, kind, rest, email, held, left: Vec::new() };
            callers.push(tokio::spawn(caller.work(number, Arc::clone(&over), Arc::clone(&calls))));
        }
        Self { over, calls, callers }
    }

    /// Waits until each of them has done this much more, roughly.
    pub(super) async fn go_on(&self, rounds: u64) {
        timeout(BOUND, self.goes_on(rounds)).await.expect("the load goes on");
    }

    /// The same, or for a moment in which nobody may get anywhere.
    pub(super) async fn try_to_go_on(&self, rounds: u64) {
        let _ = timeout(Duration::from_millis(400), self.goes_on(rounds)).await;
    }

    async fn goes_on(&self, rounds: u64) {
        let wanted = *self.calls.borrow() + rounds * self.callers.len() as u64;
        let mut calls = self.calls.subscribe();
        while *calls.borrow_and_update() < wanted {
            assert!(!self.callers.iter().any(JoinHandle::is_finished), "a caller has failed");
            // A caller that fails does not count: look for it now and then.
            let _ = timeout(Duration::from_millis(500), calls.changed()).await;
        }
    }

    /// Ends it, and makes sure that everybody still has what they should have, and nothing else.
    pub(super) async fn end(self, world: &World) {
        self.over.store(true, Ordering::SeqCst);
        let mut left = 0;
        for caller in self.callers {
            let mut caller = ends(caller).await.unwrap();
            world.warm(&mut caller.held).await;
            for node in &world.nodes {
                node.client.claims(&caller.held.access_token).await;
            }
            world.assert_dead(&caller.left).await;
            left += caller.left.len();
        }
        let ended = "SELECT count(*) FROM sessions s JOIN users u ON u.id = s.user_id \
                     WHERE u.email LIKE 'caller%' AND s.end_time IS NOT NULL";
        let ended = world.place.database.integer(ended).await;
        assert_eq!(ended, i64::try_from(left).unwrap(), "nobody was signed out but who signed out");
    }
}

impl Caller {
    async fn work(mut self, number: usize, over: Arc<AtomicBool>, calls: Arc<watch::Sender<u64>>) -> Self {
        for turn in number.. {
            if over.load(Ordering::SeqCst) {
                break;
            }
            let [here, there] = [turn % 2, (turn + 1) % 2].map(|node| self.nodes[node].clone());
            self.held = match self.kind {
                Kind::Refresh | Kind::Everything => ends(here.refresh(&self.held.refresh_token)).await.unwrap(),
                Kind::Insist => self.insist().await,
            };
            ends(there.claims(&self.held.access_token)).await;
            if self.kind == Kind::Everything && turn % 4 == 0 {
                self.come_and_go(&here, &there).await;
            }
            calls.send_modify(|count| *count += 1);
            if !self.rest.is_zero() {
                sleep(self.rest).await;
            }
        }
        self
    }

    /// The successor, from whichever node has it. There is only one.
    async fn insist(&self) -> v1::TokenPair {
        loop {
            let asked = self.nodes.each_ref().map(|node| ends(node.refresh(&self.held.refresh_token)));
            let mut successor: Option<v1::TokenPair> = None;
            for answer in join_all(asked).await {
                match answer {
                    Ok(next) => {
                        let known = successor.get_or_insert_with(|| next.clone());
                        assert_eq!(known.refresh_token, next.refresh_token, "two branches");
                        assert_eq!(generation(&next), generation(&self.held) + 1);
                    }
                    Err(status) => {
                        let passes =
                            [Code::Unavailable, Code::DeadlineExceeded, Code::Aborted].contains(&status.code());
                        assert!(passes && !reason(&status).is_empty(), "{status:?}");
                    }
                }
            }
            if let Some(next) = successor {
                return next;
            }
        }
    }

    /// Signs in here, goes on and signs out there.
    async fn come_and_go(&mut self, here: &Client, there: &Client) {
        let first = ends(here.login(&self.email)).await.unwrap();
        let second = ends(there.refresh(&first.refresh_token)).await.unwrap();
        ends(there.logout(&second.refresh_token)).await.unwrap();
        ends(there.inactive(&first.access_token)).await;
        for (node, tokens) in [(here, &first), (there, &second), (here, &second)] {
            let refused = ends(node.refresh(&tokens.refresh_token)).await.unwrap_err();
            assert_eq!(reason(&refused), "SESSION_REVOKED");
        }
        self.left.push(second);
    }
}
