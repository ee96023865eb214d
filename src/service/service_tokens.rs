//! `IssueServiceToken` (compare RFC 6749 §4.4): an access token for a service, in its own name.

use super::{RequestContext, Service, ServiceError};
use crate::{
    domain::{
        audience::{Audience, Scope},
        claim_rules::OwnClaims,
        claims::AccessClaims,
        field::FieldViolation,
        id::TokenId,
        secret::SecretString,
        service_account::ClientProof,
        time::Timestamp,
    },
    store::port::KnownService,
    telemetry::ServiceTokenOutcome,
};

/// A token as it was asked for.
#[derive(Clone, Debug)]
pub struct ServiceTokenCommand {
    /// By what the service is known.
    pub proof: ClientProof,
    /// Whom the token is for.
    pub audience: Vec<Audience>,
    /// What it allows, as far as the account's roles do.
    pub scope: Scope,
}

/// A service account's access token.
#[derive(Clone, Debug)]
pub struct ServiceToken {
    /// The token.
    pub access_token: SecretString,
    /// When it was issued.
    pub issue_time: Timestamp,
    /// When it expires.
    pub expire_time: Timestamp,
    /// What was granted.
    pub scope: Scope,
}

impl Service {
    /// Issues an access token to a service account. Unknown accounts, wrong secrets and ended ones cost the same work and get
    /// the same answer.
    pub async fn issue_service_token(
        &self,
        command: ServiceTokenCommand,
        context: &RequestContext,
    ) -> Result<ServiceToken, ServiceError> {
        let result = self.try_issue_service_token(command, context).await;
        self.metrics.service_token(ServiceTokenOutcome::of(&result));
        result
    }

    async fn try_issue_service_token(
        &self,
        command: ServiceTokenCommand,
        context: &RequestContext,
    ) -> Result<ServiceToken, ServiceError> {
        let ServiceTokenCommand { proof, audience, scope } = command;
        let now = self.clock.now();
        let token_id = TokenId::new(now, &self.random());
        let client = self.admit_client(&proof, context).await?;
        let Some(known) = self.store.admit_service(proof, token_id, context.origin.clone()).await? else {
            self.note_client_failure(client, context).await?;
            return Err(ServiceError::InvalidClient);
        };
        self.note_client_success(client).await?;
        if scope.limit().is_some_and(|limit| known.held.permissions.limited_to(&limit).is_empty()) {
            // A token without any of them would be taken for one that is not limited.
            let text = "names permissions, and the account's roles hold none of them";
            return Err(FieldViolation::new("scope", text).into());
        }
        let claims = self.service_claims(known, token_id, audience, &scope, now)?;
        let access_token = self.access_token(&claims, now).await?;
        Ok(ServiceToken {
            access_token,
            issue_time: claims.issue_time,
            expire_time: claims.expire_time,
            scope: claims.scope.clone(),
        })
    }

    fn service_claims(
        &self,
        known: KnownService,
        token_id: TokenId,
        audience: Vec<Audience>,
        scope: &Scope,
        now: Timestamp,
    ) -> Result<AccessClaims, ServiceError> {
        let issue_time = Timestamp::from_seconds(now.as_seconds());
        // A service account has no attributes, and no claims but its roles'.
        let custom = self.custom_claims(&audience, &known.held, &OwnClaims::default())?;
        Ok(AccessClaims {
            issuer: self.policy.issuer.clone(),
            subject: known.account.into(),
            audience,
            expire_time: issue_time.plus(self.policy.access_ttl),
            issue_time,
            token_id,
            client_id: known.account.to_string(),
            scope: scope.granted_by(&known.held.permissions),
            permissions: self.permissions_said(&known.held, scope),
            roles: known.held.names,
            epoch: known.epoch,
            custom,
            sign_in: None,
        })
    }
}
