//! Callers who go away. A verb either happens whole or not at all, and its connection comes back clean.

use std::{pin::pin, sync::Arc, task::Poll, time::Duration};

use vouchsafe::{
    domain::{
        audit::{Act, AuditEvent},
        session::EndReason,
        time::Clock as _,
        user::{Identifier, PhcString},
        warrant::Authority,
    },
    store::{
        StoreError,
        port::{NewUser, Rotate, SessionPage},
    },
};

use super::{
    keys::{self, key},
    world::{POLICY, World, at_once, origin},
};

/// Polls `future` up to `polls` times, then drops it.
async fn give_up<F: Future>(future: F, mut polls: u64) -> Option<F::Output> {
    let mut future = pin!(future);
    std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending if polls == 0 => Poll::Ready(None),
        Poll::Pending => {
            polls -= 1;
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await
}

fn new_user(w: &World, name: &str) -> (NewUser, Vec<AuditEvent>) {
    let new = w.new_user(name);
    let events = vec![w.event(Some(new.user.id), Act::Registered)];
    (new, events)
}

/// The `i`th of many calls, given up somewhere on its way.
async fn some_verb(w: Arc<World>, i: usize) {
    // As often after a few polls as after hundreds: a verb takes some microseconds or some milliseconds.
    let polls = w.entropy.below(1 << w.entropy.below(13));
    let credentials = w.store.find_credentials(Identifier::parse("ada").unwrap()).await.unwrap().unwrap();
    let (ada, epoch) = (credentials.user, credentials.epoch);
    let new = w.new_session(ada, credentials.password_hash.unwrap());
    match i % 9 {
        0 | 1 => {
            let event = w.event(Some(ada), Act::LoggedIn { session: new.id });
            give_up(w.store.create_session(new, POLICY, event), polls).await;
        }
        2 => {
            let (new, events) = new_user(&w, &format!("user{i}"));
            give_up(w.store.create_user(new, events), polls).await;
        }
        3 => {
            let live = w.live(ada).await;
            if let Some(&session) = live.get(i % live.len().max(1)) {
                let reason = EndReason::Logout;
                give_up(w.store.end_session(session, None, reason, origin()), polls).await;
            }
        }
        4 => {
            if let Some(&session) = w.live(ada).await.first() {
                give_up(w.store.refresh(w.attempt(session, 0)), polls).await;
            }
        }
        5 => {
            give_up(
                w.store.rotate_signing_key(key(&format!("k{i}")), keys::POLICY, Rotate::Now, Authority::system()),
                polls,
            )
            .await;
        }
        6 => {
            if let Some(&spared) = w.live(ada).await.first() {
                let event = w.event(Some(ada), Act::PasswordChanged);
                let change = super::passwords::to(ada, epoch, &format!("hash {i}"), spared, event);
                give_up(w.store.change_password(change), polls).await;
            }
        }
        7 => {
            let page = SessionPage { user: ada, before: None, limit: 50, policy: POLICY };
            give_up(w.store.list_sessions(page), polls).await;
            give_up(w.store.get_user(ada), polls).await;
            give_up(w.store.read_feed(0, 50), polls).await;
        }
        _ => {
            give_up(w.store.signing_keys(), polls).await;
            give_up(w.store.find_credentials(Identifier::parse("ada").unwrap()), polls).await;
        }
    }
}

/// Rows that have an effect without its event, or an event without its effect.
const HALVES: [&str; 9] = [
    "SELECT COUNT(*) FROM sessions s WHERE NOT EXISTS \
     (SELECT 1 FROM audit_events e WHERE e.session_id = s.id AND e.act = 'login.succeeded')",
    "SELECT COUNT(*) FROM audit_events e WHERE e.act = 'login.succeeded' AND NOT EXISTS \
     (SELECT 1 FROM sessions s WHERE s.id = e.session_id)",
    "SELECT COUNT(*) FROM sessions s WHERE s.end_time IS NOT NULL AND NOT EXISTS \
     (SELECT 1 FROM audit_events e WHERE e.session_id = s.id AND e.act = 'session.ended')",
    "SELECT COUNT(*) FROM audit_events e WHERE e.act = 'session.ended' AND NOT EXISTS \
     (SELECT 1 FROM sessions s WHERE s.id = e.session_id AND s.end_time IS NOT NULL)",
    "SELECT COUNT(*) FROM users u WHERE NOT EXISTS \
     (SELECT 1 FROM audit_events e WHERE e.subject_id = u.id AND e.act = 'user.registered')",
    "SELECT COUNT(*) FROM users u WHERE NOT EXISTS (SELECT 1 FROM data_keys k WHERE k.owner_id = u.id)",
    "SELECT (SELECT COUNT(*) FROM sessions WHERE end_time IS NOT NULL) + (SELECT COUNT(*) FROM signing_keys) \
     + (SELECT COUNT(*) FROM audit_events WHERE act = 'password.changed') - (SELECT number FROM feed_head)",
    "SELECT (SELECT CAST(SUM(epoch) AS BIGINT) FROM users) \
     - (SELECT COUNT(*) FROM audit_events WHERE act = 'password.changed')",
    "SELECT (SELECT COUNT(*) FROM feed) - (SELECT number FROM feed_head)",
];

pub(super) async fn a_caller_who_goes_away_leaves_no_half_effect(w: Arc<World>) {
    let ada = w.user("ada").await;
    for _ in 0..3 {
        w.sign_in(ada).await;
    }
    at_once(800, |i| some_verb(Arc::clone(&w), i)).await;

    // Before anything else is asked of the connections: the next transaction would cover up for one left open.
    let quiet = tokio::time::timeout(Duration::from_mins(1), wait_until_no_transaction_is_open(&w)).await;
    quiet.expect("a connection came back inside an open transaction");

    // Every connection is still good: all of them at once, and more calls than there are connections.
    at_once(40, |i| {
        let w = Arc::clone(&w);
        async move {
            let user = w.user(&format!("after{i}")).await;
            w.sign_in(user).await;
        }
    })
    .await;

    // What was given up goes on in its own task; closing waits for it.
    w.store.close().await;
    for halves in HALVES {
        assert_eq!(w.database.integer(halves).await, 0, "{halves}");
    }
}

/// On Postgres, a connection that came back to the pool inside a transaction would stay so until it is used again.
async fn wait_until_no_transaction_is_open(w: &World) {
    let Some(pool) = w.database.postgres_pool() else { return };
    let open = "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() \
                AND application_name = 'vouchsafe' AND state LIKE 'idle in transaction%'";
    loop {
        let (open,): (i64,) = sqlx::query_as(open).fetch_one(pool).await.unwrap();
        if open == 0 {
            return;
        }
        tokio::task::yield_now().await;
    }
}

pub(super) async fn a_task_that_is_aborted_does_not_take_its_transaction_along(w: Arc<World>) {
    let ada = w.user("ada").await;
    let mut sessions = Vec::new();
    for _ in 0..30 {
        let new = w.new_session(ada, w.hash_of(ada).await);
        sessions.push(new.id);
        let call = {
            let w = Arc::clone(&w);
            async move {
                let event = w.event(Some(ada), Act::LoggedIn { session: new.id });
                w.store.create_session(new, POLICY, event).await
            }
        };
        let task = tokio::spawn(call);
        tokio::task::yield_now().await;
        task.abort();
        task.await.ok();
    }
    w.store.close().await;
    let (rows, events) = (
        w.database.integer("SELECT COUNT(*) FROM sessions").await,
        w.database.integer("SELECT COUNT(*) FROM audit_events WHERE act = 'login.succeeded'").await,
    );
    assert_eq!(rows, events);
}

pub(super) async fn a_closed_store_is_unavailable_and_not_empty(w: Arc<World>) {
    let ada = w.user("ada").await;
    w.store.close().await;
    let unavailable = |error: StoreError| assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    unavailable(w.store.get_user(ada).await.unwrap_err());
    unavailable(w.store.find_credentials(Identifier::parse("ada").unwrap()).await.unwrap_err());
    unavailable(w.store.read_feed(0, 1).await.unwrap_err());
    let (new, events) = new_user(&w, "grace");
    unavailable(w.store.create_user(new, events).await.unwrap_err());
    let (old, new) = (PhcString::new("hash of ada".into()), PhcString::new("new".into()));
    let event = w.event(Some(ada), Act::PasswordRehashed);
    unavailable(w.store.rehash_password(ada, old, new, event).await.unwrap_err());
    w.store.close().await;
}

pub(super) async fn closing_waits_for_what_is_under_way(w: Arc<World>) {
    let ada = w.user("ada").await;
    let session = w.sign_in(ada).await;
    let reason = EndReason::Logout;
    // One poll starts the transaction; then its caller is gone.
    assert!(give_up(w.store.end_session(session, None, reason, origin()), 0).await.is_none());
    w.store.close().await;
    assert_eq!(w.observer.entries().len(), 1);
    assert_eq!(w.observer.entries()[0].time, w.clock.now());
    assert_eq!(w.count("session.ended").await, 1);
}
