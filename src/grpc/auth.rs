//! `AuthService`.

use tonic::{Request, Response, Status};

use super::{
    Handlers, Peer,
    call::context,
    convert::{self, people},
};
use crate::{pb::v1, pb::v1::auth_service_server::AuthService, service::ServiceError, tls};

#[tonic::async_trait]
impl AuthService for Handlers {
    async fn register(&self, request: Request<v1::RegisterRequest>) -> Result<Response<v1::RegisterResponse>, Status> {
        let context = context(&request, &self.service)?;
        let fields = people::register(request.into_inner());
        let user = self.service.register(fields, &context).await?;
        Ok(Response::new(v1::RegisterResponse { user: Some(convert::user(user)) }))
    }

    async fn login(&self, request: Request<v1::LoginRequest>) -> Result<Response<v1::LoginResponse>, Status> {
        let context = context(&request, &self.service)?;
        let command = convert::sign_in::login(request.into_inner(), &context.origin, self.service.policy())?;
        let step = self.service.login(command, &context).await?;
        Ok(Response::new(convert::sign_in::login_response(&step)))
    }

    async fn refresh(&self, request: Request<v1::RefreshRequest>) -> Result<Response<v1::RefreshResponse>, Status> {
        let context = context(&request, &self.service)?;
        let v1::RefreshRequest { refresh_token } = request.into_inner();
        let token = convert::token("refresh_token", refresh_token).map_err(ServiceError::from)?;
        let tokens = self.service.refresh(&token, &context).await?;
        Ok(Response::new(v1::RefreshResponse { tokens: Some(convert::token_pair(&tokens)) }))
    }

    async fn verify(&self, request: Request<v1::VerifyRequest>) -> Result<Response<v1::VerifyResponse>, Status> {
        let (token, audience, consistency) = convert::verify(request.into_inner())?;
        let response = match self.service.verify(&token, &audience, consistency).await? {
            Ok(claims) => v1::VerifyResponse {
                active: true,
                inactive_reason: v1::InactiveReason::Unspecified.into(),
                claims: Some(convert::claims(claims)),
            },
            Err(reason) => v1::VerifyResponse {
                active: false,
                inactive_reason: convert::inactive_reason(reason).into(),
                claims: None,
            },
        };
        Ok(Response::new(response))
    }

    async fn logout(&self, request: Request<v1::LogoutRequest>) -> Result<Response<v1::LogoutResponse>, Status> {
        let context = context(&request, &self.service)?;
        let v1::LogoutRequest { refresh_token } = request.into_inner();
        let token = convert::token("refresh_token", refresh_token).map_err(ServiceError::from)?;
        self.service.logout(&token, &context).await?;
        Ok(Response::new(v1::LogoutResponse {}))
    }

    async fn revoke_token(
        &self,
        request: Request<v1::RevokeTokenRequest>,
    ) -> Result<Response<v1::RevokeTokenResponse>, Status> {
        let context = context(&request, &self.service)?;
        let v1::RevokeTokenRequest { token } = request.into_inner();
        let token = convert::token("token", token).map_err(ServiceError::from)?;
        self.service.revoke_token(&token, &context).await?;
        Ok(Response::new(v1::RevokeTokenResponse {}))
    }

    async fn issue_service_token(
        &self,
        request: Request<v1::IssueServiceTokenRequest>,
    ) -> Result<Response<v1::IssueServiceTokenResponse>, Status> {
        let context = context(&request, &self.service)?;
        let certificate = request.extensions().get::<Peer>().and_then(Peer::certificates).and_then(<[_]>::first);
        let certified = certificate.and_then(tls::spiffe_id);
        let command = convert::service_accounts::issue(request.into_inner(), certified, self.service.policy())?;
        let token = self.service.issue_service_token(command, &context).await?;
        Ok(Response::new(convert::service_accounts::token(&token)))
    }

    async fn send_login_code(
        &self,
        request: Request<v1::SendLoginCodeRequest>,
    ) -> Result<Response<v1::SendLoginCodeResponse>, Status> {
        let context = context(&request, &self.service)?;
        let command = convert::sign_in::login_code(request.into_inner(), &context.origin, self.service.policy())?;
        let challenge = self.service.send_login_code(command, &context).await?;
        Ok(Response::new(v1::SendLoginCodeResponse { challenge: Some(convert::sign_in::challenge(&challenge)) }))
    }

    async fn complete_challenge(
        &self,
        request: Request<v1::CompleteChallengeRequest>,
    ) -> Result<Response<v1::CompleteChallengeResponse>, Status> {
        let context = context(&request, &self.service)?;
        let (handle, response) = convert::sign_in::answer(request.into_inner()).map_err(ServiceError::from)?;
        let step = self.service.complete_challenge(handle, response, context).await?;
        Ok(Response::new(convert::sign_in::complete_challenge_response(&step)))
    }

    async fn send_email_verification(
        &self,
        request: Request<v1::SendEmailVerificationRequest>,
    ) -> Result<Response<v1::SendEmailVerificationResponse>, Status> {
        let context = context(&request, &self.service)?;
        let email = people::send_email_verification(request.get_ref()).map_err(ServiceError::from)?;
        self.service.send_email_verification(email, &context).await?;
        Ok(Response::new(v1::SendEmailVerificationResponse {}))
    }

    async fn verify_email(
        &self,
        request: Request<v1::VerifyEmailRequest>,
    ) -> Result<Response<v1::VerifyEmailResponse>, Status> {
        let context = context(&request, &self.service)?;
        let code = people::verify_email(request.into_inner()).map_err(ServiceError::from)?;
        let awaiting_other_address = self.service.verify_email(code, context).await?;
        Ok(Response::new(v1::VerifyEmailResponse { awaiting_other_address }))
    }

    async fn request_password_reset(
        &self,
        request: Request<v1::RequestPasswordResetRequest>,
    ) -> Result<Response<v1::RequestPasswordResetResponse>, Status> {
        let context = context(&request, &self.service)?;
        let identifier = people::request_password_reset(request.into_inner()).map_err(ServiceError::from)?;
        self.service.request_password_reset(&identifier, &context).await?;
        Ok(Response::new(v1::RequestPasswordResetResponse {}))
    }

    async fn reset_password(
        &self,
        request: Request<v1::ResetPasswordRequest>,
    ) -> Result<Response<v1::ResetPasswordResponse>, Status> {
        let context = context(&request, &self.service)?;
        let (code, password) = people::reset_password(request.into_inner()).map_err(ServiceError::from)?;
        self.service.reset_password(code, password, context).await?;
        Ok(Response::new(v1::ResetPasswordResponse {}))
    }
}
