//! The set against the rule it stands for, in every order.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::domain::{
    audience::Scope,
    claims::SignIn,
    custom_claims::CustomClaims,
    id::{ServiceAccountId, UserId},
};

const NOW: Timestamp = Timestamp::from_seconds(1_000);

fn uuid(n: u8) -> Uuid {
    Uuid::from_u128(u128::from(n))
}

fn claims(session: u8, user: u8, token: u8, epoch: i64) -> AccessClaims {
    AccessClaims {
        issuer: String::new(),
        subject: UserId::from_uuid(uuid(user)).into(),
        audience: Vec::new(),
        expire_time: NOW,
        issue_time: NOW,
        token_id: TokenId::from_uuid(uuid(token)),
        client_id: String::new(),
        scope: Scope::default(),
        roles: Vec::new(),
        permissions: Vec::new(),
        epoch,
        custom: CustomClaims::default(),
        sign_in: Some(SignIn {
            session_id: SessionId::from_uuid(uuid(session)),
            auth_time: NOW,
            amr: Vec::new(),
            acr: String::new(),
        }),
    }
}

fn entry(revocation: Revocation, lasts: u64) -> FeedEntry {
    FeedEntry { number: 0, revocation, time: NOW, expire_time: NOW.plus(Duration::from_secs(lasts)) }
}

fn user(epoch: i64, spared: Option<u8>) -> Revocation {
    let spared = spared.map(|n| SessionId::from_uuid(uuid(n)));
    Revocation::User { user: UserId::from_uuid(uuid(0)), epoch, spared }
}

fn revocation() -> impl Strategy<Value = Revocation> {
    prop_oneof![
        4 => (0..5_i64, prop::option::of(0..3_u8)).prop_map(|(epoch, spared)| user(epoch, spared)),
        1 => (0..4_u8).prop_map(|n| Revocation::Session { session: SessionId::from_uuid(uuid(n)) }),
        1 => (0..4_u8).prop_map(|n| Revocation::Token { token: TokenId::from_uuid(uuid(n)) }),
        1 => "[ab]".prop_map(|kid| Revocation::Key { kid }),
        1 => (0..5_i64).prop_map(|epoch| Revocation::ServiceAccount { account: ServiceAccountId::from_uuid(uuid(0)), epoch }),
        1 => Just(Revocation::KeySetChanged),
    ]
}

/// The rule itself, word for word, over everything that was applied.
fn refused(entries: &[FeedEntry], claims: &AccessClaims, kid: &str) -> bool {
    entries.iter().any(|entry| match &entry.revocation {
        Revocation::Session { session } => Some(*session) == claims.session_id(),
        Revocation::Token { token } => *token == claims.token_id,
        Revocation::User { user, epoch, spared } => {
            Subject::User(*user) == claims.subject
                && *epoch > claims.epoch
                && (spared.is_none() || *spared != claims.session_id())
        }
        Revocation::Key { kid: revoked } => revoked == kid,
        Revocation::ServiceAccount { account, epoch } => {
            Subject::Service(*account) == claims.subject && *epoch > claims.epoch
        }
        Revocation::Role { .. } | Revocation::KeySetChanged => false,
    })
}

fn tokens() -> impl Iterator<Item = (AccessClaims, &'static str)> {
    (0..4_u8).flat_map(|session| {
        (0..6_i64).flat_map(move |epoch| {
            [(0, 0, "a"), (0, 9, "c"), (9, 1, "b"), (9, 9, "c")]
                .map(|(user, token, kid)| (claims(session, user, token, epoch), kid))
        })
    })
}

fn apply_all(set: &RevocationSet, entries: &[FeedEntry]) {
    for entry in entries {
        set.apply(entry);
    }
}

/// A copy of the set by its pages, taken in their order or in the other.
fn copy(set: &RevocationSet, most: usize, backwards: bool) -> RevocationSet {
    let (copy, mut place) = (RevocationSet::new(), DumpPlace::default());
    let mut pages = Vec::new();
    while let Some(page) = set.dump(&mut place, most) {
        pages.extend(page);
    }
    assert_eq!(set.dump(&mut place, most), None, "it stays at its end");
    if backwards {
        pages.reverse();
    }
    for (revocation, expire_time) in pages {
        copy.apply(&FeedEntry { number: 0, revocation, time: NOW, expire_time });
    }
    copy
}

proptest! {
    #[test]
    fn a_dump_applied_in_any_order_refuses_the_same(
        entries in prop::collection::vec((revocation(), 1..9_u64).prop_map(|(r, lasts)| entry(r, lasts)), 0..12),
        most in 1..5_usize,
        backwards in any::<bool>(),
        later in 0..10_u64,
    ) {
        let set = RevocationSet::new();
        apply_all(&set, &entries);
        let copy = copy(&set, most, backwards);
        // It lasts as long too.
        for now in [NOW, NOW.plus(Duration::from_secs(later))] {
            set.purge(now);
            copy.purge(now);
            prop_assert_eq!(copy.len(), set.len());
            for (claims, kid) in tokens() {
                prop_assert_eq!(copy.is_revoked(&claims, kid), set.is_revoked(&claims, kid));
            }
        }
    }

    #[test]
    fn the_set_refuses_what_the_rule_refuses_in_any_order_and_however_often(
        entries in prop::collection::vec((revocation(), 1..9_u64).prop_map(|(r, lasts)| entry(r, lasts)), 0..8),
        order in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let (set, replaced) = (RevocationSet::new(), RevocationSet::new());
        let repeated = order.iter().filter(|_| !entries.is_empty()).map(|index| index.get(&entries));
        for entry in repeated.chain(&entries).chain(entries.iter().rev()) {
            set.apply(entry);
        }
        replaced.apply(&entry(user(99, None), 1));
        replaced.replace(&entries);
        for (claims, kid) in tokens() {
            prop_assert_eq!(set.is_revoked(&claims, kid), refused(&entries, &claims, kid));
            prop_assert_eq!(replaced.is_revoked(&claims, kid), refused(&entries, &claims, kid));
        }
    }

    #[test]
    fn a_purge_forgets_nothing_that_has_not_expired(
        entries in prop::collection::vec((revocation(), 1..9_u64).prop_map(|(r, lasts)| entry(r, lasts)), 0..8),
        later in 0..10_u64,
    ) {
        let set = RevocationSet::new();
        apply_all(&set, &entries);
        let now = NOW.plus(Duration::from_secs(later));
        set.purge(now);
        let alive: Vec<_> = entries.iter().filter(|entry| entry.expire_time > now).cloned().collect();
        for (claims, kid) in tokens() {
            prop_assert!(set.is_revoked(&claims, kid) || !refused(&alive, &claims, kid));
        }
    }
}

#[test]
fn two_spared_sessions_lose_what_the_other_entry_took() {
    let mut entries = [entry(user(3, Some(1)), 60), entry(user(5, Some(2)), 60)];
    for _ in 0..2 {
        let set = RevocationSet::new();
        apply_all(&set, &entries);
        let cut = |session| (0..9).find(|epoch| !set.is_revoked(&claims(session, 0, 9, *epoch), "k"));
        assert_eq!((cut(1), cut(2), cut(3)), (Some(5), Some(3), Some(5)));
        entries.reverse();
    }
}

#[test]
fn expired_entries_are_forgotten_and_revoked_keys_are_not() {
    let set = RevocationSet::new();
    for (revocation, lasts) in [
        (Revocation::Session { session: SessionId::from_uuid(uuid(1)) }, 10),
        (Revocation::Token { token: TokenId::from_uuid(uuid(1)) }, 20),
        (user(1, None), 30),
        (Revocation::Key { kid: "k".into() }, 1),
    ] {
        set.apply(&entry(revocation, lasts));
    }
    let left = [0, 9, 10, 20, 30].map(|seconds| {
        set.purge(NOW.plus(Duration::from_secs(seconds)));
        set.len()
    });
    assert_eq!(left, [4, 4, 3, 2, 1]);
    assert!(set.is_revoked(&claims(9, 9, 9, 9), "k"));
    set.replace(&[]);
    assert!(set.is_empty());
}

#[test]
fn a_repeated_entry_lasts_as_long_as_the_longest() {
    let session = || Revocation::Session { session: SessionId::from_uuid(uuid(1)) };
    for lasts in [[10, 20], [20, 10]] {
        let set = RevocationSet::new();
        for lasts in lasts {
            set.apply(&entry(session(), lasts));
        }
        set.purge(NOW.plus(Duration::from_secs(15)));
        assert!(set.is_revoked(&claims(1, 9, 9, 9), "k"));
    }
}

#[test]
fn readers_see_a_revocation_at_once_and_for_good_while_others_write() {
    let set = RevocationSet::new();
    let snapshot: Vec<_> =
        (0..200).map(|n| entry(Revocation::Session { session: SessionId::from_uuid(uuid(n)) }, 60)).collect();
    std::thread::scope(|scope| {
        for entry in &snapshot {
            set.apply(entry);
            let Revocation::Session { session } = entry.revocation else { continue };
            let set = &set;
            scope.spawn(move || {
                let claims = claims(session.as_uuid().as_bytes()[15], 255, 255, 0);
                assert!((0..2_000).all(|_| set.is_revoked(&claims, "k")));
            });
        }
        for _ in 0..20 {
            set.replace(&snapshot);
            set.purge(NOW);
        }
    });
}

#[test]
fn a_dump_in_pages_misses_nothing_while_the_set_changes() {
    let session =
        |n: u64, shard: u64| Revocation::Session { session: SessionId::from_uuid(Uuid::from_u64_pair(n, shard)) };
    let set = RevocationSet::new();
    let there: Vec<_> = (0..5_000_u64).map(|n| entry(session(n * 2, n % 3), 60)).collect();
    apply_all(&set, &there);
    let (copy, mut place, mut pages) = (RevocationSet::new(), DumpPlace::default(), 0);
    while let Some(page) = set.dump(&mut place, 100) {
        assert!(page.len() <= 100);
        for (revocation, expire_time) in page {
            copy.apply(&FeedEntry { number: 0, revocation, time: NOW, expire_time });
        }
        // Some come, before and behind the place, and some go: the maps grow and shrink.
        for n in 0..200 {
            set.apply(&entry(session((pages * 200 + n) * 2 + 1, n % 3), if n % 2 == 0 { 1 } else { 60 }));
        }
        set.purge(NOW.plus(Duration::from_secs(1)));
        pages += 1;
    }
    assert!(pages >= 50);
    for gone in &there {
        let Revocation::Session { session } = gone.revocation else { continue };
        assert!(copy.sessions.is(&session, |_| true), "{session}");
    }
}
