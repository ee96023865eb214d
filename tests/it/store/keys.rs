//! Key rotation: of any number of nodes exactly one does it.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use vouchsafe::{
    domain::{
        revocation::Revocation,
        signing_key::{Algorithm, KeyLife, KeyState, RotationPolicy},
        time::Clock as _,
        warrant::Authority,
    },
    store::port::{NewSigningKey, RevokeKey, Rotate, Store},
};

use super::world::{World, at_once};

const DAY: Duration = Duration::from_hours(24);
/// A month each, published a day ahead.
pub(super) const POLICY: RotationPolicy =
    RotationPolicy { period: Duration::from_hours(720), lead: Duration::from_hours(24) };
/// Beyond the life of the last token.
const MARGIN: Duration = Duration::from_mins(2);

/// A key to publish.
pub(super) fn key(kid: &str) -> NewSigningKey {
    NewSigningKey {
        kid: kid.into(),
        algorithm: Algorithm::Es256,
        public_jwk: serde_json::json!({ "kty": "EC", "kid": kid, "x": "ÄÖ\"\\" }),
        private_key_sealed: vec![0, 1, 255],
    }
}

async fn rotate(w: &World, kid: &str, rotate: Rotate) -> bool {
    w.store.rotate_signing_key(key(kid), POLICY, rotate, Authority::system()).await.unwrap()
}

async fn life(w: &World, kid: &str) -> KeyLife {
    w.store.signing_keys().await.unwrap().into_iter().find(|k| k.kid == kid).expect(kid).life
}

pub(super) async fn the_first_signing_key_signs_at_once(w: Arc<World>) {
    assert!(w.store.signing_keys().await.unwrap().is_empty());
    assert!(rotate(&w, "a", Rotate::IfDue).await);
    let keys = w.store.signing_keys().await.unwrap();
    let [row] = &keys[..] else { panic!("one key") };
    let expected = key("a");
    assert_eq!((&row.kid, row.algorithm), (&expected.kid, expected.algorithm));
    assert_eq!((&row.public_jwk, &row.private_key_sealed), (&expected.public_jwk, &expected.private_key_sealed));
    assert_eq!(row.life, KeyLife::first(w.clock.now()));
    let entries = w.observer.entries();
    assert_eq!(entries.iter().map(|e| &e.revocation).collect::<Vec<_>>(), [&Revocation::KeySetChanged]);
    assert_eq!(w.count("key.published").await, 1);
}

pub(super) async fn a_successor_is_published_one_lead_before_the_period_ends(w: Arc<World>) {
    w.store.announce_access_ttl(Duration::from_mins(5)).await.unwrap();
    rotate(&w, "a", Rotate::IfDue).await;
    let begin = w.clock.now();
    w.clock.set(begin.plus(POLICY.period.checked_sub(POLICY.lead).unwrap()).minus(Duration::from_micros(1)));
    let before = w.everything().await;
    assert!(!rotate(&w, "b", Rotate::IfDue).await, "not due");
    assert_eq!(w.everything().await, before);

    w.wait(Duration::from_micros(1));
    assert!(rotate(&w, "b", Rotate::IfDue).await);
    assert!(!rotate(&w, "c", Rotate::IfDue).await, "one successor is enough");
    let takeover = begin.plus(POLICY.period);
    let (old, new) = (life(&w, "a").await, life(&w, "b").await);
    assert_eq!(new, KeyLife::successor(w.clock.now(), POLICY.lead));
    assert_eq!(new.activate_time, takeover);
    assert_eq!(old.retire_time, Some(takeover), "the old key signs until the new one does");
    assert_eq!(old.remove_time, Some(takeover.plus(Duration::from_mins(5) + MARGIN)));
}

pub(super) async fn a_rotation_by_order_does_not_wait_until_it_is_due(w: Arc<World>) {
    for kid in ["a", "b", "c"] {
        assert!(rotate(&w, kid, Rotate::Now).await);
        w.wait(Duration::from_mins(1));
    }
    let (first, second, third) = (life(&w, "a").await, life(&w, "b").await, life(&w, "c").await);
    assert_eq!(first.retire_time, Some(second.activate_time));
    assert_eq!(second.retire_time, Some(third.activate_time), "an earlier successor gives way to a later one");
    assert_eq!(third.retire_time, None);
    for after in [Duration::ZERO, DAY, 2 * DAY] {
        w.wait(after);
        let keys = w.store.signing_keys().await.unwrap();
        let active = keys.iter().filter(|k| k.life.state(w.clock.now()) == KeyState::Active).count();
        assert_eq!(active, 1, "at any moment one key signs");
    }
    assert_eq!(w.count("key.published").await, 3);
}

pub(super) async fn a_change_of_algorithm_is_due_at_once(w: Arc<World>) {
    rotate(&w, "a", Rotate::IfDue).await;
    let new = || NewSigningKey { algorithm: Algorithm::EdDsa, ..key("b") };
    assert!(w.store.rotate_signing_key(new(), POLICY, Rotate::IfDue, Authority::system()).await.unwrap());
    assert!(
        !w.store.rotate_signing_key(new(), POLICY, Rotate::IfDue, Authority::system()).await.unwrap(),
        "and is done once"
    );
    let keys = w.store.signing_keys().await.unwrap();
    assert_eq!(keys.iter().map(|k| k.algorithm).collect::<Vec<_>>(), [Algorithm::Es256, Algorithm::EdDsa]);
    assert_eq!(life(&w, "b").await, KeyLife::successor(w.clock.now(), POLICY.lead), "verifiers learn of it first");
}

/// That many nodes find the rotation due at one moment; how many of them did it.
async fn rotations_of(w: &Arc<World>, nodes: &[Arc<dyn Store>; 2], round: &str) -> usize {
    let outcomes = at_once(20, |i| {
        let (node, new) = (Arc::clone(&nodes[i % 2]), key(&format!("{round}-{i}")));
        async move { node.rotate_signing_key(new, POLICY, Rotate::IfDue, Authority::system()).await.unwrap() }
    })
    .await;
    assert_eq!(w.observer.entries().len(), w.store.signing_keys().await.unwrap().len());
    outcomes.into_iter().filter(|published| *published).count()
}

pub(super) async fn of_20_nodes_that_find_a_signing_key_due_one_publishes(w: Arc<World>) {
    let nodes = [Arc::clone(&w.store), w.another_node().await];
    assert_eq!(rotations_of(&w, &nodes, "first").await, 1);
    assert_eq!(rotations_of(&w, &nodes, "none").await, 0);
    w.wait(POLICY.period.checked_sub(POLICY.lead).unwrap());
    assert_eq!(rotations_of(&w, &nodes, "second").await, 1);
    nodes[1].close().await;
    assert_eq!(w.count("key.published").await, 2);
}

pub(super) async fn a_key_is_deleted_when_its_last_token_has_expired(w: Arc<World>) {
    rotate(&w, "a", Rotate::Now).await;
    rotate(&w, "b", Rotate::Now).await;
    let removal = life(&w, "a").await.remove_time.unwrap();
    assert_eq!(w.store.purge_keys().await.unwrap(), 0);
    w.clock.set(removal);
    assert_eq!(w.store.purge_keys().await.unwrap(), 0, "a microsecond more does no harm");
    w.wait(Duration::from_micros(1));
    assert_eq!(w.store.purge_keys().await.unwrap(), 1);
    let left: Vec<_> = w.store.signing_keys().await.unwrap().into_iter().map(|k| k.kid).collect();
    assert_eq!(left, ["b"]);
    w.wait(1_000 * DAY);
    assert_eq!(w.store.purge_keys().await.unwrap(), 0, "the key that signs is never deleted");
}

async fn revoke(w: &World, kid: &str, successor: &str) -> RevokeKey {
    w.store.revoke_signing_key(kid.into(), key(successor), POLICY, Authority::operator()).await.unwrap()
}

/// Which keys there are, and where each stands.
async fn states(w: &World) -> Vec<(String, KeyState)> {
    let now = w.clock.now();
    w.store.signing_keys().await.unwrap().into_iter().map(|key| (key.kid, key.life.state(now))).collect()
}

/// From now on until long after the last handover exactly one key signs.
async fn assert_one_signs(w: &World) {
    let begin = w.clock.now();
    for hour in 0..100 {
        w.clock.set(begin.plus(Duration::from_hours(hour)));
        let active = states(w).await.into_iter().filter(|(_, state)| *state == KeyState::Active).count();
        assert_eq!(active, 1, "after {hour} h: {:?}", states(w).await);
    }
    w.clock.set(begin);
}

pub(super) async fn a_revoked_key_is_gone_and_another_signs_at_once(w: Arc<World>) {
    w.store.announce_access_ttl(Duration::from_mins(5)).await.unwrap();
    rotate(&w, "a", Rotate::IfDue).await;
    w.wait(DAY);
    let before = w.observer.entries().len();
    assert_eq!(revoke(&w, "a", "b").await, RevokeKey::Revoked);
    assert_eq!(states(&w).await, [("b".to_owned(), KeyState::Active)]);
    assert_eq!(life(&w, "b").await, KeyLife::first(w.clock.now()));
    let told: Vec<_> = w.observer.entries().drain(before..).map(|entry| entry.revocation).collect();
    assert_eq!(told, [Revocation::Key { kid: "a".into() }, Revocation::KeySetChanged]);
    assert_eq!(w.details("key.revoked").await, [serde_json::json!({ "key": "a" })]);
    assert_eq!(w.count("key.published").await, 2);
}

pub(super) async fn a_revoked_key_gives_way_to_the_next_one(w: Arc<World>) {
    rotate(&w, "a", Rotate::Now).await;
    rotate(&w, "b", Rotate::Now).await;
    assert_eq!(revoke(&w, "a", "unused").await, RevokeKey::Revoked);
    assert_eq!(states(&w).await, [("b".to_owned(), KeyState::Active)], "it was known already");
    assert_eq!(life(&w, "b").await.activate_time, w.clock.now());
    assert_eq!(w.count("key.published").await, 2);
    assert_one_signs(&w).await;
}

pub(super) async fn a_revoked_successor_is_replaced_without_a_gap(w: Arc<World>) {
    w.store.announce_access_ttl(Duration::from_mins(5)).await.unwrap();
    rotate(&w, "a", Rotate::Now).await;
    rotate(&w, "b", Rotate::Now).await;
    w.wait(DAY / 2);
    assert_eq!(revoke(&w, "b", "c").await, RevokeKey::Revoked);
    let takeover = w.clock.now().plus(POLICY.lead);
    assert_eq!(life(&w, "c").await, KeyLife::successor(w.clock.now(), POLICY.lead));
    let old = life(&w, "a").await;
    let removal = takeover.plus(Duration::from_mins(5) + MARGIN);
    assert_eq!((old.retire_time, old.remove_time), (Some(takeover), Some(removal)));
    assert_one_signs(&w).await;
}

pub(super) async fn a_revoked_key_between_two_leaves_no_gap(w: Arc<World>) {
    for kid in ["a", "b", "c"] {
        rotate(&w, kid, Rotate::Now).await;
        w.wait(Duration::from_hours(1));
    }
    assert_eq!(revoke(&w, "b", "unused").await, RevokeKey::Revoked);
    assert_eq!(life(&w, "a").await.retire_time, Some(life(&w, "c").await.activate_time));
    assert_eq!(states(&w).await.len(), 2);
    assert_one_signs(&w).await;
}

pub(super) async fn a_retired_key_can_be_revoked_and_an_unknown_one_cannot(w: Arc<World>) {
    rotate(&w, "a", Rotate::Now).await;
    rotate(&w, "b", Rotate::Now).await;
    w.wait(DAY);
    assert_eq!(states(&w).await, [("a".to_owned(), KeyState::Retired), ("b".to_owned(), KeyState::Active)]);
    let signs = life(&w, "b").await;
    assert_eq!(revoke(&w, "a", "unused").await, RevokeKey::Revoked);
    assert_eq!((states(&w).await.len(), life(&w, "b").await), (1, signs), "nothing else changes");
    let before = w.everything().await;
    for kid in ["a", "", "unused", "%"] {
        assert_eq!(revoke(&w, kid, "c").await, RevokeKey::Unknown, "{kid}");
    }
    assert_eq!(w.everything().await, before);
}

pub(super) async fn a_revoked_key_is_remembered_for_ever(w: Arc<World>) {
    w.store.announce_access_ttl(Duration::from_mins(5)).await.unwrap();
    for kid in ["a", "b"] {
        rotate(&w, kid, Rotate::Now).await;
    }
    assert!(w.store.revoked_keys().await.unwrap().is_empty());
    revoke(&w, "b", "c").await;
    w.wait(DAY);
    revoke(&w, "a", "d").await;
    assert_eq!(revoke(&w, "unknown", "e").await, RevokeKey::Unknown);
    w.wait(1_000 * DAY);
    assert!(w.store.purge_feed().await.unwrap() > 0);
    w.store.purge_keys().await.unwrap();
    assert_eq!(w.database.integer("SELECT COUNT(*) FROM feed").await, 0);
    let another = w.another_node().await;
    assert_eq!(another.revoked_keys().await.unwrap(), ["b", "a"]);
    another.close().await;
}

/// Not a server with longer tokens, which prolongs the life of keys, and not a rotation.
pub(super) async fn nothing_brings_a_revoked_key_back(w: Arc<World>) {
    rotate(&w, "a", Rotate::Now).await;
    revoke(&w, "a", "b").await;
    let gone = async || states(&w).await.iter().all(|(kid, _)| kid != "a");
    assert!(gone().await);
    w.store.announce_access_ttl(DAY).await.unwrap();
    assert!(gone().await);
    rotate(&w, "c", Rotate::Now).await;
    assert!(gone().await);
}

fn seal(id: i64) -> Vec<u8> {
    format!("sealed for {id}").into_bytes()
}

async fn rotate_refresh(node: &dyn Store, rotate: Rotate) -> bool {
    node.rotate_refresh_key(Arc::new(seal), POLICY, rotate, Authority::system()).await.unwrap()
}

pub(super) async fn refresh_keys_are_numbered_and_sealed_for_their_number(w: Arc<World>) {
    let begin = w.clock.now();
    assert!(rotate_refresh(&*w.store, Rotate::IfDue).await);
    assert!(!rotate_refresh(&*w.store, Rotate::IfDue).await, "not due");
    w.wait(POLICY.period.checked_sub(POLICY.lead).unwrap());
    assert!(rotate_refresh(&*w.store, Rotate::IfDue).await);
    assert!(rotate_refresh(&*w.store, Rotate::Now).await);
    let keys = w.store.refresh_keys().await.unwrap();
    assert_eq!(keys.iter().map(|k| k.id).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(keys.iter().all(|k| k.key_sealed == seal(k.id)));
    let takeover = begin.plus(POLICY.period);
    assert_eq!(keys[0].life, KeyLife { retire_time: Some(takeover), ..KeyLife::first(begin) });
    assert_eq!(keys[1].life.activate_time, takeover);
    assert_eq!((keys[2].life.retire_time, keys[2].life.remove_time), (None, None));
    w.wait(1_000 * DAY);
    assert_eq!(w.store.purge_keys().await.unwrap(), 0, "refresh keys stay");
    assert_eq!(w.details("key.published").await[0], serde_json::json!({ "key": "refresh-1" }));
}

pub(super) async fn of_20_nodes_that_find_a_refresh_key_due_one_publishes(w: Arc<World>) {
    let nodes = [Arc::clone(&w.store), w.another_node().await];
    for round in 1..=3 {
        let outcomes = at_once(20, |i| {
            let node = Arc::clone(&nodes[i % 2]);
            async move { rotate_refresh(&*node, Rotate::IfDue).await }
        })
        .await;
        assert_eq!(outcomes.into_iter().filter(|published| *published).count(), 1);
        assert_eq!(w.store.refresh_keys().await.unwrap().len(), round);
        w.wait(POLICY.period);
    }
    nodes[1].close().await;
}

pub(super) async fn twenty_orders_at_once_are_twenty_refresh_keys_with_consecutive_numbers(w: Arc<World>) {
    let given = Arc::new(Mutex::new(Vec::new()));
    at_once(20, |_| {
        let (w, given) = (Arc::clone(&w), Arc::clone(&given));
        async move {
            let seal = move |id| {
                given.lock().unwrap().push(id);
                seal(id)
            };
            assert!(
                w.store.rotate_refresh_key(Arc::new(seal), POLICY, Rotate::Now, Authority::system()).await.unwrap()
            );
        }
    })
    .await;
    let ids: Vec<_> = w.store.refresh_keys().await.unwrap().iter().map(|k| k.id).collect();
    assert_eq!(ids, (1..=20).collect::<Vec<_>>());
    let mut given = given.lock().unwrap().clone();
    given.sort_unstable();
    assert_eq!(given, ids, "each number is sealed for once");
}
