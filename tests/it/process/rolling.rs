//! Two nodes on one database, restarted one after the other under load (FAULTS 17): a client that tries again at the other
//! node does not notice.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
};

use futures_util::future::join_all;
use tokio::sync::watch;
use tonic::Status;
use vouchsafe::pb::v1::Consistency;

use super::{client::Client, harness::Place};
use crate::support::{Backend, reason};

const RESTARTS: usize = 20;
pub(super) const WORKERS: usize = 4;
/// The other node, this one after its restart, and once more for each, should an address have changed meanwhile.
const TRIES: usize = 4;

/// What the workers share.
pub(super) struct Cluster {
    pub(super) nodes: watch::Sender<[SocketAddr; 2]>,
    pub(super) calls: watch::Sender<u64>,
    pub(super) over: AtomicBool,
}

/// A client of both nodes, connected to one.
struct Caller<'a> {
    cluster: &'a Cluster,
    node: usize,
    client: Option<Client>,
    retries: usize,
}

impl Caller<'_> {
    /// Calls, and tries again at the other node if this one is away. Any refusal is a failure.
    async fn call<T>(&mut self, call: impl AsyncFn(&Client) -> Result<T, Status>) -> T {
        for _ in 0..TRIES {
            if self.client.is_none() {
                let address = self.cluster.nodes.borrow()[self.node];
                self.client = Client::at(address).await.ok();
            }
            if let Some(client) = &self.client {
                match call(client).await {
                    Ok(answer) => {
                        self.cluster.calls.send_modify(|count| *count += 1);
                        return answer;
                    }
                    // With a reason, from the server: it must not refuse. Without, from the transport: it has gone.
                    Err(status) => assert_eq!(reason(&status), "", "{status:?}"),
                }
            }
            self.retries += 1;
            self.client = None;
            self.node = 1 - self.node;
        }
        panic!("no node answers");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_fails_no_call() {
    let place = Place::new(Backend::Postgres).await.set("database.max_connections", "8");
    let mut servers = [place.serve().await, place.serve().await];
    let cluster = Cluster {
        nodes: watch::Sender::new([servers[0].grpc, servers[1].grpc]),
        calls: watch::Sender::new(0),
        over: AtomicBool::new(false),
    };
    let restarts = async {
        for number in 0..RESTARTS {
            let node = number % 2;
            let next = place.serve().await;
            let grpc = next.grpc;
            // As an orchestrator does: the new one serves, then the old one goes.
            cluster.nodes.send_modify(|nodes| nodes[node] = grpc);
            std::mem::replace(&mut servers[node], next).stop().await;
            let seen = *cluster.calls.borrow();
            cluster.calls.subscribe().wait_for(|calls| *calls >= seen + 20).await.unwrap();
        }
        cluster.over.store(true, Ordering::SeqCst);
    };
    let workers = join_all((0..WORKERS).map(|number| work(&cluster, number)));
    let (retries, ()) = tokio::join!(workers, restarts);
    let retries: usize = retries.into_iter().sum();
    assert!(retries > 0, "nobody met a restart");
    assert_eq!(place.database.integer("SELECT count(*) FROM sessions WHERE end_time IS NOT NULL").await, 0);
    for server in servers {
        server.stop().await;
    }
    place.remove().await;
}

/// Refreshes and verifies until it is over. How often it had to try again.
pub(super) async fn work(cluster: &Cluster, number: usize) -> usize {
    let mut caller = Caller { cluster, node: number % 2, client: None, retries: 0 };
    let email = format!("user{number}@example.com");
    let registered = caller.call(async |client| match client.register(&email).await {
        // The first try was acknowledged to nobody.
        Err(status) if reason(&status) == "EMAIL_TAKEN" => Ok(()),
        other => other.map(|_| ()),
    });
    registered.await;
    let mut held = caller.call(async |client| client.login(&email).await).await;
    while !cluster.over.load(Ordering::SeqCst) {
        held = caller.call(async |client| client.refresh(&held.refresh_token).await).await;
        let verified = caller.call(async |client| client.check(&held.access_token, Consistency::Local).await).await;
        assert!(verified.active, "{verified:?}");
    }
    caller.retries
}
