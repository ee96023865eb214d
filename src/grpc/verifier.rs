//! `VerifierService`.

use tonic::{Request, Response, Status};

use super::{Handlers, convert, watch};
use crate::{pb::v1, pb::v1::verifier_service_server::VerifierService};

#[tonic::async_trait]
impl VerifierService for Handlers {
    async fn get_verification_keys(
        &self,
        _request: Request<v1::GetVerificationKeysRequest>,
    ) -> Result<Response<v1::GetVerificationKeysResponse>, Status> {
        let keys =
            self.service.current_keys().await.published().into_iter().filter_map(convert::verification_key).collect();
        let issuer = self.service.policy().issuer.clone();
        Ok(Response::new(v1::GetVerificationKeysResponse { issuer, keys }))
    }

    type WatchRevocationsStream = watch::Stream;

    async fn watch_revocations(
        &self,
        request: Request<v1::WatchRevocationsRequest>,
    ) -> Result<Response<Self::WatchRevocationsStream>, Status> {
        watch::watch_revocations(&self.service, request)
    }
}
