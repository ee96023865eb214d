//! Streams: pushed to and followed.

use std::time::Duration;

use tokio::time::timeout;
use uuid::Uuid;
use vouchsafe::state::{HotState, StreamEntry};

use super::world::{World, fresh_id, fresh_key};

fn entry(number: i64) -> StreamEntry {
    StreamEntry { number, value: format!("entry\0{number}\r\n").into_bytes() }
}

async fn push(hot: &dyn HotState, feed: Uuid, numbers: impl IntoIterator<Item = i64>) {
    for number in numbers {
        hot.push(feed, entry(number)).await.unwrap();
    }
}

/// What comes after `after`; only asked where something is there.
async fn read(hot: &dyn HotState, feed: Uuid, after: i64) -> Vec<StreamEntry> {
    hot.follow(feed, after).await.unwrap()
}

pub(super) async fn entries_are_followed_in_order(world: &World) {
    let feed = fresh_id();
    push(&*world.hot, feed, [1, 2, 3, 10, i64::MAX]).await;
    assert_eq!(read(&*world.hot, feed, 0).await, [1, 2, 3, 10, i64::MAX].map(entry));
    assert_eq!(read(&*world.hot, feed, -1).await.len(), 5);
    assert_eq!(read(&*world.another().await, feed, 0).await.len(), 5);
}

pub(super) async fn following_begins_after_a_number(world: &World) {
    let feed = fresh_id();
    push(&*world.hot, feed, [1, 2, 5]).await;
    assert_eq!(read(&*world.hot, feed, 1).await, [2, 5].map(entry));
    assert_eq!(read(&*world.hot, feed, 3).await, [5].map(entry));
}

pub(super) async fn an_entry_that_is_not_newer_is_left_out(world: &World) {
    let feed = fresh_id();
    push(&*world.hot, feed, [5]).await;
    let other = StreamEntry { number: 5, value: b"other".into() };
    world.another().await.push(feed, other).await.unwrap();
    push(&*world.hot, feed, [4, 0, -1, i64::MIN, 6]).await;
    assert_eq!(read(&*world.hot, feed, 0).await, [5, 6].map(entry));
    assert!(world.hot.is_up());
}

pub(super) async fn following_waits_and_wakes(world: &World) {
    let (feed, other) = (fresh_id(), world.another().await);
    push(&*other, feed, [1]).await;
    // That one call may wait in vain is its contract; that it never wakes is what fails.
    let following = async {
        loop {
            let entries = read(&*world.hot, feed, 1).await;
            if !entries.is_empty() {
                return entries;
            }
        }
    };
    let (entries, ()) = tokio::join!(following, async {
        // Pushed only after one call has waited its time, so that the next is the one that waits.
        assert_eq!(read(&*other, feed, 1).await, []);
        push(&*other, feed, [2]).await;
    });
    assert_eq!(entries, [entry(2)]);
}

pub(super) async fn following_an_empty_feed_ends(world: &World) {
    let following = timeout(Duration::from_mins(1), world.hot.follow(fresh_id(), 7));
    assert_eq!(following.await.expect("it waits for ever").unwrap(), []);
}

pub(super) async fn a_follower_that_is_dropped_disturbs_nobody(world: &World) {
    let feed = fresh_id();
    for number in 1..=20 {
        // Dropped at another point each time: while connecting, asking, or waiting.
        let limit = Duration::from_millis(u64::try_from(number).unwrap());
        assert!(timeout(limit, world.hot.follow(feed, number)).await.is_err());
        push(&*world.hot, feed, [number]).await;
        assert_eq!(world.hot.get(fresh_key()).await.unwrap(), None);
    }
    assert_eq!(read(&*world.hot, feed, 0).await, (1..=20).map(entry).collect::<Vec<_>>());
    assert!(world.hot.is_up());
}

pub(super) async fn two_incarnations_are_apart(world: &World) {
    let (one, other) = (fresh_id(), fresh_id());
    push(&*world.hot, one, [7]).await;
    push(&*world.hot, other, [3]).await;
    assert_eq!(read(&*world.hot, one, 0).await, [entry(7)]);
    assert_eq!(read(&*world.hot, other, 0).await, [entry(3)]);
}

pub(super) async fn a_thousand_entries_at_a_time(world: &World) {
    let feed = fresh_id();
    push(&*world.hot, feed, 1..=1_100).await;
    let first = read(&*world.hot, feed, 0).await;
    assert_eq!(first, (1..=1_000).map(entry).collect::<Vec<_>>());
    assert_eq!(read(&*world.hot, feed, 1_000).await.len(), 100);
}
