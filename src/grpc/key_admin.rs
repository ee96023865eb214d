//! `KeyAdminService`.

use tonic::{Request, Response, Status};

use super::{
    Handlers,
    call::{context, warrant},
    convert,
};
use crate::{domain::warrant::Authority, pb::v1, pb::v1::key_admin_service_server::KeyAdminService};

#[tonic::async_trait]
impl KeyAdminService for Handlers {
    async fn list_signing_keys(
        &self,
        request: Request<v1::ListSigningKeysRequest>,
    ) -> Result<Response<v1::ListSigningKeysResponse>, Status> {
        let v1::ListSigningKeysRequest {} = request.into_inner();
        let keys = self.service.current_keys().await.published();
        Ok(Response::new(v1::ListSigningKeysResponse { signing_keys: convert::signing_keys(keys) }))
    }

    async fn rotate_signing_key(
        &self,
        request: Request<v1::RotateSigningKeyRequest>,
    ) -> Result<Response<v1::RotateSigningKeyResponse>, Status> {
        let by = Authority { warrant: warrant(&request)?, origin: context(&request, &self.service)?.origin };
        let v1::RotateSigningKeyRequest {} = request.into_inner();
        let key = self.service.rotate_signing_key(by).await?;
        Ok(Response::new(v1::RotateSigningKeyResponse { signing_key: convert::signing_key(key) }))
    }

    async fn revoke_signing_key(
        &self,
        request: Request<v1::RevokeSigningKeyRequest>,
    ) -> Result<Response<v1::RevokeSigningKeyResponse>, Status> {
        let by = Authority { warrant: warrant(&request)?, origin: context(&request, &self.service)?.origin };
        let v1::RevokeSigningKeyRequest { key_id } = request.into_inner();
        let left = self.service.revoke_signing_key(key_id, by).await?;
        Ok(Response::new(v1::RevokeSigningKeyResponse { signing_keys: convert::signing_keys(left) }))
    }
}
