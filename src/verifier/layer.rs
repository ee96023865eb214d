//! The verifier as a tower layer: rules by path, and calls that end when their token does.

mod body;
mod grant;
mod policy;

use std::{
    error::Error,
    mem,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response, header};
use http_body::Body;
use tower_layer::Layer;
use tower_service::Service;

pub use body::Guarded;
pub use policy::Policy;

use self::grant::Grant;
use super::{
    bearer::bearer,
    embedded::Verifier,
    principal::Principal,
    respond::{self, Protocol},
    rule::{Access, Denied, Rule},
};

/// Lets requests through that satisfy the rule of their path, to any service of tower's: tonic's and axum's servers take it.
///
/// ```text
/// let policy = Policy::required().at("/shop.v1.Catalog/List", Rule::public());
/// let layer = VerifierLayer::new(verifier, policy);
/// tonic::transport::Server::builder().layer(layer.clone()).add_service(catalog);  // tonic
/// axum::Router::new().route("/orders", get(orders)).layer(layer);                 // axum
/// ```
///
/// A handler finds the [`Principal`] in the request's extensions, see [`Principal::of`], and none where nobody sent a token and
/// none was needed. One that something outside the layer had put there is taken out. `authorization` stays, so that a handler
/// can call other services in the caller's name, unless [`Self::strip_token`] takes it off.
///
/// **A call that lasts** ends when its token expires or is revoked, or when by its rule nobody can say any more whether it was. A
/// handler that has not answered yet is dropped, and the denial is the answer. Of a body under way no frame passes any more: at the
/// next one, or at once while the server waits for one, it is dropped, and the response ends with the status (gRPC) or is cut off
/// (anything else). While a client does not read, the server asks for no frame, so such a body is dropped only when the client reads
/// on or goes away; keep-alive and a limit for sending bound that. To go on reading the request's body fails too, for the sake of tasks that
/// a handler has left behind. What must not stop half way belongs into a task of its own. After an HTTP upgrade, such as to a
/// WebSocket, the connection is the handler's: it asks [`Verifier::ended`].
///
/// **What surrounds it.** The service inside gets the request's body as [`Guarded`]. tonic's and axum's routers take any body, and
/// other layers between this one and the router have to as well. A browser's preflight bears no token, and gRPC-Web is plain
/// HTTP to this layer: what handles those goes outside.
#[derive(Clone, Debug)]
pub struct VerifierLayer {
    shared: Arc<Shared>,
}

/// A service behind a [`VerifierLayer`].
#[derive(Clone, Debug)]
pub struct Guard<S> {
    inner: S,
    shared: Arc<Shared>,
}

#[derive(Clone, Debug)]
struct Shared {
    verifier: Verifier,
    policy: Policy,
    strip_token: bool,
}

impl VerifierLayer {
    /// Asks this verifier by this policy.
    pub fn new(verifier: Verifier, policy: Policy) -> Self {
        Self { shared: Arc::new(Shared { verifier, policy, strip_token: false }) }
    }

    /// And takes `authorization` off whatever it lets through, so that the service cannot leak or log it.
    #[must_use]
    pub fn strip_token(self) -> Self {
        Self { shared: Arc::new(Shared { strip_token: true, ..Arc::unwrap_or_clone(self.shared) }) }
    }
}

impl<S> Layer<S> for VerifierLayer {
    type Service = Guard<S>;

    fn layer(&self, inner: S) -> Guard<S> {
        Guard { inner, shared: Arc::clone(&self.shared) }
    }
}

impl Shared {
    /// Who calls, by the rule, and what of the request the service behind may see.
    async fn admit<B>(&self, rule: &Arc<Rule>, request: &mut Request<B>) -> Result<Option<Grant>, Denied> {
        request.extensions_mut().remove::<Principal>();
        let token = match rule.access {
            // What is public is no less so for headers that nobody reads.
            Access::Public => None,
            Access::Optional | Access::Required => bearer(request.headers())?,
        };
        let principal = self.verifier.admit(token, rule).await?;
        if self.strip_token {
            request.headers_mut().remove(header::AUTHORIZATION);
        }
        Ok(principal.map(|principal| {
            request.extensions_mut().insert(principal.clone());
            Grant { verifier: self.verifier.clone(), principal, rule: Arc::clone(rule) }
        }))
    }
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for Guard<S>
where
    S: Service<Request<Guarded<ReqBody>>, Response = Response<ResBody>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    ReqBody: Send + 'static,
    ResBody: Body<Data = Bytes>,
    ResBody::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Response = Response<Guarded<ResBody>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        // The one that was polled ready; its clone need not be.
        let next = self.inner.clone();
        let mut inner = mem::replace(&mut self.inner, next);
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            let protocol = Protocol::of(request.headers());
            let Ok(rule) = shared.policy.rule(request.method(), request.uri().path()) else {
                return Ok(respond::unclear_path(protocol).map(Guarded::text));
            };
            let grant = match shared.admit(rule, &mut request).await {
                Ok(grant) => grant,
                Err(denied) => return Ok(respond::denied(protocol, &denied).map(Guarded::text)),
            };
            let request = request.map(|body| Guarded::request(body, protocol, grant.clone()));
            let response = match outlast(inner.call(request), grant.as_ref()).await {
                Ok(response) => response?,
                Err(denied) => return Ok(respond::denied(protocol, &denied).map(Guarded::text)),
            };
            // By what the response is: a stream that is no gRPC would look complete with trailers.
            let protocol = Protocol::of(response.headers());
            Ok(response.map(|body| Guarded::response(body, protocol, grant)))
        })
    }
}

/// What the future makes, unless the grant ends before. One that is ready at once never costs the alarm.
async fn outlast<F: Future>(future: F, grant: Option<&Grant>) -> Result<F::Output, Denied> {
    let Some(grant) = grant else { return Ok(future.await) };
    let future = pin!(future);
    tokio::select! {
        biased;
        output = future => Ok(output),
        denied = grant.ended() => Err(denied),
    }
}

#[cfg(test)]
mod tests;
