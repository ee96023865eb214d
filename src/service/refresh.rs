//! `Refresh`: exchanges a refresh token for a new pair.

use super::{IssuedTokens, RequestContext, Service, ServiceError};
use crate::{
    domain::{refresh::Presented, secret::SecretString},
    store::port::{RefreshAttempt, RefreshOutcome},
};

impl Service {
    /// Rotates a refresh token, or gives a lost answer again. A replay is answered as such only after the session's end has
    /// been committed.
    pub async fn refresh(&self, token: &SecretString, context: &RequestContext) -> Result<IssuedTokens, ServiceError> {
        let claims = self.keys.read_refresh_token(&*self.store, token).await?;
        let attempt = RefreshAttempt {
            session: claims.session,
            presented: Presented { generation: claims.generation, arrived: context.arrived },
            window: self.policy.redelivery_window,
            policy: self.policy.sessions,
            key_id: self.keys.refresh_key_in_force(self.clock.now())?,
            origin: context.origin.clone(),
        };
        match self.store.refresh(attempt).await? {
            RefreshOutcome::Granted(live) => self.issue(&live).await,
            RefreshOutcome::Overtaken => Err(ServiceError::RefreshOvertaken),
            RefreshOutcome::Replayed => {
                tracing::warn!(session = %claims.session, "refresh token replayed, session ended");
                Err(ServiceError::RefreshTokenReused)
            }
            RefreshOutcome::Ended => Err(ServiceError::SessionRevoked),
            // A session is forgotten a while after its end: for its holder the same thing.
            RefreshOutcome::Expired | RefreshOutcome::Unknown => Err(ServiceError::RefreshTokenExpired),
        }
    }
}
