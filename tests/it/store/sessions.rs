//! Sessions: begin, list, end, forget.

use std::{sync::Arc, time::Duration};

use uuid::Uuid;
use vouchsafe::{
    domain::{
        audit::Act,
        id::{SessionId, UserId},
        refresh::Family,
        revocation::Revocation,
        session::EndReason,
        time::Clock as _,
    },
    store::port::{Change, RefreshOutcome, SessionPage},
};

use super::world::{POLICY, World, at_once, origin};

pub(super) async fn a_session_begins_as_sign_in_fixed_it(w: Arc<World>) {
    let mut user = w.new_user("ada");
    user.user.roles = vec!["admin".into()];
    let ada = user.user.id;
    w.store.create_user(user, Vec::new()).await.unwrap();
    let new = w.new_session(ada, w.hash_of(ada).await);
    let event = w.event(Some(ada), Act::LoggedIn { session: new.id });
    let live = w.store.create_session(new.clone(), POLICY, event).await.unwrap().expect("active").live;

    let now = w.clock.now();
    assert_eq!(live.held.names, ["admin"]);
    assert_eq!((live.session.id, &live.session.grant, &live.session.device), (new.id, &new.grant, &new.device));
    assert_eq!((live.session.create_time, live.session.last_used_time), (now, now));
    assert_eq!(live.session.absolute_expire_time, now.plus(POLICY.absolute));
    assert_eq!(live.session.family, Family::first(now, 1));

    let page = SessionPage { user: ada, before: None, limit: 10, policy: POLICY };
    assert_eq!(w.store.list_sessions(page).await.unwrap(), [live.session], "the row says the same");
    assert_eq!(w.count("login.succeeded").await, 1);
}

pub(super) async fn the_trail_tells_which_sessions_there_were(w: Arc<World>) {
    let (ada, grace) = (w.user("ada").await, w.user("grace").await);
    let mut newest_first = Vec::new();
    let mut times = Vec::new();
    for _ in 0..3 {
        w.sign_in(grace).await;
        times.insert(0, w.clock.now());
        newest_first.insert(0, w.sign_in(ada).await);
        w.clock.advance(Duration::from_secs(1));
    }
    let (oldest, middle) = (times[2], times[1]);
    w.database.execute("DELETE FROM sessions").await;
    assert_eq!(w.store.recorded_sessions(ada, oldest, 10).await.unwrap(), newest_first);
    assert_eq!(w.store.recorded_sessions(ada, middle, 10).await.unwrap(), newest_first[..2]);
    assert_eq!(w.store.recorded_sessions(ada, oldest, 1).await.unwrap(), newest_first[..1]);
}

pub(super) async fn no_session_begins_for_whom_it_must_not(w: Arc<World>) {
    let (ada, grace) = (w.user("ada").await, w.user("grace").await);
    w.suspend(grace).await;
    let nobody = UserId::new(w.clock.now(), &[9; 10]);
    let before = w.everything().await;
    for (user, hash, who) in [
        (ada, "hash of grace", "another password than the account's"),
        (grace, "hash of grace", "a suspended account"),
        (nobody, "hash of ada", "an unknown account"),
    ] {
        assert_eq!(w.sign_in_with(user, hash).await, None, "{who}");
    }
    assert_eq!(w.everything().await, before);
}

pub(super) async fn sessions_are_listed_newest_first_page_by_page(w: Arc<World>) {
    let (ada, grace) = (w.user("ada").await, w.user("grace").await);
    let mut newest_first = Vec::new();
    for _ in 0..25 {
        newest_first.insert(0, w.sign_in(ada).await);
        w.sign_in(grace).await;
    }
    let first = w.page(ada, None, 10).await;
    let second = w.page(ada, first.last().copied(), 10).await;
    let third = w.page(ada, second.last().copied(), 10).await;
    assert_eq!((first.len(), second.len(), third.len()), (10, 10, 5));
    assert_eq!([first, second, third.clone()].concat(), newest_first);
    assert_eq!(w.page(ada, third.last().copied(), 10).await, []);
}

pub(super) async fn only_live_sessions_are_listed(w: Arc<World>) {
    let ada = w.user("ada").await;
    let mut sessions = Vec::new();
    for _ in 0..5 {
        sessions.push(w.sign_in(ada).await);
    }
    assert!(w.end(sessions[0], None).await);
    assert!(w.end(sessions[3], Some(ada)).await);
    assert_eq!(w.live(ada).await, [sessions[4], sessions[2], sessions[1]]);

    // The epoch moves on from under all but one.
    w.store.end_other_sessions(ada, sessions[2], w.event(Some(ada), others_ended(sessions[2]))).await.unwrap();
    assert_eq!(w.live(ada).await, [sessions[2]]);
    w.suspend(ada).await;
    assert_eq!(w.live(ada).await, [], "a suspended user has none");
}

pub(super) async fn an_expired_session_is_not_listed(w: Arc<World>) {
    let ada = w.user("ada").await;
    let idle = w.sign_in(ada).await;
    let busy = w.sign_in(ada).await;
    let begin = w.clock.now();
    w.clock.set(begin.plus(POLICY.idle).minus(Duration::from_secs(1)));
    w.granted(busy, 0).await;
    assert_eq!(w.live(ada).await, [busy, idle]);
    w.clock.set(begin.plus(POLICY.idle));
    assert_eq!(w.live(ada).await, [busy], "idle for too long");
    for generation in 1..3 {
        w.wait(POLICY.idle.checked_sub(Duration::from_secs(2)).unwrap());
        w.granted(busy, generation).await;
    }
    w.clock.set(begin.plus(POLICY.absolute));
    assert_eq!(w.live(ada).await, [], "however busy it was");
}

pub(super) async fn ending_a_session_revokes_its_tokens_once(w: Arc<World>) {
    let ada = w.user("ada").await;
    let (session, other) = (w.sign_in(ada).await, w.sign_in(ada).await);
    assert!(w.end(session, None).await);
    let before = w.everything().await;
    assert!(!w.end(session, None).await, "it has ended before");
    assert!(!w.end(session, Some(ada)).await);
    assert_eq!(w.everything().await, before);

    assert_eq!(w.refresh(session, 0).await, RefreshOutcome::Ended);
    w.granted(other, 0).await;
    let entries = w.observer.entries();
    assert_eq!(entries.iter().map(|e| &e.revocation).collect::<Vec<_>>(), [&Revocation::Session { session }]);
    assert_eq!(w.count("session.ended").await, 1);
    let reasons = w.database.texts("SELECT end_reason FROM sessions ORDER BY id").await;
    assert_eq!(reasons, ["logout", ""]);
}

pub(super) async fn only_its_owner_ends_a_session_from_a_list(w: Arc<World>) {
    let (ada, grace) = (w.user("ada").await, w.user("grace").await);
    let session = w.sign_in(ada).await;
    let unknown = SessionId::new(w.clock.now(), &[9; 10]);
    let before = w.everything().await;
    assert!(!w.end(session, Some(grace)).await);
    assert!(!w.end(unknown, Some(ada)).await);
    assert!(!w.end(unknown, None).await);
    assert_eq!(w.everything().await, before);
    assert!(w.end(session, Some(ada)).await);
}

pub(super) async fn of_20_ends_of_one_session_exactly_one_is_the_end(w: Arc<World>) {
    let ada = w.user("ada").await;
    let session = w.sign_in(ada).await;
    let outcomes = at_once(20, |i| {
        let w = Arc::clone(&w);
        async move { w.end(session, (i % 2 == 0).then_some(ada)).await }
    })
    .await;
    assert_eq!(outcomes.iter().filter(|ended| **ended).count(), 1);
    assert_eq!(w.count("session.ended").await, 1);
}

const fn others_ended(spared: SessionId) -> Act {
    Act::OtherSessionsEnded { spared: Some(spared) }
}

pub(super) async fn ending_the_other_sessions_spares_one_and_the_password(w: Arc<World>) {
    let (ada, grace) = (w.user("ada").await, w.user("grace").await);
    let (other, spared, bystander) = (w.sign_in(ada).await, w.sign_in(ada).await, w.sign_in(grace).await);
    let done = w.store.end_other_sessions(ada, spared, w.event(Some(ada), others_ended(spared))).await.unwrap();
    assert_eq!(done, Change::Done);
    assert_eq!(w.refresh(other, 0).await, RefreshOutcome::Ended);
    w.granted(spared, 0).await;
    w.granted(bystander, 0).await;
    let credentials = w.store.get_credentials(ada).await.unwrap().unwrap();
    assert_eq!((credentials.epoch, credentials.password_hash.unwrap().expose()), (1, "hash of ada"));
    let expected = Revocation::User { user: ada, epoch: 1, spared: Some(spared) };
    assert_eq!(w.observer.entries().iter().map(|e| &e.revocation).collect::<Vec<_>>(), [&expected]);
    assert_eq!(w.count("session.others_ended").await, 1);
    let again = w.sign_in_with(ada, "hash of ada").await.expect("the password is the same");
    assert_eq!(again.session.grant.epoch, 1, "the user signs in again with the new epoch");
}

pub(super) async fn ending_the_other_sessions_from_one_that_is_not_alive_changes_nothing(w: Arc<World>) {
    let (ada, grace) = (w.user("ada").await, w.user("grace").await);
    let (alive, ended, foreign) = (w.sign_in(ada).await, w.sign_in(ada).await, w.sign_in(grace).await);
    assert!(w.end(ended, Some(ada)).await);
    let before = w.everything().await;
    for session in [ended, foreign, SessionId::new(w.clock.now(), &[9; 10])] {
        let event = w.event(Some(ada), others_ended(session));
        assert_eq!(w.store.end_other_sessions(ada, session, event).await.unwrap(), Change::Conflict);
        assert_eq!(w.everything().await, before);
    }
    let nobody = UserId::new(w.clock.now(), &[9; 10]);
    let event = w.event(None, others_ended(alive));
    assert_eq!(w.store.end_other_sessions(nobody, alive, event).await.unwrap(), Change::Conflict);
    assert_eq!(w.live(ada).await, [alive]);
}

pub(super) async fn a_session_is_forgotten_after_its_end(w: Arc<World>) {
    let ada = w.user("ada").await;
    let ended = w.sign_in(ada).await;
    assert!(w.end(ended, None).await);
    let end_time = w.clock.now();
    let alive = w.sign_in(ada).await;
    assert_eq!(w.store.purge_sessions(end_time).await.unwrap(), 0, "not before");
    assert_eq!(w.store.purge_sessions(w.clock.now()).await.unwrap(), 1);
    assert_eq!(w.refresh(ended, 0).await, RefreshOutcome::Unknown);
    w.granted(alive, 0).await;

    let absolute = w.clock.now().plus(POLICY.absolute);
    assert_eq!(w.store.purge_sessions(absolute).await.unwrap(), 0);
    assert_eq!(w.store.purge_sessions(absolute.plus(Duration::from_micros(1))).await.unwrap(), 1);
    assert_eq!(w.refresh(alive, 1).await, RefreshOutcome::Unknown);
    assert_eq!(w.count("session.ended").await, 1, "events outlive the session");
}

pub(super) async fn a_session_that_nobody_uses_is_forgotten_before_it_would_have_expired(w: Arc<World>) {
    let (ada, grace) = (w.user("ada").await, w.user("grace").await);
    let (idle, dead) = (w.sign_in(ada).await, w.sign_in(grace).await);
    w.wait(Duration::from_hours(1));
    let spared = w.sign_in(grace).await;
    w.end_others(grace, spared).await;
    let sweep = async |after: SessionId, unused_since, dead_since| {
        w.store.sweep_sessions(after, unused_since, dead_since).await.unwrap()
    };
    let (beginning, now) = (SessionId::from_uuid(Uuid::nil()), w.clock.now());
    let (long_ago, lately) = (now.minus(Duration::from_hours(2)), now.minus(Duration::from_mins(30)));
    assert_eq!(sweep(beginning, long_ago, long_ago).await, (0, None), "not before");
    assert_eq!(sweep(spared, lately, lately).await, (0, None), "only those after it");
    assert_eq!(sweep(beginning, long_ago, lately).await, (1, None), "one that the epoch ended");
    assert_eq!(w.refresh(dead, 0).await, RefreshOutcome::Unknown);
    assert_eq!((w.live(ada).await, w.live(grace).await), (vec![idle], vec![spared]));
    assert_eq!(sweep(beginning, lately, lately).await, (1, None), "one that was not used");
    assert_eq!(w.refresh(idle, 0).await, RefreshOutcome::Unknown);
    w.granted(spared, 0).await;
}

pub(super) async fn the_reason_of_an_end_is_kept(w: Arc<World>) {
    let ada = w.user("ada").await;
    for (reason, word) in [
        (EndReason::Logout, "logout"),
        (EndReason::Revoked, "revoked"),
        (EndReason::Replay, "replay"),
        (EndReason::Evicted, "evicted"),
    ] {
        let session = w.sign_in(ada).await;
        assert!(w.store.end_session(session, None, reason, origin()).await.unwrap());
        let id = w.database.id(session.as_uuid());
        assert_eq!(w.database.texts(&format!("SELECT end_reason FROM sessions WHERE id = {id}")).await, [word]);
    }
}
