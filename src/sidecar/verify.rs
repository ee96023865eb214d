//! `vouchsafe.v1.AuthService/Verify`, answered here: for services in any language on the same host.
//!
//! The answer is the service's, with two differences: the sidecar's own audiences hold always, and where the service would answer
//! from its memory, the sidecar answers from its own, or says UNAVAILABLE while revocations could be missing there. What needs
//! `CONSISTENCY_STRONG` is asked of the service.

use tonic::{Request, Response, Status};

use crate::{
    domain::audience::Audience,
    pb::v1::{self, auth_service_server::AuthService},
    verifier::{Denied, Inactive, Rule, Verifier, wire},
};

/// Answers `Verify` and nothing else.
pub(super) struct LocalAuth {
    verifier: Verifier,
    /// Whom tokens must be meant for in any case.
    audience: Vec<Audience>,
    rule: Rule,
}

impl LocalAuth {
    pub(super) fn new(verifier: Verifier, audience: Vec<Audience>) -> Self {
        Self { verifier, audience, rule: Rule::required() }
    }

    /// What the service says, which reads the revocations to their end first.
    async fn forward(&self, token: String, audience: &[Audience]) -> Result<v1::VerifyResponse, Status> {
        let request = v1::VerifyRequest {
            token,
            audience: self.audience.iter().cloned().map(String::from).collect(),
            consistency: v1::Consistency::Strong.into(),
        };
        let Some(issuer) = self.verifier.issuer() else { return Err(away()) };
        let answer = issuer.verify(request).await.map_err(|status| {
            tracing::warn!(code = ?status.code(), "the service did not answer a Verify with CONSISTENCY_STRONG");
            away()
        })?;
        let meant = |claims: &v1::Claims| claims.audience.iter().any(|own| audience.iter().any(|a| a.as_str() == own));
        match &answer.claims {
            Some(claims) if !audience.is_empty() && !meant(claims) => Ok(inactive(Inactive::WrongAudience)),
            _ => Ok(answer),
        }
    }

    async fn answer(&self, token: &str, audience: &[Audience]) -> Result<v1::VerifyResponse, Status> {
        match self.verifier.verify_for(audience, token, &self.rule).await {
            Ok(principal) => Ok(v1::VerifyResponse {
                active: true,
                inactive_reason: v1::InactiveReason::Unspecified.into(),
                claims: Some(wire::claims(principal.claims().clone())),
            }),
            Err(Denied::Inactive(reason)) => Ok(inactive(reason)),
            Err(Denied::Unavailable) => Err(away()),
            // The rule asks for nothing that these could be said of.
            Err(Denied::NoToken | Denied::UnclearToken | Denied::MissingScope(_) | Denied::MissingRole) => {
                Err(Status::internal("the token was not checked"))
            }
        }
    }
}

fn inactive(reason: Inactive) -> v1::VerifyResponse {
    v1::VerifyResponse { active: false, inactive_reason: wire::inactive_reason(reason).into(), claims: None }
}

fn away() -> Status {
    Status::unavailable("tokens cannot be verified at the moment: try again")
}

/// What a request asks.
struct Asked {
    token: String,
    audience: Vec<Audience>,
    strong: bool,
}

impl TryFrom<v1::VerifyRequest> for Asked {
    type Error = Status;

    fn try_from(request: v1::VerifyRequest) -> Result<Self, Status> {
        let v1::VerifyRequest { token, audience, consistency } = request;
        let mut problems = Vec::new();
        if token.is_empty() {
            problems.push("token is empty: send the token".to_owned());
        }
        let audience = audience.into_iter().map(Audience::try_from).collect::<Result<Vec<_>, _>>();
        let audience = audience.unwrap_or_else(|error| {
            problems.push(format!("audience {error}"));
            Vec::new()
        });
        let strong = match v1::Consistency::try_from(consistency) {
            Ok(v1::Consistency::Unspecified | v1::Consistency::Local) => false,
            Ok(v1::Consistency::Strong) => true,
            Err(_) => {
                problems.push(
                    "consistency is no consistency this server knows: use CONSISTENCY_LOCAL or CONSISTENCY_STRONG"
                        .to_owned(),
                );
                false
            }
        };
        if problems.is_empty() {
            Ok(Self { token, audience, strong })
        } else {
            Err(Status::invalid_argument(problems.join("; ")))
        }
    }
}

#[tonic::async_trait]
impl AuthService for LocalAuth {
    async fn verify(&self, request: Request<v1::VerifyRequest>) -> Result<Response<v1::VerifyResponse>, Status> {
        let Asked { token, audience, strong } = request.into_inner().try_into()?;
        if strong {
            // The service, which knows of all audiences, may take one that comes plain.
            if let Err(Denied::Inactive(reason @ Inactive::NotEncrypted)) =
                self.verifier.verify_for(&audience, &token, &self.rule).await
            {
                return Ok(Response::new(inactive(reason)));
            }
            return Ok(Response::new(self.forward(token, &audience).await?));
        }
        Ok(Response::new(self.answer(&token, &audience).await?))
    }

    async fn register(&self, _: Request<v1::RegisterRequest>) -> Result<Response<v1::RegisterResponse>, Status> {
        Err(elsewhere())
    }

    async fn login(&self, _: Request<v1::LoginRequest>) -> Result<Response<v1::LoginResponse>, Status> {
        Err(elsewhere())
    }

    async fn refresh(&self, _: Request<v1::RefreshRequest>) -> Result<Response<v1::RefreshResponse>, Status> {
        Err(elsewhere())
    }

    async fn logout(&self, _: Request<v1::LogoutRequest>) -> Result<Response<v1::LogoutResponse>, Status> {
        Err(elsewhere())
    }

    async fn revoke_token(
        &self,
        _: Request<v1::RevokeTokenRequest>,
    ) -> Result<Response<v1::RevokeTokenResponse>, Status> {
        Err(elsewhere())
    }

    async fn issue_service_token(
        &self,
        _: Request<v1::IssueServiceTokenRequest>,
    ) -> Result<Response<v1::IssueServiceTokenResponse>, Status> {
        Err(elsewhere())
    }

    async fn send_login_code(
        &self,
        _: Request<v1::SendLoginCodeRequest>,
    ) -> Result<Response<v1::SendLoginCodeResponse>, Status> {
        Err(elsewhere())
    }

    async fn complete_challenge(
        &self,
        _: Request<v1::CompleteChallengeRequest>,
    ) -> Result<Response<v1::CompleteChallengeResponse>, Status> {
        Err(elsewhere())
    }

    async fn send_email_verification(
        &self,
        _: Request<v1::SendEmailVerificationRequest>,
    ) -> Result<Response<v1::SendEmailVerificationResponse>, Status> {
        Err(elsewhere())
    }

    async fn verify_email(
        &self,
        _: Request<v1::VerifyEmailRequest>,
    ) -> Result<Response<v1::VerifyEmailResponse>, Status> {
        Err(elsewhere())
    }

    async fn request_password_reset(
        &self,
        _: Request<v1::RequestPasswordResetRequest>,
    ) -> Result<Response<v1::RequestPasswordResetResponse>, Status> {
        Err(elsewhere())
    }

    async fn reset_password(
        &self,
        _: Request<v1::ResetPasswordRequest>,
    ) -> Result<Response<v1::ResetPasswordResponse>, Status> {
        Err(elsewhere())
    }
}

fn elsewhere() -> Status {
    Status::unimplemented("a sidecar only verifies tokens: send this to the Vouchsafe service")
}
