//! The administration's RPCs without a listener, for the operator at the command line: the same handlers, called in the same
//! process. Whoever reaches the database and its master key may do everything, so no token is asked for.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response};
use tonic::{Status, body::Body, service::Routes};
use tower::Service as TowerService;

use super::{
    access::{self, Access},
    own_routes,
};
use crate::{
    crypto::monotonic_now,
    domain::{audit::Origin, warrant::Warrant},
    service::{RequestContext, Service},
};

/// Longest that a call may take. Nobody else waits for the same threads.
const BUDGET: Duration = Duration::from_mins(1);
/// The same for an import or a watch.
const LONG_BUDGET: Duration = Duration::from_hours(24);

/// Calls the RPCs of the administration in the operator's name, and no others.
#[derive(Clone, Debug)]
pub struct Operator {
    routes: Routes,
    service: Arc<Service>,
}

impl Operator {
    /// Calls these use cases.
    pub fn new(service: Arc<Service>) -> Self {
        Self { routes: own_routes(Arc::clone(&service)).routes(), service }
    }
}

impl TowerService<Request<Body>> for Operator {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        TowerService::<Request<Body>>::poll_ready(&mut self.routes, cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let Some(Access::Permission(permission)) = access::of(request.uri().path()) else {
            let refused = Status::unimplemented("not an RPC of the administration").into_http();
            return Box::pin(async { Ok(refused) });
        };
        let context = RequestContext {
            origin: Origin::default(),
            arrived: self.service.clock().now(),
            deadline: monotonic_now() + if access::is_long(request.uri().path()) { LONG_BUDGET } else { BUDGET },
        };
        request.extensions_mut().insert(context);
        request.extensions_mut().insert(Warrant { needs: permission, ..Warrant::OPERATOR });
        Box::pin(self.routes.call(request))
    }
}
