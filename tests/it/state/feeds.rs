//! Streams: pushed to and followed.

use std::time::Duration;

use tokio::{task::JoinSet, time::timeout};
use uuid::Uuid;
use vouchsafe::state::{HotState, StreamEntry, StreamPlace};

use super::world::{World, fresh_id, fresh_key};

fn entry(number: i64) -> StreamEntry {
    StreamEntry { number, value: format!("entry\0{number}\r\n").into_bytes() }
}

async fn push(hot: &dyn HotState, feed: Uuid, numbers: impl IntoIterator<Item = i64>) {
    for number in numbers {
        hot.push(feed, entry(number)).await.unwrap();
    }
}

/// What comes after `after`, and the place after it; only asked where something is there.
async fn read(hot: &dyn HotState, feed: Uuid, after: &StreamPlace) -> (Vec<StreamEntry>, StreamPlace) {
    hot.follow(feed, after).await.unwrap()
}

async fn read_all(hot: &dyn HotState, feed: Uuid) -> Vec<StreamEntry> {
    read(hot, feed, &StreamPlace::beginning()).await.0
}

pub(super) async fn entries_are_followed_in_the_order_of_their_pushes(world: &World) {
    let feed = fresh_id();
    let numbers = [7, 3, i64::MAX, 10, 3, 1, i64::MIN, 0, -1, 2];
    push(&*world.hot, feed, numbers).await;
    assert_eq!(read_all(&*world.hot, feed).await, numbers.map(entry));
    assert_eq!(read_all(&*world.another().await, feed).await, numbers.map(entry));
    assert!(world.hot.is_up());
}

pub(super) async fn following_goes_on_where_it_was(world: &World) {
    let feed = fresh_id();
    push(&*world.hot, feed, [2, 5]).await;
    let (_, place) = read(&*world.hot, feed, &StreamPlace::beginning()).await;
    push(&*world.another().await, feed, [4, 5, 1]).await;
    let (entries, end) = read(&*world.hot, feed, &place).await;
    assert_eq!(entries, [4, 5, 1].map(entry));
    // Also over another connection.
    assert_eq!(read(&*world.another().await, feed, &place).await, (entries, end.clone()));
    assert_eq!(read(&*world.hot, feed, &end).await, (Vec::new(), end));
}

pub(super) async fn whatever_order_they_push_in_nothing_is_lost(world: &World) {
    let feed = fresh_id();
    let mut pushers = JoinSet::new();
    for first in 0..4 {
        let hot = world.another().await;
        // The largest first.
        pushers.spawn(async move { push(&*hot, feed, (0..50).rev().map(|i| i * 4 + first)).await });
    }
    let (mut place, mut numbers) = (StreamPlace::beginning(), Vec::new());
    let following = async {
        while numbers.len() < 200 {
            let (entries, next) = read(&*world.hot, feed, &place).await;
            place = next;
            numbers.extend(entries.into_iter().map(|entry| entry.number));
        }
    };
    timeout(Duration::from_mins(1), following).await.expect("some are lost");
    pushers.join_all().await;
    numbers.sort_unstable();
    assert_eq!(numbers, (0..200).collect::<Vec<_>>());
}

pub(super) async fn following_waits_and_wakes(world: &World) {
    let (feed, other) = (fresh_id(), world.another().await);
    push(&*other, feed, [1]).await;
    let (_, place) = read(&*other, feed, &StreamPlace::beginning()).await;
    // That one call may wait in vain is its contract; that it never wakes is what fails.
    let following = async {
        loop {
            let entries = read(&*world.hot, feed, &place).await.0;
            if !entries.is_empty() {
                return entries;
            }
        }
    };
    let (entries, ()) = tokio::join!(following, async {
        // Pushed only after one call has waited its time, so that the next is the one that waits.
        assert_eq!(read(&*other, feed, &place).await, (Vec::new(), place.clone()));
        push(&*other, feed, [2]).await;
    });
    assert_eq!(entries, [entry(2)]);
}

pub(super) async fn following_an_empty_feed_ends(world: &World) {
    let beginning = StreamPlace::beginning();
    let following = timeout(Duration::from_mins(1), world.hot.follow(fresh_id(), &beginning));
    assert_eq!(following.await.expect("it waits for ever").unwrap(), (Vec::new(), StreamPlace::beginning()));
}

pub(super) async fn a_follower_that_is_dropped_disturbs_nobody(world: &World) {
    let feed = fresh_id();
    // Nobody pushes to this one.
    let (silent, beginning) = (fresh_id(), StreamPlace::beginning());
    for number in 1..=20 {
        // Dropped at another point each time: while connecting, asking, or waiting.
        let limit = Duration::from_millis(u64::try_from(number).unwrap());
        assert!(timeout(limit, world.hot.follow(silent, &beginning)).await.is_err());
        push(&*world.hot, feed, [number]).await;
        assert_eq!(world.hot.get(fresh_key()).await.unwrap(), None);
    }
    assert_eq!(read_all(&*world.hot, feed).await, (1..=20).map(entry).collect::<Vec<_>>());
    assert!(world.hot.is_up());
}

pub(super) async fn two_incarnations_are_apart(world: &World) {
    let (one, other) = (fresh_id(), fresh_id());
    push(&*world.hot, one, [7]).await;
    push(&*world.hot, other, [3]).await;
    assert_eq!(read_all(&*world.hot, one).await, [entry(7)]);
    assert_eq!(read_all(&*world.hot, other).await, [entry(3)]);
}

pub(super) async fn a_thousand_entries_at_a_time(world: &World) {
    let feed = fresh_id();
    push(&*world.hot, feed, 1..=1_100).await;
    let (first, place) = read(&*world.hot, feed, &StreamPlace::beginning()).await;
    assert_eq!(first, (1..=1_000).map(entry).collect::<Vec<_>>());
    assert_eq!(read(&*world.hot, feed, &place).await.0.len(), 100);
}
