//! What roles allow, in tokens: their scope and the claim `permissions`, and that a change of a role is in the next refresh (R6).

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use serde_json::json;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use vouchsafe::pb::v1;

use super::on_every_form;
use crate::{
    hostile::payload_of,
    support::{Backend, TestDatabase, TestNode, bearer, reason},
};

on_every_form!(
    a_token_s_scope_is_what_roles_hold_now,
    no_refresh_begun_after_a_change_of_a_role_says_what_was_before,
    a_scope_never_widens,
    a_token_stays_limited_when_its_limit_is_gone,
);

const SCOPES: &str = "tokens.scopes=openid,orders:read,orders:write,roles:read,*,Orders:Read";

/// Two nodes where there can be two, otherwise one.
async fn nodes(backend: Backend) -> Vec<Arc<TestNode>> {
    let database = Arc::new(TestDatabase::migrated(backend).await);
    let count = if backend == Backend::Sqlite { 1 } else { 2 };
    let mut nodes = Vec::new();
    for _ in 0..count {
        let builder = TestNode::on(Arc::clone(&database)).set("tokens.permissions=true").set(SCOPES);
        nodes.push(Arc::new(builder.start().await));
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

/// Scope and permissions of a token, which every node says alike.
async fn said(nodes: &[Arc<TestNode>], token: &str) -> (String, Vec<String>) {
    let payload = payload_of(token);
    for node in nodes {
        let claims = node.verify(token).await.claims.unwrap();
        assert_eq!(claims.scope, payload["scope"].as_str().unwrap_or_default());
        let none = json!([]);
        assert_eq!(
            json!(claims.permissions),
            *payload.get("permissions").unwrap_or(&none),
            "left out when there is none"
        );
    }
    let claims = nodes[0].verify(token).await.claims.unwrap();
    (claims.scope, claims.permissions)
}

async fn a_token_s_scope_is_what_roles_hold_now(backend: Backend) {
    let nodes = nodes(backend).await;
    let (first, last) = (&nodes[0], nodes.last().unwrap());
    first.database.make_role("clerk", &["orders:read", "shop:open"]).await;
    let admin = first.join("root", &["admin"], "").await.access_token;
    assert_eq!(said(&nodes, &admin).await, (String::new(), vec!["*".to_owned()]));
    let mut all = first.join("all", &["clerk"], "").await;
    let mut bob = first.join("bob", &["clerk"], "openid orders:read orders:write").await;
    let begun = bob.access_token.clone();
    let is = |scope: &str, permissions: &[&str]| {
        (scope.to_owned(), permissions.iter().map(|&text| text.to_owned()).collect::<Vec<_>>())
    };
    assert_eq!(said(&nodes, &all.access_token).await, is("", &["orders:read", "shop:open"]));
    assert_eq!(said(&nodes, &begun).await, is("openid orders:read", &["orders:read"]), "as far as it was asked for");
    for (permissions, scope, within) in [
        (&["orders:write", "shop:open"][..], "openid orders:write", &["orders:write"][..]),
        (&["orders:read", "orders:write"], "openid orders:read orders:write", &["orders:read", "orders:write"]),
        (&["*"], "openid orders:read orders:write", &["orders:read", "orders:write"]),
        (&[], "openid", &[]),
        (&["orders:read"], "openid orders:read", &["orders:read"]),
    ] {
        first.redefine(&admin, "clerk", permissions).await.unwrap();
        bob = last.refresh(&bob.refresh_token).await.unwrap();
        assert_eq!(said(&nodes, &bob.access_token).await, is(scope, within), "{permissions:?}");
        all = last.refresh(&all.refresh_token).await.unwrap();
        assert_eq!(said(&nodes, &all.access_token).await, is("", permissions));
    }
    assert_eq!(said(&nodes, &begun).await.0, "openid orders:read", "a token says what it says until it expires");
    assert!(first.verify(&begun).await.active);
    remove(nodes).await;
}

/// Refreshes from the newest token on. Whenever a change was acknowledged before the refresh began, the token says so.
async fn refresh_and_look(
    node: Arc<TestNode>,
    mut held: v1::TokenPair,
    acknowledged: Arc<AtomicUsize>,
    stop: CancellationToken,
) -> usize {
    let mut looked = 0;
    while !stop.is_cancelled() {
        let before = acknowledged.load(Ordering::SeqCst);
        held = node.refresh(&held.refresh_token).await.unwrap();
        let said = payload_of(&held.access_token)["permissions"][0].as_str().unwrap().to_owned();
        let said: usize = said.strip_prefix("orders:act").unwrap().parse().unwrap();
        assert!(said >= before, "{said} after {before} was acknowledged");
        looked += 1;
    }
    looked
}

async fn no_refresh_begun_after_a_change_of_a_role_says_what_was_before(backend: Backend) {
    let nodes = nodes(backend).await;
    nodes[0].database.make_role("clerk", &["orders:act0"]).await;
    let admin = nodes[0].join("root", &["admin"], "").await.access_token;
    let (acknowledged, stop) = (Arc::new(AtomicUsize::new(0)), CancellationToken::new());
    let mut refreshers = Vec::new();
    for n in 0..4 {
        let node = &nodes[n % nodes.len()];
        let held = node.join(&format!("bob{n}"), &["clerk"], "").await;
        let (acknowledged, stop) = (Arc::clone(&acknowledged), stop.clone());
        refreshers.push(tokio::spawn(refresh_and_look(Arc::clone(node), held, acknowledged, stop)));
    }
    for n in 1..=60 {
        let node = &nodes[n % nodes.len()];
        node.redefine(&admin, "clerk", &[&format!("orders:act{n}")]).await.unwrap();
        acknowledged.store(n, Ordering::SeqCst);
    }
    stop.cancel();
    for refresher in refreshers {
        assert!(refresher.await.unwrap() > 5, "hardly anything was tested");
    }
    remove(nodes).await;
}

async fn a_scope_never_widens(backend: Backend) {
    let nodes = nodes(backend).await;
    let node = &nodes[0];
    node.database.make_role("clerk", &["orders:read"]).await;
    for (name, roles, asked, scope, permissions) in [
        ("a", &[][..], "* Orders:Read orders:read", "", &[][..]),
        ("b", &["clerk"], "* Orders:Read orders:read", "orders:read", &["orders:read"]),
        ("c", &["clerk"], "openid *", "openid", &["orders:read"]),
        ("d", &["admin"], "Orders:Read", "Orders:Read", &[]),
        ("e", &["admin"], "orders:read", "orders:read", &["orders:read"]),
        ("f", &["admin"], "*", "*", &["*"]),
    ] {
        let token = node.join(name, roles, asked).await.access_token;
        let (scope, permissions) = (scope.to_owned(), permissions.iter().map(|&text: &&str| text.to_owned()).collect());
        assert_eq!(said(&nodes, &token).await, (scope, permissions), "{name}");
    }
    remove(nodes).await;
}

async fn a_token_stays_limited_when_its_limit_is_gone(backend: Backend) {
    let nodes = nodes(backend).await;
    let node = &nodes[0];
    node.database.make_role("clerk", &["orders:read", "roles:read"]).await;
    let admin = node.join("root", &["admin"], "").await.access_token;
    let mut bob = node.join("bob", &["clerk"], "openid orders:read").await;
    let free = node.join("eve", &["clerk"], "openid").await;
    let list = async |token: &str| {
        let answer = node.roles().await.list_roles(bearer(token, v1::ListRolesRequest::default())).await;
        answer.map(|_| ()).map_err(|status| (status.code(), reason(&status)))
    };
    let denied = Err((Code::PermissionDenied, "PERMISSION_DENIED".to_owned()));
    assert_eq!(list(&bob.access_token).await, denied);
    node.redefine(&admin, "clerk", &["roles:read"]).await.unwrap();
    bob = node.refresh(&bob.refresh_token).await.unwrap();
    assert_eq!(said(&nodes, &bob.access_token).await, ("openid".to_owned(), Vec::new()));
    assert_eq!(list(&bob.access_token).await, denied, "it names no permission now, and is limited all the same");
    assert_eq!(list(&free.access_token).await, Ok(()));
    remove(nodes).await;
}
