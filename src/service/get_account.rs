//! `GetAccount`: the caller's own account.

use super::{Principal, Service, ServiceError};
use crate::domain::user::User;

impl Service {
    /// The caller's account. A token of an account that is gone is no longer accepted.
    pub async fn get_account(&self, caller: Principal) -> Result<User, ServiceError> {
        self.store.get_user(caller.user).await?.ok_or(ServiceError::AccessTokenInvalid)
    }
}
