//! What is kept of roles.

use async_trait::async_trait;

use crate::{
    domain::{
        audit::Origin,
        custom_claims::CustomClaims,
        role::{Permissions, Role, RoleChange, RoleName},
        user::Label,
        warrant::Warrant,
    },
    store::StoreError,
};

/// A role to be created.
#[derive(Clone, Debug)]
pub struct NewRole {
    /// Its name.
    pub name: RoleName,
    /// What it is for.
    pub description: Label,
    /// What it allows.
    pub permissions: Permissions,
    /// What it has tokens say beside.
    pub custom_claims: CustomClaims,
}

/// Roles. Nobody gives a role, or takes from one, what they do not hold: the caller must hold what the role allows before
/// the change and after it. A verb that refuses says why by [`Refused`](crate::store::Refused).
#[async_trait]
pub trait RoleStore: Send + Sync + 'static {
    /// Creates a role.
    async fn create_role(&self, role: NewRole, warrant: Warrant, origin: Origin) -> Result<Role, StoreError>;

    /// Changes a role, if it still has `revision` where that is given. A change of what it allows or has tokens say is recorded in the feed, so
    /// that no hot record made before it speaks for a holder's row. What is so already is not changed again.
    async fn update_role(
        &self,
        name: RoleName,
        change: RoleChange,
        revision: Option<i64>,
        warrant: Warrant,
        origin: Origin,
    ) -> Result<Role, StoreError>;

    /// Deletes a role that nobody has, if it still has `revision` where that is given.
    async fn delete_role(
        &self,
        name: RoleName,
        revision: Option<i64>,
        warrant: Warrant,
        origin: Origin,
    ) -> Result<(), StoreError>;

    /// A role by its name.
    async fn get_role(&self, name: RoleName) -> Result<Option<Role>, StoreError>;

    /// Up to `limit` roles whose names come after `after`, in the order of their bytes.
    async fn list_roles(&self, after: Option<RoleName>, limit: u32) -> Result<Vec<Role>, StoreError>;
}
