//! `AuditService` as an auditor meets it.

mod watching;

use std::collections::BTreeSet;

use tonic::{Code, Status, transport::Channel};
use vouchsafe::pb::v1::{self, audit_service_client::AuditServiceClient};

use super::on_both_databases;
use crate::support::{Backend, PASSWORD, TestNode, bearer, fields, login_request};

on_both_databases!(
    events_are_found_by_what_they_say,
    events_are_listed_page_by_page_in_either_order,
    what_is_personal_is_shown_until_the_user_is_gone,
    what_is_malformed_is_named_field_by_field,
    a_trail_that_nobody_touched_is_intact,
    what_was_done_to_the_trail_is_named,
);

async fn audit(node: &TestNode) -> AuditServiceClient<Channel> {
    AuditServiceClient::new(node.shared().await)
}

async fn try_list(
    node: &TestNode,
    token: &str,
    request: v1::ListAuditEventsRequest,
) -> Result<v1::ListAuditEventsResponse, Status> {
    Ok(audit(node).await.list_audit_events(bearer(token, request)).await?.into_inner())
}

/// All events of a filter, the latest first.
async fn list(node: &TestNode, token: &str, filter: v1::AuditEventFilter) -> Vec<v1::AuditEvent> {
    let request = v1::ListAuditEventsRequest { page_size: 1000, filter: Some(filter), ..Default::default() };
    let v1::ListAuditEventsResponse { events, next_page_token } = try_list(node, token, request).await.unwrap();
    assert_eq!(next_page_token, "");
    events
}

fn acts(events: &[v1::AuditEvent]) -> Vec<&str> {
    events.iter().map(|event| event.act.as_str()).collect()
}

async fn events_are_found_by_what_they_say(backend: Backend) {
    let node = TestNode::start(backend).await;
    let root = node.join("root", &["admin"], "").await.access_token;
    let ada = node.register("ada@example.com").await;
    node.try_login(login_request("ada@example.com", "wrong")).await.unwrap_err();
    let mut request = tonic::Request::new(login_request("ada@example.com", PASSWORD));
    request.metadata_mut().insert("x-request-id", "looked-for".parse().unwrap());
    let answer = node.auth().await.login(request).await.unwrap().into_inner();
    let Some(v1::login_response::Outcome::Tokens(tokens)) = answer.outcome else { panic!("a challenge") };
    node.logout(&tokens.refresh_token).await.unwrap();
    node.redefine(&root, "nobody", &["a:b"]).await.unwrap_err();

    let any = v1::AuditEventFilter::default;
    let all = list(&node, &root, any()).await;
    assert!(all.len() >= 5, "{:?}", acts(&all));
    let root_id = all.iter().find(|event| event.act == "login.succeeded" && event.subject_id != ada.id).unwrap();
    let root_id = root_id.subject_id.clone();
    let found = async |filter| list(&node, &root, filter).await;
    let about_ada = found(v1::AuditEventFilter { subject: ada.id.clone(), ..any() }).await;
    assert_eq!(acts(&about_ada), ["session.ended", "login.succeeded", "login.failed", "user.registered"]);
    let failed = found(v1::AuditEventFilter { act: "login.failed".into(), ..any() }).await;
    assert_eq!(failed.len(), 1);
    let event = &failed[0];
    assert_eq!((event.actor.as_str(), event.actor_id.as_str(), event.succeeded), ("anonymous", "", false));
    assert_eq!(event.subject_id, ada.id);
    assert!(event.detail_json.contains(r#""cause":"wrong_password""#), "{}", event.detail_json);
    let cause = event.detail.as_ref().unwrap().fields["cause"].kind.clone();
    assert_eq!(cause, Some(prost_types::value::Kind::StringValue("wrong_password".into())));
    assert_eq!(found(v1::AuditEventFilter { succeeded: Some(false), ..any() }).await, failed);
    let link = event.link.as_ref().unwrap();
    assert!(link.position > 0 && link.hash.len() == 32 && !event.personal_sealed.is_empty());

    let logins = found(v1::AuditEventFilter { act: "login.*".into(), ..any() }).await;
    assert_eq!(acts(&logins), ["login.succeeded", "login.failed", "login.succeeded"]);
    let asked = found(v1::AuditEventFilter { request_id: "looked-for".into(), ..any() }).await;
    assert_eq!((acts(&asked), asked[0].session_id.as_str()), (vec!["login.succeeded"], tokens.session_id.as_str()));
    let session = found(v1::AuditEventFilter { session_id: tokens.session_id.clone(), ..any() }).await;
    assert_eq!(acts(&session), ["session.ended", "login.succeeded"]);
    let by_ada = found(v1::AuditEventFilter { actor: ada.id.clone(), ..any() }).await;
    assert!(by_ada.iter().all(|event| event.actor == "user" && event.actor_id == ada.id) && !by_ada.is_empty());
    assert!(found(v1::AuditEventFilter { actor: "operator".into(), ..any() }).await.is_empty());
    let anonymous = found(v1::AuditEventFilter { actor: "anonymous".into(), subject: ada.id.clone(), ..any() }).await;
    assert!(acts(&anonymous).contains(&"login.failed"));
    let both = v1::AuditEventFilter { act: "login.succeeded".into(), subject: root_id, ..any() };
    assert_eq!(found(both).await.len(), 1);

    // From a moment on, and before it: nothing is lost between.
    let moment = about_ada[1].time;
    let since = found(v1::AuditEventFilter { since: moment, ..any() }).await;
    let before = found(v1::AuditEventFilter { before: moment, ..any() }).await;
    assert_eq!([since.clone(), before].concat(), all);
    assert!(since.contains(&about_ada[1]));
    node.remove().await;
}

async fn events_are_listed_page_by_page_in_either_order(backend: Backend) {
    let node = TestNode::start(backend).await;
    let root = node.join("root", &["admin"], "").await.access_token;
    for n in 0..7 {
        node.join(&format!("user{n}"), &[], "").await;
    }
    let filter = v1::AuditEventFilter { act: "login.succeeded".into(), ..Default::default() };
    let newest = list(&node, &root, filter.clone()).await;
    assert_eq!(newest.len(), 8);
    assert!(newest.is_sorted_by_key(|event| std::cmp::Reverse(event.time.map(|t| (t.seconds, t.nanos)))));
    for (order, expected) in [
        (v1::AuditOrder::NewestFirst, newest.clone()),
        (v1::AuditOrder::OldestFirst, newest.iter().rev().cloned().collect()),
    ] {
        let (mut page_token, mut found) = (String::new(), Vec::new());
        loop {
            let filter = Some(filter.clone());
            let request = v1::ListAuditEventsRequest { page_size: 3, page_token, filter, order: order.into() };
            let page = try_list(&node, &root, request).await.unwrap();
            assert!(page.events.len() <= 3);
            found.extend(page.events);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
            // It is of this filter and this order.
            let other = v1::ListAuditEventsRequest { page_token: page_token.clone(), ..Default::default() };
            assert_eq!(fields(&try_list(&node, &root, other).await.unwrap_err()), ["page_token"]);
        }
        assert_eq!(found, expected, "{order:?}");
    }
    node.remove().await;
}

async fn what_is_personal_is_shown_until_the_user_is_gone(backend: Backend) {
    let node = TestNode::start(backend).await;
    let root = node.join("root", &["admin"], "").await.access_token;
    let ada = node.register("ada@example.com").await;
    node.login("ada@example.com").await;
    node.try_login(login_request("nobody@example.com", "wrong")).await.unwrap_err();
    let about = v1::AuditEventFilter { subject: ada.id.clone(), ..Default::default() };
    let before = list(&node, &root, about.clone()).await;
    assert_eq!(acts(&before), ["login.succeeded", "user.registered"]);
    assert!(before.iter().all(|event| event.ip_address == "127.0.0.1" && event.user_agent.contains("tonic")));
    // Of nobody's events it is under the key of nobody.
    let unknown = v1::AuditEventFilter { act: "login.failed".into(), ..Default::default() };
    let of_nobody = list(&node, &root, unknown.clone()).await;
    assert_eq!((of_nobody[0].subject_id.as_str(), of_nobody[0].ip_address.as_str()), ("", "127.0.0.1"));

    let mut users = v1::user_admin_service_client::UserAdminServiceClient::new(node.shared().await);
    let delete = v1::DeleteUserRequest { user_id: ada.id, ..Default::default() };
    users.delete_user(bearer(&root, delete)).await.unwrap();
    let after = list(&node, &root, about).await;
    assert_eq!(acts(&after), ["user.deleted", "login.succeeded", "user.registered"]);
    assert_eq!(after[0].ip_address, "127.0.0.1", "whoever deleted is no less to be seen");
    assert!(after[1..].iter().all(|event| event.ip_address.is_empty() && event.user_agent.is_empty()));
    // The rest is what it was, byte for byte.
    let faceless = |event: &v1::AuditEvent| {
        let (ip_address, user_agent) = (String::new(), String::new());
        v1::AuditEvent { ip_address, user_agent, ..event.clone() }
    };
    assert_eq!(after[1..], before.iter().map(faceless).collect::<Vec<_>>());
    assert_eq!(list(&node, &root, unknown).await, of_nobody);
    node.remove().await;
}

async fn what_is_malformed_is_named_field_by_field(backend: Backend) {
    let node = TestNode::start(backend).await;
    let root = node.join("root", &["admin"], "").await.access_token;
    let filter = v1::AuditEventFilter {
        act: "Login".into(),
        actor: "somebody".into(),
        subject: "ada@example.com".into(),
        session_id: "x".into(),
        request_id: "a\u{0}b".into(),
        ..Default::default()
    };
    let request = v1::ListAuditEventsRequest { page_size: -1, filter: Some(filter), order: 7, ..Default::default() };
    let refused = try_list(&node, &root, request).await.unwrap_err();
    let named: BTreeSet<_> = fields(&refused).into_iter().collect();
    let of_filter = ["act", "actor", "subject", "session_id", "request_id"].map(|field| format!("filter.{field}"));
    let expected = ["page_size", "order"].map(str::to_owned).into_iter().chain(of_filter).collect();
    assert_eq!(named, expected);
    for bad in ["x", "AAAA", &"A".repeat(5_000)] {
        let request = v1::VerifyAuditChainRequest { page_token: bad.to_owned(), ..Default::default() };
        let refused = audit(&node).await.verify_audit_chain(bearer(&root, request)).await.unwrap_err();
        assert_eq!(fields(&refused), ["page_token"]);
        let request = v1::WatchAuditEventsRequest { cursor: bad.to_owned(), from_beginning: false };
        let refused = audit(&node).await.watch_audit_events(bearer(&root, request)).await.unwrap_err();
        assert_eq!(fields(&refused), ["cursor"]);
    }
    let checkpoint = vec![v1::AuditLaneEnd::default()];
    let request = v1::VerifyAuditChainRequest { page_size: -1, checkpoint, ..Default::default() };
    let refused = audit(&node).await.verify_audit_chain(bearer(&root, request)).await.unwrap_err();
    assert_eq!(fields(&refused), ["page_size", "checkpoint"]);
    // Whoever may read users may not read the trail.
    node.database.make_role("lesser", &["users:read"]).await;
    let lesser = node.join("lesser", &["lesser"], "").await.access_token;
    let refused = try_list(&node, &lesser, v1::ListAuditEventsRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    node.remove().await;
}

async fn a_trail_that_nobody_touched_is_intact(backend: Backend) {
    let node = TestNode::start(backend).await;
    let root = node.join("root", &["admin"], "").await.access_token;
    let verify = async |request| {
        let answer = audit(&node).await.verify_audit_chain(bearer(&root, request)).await;
        answer.unwrap().into_inner()
    };
    let whole = verify(v1::VerifyAuditChainRequest::default()).await;
    assert!(whole.intact && whole.faults.is_empty() && !whole.more_faults, "{whole:?}");
    let all = list(&node, &root, v1::AuditEventFilter::default()).await;
    assert_eq!((whole.events, whole.unplaced_events), (i64::try_from(all.len()).unwrap(), 0));
    let lanes = node.database.integer("SELECT COUNT(*) FROM audit_lanes").await;
    assert_eq!(i64::try_from(whole.heads.len()).unwrap(), lanes);
    assert_eq!(whole.next_page_token, "");

    // In small steps it is the same.
    let (mut page_token, mut heads, mut events) = (String::new(), Vec::new(), 0);
    loop {
        let request = v1::VerifyAuditChainRequest { page_size: 2, page_token, checkpoint: whole.heads.clone() };
        let step = verify(request).await;
        assert!(step.intact, "{step:?}");
        (events, page_token) = (events + step.events, step.next_page_token);
        heads.extend(step.heads);
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!((events, &heads), (whole.events, &whole.heads));
    node.remove().await;
}

async fn what_was_done_to_the_trail_is_named(backend: Backend) {
    let node = TestNode::start(backend).await;
    let root = node.join("root", &["admin"], "").await.access_token;
    node.register("ada@example.com").await;
    node.try_login(login_request("ada@example.com", "wrong")).await.unwrap_err();
    let verify = async |checkpoint| {
        let request = v1::VerifyAuditChainRequest { checkpoint, ..Default::default() };
        audit(&node).await.verify_audit_chain(bearer(&root, request)).await.unwrap().into_inner()
    };
    let before = verify(Vec::new()).await;
    let filter = v1::AuditEventFilter { act: "login.failed".into(), ..Default::default() };
    let failed = list(&node, &root, filter).await.remove(0);
    // A success it never was.
    let success = "UPDATE audit_events SET act = 'login.succeeded', succeeded = TRUE WHERE act = 'login.failed'";
    assert_eq!(node.database.execute(success).await, 1);
    let after = verify(Vec::new()).await;
    assert!(!after.intact);
    let (link, fault) = (failed.link.unwrap(), &after.faults[0]);
    assert_eq!(
        (fault.kind(), fault.lane, fault.position),
        (v1::AuditChainFaultKind::Altered, link.lane, link.position)
    );
    assert_eq!((fault.event_id.as_str(), after.faults.len()), (failed.event_id.as_str(), 1));
    let undone = "UPDATE audit_events SET act = 'login.failed', succeeded = FALSE WHERE detail LIKE '%wrong_password%'";
    let undone = if backend == Backend::Sqlite { undone.to_owned() } else { undone.replace("detail", "detail::text") };
    assert_eq!(node.database.execute(&undone).await, 1);
    assert!(verify(before.heads.clone()).await.intact);
    // Of a trail that went on elsewhere.
    let mut other = before.heads;
    let longest = other.iter_mut().max_by_key(|head| head.link.as_ref().unwrap().position).unwrap();
    longest.link.as_mut().unwrap().hash = vec![7; 32];
    let against = verify(other).await;
    assert_eq!(against.faults[0].kind(), v1::AuditChainFaultKind::Checkpoint);
    node.remove().await;
}
