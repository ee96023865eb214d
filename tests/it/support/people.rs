//! People with roles, made behind the API's back where a test is not about making them.

use tonic::{Status, transport::Channel};
use vouchsafe::pb::v1::{self, role_admin_service_client::RoleAdminServiceClient};

use super::{PASSWORD, TestDatabase, TestNode, bearer, login_request};

impl TestDatabase {
    /// Makes a role.
    pub(crate) async fn make_role(&self, name: &str, permissions: &[&str]) {
        let permissions = serde_json::to_string(permissions).unwrap();
        let columns = "name, permissions, create_time, update_time";
        self.execute(&format!("INSERT INTO roles ({columns}) VALUES ('{name}', '{permissions}', 0, 0)")).await;
    }

    /// Gives a user a role.
    pub(crate) async fn give_role(&self, user: &str, role: &str) {
        let id = self.id(&user.parse().unwrap());
        let columns = "user_id, role, assign_time";
        self.execute(&format!("INSERT INTO user_roles ({columns}) VALUES ({id}, '{role}', 0)")).await;
    }
}

impl TestNode {
    pub(crate) async fn roles(&self) -> RoleAdminServiceClient<Channel> {
        RoleAdminServiceClient::new(self.shared().await)
    }

    /// Registers a user, gives the roles, and signs the user in for a scope.
    pub(crate) async fn join(&self, name: &str, roles: &[&str], scope: &str) -> v1::TokenPair {
        let email = format!("{name}@example.com");
        let user = self.register(&email).await;
        for role in roles {
            self.database.give_role(&user.id, role).await;
        }
        let request = v1::LoginRequest { scope: scope.into(), ..login_request(&email, PASSWORD) };
        self.try_login(request).await.unwrap()
    }

    /// Registers a user whose address is verified.
    pub(crate) async fn register_verified(&self, email: &str) -> v1::User {
        let user = self.register(email).await;
        let id = self.database.id(&user.id.parse().unwrap());
        let sql = format!("UPDATE users SET email_verified_time = 1 WHERE id = {id}");
        assert_eq!(self.database.execute(&sql).await, 1);
        user
    }

    /// Replaces what a role allows.
    pub(crate) async fn redefine(&self, token: &str, role: &str, permissions: &[&str]) -> Result<v1::Role, Status> {
        let role = role_of(role, permissions);
        let update_mask = Some(prost_types::FieldMask { paths: vec!["permissions".into()] });
        let request = v1::UpdateRoleRequest { role: Some(role), update_mask };
        Ok(self.roles().await.update_role(bearer(token, request)).await?.into_inner().role.unwrap())
    }
}

/// A role as a caller describes it.
pub(crate) fn role_of(name: &str, permissions: &[&str]) -> v1::Role {
    let permissions = permissions.iter().map(|&text| text.to_owned()).collect();
    v1::Role { name: name.into(), permissions, ..Default::default() }
}
