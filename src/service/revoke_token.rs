//! `RevokeToken` (RFC 7009): whoever holds a token may put an end to it.

use super::{RequestContext, Service, ServiceError};
use crate::{
    domain::{secret::SecretString, session::EndReason},
    store::port::TokenRevocation,
    verifier::REFRESH_TOKEN_PREFIX,
};

impl Service {
    /// Ends the session of a refresh token; refuses an access token from now on. A token that is good for nothing any more, or
    /// never was, is a success too (§2.2).
    pub async fn revoke_token(&self, token: &SecretString, context: &RequestContext) -> Result<(), ServiceError> {
        if token.expose().starts_with(REFRESH_TOKEN_PREFIX) {
            self.end_session_of(token, EndReason::Revoked, context).await
        } else {
            self.revoke_access_token(token, context).await
        }
    }

    async fn revoke_access_token(&self, token: &SecretString, context: &RequestContext) -> Result<(), ServiceError> {
        // One that this node knows to be revoked is not good either, so it does not fill the feed.
        let Ok(claims) = self.check(token, &[]).await? else { return Ok(()) };
        let revocation = TokenRevocation {
            token: claims.token_id,
            session: claims.session_id(),
            subject: claims.subject,
            issue_time: claims.issue_time,
        };
        if !self.store.revoke_token(revocation, context.origin.clone()).await? {
            // Another node did it. This one must know before it says that the token is refused.
            self.feed.catch_up().await?;
        }
        Ok(())
    }
}
