//! What a node does with the audit trail by itself: it removes what is too old, and leaves the rest.

use std::{sync::Arc, time::Duration};

use vouchsafe::{
    domain::time::Clock as _,
    pb::v1::{self, audit_service_client::AuditServiceClient},
};

use crate::{
    rpc::on_both_databases,
    support::{Backend, ManualClock, TestDatabase, TestNode, bearer, until},
};

on_both_databases!(a_node_removes_events_that_are_too_old);

async fn a_node_removes_events_that_are_too_old(backend: Backend) {
    let clock = Arc::new(ManualClock::new());
    let database = Arc::new(TestDatabase::migrated(backend).await);
    let node = || TestNode::on(Arc::clone(&database)).clock(Arc::clone(&clock) as _).set("audit.retention=400d");
    let first = node().start().await;
    first.register("ada@example.com").await;
    first.stop().await;
    clock.set(clock.now().plus(Duration::from_hours(24 * 399)));
    let second = node().start().await;
    second.register("bob@example.com").await;
    assert_eq!(second.events("act = 'user.registered'").await, 2);
    second.stop().await;
    clock.set(clock.now().plus(Duration::from_hours(24 * 3)));
    let third = node().start().await;
    until("the events of the first days are gone", || async { third.events("act = 'audit.pruned'").await > 0 }).await;
    until("one registration is left", || async { third.events("act = 'user.registered'").await == 1 }).await;
    what_is_gone_is_not_compared(&third).await;
    third.remove().await;
}

/// A checkpoint of the first days names what is not there any more.
async fn what_is_gone_is_not_compared(node: &TestNode) {
    let root = node.join("root", &["admin"], "").await.access_token;
    let cut = "SELECT id FROM audit_lanes WHERE base_position > 1 ORDER BY id LIMIT 1";
    let lane = node.database.integer(cut).await;
    let seen = v1::AuditLink { lane, position: 1, hash: vec![7; 32] };
    let checkpoint = vec![v1::AuditLaneEnd { link: Some(seen.clone()), mac: Vec::new() }];
    let request = v1::VerifyAuditChainRequest { checkpoint, ..Default::default() };
    let mut client = AuditServiceClient::new(node.shared().await);
    let found = client.verify_audit_chain(bearer(&root, request)).await.unwrap().into_inner();
    assert!(found.intact, "{found:?}");
    assert_eq!(found.not_compared, [seen]);
}
