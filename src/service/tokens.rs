//! Issuing the token pair of a live session.

use super::{Service, ServiceError};
use crate::{
    domain::{
        audience::{Audience, Scope},
        claim_rules::OwnClaims,
        claims::{AccessClaims, SignIn},
        custom_claims::CustomClaims,
        id::{SessionId, TokenId},
        role::{HeldRoles, Permission},
        secret::SecretString,
        time::Timestamp,
    },
    store::{Refused, port::LiveSession},
};

/// RFC 9068 §2.1.
pub(super) const ACCESS_TOKEN_TYPE: &str = "at+jwt";

/// A token pair.
#[derive(Clone, Debug)]
pub struct IssuedTokens {
    /// The access token.
    pub access_token: SecretString,
    /// When it was issued.
    pub issue_time: Timestamp,
    /// When it expires.
    pub access_token_expire_time: Timestamp,
    /// The refresh token.
    pub refresh_token: SecretString,
    /// When it expires unless it is used before.
    pub refresh_token_expire_time: Timestamp,
    /// Their session.
    pub session: SessionId,
}

impl Service {
    /// Signs an access token from the session's row and derives the refresh token of its current generation.
    pub(super) async fn issue(&self, live: &LiveSession) -> Result<IssuedTokens, ServiceError> {
        let now = self.clock.now();
        let claims = self.claims(live, now)?;
        let access_token = self.access_token(&claims, now).await?;
        let session = &live.session;
        let refresh_token = self.keys.mint_refresh_token(session.id, &session.family)?;
        Ok(IssuedTokens {
            access_token,
            issue_time: claims.issue_time,
            access_token_expire_time: claims.expire_time,
            refresh_token,
            refresh_token_expire_time: session.expire_time(&self.policy.sessions),
            session: session.id,
        })
    }

    /// The `permissions` claim, where it is wanted: what the roles allow, as far as the scope that was asked for goes.
    pub(super) fn permissions_said(&self, held: &HeldRoles, asked: &Scope) -> Vec<String> {
        if !self.policy.token_permissions {
            return Vec::new();
        }
        let said = match asked.limit() {
            Some(limit) => held.permissions.limited_to(&limit),
            None => held.permissions.clone(),
        };
        said.iter().map(Permission::to_string).collect()
    }

    /// What a token for `audience` says beside. All of it or no token: one that left something out would pass for one that has nothing
    /// to say.
    pub(super) fn custom_claims(
        &self,
        audience: &[Audience],
        held: &HeldRoles,
        own: &OwnClaims,
    ) -> Result<CustomClaims, Refused> {
        self.policy.claims.claims(audience, &held.claims, own).map_err(|problem| {
            tracing::warn!(%problem, "no token issued");
            Refused::ClaimsTooLarge
        })
    }

    /// Refuses a session that there could be no token of. To be asked before it begins: one that is refused afterwards would be in the list,
    /// and have taken the place of another.
    pub(super) fn check_issuable(&self, live: &LiveSession) -> Result<(), Refused> {
        let now = self.clock.now();
        self.check_length(&self.claims(live, now)?, now)
    }

    fn claims(&self, live: &LiveSession, now: Timestamp) -> Result<AccessClaims, Refused> {
        let grant = &live.session.grant;
        let issue_time = Timestamp::from_seconds(now.as_seconds());
        // What is said beside goes by it, too: what is meant for an audience with a key is in no plain token.
        let audience = self.policy.encryption.audience_of_token(&grant.audience);
        let custom = self.custom_claims(&audience, &live.held, &live.own)?;
        Ok(AccessClaims {
            issuer: self.policy.issuer.clone(),
            subject: grant.user.into(),
            audience,
            expire_time: issue_time.plus(self.policy.access_ttl),
            issue_time,
            token_id: TokenId::new(now, &self.random()),
            client_id: grant.client_id.clone(),
            scope: grant.scope.granted_by(&live.held.permissions),
            roles: live.held.names.clone(),
            permissions: self.permissions_said(&live.held, &grant.scope),
            epoch: grant.epoch,
            custom,
            sign_in: Some(SignIn {
                session_id: live.session.id,
                auth_time: Timestamp::from_seconds(grant.auth_time.as_seconds()),
                amr: grant.amr.clone(),
                acr: grant.acr.clone(),
            }),
        })
    }
}
