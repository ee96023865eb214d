//! `AccountService`.

use tonic::{Request, Response, Status};

use super::{
    Handlers,
    call::{context, principal},
    convert::{self, people},
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
        Ok(Response::new(v1::GetAccountResponse { user: Some(convert::user(user)), recovery_codes_left: 0 }))
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
        self.service.change_password(caller, current, new, &context).await?;
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
        _request: Request<v1::EnrollTotpRequest>,
    ) -> Result<Response<v1::EnrollTotpResponse>, Status> {
        Err(Status::unimplemented("not built yet"))
    }

    async fn confirm_totp(
        &self,
        _request: Request<v1::ConfirmTotpRequest>,
    ) -> Result<Response<v1::ConfirmTotpResponse>, Status> {
        Err(Status::unimplemented("not built yet"))
    }

    async fn remove_totp(
        &self,
        _request: Request<v1::RemoveTotpRequest>,
    ) -> Result<Response<v1::RemoveTotpResponse>, Status> {
        Err(Status::unimplemented("not built yet"))
    }

    async fn generate_recovery_codes(
        &self,
        _request: Request<v1::GenerateRecoveryCodesRequest>,
    ) -> Result<Response<v1::GenerateRecoveryCodesResponse>, Status> {
        Err(Status::unimplemented("not built yet"))
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
