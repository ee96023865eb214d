//! `AssignRole`, `UnassignRole`: what it means for tokens.

use std::sync::Arc;

use tokio::sync::Barrier;
use tonic::Code;
use vouchsafe::pb::v1::InactiveReason;

use super::{Admin, refusal, role};
use crate::{
    rpc::on_every_form,
    support::{Backend, TestNode, fields},
};

on_every_form!(
    a_change_of_roles_refuses_tokens_and_spares_sessions,
    a_role_that_is_there_already_changes_nothing,
    no_sign_in_outlives_a_change_of_roles,
);

async fn roles_said(node: &TestNode, token: &str) -> Vec<String> {
    node.verify(token).await.claims.expect("it is active").roles
}

async fn a_change_of_roles_refuses_tokens_and_spares_sessions(backend: Backend) {
    let node = TestNode::start(backend).await;
    let admin = Admin::of(&node).await;
    role(&node, "clerk", &["orders:read"]).await;
    let id = node.register("ada@example.com").await.id;
    let mut sessions = vec![node.login("ada@example.com").await, node.login("ada@example.com").await];
    for (given, roles) in [(true, &["clerk"][..]), (false, &[])] {
        let user = if given { admin.assign(&id, "clerk").await } else { admin.unassign(&id, "clerk").await }.unwrap();
        assert_eq!(user.roles, roles);
        for tokens in &mut sessions {
            assert_eq!(node.verify(&tokens.access_token).await.inactive_reason(), InactiveReason::Revoked, "at once");
            *tokens = node.refresh(&tokens.refresh_token).await.unwrap();
            assert_eq!(roles_said(&node, &tokens.access_token).await, roles);
            assert!(node.admits(&tokens.access_token).await);
        }
        assert_eq!(admin.sessions(&id, 0, "").await.unwrap().sessions.len(), sessions.len());
    }
    assert_eq!(admin.acts_on(&node, &id).await, ["role.assigned", "role.unassigned"]);
    let detail = node.database.texts("SELECT CAST(detail AS TEXT) FROM audit_events WHERE act LIKE 'role.%'").await;
    for json in detail {
        assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap(), serde_json::json!({ "role": "clerk" }));
    }
    node.remove().await;
}

async fn a_role_that_is_there_already_changes_nothing(backend: Backend) {
    let node = TestNode::start(backend).await;
    let admin = Admin::of(&node).await;
    role(&node, "clerk", &["orders:read"]).await;
    let id = node.register("ada@example.com").await.id;
    let without = admin.get(&id).await.unwrap();
    assert_eq!(admin.unassign(&id, "clerk").await.unwrap(), without);
    let with = admin.assign(&id, "clerk").await.unwrap();
    let tokens = node.login("ada@example.com").await;
    assert_eq!(admin.assign(&id, "clerk").await.unwrap(), with);
    assert!(node.admits(&tokens.access_token).await);
    assert_eq!(admin.acts_on(&node, &id).await, ["role.assigned"]);
    let unknown = (Code::NotFound, "ROLE_NOT_FOUND".to_owned());
    assert_eq!(refusal(admin.assign(&id, "nothing").await), unknown);
    assert_eq!(refusal(admin.unassign(&id, "nothing").await), unknown);
    for name in ["", "No", "a b", "a\0", &"a".repeat(65)] {
        assert_eq!(fields(&admin.assign(&id, name).await.unwrap_err()), ["role"], "{name:?}");
        assert_eq!(fields(&admin.unassign(&id, name).await.unwrap_err()), ["role"], "{name:?}");
    }
    node.remove().await;
}

/// A sign-in that meets the change on its way comes before it, and its token is refused, or after it.
async fn no_sign_in_outlives_a_change_of_roles(backend: Backend) {
    let node = Arc::new(TestNode::start(backend).await);
    let admin = Admin::of(&node).await;
    role(&node, "clerk", &["orders:read"]).await;
    let id = node.register("ada@example.com").await.id;
    for round in 0..40 {
        admin.assign(&id, "clerk").await.unwrap();
        let start = Arc::new(Barrier::new(4));
        let logins: Vec<_> = (0..3)
            .map(|_| {
                let (node, start) = (node.clone(), start.clone());
                tokio::spawn(async move {
                    start.wait().await;
                    node.login("ada@example.com").await
                })
            })
            .collect();
        start.wait().await;
        admin.unassign(&id, "clerk").await.unwrap();
        for login in logins {
            let verified = node.verify(&login.await.unwrap().access_token).await;
            assert!(!verified.active || verified.claims.unwrap().roles.is_empty(), "round {round}");
        }
    }
    Arc::into_inner(node).unwrap().remove().await;
}
