//! Many sessions at once: the shared reading and the batched write behind the refreshes.

use std::{sync::Arc, time::Duration};

use vouchsafe::{
    domain::{
        hot::FeedPosition,
        id::SessionId,
        refresh::Family,
        time::{Clock as _, Timestamp},
    },
    store::{StoreError, port::SessionState},
};

use super::world::{World, at_once};

const fn family(generation: i64, made_at: Timestamp) -> Family {
    Family { generation, made_at, key_id: 5, late_streak: 1, late_now: true }
}

/// What the row says of one session.
async fn row(w: &World, session: SessionId) -> Option<SessionState> {
    let mut rows = w.store.read_sessions(vec![session]).await.unwrap();
    rows.sessions.remove(&session).map(|state| state.unwrap())
}

/// The counter in the row.
async fn stored(w: &World, session: SessionId) -> (Family, Timestamp) {
    match row(w, session).await {
        Some(SessionState::Live(live)) => (live.session.family, live.session.last_used_time),
        other => panic!("not alive: {other:?}"),
    }
}

pub(super) async fn rows_are_read_as_a_refresh_would_find_them(w: Arc<World>) {
    let (ada, bob) = (w.user("ada").await, w.user("bob").await);
    let (one, two, ended) = (w.sign_in(ada).await, w.sign_in(bob).await, w.sign_in(ada).await);
    let id = w.database.id(ada.as_uuid());
    w.database.execute(&format!("INSERT INTO user_roles (user_id, role, assign_time) VALUES ({id}, 'admin', 0)")).await;
    assert!(w.end(ended, None).await);
    let nobody = SessionId::new(w.clock.now(), &[9; 10]);

    let mut rows = w.store.read_sessions(vec![one, two, ended, nobody]).await.unwrap();
    let page = w.store.read_feed(0, 10).await.unwrap();
    assert_eq!(rows.seen, FeedPosition { incarnation: page.incarnation, number: 1 });
    assert_eq!(rows.sessions.len(), 3);
    assert_eq!(rows.sessions.remove(&ended).unwrap().unwrap(), SessionState::Ended);
    for (session, roles) in [(one, &["admin"][..]), (two, &[])] {
        let SessionState::Live(live) = rows.sessions.remove(&session).unwrap().unwrap() else { panic!("ended") };
        assert_eq!(live.held.names, roles);
        assert_eq!(*live, w.granted_again(session).await, "what the locked row says");
    }
    w.suspend(bob).await;
    assert_eq!(row(&w, two).await, Some(SessionState::Ended));
    assert!(w.store.read_sessions(Vec::new()).await.unwrap().sessions.is_empty());
}

/// The rows of refreshes are read over connections that are held, and nobody asks beforehand whether those are still good.
pub(super) async fn a_connection_that_was_held_and_has_ended_costs_no_reading(w: Arc<World>) {
    let ada = w.user("ada").await;
    let session = w.sign_in(ada).await;
    for _ in 0..3 {
        let (one, other) = tokio::join!(row(&w, session), row(&w, session));
        assert!(matches!((one, other), (Some(SessionState::Live(_)), Some(SessionState::Live(_)))));
        if let Some(pool) = w.database.postgres_pool() {
            let end = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity \
                       WHERE datname = current_database() AND application_name = 'vouchsafe'";
            let ended: Vec<(bool,)> = sqlx::query_as(end).fetch_all(pool).await.unwrap();
            assert!(!ended.is_empty() && ended.iter().all(|(ended,)| *ended));
        }
    }
    w.store.close().await;
    let closed = w.store.read_sessions(vec![session]).await;
    assert!(matches!(closed, Err(StoreError::Unavailable(_))), "{closed:?}");
}

pub(super) async fn a_user_s_new_epoch_ends_every_session_but_the_spared_one(w: Arc<World>) {
    let ada = w.user("ada").await;
    let (spared, other) = (w.sign_in(ada).await, w.sign_in(ada).await);
    w.end_others(ada, spared).await;
    assert!(matches!(row(&w, spared).await, Some(SessionState::Live(_))));
    assert_eq!(row(&w, other).await, Some(SessionState::Ended));
}

pub(super) async fn a_damaged_row_harms_no_other(w: Arc<World>) {
    let ada = w.user("ada").await;
    let (damaged, sound) = (w.sign_in(ada).await, w.sign_in(ada).await);
    let id = w.database.id(damaged.as_uuid());
    w.database.execute(&format!("UPDATE sessions SET late_streak = 1000 WHERE id = {id}")).await;
    let rows = w.store.read_sessions(vec![damaged, sound]).await.unwrap();
    assert!(rows.sessions[&damaged].is_err());
    assert!(matches!(rows.sessions[&sound], Ok(SessionState::Live(_))));
}

pub(super) async fn rows_go_forward_only(w: Arc<World>) {
    let ada = w.user("ada").await;
    let (one, two, ahead) = (w.sign_in(ada).await, w.sign_in(ada).await, w.sign_in(ada).await);
    w.granted(ahead, 0).await;
    w.granted(ahead, 1).await;
    let kept = stored(&w, ahead).await;
    w.wait(Duration::from_secs(1));
    let now = w.clock.now();
    let nobody = SessionId::new(now, &[9; 10]);
    let batch = vec![(two, family(7, now)), (one, family(1, now)), (ahead, family(2, now)), (nobody, family(3, now))];
    w.store.advance_families(batch).await.unwrap();
    assert_eq!(stored(&w, one).await, (family(1, now), now));
    assert_eq!(stored(&w, two).await, (family(7, now), now));
    assert_eq!(stored(&w, ahead).await, kept, "an equal generation knows nothing new");
    w.store.advance_families(vec![(two, family(6, now.plus(Duration::from_secs(9))))]).await.unwrap();
    assert_eq!(stored(&w, two).await, (family(7, now), now));
    w.store.advance_families(Vec::new()).await.unwrap();
    assert_eq!(w.observer.entries(), [], "nothing is revoked");
}

pub(super) async fn of_writers_at_once_the_furthest_remains(w: Arc<World>) {
    let ada = w.user("ada").await;
    let mut sessions = Vec::new();
    for _ in 0..20 {
        sessions.push(w.sign_in(ada).await);
    }
    let now = w.clock.now();
    let written = at_once(16, |i| {
        let (w, mut sessions) = (Arc::clone(&w), sessions.clone());
        // Every writer in another order.
        sessions.rotate_left(i);
        if i % 2 == 0 {
            sessions.reverse();
        }
        let generation = i64::try_from(i).unwrap() + 1;
        async move {
            let batch = sessions.into_iter().map(|session| (session, family(generation, now))).collect();
            w.store.advance_families(batch).await
        }
    })
    .await;
    assert!(written.iter().all(Result::is_ok), "{written:?}");
    for session in sessions {
        assert_eq!(stored(&w, session).await.0.generation, 16);
    }
}
