//! Users whom an administrator creates, and creations that are asked for again.

use super::{
    Tx,
    users::{insert_user, which_is_taken},
};
use crate::{
    domain::{audit::Act, claim_rules::check_size, id::UserId, user::User},
    store::{
        Refused, StoreError,
        port::{CreateUser, UserAct, UserAddition},
    },
};

/// What it takes beside the permission of the call to create a user who has a role from the first.
const ASSIGN: &str = "roles:assign";
/// The same for a password.
const SET_PASSWORD: &str = "users:set_password";

impl Tx {
    pub(super) async fn add_user(&mut self, addition: &UserAddition) -> Result<User, StoreError> {
        let UserAddition { warrant, new, request, origin } = addition;
        let user = &new.user;
        let allowed = self.authorize(warrant).await?;
        let lacks = |wanted: bool, permission| wanted && !allowed.allow(permission);
        if lacks(!user.roles.is_empty(), ASSIGN) || lacks(new.password_hash.is_some(), SET_PASSWORD) {
            return Err(Refused::NotPermitted.into());
        }
        if let Some(request) = request
            && let Some(made) = self.claim(request, warrant.actor, *user.id.as_uuid()).await?
        {
            return self.user(UserId::from_uuid(made)).await;
        }
        if !insert_user(self, new).await? {
            return Err(match which_is_taken(self, user).await? {
                CreateUser::UsernameTaken => Refused::UsernameTaken.into(),
                CreateUser::EmailTaken | CreateUser::Created => Refused::EmailTaken.into(),
            });
        }
        if self.is_reserved(user.username.as_ref()).await? {
            return Err(Refused::UsernameTaken.into());
        }
        // Sorted: whoever locks several roles locks them in this order.
        for role in &user.roles {
            if !allowed.cover(&self.lock_role(role).await?) {
                return Err(Refused::ExceedsOwn.into());
            }
            self.give_role(user.id, role).await?;
        }
        check_size(&self.said_of(user.id).await?).map_err(|_| Refused::ClaimsTooLarge)?;
        self.still_allowed(warrant, &allowed).await?;
        self.create_data_key(*user.id.as_uuid()).await?;
        let act = UserAct { warrant: warrant.clone(), user: user.id, origin: origin.clone() };
        self.audit_act(&act, Act::UserCreated).await?;
        for role in &user.roles {
            self.audit_act(&act, Act::RoleAssigned { role: role.clone() }).await?;
        }
        self.user(user.id).await
    }
}
