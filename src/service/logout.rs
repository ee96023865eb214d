//! `Logout`: ends the session of a refresh token.

use super::{RequestContext, Service, ServiceError};
use crate::domain::{secret::SecretString, session::EndReason};

impl Service {
    /// Ends the session, whichever generation of its refresh token is presented. A token that is not ours, or whose session
    /// has ended, is a success too (RFC 7009 §2.2).
    pub async fn logout(&self, token: &SecretString, context: &RequestContext) -> Result<(), ServiceError> {
        self.end_session_of(token, EndReason::Logout, context).await
    }

    /// Ends the session of a refresh token for this reason, if there is one to end.
    pub(super) async fn end_session_of(
        &self,
        token: &SecretString,
        reason: EndReason,
        context: &RequestContext,
    ) -> Result<(), ServiceError> {
        let claims = match self.keys.read_refresh_token(&*self.store, token).await {
            Ok(claims) => claims,
            Err(ServiceError::RefreshTokenInvalid) => return Ok(()),
            Err(error) => return Err(error),
        };
        if !self.store.end_session(claims.session, None, reason, context.origin.clone()).await? {
            // Another node ended it. This one must know before it says that the tokens are refused.
            self.feed.catch_up().await?;
        }
        Ok(())
    }
}
