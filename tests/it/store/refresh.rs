//! Refresh on the row: every row of the table has its effect, and no other.

use std::{sync::Arc, time::Duration};

use vouchsafe::{
    domain::{
        id::SessionId,
        refresh::{CLOCK_SKEW, Delivery, Family, Presented},
        revocation::Revocation,
        session::SessionPolicy,
        time::Clock as _,
    },
    store::port::{Caller, RefreshAttempt, RefreshOutcome},
};

use super::world::{POLICY, WINDOW, World, granted};

/// Later than the window of whatever was made just now.
const LATE: Duration = Duration::from_micros(10_000_001);

pub(super) async fn the_current_generation_rotates(w: Arc<World>) {
    let ada = w.user("ada").await;
    let session = w.sign_in(ada).await;
    for generation in 0..3 {
        w.wait(Duration::from_mins(5));
        let attempt = RefreshAttempt { key_id: 7 + generation, ..w.attempt(session, generation) };
        let live = granted(w.store.refresh(attempt).await.unwrap());
        let made_at = w.clock.now();
        let family =
            Family { generation: generation + 1, made_at, key_id: 7 + generation, late_streak: 0, late_now: false };
        assert_eq!((live.session.family, live.session.last_used_time), (family, made_at));
    }
    assert_eq!(w.observer.entries(), [], "an ordinary refresh revokes nothing");
    assert_eq!(w.database.integer("SELECT COUNT(*) FROM audit_events").await, 2, "and is no event");
}

pub(super) async fn a_lost_answer_is_given_again_bit_for_bit(w: Arc<World>) {
    let ada = w.user("ada").await;
    let session = w.sign_in(ada).await;
    let first = w.granted(session, 0).await;
    let before = w.everything().await;
    for wait in [Duration::ZERO, Duration::from_secs(3), WINDOW.checked_sub(Duration::from_secs(3)).unwrap()] {
        w.wait(wait);
        // Another key signs meanwhile.
        let attempt = RefreshAttempt { key_id: 99, ..w.attempt(session, 0) };
        assert_eq!(granted(w.store.refresh(attempt).await.unwrap()), first);
    }
    assert_eq!(w.everything().await, before, "a redelivery writes nothing");
}

pub(super) async fn a_late_redelivery_counts_and_is_audited_once_per_generation(w: Arc<World>) {
    let ada = w.user("ada").await;
    let session = w.sign_in(ada).await;
    let first = w.granted(session, 0).await.session.family;
    for _ in 0..3 {
        w.wait(LATE);
        let again = w.granted(session, 0).await.session.family;
        assert_eq!(again, Family { late_streak: 1, late_now: true, ..first });
    }
    assert_eq!(w.count("refresh.late_redelivery").await, 1);
    assert_eq!(w.granted(session, 1).await.session.family.late_streak, 1, "the streak goes on");
    assert_eq!(w.granted(session, 2).await.session.family.late_streak, 0, "and ends with a generation in time");
    assert_eq!(w.details("refresh.late_redelivery").await, [serde_json::json!({ "generation": 1 })]);
}

pub(super) async fn late_at_three_generations_in_a_row_is_a_replay(w: Arc<World>) {
    let ada = w.user("ada").await;
    let session = w.sign_in(ada).await;
    for generation in 0..2 {
        w.granted(session, generation).await;
        w.wait(LATE);
        w.granted(session, generation).await;
    }
    w.granted(session, 2).await;
    w.wait(LATE);
    assert_eq!(w.refresh(session, 2).await, RefreshOutcome::Replayed);
    assert_eq!((w.count("refresh.late_redelivery").await, w.count("session.ended").await), (2, 1));
}

pub(super) async fn a_replay_ends_that_session_only(w: Arc<World>) {
    let ada = w.user("ada").await;
    let (session, other) = (w.sign_in(ada).await, w.sign_in(ada).await);
    w.granted(session, 0).await;
    w.granted(session, 1).await;
    w.wait(CLOCK_SKEW);
    assert_eq!(w.refresh(session, 0).await, RefreshOutcome::Replayed);

    for generation in 0..4 {
        assert_eq!(w.refresh(session, generation).await, RefreshOutcome::Ended, "generation {generation}");
    }
    w.granted(other, 0).await;
    assert_eq!(w.live(ada).await, [other]);
    let feed = w.store.read_feed(0, 10).await.unwrap().entries;
    assert_eq!(feed.iter().map(|e| &e.revocation).collect::<Vec<_>>(), [&Revocation::Session { session }]);
    assert_eq!(w.observer.entries(), feed);
    assert_eq!(w.count("session.ended").await, 1, "the replay is an event, later tries are none");
    let id = w.database.id(session.as_uuid());
    assert_eq!(w.database.texts(&format!("SELECT end_reason FROM sessions WHERE id = {id}")).await, ["replay"]);
    assert_eq!(w.details("session.ended").await, [serde_json::json!({ "reason": "replay" })]);
}

pub(super) async fn an_overtaken_refresh_does_nothing(w: Arc<World>) {
    let ada = w.user("ada").await;
    let session = w.sign_in(ada).await;
    let arrived = w.clock.now();
    w.wait(Duration::from_secs(1));
    for generation in 0..3 {
        w.granted(session, generation).await;
    }
    let before = w.everything().await;
    let present = async |generation| {
        let attempt = RefreshAttempt { presented: Presented { generation, arrived }, ..w.attempt(session, 0) };
        w.store.refresh(attempt).await.unwrap()
    };
    assert_eq!(present(0).await, RefreshOutcome::Overtaken);
    assert_eq!(granted(present(1).await).session.family.generation, 3, "two behind: the current one again");
    assert_eq!(w.everything().await, before);
}

pub(super) async fn a_newer_generation_than_the_row_knows_goes_on_and_is_audited(w: Arc<World>) {
    let ada = w.user("ada").await;
    let session = w.sign_in(ada).await;
    assert_eq!(w.granted(session, 5).await.session.family.generation, 6);
    assert_eq!(w.count("refresh.state_lost").await, 1);
    assert_eq!(w.granted(session, 6).await.session.family.generation, 7);
    assert_eq!(w.count("refresh.state_lost").await, 1);
    w.wait(CLOCK_SKEW);
    assert_eq!(w.refresh(session, 5).await, RefreshOutcome::Replayed, "the counter has caught up");
}

pub(super) async fn a_session_that_never_was_is_unknown(w: Arc<World>) {
    let session = SessionId::new(w.clock.now(), &[9; 10]);
    assert_eq!(w.refresh(session, 0).await, RefreshOutcome::Unknown);
}

pub(super) async fn an_idle_session_expires_at_the_moment_the_policy_says(w: Arc<World>) {
    let ada = w.user("ada").await;
    let session = w.sign_in(ada).await;
    w.wait(POLICY.idle.checked_sub(Duration::from_micros(1)).unwrap());
    w.granted(session, 0).await;
    w.wait(POLICY.idle.checked_sub(Duration::from_micros(1)).unwrap());
    w.granted(session, 1).await;
    let shorter = SessionPolicy { idle: Duration::ZERO, ..POLICY };
    let attempt = RefreshAttempt { policy: shorter, ..w.attempt(session, 2) };
    assert_eq!(w.store.refresh(attempt).await.unwrap(), RefreshOutcome::Expired, "today's policy, not yesterday's");
    w.wait(POLICY.idle);
    let before = w.everything().await;
    assert_eq!(w.refresh(session, 2).await, RefreshOutcome::Expired);
    assert_eq!(w.everything().await, before);
}

pub(super) async fn a_busy_session_expires_in_the_end(w: Arc<World>) {
    let ada = w.user("ada").await;
    let session = w.sign_in(ada).await;
    let end = w.clock.now().plus(POLICY.absolute);
    for generation in 0..3 {
        w.wait(POLICY.idle.checked_sub(Duration::from_secs(1)).unwrap());
        w.granted(session, generation).await;
    }
    w.clock.set(end.minus(Duration::from_micros(1)));
    w.granted(session, 3).await;
    w.clock.set(end);
    assert_eq!(w.refresh(session, 4).await, RefreshOutcome::Expired);
    assert_eq!(w.refresh(session, 0).await, RefreshOutcome::Expired, "whatever is presented: it is nobody's any more");
}

pub(super) async fn a_suspended_user_refreshes_nothing(w: Arc<World>) {
    let ada = w.user("ada").await;
    let session = w.sign_in(ada).await;
    w.suspend(ada).await;
    let before = w.everything().await;
    assert_eq!(w.refresh(session, 0).await, RefreshOutcome::Ended);
    assert_eq!(w.everything().await, before);
}

pub(super) async fn a_change_of_roles_is_in_the_next_refresh(w: Arc<World>) {
    let ada = w.user("ada").await;
    let session = w.sign_in(ada).await;
    let id = w.database.id(ada.as_uuid());
    w.database.execute(&format!("INSERT INTO user_roles (user_id, role, assign_time) VALUES ({id}, 'admin', 0)")).await;
    assert_eq!(w.granted(session, 0).await.held.names, ["admin"]);
    w.database.execute("DELETE FROM user_roles").await;
    assert_eq!(w.granted(session, 0).await.held.names, [""; 0], "also when the token is a redelivered one");
}

pub(super) async fn a_replay_that_nobody_waits_for_is_no_verdict(w: Arc<World>) {
    let ada = w.user("ada").await;
    let session = w.sign_in(ada).await;
    w.granted(session, 0).await;
    w.granted(session, 1).await;
    w.wait(CLOCK_SKEW);
    let before = w.everything().await;
    let (caller, waiting) = Caller::waiting();
    drop(waiting);
    let attempt = RefreshAttempt { caller, ..w.attempt(session, 0) };
    assert_eq!(w.store.refresh(attempt).await.unwrap(), RefreshOutcome::Overtaken);
    assert_eq!(w.everything().await, before);
    w.granted(session, 2).await;
}

pub(super) async fn the_hot_counter_counts_where_the_row_is_behind_it(w: Arc<World>) {
    let ada = w.user("ada").await;
    let session = w.sign_in(ada).await;
    let hot = Family { generation: 4, made_at: w.clock.now(), key_id: 3, late_streak: 2, late_now: true };
    w.wait(Duration::from_mins(1));
    let present = async |generation, hot| {
        let attempt = RefreshAttempt { hot: Some(hot), ..w.attempt(session, generation) };
        w.store.refresh(attempt).await.unwrap()
    };
    let RefreshOutcome::Granted(again, Delivery::Redelivered) = present(3, hot).await else {
        panic!("not redelivered")
    };
    assert_eq!((again.session.family, again.session.last_used_time), (hot, hot.made_at));
    let RefreshOutcome::Granted(next, Delivery::Rotated) = present(4, hot).await else { panic!("not rotated") };
    assert_eq!((next.session.family.generation, next.session.family.late_streak), (5, 2), "the streak goes on");
    w.wait(Duration::from_mins(1));
    assert_eq!(present(3, hot).await, RefreshOutcome::Replayed, "the row is ahead by now");
}
