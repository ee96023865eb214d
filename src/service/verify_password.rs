//! How a presented password is checked against what is stored.

use super::{RequestContext, Service, ServiceError};
use crate::{
    crypto::{HashError, Place, Verdict},
    domain::{id::UserId, password::Password, user::PhcString},
};

impl Service {
    /// Checks a password, at a place that was kept for it, if one was. A stored hash that cannot be checked is no use to anybody: the log says whose it is, and the caller
    /// is refused as for a wrong password, at the same cost.
    pub(super) async fn verify_password(
        &self,
        mut place: Option<Place>,
        user: Option<UserId>,
        password: Password,
        stored: Option<PhcString>,
        context: &RequestContext,
    ) -> Result<Verdict, ServiceError> {
        let deadline = self.hash_deadline(context);
        match self.passwords.verify_at(&mut place, password.clone(), stored, deadline).await {
            Err(HashError::Stored(bad)) => {
                let user = user.map(|user| user.to_string());
                tracing::error!(user, "the stored password hash of an account {bad}");
                Ok(self.passwords.verify_at(&mut place, password, None, deadline).await?)
            }
            verdict => Ok(verdict?),
        }
    }
}
