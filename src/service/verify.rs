//! `Verify`, and the check of the access tokens that our own API is called with.

use std::time::Duration;

use super::{Policy, Principal, Service, ServiceError};
use crate::{
    domain::{
        audience::{Audience, OWN_AUDIENCE},
        claims::AccessClaims,
        id::Subject,
        role::Permissions,
        secret::SecretString,
        warrant::Warrant,
    },
    store::Refused,
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

    /// What the token says that our own API is called with: it must be meant for it.
    async fn authenticate(&self, token: &SecretString) -> Result<AccessClaims, ServiceError> {
        let own = Audience::try_from(OWN_AUDIENCE.to_owned()).map_err(ServiceError::internal)?;
        match self.check(token, &[own]).await? {
            Ok(claims) => Ok(claims),
            Err(_) => Err(ServiceError::AccessTokenInvalid),
        }
    }

    /// Whether the token is (still) one that our own API may be called with. Asks nobody but this node's memory.
    pub async fn check_own(&self, token: &SecretString) -> Result<(), ServiceError> {
        self.authenticate(token).await.map(|_| ())
    }

    /// Which user calls. A service account has no account of that kind.
    pub async fn authenticate_user(&self, token: &SecretString) -> Result<Principal, ServiceError> {
        let claims = self.authenticate(token).await?;
        match (claims.subject, claims.sign_in) {
            (Subject::User(user), Some(sign_in)) => Ok(Principal {
                user,
                session: sign_in.session_id,
                auth_time: sign_in.auth_time,
                second_factor: sign_in.amr.iter().any(|method| method == "mfa"),
            }),
            _ => Err(ServiceError::NotAUser),
        }
    }

    /// Whether a service account calls: it may verify tokens wherever it reaches us.
    pub async fn authenticate_service(&self, token: &SecretString) -> Result<(), ServiceError> {
        match self.authenticate(token).await?.subject {
            Subject::Service(_) => Ok(()),
            Subject::User(_) => Err(ServiceError::VerificationClosed),
        }
    }

    /// In whose name the caller manages, if its roles allow that at this moment, wherever and whenever they were changed.
    pub async fn warrant(&self, token: &SecretString, needs: &'static str) -> Result<Warrant, ServiceError> {
        let claims = self.authenticate(token).await?;
        let limit = self.limit(&claims).await?;
        let warrant = Warrant { actor: claims.subject.into(), needs, limit };
        // Of a subject that is gone, or suspended, the token is revoked as well, which this node may not have heard of yet.
        let held = self.store.held_roles(claims.subject).await?.ok_or(ServiceError::AccessTokenInvalid)?;
        match warrant.draw_on(&held.permissions) {
            Some(_) => Ok(warrant),
            None => Err(Refused::NotPermitted.into()),
        }
    }

    /// The permissions that the token is limited to, if it is. One whose session was begun for some of them goes on being
    /// limited when the roles allow none of those any more, and its scope therefore names none.
    async fn limit(&self, claims: &AccessClaims) -> Result<Option<Permissions>, ServiceError> {
        if let Some(named) = claims.scope.limit() {
            return Ok(Some(named));
        }
        let Some(session) = claims.session_id() else { return Ok(None) };
        let begun_with = self.store.session_scope(session).await?.ok_or(ServiceError::AccessTokenInvalid)?;
        Ok(begun_with.limit().map(|_| Permissions::default()))
    }

    /// How old the list may be. For longer than otherwise while the hot state confirms that no node that reaches it knows of
    /// more: for as long as sessions are refreshed from there.
    fn staleness_allowed(&self) -> Duration {
        let Policy { max_staleness, database_grace, .. } = self.policy;
        if self.feed.is_vouched_for() { max_staleness.max(database_grace) } else { max_staleness }
    }

    /// Whether this node may speak for its list of revocations: none are known to be missing, and it is not too old.
    pub(super) fn check_list(&self) -> Result<(), ServiceError> {
        if self.feed.misses_revocations() {
            return Err(ServiceError::Unavailable { cause: "revocations are missing here".into() });
        }
        if self.feed.staleness() > self.staleness_allowed() {
            return Err(ServiceError::Unavailable { cause: "the revocation list is too old".into() });
        }
        Ok(())
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
        self.check_list()?;
        let verification = self.check_here(token, audience);
        if verification != Err(Inactive::UnknownKey) {
            return Ok(verification);
        }
        // Another node may sign with a key that this one has not heard of yet.
        self.keys.look_up(&*self.store).await?;
        Ok(self.check_here(token, audience))
    }

    /// Whether a token is active by what this node remembers.
    pub(super) fn check_here(&self, token: &SecretString, audience: &[Audience]) -> Verification {
        let (keys, now) = (self.keys.verification_keys(), self.clock.now());
        let checked = self.verifier.verify_for(audience, token.expose(), &keys, self.feed.revocations(), now);
        checked.map(|token| token.claims().clone())
    }
}
