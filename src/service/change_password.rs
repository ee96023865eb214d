//! `ChangePassword`: replaces the caller's password and ends the other sessions.

use super::{Principal, RequestContext, Service, ServiceError, sessions::own_act};
use crate::{
    crypto::Verdict,
    domain::{audit::Act, password::Password},
    store::port::Change,
};

impl Service {
    /// Replaces the password if `current` is the one in force.
    pub async fn change_password(
        &self,
        caller: Principal,
        current: Password,
        new: Password,
        context: &RequestContext,
    ) -> Result<(), ServiceError> {
        let Some(found) = self.store.get_credentials(caller.user).await? else {
            return Err(ServiceError::AccessTokenInvalid);
        };
        let verdict = self.verify_password(Some(caller.user), current, found.password_hash, context).await?;
        if verdict == Verdict::Mismatch {
            self.store.record(own_act(caller, Act::ReauthenticationFailed, context)).await?;
            return Err(ServiceError::InvalidCredentials);
        }
        let hash = self.passwords.hash(new, self.random(), self.hash_deadline(context)).await?;
        let event = own_act(caller, Act::PasswordChanged, context);
        match self.store.change_password(caller.user, found.epoch, hash, caller.session, event).await? {
            Change::Done => Ok(()),
            Change::Conflict => Err(ServiceError::Conflict),
        }
    }
}
