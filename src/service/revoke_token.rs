//! `RevokeToken` (RFC 7009): whoever holds a token may put an end to it.

use super::{RequestContext, Service, ServiceError};
use crate::{
    domain::{claims::AccessClaims, field::FieldViolation, secret::SecretString, session::EndReason},
    jose::jwe::may_be_opened_elsewhere,
    store::port::TokenRevocation,
    verifier::{Inactive, REFRESH_TOKEN_PREFIX, Wrapping},
};

impl Service {
    /// Ends the session of a refresh token; refuses an access token from now on. A token that is good for nothing any more, or
    /// never was, is a success too (§2.2). Of an encrypted one that cannot be opened here nobody knows that.
    pub async fn revoke_token(&self, token: &SecretString, context: &RequestContext) -> Result<(), ServiceError> {
        if token.expose().starts_with(REFRESH_TOKEN_PREFIX) {
            self.end_session_of(token, EndReason::Revoked, context).await
        } else {
            self.revoke_access_token(token, context).await
        }
    }

    async fn revoke_access_token(&self, token: &SecretString, context: &RequestContext) -> Result<(), ServiceError> {
        let Some(claims) = self.revocable(token).await? else { return Ok(()) };
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

    /// What an access token says that is of use to somebody. One that this node knows to be revoked is not, so it does not fill
    /// the feed.
    async fn revocable(&self, token: &SecretString) -> Result<Option<AccessClaims>, ServiceError> {
        match self.check(token, &[]).await? {
            Ok(claims) => Ok(Some(claims)),
            // A verifier that was not given its key yet takes a plain one.
            Err(Inactive::NotEncrypted) => {
                let verifier = self.verifier.verifier().clone().with_wrapping(Wrapping::Signed);
                let (keys, revocations) = (self.keys.verification_keys(), self.feed.revocations());
                Ok(verifier.verify(token.expose(), &keys, revocations, self.clock.now()).ok())
            }
            // It may be one of ours, and good: to say that it is revoked would be a lie. Not only where keys are known to be missing: another
            // node may have been given a newer one, or encryption have been turned off since.
            Err(Inactive::Undecryptable) if may_be_opened_elsewhere(token.expose()) => {
                let text = "is encrypted for a key that this server does not hold: revoke its refresh token, or end its session";
                Err(FieldViolation::new("token", text).into())
            }
            Err(_) => Ok(None),
        }
    }
}
