//! `UpdateUser`, `DeleteUser`, `SuspendUser`, `ReactivateUser`, `SetUserPassword`, `AssignRole`, `UnassignRole`.

use std::sync::Arc;

use super::act;
use crate::{
    domain::{
        id::UserId,
        notice::Notice,
        password::Password,
        user::{User, UserState},
        users::UserChange,
        warrant::Warrant,
    },
    service::{ChosenFor, RequestContext, Service, ServiceError, change_password::words_of},
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
        let change = UserChange { said_attributes: self.policy.said_attributes.clone(), ..change };
        Ok(self.store.update_user(act(warrant, user, context), expected, change).await?)
    }

    /// Deletes a user for good, with all that is kept of the user, if its revision is the one expected.
    pub async fn delete_user(
        &self,
        warrant: Warrant,
        user: UserId,
        expected: Option<i64>,
        context: &RequestContext,
    ) -> Result<(), ServiceError> {
        let (store, act) = (Arc::clone(&self.store), act(warrant, user, context));
        Ok(self.erase(async move { store.delete_user(act, expected).await }).await?)
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

    /// Replaces a user's password and ends all sessions. Whoever gets the new one may use it, however often the old one was guessed at.
    pub async fn set_user_password(
        &self,
        warrant: Warrant,
        user: UserId,
        password: Password,
        context: &RequestContext,
    ) -> Result<(), ServiceError> {
        let act = act(warrant, user, context);
        // Whether a password is one of the user's is for nobody to hear who may not set it.
        let (user, hashes) = self.store.passwords_to_act_on(act.clone(), self.password_history()).await?;
        let (words, field) = (words_of(&user), "password");
        let chosen_for = ChosenFor { field, user: None, words: &words, second_factor: user.totp_enrolled };
        self.check_chosen(&password, chosen_for, context).await?;
        self.refuse_known(&password, field, hashes, context).await?;
        let hash = self.passwords.hash(password, self.random(), self.hash_deadline(context)).await?;
        let news = self.news(&user, Notice::PasswordChanged);
        let forgiven = self.owner_keys(&user);
        Ok(self.store.set_user_password(act, hash, forgiven, news).await?)
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
