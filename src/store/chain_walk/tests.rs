use proptest::prelude::*;
use serde_json::json;
use uuid::Uuid;

use super::*;
use crate::{domain::time::Timestamp, store::port::RecordedEvent};

const LANE: i64 = 5;

/// A lane of `count` events as it should be.
fn lane(count: i64) -> Vec<RecordedEvent> {
    let mut hash = NOTHING;
    let chained = (1..=count).map(|position| {
        let mut event = RecordedEvent {
            id: EventId::from_uuid(Uuid::from_u128(u128::try_from(position).unwrap())),
            time: Timestamp::from_seconds(position),
            act: "user.updated".into(),
            succeeded: true,
            actor: "operator".into(),
            actor_id: None,
            subject_id: None,
            session_id: None,
            request_id: format!("request-{position}"),
            detail: json!({ "fields": ["email"] }),
            personal_sealed: None,
            link: None,
        };
        let place = Place { lane: LANE, position };
        hash = event.chained().hash(place, &hash);
        event.link = Some(ChainLink { place, hash });
        event
    });
    chained.collect()
}

fn head(lane: &[RecordedEvent]) -> ChainLink {
    lane.last().unwrap().link.unwrap()
}

/// What is found in these events, in the order of their positions, if the lane should end with `head`.
fn walk(events: &[RecordedEvent], head: ChainLink, limit: usize) -> (Vec<(FaultKind, i64)>, bool) {
    let (mut walk, mut faults) = (Walk::of(LANE), Faults::up_to(limit));
    for event in events {
        let ChainLink { place, hash } = event.link.unwrap();
        walk.pass(Step { position: place.position, hash: Some(hash), says: Some(event.chained()) }, &mut faults);
    }
    walk.end(head, &mut faults);
    let (found, more) = faults.into_parts();
    (found.into_iter().map(|fault| (fault.kind, fault.place.position)).collect(), more)
}

fn found(events: &[RecordedEvent], head: ChainLink) -> Vec<(FaultKind, i64)> {
    walk(events, head, 100).0
}

#[test]
fn a_lane_as_it_was_written_has_no_fault() {
    let events = lane(5);
    assert_eq!(found(&events, head(&events)), []);
}

#[test]
fn what_was_edited_is_found_where_it_is() {
    let mut events = lane(6);
    let head = head(&events);
    events[1].act = "user.deleted".into();
    events[3].detail = json!({ "fields": ["username"] });
    events[4].actor_id = Some(Uuid::from_u128(9));
    let faults = [(FaultKind::Altered, 2), (FaultKind::Altered, 4), (FaultKind::Altered, 5)];
    assert_eq!(found(&events, head), faults);
}

#[test]
fn a_hash_that_was_written_anew_shows_at_the_event_behind_it() {
    let mut events = lane(4);
    let head = head(&events);
    events[1].act = "user.deleted".into();
    let previous = events[0].link.unwrap().hash;
    let place = events[1].link.unwrap().place;
    events[1].link = Some(ChainLink { place, hash: events[1].chained().hash(place, &previous) });
    assert_eq!(found(&events, head), [(FaultKind::Altered, 3)]);
}

#[test]
fn a_hash_that_was_damaged_is_one_fault() {
    let mut events = lane(4);
    let head = head(&events);
    events[1].link.as_mut().unwrap().hash[0] ^= 1;
    assert_eq!(found(&events, head), [(FaultKind::Altered, 2)]);
}

#[test]
fn what_was_removed_is_missing_and_the_rest_is_checked() {
    let mut events = lane(7);
    let head = head(&events);
    events[6].act = "x".into();
    events.drain(2..4);
    events.remove(0);
    let missing = [1, 3, 4].map(|position| (FaultKind::Missing, position));
    assert_eq!(found(&events, head), [&missing[..], &[(FaultKind::Altered, 7)]].concat());
}

#[test]
fn a_lane_that_was_cut_off_ends_before_its_head() {
    let events = lane(4);
    assert_eq!(found(&events[..2], head(&events)), [(FaultKind::Head, 3)]);
    assert_eq!(found(&[], head(&events)), [(FaultKind::Head, 1)]);
    let other = ChainLink { hash: [1; 32], ..head(&events) };
    assert_eq!(found(&events, other), [(FaultKind::Head, 4)]);
}

#[test]
fn events_that_changed_places_are_found_at_both() {
    let mut events = lane(6);
    let head = head(&events);
    let (a, b) = (events[1].link, events[4].link);
    let (place_a, place_b) = (a.unwrap().place, b.unwrap().place);
    events.swap(1, 4);
    events[1].link.as_mut().unwrap().place = place_a;
    events[4].link.as_mut().unwrap().place = place_b;
    let places: Vec<i64> = found(&events, head).into_iter().map(|(_, position)| position).collect();
    assert!(places.contains(&2) && places.contains(&5), "{places:?}");
    assert!(places.iter().all(|place| [2, 3, 5, 6].contains(place)), "{places:?}");
}

#[test]
fn a_second_event_at_a_place_is_unexpected() {
    let mut events = lane(3);
    let head = head(&events);
    let twin = RecordedEvent { act: "x".into(), ..events[1].clone() };
    events.insert(2, twin);
    assert_eq!(found(&events, head), [(FaultKind::Unexpected, 2)]);
}

#[test]
fn more_than_the_limit_is_said_to_be_more() {
    let mut events = lane(10);
    let head = head(&events);
    for event in &mut events {
        event.succeeded = false;
    }
    let (faults, more) = walk(&events, head, 3);
    assert_eq!((faults.len(), more), (3, true));
    let (faults, more) = walk(&events[9..], head, 3);
    assert_eq!((faults.len(), more), (3, true), "a gap of any length");
    assert!(!walk(&lane(10), head, 0).1, "and where there is none there are no more");
}

#[test]
fn a_row_that_cannot_be_read_is_a_fault_and_not_the_end() {
    let events = lane(3);
    let (mut walk, mut faults) = (Walk::of(LANE), Faults::up_to(9));
    for (event, readable) in events.iter().zip([true, false, true]) {
        let ChainLink { place, hash } = event.link.unwrap();
        let says = readable.then(|| event.chained());
        walk.pass(Step { position: place.position, hash: Some(hash), says }, &mut faults);
    }
    walk.end(head(&events), &mut faults);
    let (found, _) = faults.into_parts();
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].kind, found[0].place.position, found[0].event), (FaultKind::Altered, 2, None));
}

proptest! {
    /// Whatever is changed of one event, and wherever: there is a fault at it or right behind it, and nowhere else.
    #[test]
    fn no_change_of_one_event_goes_unnoticed(count in 1_i64..12, at in 0_usize..12, what in 0_u8..9) {
        let mut events = lane(count);
        let head = head(&events);
        let at = at % events.len();
        let event = &mut events[at];
        match what {
            0 => event.id = EventId::from_uuid(Uuid::from_u128(99)),
            1 => event.time = Timestamp::from_seconds(99),
            2 => event.act.push('x'),
            3 => event.succeeded ^= true,
            4 => event.actor = "user".into(),
            5 => event.subject_id = Some(Uuid::nil()),
            6 => event.request_id.clear(),
            7 => event.detail = json!({}),
            _ => event.personal_sealed = Some(Vec::new()),
        }
        prop_assert_eq!(found(&events, head), [(FaultKind::Altered, i64::try_from(at).unwrap() + 1)]);
    }
}
