//! What somebody who can write to the database does to the audit trail keeps nobody from recording, reading or checking it, and
//! shows for ever.

use std::sync::Arc;

use uuid::Uuid;
use vouchsafe::{
    crypto::audit_chain::{Place, UNREADABLE},
    domain::{
        audit::Act,
        time::Clock as _,
        trail::{EventFilter, EventOrder},
    },
    store::port::{ChainCheck, ChainLink, EventListing, FaultKind, ReadEvent},
};

use super::{audit_chain::everything, world::World};

/// The highest place that a lane may ever come to, and the highest there is.
const CEILING: i64 = 1 << 62;

impl World {
    /// Puts a row at a place, which says what the first one of the lane says.
    async fn put_row(&self, lane: i64, position: i64) {
        let id = self.database.id(&Uuid::from_u128(u128::from(position.unsigned_abs())));
        let sql = format!(
            "INSERT INTO audit_events (id, time, act, succeeded, actor, request_id, detail, lane, position, hash) \
             SELECT {id}, time, act, succeeded, actor, request_id, detail, lane, {position}, hash FROM audit_events \
             WHERE lane = {lane} AND position = 1"
        );
        self.tamper(&sql).await;
    }

    async fn set_lane(&self, lane: i64, change: &str) {
        self.tamper(&format!("UPDATE audit_lanes SET {change} WHERE id = {lane}")).await;
    }

    async fn head_of(&self, lane: i64) -> ChainLink {
        let lanes = self.store.lanes().await.unwrap();
        lanes.iter().find(|known| known.head.link.place.lane == lane).unwrap().head.link
    }

    async fn listed(&self) -> Vec<ReadEvent> {
        let (filter, order) = (EventFilter::default(), EventOrder::OldestFirst);
        self.store.list_events(EventListing { filter, order, behind: None, limit: 1_000 }).await.unwrap()
    }

    async fn against(&self, checkpoint: &[ChainLink]) -> (Vec<(FaultKind, i64)>, Vec<ChainLink>) {
        let check = ChainCheck { checkpoint: checkpoint.to_vec(), ..everything() };
        let report = self.store.verify_audit_chain(check).await.unwrap();
        let plain = report.faults.iter().map(|fault| (fault.kind, fault.place.position));
        (plain.collect(), report.not_compared)
    }
}

pub(super) async fn a_row_behind_the_head_keeps_nobody_from_recording(w: Arc<World>) {
    let lane = w.record(3).await;
    w.put_row(lane, 4).await;
    assert_eq!(w.faults().await, [(FaultKind::Unexpected, lane, 4)]);
    w.record(2).await;
    let (altered, mac) = (FaultKind::Altered, FaultKind::HeadMac);
    // The row, the event behind it, which does not follow it, and an end that nobody vouches for.
    assert_eq!(w.faults().await, [(altered, lane, 4), (altered, lane, 5), (mac, lane, 6)]);
    // Nothing is left there with which an earlier end could be put back, and what came since be removed.
    assert_eq!(w.database.integer("SELECT count(*) FROM audit_lanes WHERE mac IS NULL").await, 1);
    // Whoever takes the row out again leaves a trace of that as well.
    w.tamper("DELETE FROM audit_events WHERE position = 4").await;
    w.record(1).await;
    assert_eq!(w.faults().await, [(FaultKind::Missing, lane, 4), (mac, lane, 7)]);
}

pub(super) async fn rows_at_any_height_keep_nobody_from_recording(w: Arc<World>) {
    let lane = w.record(3).await;
    w.put_row(lane, i64::MAX).await;
    w.put_row(lane, CEILING).await;
    w.record(1).await;
    // Nobody ever comes there.
    let unexpected = FaultKind::Unexpected;
    assert_eq!(w.faults().await, [(unexpected, lane, CEILING), (unexpected, lane, i64::MAX)]);
    w.put_row(lane, 9).await;
    w.record(1).await;
    assert_eq!(w.head_of(lane).await.place.position, 10, "behind what was put there");
    w.put_row(lane, CEILING - 1).await;
    w.record(3).await;
    let faults = w.faults().await;
    let found = |kind, position| faults.contains(&(kind, lane, position));
    assert!(found(FaultKind::Missing, 5) && found(FaultKind::Altered, 10) && found(unexpected, CEILING), "{faults:?}");
    assert!(faults.iter().any(|(kind, ..)| *kind == FaultKind::HeadMac), "{faults:?}");
}

pub(super) async fn a_head_that_was_moved_keeps_nobody_from_recording(w: Arc<World>) {
    let lane = w.record(3).await;
    let bytes = |bytes: &[u8]| w.database.bytes(&crate::support::hex(bytes));
    let old = w.store.lanes().await.unwrap().into_iter().find(|l| l.head.link.place.lane == lane).unwrap().head;
    w.record(3).await;
    // As it was, vouched for and all, while the rows are still there.
    let (hash, mac) = (bytes(&old.link.hash), bytes(&old.mac.unwrap()));
    w.set_lane(lane, &format!("position = 3, hash = {hash}, mac = {mac}")).await;
    w.record(1).await;
    assert_eq!(w.faults().await, [(FaultKind::Altered, lane, 7), (FaultKind::HeadMac, lane, 7)]);
    for position in [1, 0, -5, i64::MIN, CEILING, i64::MAX] {
        w.set_lane(lane, &format!("position = {position}")).await;
        let before = w.listed().await.len();
        w.record(1).await;
        assert_eq!(w.listed().await.len(), before + 1);
        let report = w.trail().await;
        assert!(report.faults.iter().any(|fault| fault.kind == FaultKind::HeadMac) || report.more_faults);
        assert!((1..CEILING).contains(&w.head_of(lane).await.place.position), "{position}");
    }
}

pub(super) async fn half_a_place_blocks_nothing(w: Arc<World>) {
    let lane = w.record(9).await;
    let short = w.database.bytes("00");
    w.tamper("UPDATE audit_events SET hash = NULL WHERE position = 2").await;
    w.tamper(&format!("UPDATE audit_events SET hash = {short} WHERE position = 4")).await;
    w.tamper("UPDATE audit_events SET position = NULL WHERE position = 6").await;
    w.tamper("UPDATE audit_events SET lane = NULL WHERE position = 8").await;
    let listed = w.listed().await;
    assert_eq!(listed.len(), 9);
    let unreadable = listed.iter().filter(|read| read.event.link.is_some_and(|link| link.hash == UNREADABLE));
    assert_eq!(unreadable.count(), 2);
    assert_eq!(listed.iter().filter(|read| read.event.link.is_none()).count(), 2);
    let followed = w.store.read_lane(Place { lane, position: 0 }, 100).await.unwrap();
    let followed: Vec<_> = followed.iter().map(|read| read.event.link.unwrap().place.position).collect();
    assert_eq!(followed, [1, 2, 3, 4, 5, 7, 9]);
    // What names no lane is taken for an event of an older version, whatever else it says.
    assert_eq!(w.store.adopt_events().await.unwrap(), 1);
    assert_eq!(w.store.adopt_events().await.unwrap(), 0);
    w.record(1).await;
    let (altered, missing) = (FaultKind::Altered, FaultKind::Missing);
    let expected = [
        (FaultKind::Unexpected, lane, 0),
        (altered, lane, 2),
        (altered, lane, 4),
        (missing, lane, 6),
        (missing, lane, 8),
    ];
    assert_eq!(w.faults().await, expected);
    w.wait(std::time::Duration::from_hours(1));
    let pruned = w.store.prune_events(w.clock.now()).await.unwrap();
    assert_eq!((pruned.removed, pruned.damaged_lanes), (0, 1));
}

pub(super) async fn a_lane_that_cannot_be_read_goes_on(w: Arc<World>) {
    let lane = w.record(3).await;
    let short = w.database.bytes("00");
    w.set_lane(lane, &format!("base_hash = {short}")).await;
    assert_eq!(w.faults().await, [(FaultKind::BaseMac, lane, 0)]);
    let zeros = w.database.bytes(&"00".repeat(32));
    w.set_lane(lane, &format!("base_hash = {zeros}, hash = {short}")).await;
    assert_eq!(w.faults().await, [(FaultKind::Head, lane, 3), (FaultKind::HeadMac, lane, 3)]);
    w.record(2).await;
    assert_eq!(w.faults().await, [(FaultKind::Altered, lane, 4), (FaultKind::HeadMac, lane, 5)]);
    w.set_lane(lane, &format!("mac = {short}")).await;
    w.record(1).await;
    assert_eq!(w.faults().await, [(FaultKind::Altered, lane, 4), (FaultKind::HeadMac, lane, 6)]);
}

pub(super) async fn without_a_lane_events_are_recorded_without_a_place(w: Arc<World>) {
    w.record(2).await;
    w.tamper("DELETE FROM audit_lanes").await;
    w.store.record(w.event(None, Act::PasswordChanged)).await.unwrap();
    assert_eq!(w.store.adopt_events().await.unwrap(), 0);
    let report = w.trail().await;
    assert_eq!(report.unplaced, 1);
    assert!(report.faults.iter().any(|fault| fault.kind == FaultKind::Lane), "{report:?}");
}

pub(super) async fn a_gap_hides_nothing_behind_it(w: Arc<World>) {
    let lane = w.record(3).await;
    w.put_row(lane, 1_000_000).await;
    w.record(2).await;
    let report = w.trail().await;
    assert!(report.more_faults);
    let last = report.faults.iter().rev().take(2).map(|fault| (fault.kind, fault.place.position)).collect::<Vec<_>>();
    assert_eq!(last, [(FaultKind::HeadMac, 1_000_002), (FaultKind::Altered, 1_000_001)]);
    assert_eq!(report.faults[0].place.position, 4);
}

pub(super) async fn what_a_checkpoint_names_is_compared_or_told(w: Arc<World>) {
    let lane = w.record(3).await;
    let at_3 = w.head_of(lane).await;
    w.record(2).await;
    let at_5 = w.head_of(lane).await;
    let other = ChainLink { hash: [7; 32], ..at_3 };
    assert_eq!(w.against(&[at_3]).await, (vec![], vec![]));
    assert_eq!(w.against(&[other]).await.0, [(FaultKind::Checkpoint, 3)]);
    // It says of an event that is not there any more.
    w.tamper("DELETE FROM audit_events WHERE position = 3").await;
    assert_eq!(w.against(&[at_3]).await.0, [(FaultKind::Missing, 3), (FaultKind::Checkpoint, 3)]);
    w.tamper("DELETE FROM audit_events WHERE position >= 3").await;
    let faults = w.against(&[at_3]).await.0;
    assert!(faults.contains(&(FaultKind::Checkpoint, 3)) && faults.contains(&(FaultKind::Head, 3)), "{faults:?}");
    assert_eq!(w.against(&[at_5]).await.0.len(), 2);
}

pub(super) async fn what_was_removed_for_its_age_is_told_to_be_not_compared(w: Arc<World>) {
    let lane = w.record(3).await;
    let at_3 = w.head_of(lane).await;
    w.record(2).await;
    let at_5 = w.head_of(lane).await;
    w.wait(std::time::Duration::from_hours(1));
    assert_eq!(w.store.prune_events(w.clock.now()).await.unwrap().removed, 5);
    assert_eq!(w.against(&[at_3]).await, (vec![], vec![at_3]));
    // The last one that was removed is kept, and compared.
    assert_eq!(w.against(&[at_5]).await, (vec![], vec![]));
    let other = ChainLink { hash: [7; 32], ..at_5 };
    assert_eq!(w.against(&[other]).await, (vec![(FaultKind::Checkpoint, 5)], vec![]));
    // Once, in however many calls.
    w.record(4).await;
    let (mut behind, mut told) = (None, Vec::new());
    loop {
        let check = ChainCheck { behind, checkpoint: vec![at_3], events: 1, faults: 10 };
        let report = w.store.verify_audit_chain(check).await.unwrap();
        assert_eq!(report.faults, []);
        told.extend(report.not_compared);
        behind = report.next;
        if behind.is_none() {
            break;
        }
    }
    assert_eq!(told, [at_3]);
}
