//! The feed: numbers follow commits without gaps.

use std::{sync::Arc, time::Duration};

use vouchsafe::{
    domain::{
        id::{SessionId, TokenId},
        revocation::Revocation,
        session::EndReason,
        time::Clock as _,
        warrant::Authority,
    },
    store::port::{NewSigningKey, Rotate, TokenRevocation},
};

use super::{
    keys::{POLICY as ROTATION, key},
    world::{World, at_once, origin},
};

/// How long an entry lives beyond the longest access token.
const MARGIN: Duration = Duration::from_mins(2);
const MINUTE: Duration = Duration::from_mins(1);

/// Ends that many sessions, one after the other.
async fn revoke(w: &World, count: usize) {
    let user = w.user(&format!("u{count}")).await;
    for _ in 0..count {
        let session = w.sign_in(user).await;
        assert!(w.end(session, None).await);
    }
}

pub(super) async fn a_new_feed_is_empty(w: Arc<World>) {
    let page = w.store.read_feed(0, 10).await.unwrap();
    assert_eq!((page.head, page.entries), (0, vec![]));
    assert!(page.database_time.as_seconds() > 1_577_836_800, "the database's own clock, after 2020");
    let again = w.another_node().await;
    assert_eq!(again.read_feed(0, 10).await.unwrap().incarnation, page.incarnation);
    again.close().await;
}

pub(super) async fn fifty_revocations_at_once_get_the_numbers_1_to_50(w: Arc<World>) {
    let ada = w.user("ada").await;
    let mut sessions = Vec::new();
    for _ in 0..50 {
        sessions.push(w.sign_in(ada).await);
    }
    let nodes = [Arc::clone(&w.store), w.another_node().await];
    at_once(50, |i| {
        let (w, node, session) = (Arc::clone(&w), Arc::clone(&nodes[i % 2]), sessions[i]);
        async move {
            let reason = EndReason::Logout;
            assert!(node.end_session(session, None, reason, origin()).await.unwrap());
            let heard = w.observer.entries().iter().any(|e| e.revocation == Revocation::Session { session });
            assert!(heard, "the observer hears of it before the verb returns");
        }
    })
    .await;
    nodes[1].close().await;
    let page = w.store.read_feed(0, 100).await.unwrap();
    assert_eq!(page.head, 50);
    assert_eq!(page.entries.iter().map(|e| e.number).collect::<Vec<_>>(), (1..=50).collect::<Vec<_>>());
    assert_eq!(page.entries, w.observer.entries());
}

/// Whoever reads up to the head has everything up to it, at any moment.
pub(super) async fn a_reader_never_sees_a_gap_below_the_head(w: Arc<World>) {
    let ada = w.user("ada").await;
    let mut sessions = Vec::new();
    for _ in 0..40 {
        sessions.push(w.sign_in(ada).await);
    }
    at_once(44, |i| {
        let (w, session) = (Arc::clone(&w), sessions.get(i).copied());
        async move {
            if let Some(session) = session {
                assert!(w.end(session, None).await);
                return;
            }
            let mut seen = 0;
            while seen < 40 {
                let page = w.store.read_feed(seen, 100).await.unwrap();
                let numbers: Vec<_> = page.entries.iter().map(|e| e.number).collect();
                assert_eq!(numbers, (seen + 1..=page.head).collect::<Vec<_>>());
                seen = page.head;
            }
        }
    })
    .await;
}

pub(super) async fn the_feed_is_read_page_by_page(w: Arc<World>) {
    revoke(&w, 7).await;
    for (after, limit, expected) in
        [(0, 3, 1..=3), (3, 3, 4..=6), (6, 3, 7..=7), (2, 1, 3..=3), (-5, 2, 1..=2), (0, 100, 1..=7)]
    {
        let page = w.store.read_feed(after, limit).await.unwrap();
        assert_eq!(page.entries.iter().map(|e| e.number).collect::<Vec<_>>(), expected.collect::<Vec<_>>());
        assert_eq!(page.head, 7, "the head is known on every page");
    }
    for after in [7, 8, 1_000] {
        let page = w.store.read_feed(after, 3).await.unwrap();
        assert_eq!((page.head, page.entries), (7, vec![]), "after {after}");
    }
}

pub(super) async fn a_revocation_that_failed_leaves_no_number(w: Arc<World>) {
    let ada = w.user("ada").await;
    let (first, second) = (w.sign_in(ada).await, w.sign_in(ada).await);
    // In the way of the first entry: the transaction fails at its very end, after the head was raised.
    let values = "VALUES (1, '{\"kind\":\"key_set_changed\"}', 0, 0)";
    w.database.execute(&format!("INSERT INTO feed (number, revocation, time, expire_time) {values}")).await;
    let before = w.everything().await;
    let reason = EndReason::Logout;
    assert!(w.store.end_session(first, None, reason, origin()).await.is_err());
    assert_eq!(w.everything().await, before);
    assert_eq!(w.observer.entries(), []);
    assert_eq!(w.live(ada).await, [second, first], "the session has not ended either");

    w.database.execute("DELETE FROM feed").await;
    assert!(w.end(second, None).await);
    let page = w.store.read_feed(0, 10).await.unwrap();
    assert_eq!((page.head, page.entries[0].number), (1, 1));
    w.granted(first, 0).await;
}

pub(super) async fn an_entry_lives_as_long_as_the_longest_access_token_and_a_margin(w: Arc<World>) {
    revoke(&w, 1).await;
    w.store.announce_access_ttl(5 * MINUTE).await.unwrap();
    revoke(&w, 2).await;
    w.store.announce_access_ttl(MINUTE).await.unwrap();
    revoke(&w, 3).await;
    let entries = w.store.read_feed(0, 10).await.unwrap().entries;
    let lives: Vec<_> = entries.iter().map(|e| e.expire_time.since(e.time)).collect();
    let long = 5 * MINUTE + MARGIN;
    assert_eq!(lives, [MARGIN, long, long, long, long, long], "a shorter life announced later shortens nothing");
}

pub(super) async fn purging_keeps_the_head_and_the_numbers(w: Arc<World>) {
    w.store.announce_access_ttl(5 * MINUTE).await.unwrap();
    revoke(&w, 3).await;
    let last = w.store.read_feed(2, 1).await.unwrap().entries[0].expire_time;
    w.clock.set(last);
    assert_eq!(w.store.purge_feed().await.unwrap(), 2, "an entry stays as long as it could refuse a token");
    w.wait(Duration::from_micros(1));
    assert_eq!(w.store.purge_feed().await.unwrap(), 1);
    let page = w.store.read_feed(0, 10).await.unwrap();
    assert_eq!((page.head, page.entries), (3, vec![]));
    revoke(&w, 1).await;
    assert_eq!(w.store.read_feed(0, 10).await.unwrap().entries[0].number, 4);
}

pub(super) async fn a_longer_life_of_tokens_prolongs_the_life_of_retired_keys(w: Arc<World>) {
    w.store.announce_access_ttl(5 * MINUTE).await.unwrap();
    for kid in ["a", "b"] {
        let new: NewSigningKey = key(kid);
        assert!(w.store.rotate_signing_key(new, ROTATION, Rotate::Now, Authority::system()).await.unwrap());
    }
    let removal = async || {
        let retired = w.store.signing_keys().await.unwrap().into_iter().find(|k| k.kid == "a").unwrap().life;
        retired.remove_time.unwrap().since(retired.retire_time.unwrap())
    };
    assert_eq!(removal().await, 5 * MINUTE + MARGIN);
    w.store.announce_access_ttl(MINUTE).await.unwrap();
    assert_eq!(removal().await, 5 * MINUTE + MARGIN);
    w.store.announce_access_ttl(10 * MINUTE).await.unwrap();
    assert_eq!(removal().await, 10 * MINUTE + MARGIN);
    let successor = w.store.signing_keys().await.unwrap().into_iter().find(|k| k.kid == "b").unwrap().life;
    assert_eq!((successor.retire_time, successor.remove_time), (None, None));
    assert_eq!(w.clock.now(), successor.publish_time);
}

/// Twenty callers at two nodes, who hold the same token.
pub(super) async fn an_access_token_is_revoked_once_by_however_many(w: Arc<World>) {
    let ada = w.user("ada").await;
    let session = w.sign_in(ada).await;
    let nodes = [Arc::clone(&w.store), w.another_node().await];
    for round in 1..=3 {
        let token = TokenId::new(w.clock.now(), &[round; 10]);
        let revocation =
            TokenRevocation { token, session: Some(session), subject: ada.into(), issue_time: w.clock.now() };
        let done = at_once(20, |i| {
            let (w, node) = (Arc::clone(&w), Arc::clone(&nodes[i % 2]));
            async move {
                let done = node.revoke_token(revocation, origin()).await.unwrap();
                let heard = w.observer.entries().iter().any(|e| e.revocation == Revocation::Token { token });
                assert!(heard || !done, "the observer hears of it before the verb returns");
                done
            }
        })
        .await;
        assert_eq!(done.into_iter().filter(|done| *done).count(), 1);
        assert_eq!(w.observer.entries().len(), usize::from(round));
        // Nor when the entry has been forgotten.
        w.wait(MINUTE * 3);
        assert_eq!(w.store.purge_feed().await.unwrap(), 1);
        assert!(!w.store.revoke_token(revocation, origin()).await.unwrap());
    }
    nodes[1].close().await;
    assert_eq!(w.count("token.revoked").await, 3);
    let id = w.database.id(session.as_uuid());
    let about = format!("act = 'token.revoked' AND actor = 'user' AND session_id = {id}");
    assert_eq!(w.database.integer(&format!("SELECT COUNT(*) FROM audit_events WHERE {about}")).await, 3);
    w.granted(session, 0).await;
}

pub(super) async fn a_token_of_an_ended_session_is_revoked_already(w: Arc<World>) {
    let ada = w.user("ada").await;
    let session = w.sign_in(ada).await;
    w.end(session, None).await;
    let token = TokenId::new(w.clock.now(), &[1; 10]);
    let revocation = TokenRevocation { token, session: Some(session), subject: ada.into(), issue_time: w.clock.now() };
    let before = w.everything().await;
    assert!(!w.store.revoke_token(revocation, origin()).await.unwrap());
    assert_eq!(w.everything().await, before);
    // Of a session that is not on record nothing is known, so it is done.
    let unknown = SessionId::new(w.clock.now(), &[1; 10]);
    assert!(w.store.revoke_token(TokenRevocation { session: Some(unknown), ..revocation }, origin()).await.unwrap());
}
