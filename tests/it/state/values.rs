//! Values: got, and set by comparison.

use std::time::Duration;

use futures_util::future::join_all;
use vouchsafe::state::{HotKey, HotState, Swap};

use super::world::{World, fresh_id, fresh_key};
use crate::support::until;

const HOUR: Duration = Duration::from_hours(1);

async fn set(hot: &dyn HotState, key: HotKey, expected: Option<&[u8]>, new: &[u8]) -> Swap {
    hot.compare_and_set(key, expected.map(Into::into), new.into(), HOUR).await.unwrap()
}

fn lost(present: &[u8]) -> Swap {
    Swap::Lost(Some(present.into()))
}

pub(super) async fn nothing_is_there_at_first(world: &World) {
    assert_eq!(world.hot.get(fresh_key()).await.unwrap(), None);
    assert_eq!(world.hot.get(HotKey::FeedHead(fresh_id())).await.unwrap(), None);
}

pub(super) async fn a_value_is_set_only_where_the_expected_one_is(world: &World) {
    let (hot, key) = (&*world.hot, fresh_key());
    assert_eq!(set(hot, key, Some(b"a"), b"b").await, Swap::Lost(None));
    assert_eq!(hot.get(key).await.unwrap(), None);
    assert_eq!(set(hot, key, None, b"a").await, Swap::Done);
    assert_eq!(hot.get(key).await.unwrap().as_deref(), Some(b"a".as_slice()));
    assert_eq!(set(hot, key, None, b"b").await, lost(b"a"));
    assert_eq!(set(hot, key, Some(b"b"), b"c").await, lost(b"a"));
    assert_eq!(set(hot, key, Some(b"a"), b"b").await, Swap::Done);
    let other = world.another().await;
    assert_eq!(other.get(key).await.unwrap().as_deref(), Some(b"b".as_slice()));
    assert_eq!(set(&*other, key, Some(b"a"), b"c").await, lost(b"b"));
}

pub(super) async fn an_empty_value_is_not_an_absent_one(world: &World) {
    let (hot, key) = (&*world.hot, fresh_key());
    assert_eq!(set(hot, key, Some(b""), b"a").await, Swap::Lost(None));
    assert_eq!(set(hot, key, None, b"").await, Swap::Done);
    assert_eq!(hot.get(key).await.unwrap(), Some(Vec::new()));
    assert_eq!(set(hot, key, None, b"a").await, lost(b""));
    assert_eq!(set(hot, key, Some(b""), b"a").await, Swap::Done);
}

pub(super) async fn of_50_at_once_exactly_one_wins_each_round(world: &World) {
    let (nodes, key) = ([&*world.hot, &*world.another().await], fresh_key());
    let mut present: Option<Vec<u8>> = None;
    for round in 0..20_u8 {
        let swaps = join_all((0..50_u8).map(|who| {
            let new = vec![round, who];
            nodes[usize::from(who) % 2].compare_and_set(key, present.clone(), new, HOUR)
        }))
        .await;
        let swaps: Vec<_> = swaps.into_iter().map(Result::unwrap).collect();
        let winners: Vec<_> = (0..50_u8).filter(|who| swaps[usize::from(*who)] == Swap::Done).collect();
        assert_eq!(winners.len(), 1, "round {round}: {winners:?}");
        let won = vec![round, winners[0]];
        assert!(swaps.iter().all(|swap| *swap == Swap::Done || *swap == lost(&won)), "round {round}: {swaps:?}");
        present = Some(won);
    }
}

pub(super) async fn a_value_vanishes_after_its_time(world: &World) {
    let (hot, key, kept) = (&*world.hot, fresh_key(), fresh_key());
    let short = Duration::from_secs(3);
    assert_eq!(hot.compare_and_set(key, None, b"a".into(), short).await.unwrap(), Swap::Done);
    assert_eq!(hot.compare_and_set(kept, None, b"a".into(), short).await.unwrap(), Swap::Done);
    assert_eq!(set(hot, kept, Some(b"a"), b"b").await, Swap::Done);
    until("the value is gone", || async { hot.get(key).await.unwrap().is_none() }).await;
    assert_eq!(set(hot, key, None, b"b").await, Swap::Done);
    // It was made before the other one and would be gone too, had its time not been renewed.
    assert_eq!(hot.get(kept).await.unwrap().as_deref(), Some(b"b".as_slice()));
    for extreme in [Duration::ZERO, Duration::MAX] {
        assert_eq!(hot.compare_and_set(fresh_key(), None, b"a".into(), extreme).await.unwrap(), Swap::Done);
    }
}

pub(super) async fn values_are_any_bytes(world: &World) {
    let (hot, key) = (&*world.hot, fresh_key());
    let every: Vec<u8> = (0..=u8::MAX).chain(*b"\r\n$-1\r\n\0").collect();
    let long = every.repeat(1_000);
    assert_eq!(set(hot, key, None, &every).await, Swap::Done);
    assert_eq!(set(hot, key, Some(&every[..255]), b"a").await, lost(&every));
    assert_eq!(set(hot, key, Some(&every), &long).await, Swap::Done);
    assert_eq!(hot.get(key).await.unwrap(), Some(long));
}

pub(super) async fn sessions_and_heads_do_not_meet(world: &World) {
    let (hot, id) = (&*world.hot, fresh_id());
    let session = HotKey::Session(vouchsafe::domain::id::SessionId::from_uuid(id));
    assert_eq!(set(hot, session, None, b"a").await, Swap::Done);
    assert_eq!(set(hot, HotKey::FeedHead(id), None, b"b").await, Swap::Done);
    assert_eq!(set(hot, HotKey::Spent(id), None, b"c").await, Swap::Done);
    assert_eq!(hot.get(session).await.unwrap().as_deref(), Some(b"a".as_slice()));
}

pub(super) async fn the_same_outcome_twice_is_no_loss(world: &World) {
    let (hot, key) = (&*world.hot, fresh_key());
    assert_eq!(set(hot, key, None, b"a").await, Swap::Done);
    assert_eq!(set(hot, key, None, b"a").await, Swap::Done);
}
