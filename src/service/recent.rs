//! Step-up: what a stolen access token, or a laptop left open, must not suffice for.

use super::{Principal, Service, ServiceError};
use crate::{
    domain::user::User,
    store::{Refused, StoreError},
};

impl Service {
    /// The caller's account, if the sign-in of the caller's session is recent and used the second factor that the account has.
    pub(super) async fn recently_proved(&self, caller: Principal) -> Result<User, ServiceError> {
        let user = self.store.get_user(caller.user).await?.ok_or(ServiceError::AccessTokenInvalid)?;
        let recent = self.clock.now().since(caller.auth_time) <= self.policy.recent_authentication;
        if recent && (caller.second_factor || !user.totp_enrolled) {
            Ok(user)
        } else {
            Err(ServiceError::ReauthenticationRequired)
        }
    }

    /// The same for what locks others out: where addresses can be verified, the own one must be, so that whoever prepared an account
    /// under somebody else's address cannot keep it with an app or a phone.
    pub(super) async fn recently_proved_owner(&self, caller: Principal) -> Result<User, ServiceError> {
        let user = self.recently_proved(caller).await?;
        if self.policy.sends_email && user.email_verified_time.is_none() {
            return Err(ServiceError::EmailNotVerified);
        }
        Ok(user)
    }
}

/// What a change of the own account was refused with. The token of an account that is gone or suspended, or of a session that was
/// ended meanwhile, is no longer accepted.
pub(super) fn caller_gone(error: StoreError) -> ServiceError {
    match error {
        StoreError::Refused(Refused::NoUser | Refused::NoSession) => ServiceError::AccessTokenInvalid,
        other => other.into(),
    }
}
