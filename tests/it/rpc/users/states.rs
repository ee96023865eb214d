//! `SuspendUser`, `ReactivateUser`, `DeleteUser`, `SetUserPassword`, and a user's sessions.

use tonic::Code;
use vouchsafe::pb::v1::UserState;

use super::{Admin, NOBODY, assert_dead, refusal, role};
use crate::{
    rpc::on_every_form,
    support::{Backend, PASSWORD, TestNode, fields, login_request, reason},
};

on_every_form!(
    a_suspended_user_is_out_until_let_in_again,
    a_deleted_user_leaves_nothing_but_the_trail,
    a_password_that_is_set_ends_every_session,
    sessions_are_listed_and_ended,
);

const OTHER: &str = "another correct horse battery";

async fn a_suspended_user_is_out_until_let_in_again(backend: Backend) {
    let node = TestNode::start(backend).await;
    let admin = Admin::of(&node).await;
    let id = node.register("ada@example.com").await.id;
    let tokens = node.login("ada@example.com").await;
    let tokens = node.refresh(&tokens.refresh_token).await.unwrap();
    let suspended = admin.suspend(&id).await.unwrap();
    assert_eq!((suspended.state(), suspended.etag.as_str()), (UserState::Suspended, "r2"));
    assert_dead(&node, &tokens, "SESSION_REVOKED").await;
    let refused = node.try_login(login_request("ada@example.com", PASSWORD)).await.unwrap_err();
    assert_eq!(reason(&refused), "INVALID_CREDENTIALS");
    assert_eq!(admin.suspend(&id).await.unwrap(), suspended, "once is enough");
    assert!(admin.sessions(&id, 0, "").await.unwrap().sessions.is_empty());

    let active = admin.reactivate(&id).await.unwrap();
    assert_eq!((active.state(), active.etag.as_str()), (UserState::Active, "r3"));
    assert_eq!(admin.reactivate(&id).await.unwrap(), active);
    assert_dead(&node, &tokens, "SESSION_REVOKED").await;
    let tokens = node.login("ada@example.com").await;
    assert!(node.admits(&tokens.access_token).await);
    node.refresh(&tokens.refresh_token).await.unwrap();
    assert_eq!(admin.acts_on(&node, &id).await, ["user.reactivated", "user.suspended"]);
    node.remove().await;
}

async fn a_deleted_user_leaves_nothing_but_the_trail(backend: Backend) {
    let node = TestNode::start(backend).await;
    let admin = Admin::of(&node).await;
    role(&node, "clerk", &["orders:read"]).await;
    let id = node.register("ada@example.com").await.id;
    admin.assign(&id, "clerk").await.unwrap();
    let tokens = node.login("ada@example.com").await;
    let owner = node.database.id(&id.parse().unwrap());
    let count = async |table: &str, column: &str| {
        node.database.integer(&format!("SELECT COUNT(*) FROM {table} WHERE {column} = {owner}")).await
    };
    let kept = [("users", "id"), ("sessions", "user_id"), ("user_roles", "user_id"), ("data_keys", "owner_id")];
    for (table, column) in kept {
        assert_eq!(count(table, column).await, 1, "{table}");
    }
    admin.delete(&id, "").await.unwrap();
    for (table, column) in kept {
        assert_eq!(count(table, column).await, 0, "{table}");
    }
    assert_dead(&node, &tokens, "REFRESH_TOKEN_EXPIRED").await;
    let refused = node.try_login(login_request("ada@example.com", PASSWORD)).await.unwrap_err();
    assert_eq!(reason(&refused), "INVALID_CREDENTIALS");
    assert_eq!(refusal(admin.get(&id).await), (Code::NotFound, "USER_NOT_FOUND".into()));
    assert_eq!(refusal(admin.delete(&id, "").await), (Code::NotFound, "USER_NOT_FOUND".into()));
    assert_eq!(admin.acts_on(&node, &id).await, ["role.assigned", "user.deleted"]);
    let personal = format!("act = 'user.deleted' AND subject_id = {owner} AND personal_sealed IS NOT NULL");
    assert_eq!(node.events(&personal).await, 1, "it is the administrator's");
    assert_ne!(node.register("ada@example.com").await.id, id, "the address is free again");
    node.remove().await;
}

async fn a_password_that_is_set_ends_every_session(backend: Backend) {
    let node = TestNode::start(backend).await;
    let admin = Admin::of(&node).await;
    let id = node.register("ada@example.com").await.id;
    let sessions = [node.login("ada@example.com").await, node.login("ada@example.com").await];
    assert_eq!(fields(&admin.set_password(&id, "short").await.unwrap_err()), ["password"]);
    assert_eq!(fields(&admin.set_password("x", "").await.unwrap_err()), ["user_id", "password"]);
    assert!(node.admits(&sessions[0].access_token).await);
    admin.set_password(&id, OTHER).await.unwrap();
    for tokens in &sessions {
        assert_dead(&node, tokens, "SESSION_REVOKED").await;
    }
    assert!(node.try_login(login_request("ada@example.com", PASSWORD)).await.is_err());
    node.try_login(login_request("ada@example.com", OTHER)).await.unwrap();
    // Their own, too: that ends the session it is asked from.
    admin.set_password(&admin.id, OTHER).await.unwrap();
    assert!(!node.admits(&admin.token).await);
    assert_eq!(admin.acts_on(&node, &id).await, ["password.set"]);
    node.remove().await;
}

async fn sessions_are_listed_and_ended(backend: Backend) {
    let node = TestNode::start(backend).await;
    let admin = Admin::of(&node).await;
    let id = node.register("ada@example.com").await.id;
    let mut sessions = Vec::new();
    for _ in 0..4 {
        sessions.push(node.login("ada@example.com").await);
    }
    let (mut listed, mut next) = (Vec::new(), String::new());
    loop {
        let page = admin.sessions(&id, 3, &next).await.unwrap();
        assert!(page.sessions.iter().all(|session| !session.current), "none of them is the caller's");
        listed.extend(page.sessions.into_iter().map(|session| session.id));
        next = page.next_page_token;
        if next.is_empty() {
            break;
        }
    }
    let mut begun: Vec<_> = sessions.iter().map(|tokens| tokens.session_id.clone()).collect();
    begun.sort_unstable_by(|a, b| b.cmp(a));
    assert_eq!(listed, begun);

    admin.revoke(&id, &sessions[0].session_id).await.unwrap();
    assert_dead(&node, &sessions[0], "SESSION_REVOKED").await;
    assert!(node.admits(&sessions[1].access_token).await);
    let gone = (Code::NotFound, "SESSION_NOT_FOUND".to_owned());
    assert_eq!(refusal(admin.revoke(&id, &sessions[0].session_id).await), gone);
    assert_eq!(refusal(admin.revoke(&id, NOBODY).await), gone);
    assert_eq!(refusal(admin.revoke(&admin.id, &sessions[1].session_id).await), gone, "it is another's");
    assert_eq!(fields(&admin.revoke("x", "x").await.unwrap_err()), ["user_id", "session_id"]);

    let etag = admin.get(&id).await.unwrap().etag;
    admin.revoke(&id, "").await.unwrap();
    for tokens in &sessions {
        assert_dead(&node, tokens, "SESSION_REVOKED").await;
    }
    assert_eq!(admin.get(&id).await.unwrap().etag, etag, "that changes nothing of the account");
    assert!(admin.sessions(&id, 0, "").await.unwrap().sessions.is_empty());
    node.login("ada@example.com").await;
    assert_eq!(admin.acts_on(&node, &id).await, ["session.all_ended", "session.ended"]);
    assert_eq!(fields(&admin.sessions("x", -1, "x").await.unwrap_err()), ["user_id", "page_size", "page_token"]);
    node.remove().await;
}
