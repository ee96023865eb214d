//! What a node does with the audit trail by itself: it removes what is too old, and leaves the rest.

use std::{sync::Arc, time::Duration};

use vouchsafe::domain::time::Clock as _;

use crate::{
    rpc::on_both_databases,
    support::{Backend, ManualClock, TestDatabase, TestNode, until},
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
    third.remove().await;
}
