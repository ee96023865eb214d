//! `CreateRole`, `UpdateRole`, `DeleteRole`, `GetRole`, `ListRoles`. What a caller may do to which role, the store decides in
//! the transaction of the act.

use super::{RequestContext, Service, ServiceError};
use crate::{
    domain::{
        role::{Role, RoleChange, RoleName},
        warrant::Warrant,
    },
    store::{Refused, port::NewRole},
};

/// A page of roles.
#[derive(Clone, Debug)]
pub struct RoleList {
    /// The roles, by name.
    pub roles: Vec<Role>,
    /// The name after which the next page begins; `None` on the last one.
    pub next: Option<RoleName>,
}

impl Service {
    /// Creates a role.
    pub async fn create_role(
        &self,
        role: NewRole,
        warrant: Warrant,
        context: &RequestContext,
    ) -> Result<Role, ServiceError> {
        Ok(self.store.create_role(role, warrant, context.origin.clone()).await?)
    }

    /// Changes a role, if it still has `revision` where that is given.
    pub async fn update_role(
        &self,
        name: RoleName,
        change: RoleChange,
        revision: Option<i64>,
        warrant: Warrant,
        context: &RequestContext,
    ) -> Result<Role, ServiceError> {
        Ok(self.store.update_role(name, change, revision, warrant, context.origin.clone()).await?)
    }

    /// Deletes a role that nobody has, if it still has `revision` where that is given.
    pub async fn delete_role(
        &self,
        name: RoleName,
        revision: Option<i64>,
        warrant: Warrant,
        context: &RequestContext,
    ) -> Result<(), ServiceError> {
        Ok(self.store.delete_role(name, revision, warrant, context.origin.clone()).await?)
    }

    /// A role.
    pub async fn get_role(&self, name: RoleName) -> Result<Role, ServiceError> {
        Ok(self.store.get_role(name).await?.ok_or(Refused::NoRole)?)
    }

    /// A page of roles: up to `limit`, whose names come after `after`.
    pub async fn list_roles(&self, after: Option<RoleName>, limit: u32) -> Result<RoleList, ServiceError> {
        // One more than asked for tells whether there is another page.
        let mut roles = self.store.list_roles(after, limit + 1).await?;
        let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = roles.len() > wanted;
        roles.truncate(wanted);
        let next = if more { roles.last().map(|role| role.name.clone()) } else { None };
        Ok(RoleList { roles, next })
    }
}
