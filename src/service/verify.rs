//! `Verify`, and the check of the access tokens that our own API is called with.

use super::{Principal, Service, ServiceError};
use crate::{
    domain::{
        audience::{Audience, OWN_AUDIENCE},
        claims::AccessClaims,
        secret::SecretString,
    },
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
            self.feed.catch_up().await?;
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

    /// Whether a token is active by what this node remembers, and by every key there is.
    pub(super) async fn check(
        &self,
        token: &SecretString,
        audience: &[Audience],
    ) -> Result<Verification, ServiceError> {
        if self.feed.staleness() > self.policy.max_staleness {
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
