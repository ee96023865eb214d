//! `UpdateUser`, `DeleteUser`, `SuspendUser`, `ReactivateUser`, `SetUserPassword`, `AssignRole`, `UnassignRole`.

use super::act;
use crate::{
    domain::{
        id::UserId,
        password::Password,
        user::{User, UserState},
        users::UserChange,
        warrant::Warrant,
    },
    service::{RequestContext, Service, ServiceError},
};

impl Service {
    /// Changes what is known of a user, if its revision is the one expected.
    pub async fn update_user(
        &self,
        warrant: Warrant,
        user: UserId,
        expected: Option<i64>,
        change: UserChange,
        context: &RequestContext,
    ) -> Result<User, ServiceError> {
        Ok(self.store.update_user(act(warrant, user, context), expected, change).await?)
    }

    /// Deletes a user for good, if its revision is the one expected.
    pub async fn delete_user(
        &self,
        warrant: Warrant,
        user: UserId,
        expected: Option<i64>,
        context: &RequestContext,
    ) -> Result<(), ServiceError> {
        Ok(self.store.delete_user(act(warrant, user, context), expected).await?)
    }

    /// Bars a user from signing in and ends all sessions.
    pub async fn suspend_user(
        &self,
        warrant: Warrant,
        user: UserId,
        context: &RequestContext,
    ) -> Result<User, ServiceError> {
        Ok(self.store.set_user_state(act(warrant, user, context), UserState::Suspended).await?)
    }

    /// Lets a suspended user sign in again.
    pub async fn reactivate_user(
        &self,
        warrant: Warrant,
        user: UserId,
        context: &RequestContext,
    ) -> Result<User, ServiceError> {
        Ok(self.store.set_user_state(act(warrant, user, context), UserState::Active).await?)
    }

    /// Replaces a user's password and ends all sessions.
    pub async fn set_user_password(
        &self,
        warrant: Warrant,
        user: UserId,
        password: Password,
        context: &RequestContext,
    ) -> Result<(), ServiceError> {
        let hash = self.passwords.hash(password, self.random(), self.hash_deadline(context)).await?;
        Ok(self.store.set_user_password(act(warrant, user, context), hash).await?)
    }

    /// Gives a user a role.
    pub async fn assign_role(
        &self,
        warrant: Warrant,
        user: UserId,
        role: String,
        context: &RequestContext,
    ) -> Result<User, ServiceError> {
        Ok(self.store.assign_role(act(warrant, user, context), role).await?)
    }

    /// Takes a role from a user.
    pub async fn unassign_role(
        &self,
        warrant: Warrant,
        user: UserId,
        role: String,
        context: &RequestContext,
    ) -> Result<User, ServiceError> {
        Ok(self.store.unassign_role(act(warrant, user, context), role).await?)
    }
}
