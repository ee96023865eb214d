//! `UserAdminService`.

use prost::Message as _;
use tonic::{Request, Response, Status, Streaming};

use super::{
    Handlers,
    call::{context, warrant},
    convert::{self, user_lists, users},
    imports::import_users,
    watch,
};
use crate::{
    domain::{id::UserId, users::UserFilter},
    pb::v1::{self, user_admin_service_server::UserAdminService},
    service::{PageToken, ServiceError, UserPage},
};

/// Beyond this many bytes of users a page ends early: clients take messages of up to 4 MiB.
const MAX_PAGE: usize = 3 * 1024 * 1024;

fn user_id(text: &str) -> Result<UserId, ServiceError> {
    Ok(users::user_id(text)?)
}

/// As many users as one answer can carry, at least one, and the token for those behind them.
fn page(page: UserPage, filter: &UserFilter) -> v1::ListUsersResponse {
    let UserPage { users, mut more } = page;
    let (mut carried, mut bytes, mut last) = (Vec::with_capacity(users.len()), 0, None);
    for user in users {
        let message = convert::user(user.clone());
        bytes += message.encoded_len();
        if bytes > MAX_PAGE && last.is_some() {
            more = true;
            break;
        }
        carried.push(message);
        last = Some(user);
    }
    let next_page_token = last.filter(|_| more).map(|user| PageToken::behind(&user, filter)).unwrap_or_default();
    v1::ListUsersResponse { users: carried, next_page_token }
}

#[tonic::async_trait]
impl UserAdminService for Handlers {
    async fn create_user(
        &self,
        request: Request<v1::CreateUserRequest>,
    ) -> Result<Response<v1::CreateUserResponse>, Status> {
        let (warrant, context) = (warrant(&request)?, context(&request, &self.service)?);
        let command = users::create_user(request.into_inner()).map_err(ServiceError::from)?;
        let user = self.service.create_user(warrant, command, &context).await?;
        Ok(Response::new(v1::CreateUserResponse { user: Some(convert::user(user)) }))
    }

    async fn get_user(&self, request: Request<v1::GetUserRequest>) -> Result<Response<v1::GetUserResponse>, Status> {
        let key = users::user_key(request.into_inner()).map_err(ServiceError::from)?;
        let user = self.service.get_user(key).await?;
        Ok(Response::new(v1::GetUserResponse { user: Some(convert::user(user)) }))
    }

    async fn list_users(
        &self,
        request: Request<v1::ListUsersRequest>,
    ) -> Result<Response<v1::ListUsersResponse>, Status> {
        let asked = user_lists::list_users(request.into_inner()).map_err(ServiceError::from)?;
        let listed = self.service.list_users(asked.filter.clone(), asked.after, asked.limit).await?;
        Ok(Response::new(page(listed, &asked.filter)))
    }

    async fn update_user(
        &self,
        request: Request<v1::UpdateUserRequest>,
    ) -> Result<Response<v1::UpdateUserResponse>, Status> {
        let (warrant, context) = (warrant(&request)?, context(&request, &self.service)?);
        let users::UserUpdate { user, expected, change } =
            users::update_user(request.into_inner()).map_err(ServiceError::from)?;
        let user = self.service.update_user(warrant, user, expected, change, &context).await?;
        Ok(Response::new(v1::UpdateUserResponse { user: Some(convert::user(user)) }))
    }

    async fn delete_user(
        &self,
        request: Request<v1::DeleteUserRequest>,
    ) -> Result<Response<v1::DeleteUserResponse>, Status> {
        let (warrant, context) = (warrant(&request)?, context(&request, &self.service)?);
        let (user, expected) = users::delete_user(request.into_inner()).map_err(ServiceError::from)?;
        self.service.delete_user(warrant, user, expected, &context).await?;
        Ok(Response::new(v1::DeleteUserResponse {}))
    }

    async fn suspend_user(
        &self,
        request: Request<v1::SuspendUserRequest>,
    ) -> Result<Response<v1::SuspendUserResponse>, Status> {
        let (warrant, context) = (warrant(&request)?, context(&request, &self.service)?);
        let v1::SuspendUserRequest { user_id: id } = request.into_inner();
        let user = self.service.suspend_user(warrant, user_id(&id)?, &context).await?;
        Ok(Response::new(v1::SuspendUserResponse { user: Some(convert::user(user)) }))
    }

    async fn reactivate_user(
        &self,
        request: Request<v1::ReactivateUserRequest>,
    ) -> Result<Response<v1::ReactivateUserResponse>, Status> {
        let (warrant, context) = (warrant(&request)?, context(&request, &self.service)?);
        let v1::ReactivateUserRequest { user_id: id } = request.into_inner();
        let user = self.service.reactivate_user(warrant, user_id(&id)?, &context).await?;
        Ok(Response::new(v1::ReactivateUserResponse { user: Some(convert::user(user)) }))
    }

    async fn set_user_password(
        &self,
        request: Request<v1::SetUserPasswordRequest>,
    ) -> Result<Response<v1::SetUserPasswordResponse>, Status> {
        let (warrant, context) = (warrant(&request)?, context(&request, &self.service)?);
        let (user, password) = users::set_user_password(request.into_inner()).map_err(ServiceError::from)?;
        self.service.set_user_password(warrant, user, password, &context).await?;
        Ok(Response::new(v1::SetUserPasswordResponse {}))
    }

    async fn import_users(
        &self,
        request: Request<Streaming<v1::ImportUsersRequest>>,
    ) -> Result<Response<v1::ImportUsersResponse>, Status> {
        import_users(self, request).await
    }

    async fn list_user_sessions(
        &self,
        request: Request<v1::ListUserSessionsRequest>,
    ) -> Result<Response<v1::ListUserSessionsResponse>, Status> {
        let (user, before, limit) = users::list_user_sessions(request.into_inner()).map_err(ServiceError::from)?;
        let list = self.service.list_user_sessions(user, before, limit).await?;
        let policy = &self.service.policy().sessions;
        let sessions = list.sessions.into_iter().map(|session| convert::session(session, policy, None)).collect();
        let next_page_token = list.next.map(|id| id.to_string()).unwrap_or_default();
        Ok(Response::new(v1::ListUserSessionsResponse { sessions, next_page_token }))
    }

    async fn revoke_user_sessions(
        &self,
        request: Request<v1::RevokeUserSessionsRequest>,
    ) -> Result<Response<v1::RevokeUserSessionsResponse>, Status> {
        let (warrant, context) = (warrant(&request)?, context(&request, &self.service)?);
        let (user, session) = users::revoke_user_sessions(request.into_inner()).map_err(ServiceError::from)?;
        self.service.revoke_user_sessions(warrant, user, session, &context).await?;
        Ok(Response::new(v1::RevokeUserSessionsResponse {}))
    }

    async fn assign_role(
        &self,
        request: Request<v1::AssignRoleRequest>,
    ) -> Result<Response<v1::AssignRoleResponse>, Status> {
        let (warrant, context) = (warrant(&request)?, context(&request, &self.service)?);
        let v1::AssignRoleRequest { user_id: id, role } = request.into_inner();
        let (user, role) = users::user_and_role(&id, role).map_err(ServiceError::from)?;
        let user = self.service.assign_role(warrant, user, role, &context).await?;
        Ok(Response::new(v1::AssignRoleResponse { user: Some(convert::user(user)) }))
    }

    async fn unassign_role(
        &self,
        request: Request<v1::UnassignRoleRequest>,
    ) -> Result<Response<v1::UnassignRoleResponse>, Status> {
        let (warrant, context) = (warrant(&request)?, context(&request, &self.service)?);
        let v1::UnassignRoleRequest { user_id: id, role } = request.into_inner();
        let (user, role) = users::user_and_role(&id, role).map_err(ServiceError::from)?;
        let user = self.service.unassign_role(warrant, user, role, &context).await?;
        Ok(Response::new(v1::UnassignRoleResponse { user: Some(convert::user(user)) }))
    }

    async fn remove_user_factors(
        &self,
        request: Request<v1::RemoveUserFactorsRequest>,
    ) -> Result<Response<v1::RemoveUserFactorsResponse>, Status> {
        let (warrant, context) = (warrant(&request)?, context(&request, &self.service)?);
        let v1::RemoveUserFactorsRequest { user_id: id } = request.into_inner();
        self.service.remove_user_factors(warrant, user_id(&id)?, &context).await?;
        Ok(Response::new(v1::RemoveUserFactorsResponse {}))
    }

    type ExportUserStream = watch::UserStream;

    async fn export_user(
        &self,
        request: Request<v1::ExportUserRequest>,
    ) -> Result<Response<Self::ExportUserStream>, Status> {
        watch::export_user(&self.service, request).await
    }
}
