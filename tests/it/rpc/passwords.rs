//! `ChangePassword`: who may, and what it ends.

use tonic::Code;

use super::{
    on_both_databases,
    revocation::{assert_alive, assert_dead},
};
use crate::support::{Backend, PASSWORD, TestNode, fields, login_request, reason};

on_both_databases!(
    a_new_password_ends_the_other_sessions_and_the_current_one_goes_on,
    a_wrong_current_password_changes_nothing,
    a_change_by_an_ended_session_changes_nothing,
);

const NEW: &str = "another correct horse battery";

async fn a_new_password_ends_the_other_sessions_and_the_current_one_goes_on(backend: Backend) {
    let node = TestNode::start(backend).await;
    for email in ["ada@example.com", "grace@example.com"] {
        node.register(email).await;
    }
    let other = node.login("ada@example.com").await;
    let other = node.refresh(&other.refresh_token).await.unwrap();
    let grace = node.login("grace@example.com").await;
    let current = node.login("ada@example.com").await;
    node.change_password(&current.access_token, PASSWORD, NEW).await.unwrap();
    assert_dead(&node, &other).await;
    let current = assert_alive(&node, &current).await;
    assert_alive(&node, &current).await;
    assert_alive(&node, &grace).await;
    let refused = node.try_login(login_request("ada@example.com", PASSWORD)).await.unwrap_err();
    assert_eq!(reason(&refused), "INVALID_CREDENTIALS");
    let later = node.try_login(login_request("ada@example.com", NEW)).await.unwrap();
    assert_alive(&node, &later).await;
    assert_eq!(node.events("act = 'password.changed'").await, 1);
    // And once more, from the other side.
    node.change_password(&later.access_token, NEW, "a third horse without battery").await.unwrap();
    assert_dead(&node, &current).await;
    assert_alive(&node, &later).await;
    node.remove().await;
}

async fn a_wrong_current_password_changes_nothing(backend: Backend) {
    let node = TestNode::start(backend).await;
    node.register("ada@example.com").await;
    let other = node.login("ada@example.com").await;
    let current = node.login("ada@example.com").await;
    let refused = node.change_password(&current.access_token, "not the current password", NEW).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Unauthenticated, "INVALID_CREDENTIALS"));
    let refused = node.change_password(&current.access_token, PASSWORD, "fourteen chars").await.unwrap_err();
    assert_eq!(fields(&refused), ["new_password"]);
    assert_eq!(node.events("act = 'password.changed'").await, 0);
    assert_eq!(node.events("act = 'reauthentication.failed'").await, 1, "a guess is on record");
    assert_alive(&node, &other).await;
    assert_alive(&node, &current).await;
    let refused = node.try_login(login_request("ada@example.com", NEW)).await.unwrap_err();
    assert_eq!(reason(&refused), "INVALID_CREDENTIALS");
    node.login("ada@example.com").await;
    node.remove().await;
}

async fn a_change_by_an_ended_session_changes_nothing(backend: Backend) {
    let node = TestNode::start(backend).await;
    node.register("ada@example.com").await;
    let ended = node.login("ada@example.com").await;
    let other = node.login("ada@example.com").await;
    // By a node that this one has not heard of yet, so that the access token still opens the door.
    let id = node.database.id(&ended.session_id.parse().unwrap());
    node.database.execute(&format!("UPDATE sessions SET end_time = 1, end_reason = 'logout' WHERE id = {id}")).await;
    let refused = node.change_password(&ended.access_token, PASSWORD, NEW).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Aborted, "CONFLICT"));
    assert_alive(&node, &other).await;
    node.login("ada@example.com").await;
    let refused = node.try_login(login_request("ada@example.com", NEW)).await.unwrap_err();
    assert_eq!(reason(&refused), "INVALID_CREDENTIALS");
    node.remove().await;
}
