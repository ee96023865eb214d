//! `UserAdminService` with two bounds: messages of an import are large, and nobody else's need be.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use http::{Request, Response};
use tonic::{body::Body, server::NamedService};
use tower::Service as TowerService;

use super::{Handlers, MAX_MESSAGE, imports};
use crate::pb::v1::user_admin_service_server::{SERVICE_NAME, UserAdminServiceServer};

/// The RPC whose messages are large.
const IMPORT: &str = "/vouchsafe.v1.UserAdminService/ImportUsers";

/// The service. See the module.
#[derive(Clone)]
pub(super) struct UserRoutes {
    usual: UserAdminServiceServer<Handlers>,
    import: UserAdminServiceServer<Handlers>,
}

impl UserRoutes {
    pub(super) fn new(handlers: Handlers) -> Self {
        Self {
            usual: UserAdminServiceServer::new(handlers.clone()).max_decoding_message_size(MAX_MESSAGE),
            import: UserAdminServiceServer::new(handlers).max_decoding_message_size(imports::MAX_MESSAGE),
        }
    }
}

impl NamedService for UserRoutes {
    const NAME: &'static str = SERVICE_NAME;
}

impl TowerService<Request<Body>> for UserRoutes {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if request.uri().path() == IMPORT { self.import.call(request) } else { self.usual.call(request) }
    }
}
