//! A node that does not hear of revocations: it says so by saying less, and in the end nothing.

use std::sync::Arc;

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::{Watcher, micros, request};
use crate::{
    process::proxy::{Link, Proxy},
    support::{Backend, TestDatabase, TestNode, reason, surely_later, until},
};

#[track_caller]
fn assert_outage(status: &Status) {
    assert_eq!((status.code(), &*reason(status)), (Code::Unavailable, "STORE_UNAVAILABLE"), "{status:?}");
    assert!(status.get_error_details().retry_info().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_cut_off_claims_nothing_that_it_cannot_know() {
    let database = Arc::new(TestDatabase::migrated(Backend::Postgres).await);
    let (proxy, url) = Proxy::before(&database).await;
    let cut_off = TestNode::on(database.clone()).set(&format!("database.url={url}")).set("database.acquire_timeout=2s");
    let [cut_off, other] = [cut_off.start().await, TestNode::on(database).start().await];
    other.register("ada@example.com").await;
    let tokens = other.login("ada@example.com").await;
    let mut elsewhere = Watcher::at(&other, "").await;
    elsewhere.catch_up().await;
    let mut watcher = Watcher::at(&cut_off, "").await;
    watcher.catch_up().await;

    proxy.set(Link::Cut);
    surely_later().await;
    other.logout(&tokens.refresh_token).await.unwrap();
    elsewhere.until("the logout", |known| known.refuses(&tokens.access_token)).await;
    let revoked = other.database.integer("SELECT MAX(time) FROM feed").await;
    for _ in 0..5 {
        // A minute is allowed by default: heartbeats go on, and claim nothing later than the cut.
        let message = tokio::time::timeout(super::BOUND, watcher.stream.message()).await.unwrap().unwrap().unwrap();
        assert!(message.revocations.is_empty());
        assert!(micros(message.complete_time.unwrap()) < revoked);
        assert!(!message.cursor.is_empty());
    }
    proxy.set(Link::Up);
    watcher.until("the logout, late", |known| known.refuses(&tokens.access_token)).await;
    watcher.until("complete since", |known| known.complete > revoked).await;
    drop((watcher, elsewhere));
    cut_off.stop().await;
    other.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_may_miss_revocations_ends_its_watches() {
    let database = Arc::new(TestDatabase::migrated(Backend::Postgres).await);
    let (proxy, url) = Proxy::before(&database).await;
    let node = TestNode::on(database)
        .set(&format!("database.url={url}"))
        .set("database.acquire_timeout=2s")
        .set("tokens.max_staleness=3s");
    let node = node.start().await;
    node.register("ada@example.com").await;
    let tokens = node.login("ada@example.com").await;
    let mut watcher = Watcher::at(&node, "").await;
    watcher.catch_up().await;
    proxy.set(Link::Cut);
    assert_outage(&watcher.end().await.unwrap());
    assert_outage(&Watcher::on(node.shared().await, request(&watcher.known.cursor)).await.err().unwrap());
    proxy.set(Link::Up);
    let back = async || Watcher::on(node.shared().await, request("")).await.is_ok();
    until("it watches again", back).await;
    let mut again = Watcher::at(&node, &watcher.known.cursor).await;
    again.catch_up().await;
    assert_eq!((again.known.told, again.known.key_set_changes), (0, 0));
    node.logout(&tokens.refresh_token).await.unwrap();
    again.until("the logout", |known| known.refuses(&tokens.access_token)).await;
    drop((watcher, again));
    node.remove().await;
}
