//! `UserAdminService`: managing users.

mod accounts;
mod claims;
mod erasure;
mod imports;
mod lists;
mod nodes;
mod ranks;
mod requests;
mod roles;
mod states;
mod updates;

use std::sync::Arc;

use tonic::{Request, Status, transport::Channel};
use vouchsafe::pb::v1::{self, InactiveReason, user_admin_service_client::UserAdminServiceClient};

use crate::support::{Backend, TestDatabase, TestNode, bearer, reason};

/// Somebody who manages users at one node.
#[derive(Clone)]
struct Admin {
    channel: Channel,
    token: String,
    id: String,
}

/// Gives a user a role behind everybody's back.
async fn give(node: &TestNode, user: &str, role: &str) {
    let id = node.database.id(&user.parse().unwrap());
    let sql = format!("INSERT INTO user_roles (user_id, role, assign_time) VALUES ({id}, '{role}', 0)");
    assert_eq!(node.database.execute(&sql).await, 1);
}

/// Makes a role behind everybody's back.
async fn role(node: &TestNode, name: &str, permissions: &[&str]) {
    let permissions = serde_json::to_string(permissions).unwrap();
    let sql = format!(
        "INSERT INTO roles (name, permissions, create_time, update_time) VALUES ('{name}', '{permissions}', 0, 0)"
    );
    assert_eq!(node.database.execute(&sql).await, 1);
}

/// Two nodes on one database.
async fn two_nodes(backend: Backend) -> (Arc<TestNode>, Arc<TestNode>) {
    let database = Arc::new(TestDatabase::migrated(backend).await);
    let first = TestNode::on(database.clone()).start().await;
    let second = TestNode::on(database).start().await;
    (Arc::new(first), Arc::new(second))
}

async fn remove(first: Arc<TestNode>, second: Arc<TestNode>) {
    Arc::into_inner(first).unwrap().stop().await;
    Arc::into_inner(second).unwrap().remove().await;
}

/// Asserts that nothing of a session is taken any more: this is what is said of its refresh token.
async fn assert_dead(node: &TestNode, tokens: &v1::TokenPair, said: &str) {
    assert_eq!(node.verify_strongly(&tokens.access_token).await, InactiveReason::Revoked);
    assert!(!node.admits(&tokens.access_token).await);
    assert_eq!(reason(&node.refresh(&tokens.refresh_token).await.unwrap_err()), said);
}

impl Admin {
    /// A user with a role who has signed in.
    async fn with_role(node: &TestNode, email: &str, role: &str) -> Self {
        let id = node.register(email).await.id;
        give(node, &id, role).await;
        Self { channel: node.channel().await, token: node.login(email).await.access_token, id }
    }

    /// An administrator of a new node.
    async fn of(node: &TestNode) -> Self {
        Self::with_role(node, "root@example.com", "admin").await
    }

    /// The same at another node.
    async fn at(&self, node: &TestNode) -> Self {
        Self { channel: node.channel().await, ..self.clone() }
    }

    fn client(&self) -> UserAdminServiceClient<Channel> {
        UserAdminServiceClient::new(self.channel.clone())
    }

    fn ask<T>(&self, message: T) -> Request<T> {
        bearer(&self.token, message)
    }

    async fn create(&self, request: v1::CreateUserRequest) -> Result<v1::User, Status> {
        Ok(self.client().create_user(self.ask(request)).await?.into_inner().user.unwrap())
    }

    /// A user without anything but an address.
    async fn user(&self, email: &str) -> v1::User {
        self.create(v1::CreateUserRequest { email: email.into(), ..Default::default() }).await.unwrap()
    }

    async fn find(&self, key: v1::get_user_request::Key) -> Result<v1::User, Status> {
        let request = v1::GetUserRequest { key: Some(key) };
        Ok(self.client().get_user(self.ask(request)).await?.into_inner().user.unwrap())
    }

    async fn get(&self, id: &str) -> Result<v1::User, Status> {
        self.find(v1::get_user_request::Key::UserId(id.into())).await
    }

    async fn page(&self, request: v1::ListUsersRequest) -> Result<v1::ListUsersResponse, Status> {
        Ok(self.client().list_users(self.ask(request)).await?.into_inner())
    }

    async fn update(&self, user: v1::User, mask: &[&str]) -> Result<v1::User, Status> {
        let paths = mask.iter().map(|path| (*path).to_owned()).collect();
        let request = v1::UpdateUserRequest { user: Some(user), update_mask: Some(prost_types::FieldMask { paths }) };
        Ok(self.client().update_user(self.ask(request)).await?.into_inner().user.unwrap())
    }

    async fn delete(&self, id: &str, etag: &str) -> Result<(), Status> {
        let request = v1::DeleteUserRequest { user_id: id.into(), etag: etag.into() };
        self.client().delete_user(self.ask(request)).await.map(|_| ())
    }

    async fn suspend(&self, id: &str) -> Result<v1::User, Status> {
        let request = v1::SuspendUserRequest { user_id: id.into() };
        Ok(self.client().suspend_user(self.ask(request)).await?.into_inner().user.unwrap())
    }

    async fn reactivate(&self, id: &str) -> Result<v1::User, Status> {
        let request = v1::ReactivateUserRequest { user_id: id.into() };
        Ok(self.client().reactivate_user(self.ask(request)).await?.into_inner().user.unwrap())
    }

    async fn set_password(&self, id: &str, password: &str) -> Result<(), Status> {
        let request = v1::SetUserPasswordRequest { user_id: id.into(), password: password.into() };
        self.client().set_user_password(self.ask(request)).await.map(|_| ())
    }

    async fn sessions(&self, id: &str, size: i32, token: &str) -> Result<v1::ListUserSessionsResponse, Status> {
        let request = v1::ListUserSessionsRequest { user_id: id.into(), page_size: size, page_token: token.into() };
        Ok(self.client().list_user_sessions(self.ask(request)).await?.into_inner())
    }

    async fn revoke(&self, id: &str, session: &str) -> Result<(), Status> {
        let request = v1::RevokeUserSessionsRequest { user_id: id.into(), session_id: session.into() };
        self.client().revoke_user_sessions(self.ask(request)).await.map(|_| ())
    }

    async fn assign(&self, id: &str, role: &str) -> Result<v1::User, Status> {
        let request = v1::AssignRoleRequest { user_id: id.into(), role: role.into() };
        Ok(self.client().assign_role(self.ask(request)).await?.into_inner().user.unwrap())
    }

    async fn unassign(&self, id: &str, role: &str) -> Result<v1::User, Status> {
        let request = v1::UnassignRoleRequest { user_id: id.into(), role: role.into() };
        Ok(self.client().unassign_role(self.ask(request)).await?.into_inner().user.unwrap())
    }

    /// The acts that this administrator did to a user, as the audit trail has them, each with where it came from, by name.
    async fn acts_on(&self, node: &TestNode, id: &str) -> Vec<String> {
        let [actor, subject] = [&self.id, id].map(|id| node.database.id(&id.parse().unwrap()));
        let sql = format!(
            "SELECT act FROM audit_events WHERE actor = 'user' AND actor_id = {actor} AND subject_id = {subject} \
             AND succeeded AND request_id <> '' ORDER BY act"
        );
        node.database.texts(&sql).await
    }
}

/// Which error it is: code and reason.
fn refusal<T: std::fmt::Debug>(answer: Result<T, Status>) -> (tonic::Code, String) {
    let status = answer.unwrap_err();
    (status.code(), reason(&status))
}

/// A text of a user or role that there is not.
const NOBODY: &str = "0198f0c2-0000-7000-8000-000000000000";
