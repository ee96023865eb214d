//! Step-up: what a stolen access token, or a laptop left open, must not suffice for.

use super::{Principal, Service, ServiceError};
use crate::domain::user::User;

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
}
