//! `Verify`, and the check of the access tokens that our own API is called with.

use std::time::Duration;

use super::{Policy, Principal, Service, ServiceError};
use crate::{
    domain::{
        audience::{Audience, OWN_AUDIENCE},
        claims::AccessClaims,
        secret::SecretString,
    },
    telemetry::VerificationResult,
    verifier::Inactive,
};

/// How fresh the revocation list must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consistency {
    /// This node's memory.
    Local,
    /// The feed, read to its end after the request arrived.
    Strong,
}

/// What there is to say about a token.
pub type Verification = Result<AccessClaims, Inactive>;

impl Service {
    /// Whether a token is active and what it says. An empty `audience` is not checked.
    pub async fn verify(
        &self,
        token: &SecretString,
        audience: &[Audience],
        consistency: Consistency,
    ) -> Result<Verification, ServiceError> {
        if consistency == Consistency::Strong {
            self.feed.catch_up().await.inspect_err(|_| self.metrics.verification(VerificationResult::Unavailable))?;
        }
        self.check(token, audience).await
    }

    /// Who calls our own API: the token must be meant for it.
    pub async fn authenticate(&self, token: &SecretString) -> Result<Principal, ServiceError> {
        let own = Audience::try_from(OWN_AUDIENCE.to_owned()).map_err(ServiceError::internal)?;
        match self.check(token, &[own]).await? {
            Ok(claims) => Ok(Principal { user: claims.subject, session: claims.session_id }),
            Err(_) => Err(ServiceError::AccessTokenInvalid),
        }
    }

    /// How old the list may be. For longer than otherwise while the hot state confirms that no node that reaches it knows of
    /// more: for as long as sessions are refreshed from there.
    fn staleness_allowed(&self) -> Duration {
        let Policy { max_staleness, database_grace, .. } = self.policy;
        if self.feed.is_vouched_for() { max_staleness.max(database_grace) } else { max_staleness }
    }

    /// Whether a token is active by what this node remembers, and by every key there is.
    pub(super) async fn check(
        &self,
        token: &SecretString,
        audience: &[Audience],
    ) -> Result<Verification, ServiceError> {
        let checked = self.check_with_every_key(token, audience).await;
        self.metrics.verification(match &checked {
            Ok(Ok(_)) => VerificationResult::Active,
            Ok(Err(reason)) => VerificationResult::from(*reason),
            Err(_) => VerificationResult::Unavailable,
        });
        checked
    }

    async fn check_with_every_key(
        &self,
        token: &SecretString,
        audience: &[Audience],
    ) -> Result<Verification, ServiceError> {
        if self.feed.misses_revocations() {
            return Err(ServiceError::Unavailable { cause: "revocations are missing here".into() });
        }
        if self.feed.staleness() > self.staleness_allowed() {
            return Err(ServiceError::Unavailable { cause: "the revocation list is too old".into() });
        }
        let verification = self.check_here(token, audience);
        if verification != Err(Inactive::UnknownKey) {
            return Ok(verification);
        }
        // Another node may sign with a key that this one has not heard of yet.
        self.keys.look_up(&*self.store).await?;
        Ok(self.check_here(token, audience))
    }

    fn check_here(&self, token: &SecretString, audience: &[Audience]) -> Verification {
        let (keys, now) = (self.keys.verification_keys(), self.clock.now());
        self.verifier.verify_for(audience, token.expose(), &keys, self.feed.revocations(), now)
    }
}
