//! `ServiceAccountAdminService`.

use tonic::{Request, Response, Status};

use super::{
    Handlers,
    call::{context, warrant},
    convert::service_accounts as convert,
};
use crate::{
    domain::secret::SecretString, pb::v1, pb::v1::service_account_admin_service_server::ServiceAccountAdminService,
    service::ServiceError,
};

#[tonic::async_trait]
impl ServiceAccountAdminService for Handlers {
    async fn create_service_account(
        &self,
        request: Request<v1::CreateServiceAccountRequest>,
    ) -> Result<Response<v1::CreateServiceAccountResponse>, Status> {
        let (warrant, context) = (warrant(&request)?, context(&request, &self.service)?);
        let command = convert::create(request.into_inner()).map_err(ServiceError::from)?;
        let (account, secret) = self.service.create_service_account(warrant, command, &context).await?;
        Ok(Response::new(v1::CreateServiceAccountResponse {
            service_account: Some(convert::service_account(account)),
            client_secret: secret.as_ref().map(SecretString::expose).unwrap_or_default().to_owned(),
        }))
    }

    async fn get_service_account(
        &self,
        request: Request<v1::GetServiceAccountRequest>,
    ) -> Result<Response<v1::GetServiceAccountResponse>, Status> {
        let v1::GetServiceAccountRequest { client_id } = request.into_inner();
        let id = convert::parse_client_id("client_id", &client_id).map_err(ServiceError::from)?;
        let account = self.service.get_service_account(id).await?;
        Ok(Response::new(v1::GetServiceAccountResponse { service_account: Some(convert::service_account(account)) }))
    }

    async fn list_service_accounts(
        &self,
        request: Request<v1::ListServiceAccountsRequest>,
    ) -> Result<Response<v1::ListServiceAccountsResponse>, Status> {
        let (after, size) = convert::list(request.into_inner()).map_err(ServiceError::from)?;
        let list = self.service.list_service_accounts(after, size).await?;
        Ok(Response::new(v1::ListServiceAccountsResponse {
            service_accounts: list.accounts.into_iter().map(convert::service_account).collect(),
            next_page_token: list.next.map(|id| id.to_string()).unwrap_or_default(),
        }))
    }

    async fn update_service_account(
        &self,
        request: Request<v1::UpdateServiceAccountRequest>,
    ) -> Result<Response<v1::UpdateServiceAccountResponse>, Status> {
        let (warrant, context) = (warrant(&request)?, context(&request, &self.service)?);
        let (id, change) = convert::update(request.into_inner()).map_err(ServiceError::from)?;
        let account = self.service.update_service_account(warrant, id, change, &context).await?;
        Ok(Response::new(v1::UpdateServiceAccountResponse { service_account: Some(convert::service_account(account)) }))
    }

    async fn rotate_service_account_secret(
        &self,
        request: Request<v1::RotateServiceAccountSecretRequest>,
    ) -> Result<Response<v1::RotateServiceAccountSecretResponse>, Status> {
        let (warrant, context) = (warrant(&request)?, context(&request, &self.service)?);
        let (id, keep) = convert::rotate(request.into_inner()).map_err(ServiceError::from)?;
        let (account, secret) = self.service.rotate_service_account_secret(warrant, id, keep, &context).await?;
        Ok(Response::new(v1::RotateServiceAccountSecretResponse {
            service_account: Some(convert::service_account(account)),
            client_secret: secret.expose().to_owned(),
        }))
    }

    async fn delete_service_account(
        &self,
        request: Request<v1::DeleteServiceAccountRequest>,
    ) -> Result<Response<v1::DeleteServiceAccountResponse>, Status> {
        let (warrant, context) = (warrant(&request)?, context(&request, &self.service)?);
        let v1::DeleteServiceAccountRequest { client_id, etag } = request.into_inner();
        let id = convert::parse_client_id("client_id", &client_id).map_err(ServiceError::from)?;
        self.service.delete_service_account(warrant, id, convert::revision(&etag), &context).await?;
        Ok(Response::new(v1::DeleteServiceAccountResponse {}))
    }
}
