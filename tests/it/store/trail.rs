//! Reading the trail: what is listed, and that whoever follows the lanes is told everything once.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use vouchsafe::{
    crypto::audit_chain::{NOTHING, Place},
    domain::{
        audit::{Act, Actor, AuditEvent, Origin, Personal},
        id::{EventId, Subject},
        session::EndReason,
        time::Clock as _,
        trail::{ActFilter, ActorFilter, ActorKind, EventCursor, EventFilter, EventOrder},
    },
    store::port::{EventListing, ReadEvent, Store},
};

use super::world::{ADDRESS, AGENT, World, at_once, origin};

async fn listed(w: &World, filter: EventFilter) -> Vec<ReadEvent> {
    let listing = EventListing { filter, order: EventOrder::OldestFirst, behind: None, limit: 1_000 };
    w.store.list_events(listing).await.unwrap()
}

async fn acts(w: &World, filter: EventFilter) -> Vec<String> {
    listed(w, filter).await.into_iter().map(|read| read.event.act).collect()
}

pub(super) async fn events_are_listed_by_every_condition(w: Arc<World>) {
    let (ada, root) = (w.user("ada").await, w.user("root").await);
    w.wait(Duration::from_secs(1));
    let session = w.sign_in(ada).await;
    let begun = w.clock.now();
    w.wait(Duration::from_secs(1));
    let origin = Origin { request_id: "asked-for".into(), ..origin() };
    let role = Act::RoleAssigned { role: "auditor".into() };
    let event = AuditEvent { actor: Actor::User(root), subject: Some(ada.into()), act: role, origin };
    w.store.record(event).await.unwrap();
    w.wait(Duration::from_secs(1));
    w.store.record(w.event(Some(ada), Act::ReauthenticationFailed)).await.unwrap();
    w.wait(Duration::from_secs(1));
    let ended = Act::SessionEnded { session, reason: EndReason::Logout };
    let event = AuditEvent { actor: Actor::System, subject: None, act: ended, origin: Origin::default() };
    w.store.record(event).await.unwrap();

    let any = EventFilter::default;
    let whole = acts(&w, any()).await;
    let last = ["login.succeeded", "role.assigned", "reauthentication.failed", "session.ended"];
    assert_eq!(whole[whole.len() - 4..], last);
    let named = EventFilter { act: Some(ActFilter::Named("role.assigned".into())), ..any() };
    assert_eq!(acts(&w, named).await, ["role.assigned"]);
    let beginning = |text: &str| EventFilter { act: Some(ActFilter::Beginning(text.into())), ..any() };
    assert_eq!(acts(&w, beginning("re")).await, ["reauthentication.failed"]);
    assert_eq!(acts(&w, beginning("rolf")).await, [""; 0]);
    let by = |actor| EventFilter { actor: Some(actor), ..any() };
    assert_eq!(acts(&w, by(ActorFilter::Subject(Subject::User(root)))).await.last().unwrap(), "role.assigned");
    assert_eq!(acts(&w, by(ActorFilter::Kind(ActorKind::System))).await, ["session.ended"]);
    let about = EventFilter { subject: Some(ada.into()), succeeded: Some(false), ..any() };
    assert_eq!(acts(&w, about).await, ["reauthentication.failed"]);
    let of_session = EventFilter { session: Some(session), ..any() };
    assert_eq!(acts(&w, of_session).await, ["login.succeeded", "session.ended"]);
    let request = EventFilter { request_id: Some("asked-for".into()), ..any() };
    assert_eq!(acts(&w, request).await, ["role.assigned"]);
    let since = acts(&w, EventFilter { since: Some(begun), ..any() }).await;
    let before = acts(&w, EventFilter { before: Some(begun), ..any() }).await;
    assert_eq!(since, last);
    assert_eq!([before, since].concat(), whole);
    let between = EventFilter { since: Some(begun), before: Some(begun.plus(Duration::from_micros(1))), ..any() };
    assert_eq!(acts(&w, between).await, ["login.succeeded"]);

    // Page by page, in either order.
    let forwards = listed(&w, any()).await;
    for (order, expected) in [
        (EventOrder::OldestFirst, forwards.clone()),
        (EventOrder::NewestFirst, forwards.iter().rev().cloned().collect()),
    ] {
        let (mut behind, mut found) = (None, Vec::new());
        loop {
            let listing = EventListing { filter: any(), order, behind, limit: 2 };
            let page = w.store.list_events(listing).await.unwrap();
            let Some(last) = page.last() else { break };
            behind = Some(EventCursor { time: last.event.time, id: last.event.id });
            found.extend(page);
        }
        assert_eq!(found, expected, "{order:?}");
    }
}

pub(super) async fn what_is_personal_opens_while_its_key_is_there(w: Arc<World>) {
    let ada = w.user("ada").await;
    w.store.record(w.event(Some(ada), Act::PasswordChanged)).await.unwrap();
    w.store.record(w.event(None, Act::PasswordRehashed)).await.unwrap();
    let personal = async |act: &str| {
        let filter = EventFilter { act: Some(ActFilter::Named(act.into())), ..EventFilter::default() };
        listed(&w, filter).await.remove(0).personal
    };
    let known = Personal { ip_address: ADDRESS.into(), user_agent: AGENT.into() };
    assert_eq!(personal("password.changed").await, known);
    assert_eq!(personal("password.rehashed").await, known, "under the key of nobody");
    let id = w.database.id(ada.as_uuid());
    assert_eq!(w.database.execute(&format!("DELETE FROM data_keys WHERE owner_id = {id}")).await, 1);
    assert_eq!(personal("password.changed").await, Personal::default());
    assert_eq!(personal("password.rehashed").await, known);
}

/// Takes in what is new in every lane. Panics at a gap.
async fn follow(store: &dyn Store, reached: &mut BTreeMap<i64, i64>, told: &mut Vec<EventId>) {
    for lane in store.lanes().await.unwrap() {
        let Place { lane, position: head } = lane.head.link.place;
        let position = reached.get(&lane).copied().unwrap_or(0);
        if head == position {
            continue;
        }
        for read in store.read_lane(Place { lane, position }, 7).await.unwrap() {
            let place = read.event.link.unwrap().place;
            let before = reached.insert(lane, place.position).unwrap_or(0);
            assert_eq!((place.lane, place.position), (lane, before + 1), "a gap");
            told.push(read.event.id);
        }
    }
}

/// They sealed address and agent under the subject's key, whoever had acted, and under nobody's where the subject is no user.
pub(super) async fn what_older_versions_sealed_opens_until_whoever_acted_is_gone(w: Arc<World>) {
    let (ada, root) = (w.user("ada").await, w.user("root").await);
    let role = Act::RoleAssigned { role: "auditor".into() };
    w.store.record(AuditEvent { actor: Actor::Anonymous, ..w.event(Some(ada), role.clone()) }).await.unwrap();
    w.store.record(AuditEvent { actor: Actor::Anonymous, ..w.event(None, role) }).await.unwrap();
    let by_root = format!("actor = 'user', actor_id = {}", w.database.id(root.as_uuid()));
    let sql = format!("UPDATE audit_events SET {by_root} WHERE act = 'role.assigned'");
    assert_eq!(w.database.execute(&sql).await, 2);
    let addresses = async || {
        let act = Some(ActFilter::Named("role.assigned".into()));
        let read = listed(&w, EventFilter { act, ..EventFilter::default() }).await;
        let mut addresses: Vec<_> = read.into_iter().map(|read| read.personal.ip_address).collect();
        addresses.sort_unstable();
        addresses
    };
    assert_eq!(addresses().await, [ADDRESS, ADDRESS]);
    let forget = async |id: &str| {
        assert_eq!(w.database.execute(&format!("DELETE FROM data_keys WHERE owner_id = {id}")).await, 1);
    };
    forget(&w.database.id(ada.as_uuid())).await;
    assert_eq!(addresses().await, ["", ADDRESS], "nothing of an erased subject opens by another key");
    forget(&w.database.id(root.as_uuid())).await;
    assert_eq!(addresses().await, ["", ""], "nor anything of who acted and was erased");
}

pub(super) async fn whoever_follows_the_lanes_is_told_everything_once(w: Arc<World>) {
    const WRITERS: usize = 8;
    const EACH: usize = 15;
    let others = [Arc::clone(&w.store), w.another_node().await];
    let (mut reached, mut told) = (BTreeMap::new(), Vec::new());
    follow(&*w.store, &mut reached, &mut told).await;
    let writing = tokio::spawn({
        let (w, others) = (Arc::clone(&w), others.clone());
        async move {
            let write = |n: usize| {
                let (w, store) = (Arc::clone(&w), Arc::clone(&others[n % 2]));
                async move {
                    for _ in 0..EACH {
                        store.record(w.event(None, Act::PasswordChanged)).await.unwrap();
                    }
                }
            };
            at_once(WRITERS, write).await;
        }
    });
    while !writing.is_finished() {
        follow(&*others[1], &mut reached, &mut told).await;
    }
    writing.await.unwrap();
    let all = listed(&w, EventFilter::default()).await;
    while told.len() < all.len() {
        let before = told.len();
        follow(&*w.store, &mut reached, &mut told).await;
        assert!(told.len() > before, "{} of {} events are in no lane", all.len() - before, all.len());
    }
    let ids: BTreeSet<_> = told.iter().copied().collect();
    assert_eq!((told.len(), ids), (WRITERS * EACH, all.iter().map(|read| read.event.id).collect()));

    // Each hash is over the event and the one before it, and the head is the last of them.
    for lane in w.store.lanes().await.unwrap() {
        let mut hash = NOTHING;
        let start = Place { position: 0, ..lane.head.link.place };
        for read in w.store.read_lane(start, 1_000).await.unwrap() {
            let link = read.event.link.unwrap();
            hash = read.event.chained().hash(link.place, &hash);
            assert_eq!(link.hash, hash);
        }
        assert_eq!(lane.head.link.hash, hash);
        assert!(lane.head.mac.is_some() || lane.head.link.place.position == 0);
        assert_eq!(lane.base.link.place.position, 0);
    }
    others[1].close().await;
}
