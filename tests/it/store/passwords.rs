//! Passwords: a change cuts off every session but one, or changes nothing at all.

use std::sync::Arc;

use vouchsafe::{
    domain::{
        audit::{Act, AuditEvent},
        id::{SessionId, UserId},
        revocation::Revocation,
        time::Clock as _,
        user::PhcString,
    },
    store::port::{Change, PasswordChange, RefreshOutcome},
};

use super::world::{World, at_once};

/// A change of a password of which nobody is told.
pub(super) fn to(user: UserId, epoch: i64, hash: &str, spared: SessionId, event: AuditEvent) -> PasswordChange {
    PasswordChange { user, epoch, hash: PhcString::new(hash.to_owned()), spared, event, news: None }
}

async fn change(w: &World, user: UserId, epoch: i64, spared: SessionId) -> Change {
    let event = w.event(Some(user), Act::PasswordChanged);
    w.store.change_password(to(user, epoch, "new hash", spared, event)).await.unwrap()
}

async fn hash(w: &World, user: UserId) -> String {
    w.store.get_credentials(user).await.unwrap().unwrap().password_hash.unwrap().expose().to_owned()
}

pub(super) async fn a_password_change_ends_every_other_session(w: Arc<World>) {
    let (ada, grace) = (w.user("ada").await, w.user("grace").await);
    let (spared, other, bystander) = (w.sign_in(ada).await, w.sign_in(ada).await, w.sign_in(grace).await);
    assert_eq!(change(&w, ada, 0, spared).await, Change::Done);

    let credentials = w.store.get_credentials(ada).await.unwrap().unwrap();
    assert_eq!((credentials.epoch, hash(&w, ada).await.as_str()), (1, "new hash"));
    assert_eq!(w.live(ada).await, [spared]);
    assert_eq!(w.granted(spared, 0).await.session.grant.epoch, 1, "its tokens carry the new epoch");
    assert_eq!(w.refresh(other, 0).await, RefreshOutcome::Ended);
    w.granted(bystander, 0).await;

    let expected = Revocation::User { user: ada, epoch: 1, spared: Some(spared) };
    let feed = w.store.read_feed(0, 10).await.unwrap();
    assert_eq!(feed.entries.iter().map(|e| &e.revocation).collect::<Vec<_>>(), [&expected]);
    assert_eq!(w.observer.entries(), feed.entries);
    assert_eq!(w.count("password.changed").await, 1);
}

pub(super) async fn a_password_change_with_an_old_epoch_changes_nothing(w: Arc<World>) {
    let ada = w.user("ada").await;
    let session = w.sign_in(ada).await;
    let before = w.everything().await;
    for epoch in [-1, 1, 7] {
        assert_eq!(change(&w, ada, epoch, session).await, Change::Conflict);
    }
    assert_eq!(w.everything().await, before);
}

pub(super) async fn a_password_change_from_a_session_that_is_not_alive_changes_nothing(w: Arc<World>) {
    let (ada, grace) = (w.user("ada").await, w.user("grace").await);
    let (alive, ended, foreign) = (w.sign_in(ada).await, w.sign_in(ada).await, w.sign_in(grace).await);
    assert!(w.end(ended, Some(ada)).await);
    let unknown = SessionId::new(w.clock.now(), &[9; 10]);
    let before = w.everything().await;
    for (session, what) in [(ended, "ended"), (foreign, "another user's"), (unknown, "unknown")] {
        assert_eq!(change(&w, ada, 0, session).await, Change::Conflict, "{what}");
        assert_eq!(hash(&w, ada).await, "hash of ada", "{what}: the password stays");
        assert_eq!(w.everything().await, before, "{what}");
    }
    w.granted(alive, 0).await;
}

pub(super) async fn a_password_change_of_a_suspended_account_changes_nothing(w: Arc<World>) {
    let ada = w.user("ada").await;
    let session = w.sign_in(ada).await;
    w.suspend(ada).await;
    let before = w.everything().await;
    assert_eq!(change(&w, ada, 0, session).await, Change::Conflict);
    assert_eq!(w.everything().await, before);
}

pub(super) async fn of_20_password_changes_at_once_exactly_one_is_done(w: Arc<World>) {
    let ada = w.user("ada").await;
    let mut sessions = Vec::new();
    for _ in 0..20 {
        sessions.push(w.sign_in(ada).await);
    }
    let outcomes = at_once(20, |i| {
        let (w, session) = (Arc::clone(&w), sessions[i]);
        async move { change(&w, ada, 0, session).await }
    })
    .await;
    assert_eq!(outcomes.iter().filter(|o| **o == Change::Done).count(), 1);
    let winner = outcomes.iter().position(|o| *o == Change::Done).unwrap();
    assert_eq!(w.live(ada).await, [sessions[winner]]);
    assert_eq!(w.count("password.changed").await, 1);
}

/// A sign-in that checked the old password leaves no live session behind, however it interleaves with the change.
pub(super) async fn a_sign_in_with_the_old_password_does_not_outlive_the_change(w: Arc<World>) {
    let ada = w.user("ada").await;
    let spared = w.sign_in(ada).await;
    let began = at_once(20, |i| {
        let w = Arc::clone(&w);
        async move {
            if i == 10 {
                assert_eq!(change(&w, ada, 0, spared).await, Change::Done);
                return None;
            }
            w.sign_in_with(ada, "hash of ada").await
        }
    })
    .await;
    assert_eq!(w.live(ada).await, [spared]);
    for session in began.into_iter().flatten() {
        assert_eq!(w.refresh(session.session.id, 0).await, RefreshOutcome::Ended);
    }
}

/// A refresh of the spared session that waits for the change must see both rows as the change left them.
pub(super) async fn the_spared_session_refreshes_through_a_password_change(w: Arc<World>) {
    let ada = w.user("ada").await;
    let spared = w.sign_in(ada).await;
    for round in 0..10 {
        at_once(16, |i| {
            let w = Arc::clone(&w);
            async move {
                if i == 8 {
                    assert_eq!(change(&w, ada, round, spared).await, Change::Done);
                } else {
                    w.granted(spared, round).await;
                }
            }
        })
        .await;
    }
    assert_eq!(w.live(ada).await, [spared]);
}

/// The latest first, no more of them than are to be kept, and those of nobody else.
pub(super) async fn former_passwords_are_kept_up_to_the_number_that_is_asked_for(w: Arc<World>) {
    let (ada, grace) = (w.user("ada").await, w.user("grace").await);
    let session = w.sign_in(ada).await;
    let hashes = async |history| {
        let hashes = w.store.password_hashes(ada, history).await.unwrap();
        hashes.iter().map(|hash| hash.expose().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(hashes(5).await, ["hash of ada"]);
    // All in one moment: their order is not the clock's.
    for (epoch, hash) in ["first", "second", "third"].iter().enumerate() {
        let event = w.event(Some(ada), Act::PasswordChanged);
        let change = to(ada, i64::try_from(epoch).unwrap(), hash, session, event);
        assert_eq!(w.store.change_password(change).await.unwrap(), Change::Done);
    }
    // World keeps two.
    assert_eq!(hashes(5).await, ["third", "second", "first"]);
    assert_eq!(hashes(1).await, ["third", "second"]);
    assert_eq!(hashes(0).await, ["third"]);
    assert_eq!(w.database.integer("SELECT count(*) FROM password_history").await, 2);

    // One that is hashed anew is the same still.
    let event = w.event(Some(ada), Act::PasswordRehashed);
    let (old, new) = (PhcString::new("third".into()), PhcString::new("third anew".into()));
    w.store.rehash_password(ada, old, new, event).await.unwrap();
    assert_eq!(hashes(5).await, ["third anew", "second", "first"]);
    assert_eq!(w.store.password_hashes(grace, 5).await.unwrap().len(), 1);
}

pub(super) async fn a_password_change_forgets_the_devices_of_all_other_sessions(w: Arc<World>) {
    let (ada, grace) = (w.user("ada").await, w.user("grace").await);
    let session = w.sign_in(ada).await;
    let uuid = |n: u128| uuid::Uuid::from_u128(n);
    for (n, user) in [(1, ada), (2, ada), (3, grace)] {
        let (id, user) = (w.database.id(&uuid(n)), w.database.id(user.as_uuid()));
        let secret = if w.database.postgres_pool().is_some() { "decode('00', 'hex')" } else { "x'00'" };
        let sql = format!("INSERT INTO known_devices VALUES ({id}, {user}, {secret}, 1, 1)");
        w.database.execute(&sql).await;
    }
    let (here, id) = (w.database.id(&uuid(1)), w.database.id(session.as_uuid()));
    w.database.execute(&format!("UPDATE sessions SET device_id = {here} WHERE id = {id}")).await;
    assert_eq!(change(&w, ada, 0, session).await, Change::Done);
    let left = async |condition: &str| {
        w.database.integer(&format!("SELECT count(*) FROM known_devices WHERE {condition}")).await
    };
    assert_eq!((left(&format!("id = {here}")).await, left("TRUE").await), (1, 2), "this one, and another user's");
    // From a session on no device that is known.
    w.database.execute(&format!("UPDATE sessions SET device_id = NULL WHERE id = {id}")).await;
    assert_eq!(change(&w, ada, 1, session).await, Change::Done);
    assert_eq!(left("TRUE").await, 1);
}

pub(super) async fn a_rehash_replaces_the_hash_and_nothing_else(w: Arc<World>) {
    let ada = w.user("ada").await;
    let session = w.sign_in(ada).await;
    let rehash = async |old: &str, new: &str| {
        let event = w.event(Some(ada), Act::PasswordRehashed);
        w.store.rehash_password(ada, PhcString::new(old.into()), PhcString::new(new.into()), event).await.unwrap()
    };
    assert_eq!(rehash("hash of ada", "stronger").await, Change::Done);
    assert_eq!(hash(&w, ada).await, "stronger");
    assert_eq!(w.count("password.rehashed").await, 1);
    assert_eq!(w.store.get_credentials(ada).await.unwrap().unwrap().epoch, 0);
    assert_eq!(w.live(ada).await, [session]);
    assert_eq!(w.observer.entries(), []);

    let before = w.everything().await;
    assert_eq!(rehash("hash of ada", "late").await, Change::Conflict, "the password has changed since it was checked");
    assert_eq!(w.everything().await, before);
}
