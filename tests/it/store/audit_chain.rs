//! The chains of the audit trail: nothing goes unnoticed, and nothing but that is noticed.

use std::{sync::Arc, time::Duration};

use uuid::Uuid;
use vouchsafe::{
    crypto::audit_chain::Place,
    domain::{
        audit::{Act, Actor, AuditEvent, Origin},
        time::Clock as _,
        warrant::Warrant,
    },
    store::port::{ChainCheck, ChainLink, ChainReport, FaultKind, ImportBatch, PersonalDataVault as _, Store},
};

use super::world::{World, at_once, origin};

/// A check of everything.
pub(super) fn everything() -> ChainCheck {
    ChainCheck { behind: None, checkpoint: Vec::new(), events: u64::MAX, faults: 100 }
}

impl World {
    /// What is found in the trail.
    pub(super) async fn trail(&self) -> ChainReport {
        self.store.verify_audit_chain(everything()).await.unwrap()
    }

    /// The trail, in which nothing is wrong.
    pub(super) async fn sound_trail(&self) -> ChainReport {
        let report = self.trail().await;
        assert_eq!((&report.faults, report.more_faults, report.unplaced), (&vec![], false, 0));
        assert_eq!(report.events, u64::try_from(self.events().await).unwrap(), "each event once");
        report
    }

    /// The faults of the trail, by place.
    pub(super) async fn faults(&self) -> Vec<(FaultKind, i64, i64)> {
        let faults = self.trail().await.faults;
        let mut faults: Vec<_> =
            faults.into_iter().map(|fault| (fault.kind, fault.place.lane, fault.place.position)).collect();
        faults.sort_by_key(|(kind, lane, position)| (*lane, *position, format!("{kind:?}")));
        faults
    }

    async fn events(&self) -> i64 {
        self.database.integer("SELECT COUNT(*) FROM audit_events").await
    }

    /// Records `count` events, one after the other, so that they are in one lane. Which that is.
    pub(super) async fn record(&self, count: i64) -> i64 {
        for _ in 0..count {
            self.store.record(self.event(None, Act::PasswordChanged)).await.unwrap();
        }
        assert_eq!(self.database.integer("SELECT COUNT(DISTINCT lane) FROM audit_events").await, 1);
        self.database.integer("SELECT MAX(lane) FROM audit_events").await
    }

    /// Changes rows behind the store's back, some at least.
    pub(super) async fn tamper(&self, sql: &str) {
        assert_ne!(self.database.execute(sql).await, 0, "{sql}");
    }

    fn zeros(&self) -> String {
        self.database.bytes(&"00".repeat(32))
    }
}

pub(super) async fn a_trail_that_nobody_touched_is_sound(w: Arc<World>) {
    w.sound_trail().await;
    let ada = w.user("ada").await;
    let session = w.sign_in(ada).await;
    w.granted(session, 0).await;
    w.granted(session, 5).await;
    assert!(w.end(session, Some(ada)).await);
    let report = w.sound_trail().await;
    let head: i64 = report.heads.iter().map(|head| head.link.place.position).sum();
    assert_eq!(head, w.events().await);
    assert!(report.heads.iter().all(|head| head.mac.is_some()), "empty ones too");
}

pub(super) async fn every_change_of_a_row_is_found_at_its_place(w: Arc<World>) {
    let lane = w.record(12).await;
    let id = w.database.id(&Uuid::from_u128(9));
    let bytes = w.database.bytes("0102");
    let changes = [
        "time = time + 1".to_owned(),
        "act = 'password.reset'".to_owned(),
        "succeeded = NOT succeeded".to_owned(),
        "actor = 'user'".to_owned(),
        format!("actor_id = {id}"),
        format!("subject_id = {id}"),
        format!("session_id = {id}"),
        "request_id = ''".to_owned(),
        "detail = '{\"a\":1}'".to_owned(),
        format!("personal_sealed = {bytes}"),
        "personal_sealed = NULL".to_owned(),
        format!("id = {id}"),
    ];
    for (position, change) in (1..).zip(&changes) {
        w.tamper(&format!("UPDATE audit_events SET {change} WHERE position = {position}")).await;
    }
    let expected: Vec<_> = (1..=12).map(|position| (FaultKind::Altered, lane, position)).collect();
    assert_eq!(w.faults().await, expected);
    let few = w.store.verify_audit_chain(ChainCheck { faults: 5, ..everything() }).await.unwrap();
    assert_eq!((few.faults.len(), few.more_faults), (5, true));
}

pub(super) async fn what_was_removed_inserted_or_moved_is_found(w: Arc<World>) {
    let lane = w.record(12).await;
    w.tamper("DELETE FROM audit_events WHERE position IN (3, 4)").await;
    w.tamper("UPDATE audit_events SET position = -1 WHERE position = 7").await;
    w.tamper("UPDATE audit_events SET position = 7 WHERE position = 9").await;
    w.tamper("UPDATE audit_events SET position = 9 WHERE position = -1").await;
    w.tamper("UPDATE audit_events SET lane = lane + 1000 WHERE position = 11").await;
    w.tamper("UPDATE audit_events SET position = 13 WHERE position = 12").await;
    let (altered, missing) = (FaultKind::Altered, FaultKind::Missing);
    let expected = [
        (missing, lane, 3),
        (missing, lane, 4),
        (altered, lane, 7),
        (altered, lane, 8),
        (altered, lane, 9),
        (altered, lane, 10),
        (FaultKind::Head, lane, 11),
        (FaultKind::Unexpected, lane, 13),
        (FaultKind::Unexpected, lane + 1000, 11),
    ];
    assert_eq!(w.faults().await, expected);
}

pub(super) async fn a_row_that_was_made_illegible_hides_no_other(w: Arc<World>) {
    let lane = w.record(5).await;
    let short = w.database.bytes("00");
    w.tamper(&format!("UPDATE audit_events SET hash = {short} WHERE position = 2")).await;
    w.tamper("UPDATE audit_events SET act = 'x' WHERE position = 4").await;
    assert_eq!(w.faults().await, [(FaultKind::Altered, lane, 2), (FaultKind::Altered, lane, 4)]);
}

pub(super) async fn nobody_without_the_key_writes_a_lane_anew(w: Arc<World>) {
    let lane = w.record(4).await;
    // Somebody takes the last event out, and knows what the head must say then.
    let before = w.store.read_lane(Place { lane, position: 2 }, 1).await.unwrap()[0].event.link.unwrap();
    let hash = w.database.bytes(&crate::support::hex(&before.hash));
    w.tamper(&format!("DELETE FROM audit_events WHERE lane = {lane} AND position = 4")).await;
    w.tamper(&format!("UPDATE audit_lanes SET position = 3, hash = {hash} WHERE id = {lane}")).await;
    assert_eq!(w.faults().await, [(FaultKind::HeadMac, lane, 3)]);
    // And no event that is written later vouches for it.
    w.record(3).await;
    assert_eq!(w.faults().await, [(FaultKind::HeadMac, lane, 6)]);
}

pub(super) async fn a_lane_that_was_emptied_is_not_a_new_one(w: Arc<World>) {
    let lane = w.record(4).await;
    let zeros = w.zeros();
    w.tamper("DELETE FROM audit_events").await;
    for mac in ["NULL", &zeros] {
        w.tamper(&format!("UPDATE audit_lanes SET position = 0, hash = {zeros}, mac = {mac} WHERE id = {lane}")).await;
        assert_eq!(w.faults().await, [(FaultKind::HeadMac, lane, 0)]);
    }
    w.record(2).await;
    let node = w.another_node().await;
    let report = node.verify_audit_chain(everything()).await.unwrap();
    assert_eq!(report.faults.len(), 1, "nor does a server that starts take it for one: {report:?}");
    node.close().await;
}

pub(super) async fn a_lane_whose_base_is_called_its_head_is_not_whole(w: Arc<World>) {
    let lane = w.record(4).await;
    w.wait(Duration::from_hours(1));
    assert_eq!(w.store.prune_events(w.clock.now()).await.unwrap().removed, 4);
    w.sound_trail().await;
    w.tamper("DELETE FROM audit_events").await;
    w.tamper(&format!(
        "UPDATE audit_lanes SET position = base_position, hash = base_hash, mac = base_mac WHERE id = {lane}"
    ))
    .await;
    let faults = w.faults().await;
    assert!(faults.contains(&(FaultKind::HeadMac, lane, 4)), "{faults:?}");
}

pub(super) async fn a_lane_that_is_gone_is_missed(w: Arc<World>) {
    let lane = w.record(2).await;
    w.tamper(&format!("DELETE FROM audit_lanes WHERE id = {lane}")).await;
    let expected = [(FaultKind::Lane, lane, 0), (FaultKind::Unexpected, lane, 1), (FaultKind::Unexpected, lane, 2)];
    assert_eq!(w.faults().await, expected);
}

pub(super) async fn a_checkpoint_finds_what_the_trail_alone_cannot(w: Arc<World>) {
    let lane = w.record(3).await;
    let heads = w.sound_trail().await.heads;
    let old = w.store.lanes().await.unwrap().into_iter().find(|l| l.head.link.place.lane == lane).unwrap().head;
    let saved = w.record(3).await;
    assert_eq!(saved, lane);
    let checkpoint: Vec<ChainLink> = w.sound_trail().await.heads.into_iter().map(|head| head.link).collect();
    let check = |checkpoint: &[ChainLink]| ChainCheck { checkpoint: checkpoint.to_vec(), ..everything() };
    for seen in [&checkpoint[..], &heads.iter().map(|head| head.link).collect::<Vec<_>>()] {
        assert_eq!(w.store.verify_audit_chain(check(seen)).await.unwrap().faults, []);
    }
    // A database that was set back as a whole is sound in itself.
    let bytes = |bytes: &[u8]| w.database.bytes(&crate::support::hex(bytes));
    let (hash, mac) = (bytes(&old.link.hash), bytes(&old.mac.unwrap()));
    w.tamper("DELETE FROM audit_events WHERE position > 3").await;
    w.tamper(&format!("UPDATE audit_lanes SET position = 3, hash = {hash}, mac = {mac} WHERE id = {lane}")).await;
    assert_eq!(w.faults().await, []);
    let found = w.store.verify_audit_chain(check(&checkpoint)).await.unwrap().faults;
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].kind, found[0].place), (FaultKind::Checkpoint, Place { lane, position: 6 }));
    // And one that went on otherwise from there.
    w.record(5).await;
    assert_eq!(w.faults().await, []);
    let found = w.store.verify_audit_chain(check(&checkpoint)).await.unwrap().faults;
    assert_eq!((found[0].kind, found[0].place), (FaultKind::Checkpoint, Place { lane, position: 6 }));
}

pub(super) async fn a_check_goes_on_where_it_stopped(w: Arc<World>) {
    let lane = w.record(1).await;
    let batch = w.batch_of(1, 1_200);
    w.store.import_users(Warrant::OPERATOR, batch, origin()).await.unwrap();
    w.tamper("UPDATE audit_events SET act = 'x' WHERE position = 1100").await;
    let (mut behind, mut events, mut faults, mut calls) = (None, 0, Vec::new(), 0);
    loop {
        let report = w.store.verify_audit_chain(ChainCheck { behind, events: 100, ..everything() }).await.unwrap();
        events += report.events;
        faults.extend(report.faults.into_iter().map(|fault| (fault.kind, fault.place)));
        calls += 1;
        behind = report.next;
        if behind.is_none() {
            break;
        }
    }
    assert_eq!(events, 1_201);
    assert!(calls > 2, "{calls}");
    assert_eq!(faults, [(FaultKind::Altered, Place { lane, position: 1_100 })]);
}

pub(super) async fn imports_are_chained(w: Arc<World>) {
    let mut batch = w.batch_of(1, 700);
    batch.users[3].1.user.roles = vec!["admin".into()];
    w.store.import_users(Warrant::OPERATOR, batch, origin()).await.unwrap();
    assert_eq!(w.count("user.imported").await, 700);
    assert_eq!(w.count("role.assigned").await, 1);
    w.sound_trail().await;
    let rehearsal = ImportBatch { validate_only: true, import: Uuid::from_u128(7), ..w.batch_of(1, 3) };
    w.store.import_users(Warrant::OPERATOR, rehearsal, origin()).await.unwrap();
    assert_eq!(w.sound_trail().await.events, 701, "a rehearsal is no event");
}

/// Writers on two nodes, of which some fail and some go away, and a third one that looks at it all.
pub(super) async fn writers_at_once_leave_no_gap(w: Arc<World>) {
    const WRITERS: usize = 8;
    const EVENTS: usize = 25;
    let nodes: [Arc<dyn Store>; 2] = [w.another_node().await, w.another_node().await];
    let ada = w.user("ada").await;
    let watching = {
        let w = Arc::clone(&w);
        tokio::spawn(async move {
            for _ in 0..20 {
                let report = w.trail().await;
                assert_eq!((report.faults, report.unplaced), (vec![], 0), "also while others write");
            }
        })
    };
    let written: Vec<usize> = at_once(WRITERS, |writer| {
        let (store, w) = (Arc::clone(&nodes[writer % 2]), Arc::clone(&w));
        async move {
            let mut written = 0;
            for n in 0..EVENTS {
                let event = w.event(Some(ada), Act::PasswordChanged);
                match (writer + n) % 5 {
                    // Cancelled while it waits; it is written all the same, or was not begun.
                    0 => drop(tokio::time::timeout(Duration::ZERO, store.record(event)).await),
                    // An account that there is: the transaction says so and is not committed with any event.
                    1 => {
                        let taken = w.new_user("ada");
                        let event = w.event(Some(taken.user.id), Act::Registered);
                        store.create_user(taken, vec![event]).await.unwrap();
                    }
                    _ => {
                        store.record(event).await.unwrap();
                        written += 1;
                    }
                }
            }
            written
        }
    })
    .await;
    watching.await.unwrap();
    for node in nodes {
        // Waits for those whom nobody waits for any more.
        node.close().await;
    }
    let events = w.sound_trail().await.events;
    let (least, most) = (written.iter().sum::<usize>() + 1, WRITERS * EVENTS + 1);
    assert!((least..=most).contains(&usize::try_from(events).unwrap()), "{least} {events} {most}");
    let (gaps, lanes) = (
        "SELECT COUNT(*) FROM (SELECT lane FROM audit_events GROUP BY lane \
         HAVING MIN(position) <> 1 OR MAX(position) <> COUNT(*)) AS broken",
        "SELECT SUM(position) FROM audit_lanes",
    );
    assert_eq!(w.database.integer(gaps).await, 0);
    assert_eq!(w.database.integer(&format!("SELECT CAST(({lanes}) AS BIGINT)")).await, i64::try_from(events).unwrap());
}

/// More writers than lanes wait for each other, and none for ever.
pub(super) async fn more_writers_than_lanes_all_get_one(w: Arc<World>) {
    let keep = "DELETE FROM audit_lanes WHERE id > 1";
    w.database.execute(keep).await;
    let done = at_once(50, |_| {
        let w = Arc::clone(&w);
        async move { w.store.record(w.event(None, Act::PasswordChanged)).await.unwrap() }
    });
    assert_eq!(done.await.len(), 50);
    assert_eq!(w.events().await, 50);
    let report = w.trail().await;
    assert_eq!(report.events, 50);
    assert!(report.faults.iter().all(|fault| fault.kind == FaultKind::Lane), "{report:?}");
}

pub(super) async fn events_of_older_versions_are_taken_in(w: Arc<World>) {
    let ada = w.user("ada").await;
    w.store.import_users(Warrant::OPERATOR, w.batch_of(1, 2_300), origin()).await.unwrap();
    let zeros = w.zeros();
    // As they were before there were chains.
    w.tamper("UPDATE audit_events SET lane = NULL, position = NULL, hash = NULL").await;
    w.tamper(&format!("UPDATE audit_lanes SET position = 0, hash = {zeros}, mac = NULL")).await;
    let nodes: [Arc<dyn Store>; 2] = [w.another_node().await, w.another_node().await];
    assert_eq!(w.trail().await.unplaced, 2_301);
    let adopted = at_once(2, |n| {
        let node = Arc::clone(&nodes[n]);
        async move { node.adopt_events().await.unwrap() }
    });
    w.store.record(w.event(Some(ada), Act::PasswordChanged)).await.unwrap();
    assert_eq!(adopted.await.iter().sum::<u64>(), 2_301, "each of them once");
    w.sound_trail().await;
    let told: i64 = w.details("audit.adopted").await.iter().map(|detail| detail["count"].as_i64().unwrap()).sum();
    assert_eq!(told, 2_301);
    assert_eq!(w.store.adopt_events().await.unwrap(), 0);
    for node in nodes {
        node.close().await;
    }
}

pub(super) async fn no_trail_is_begun_with_another_key(w: Arc<World>) {
    let ada = w.user("ada").await;
    let (zeros, nonsense) = (w.zeros(), w.database.bytes("00"));
    w.tamper("UPDATE audit_events SET lane = NULL, position = NULL, hash = NULL").await;
    w.tamper(&format!("UPDATE audit_lanes SET position = 0, hash = {zeros}, mac = NULL")).await;
    let key = w.database.bytes(&crate::support::hex(&w.vault.new_key(*ada.as_uuid())));
    w.tamper(&format!("UPDATE data_keys SET key_sealed = {nonsense}")).await;
    assert!(w.try_another_node().await.is_err());
    w.tamper(&format!("UPDATE data_keys SET key_sealed = {key}")).await;
    w.try_another_node().await.unwrap().close().await;
    assert_eq!(w.faults().await, []);
}

pub(super) async fn what_is_too_old_is_removed_from_the_beginning(w: Arc<World>) {
    let lane = w.record(5).await;
    let saved: Vec<ChainLink> = w.sound_trail().await.heads.into_iter().map(|head| head.link).collect();
    w.wait(Duration::from_hours(1));
    let between = w.clock.now();
    w.wait(Duration::from_hours(1));
    w.record(3).await;
    assert_eq!(w.store.prune_events(w.clock.now().minus(Duration::from_hours(9))).await.unwrap().removed, 0);
    let pruned = w.store.prune_events(between).await.unwrap();
    assert_eq!((pruned.removed, pruned.damaged_lanes), (5, 0));
    assert_eq!(w.sound_trail().await.events, 4, "what is left, and that it was removed");
    let detail = serde_json::json!({ "lane": lane, "first_position": 1, "last_position": 5, "count": 5 });
    assert_eq!(w.details("audit.pruned").await, [detail]);
    assert_eq!(w.store.prune_events(between).await.unwrap().removed, 0);
    let check = ChainCheck { checkpoint: saved, ..everything() };
    assert_eq!(w.store.verify_audit_chain(check).await.unwrap().faults, [], "a checkpoint of before holds");

    // Nobody removes a beginning by hand.
    w.tamper(&format!("DELETE FROM audit_events WHERE lane = {lane} AND position = 6")).await;
    w.tamper(&format!("UPDATE audit_lanes SET base_position = 6 WHERE id = {lane}")).await;
    let faults = w.faults().await;
    assert!(faults.contains(&(FaultKind::BaseMac, lane, 6)), "{faults:?}");
}

pub(super) async fn what_was_tampered_with_is_not_removed(w: Arc<World>) {
    let lane = w.record(5).await;
    w.tamper("UPDATE audit_events SET act = 'x' WHERE position = 2").await;
    w.wait(Duration::from_hours(1));
    let pruned = w.store.prune_events(w.clock.now()).await.unwrap();
    assert_eq!((pruned.removed, pruned.damaged_lanes), (0, 1));
    assert_eq!(w.faults().await, [(FaultKind::Altered, lane, 2)]);
}

pub(super) async fn a_check_and_a_removal_at_once_find_nothing(w: Arc<World>) {
    w.store.import_users(Warrant::OPERATOR, w.batch_of(1, 2_500), origin()).await.unwrap();
    w.wait(Duration::from_hours(1));
    let pruning = {
        let (store, before) = (Arc::clone(&w.store), w.clock.now());
        tokio::spawn(async move { store.prune_events(before).await.unwrap().removed })
    };
    while !pruning.is_finished() {
        let report = w.trail().await;
        assert_eq!(report.faults, []);
    }
    assert_eq!(pruning.await.unwrap(), 2_500);
    w.sound_trail().await;
}

pub(super) async fn whoever_looks_at_the_trail_needs_no_clock(w: Arc<World>) {
    let event =
        AuditEvent { actor: Actor::System, subject: None, act: Act::PasswordChanged, origin: Origin::default() };
    w.store.record(event.clone()).await.unwrap();
    w.clock.set(w.clock.now().minus(Duration::from_hours(48)));
    w.store.record(event).await.unwrap();
    w.sound_trail().await;
}
