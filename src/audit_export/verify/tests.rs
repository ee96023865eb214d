use std::fmt::Write as _;

use proptest::prelude::*;
use serde_json::json;
use uuid::Uuid;

use super::*;
use crate::{
    audit_export::{Hex, Moment},
    domain::{id::EventId, time::Timestamp},
    store::port::ChainFault,
};

/// A MAC that anybody could make; what matters here is what it is made over.
fn attest(statement: &[u8]) -> [u8; 32] {
    let mut mac = [0; 32];
    mac.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, statement).as_ref());
    mac
}

fn event(position: i64, previous: ChainLink) -> (EventLine, ChainLink) {
    let place = Place { lane: 0, position };
    let mut line = EventLine {
        id: EventId::from_uuid(Uuid::from_u128(u128::try_from(position).unwrap())),
        time: Moment(Timestamp::from_micros(1_700_000_000_000_000 + position)),
        act: "login.failed".into(),
        succeeded: false,
        actor: "anonymous".into(),
        actor_id: None,
        subject_id: Some(Uuid::from_u128(7)),
        session_id: None,
        request_id: format!("request-{position}"),
        detail: json!({ "cause": "wrong_password", "identifier_hash": null }),
        personal_sealed: Some(Hex(vec![1, 2, 3])),
        lane: 0,
        position,
        hash: Hex(NOTHING),
        personal: None,
    };
    let hash = line.recorded().chained().hash(place, &previous.hash);
    line.hash = Hex(hash);
    (line, ChainLink { place, hash })
}

/// An export of the events `first` to `last` of one lane, of which those before were removed for age.
fn export(first: i64, last: i64) -> Vec<Line> {
    let mut link = ChainLink { place: Place { lane: 0, position: 0 }, hash: NOTHING };
    let (mut lines, mut base) = (Vec::new(), link);
    for position in 1..=last {
        let written;
        (written, link) = event(position, link);
        if position >= first {
            lines.push(Line::Event(Box::new(written)));
        } else {
            base = link;
        }
    }
    let end = |link: ChainLink, statement: Vec<u8>| LaneLine::from(LaneEnd { link, mac: Some(attest(&statement)) });
    let time = Moment(Timestamp::from_seconds(1_800_000_000));
    let base = end(base, base_statement(base.place, &base.hash));
    let head = end(link, head_statement(link.place, &link.hash));
    let events = u64::try_from(lines.len()).unwrap();
    lines.insert(0, Line::Header(Header { form: EXPORT_FORM.into(), time, lanes: vec![base] }));
    lines.push(Line::End(End { events, lanes: vec![head] }));
    lines
}

fn text(lines: &[Line]) -> String {
    lines.iter().fold(String::new(), |mut text, line| {
        writeln!(text, "{}", serde_json::to_string(line).unwrap()).unwrap();
        text
    })
}

fn verify(text: &str, checkpoint: &[ChainLink], with_key: bool) -> Result<ChainReport, ExportError> {
    let known = with_key.then_some(Known { attest: &attest, lanes: 1 });
    verify_export(text.as_bytes(), checkpoint, known, 10)
}

fn faults(lines: &[Line], checkpoint: &[ChainLink]) -> Vec<(FaultKind, i64)> {
    let plain = |fault: ChainFault| (fault.kind, fault.place.position);
    verify(&text(lines), checkpoint, true).unwrap().faults.into_iter().map(plain).collect()
}

fn line(lines: &mut [Line], position: usize) -> &mut EventLine {
    let Line::Event(event) = &mut lines[position] else { panic!("no event") };
    event
}

fn link(lines: &mut [Line], position: usize) -> ChainLink {
    line(lines, position).recorded().link.unwrap()
}

#[test]
fn an_export_as_it_was_written_is_whole_with_the_key_and_without() {
    for (first, last) in [(1, 0), (1, 5), (3, 5), (6, 5)] {
        let text = text(&export(first, last));
        for with_key in [true, false] {
            let report = verify(&text, &[], with_key).unwrap();
            assert_eq!((report.faults, report.events), (vec![], u64::try_from(last + 1 - first).unwrap()));
            assert_eq!(report.heads[0].link.place.position, last);
        }
    }
}

#[test]
fn what_was_changed_is_found_where_it_is() {
    let mut lines = export(1, 6);
    line(&mut lines, 2).actor = "operator".into();
    line(&mut lines, 5).time = Moment(Timestamp::from_seconds(0));
    assert_eq!(faults(&lines, &[]), [(FaultKind::Altered, 2), (FaultKind::Altered, 5)]);
    let mut lines = export(1, 6);
    line(&mut lines, 2).personal = Some(crate::domain::audit::Personal::default());
    assert_eq!(faults(&lines, &[]), [], "what is opened for readers is not in the chain");
}

#[test]
fn lanes_that_were_taken_out_are_missed_by_whoever_knows_how_many_there_are() {
    let text = text(&export(1, 5));
    assert_eq!(verify(&text, &[], false).unwrap().faults, [], "it may be SQLite's");
    let known = Known { attest: &attest, lanes: 3 };
    let report = verify_export(text.as_bytes(), &[], Some(known), 10).unwrap();
    let missing: Vec<_> = report.faults.iter().map(|fault| (fault.kind, fault.place.lane)).collect();
    assert_eq!(missing, [(FaultKind::Lane, 1), (FaultKind::Lane, 2)]);
}

#[test]
fn a_file_that_was_cut_off_says_so() {
    let lines = export(1, 4);
    let whole = text(&lines);
    for end in 0..whole.len() - 1 {
        assert!(verify(&whole[..end], &[], true).is_err(), "{end}");
    }
    let without_one: Vec<_> =
        lines.iter().filter(|l| !matches!(l, Line::Event(e) if e.position == 2)).cloned().collect();
    assert!(verify(&text(&without_one), &[], true).is_err(), "the count");
    let doubled = format!("{whole}{whole}");
    assert!(verify(&doubled, &[], true).is_err(), "two files");
}

#[test]
fn whoever_writes_a_file_anew_needs_the_key() {
    let mut lines = export(1, 6);
    let last = lines.len() - 1;
    let kept = link(&mut lines, 4);
    lines.drain(5..last);
    let Some(Line::End(end)) = lines.last_mut() else { panic!("no end") };
    (end.events, end.lanes[0].position, end.lanes[0].hash) = (4, kept.place.position, Hex(kept.hash));
    assert_eq!(verify(&text(&lines), &[], false).unwrap().faults, [], "without the key nobody can tell");
    assert_eq!(faults(&lines, &[]), [(FaultKind::HeadMac, 4)]);

    let mut lines = export(3, 6);
    let Line::Header(header) = &mut lines[0] else { panic!("no header") };
    let hash = header.lanes[0].hash;
    header.lanes[0] = LaneLine { mac: Some(Hex([0; 32])), hash, ..header.lanes[0] };
    assert_eq!(faults(&lines, &[]), [(FaultKind::BaseMac, 2)]);
}

#[test]
fn what_somebody_saw_before_must_still_be_there() {
    let mut lines = export(3, 6);
    let seen = link(&mut lines, 2);
    let other = ChainLink { hash: [9; 32], ..seen };
    let (old, base) = (Place { lane: 0, position: 1 }, Place { lane: 0, position: 2 });
    let later = ChainLink { place: Place { lane: 0, position: 7 }, hash: [9; 32] };
    assert_eq!(faults(&lines, &[seen, ChainLink { place: old, hash: [9; 32] }]), [], "or too old to be kept");
    assert_eq!(faults(&lines, &[other]), [(FaultKind::Checkpoint, 4)]);
    assert_eq!(faults(&lines, &[ChainLink { place: base, hash: [9; 32] }]), [(FaultKind::Checkpoint, 2)]);
    assert_eq!(faults(&lines, &[later]), [(FaultKind::Checkpoint, 7)]);
    let nowhere = ChainLink { place: Place { lane: 9, position: 7 }, hash: [9; 32] };
    assert_eq!(faults(&lines, &[nowhere]), [(FaultKind::Checkpoint, 7)]);
}

#[test]
fn what_a_checkpoint_names_is_compared_or_told() {
    let lines = export(4, 6);
    let link = |position| ChainLink { place: Place { lane: 0, position }, hash: [9; 32] };
    let not_compared = |seen: &[ChainLink]| verify(&text(&lines), seen, true).unwrap().not_compared;
    assert_eq!(not_compared(&[link(1)]), [link(1)]);
    assert_eq!(not_compared(&[link(2)]), [link(2)]);
    assert_eq!(not_compared(&[link(3)]), [], "the last one that was removed is in the header");
    assert_eq!(not_compared(&[link(0)]), [], "there was none");
    assert_eq!(not_compared(&[link(6)]), []);
    // An event that should be there and is not.
    let mut lines = lines;
    let seen = super::tests::link(&mut lines, 2);
    lines.remove(2);
    let last = lines.len() - 1;
    let Line::End(end) = &mut lines[last] else { panic!("no end") };
    end.events -= 1;
    assert_eq!(faults(&lines, &[seen]), [(FaultKind::Missing, 5), (FaultKind::Checkpoint, 5)]);
}

#[test]
fn a_row_that_somebody_left_without_a_hash_is_a_fault_in_a_file_as_well() {
    let mut lines = export(1, 4);
    line(&mut lines, 2).hash = Hex(crate::crypto::audit_chain::UNREADABLE);
    assert_eq!(faults(&lines, &[]), [(FaultKind::Altered, 2)]);
}

#[test]
fn lanes_are_all_there_and_no_others() {
    let mut lines = export(1, 3);
    line(&mut lines, 2).lane = 5;
    assert_eq!(faults(&lines, &[]), [(FaultKind::Unexpected, 2), (FaultKind::Missing, 2)]);
    let mut lines = export(1, 3);
    let Line::Header(header) = &mut lines[0] else { panic!("no header") };
    header.lanes.push(LaneLine { lane: 1, position: 0, hash: Hex(NOTHING), mac: None });
    let found = verify(&text(&lines), &[], false).unwrap();
    assert!(found.faults.iter().all(|fault| fault.kind == FaultKind::Lane) && found.more_faults);
    let found = verify(&text(&lines), &[], true).unwrap();
    let told: Vec<_> = found.faults.iter().map(|fault| (fault.kind, fault.place.lane)).collect();
    assert_eq!(told, [(FaultKind::Lane, 1)], "it has no end");
    header_twice();
}

fn header_twice() {
    let mut lines = export(1, 3);
    let Line::Header(header) = &mut lines[0] else { panic!("no header") };
    header.lanes.push(header.lanes[0]);
    assert!(verify(&text(&lines), &[], true).is_err());
}

proptest! {
    /// Whichever character of a file is another one: it is no file any more, or there is a fault. Only the time at which it was
    /// made is nobody's business.
    #[test]
    fn no_byte_can_be_changed(at in 0_usize..3_000, to in "[0-9a-f\",:{}x]") {
        let whole = text(&export(2, 4));
        let at = at % whole.len();
        let free = whole.find("\"time\"").unwrap()..whole.find("\"lanes\"").unwrap();
        prop_assume!(whole.is_char_boundary(at) && !free.contains(&at) && whole[at..=at] != to);
        let changed = format!("{}{to}{}", &whole[..at], &whole[at + 1..]);
        let sound = verify(&changed, &[], true).is_ok_and(|report| report.faults.is_empty() && !report.more_faults);
        prop_assert!(!sound, "{at}: {changed}");
    }
}
