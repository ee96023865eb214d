//! What somebody who can write to the database does to the trail, as callers meet it: they sign in, list, watch and check all
//! the same.

use std::sync::Arc;

use tonic::{Code, transport::Channel};
use vouchsafe::pb::v1::{self, AuditChainFaultKind};

use super::{acts, audit, list, on_both_databases, watching::Watcher};
use crate::{
    rpc::on_forms,
    support::{Backend, TestNode, bearer, reason, until, wire::get},
};

on_both_databases!(
    whatever_is_in_the_way_people_sign_in_and_the_trail_is_read,
    as_many_watch_the_trail_as_there_are_places,
    a_lane_whose_hash_was_taken_is_shown_and_checked,
    a_lane_that_somebody_added_takes_no_event,
);

mod at_once {
    use super::{a_row_that_comes_between_keeps_nobody_from_signing_in, on_forms};
    on_forms!([postgres Postgres] [a_row_that_comes_between_keeps_nobody_from_signing_in]);
}

/// A row at a place of a lane, which says what some event says.
fn row_at(backend: Backend, lane: i64, position: &str, hash: &str) -> String {
    let id = if backend == Backend::Sqlite { "randomblob(16)" } else { "gen_random_uuid()" };
    format!(
        "INSERT INTO audit_events (id, time, act, succeeded, actor, request_id, detail, lane, position, hash) \
         SELECT {id}, time, act, succeeded, actor, request_id, detail, {lane}, {position}, {hash} FROM audit_events \
         WHERE lane IS NOT NULL ORDER BY id LIMIT 1"
    )
}

async fn verify(node: &TestNode, token: &str) -> v1::VerifyAuditChainResponse {
    let request = v1::VerifyAuditChainRequest::default();
    audit(node).await.verify_audit_chain(bearer(token, request)).await.unwrap().into_inner()
}

async fn whatever_is_in_the_way_people_sign_in_and_the_trail_is_read(backend: Backend) {
    let node = TestNode::start(backend).await;
    let root = node.join("root", &["admin"], "").await.access_token;
    node.register("ada@example.com").await;
    let mut watcher = Watcher::begin(node.channel().await, &root, "", false).await.unwrap();
    let lanes = node.database.integer("SELECT COUNT(*) FROM audit_lanes").await;
    for lane in 0..lanes {
        let next = format!("(SELECT position + 1 FROM audit_lanes WHERE id = {lane})");
        for position in [&next, "4611686018427387903", "9223372036854775807"] {
            assert_eq!(node.database.execute(&row_at(backend, lane, position, "NULL")).await, 1);
        }
    }
    for _ in 0..3 {
        node.login("ada@example.com").await;
    }
    watcher.until("login.succeeded", 3).await;
    let told = watcher.told.iter().filter(|event| event.link.as_ref().is_some_and(|link| link.position == i64::MAX));
    assert_eq!(told.count(), 0, "what is behind the head is no event");
    let filter = || v1::AuditEventFilter { act: "login.succeeded".into(), ..Default::default() };
    let listed = list(&node, &root, filter()).await;
    assert!(acts(&listed).len() >= 4);
    let found = verify(&node, &root).await;
    assert!(!found.intact);
    assert!(found.faults.iter().any(|fault| fault.kind() == AuditChainFaultKind::Unexpected));
    // A watch that begins anew gets to the end as well.
    let mut again = Watcher::begin(node.channel().await, &root, "", true).await.unwrap();
    again.until("login.succeeded", 4).await;
    drop((watcher, again));
    node.remove().await;
}

async fn a_lane_whose_hash_was_taken_is_shown_and_checked(backend: Backend) {
    let node = TestNode::start(backend).await;
    let root = node.join("root", &["admin"], "").await.access_token;
    node.register("ada@example.com").await;
    let one = "SELECT MAX(lane * 1000 + position) FROM audit_events WHERE act = 'user.registered'";
    let one = node.database.integer(one).await;
    let (lane, position) = (one / 1000, one % 1000);
    let sql = format!("UPDATE audit_events SET hash = NULL WHERE lane = {lane} AND position = {position}");
    assert_eq!(node.database.execute(&sql).await, 1);
    let all = list(&node, &root, v1::AuditEventFilter::default()).await;
    let links = || all.iter().map(|event| event.link.as_ref().unwrap());
    let bare: Vec<_> = links().filter(|link| link.hash.is_empty()).collect();
    assert_eq!((bare.len(), bare[0].lane, bare[0].position), (1, lane, position));
    let found = verify(&node, &root).await;
    let fault = &found.faults[0];
    assert_eq!((fault.kind(), fault.lane, fault.position), (AuditChainFaultKind::Altered, lane, position));
    let nothing = node.database.bytes("");
    assert_ne!(node.database.execute(&format!("UPDATE audit_lanes SET hash = {nothing}")).await, 0);
    node.login("ada@example.com").await;
    let found = verify(&node, &root).await;
    assert!(found.faults.iter().any(|fault| fault.kind() == AuditChainFaultKind::HeadMac));
    node.remove().await;
}

/// What is in it could be removed with it, and would be missing nowhere.
async fn a_lane_that_somebody_added_takes_no_event(backend: Backend) {
    let node = TestNode::start(backend).await;
    let root = node.join("root", &["admin"], "").await.access_token;
    for lane in ["-1", "1000"] {
        let sql = format!(
            "INSERT INTO audit_lanes (id, position, hash, base_hash) SELECT {lane}, 0, base_hash, base_hash \
             FROM audit_lanes WHERE id = 0"
        );
        assert_eq!(node.database.execute(&sql).await, 1);
    }
    node.register("ada@example.com").await;
    node.login("ada@example.com").await;
    assert_eq!(node.database.integer("SELECT COUNT(*) FROM audit_events WHERE lane IN (-1, 1000)").await, 0);
    let found = verify(&node, &root).await;
    assert!(!found.intact && found.faults.iter().all(|fault| [-1, 1000].contains(&fault.lane)), "{found:?}");
    node.remove().await;
}

/// The row is there when the event is written, and was not yet when its place was looked for.
async fn a_row_that_comes_between_keeps_nobody_from_signing_in(backend: Backend) {
    let node = Arc::new(TestNode::start(backend).await);
    node.register("ada@example.com").await;
    let mut foreign = node.database.postgres_pool().unwrap().begin().await.unwrap();
    let next = "(SELECT position + 1 FROM audit_lanes WHERE id = 0)";
    let sql = sqlx::AssertSqlSafe(row_at(backend, 0, next, "NULL"));
    sqlx::query(sql).execute(&mut *foreign).await.unwrap();
    let signing_in = tokio::spawn({
        let node = Arc::clone(&node);
        async move { node.login("ada@example.com").await }
    });
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' \
                   AND datname = current_database() AND query LIKE 'INSERT INTO audit_events%'";
    until("the event waits", || async { node.database.integer(waiting).await > 0 }).await;
    foreign.commit().await.unwrap();
    signing_in.await.unwrap();
    assert_eq!(node.events("act = 'login.succeeded'").await, 1);
    Arc::into_inner(node).unwrap().remove().await;
}

async fn watchers(node: &TestNode) -> i64 {
    let (_, text) = get(node.http, "/metrics").await;
    let value = text.lines().find_map(|line| line.strip_prefix("vouchsafe_audit_watchers "));
    value.unwrap().parse().unwrap()
}

async fn as_many_watch_the_trail_as_there_are_places(backend: Backend) {
    let node = TestNode::start(backend).await;
    let root = node.join("root", &["admin"], "").await.access_token;
    // On two connections, so that it is not the bound of one of them that is met.
    let channels: [Channel; 2] = [node.channel().await, node.channel().await];
    let mut all = Vec::new();
    for n in 0..64 {
        all.push(Watcher::begin(channels[n % 2].clone(), &root, "", false).await.unwrap());
    }
    assert_eq!(watchers(&node).await, 64);
    let refused = Watcher::begin(channels[0].clone(), &root, "", false).await.err().unwrap();
    assert_eq!((refused.code(), &*reason(&refused)), (Code::ResourceExhausted, "OVERLOADED"));
    assert_eq!(watchers(&node).await, 64);
    drop(all.pop());
    until("a place is free", || async { watchers(&node).await == 63 }).await;
    let last = Watcher::begin(channels[0].clone(), &root, "", false).await.unwrap();
    drop((all, last));
    until("all are gone", || async { watchers(&node).await == 0 }).await;
    node.remove().await;
}
