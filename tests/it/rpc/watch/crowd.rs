//! Many who watch, one who does not read, and a node that stops under all of them.

use tokio::task::JoinSet;
use tonic::{Code, transport::Endpoint};

use super::{Watcher, request, revoke_many};
use crate::{
    rpc::on_both_databases,
    support::{Backend, TestNode, reason, until, wire::get},
};

on_both_databases!(
    two_thousand_hear_of_one_logout,
    who_does_not_read_is_cut_off_and_the_others_go_on,
    who_does_not_read_keeps_its_place,
    a_node_that_stops_ends_its_watches,
);

/// What a series of the node's metrics shows.
async fn metric(node: &TestNode, series: &str) -> i64 {
    let (_, text) = get(node.http, "/metrics").await;
    let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("{series}")).parse().unwrap()
}

async fn two_thousand_hear_of_one_logout(backend: Backend) {
    let node = TestNode::start(backend).await;
    node.register("ada@example.com").await;
    let tokens = node.login("ada@example.com").await;
    let mut starting = JoinSet::new();
    for _ in 0..40 {
        let channel = node.channel().await;
        for _ in 0..50 {
            let channel = channel.clone();
            starting.spawn(async move {
                let mut watcher = Watcher::on(channel, request("")).await.unwrap();
                watcher.catch_up().await;
                watcher
            });
        }
    }
    let watchers = starting.join_all().await;
    assert_eq!(metric(&node, "vouchsafe_revocation_watchers").await, 2_000);
    let told = metric(&node, "vouchsafe_revocation_watched_total").await;
    node.logout(&tokens.refresh_token).await.unwrap();
    let mut hearing = JoinSet::new();
    for mut watcher in watchers {
        let session = tokens.session_id.clone();
        hearing.spawn(async move {
            watcher.until("the logout", |known| known.sessions.contains(&session)).await;
            assert_eq!(watcher.known.told, 1);
            watcher
        });
    }
    let watchers = hearing.join_all().await;
    assert_eq!(metric(&node, "vouchsafe_revocation_watched_total").await, told + 2_000);
    drop(watchers);
    let gone = async || metric(&node, "vouchsafe_revocation_watchers").await == 0;
    until("all are known to have gone", gone).await;
    assert_eq!(metric(&node, "vouchsafe_revocation_watches_ended_total{reason=\"gone\"}").await, 2_000);
    node.remove().await;
}

async fn who_does_not_read_is_cut_off_and_the_others_go_on(backend: Backend) {
    let node = TestNode::start(backend).await;
    node.register("ada@example.com").await;
    // More than lies in buffers on the way.
    revoke_many(&node.database, 20_000).await;
    node.catch_up().await;
    let endpoint = Endpoint::from_shared(format!("http://{}", node.grpc)).unwrap();
    let narrow = endpoint.initial_stream_window_size(65_535).initial_connection_window_size(65_535);
    let mut slow = Watcher::on(narrow.connect().await.unwrap(), request("")).await.unwrap();
    let mut quick = Watcher::at(&node, "").await;
    quick.catch_up().await;
    assert_eq!(quick.known.told, 20_000);
    let mut cut_off = 0;
    while cut_off == 0 {
        let tokens = node.login("ada@example.com").await;
        node.logout(&tokens.refresh_token).await.unwrap();
        quick.until("what comes", |known| known.sessions.contains(&tokens.session_id)).await;
        assert!(quick.hear().await.unwrap());
        cut_off = metric(&node, "vouchsafe_revocation_watches_ended_total{reason=\"slow\"}").await;
    }
    assert_eq!(metric(&node, "vouchsafe_revocation_watchers").await, 1);
    // What was on the way, and then why.
    let end = slow.end().await.unwrap();
    assert_eq!((end.code(), &*reason(&end)), (Code::ResourceExhausted, "OVERLOADED"));
    assert!((1..20_000).contains(&slow.known.told), "{}", slow.known.told);
    assert_eq!(slow.known.cursor, "", "it must not go on as if it had heard everything");
    drop((slow, quick));
    node.remove().await;
}

/// Nothing of what was sent to it is freed before its stream is: otherwise one connection could fill the memory.
async fn who_does_not_read_keeps_its_place(backend: Backend) {
    let node = TestNode::start(backend).await;
    revoke_many(&node.database, 20_000).await;
    node.catch_up().await;
    let endpoint = Endpoint::from_shared(format!("http://{}", node.grpc)).unwrap();
    let narrow = endpoint.initial_stream_window_size(65_535).initial_connection_window_size(65_535);
    let channel = narrow.connect().await.unwrap();
    let mut unread = Vec::new();
    for _ in 0..64 {
        unread.push(Watcher::on(channel.clone(), request("")).await.unwrap());
    }
    let refused = async || {
        let refused = Watcher::on(channel.clone(), request("")).await.err();
        refused.is_some_and(|status| (status.code(), &*reason(&status)) == (Code::ResourceExhausted, "OVERLOADED"))
    };
    assert!(refused().await, "as many as one connection may have");
    let mut elsewhere = Watcher::at(&node, "").await;
    elsewhere.catch_up().await;
    let slow = async || {
        elsewhere.hear().await.unwrap();
        metric(&node, "vouchsafe_revocation_watches_ended_total{reason=\"slow\"}").await == 64
    };
    hear_until(slow).await;
    assert_eq!(metric(&node, "vouchsafe_revocation_watchers").await, 1);
    assert!(refused().await, "they have ended, and what they did not read is still here");
    unread.pop();
    until("the place of a stream that was closed is free", async || !refused().await).await;
    drop((unread, elsewhere));
    node.remove().await;
}

async fn hear_until(mut is_so: impl AsyncFnMut() -> bool) {
    let asking = async { while !is_so().await {} };
    assert!(tokio::time::timeout(super::BOUND, asking).await.is_ok(), "never: all are too slow");
}

async fn a_node_that_stops_ends_its_watches(backend: Backend) {
    // Longer than the test may take: not the bound ends the drain.
    let node = TestNode::builder(backend).await.set("shutdown.drain=10m").set("shutdown.pause=1s").start().await;
    let channels = [node.channel().await, node.channel().await];
    let mut watchers = Vec::new();
    for place in 0..100 {
        let mut watcher = Watcher::on(channels[place % 2].clone(), request("")).await.unwrap();
        watcher.catch_up().await;
        watchers.push(watcher);
    }
    node.shutdown.cancel();
    for mut watcher in watchers {
        let end = watcher.end().await.unwrap();
        assert_eq!((end.code(), &*reason(&end)), (Code::Unavailable, "STORE_UNAVAILABLE"));
    }
    drop(channels);
    let stopping = tokio::time::timeout(super::BOUND, node.remove()).await;
    assert!(stopping.is_ok(), "the drain goes on");
}
