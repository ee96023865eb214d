//! A primary or a node of several that dies.

use std::time::Duration;

use vouchsafe::state::{HotKey, StreamEntry, StreamPlace, Swap};

use super::{
    own::{OwnRedis, PASSWORD, cluster, ends},
    world::{PATIENCE, away, connected, fresh_id, fresh_key, options_of, up},
};
use crate::support::until;

const HOUR: Duration = Duration::from_hours(1);

#[tokio::test]
async fn writes_go_on_at_the_replica_that_a_sentinel_promotes() {
    let mut primary = OwnRedis::start(&[]).await;
    let replica = OwnRedis::start(&[&format!("replicaof 127.0.0.1 {}", primary.port)]).await;
    until("the replica follows", || async {
        replica.ask::<String>(&["INFO", "replication"]).await.unwrap().contains("master_link_status:up")
    })
    .await;
    let sentinel = OwnRedis::sentinel(&[
        &format!("sentinel monitor main 127.0.0.1 {} 1", primary.port),
        &format!("sentinel auth-pass main {PASSWORD}"),
        "sentinel down-after-milliseconds main 500",
        "sentinel failover-timeout main 3000",
    ])
    .await;
    until("the sentinel knows the replica", || async {
        let replicas: Vec<redis::Value> = sentinel.ask(&["SENTINEL", "REPLICAS", "main"]).await.unwrap();
        !replicas.is_empty()
    })
    .await;
    // The first of these sentinels is not there.
    let url = format!(
        "redis+sentinel://:{PASSWORD}@127.0.0.1:1,127.0.0.1:{}/main?sentinel_password={PASSWORD}",
        sentinel.port
    );
    let hot = connected(&options_of(&url, PATIENCE)).await;
    let (key, feed) = (fresh_key(), fresh_id());
    assert_eq!(hot.compare_and_set(key, None, b"a".into(), HOUR).await.unwrap(), Swap::Done);
    hot.push(feed, StreamEntry { number: 1, value: b"a".into() }).await.unwrap();
    let beginning = StreamPlace::beginning();
    let (entries, place) = hot.follow(feed, &beginning).await.unwrap();
    assert_eq!(entries.len(), 1);
    primary.kill();
    assert!(ends(hot.get(key)).await.is_err());
    up(&*hot).await;
    assert_eq!(hot.compare_and_set(fresh_key(), None, b"b".into(), HOUR).await.unwrap(), Swap::Done);
    let role: Vec<redis::Value> = replica.ask(&["ROLE"]).await.unwrap();
    assert_eq!(role[0], redis::Value::BulkString(b"master".to_vec()));
    hot.push(feed, StreamEntry { number: 2, value: b"b".into() }).await.unwrap();
    until("the feed is followed at the new primary", || async {
        ends(hot.follow(feed, &place)).await.is_ok_and(|(entries, _)| entries.len() == 1)
    })
    .await;
}

#[tokio::test]
async fn without_one_node_of_a_cluster_the_others_go_on() {
    let mut nodes = cluster().await;
    let ports = nodes.each_ref().map(|node| format!("127.0.0.1:{}", node.port)).join(",");
    let hot =
        connected(&options_of(&format!("redis+cluster://vouchsafe:{PASSWORD}@{ports}"), Duration::from_secs(1))).await;
    let set = |key: HotKey| hot.compare_and_set(key, None, b"a".into(), HOUR);
    let keys: Vec<_> = (0..60).map(|_| fresh_key()).collect();
    for key in &keys {
        assert_eq!(set(*key).await.unwrap(), Swap::Done);
    }
    // Killed and frozen: what is refused at once and what is never answered.
    for frozen in [false, true] {
        if frozen {
            nodes[0].freeze();
        } else {
            nodes[0].kill();
        }
        let mut failed = Vec::new();
        for key in &keys {
            failed.push(ends(hot.get(*key)).await.is_err());
        }
        away(&*hot).await;
        let count = failed.iter().filter(|failed| **failed).count();
        assert!((1..60).contains(&count), "{count} of 60 failed");
        // As long as it is away, it is these and no others, again and again.
        for _ in 0..20 {
            for (key, failed) in keys.iter().zip(&failed) {
                let answer = ends(hot.get(*key)).await;
                assert_eq!(answer.is_err(), *failed, "frozen: {frozen}, {answer:?}");
            }
        }
        if frozen {
            nodes[0].thaw();
        } else {
            nodes[0].launch().await;
        }
        up(&*hot).await;
        for _ in 0..100 {
            assert_eq!(set(fresh_key()).await.unwrap(), Swap::Done);
        }
    }
}
