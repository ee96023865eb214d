//! `RoleAdminService`.

use tonic::{Request, Response, Status};

use super::{
    Handlers,
    call::{context, warrant},
    convert::role as convert,
};
use crate::{pb::v1, pb::v1::role_admin_service_server::RoleAdminService, service::ServiceError};

#[tonic::async_trait]
impl RoleAdminService for Handlers {
    async fn create_role(
        &self,
        request: Request<v1::CreateRoleRequest>,
    ) -> Result<Response<v1::CreateRoleResponse>, Status> {
        let (warrant, context) = (warrant(&request)?, context(&request, &self.service)?);
        let role = convert::new_role(request.into_inner()).map_err(ServiceError::from)?;
        let role = self.service.create_role(role, warrant, &context).await?;
        Ok(Response::new(v1::CreateRoleResponse { role: Some(convert::role(role)) }))
    }

    async fn update_role(
        &self,
        request: Request<v1::UpdateRoleRequest>,
    ) -> Result<Response<v1::UpdateRoleResponse>, Status> {
        let (warrant, context) = (warrant(&request)?, context(&request, &self.service)?);
        let (name, change, revision) = convert::role_change(request.into_inner()).map_err(ServiceError::from)?;
        let role = self.service.update_role(name, change, revision, warrant, &context).await?;
        Ok(Response::new(v1::UpdateRoleResponse { role: Some(convert::role(role)) }))
    }

    async fn delete_role(
        &self,
        request: Request<v1::DeleteRoleRequest>,
    ) -> Result<Response<v1::DeleteRoleResponse>, Status> {
        let (warrant, context) = (warrant(&request)?, context(&request, &self.service)?);
        let v1::DeleteRoleRequest { name, etag } = request.into_inner();
        let name = convert::name("name", &name).map_err(ServiceError::from)?;
        self.service.delete_role(name, convert::revision(&etag), warrant, &context).await?;
        Ok(Response::new(v1::DeleteRoleResponse {}))
    }

    async fn get_role(&self, request: Request<v1::GetRoleRequest>) -> Result<Response<v1::GetRoleResponse>, Status> {
        let v1::GetRoleRequest { name } = request.into_inner();
        let name = convert::name("name", &name).map_err(ServiceError::from)?;
        let role = self.service.get_role(name).await?;
        Ok(Response::new(v1::GetRoleResponse { role: Some(convert::role(role)) }))
    }

    async fn list_roles(
        &self,
        request: Request<v1::ListRolesRequest>,
    ) -> Result<Response<v1::ListRolesResponse>, Status> {
        let (after, limit) = convert::page(request.into_inner()).map_err(ServiceError::from)?;
        let list = self.service.list_roles(after, limit).await?;
        let roles = list.roles.into_iter().map(convert::role).collect();
        let next_page_token = list.next.map(|name| name.as_str().to_owned()).unwrap_or_default();
        Ok(Response::new(v1::ListRolesResponse { roles, next_page_token }))
    }
}
