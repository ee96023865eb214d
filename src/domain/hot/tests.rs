//! When a record may speak for its row, condition by condition, with literal times.

use super::*;
use crate::domain::audience::Scope;

const GRACE: Duration = Duration::from_mins(15);

fn uuid(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

fn session() -> SessionId {
    SessionId::from_uuid(uuid(7))
}

fn user() -> UserId {
    UserId::from_uuid(uuid(8))
}

const fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

/// Made at second 100, when the feed had 50 entries.
fn record() -> HotRecord {
    HotRecord {
        family: Family { generation: 3, ..Family::first(at(100), 1) },
        grant: Grant {
            user: user(),
            epoch: 1,
            client_id: "client".to_owned(),
            audience: Vec::new(),
            scope: Scope::default(),
            auth_time: at(1),
            amr: Vec::new(),
            acr: String::new(),
        },
        held: HeldRoles { names: vec!["clerk".to_owned()], ..HeldRoles::default() },
        own: OwnClaims::default(),
        said: SaidMark::default(),
        create_time: at(1),
        absolute_expire_time: at(1_000_000),
        seen: FeedPosition { incarnation: uuid(1), number: 50 },
    }
}

const HEAD: FeedHead = FeedHead { number: 60, time: Timestamp::from_seconds(110), records_since: at(90), beat: 30 };

fn outage(changes: &RecentChanges) -> Outage<'_> {
    Outage {
        lasts: Duration::from_secs(30),
        grace: GRACE,
        known: FeedPosition { incarnation: uuid(1), number: 60 },
        head: Some(HEAD),
        last_head: Some(HEAD),
        changes,
        said: SaidMark::default(),
    }
}

fn entry(number: i64, revocation: Revocation) -> FeedEntry {
    FeedEntry { number, revocation, time: at(100), expire_time: at(500) }
}

/// The feed from entry 41 on, without anything about our session.
fn others() -> RecentChanges {
    let mut changes = RecentChanges::default();
    changes.forget_up_to(40);
    for number in 41..=60 {
        let session = SessionId::from_uuid(uuid(1_000 + u128::try_from(number).unwrap()));
        changes.note(&entry(number, Revocation::Session { session }));
    }
    changes
}

#[test]
fn a_record_that_nothing_speaks_against_carries() {
    assert_eq!(may_carry(session(), &record(), &outage(&others())), Ok(()));
}

#[test]
fn not_beyond_the_grace_and_never_without_one() {
    let changes = others();
    let carry = |lasts, grace| may_carry(session(), &record(), &Outage { lasts, grace, ..outage(&changes) });
    assert_eq!(carry(GRACE, GRACE), Ok(()));
    assert_eq!(carry(GRACE + Duration::from_nanos(1), GRACE), Err(NotCarried::TooLong));
    assert_eq!(carry(Duration::from_nanos(1), Duration::ZERO), Err(NotCarried::TooLong));
}

#[test]
fn not_when_the_hot_state_has_forgotten() {
    let changes = others();
    let carry = |head| may_carry(session(), &record(), &Outage { head, ..outage(&changes) });
    assert_eq!(carry(None), Err(NotCarried::HeadLost));
    for older in [
        FeedHead { number: 59, ..HEAD },
        FeedHead { time: at(109), ..HEAD },
        FeedHead { records_since: at(89), ..HEAD },
        FeedHead { beat: 29, ..HEAD },
    ] {
        assert_eq!(carry(Some(older)), Err(NotCarried::HeadLost), "{older:?}");
    }
    assert_eq!(carry(Some(FeedHead { time: at(111), ..HEAD })), Ok(()), "another node goes on renewing it");
    let never_seen = Outage { last_head: None, ..outage(&changes) };
    assert_eq!(may_carry(session(), &record(), &never_seen), Err(NotCarried::HeadLost));
}

#[test]
fn not_while_revocations_are_missing_here() {
    let changes = others();
    let newer = Outage { head: Some(FeedHead { number: 61, ..HEAD }), ..outage(&changes) };
    assert_eq!(may_carry(session(), &record(), &newer), Err(NotCarried::Behind));
}

#[test]
fn not_when_rows_may_have_gone_past_the_record() {
    let changes = others();
    let since = |records_since| {
        let head = FeedHead { records_since, ..HEAD };
        may_carry(session(), &record(), &Outage { head: Some(head), ..outage(&changes) })
    };
    assert_eq!(since(at(100)), Ok(()));
    assert_eq!(since(at(101)), Err(NotCarried::TooOld));
}

#[test]
fn not_with_a_record_of_another_history_or_from_before_what_is_remembered() {
    let changes = others();
    let with = |seen| may_carry(session(), &HotRecord { seen, ..record() }, &outage(&changes));
    assert_eq!(with(FeedPosition { incarnation: uuid(2), number: 50 }), Err(NotCarried::TooOld));
    assert_eq!(with(FeedPosition { incarnation: uuid(1), number: 40 }), Ok(()));
    assert_eq!(with(FeedPosition { incarnation: uuid(1), number: 39 }), Err(NotCarried::TooOld));
}

#[test]
fn not_when_an_entry_since_is_about_the_session_its_user_or_its_roles() {
    let cut_off = Revocation::User { user: user(), epoch: 2, spared: Some(session()) };
    let role = Revocation::Role { role: "clerk".to_owned() };
    for revocation in [Revocation::Session { session: session() }, cut_off, role] {
        for (number, expected) in [(50, Ok(())), (51, Err(NotCarried::Touched))] {
            let mut changes = RecentChanges::default();
            changes.note(&entry(number, revocation.clone()));
            assert_eq!(may_carry(session(), &record(), &outage(&changes)), expected, "{revocation:?} at {number}");
        }
    }
}

#[test]
fn not_when_other_attributes_were_said_than_are_now() {
    let said = SaidMark::of(&["tenant_id".to_owned()].into());
    let changes = others();
    let carry = |record: &HotRecord, said| may_carry(session(), record, &Outage { said, ..outage(&changes) });
    let made = HotRecord { said, ..record() };
    assert_eq!(carry(&made, said), Ok(()));
    assert_eq!(carry(&made, SaidMark::default()), Err(NotCarried::OtherClaims));
    assert_eq!(carry(&record(), said), Err(NotCarried::OtherClaims), "one that lacks what is said now");
}

#[test]
fn a_role_that_the_record_does_not_have_is_no_matter() {
    let mut changes = RecentChanges::default();
    changes.note(&entry(55, Revocation::Role { role: "admin".to_owned() }));
    assert_eq!(may_carry(session(), &record(), &outage(&changes)), Ok(()));
    changes.note(&entry(56, Revocation::Role { role: "clerk".to_owned() }));
    changes.forget_before(at(501));
    assert!(!changes.touched_since(0, session(), user(), &["clerk".to_owned()]) && !changes.reach_back_to(55));
}

#[test]
fn what_is_forgotten_moves_the_horizon() {
    let mut changes = RecentChanges::default();
    changes.note(&entry(1, Revocation::Session { session: session() }));
    changes.note(&FeedEntry { expire_time: at(600), ..entry(2, Revocation::Session { session: session() }) });
    changes.forget_before(at(500));
    assert!(changes.reach_back_to(0));
    changes.forget_before(at(501));
    assert!(!changes.reach_back_to(0));
    assert!(changes.reach_back_to(1));
    assert!(changes.touched_since(1, session(), user(), &[]), "the later entry is still known");
    changes.forget_before(at(601));
    assert!(!changes.touched_since(0, session(), user(), &[]));
    assert!(changes.reach_back_to(2) && !changes.reach_back_to(1));
}
