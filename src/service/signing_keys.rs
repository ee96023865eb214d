//! `RotateSigningKey`, `RevokeSigningKey`: the same verbs as `vouchsafe keys`, in the name of whoever calls.

use std::sync::Arc;

use tracing::Instrument as _;

use super::{KeyError, PublishedKey, Service, ServiceError};
use crate::{
    domain::warrant::Authority,
    store::{Refused, port::RevokeKey},
};

impl Service {
    /// Publishes a successor of every key now: the one that will sign.
    pub async fn rotate_signing_key(self: &Arc<Self>, by: Authority) -> Result<PublishedKey, ServiceError> {
        let this = Arc::clone(self);
        let rotating = async move {
            let kid = this.keys.rotate_now(&*this.store, &this.policy, by).await?;
            let published = this.keys.published().into_iter().find(|key| key.kid == kid);
            published.ok_or(ServiceError::Refused(Refused::NoSigningKey))
        };
        // Two transactions: a caller who goes away does not come between them.
        tokio::spawn(rotating.in_current_span()).await.map_err(ServiceError::internal).flatten()
    }

    /// Revokes a key and every token it signed: the keys that are left.
    pub async fn revoke_signing_key(
        self: &Arc<Self>,
        kid: String,
        by: Authority,
    ) -> Result<Vec<PublishedKey>, ServiceError> {
        let this = Arc::clone(self);
        let revoking = async move {
            // It may have been published a moment ago, by another node.
            this.keys.keep_up(&*this.store).await;
            match this.keys.revoke(&*this.store, &this.policy, &kid, by).await? {
                RevokeKey::Revoked => Ok(this.keys.published()),
                RevokeKey::Unknown => Err(ServiceError::Refused(Refused::NoSigningKey)),
            }
        };
        tokio::spawn(revoking.in_current_span()).await.map_err(ServiceError::internal).flatten()
    }
}

impl From<KeyError> for ServiceError {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Store(error) => error.into(),
            KeyError::WrongMasterKey | KeyError::Damaged { .. } => Self::internal(error),
        }
    }
}
