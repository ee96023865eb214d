//! `AccountService`.

use tonic::{Request, Response, Status};

use super::{
    Handlers,
    call::{context, principal},
    convert::{self, factors, people},
    watch,
};
use crate::{pb::v1, pb::v1::account_service_server::AccountService, service::ServiceError};

#[tonic::async_trait]
impl AccountService for Handlers {
    async fn get_account(
        &self,
        request: Request<v1::GetAccountRequest>,
    ) -> Result<Response<v1::GetAccountResponse>, Status> {
        let caller = principal(&request)?;
        let user = self.service.get_account(caller).await?;
        let left = if user.totp_enrolled { self.service.recovery_codes_left(caller).await? } else { 0 };
        let recovery_codes_left = i32::try_from(left).unwrap_or(i32::MAX);
        Ok(Response::new(v1::GetAccountResponse { user: Some(convert::user(user)), recovery_codes_left }))
    }

    async fn list_sessions(
        &self,
        request: Request<v1::ListSessionsRequest>,
    ) -> Result<Response<v1::ListSessionsResponse>, Status> {
        let caller = principal(&request)?;
        let (before, size) = convert::page(request.into_inner()).map_err(ServiceError::from)?;
        let list = self.service.list_sessions(caller, before, size).await?;
        let policy = &self.service.policy().sessions;
        let sessions = list.sessions.into_iter().map(|s| convert::session(s, policy, Some(caller.session))).collect();
        let next_page_token = list.next.map(|id| id.to_string()).unwrap_or_default();
        Ok(Response::new(v1::ListSessionsResponse { sessions, next_page_token }))
    }

    async fn revoke_session(
        &self,
        request: Request<v1::RevokeSessionRequest>,
    ) -> Result<Response<v1::RevokeSessionResponse>, Status> {
        let (caller, context) = (principal(&request)?, context(&request, &self.service)?);
        let v1::RevokeSessionRequest { session_id } = request.into_inner();
        let session = convert::session_id(&session_id).map_err(ServiceError::from)?;
        self.service.revoke_session(caller, session, &context).await?;
        Ok(Response::new(v1::RevokeSessionResponse {}))
    }

    async fn revoke_other_sessions(
        &self,
        request: Request<v1::RevokeOtherSessionsRequest>,
    ) -> Result<Response<v1::RevokeOtherSessionsResponse>, Status> {
        let (caller, context) = (principal(&request)?, context(&request, &self.service)?);
        self.service.revoke_other_sessions(caller, &context).await?;
        Ok(Response::new(v1::RevokeOtherSessionsResponse {}))
    }

    async fn change_password(
        &self,
        request: Request<v1::ChangePasswordRequest>,
    ) -> Result<Response<v1::ChangePasswordResponse>, Status> {
        let (caller, context) = (principal(&request)?, context(&request, &self.service)?);
        let (current, new) = convert::change_password(request.into_inner()).map_err(ServiceError::from)?;
        self.service.change_password(caller, current, new, context).await?;
        Ok(Response::new(v1::ChangePasswordResponse {}))
    }

    async fn update_account(
        &self,
        request: Request<v1::UpdateAccountRequest>,
    ) -> Result<Response<v1::UpdateAccountResponse>, Status> {
        let (caller, context) = (principal(&request)?, context(&request, &self.service)?);
        let (expected, change) = people::update_account(request.into_inner()).map_err(ServiceError::from)?;
        let user = self.service.update_account(caller, expected, change, &context).await?;
        Ok(Response::new(v1::UpdateAccountResponse { user: Some(convert::user(user)) }))
    }

    async fn change_email(
        &self,
        request: Request<v1::ChangeEmailRequest>,
    ) -> Result<Response<v1::ChangeEmailResponse>, Status> {
        let (caller, context) = (principal(&request)?, context(&request, &self.service)?);
        let new_email = people::change_email(request.get_ref()).map_err(ServiceError::from)?;
        self.service.change_email(caller, new_email, &context).await?;
        Ok(Response::new(v1::ChangeEmailResponse {}))
    }

    async fn change_phone_number(
        &self,
        request: Request<v1::ChangePhoneNumberRequest>,
    ) -> Result<Response<v1::ChangePhoneNumberResponse>, Status> {
        let (caller, context) = (principal(&request)?, context(&request, &self.service)?);
        let number = people::change_phone_number(request.get_ref()).map_err(ServiceError::from)?;
        let begun = self.service.change_phone_number(caller, number, &context).await?;
        Ok(Response::new(people::phone_verification(begun)))
    }

    async fn verify_phone_number(
        &self,
        request: Request<v1::VerifyPhoneNumberRequest>,
    ) -> Result<Response<v1::VerifyPhoneNumberResponse>, Status> {
        let (caller, context) = (principal(&request)?, context(&request, &self.service)?);
        let (handle, code) = people::verify_phone_number(request.into_inner()).map_err(ServiceError::from)?;
        self.service.verify_phone_number(caller, &handle, &code, &context).await?;
        Ok(Response::new(v1::VerifyPhoneNumberResponse {}))
    }

    async fn enroll_totp(
        &self,
        request: Request<v1::EnrollTotpRequest>,
    ) -> Result<Response<v1::EnrollTotpResponse>, Status> {
        let (caller, context) = (principal(&request)?, context(&request, &self.service)?);
        let format = factors::enroll_totp(request.into_inner()).map_err(ServiceError::from)?;
        let enrolment = self.service.enroll_totp(caller, &context).await?;
        Ok(Response::new(factors::totp_enrolment(&enrolment, format)?))
    }

    async fn confirm_totp(
        &self,
        request: Request<v1::ConfirmTotpRequest>,
    ) -> Result<Response<v1::ConfirmTotpResponse>, Status> {
        let (caller, context) = (principal(&request)?, context(&request, &self.service)?);
        let code = factors::confirm_totp(request.into_inner()).map_err(ServiceError::from)?;
        let codes = self.service.confirm_totp(caller, &code, &context).await?;
        Ok(Response::new(v1::ConfirmTotpResponse { recovery_codes: factors::recovery_codes(&codes) }))
    }

    async fn remove_totp(
        &self,
        request: Request<v1::RemoveTotpRequest>,
    ) -> Result<Response<v1::RemoveTotpResponse>, Status> {
        let (caller, context) = (principal(&request)?, context(&request, &self.service)?);
        self.service.remove_totp(caller, &context).await?;
        Ok(Response::new(v1::RemoveTotpResponse {}))
    }

    async fn generate_recovery_codes(
        &self,
        request: Request<v1::GenerateRecoveryCodesRequest>,
    ) -> Result<Response<v1::GenerateRecoveryCodesResponse>, Status> {
        let (caller, context) = (principal(&request)?, context(&request, &self.service)?);
        let codes = self.service.generate_recovery_codes(caller, &context).await?;
        Ok(Response::new(v1::GenerateRecoveryCodesResponse { recovery_codes: factors::recovery_codes(&codes) }))
    }

    type ExportAccountStream = watch::AccountStream;

    async fn export_account(
        &self,
        request: Request<v1::ExportAccountRequest>,
    ) -> Result<Response<Self::ExportAccountStream>, Status> {
        watch::export_account(&self.service, request).await
    }

    async fn delete_account(
        &self,
        request: Request<v1::DeleteAccountRequest>,
    ) -> Result<Response<v1::DeleteAccountResponse>, Status> {
        let (caller, context) = (principal(&request)?, context(&request, &self.service)?);
        self.service.delete_account(caller, &context).await?;
        Ok(Response::new(v1::DeleteAccountResponse {}))
    }
}
