//! Watching the trail: each event once, whichever node recorded it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio::time::timeout;
use tonic::{Code, Status, Streaming, transport::Channel};
use vouchsafe::pb::v1::{self, WatchAuditEventsResponse, audit_service_client::AuditServiceClient};

use super::{list, on_both_databases};
use crate::support::{Backend, TestDatabase, TestNode, bearer, fields, reason};

on_both_databases!(
    every_event_is_told_once_whoever_recorded_it,
    a_watch_ends_when_its_bearer_may_no_longer,
    a_watch_ends_with_its_token,
    a_cursor_of_another_trail_is_refused,
);

/// No message takes that long: there are heartbeats.
const BOUND: Duration = Duration::from_mins(1);

/// Somebody who watches.
pub(super) struct Watcher {
    stream: Streaming<WatchAuditEventsResponse>,
    cursor: String,
    pub(super) told: Vec<v1::AuditEvent>,
}

impl Watcher {
    pub(super) async fn begin(
        channel: Channel,
        token: &str,
        cursor: &str,
        from_beginning: bool,
    ) -> Result<Self, Status> {
        let request = v1::WatchAuditEventsRequest { cursor: cursor.to_owned(), from_beginning };
        let mut client = AuditServiceClient::new(channel);
        let answer = timeout(BOUND, client.watch_audit_events(bearer(token, request))).await.unwrap()?;
        let mut watcher = Self { stream: answer.into_inner(), cursor: String::new(), told: Vec::new() };
        let first = timeout(BOUND, watcher.stream.message()).await.unwrap()?.unwrap();
        assert!(first.events.is_empty() && !first.lanes.is_empty() && !first.cursor.is_empty());
        watcher.cursor = first.cursor;
        Ok(watcher)
    }

    async fn hear(&mut self) -> Result<usize, Status> {
        let message = timeout(BOUND, self.stream.message()).await.unwrap()?.expect("it goes on");
        assert!(message.lanes.is_empty() && message.server_time.is_some());
        let count = message.events.len();
        self.told.extend(message.events);
        self.cursor = message.cursor;
        Ok(count)
    }

    /// Takes in messages until so many such events were told.
    pub(super) async fn until(&mut self, act: &str, count: usize) {
        while self.told.iter().filter(|event| event.act == act).count() < count {
            self.hear().await.unwrap();
        }
    }

    /// How it ends.
    async fn end(&mut self) -> Status {
        loop {
            if let Err(status) = self.hear().await {
                return status;
            }
        }
    }
}

fn ids(events: &[v1::AuditEvent]) -> BTreeSet<String> {
    events.iter().map(|event| event.event_id.clone()).collect()
}

/// Two nodes where there can be two, otherwise one.
async fn nodes(backend: Backend) -> Vec<Arc<TestNode>> {
    let database = Arc::new(TestDatabase::migrated(backend).await);
    let count = if backend == Backend::Sqlite { 1 } else { 2 };
    let mut nodes = Vec::new();
    for _ in 0..count {
        nodes.push(Arc::new(TestNode::on(Arc::clone(&database)).start().await));
    }
    nodes
}

async fn remove(nodes: Vec<Arc<TestNode>>) {
    let database = Arc::clone(&nodes[0].database);
    for node in nodes {
        Arc::into_inner(node).unwrap().stop().await;
    }
    database.remove().await;
}

async fn every_event_is_told_once_whoever_recorded_it(backend: Backend) {
    const PEOPLE: usize = 6;
    const SIGN_INS: usize = 5;
    let nodes = nodes(backend).await;
    let root = nodes[0].join("root", &["admin"], "").await.access_token;
    for n in 0..PEOPLE {
        nodes[0].register(&format!("user{n}@example.com")).await;
    }
    let mut now = Watcher::begin(nodes[0].channel().await, &root, "", false).await.unwrap();
    let before = list(&nodes[0], &root, v1::AuditEventFilter::default()).await;
    // At once, at every node, so that transactions end in another order than they began.
    let sign_ins = (0..PEOPLE).map(|n| {
        let node = Arc::clone(&nodes[n % nodes.len()]);
        tokio::spawn(async move {
            for _ in 0..SIGN_INS {
                node.login(&format!("user{n}@example.com")).await;
            }
        })
    });
    let sign_ins: Vec<_> = sign_ins.collect();
    // Half of them, and the rest at another node.
    now.until("login.succeeded", PEOPLE * SIGN_INS / 2).await;
    let first_half = now.told;
    let mut later = Watcher::begin(nodes[nodes.len() - 1].channel().await, &root, &now.cursor, false).await.unwrap();
    drop(now.stream);
    later.told = first_half;
    later.until("login.succeeded", PEOPLE * SIGN_INS).await;
    for sign_in in sign_ins {
        sign_in.await.unwrap();
    }
    // Whatever else there is comes with the next messages, of which one is surely begun after this.
    later.hear().await.unwrap();
    later.hear().await.unwrap();
    let all = list(&nodes[0], &root, v1::AuditEventFilter::default()).await;
    let since: BTreeSet<_> = ids(&all).difference(&ids(&before)).cloned().collect();
    assert_eq!(later.told.len(), ids(&later.told).len(), "told twice");
    assert_eq!(ids(&later.told), since);
    assert_in_order(&later.told);

    let mut whole = Watcher::begin(nodes[0].channel().await, &root, "", true).await.unwrap();
    while whole.told.len() < all.len() {
        whole.hear().await.unwrap();
    }
    assert_eq!(ids(&whole.told), ids(&all));
    assert_in_order(&whole.told);
    // As the list tells it.
    let find = |id: &str| all.iter().find(|event| event.event_id == id).unwrap();
    assert!(whole.told.iter().all(|event| event == find(&event.event_id)));
    drop((whole, later));
    remove(nodes).await;
}

/// Those of one lane come in their order, without a gap.
fn assert_in_order(events: &[v1::AuditEvent]) {
    let mut last: BTreeMap<i64, i64> = BTreeMap::new();
    for event in events {
        let link = event.link.as_ref().unwrap();
        if let Some(before) = last.insert(link.lane, link.position) {
            assert_eq!(link.position, before + 1, "in lane {}", link.lane);
        }
    }
}

async fn a_watch_ends_when_its_bearer_may_no_longer(backend: Backend) {
    let node = TestNode::start(backend).await;
    node.database.make_role("auditor", &["audit:read"]).await;
    let root = node.join("root", &["admin"], "").await.access_token;
    let eve = node.join("eve", &["auditor"], "").await.access_token;
    let mut watcher = Watcher::begin(node.channel().await, &eve, "", false).await.unwrap();
    node.redefine(&root, "auditor", &["users:read"]).await.unwrap();
    let end = watcher.end().await;
    assert_eq!((end.code(), reason(&end).as_str()), (Code::PermissionDenied, "PERMISSION_DENIED"));
    assert!(watcher.told.iter().all(|event| event.act != "login.succeeded"), "what is told from now on");
    drop(watcher);
    node.remove().await;
}

async fn a_watch_ends_with_its_token(backend: Backend) {
    let node = TestNode::start(backend).await;
    let root = node.join("root", &["admin"], "").await;
    let mut watcher = Watcher::begin(node.channel().await, &root.access_token, "", false).await.unwrap();
    node.logout(&root.refresh_token).await.unwrap();
    let end = watcher.end().await;
    assert_eq!((end.code(), reason(&end).as_str()), (Code::Unauthenticated, "ACCESS_TOKEN_INVALID"));
    drop(watcher);
    node.remove().await;
}

async fn a_cursor_of_another_trail_is_refused(backend: Backend) {
    let (long, short) = (TestNode::start(backend).await, TestNode::start(backend).await);
    let root = long.join("root", &["admin"], "").await.access_token;
    let other = short.join("root", &["admin"], "").await.access_token;
    // More than there are lanes, so that some lane is longer for sure.
    for n in 0..70 {
        long.register(&format!("user{n}@example.com")).await;
    }
    let cursor = Watcher::begin(long.channel().await, &root, "", false).await.unwrap().cursor;
    let refused = Watcher::begin(short.channel().await, &other, &cursor, false).await.err().unwrap();
    assert_eq!(fields(&refused), ["cursor"]);
    assert!(refused.message().contains("restored") || format!("{refused:?}").contains("restored"), "{refused:?}");
    // Removed for age, as retention does it.
    let begun = Watcher::begin(long.channel().await, &root, "", true).await.unwrap().cursor;
    assert_eq!(long.database.execute("DELETE FROM audit_events WHERE lane = 0 AND position = 1").await, 1);
    let sql = "UPDATE audit_lanes SET base_position = 1 WHERE id = 0";
    assert_eq!(long.database.execute(sql).await, 1);
    let refused = Watcher::begin(long.channel().await, &root, &begun, false).await.err().unwrap();
    assert_eq!(fields(&refused), ["cursor"]);
    let mut again = Watcher::begin(long.channel().await, &root, "", true).await.unwrap();
    again.until("user.registered", 60).await;
    drop(again);
    long.remove().await;
    short.remove().await;
}
