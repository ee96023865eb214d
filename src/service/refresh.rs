//! `Refresh`: exchanges a refresh token for a new pair.
//!
//! Without a hot state, or with it away, the locked row decides and is written. With it, the row is only read, by one query for
//! everybody who waits, and the counter moves in the hot record; the row follows. Whatever has to be audited goes to the locked
//! row in any case. With the database away the record may speak for the row, for a while and under conditions.

use std::sync::Arc;

use super::{IssuedTokens, RequestContext, Service, ServiceError};
use crate::{
    domain::{
        refresh::{Delivery, Presented},
        secret::SecretString,
    },
    store::port::{Caller, RefreshAttempt, RefreshOutcome},
    telemetry::{RefreshPath, RefreshRow},
};

mod by_record;

pub(super) use by_record::HotRefresh;

impl Service {
    /// Rotates a refresh token, or gives a lost answer again. A replay is answered as such only after the session's end has
    /// been committed.
    pub async fn refresh(
        self: &Arc<Self>,
        token: &SecretString,
        context: &RequestContext,
    ) -> Result<IssuedTokens, ServiceError> {
        let claims = self.keys.read_refresh_token(&*self.store, token).await?;
        let (caller, _waiting) = Caller::waiting();
        let attempt = RefreshAttempt {
            session: claims.session,
            presented: Presented { generation: claims.generation, arrived: context.arrived },
            window: self.policy.redelivery_window,
            policy: self.policy.sessions,
            key_id: self.keys.refresh_key_in_force(self.clock.now())?,
            hot: None,
            caller,
            origin: context.origin.clone(),
        };
        let (outcome, path) = match &self.hot {
            Some(_) => self.refresh_with_record(attempt).await?,
            None => (self.store.refresh(attempt).await?, RefreshPath::Row),
        };
        tracing::debug!(session = %claims.session, ?path, "refresh decided");
        self.metrics.refresh(row_of(&outcome), path);
        match outcome {
            RefreshOutcome::Granted(live, _) => self.issue(&live).await,
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

fn row_of(outcome: &RefreshOutcome) -> RefreshRow {
    match outcome {
        RefreshOutcome::Granted(_, Delivery::Rotated) => RefreshRow::Rotate,
        RefreshOutcome::Granted(_, Delivery::RotatedStateLost) => RefreshRow::StateLost,
        RefreshOutcome::Granted(_, Delivery::Redelivered) => RefreshRow::Redeliver,
        RefreshOutcome::Granted(_, Delivery::RedeliveredLate) => RefreshRow::LateRedelivery,
        RefreshOutcome::Overtaken => RefreshRow::Overtaken,
        RefreshOutcome::Replayed => RefreshRow::Replay,
        RefreshOutcome::Ended => RefreshRow::Ended,
        RefreshOutcome::Expired => RefreshRow::Expired,
        RefreshOutcome::Unknown => RefreshRow::UnknownSession,
    }
}
