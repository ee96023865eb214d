//! Going on by a cursor, at the same node or another: what was missed, all of it, and nothing else where that can be.

use std::sync::Arc;

use super::{Watcher, revoke_many};
use crate::{
    rpc::{on_both_databases, on_shared_forms},
    support::{Backend, TestDatabase, TestNode},
};

on_both_databases!(
    whoever_comes_back_hears_what_was_missed_and_nothing_else,
    a_cursor_that_means_nothing_here_is_no_error_and_everything_is_told,
    ten_thousand_that_were_missed_are_all_told,
    another_history_of_the_feed_loses_nothing,
    a_feed_that_went_back_and_on_again_is_told_as_a_whole,
);

mod nodes {
    use super::{a_cursor_of_one_node_is_good_at_the_other, on_shared_forms};
    on_shared_forms!(a_cursor_of_one_node_is_good_at_the_other);
}

/// Signs in and out so often. The sessions.
async fn logouts(node: &TestNode, count: usize) -> Vec<String> {
    let mut sessions = Vec::new();
    for _ in 0..count {
        let tokens = node.login("ada@example.com").await;
        node.logout(&tokens.refresh_token).await.unwrap();
        sessions.push(tokens.session_id);
    }
    sessions
}

async fn whoever_comes_back_hears_what_was_missed_and_nothing_else(backend: Backend) {
    let node = TestNode::start(backend).await;
    node.register("ada@example.com").await;
    let first = logouts(&node, 3).await;
    let mut watcher = Watcher::at(&node, "").await;
    watcher.catch_up().await;
    assert!(first.iter().all(|session| watcher.known.sessions.contains(session)));
    let cursor = watcher.known.cursor.clone();
    drop(watcher);

    let missed = logouts(&node, 4).await;
    let mut again = Watcher::at(&node, &cursor).await;
    again.catch_up().await;
    assert_eq!((again.known.told, again.known.key_set_changes), (4, 0));
    assert!(missed.iter().all(|session| again.known.sessions.contains(session)));
    // And from there, only what comes.
    let mut still = Watcher::at(&node, &again.known.cursor).await;
    still.catch_up().await;
    assert_eq!((still.known.told, still.known.key_set_changes), (0, 0));
    let next = logouts(&node, 1).await;
    still.until("the next", |known| known.sessions.contains(&next[0])).await;
    still.catch_up().await;
    assert_eq!(still.known.told, 1);
    let mut last = Watcher::at(&node, &still.known.cursor).await;
    last.catch_up().await;
    assert_eq!(last.known.told, 0);
    drop((again, still, last));
    node.remove().await;
}

async fn a_cursor_that_means_nothing_here_is_no_error_and_everything_is_told(backend: Backend) {
    let node = TestNode::start(backend).await;
    node.register("ada@example.com").await;
    logouts(&node, 3).await;
    let mut watcher = Watcher::at(&node, "").await;
    watcher.catch_up().await;
    let cursor = watcher.known.cursor.clone();
    let (history, number) = cursor.split_once('.').unwrap();
    let too_new = format!("{history}.{}", number.parse::<i64>().unwrap() + 1);
    let foreign = format!("{}.{number}", uuid::Uuid::from_u128(7).simple());
    let long = "x".repeat(60_000);
    for nonsense in ["x", " ", "1.2.3", &format!("{history}.-1"), &too_new, &foreign, &cursor[1..], &long] {
        let mut watcher = Watcher::at(&node, nonsense).await;
        watcher.catch_up().await;
        assert_eq!((watcher.known.told, watcher.known.key_set_changes), (3, 1), "{nonsense:.50}");
    }
    drop(watcher);
    node.remove().await;
}

async fn ten_thousand_that_were_missed_are_all_told(backend: Backend) {
    let node = TestNode::start(backend).await;
    let mut watcher = Watcher::at(&node, "").await;
    watcher.catch_up().await;
    let cursor = watcher.known.cursor.clone();
    drop(watcher);
    revoke_many(&node.database, 10_000).await;
    node.catch_up().await;
    let mut watcher = Watcher::at(&node, &cursor).await;
    watcher.catch_up().await;
    let known = &watcher.known;
    assert_eq!((known.sessions.len(), known.told, known.key_set_changes), (10_000, 10_000, 0));
    // More than is kept of what came: everything, once, for whoever was away.
    revoke_many(&node.database, 10_000).await;
    node.catch_up().await;
    let mut again = Watcher::at(&node, &cursor).await;
    again.catch_up().await;
    let known = &again.known;
    assert_eq!((known.sessions.len(), known.told, known.key_set_changes), (20_000, 20_000, 1));
    watcher.until("the other half, for whoever stayed", |known| known.sessions.len() == 20_000).await;
    drop((watcher, again));
    node.remove().await;
}

/// A database put back to what it was: its feed has another name, and may have forgotten what this node remembers.
async fn another_history_of_the_feed_loses_nothing(backend: Backend) {
    let node = TestNode::start(backend).await;
    node.register("ada@example.com").await;
    let old = logouts(&node, 3).await;
    let mut watcher = Watcher::at(&node, "").await;
    watcher.catch_up().await;
    let cursor = watcher.known.cursor.clone();
    let (history, _) = cursor.split_once('.').unwrap();
    let another = node.database.id(&uuid::Uuid::from_u128(7));
    assert!(node.database.execute("DELETE FROM feed").await >= 3);
    node.database.execute(&format!("UPDATE feed_head SET incarnation = {another}, number = 0")).await;
    watcher.until("a cursor of the other history", |known| !known.cursor.starts_with(history)).await;
    let new = logouts(&node, 2).await;
    watcher.until("what is new", |known| new.iter().all(|session| known.sessions.contains(session))).await;
    for cursor in ["", &cursor] {
        let mut newcomer = Watcher::at(&node, cursor).await;
        newcomer.catch_up().await;
        assert!(old.iter().chain(&new).all(|session| newcomer.known.sessions.contains(session)), "{cursor}");
    }
    drop(watcher);
    node.remove().await;
}

/// The same, but for the name: a cursor of before means something else now.
async fn a_feed_that_went_back_and_on_again_is_told_as_a_whole(backend: Backend) {
    let node = TestNode::start(backend).await;
    node.register("ada@example.com").await;
    logouts(&node, 3).await;
    let mut watcher = Watcher::at(&node, "").await;
    watcher.catch_up().await;
    let cursor = watcher.known.cursor.clone();
    assert!(node.database.execute("DELETE FROM feed").await >= 3);
    node.database.execute("UPDATE feed_head SET number = 0").await;
    node.catch_up().await;
    let new = logouts(&node, 2).await;
    revoke_many(&node.database, 10).await;
    node.catch_up().await;
    let mut newcomer = Watcher::at(&node, &cursor).await;
    newcomer.catch_up().await;
    assert!(new.iter().all(|session| newcomer.known.sessions.contains(session)));
    assert_eq!(newcomer.known.sessions.len(), 15);
    watcher.until("the same", |known| known.sessions.len() == 15).await;
    drop((watcher, newcomer));
    node.remove().await;
}

async fn a_cursor_of_one_node_is_good_at_the_other(backend: Backend) {
    let database = Arc::new(TestDatabase::migrated(backend).await);
    let [a, b] = [TestNode::on(database.clone()).start().await, TestNode::on(database).start().await];
    a.register("ada@example.com").await;
    let old = logouts(&a, 3).await;
    b.catch_up().await;
    let mut at_b = Watcher::at(&b, "").await;
    at_b.catch_up().await;
    let mut at_a = Watcher::at(&a, "").await;
    at_a.catch_up().await;
    let cursor = at_a.known.cursor.clone();
    drop(at_a);
    let missed = logouts(&a, 2).await;
    b.catch_up().await;
    let mut moved = Watcher::at(&b, &cursor).await;
    moved.catch_up().await;
    assert_eq!((moved.known.told, moved.known.key_set_changes), (2, 0));
    // What one node revokes, watchers of the other hear.
    let live = logouts(&a, 1).await;
    for watcher in [&mut moved, &mut at_b] {
        watcher.until("the other node's", |known| known.sessions.contains(&live[0])).await;
        assert!(missed.iter().all(|session| watcher.known.sessions.contains(session)));
    }
    assert!(old.iter().all(|session| at_b.known.sessions.contains(session)));
    drop((moved, at_b));
    a.stop().await;
    b.remove().await;
}
