//! Nobody acts on whoever may do more, and somebody always administers.

use std::sync::Arc;

use tokio::sync::Barrier;
use tonic::{Code, Status};
use vouchsafe::pb::v1;

use super::{Admin, NOBODY, give, refusal, role};
use crate::{
    rpc::on_both_databases,
    support::{Backend, PASSWORD, TestNode, fields, login_request, reason},
};

on_both_databases!(
    nobody_acts_on_a_user_who_may_do_more,
    a_token_for_less_is_not_good_for_the_rest_of_its_owner,
    a_role_that_was_taken_is_good_for_nothing_more,
    the_last_administrator_stays,
    of_two_administrators_who_remove_each_other_one_remains,
    acts_on_nobody_are_refused,
);

const OTHER: &str = "another correct horse battery";
const EVERYTHING: [&str; 8] = [
    "users:read",
    "users:write",
    "users:delete",
    "users:set_password",
    "sessions:read",
    "sessions:revoke",
    "roles:assign",
    "orders:read",
];

/// Everything that can be done to a user, one after the other.
async fn acts_on(admin: &Admin, id: &str, role: &str) -> Vec<Result<(), Status>> {
    let renamed = v1::User { id: id.into(), display_name: "X".into(), ..Default::default() };
    vec![
        admin.update(renamed, &["display_name"]).await.map(|_| ()),
        admin.set_password(id, OTHER).await,
        admin.revoke(id, "").await,
        admin.assign(id, role).await.map(|_| ()),
        admin.unassign(id, role).await.map(|_| ()),
        admin.suspend(id).await.map(|_| ()),
        admin.reactivate(id).await.map(|_| ()),
        admin.delete(id, "").await,
    ]
}

async fn nobody_acts_on_a_user_who_may_do_more(backend: Backend) {
    let node = TestNode::start(backend).await;
    role(&node, "helpdesk", &EVERYTHING).await;
    role(&node, "clerk", &["orders:read"]).await;
    role(&node, "boss", &["orders:read", "orders:write"]).await;
    let admin = Admin::of(&node).await;
    let helper = Admin::with_role(&node, "helper@example.com", "helpdesk").await;
    let exceeds = (Code::PermissionDenied, "EXCEEDS_OWN_PERMISSIONS".to_owned());
    for above in ["boss", "admin"] {
        let id = node.register(&format!("{above}@example.com")).await.id;
        give(&node, &id, above).await;
        let before = admin.get(&id).await.unwrap();
        for refused in acts_on(&helper, &id, "clerk").await {
            assert_eq!(refusal(refused), exceeds, "{above}");
        }
        assert_eq!(admin.get(&id).await.unwrap(), before);
        // Suspended, they are no less.
        admin.suspend(&id).await.unwrap();
        for refused in acts_on(&helper, &id, "clerk").await {
            assert_eq!(refusal(refused), exceeds, "{above}, suspended");
        }
        // Looking on is no act.
        helper.get(&id).await.unwrap();
        helper.sessions(&id, 0, "").await.unwrap();
        let ada = node.register(&format!("user.of.{above}@example.com")).await.id;
        assert_eq!(refusal(helper.assign(&ada, above).await), exceeds, "nor do they make one");
        assert_eq!(refusal(helper.unassign(&ada, above).await.and(helper.assign(&helper.id, above).await)), exceeds);
    }
    assert_eq!(helper.acts_on(&node, &admin.id).await, [""; 0]);
    let ada = node.register("ada@example.com").await.id;
    give(&node, &ada, "helpdesk").await;
    for done in acts_on(&helper, &ada, "clerk").await {
        done.expect("their like is not above them");
    }
    node.remove().await;
}

async fn a_token_for_less_is_not_good_for_the_rest_of_its_owner(backend: Backend) {
    let node = TestNode::builder(backend).await.set("tokens.scopes=users:set_password,users:read").start().await;
    let mut admin = Admin::of(&node).await;
    let id = node.register("ada@example.com").await.id;
    let scope = "users:set_password".to_owned();
    let request = v1::LoginRequest { scope, ..login_request("root@example.com", PASSWORD) };
    admin.token = node.try_login(request).await.unwrap().access_token;
    assert_eq!(refusal(admin.get(&id).await), (Code::PermissionDenied, "PERMISSION_DENIED".into()));
    let exceeds = (Code::PermissionDenied, "EXCEEDS_OWN_PERMISSIONS".to_owned());
    assert_eq!(refusal(admin.set_password(&admin.id, OTHER).await), exceeds, "it would be a way to all the rest");
    admin.set_password(&id, OTHER).await.unwrap();
    node.remove().await;
}

async fn a_role_that_was_taken_is_good_for_nothing_more(backend: Backend) {
    let node = TestNode::start(backend).await;
    let admin = Admin::of(&node).await;
    let id = node.register("ada@example.com").await.id;
    let deputy = Admin::with_role(&node, "deputy@example.com", "admin").await;
    deputy.get(&id).await.unwrap();
    // Behind everybody's back, so that the token stays good.
    let user = node.database.id(&deputy.id.parse().unwrap());
    node.database.execute(&format!("DELETE FROM user_roles WHERE user_id = {user}")).await;
    let denied = (Code::PermissionDenied, "PERMISSION_DENIED".to_owned());
    for refused in acts_on(&deputy, &id, "admin").await {
        assert_eq!(refusal(refused), denied);
    }
    assert_eq!(refusal(deputy.get(&id).await), denied);
    assert_eq!(refusal(deputy.page(v1::ListUsersRequest::default()).await), denied);
    assert_eq!(refusal(deputy.create(v1::CreateUserRequest::default()).await), denied);
    assert!(deputy.acts_on(&node, &id).await.is_empty());
    admin.get(&id).await.unwrap();
    node.remove().await;
}

async fn the_last_administrator_stays(backend: Backend) {
    let node = TestNode::start(backend).await;
    let admin = Admin::of(&node).await;
    let second = node.register("second@example.com").await.id;
    admin.assign(&second, "admin").await.unwrap();
    admin.suspend(&second).await.unwrap();
    let last = (Code::FailedPrecondition, "LAST_ADMINISTRATOR".to_owned());
    assert_eq!(refusal(admin.suspend(&admin.id).await), last, "one who is suspended does not count");
    assert_eq!(refusal(admin.delete(&admin.id, "").await), last);
    assert_eq!(refusal(admin.unassign(&admin.id, "admin").await), last);
    assert!(node.admits(&admin.token).await);
    // The suspended one is none who counts, and may go.
    admin.unassign(&second, "admin").await.unwrap();
    admin.assign(&second, "admin").await.unwrap();
    admin.reactivate(&second).await.unwrap();
    admin.unassign(&admin.id, "admin").await.unwrap();
    assert_eq!(node.database.integer("SELECT COUNT(*) FROM user_roles WHERE role = 'admin'").await, 1);
    node.remove().await;
}

async fn of_two_administrators_who_remove_each_other_one_remains(backend: Backend) {
    let node = Arc::new(TestNode::start(backend).await);
    let mut remaining = Admin::of(&node).await;
    for round in 0..15 {
        let other = Admin::with_role(&node, &format!("admin{round}@example.com"), "admin").await;
        let start = Arc::new(Barrier::new(2));
        let pair = [(remaining.clone(), other.id.clone()), (other.clone(), remaining.id.clone())];
        let removals: Vec<_> = pair
            .into_iter()
            .map(|(admin, target)| {
                let start = start.clone();
                tokio::spawn(async move {
                    start.wait().await;
                    let removed = match round % 3 {
                        0 => admin.unassign(&target, "admin").await.map(|_| ()),
                        1 => admin.suspend(&target).await.map(|_| ()),
                        _ => admin.delete(&target, "").await,
                    };
                    removed.map(|()| admin)
                })
            })
            .collect();
        let mut winners = Vec::new();
        for removal in removals {
            match removal.await.unwrap() {
                Ok(winner) => winners.push(winner),
                // By a moment too late, or by so much that its bearer was removed already.
                Err(status) => {
                    let known = ["LAST_ADMINISTRATOR", "PERMISSION_DENIED", "ACCESS_TOKEN_INVALID"];
                    assert!(known.contains(&&*reason(&status)), "{status:?}");
                }
            }
        }
        assert_eq!(winners.len(), 1, "round {round}");
        let active = "SELECT COUNT(*) FROM user_roles r JOIN users u ON u.id = r.user_id \
                      WHERE r.role = 'admin' AND u.state = 'active'";
        assert_eq!(node.database.integer(active).await, 1, "round {round}");
        remaining = winners.swap_remove(0);
    }
    Arc::into_inner(node).unwrap().remove().await;
}

async fn acts_on_nobody_are_refused(backend: Backend) {
    let node = TestNode::start(backend).await;
    let admin = Admin::of(&node).await;
    let nobody = (Code::NotFound, "USER_NOT_FOUND".to_owned());
    assert_eq!(refusal(admin.suspend(NOBODY).await), nobody);
    assert_eq!(refusal(admin.reactivate(NOBODY).await), nobody);
    assert_eq!(refusal(admin.delete(NOBODY, "").await), nobody);
    assert_eq!(refusal(admin.set_password(NOBODY, PASSWORD).await), nobody);
    assert_eq!(refusal(admin.sessions(NOBODY, 0, "").await), nobody);
    assert_eq!(refusal(admin.revoke(NOBODY, "").await), nobody);
    assert_eq!(refusal(admin.revoke(NOBODY, NOBODY).await), nobody);
    assert_eq!(refusal(admin.assign(NOBODY, "admin").await), nobody);
    assert_eq!(refusal(admin.unassign(NOBODY, "admin").await), nobody);
    for refused in [
        admin.suspend("x").await.unwrap_err(),
        admin.reactivate("x").await.unwrap_err(),
        admin.delete("x", "").await.unwrap_err(),
        admin.assign("x", "admin").await.unwrap_err(),
        admin.unassign("x", "admin").await.unwrap_err(),
    ] {
        assert_eq!(fields(&refused), ["user_id"]);
    }
    assert_eq!(node.events("act LIKE 'user.%' AND act <> 'user.registered'").await, 0);
    let request = v1::ListUserSessionsRequest::default();
    assert_eq!(fields(&admin.client().list_user_sessions(admin.ask(request)).await.unwrap_err()), ["user_id"]);
    node.remove().await;
}
