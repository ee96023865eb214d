//! `UpdateUser`.

use std::sync::Arc;

use tokio::sync::Barrier;
use tonic::Code;
use vouchsafe::pb::v1;

use super::{Admin, NOBODY, refusal};
use crate::{
    rpc::on_both_databases,
    support::{Backend, TestNode, bearer, fields, login_request},
};

on_both_databases!(
    an_update_changes_what_its_mask_names_and_nothing_else,
    a_mask_says_what_may_be_in_it,
    an_address_or_a_name_of_somebody_else_is_refused,
    of_two_updates_of_what_both_have_read_one_is_refused,
    every_change_has_an_etag_of_its_own,
);

/// Every field another than before.
fn everything(id: &str) -> v1::User {
    v1::User {
        id: id.into(),
        email: "grace@example.com".into(),
        username: "grace".into(),
        display_name: "Grace".into(),
        email_verified: true,
        state: v1::UserState::Suspended.into(),
        roles: vec!["admin".into()],
        attributes: Some(prost_types::Struct::default()),
        ..Default::default()
    }
}

async fn an_update_changes_what_its_mask_names_and_nothing_else(backend: Backend) {
    let node = TestNode::start(backend).await;
    let admin = Admin::of(&node).await;
    let before = admin.user("ada@example.com").await;
    let named = admin.update(everything(&before.id), &["display_name"]).await.unwrap();
    let moment = |user: &v1::User| user.update_time.map(|time| (time.seconds, time.nanos)).unwrap();
    assert!(moment(&named) > moment(&before));
    let expected =
        v1::User { display_name: "Grace".into(), etag: "r2".into(), update_time: named.update_time, ..before.clone() };
    assert_eq!(named, expected);
    assert_eq!(admin.update(everything(&before.id), &["display_name"]).await.unwrap(), named, "no change, no etag");
    let verified = admin.update(everything(&before.id), &["email_verified"]).await.unwrap();
    assert!(verified.email_verified);
    let moved = v1::User { email: "ada@example.org".into(), ..everything(&before.id) };
    let moved = admin.update(moved, &["email"]).await.unwrap();
    assert_eq!((moved.email.as_str(), moved.email_verified), ("ada@example.org", false));
    let both = admin.update(everything(&before.id), &["email", "email_verified", "username"]).await.unwrap();
    assert_eq!(
        (both.email.as_str(), both.email_verified, both.username.as_str()),
        ("grace@example.com", true, "grace")
    );
    assert_eq!((both.state(), both.roles.len()), (v1::UserState::Active, 0));
    let unnamed = v1::User { username: String::new(), ..everything(&before.id) };
    assert_eq!(admin.update(unnamed, &["username"]).await.unwrap().username, "");
    let changes = node
        .database
        .texts("SELECT CAST(detail AS TEXT) FROM audit_events WHERE act = 'user.updated' ORDER BY time, id");
    let lists: Vec<serde_json::Value> = changes.await.iter().map(|json| serde_json::from_str(json).unwrap()).collect();
    let listed = |fields: &[&str]| serde_json::json!({ "fields": fields });
    assert_eq!(
        lists,
        [
            listed(&["display_name"]),
            listed(&["email_verified"]),
            listed(&["email", "email_verified"]),
            listed(&["email", "username", "email_verified"]),
            listed(&["username"]),
        ]
    );
    assert_eq!(admin.acts_on(&node, &before.id).await.len(), 6);
    assert_eq!(
        refusal(admin.update(everything(NOBODY), &["username"]).await),
        (Code::NotFound, "USER_NOT_FOUND".into())
    );
    node.remove().await;
}

async fn a_mask_says_what_may_be_in_it(backend: Backend) {
    let node = TestNode::start(backend).await;
    let admin = Admin::of(&node).await;
    let ada = admin.user("ada@example.com").await;
    let known = "email, username, display_name, email_verified, attributes";
    for (mask, part) in [
        (&[][..], "is empty"),
        (&["email", "password"], "\"password\""),
        (&["roles"], "\"roles\""),
        (&["*"], "\"*\""),
        (&["state"], "\"state\""),
    ] {
        let refused = admin.update(everything(&ada.id), mask).await.unwrap_err();
        assert_eq!(fields(&refused), ["update_mask"]);
        assert!(refused.message().contains(part) && refused.message().contains(known), "{}", refused.message());
    }
    let request = v1::UpdateUserRequest { user: Some(everything(&ada.id)), update_mask: None };
    assert_eq!(fields(&admin.client().update_user(admin.ask(request)).await.unwrap_err()), ["update_mask"]);
    let request = v1::UpdateUserRequest::default();
    assert_eq!(fields(&admin.client().update_user(admin.ask(request)).await.unwrap_err()), ["user"]);
    let bad = v1::User { email: "x".into(), username: "-".into(), id: "x".into(), ..Default::default() };
    let refused = admin.update(bad.clone(), &["email", "username"]).await.unwrap_err();
    assert_eq!(fields(&refused), ["user.id", "user.email", "user.username"]);
    let refused = admin.update(v1::User { id: ada.id.clone(), ..bad }, &["email"]).await.unwrap_err();
    assert_eq!(fields(&refused), ["user.email"], "what is not named is not read");
    assert_eq!(admin.get(&ada.id).await.unwrap(), ada);
    node.remove().await;
}

async fn an_address_or_a_name_of_somebody_else_is_refused(backend: Backend) {
    let node = TestNode::start(backend).await;
    let admin = Admin::of(&node).await;
    let grace =
        v1::CreateUserRequest { email: "grace@example.com".into(), username: "grace".into(), ..Default::default() };
    admin.create(grace).await.unwrap();
    let ada = admin.user("ada@example.com").await;
    for (mask, why) in [("email", "EMAIL_TAKEN"), ("username", "USERNAME_TAKEN")] {
        let refused = admin.update(everything(&ada.id), &["display_name", mask]).await;
        assert_eq!(refusal(refused), (Code::AlreadyExists, why.into()));
    }
    assert_eq!(admin.get(&ada.id).await.unwrap(), ada, "whole or not at all");
    node.remove().await;
}

async fn of_two_updates_of_what_both_have_read_one_is_refused(backend: Backend) {
    let node = TestNode::start(backend).await;
    let admin = Admin::of(&node).await;
    let mut ada = admin.user("ada@example.com").await;
    for round in 0..20 {
        let start = Arc::new(Barrier::new(2));
        let updates: Vec<_> = (0..2)
            .map(|n| {
                let (admin, start) = (admin.clone(), start.clone());
                let user = v1::User { display_name: format!("{round} {n}"), ..ada.clone() };
                tokio::spawn(async move {
                    start.wait().await;
                    admin.update(user, &["display_name"]).await
                })
            })
            .collect();
        let mut done = Vec::new();
        for update in updates {
            match update.await.unwrap() {
                Ok(user) => done.push(user),
                refused => assert_eq!(refusal(refused), (Code::Aborted, "ETAG_MISMATCH".into())),
            }
        }
        assert_eq!(done.len(), 1, "round {round}");
        ada = done.swap_remove(0);
    }
    assert_eq!(admin.get(&ada.id).await.unwrap(), ada);
    let never = v1::User { etag: "never".into(), ..everything(&ada.id) };
    assert_eq!(refusal(admin.update(never, &["username"]).await).1, "ETAG_MISMATCH");
    assert_eq!(refusal(admin.delete(&ada.id, "r1").await), (Code::Aborted, "ETAG_MISMATCH".into()));
    admin.delete(&ada.id, &ada.etag).await.unwrap();
    node.remove().await;
}

async fn every_change_has_an_etag_of_its_own(backend: Backend) {
    let node = TestNode::start(backend).await;
    let admin = Admin::of(&node).await;
    let id = admin.user("ada@example.com").await.id;
    let mut seen = vec![admin.get(&id).await.unwrap().etag];
    let mut changed = async |what: &str| {
        let etag = admin.get(&id).await.unwrap().etag;
        assert!(!seen.contains(&etag), "{what}");
        seen.push(etag);
    };
    admin.update(everything(&id), &["display_name"]).await.unwrap();
    changed("an update").await;
    admin.assign(&id, "admin").await.unwrap();
    changed("a role").await;
    admin.unassign(&id, "admin").await.unwrap();
    changed("a role taken").await;
    admin.suspend(&id).await.unwrap();
    changed("a suspension").await;
    admin.reactivate(&id).await.unwrap();
    changed("a reactivation").await;
    let set = "a third horse without battery";
    admin.set_password(&id, set).await.unwrap();
    changed("a password").await;
    let token = node.try_login(login_request("ada@example.com", set)).await.unwrap().access_token;
    node.change_password(&token, set, "another correct horse battery").await.unwrap();
    changed("the owner's own change").await;
    let token = node.account().await.get_account(bearer(&token, v1::GetAccountRequest {})).await.unwrap().into_inner();
    assert_eq!(token.user.unwrap().etag, admin.get(&id).await.unwrap().etag);
    node.remove().await;
}
