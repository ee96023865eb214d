//! The audit trail: an event for every effect, none without, and nothing personal in plain sight.

use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use uuid::Uuid;
use vouchsafe::{
    domain::{
        audit::{Act, Actor, AuditEvent, LoginFailure, Origin},
        id::{TokenId, UserId},
        refresh::CLOCK_SKEW,
        session::EndReason,
        time::{Clock as _, Timestamp},
        user::PhcString,
    },
    store::{
        StoreError,
        port::{CreateUser, Erasure, RefreshOutcome},
    },
};

use super::world::{ADDRESS, AGENT, World, origin};

pub(super) async fn an_event_says_who_did_what_to_whom(w: Arc<World>) {
    let (ada, admin) = (w.user("ada").await, w.user("admin").await);
    let event = AuditEvent {
        actor: Actor::User(admin),
        subject: Some(ada.into()),
        act: Act::RoleAssigned { role: "auditor".into() },
        origin: origin(),
    };
    w.store.record(event).await.unwrap();
    assert_eq!(w.details("role.assigned").await, [serde_json::json!({ "role": "auditor" })]);
    let (ada, admin) = (w.database.id(ada.as_uuid()), w.database.id(admin.as_uuid()));
    let row = format!(
        "SELECT COUNT(*) FROM audit_events WHERE act = 'role.assigned' AND succeeded AND actor = 'user' \
         AND actor_id = {admin} AND subject_id = {ada} AND session_id IS NULL AND request_id = 'request-1' \
         AND time = {}",
        w.clock.now().as_micros()
    );
    assert_eq!(w.database.integer(&row).await, 1);
}

pub(super) async fn a_failed_sign_in_is_recorded_as_a_failure(w: Arc<World>) {
    let cause = LoginFailure::UnknownIdentifier;
    let act = Act::LoginFailed { cause, identifier_hash: Some("0123abcd".into()) };
    w.store.record(w.event(None, act)).await.unwrap();
    assert_eq!(
        w.details("login.failed").await,
        [serde_json::json!({ "cause": "unknown_identifier", "identifier_hash": "0123abcd" })]
    );
    let row = "SELECT COUNT(*) FROM audit_events WHERE NOT succeeded AND actor = 'anonymous' AND actor_id IS NULL \
               AND subject_id IS NULL";
    assert_eq!(w.database.integer(row).await, 1);
}

/// Of what older versions wrote: nothing but the event says that somebody was deleted.
pub(super) async fn who_was_deleted_by_an_older_version_is_listed(w: Arc<World>) {
    let (there, gone) = (w.user("ada").await, UserId::new(w.clock.now(), &[9; 10]));
    let first = w.clock.now();
    for user in [there, gone, gone] {
        let act = if user == there { Act::UserDeleted } else { Act::AccountDeleted };
        let event = AuditEvent { actor: Actor::Operator, subject: Some(user.into()), act, origin: Origin::default() };
        w.store.record(event).await.unwrap();
        w.clock.advance(Duration::from_secs(1));
    }
    let time = first.plus(Duration::from_secs(1));
    assert_eq!(w.store.adopt_erasures(w.clock.now()).await.unwrap(), 0, "they are older");
    assert_eq!(w.store.known_erasures(vec![there, gone]).await.unwrap(), []);
    assert_eq!(w.store.adopt_erasures(time).await.unwrap(), 1, "who is there was not deleted");
    assert_eq!(w.store.adopt_erasures(Timestamp::from_micros(0)).await.unwrap(), 0, "once");
    let listed = w.store.erasures(Timestamp::from_micros(0), None, 10).await.unwrap();
    assert_eq!(listed, [Erasure { user: gone, time }]);
    assert_eq!(w.store.known_erasures(vec![there, gone]).await.unwrap(), [gone]);
    // Of somebody whose key is there something is left to do.
    let id = w.database.id(gone.as_uuid());
    let key = format!("UPDATE data_keys SET owner_id = {id} WHERE owner_id = {}", w.database.id(there.as_uuid()));
    assert_eq!(w.database.execute(&key).await, 1);
    assert_eq!(w.store.known_erasures(vec![there, gone]).await.unwrap(), []);
}

pub(super) async fn every_actor_has_a_word(w: Arc<World>) {
    let actors = [Actor::Anonymous, Actor::User(w.user("ada").await), Actor::Operator, Actor::System];
    for actor in actors {
        let event = AuditEvent { actor, subject: None, act: Act::PasswordChanged, origin: Origin::default() };
        w.store.record(event).await.unwrap();
    }
    let words = w.database.texts("SELECT actor FROM audit_events WHERE act = 'password.changed' ORDER BY actor").await;
    assert_eq!(words, ["anonymous", "operator", "system", "user"]);
}

pub(super) async fn every_act_that_names_a_session_is_found_by_it(w: Arc<World>) {
    let ada = w.user("ada").await;
    let session = w.sign_in(ada).await;
    let (id, generation) = (w.database.id(session.as_uuid()), 3);
    for act in [
        Act::SessionEnded { session, reason: EndReason::Logout },
        Act::OtherSessionsEnded { spared: Some(session) },
        Act::LateRedelivery { session, generation },
        Act::RefreshStateLost { session, generation },
        Act::TokenRevoked { session: Some(session), token: TokenId::new(w.clock.now(), &[1; 10]) },
    ] {
        w.store.record(w.event(Some(ada), act)).await.unwrap();
    }
    let found = w.database.integer(&format!("SELECT COUNT(*) FROM audit_events WHERE session_id = {id}")).await;
    assert_eq!(found, 6, "the sign-in among them");
}

pub(super) async fn the_whole_life_of_an_account_is_in_the_trail_once(w: Arc<World>) {
    let ada = w.user("ada").await;
    let (first, second) = (w.sign_in(ada).await, w.sign_in(ada).await);
    w.granted(first, 0).await;
    w.granted(first, 1).await;
    w.wait(CLOCK_SKEW);
    assert_eq!(w.refresh(first, 0).await, RefreshOutcome::Replayed);
    let event = w.event(Some(ada), Act::PasswordChanged);
    w.store.change_password(super::passwords::to(ada, 0, "new", second, event)).await.unwrap();
    assert!(w.end(second, Some(ada)).await);
    let acts = w.database.texts("SELECT act FROM audit_events ORDER BY act").await;
    let expected =
        ["login.succeeded", "login.succeeded", "password.changed", "session.ended", "session.ended", "user.registered"];
    assert_eq!(acts, expected);
}

pub(super) async fn personal_data_is_sealed_under_the_key_of_its_owner(w: Arc<World>) {
    let ada = w.user("ada").await;
    let session = w.sign_in(ada).await;
    w.granted(session, 5).await;
    w.store.record(w.event(None, Act::PasswordChanged)).await.unwrap();
    w.end(session, Some(ada)).await;
    // Of whoever acts, whomever on; of somebody not signed in the subject's; of all others nobody's.
    let grace = w.user("grace").await;
    for actor in [Actor::User(grace), Actor::Anonymous, Actor::Operator] {
        let act = Act::RoleAssigned { role: "auditor".into() };
        w.store.record(AuditEvent { actor, ..w.event(Some(ada), act) }).await.unwrap();
    }

    let (sealings, nobody) = (w.vault.sealings(), UserId::from_uuid(Uuid::nil()));
    assert_eq!(sealings.len(), 9);
    for (sealing, owner) in sealings.iter().zip([ada, ada, ada, nobody, ada, grace, grace, ada, nobody]) {
        assert_eq!(sealing.owner, *owner.as_uuid(), "nil for nobody");
        let personal: serde_json::Value = serde_json::from_str(&sealing.personal).unwrap();
        assert_eq!(personal, serde_json::json!({ "ip_address": ADDRESS, "user_agent": AGENT }));
        let marker = w.database.id(sealing.event.as_uuid());
        let row = format!("SELECT COUNT(*) FROM audit_events WHERE id = {marker} AND personal_sealed IS NOT NULL");
        assert_eq!(w.database.integer(&row).await, 1, "the event's own id is sealed in");
    }
    for (table, rows) in w.everything().await {
        for personal in [ADDRESS, AGENT] {
            assert!(!rows.contains(personal), "{personal} in {table}");
        }
    }
    assert!(w.database.dump("audit_events").await.contains("request-1"), "the search finds what is there");
    assert_eq!(w.database.integer("SELECT COUNT(*) FROM data_keys").await, 3, "the users' and the nil one");
}

pub(super) async fn an_event_without_personal_data_seals_none(w: Arc<World>) {
    let origin = Origin { request_id: "request-2".into(), ..Origin::default() };
    let event = AuditEvent { actor: Actor::System, subject: None, act: Act::PasswordChanged, origin };
    w.store.record(event).await.unwrap();
    assert_eq!(w.vault.sealings(), []);
    assert_eq!(w.database.integer("SELECT COUNT(*) FROM audit_events WHERE personal_sealed IS NULL").await, 1);
    assert_eq!(w.database.integer("SELECT COUNT(*) FROM data_keys").await, 0);
}

pub(super) async fn nothing_personal_is_kept_of_an_erased_user(w: Arc<World>) {
    let ada = w.user("ada").await;
    let session = w.sign_in(ada).await;
    let id = w.database.id(ada.as_uuid());
    assert_eq!(w.database.execute(&format!("DELETE FROM data_keys WHERE owner_id = {id}")).await, 1);
    assert!(w.end(session, Some(ada)).await);
    let row = "SELECT COUNT(*) FROM audit_events WHERE act = 'session.ended' AND personal_sealed IS NULL";
    assert_eq!(w.database.integer(row).await, 1, "the event is there, the person is not");
    assert_eq!(w.database.integer("SELECT COUNT(*) FROM data_keys").await, 0, "and no key comes back");
}

/// The last step of every effect here is an event that cannot be written. So the effect must not be there either.
pub(super) async fn an_effect_whose_event_fails_does_not_happen(w: Arc<World>) {
    let ada = w.user("ada").await;
    let (session, other) = (w.sign_in(ada).await, w.sign_in(ada).await);
    w.granted(session, 0).await;
    w.granted(session, 1).await;
    let id = w.database.id(ada.as_uuid());
    let nonsense = w.database.bytes("00");
    let damage = format!("UPDATE data_keys SET key_sealed = {nonsense} WHERE owner_id = {id}");
    assert_eq!(w.database.execute(&damage).await, 1);

    let before = w.everything().await;
    let corrupt = |error: StoreError| match error {
        StoreError::Corrupt { table: "data_keys", column: "key_sealed", .. } => {}
        error => panic!("{error}"),
    };
    let event = |act| w.event(Some(ada), act);
    let (old, new) = (PhcString::new("hash of ada".into()), PhcString::new("new".into()));
    let reason = EndReason::Logout;
    corrupt(w.store.end_session(session, None, reason, origin()).await.unwrap_err());
    corrupt(w.store.end_session(session, Some(ada), reason, origin()).await.unwrap_err());
    let others = event(Act::OtherSessionsEnded { spared: Some(session) });
    corrupt(w.store.end_other_sessions(ada, session, others).await.unwrap_err());
    let changed = event(Act::PasswordChanged);
    corrupt(w.store.change_password(super::passwords::to(ada, 0, "new", session, changed)).await.unwrap_err());
    corrupt(w.store.rehash_password(ada, old, new, event(Act::PasswordRehashed)).await.unwrap_err());
    let begun = w.new_session(ada, w.hash_of(ada).await);
    let begins = event(Act::LoggedIn { session: begun.id });
    corrupt(w.store.create_session(begun, super::world::POLICY, begins).await.unwrap_err());
    w.wait(CLOCK_SKEW);
    corrupt(w.store.refresh(w.attempt(session, 0)).await.unwrap_err());
    corrupt(w.store.refresh(w.attempt(session, 9)).await.unwrap_err());
    corrupt(w.store.record(event(Act::PasswordChanged)).await.unwrap_err());
    assert_eq!(w.everything().await, before);
    assert_eq!(w.observer.entries(), []);
    w.granted(session, 2).await;
    w.granted(other, 0).await;
}

pub(super) async fn whoever_listens_hears_of_events_once_they_are_committed(w: Arc<World>) {
    let ada = w.user("ada").await;
    assert_eq!(w.observer.recorded(), 1);
    // One that there is: nothing is written, and nothing was recorded.
    let twin = w.new_user("ada");
    let event = w.event(Some(twin.user.id), Act::Registered);
    assert_eq!(w.store.create_user(twin, vec![event]).await.unwrap(), CreateUser::EmailTaken);
    assert_eq!(w.observer.recorded(), 1);
    w.store.record(w.event(Some(ada), Act::PasswordChanged)).await.unwrap();
    assert_eq!(w.observer.recorded(), 2);
}

pub(super) async fn failures_that_are_only_counted_write_no_row(w: Arc<World>) {
    let ada = w.user("ada").await;
    let acts = [
        Act::LoginFailed { cause: LoginFailure::WrongPassword, identifier_hash: None },
        Act::ChallengeFailed,
        Act::CodeRefused,
        Act::ReauthenticationFailed,
        Act::ServiceTokenRefused,
    ];
    let before = w.sound_trail().await.events;
    for act in &acts {
        w.store.record(w.event(Some(ada), act.clone())).await.unwrap();
    }
    assert_eq!(w.sound_trail().await.events, before + 5);
    w.observer.only_counts.store(true, SeqCst);
    let recorded = w.observer.recorded();
    for act in &acts {
        w.store.record(w.event(Some(ada), act.clone())).await.unwrap();
    }
    assert_eq!((w.sound_trail().await.events, w.observer.recorded()), (before + 5, recorded));
    let heard = w.observer.failures();
    assert_eq!(heard.iter().map(|(_, is_event)| *is_event).collect::<Vec<_>>(), [[true; 5], [false; 5]].concat());
    assert!(heard[..5].iter().zip(&heard[5..]).all(|((own, _), (counted, _))| own == counted));
    assert!(heard.iter().all(|(failure, _)| failure.actor == Actor::User(ada) && failure.subject == Some(ada.into())));
    // What succeeds, and what was not committed, is another matter.
    w.store.record(w.event(Some(ada), Act::PasswordChanged)).await.unwrap();
    assert_eq!(w.sound_trail().await.events, before + 6);
    w.observer.only_counts.store(false, SeqCst);
    let (id, nonsense) = (w.database.id(ada.as_uuid()), w.database.bytes("00"));
    let damage = format!("UPDATE data_keys SET key_sealed = {nonsense} WHERE owner_id = {id}");
    assert_eq!(w.database.execute(&damage).await, 1);
    w.store.record(w.event(Some(ada), Act::CodeRefused)).await.unwrap_err();
    assert_eq!(w.observer.failures().len(), 10);
}
