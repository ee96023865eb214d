//! One server that is killed, frozen, cut off, emptied, or not there yet. It is never restarted on our side.

use std::{
    io::Write,
    sync::{Arc, Mutex},
    time::Duration,
};

use vouchsafe::state::{HotError, HotState, StreamEntry, StreamPlace, Swap, redis::open};

use super::{
    own::{OwnRedis, PASSWORD, ends},
    world::{PATIENCE, away, connected, fresh_id, fresh_key, options_of, up},
};
use crate::{
    process::proxy::{Link, Proxy},
    support::until,
};

const HOUR: Duration = Duration::from_hours(1);

/// Short, so that a frozen server costs the tests little.
const SHORT: Duration = Duration::from_millis(250);

/// Every call fails, and none hangs.
async fn all_fail(hot: &dyn HotState) {
    let (key, feed) = (fresh_key(), fresh_id());
    assert!(matches!(ends(hot.get(key)).await, Err(HotError::Unavailable(_))));
    assert!(ends(hot.compare_and_set(key, None, b"a".into(), HOUR)).await.is_err());
    assert!(ends(hot.push(feed, StreamEntry { number: 1, value: b"a".into() })).await.is_err());
    assert!(ends(hot.follow(feed, &StreamPlace::beginning())).await.is_err());
}

/// Every call succeeds.
async fn all_succeed(hot: &dyn HotState) {
    let (key, feed) = (fresh_key(), fresh_id());
    let entry = StreamEntry { number: 1, value: b"a".into() };
    assert_eq!(hot.get(key).await.unwrap(), None);
    assert_eq!(hot.compare_and_set(key, None, b"a".into(), HOUR).await.unwrap(), Swap::Done);
    hot.push(feed, entry.clone()).await.unwrap();
    // Its connection may be one that broke meanwhile, which shows only when it is used.
    until("the feed is followed", || async {
        ends(hot.follow(feed, &StreamPlace::beginning())).await.is_ok_and(|(entries, _)| entries == [entry.clone()])
    })
    .await;
}

#[tokio::test]
async fn a_server_that_is_killed_and_restarted_is_found_again() {
    let mut server = OwnRedis::start(&[]).await;
    let hot = connected(&options_of(&server.url(), PATIENCE)).await;
    all_succeed(&*hot).await;
    for _ in 0..2 {
        server.kill();
        all_fail(&*hot).await;
        assert!(!hot.is_up());
        server.launch().await;
        up(&*hot).await;
        all_succeed(&*hot).await;
    }
}

#[tokio::test]
async fn a_frozen_server_costs_the_first_calls_only() {
    let server = OwnRedis::start(&[]).await;
    let hot = connected(&options_of(&server.url(), SHORT)).await;
    all_succeed(&*hot).await;
    server.freeze();
    all_fail(&*hot).await;
    assert!(!hot.is_up());
    // Were each of these to wait, they would need four minutes.
    ends(async {
        for _ in 0..1_000 {
            assert!(hot.get(fresh_key()).await.is_err());
        }
    })
    .await;
    server.thaw();
    up(&*hot).await;
    all_succeed(&*hot).await;
}

#[tokio::test]
async fn a_network_that_swallows_everything_is_no_reason_to_hang() {
    let server = OwnRedis::start(&[]).await;
    let proxy = Proxy::to(format!("127.0.0.1:{}", server.port)).await;
    let url = format!("redis://:{PASSWORD}@{}", proxy.address);
    for broken in [Link::Frozen, Link::Deaf, Link::Cut] {
        let hot = connected(&options_of(&url, SHORT)).await;
        all_succeed(&*hot).await;
        proxy.set(broken);
        all_fail(&*hot).await;
        // Also from the start.
        let late = open(&options_of(&url, SHORT)).unwrap();
        all_fail(&*late).await;
        proxy.set(Link::Up);
        up(&*hot).await;
        up(&*late).await;
        all_succeed(&*hot).await;
        all_succeed(&*late).await;
    }
}

#[tokio::test]
async fn a_server_that_comes_later_is_found() {
    let mut server = OwnRedis::stopped(&[], false);
    let hot = open(&options_of(&server.url(), SHORT)).unwrap();
    all_fail(&*hot).await;
    server.launch().await;
    up(&*hot).await;
    all_succeed(&*hot).await;
}

#[tokio::test]
async fn a_server_that_lost_everything_serves_on() {
    let server = OwnRedis::start(&[]).await;
    let hot = connected(&options_of(&server.url(), PATIENCE)).await;
    let (key, feed) = (fresh_key(), fresh_id());
    hot.compare_and_set(key, None, b"a".into(), HOUR).await.unwrap();
    hot.push(feed, StreamEntry { number: 9, value: b"a".into() }).await.unwrap();
    server.ask::<()>(&["FLUSHALL"]).await.unwrap();
    assert_eq!(hot.get(key).await.unwrap(), None);
    let expected = Some(b"a".to_vec());
    assert_eq!(hot.compare_and_set(key, expected, b"b".into(), HOUR).await.unwrap(), Swap::Lost(None));
    let entry = StreamEntry { number: 3, value: b"b".into() };
    hot.push(feed, entry.clone()).await.unwrap();
    assert_eq!(hot.follow(feed, &StreamPlace::beginning()).await.unwrap().0, [entry]);
    assert!(hot.is_up());
}

#[tokio::test]
async fn a_script_that_was_forgotten_is_sent_again() {
    let server = OwnRedis::start(&[]).await;
    let hot = connected(&options_of(&server.url(), PATIENCE)).await;
    for _ in 0..3 {
        server.ask::<()>(&["SCRIPT", "FLUSH"]).await.unwrap();
        let swap = hot.compare_and_set(fresh_key(), None, b"a".into(), HOUR).await;
        assert_eq!(swap.unwrap(), Swap::Done);
    }
    assert!(hot.is_up());
}

#[tokio::test]
async fn a_server_that_only_reads_is_away_until_it_writes() {
    let server = OwnRedis::start(&[]).await;
    let hot = connected(&options_of(&server.url(), PATIENCE)).await;
    server.ask::<()>(&["REPLICAOF", "127.0.0.1", "1"]).await.unwrap();
    until("a write is refused", || async { hot.compare_and_set(fresh_key(), None, b"a".into(), HOUR).await.is_err() })
        .await;
    away(&*hot).await;
    server.ask::<()>(&["REPLICAOF", "NO", "ONE"]).await.unwrap();
    up(&*hot).await;
    all_succeed(&*hot).await;
}

#[tokio::test]
async fn a_value_of_another_kind_is_that_keys_problem_alone() {
    let server = OwnRedis::start(&[]).await;
    let hot = connected(&options_of(&server.url(), PATIENCE)).await;
    let feed = fresh_id();
    server.ask::<()>(&["SET", &format!("vouchsafe:feed:{feed}"), "x"]).await.unwrap();
    assert!(hot.push(feed, StreamEntry { number: 1, value: b"a".into() }).await.is_err());
    assert!(hot.is_up());
    all_succeed(&*hot).await;
}

/// How often a server was asked to do this.
async fn calls(server: &OwnRedis, command: &str) -> u64 {
    let stats: String = server.ask(&["INFO", "commandstats"]).await.unwrap();
    let line = stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
    line.map_or(0, |line| line.split_once(',').unwrap().0.parse().unwrap())
}

#[tokio::test]
async fn entries_of_strangers_neither_stop_nor_spin_a_follower() {
    let server = OwnRedis::start(&[]).await;
    let hot = connected(&options_of(&server.url(), PATIENCE)).await;
    let feed = fresh_id();
    let key = format!("vouchsafe:feed:{feed}");
    let ours = |number| StreamEntry { number, value: b"a".into() };
    hot.push(feed, ours(2)).await.unwrap();
    for fields in [
        &["e", "a"][..],
        &["n", "x", "e", "a"],
        &["n", "9223372036854775808", "e", "a"],
        &["e", "a", "n", "1"],
        &["n", "1", "e", "a", "n", "2"],
    ] {
        server.ask::<String>(&[&["XADD", &key, "*"], fields].concat()).await.unwrap();
    }
    // Names that are no text, and all but the last id there is.
    let bytes = "return redis.call('XADD', KEYS[1], '18446744073709551615-18446744073709551613', '\\255', '\\254')";
    server.ask::<String>(&["EVAL", bytes, "1", &key]).await.unwrap();
    hot.push(feed, ours(1)).await.unwrap();
    let (entries, place) = hot.follow(feed, &StreamPlace::beginning()).await.unwrap();
    assert_eq!(entries, [ours(2), ours(1)]);
    server.ask::<String>(&["XADD", &key, "18446744073709551615-18446744073709551615", "e", "a"]).await.unwrap();
    let (entries, place) = hot.follow(feed, &place).await.unwrap();
    assert_eq!(entries, []);
    // It has passed them: now it waits.
    let before = calls(&server, "xread").await;
    assert_eq!(hot.follow(feed, &place).await.unwrap(), (Vec::new(), place));
    assert_eq!(calls(&server, "xread").await, before + 1);

    // No id is left: the stream begins anew, once.
    let another = connected(&options_of(&server.url(), PATIENCE)).await;
    let (one, other) = tokio::join!(hot.push(feed, ours(4)), another.push(feed, ours(3)));
    one.and(other).unwrap();
    hot.push(feed, ours(5)).await.unwrap();
    let (entries, _) = hot.follow(feed, &StreamPlace::beginning()).await.unwrap();
    let mut numbers: Vec<_> = entries.iter().map(|entry| entry.number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [3, 4, 5]);
    let life: u64 = server.ask(&["TTL", &key]).await.unwrap();
    assert!((86_000..=86_400).contains(&life), "{life}");
    assert!(hot.is_up());
}

#[tokio::test]
async fn a_feed_that_nobody_pushes_to_vanishes_and_keeps_to_its_size() {
    let server = OwnRedis::start(&["stream-node-max-entries 10"]).await;
    let hot = connected(&options_of(&server.url(), PATIENCE)).await;
    let feed = fresh_id();
    for number in 1..=10_050 {
        hot.push(feed, StreamEntry { number, value: b"a".into() }).await.unwrap();
    }
    let key = format!("vouchsafe:feed:{feed}");
    let length: u64 = server.ask(&["XLEN", &key]).await.unwrap();
    assert!((10_000..10_050).contains(&length), "{length}");
    let life: u64 = server.ask(&["TTL", &key]).await.unwrap();
    assert!((86_000..=86_400).contains(&life), "{life}");
}

/// What is logged, for a look.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_wrong_password_is_told_once_and_not_shown() {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    // For this thread, on which all of this test runs.
    let _guard = tracing::subscriber::set_default(subscriber);
    // As long as there is only one subscriber, tracing asks the thread that first meets a line whether anybody wants it; that
    // thread may be another test's, where nobody does.
    let _another = tracing::Dispatch::new(tracing_subscriber::fmt().with_writer(std::io::sink).finish());
    let server = OwnRedis::start(&[]).await;
    let url = format!("redis://:wr0ng@127.0.0.1:{}", server.port);
    let hot = open(&options_of(&url, PATIENCE)).unwrap();
    let log = || String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    all_fail(&*hot).await;
    all_fail(&*hot).await;
    assert!(!hot.is_up());
    let away = log();
    assert_eq!(away.matches("WARN").count(), 1, "{away}");
    assert!(away.contains(&format!("redis://127.0.0.1:{}", server.port)), "{away}");
    assert!(away.contains("uthentication") && !away.contains("wr0ng"), "{away}");
    server.ask::<()>(&["CONFIG", "SET", "requirepass", "wr0ng"]).await.unwrap();
    up(&*hot).await;
    until("it is told", || async {
        tokio::task::yield_now().await;
        log().contains("Redis answers")
    })
    .await;
    assert_eq!(log().matches("WARN").count(), 1);
}

#[tokio::test]
async fn roots_that_cannot_be_used_are_a_mistake_and_not_an_outage() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("roots.pem");
    let mut options = options_of("rediss://h", PATIENCE);
    options.tls_roots = Some(path.clone());
    for content in
        [None, Some("no certificate"), Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")]
    {
        if let Some(content) = content {
            std::fs::write(&path, content).unwrap();
        }
        assert!(open(&options).is_err(), "{content:?}");
    }
}

#[tokio::test]
async fn a_server_that_other_roots_vouch_for_is_not_trusted() {
    let hot = open(&options_of(&super::world::variable("VOUCHSAFE_TEST_REDIS_TLS_URL"), SHORT)).unwrap();
    all_fail(&*hot).await;
    assert!(!hot.is_up());
}
