//! The gRPC listener: bounds on every connection, and a drain that ends.

use std::{convert::Infallible, future::IntoFuture as _, io, sync::Arc, time::Duration};

use http::{Request, Response};
use tokio::{
    net::TcpListener,
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic_health::server::HealthReporter;
use tower::{Layer as _, util::option_layer};

use super::{
    CallLayer,
    connections::{self, Bounds},
    routes,
    web::{self, WebLayer},
};
use crate::{domain::web_origin::WebOrigin, service::Service, tls::Acceptor};

/// Bytes of header list a caller may send; a token and its metadata are a few KiB.
const MAX_HEADER_LIST: u32 = 16 * 1024;
/// Streams that a caller may reset before we answered (CVE-2023-44487), and that we may have to reset ourselves.
const MAX_RESET_STREAMS: usize = 64;
/// A peer that does not answer a ping for this long is gone.
const KEEPALIVE: Duration = Duration::from_secs(20);

/// What an operator may bound.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most calls at once on one connection.
    pub max_concurrent_streams: u32,
    /// Time between NOT_SERVING and GOAWAY.
    pub pause: Duration,
    /// Longest that calls under way may go on after that.
    pub drain: Duration,
}

/// A gRPC server on a bound listener.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    tls: Option<Acceptor>,
    layer: CallLayer,
    /// `None`: no web page may call.
    web: Option<WebLayer>,
    limits: Limits,
}

impl Server {
    /// A server that will listen on `listener`.
    pub fn new(listener: TcpListener, layer: CallLayer, limits: Limits) -> Self {
        Self { listener, tls: None, layer, web: None, limits }
    }

    /// With TLS, if there is an acceptor.
    #[must_use]
    pub fn with_tls(self, tls: Option<Acceptor>) -> Self {
        Self { tls, ..self }
    }

    /// With these origins' web pages as callers, by gRPC-Web.
    #[must_use]
    pub fn with_web_origins(self, origins: &[WebOrigin]) -> Self {
        Self { web: WebLayer::new(origins), ..self }
    }

    /// Serves until `shutdown`: then says NOT_SERVING, waits for balancers to notice, refuses new calls, and lets those under
    /// way finish within the bound.
    ///
    /// # Errors
    /// If the transport fails as a whole.
    pub async fn run(self, service: Arc<Service>, shutdown: CancellationToken) -> io::Result<()> {
        let Self { listener, tls, layer, web, limits } = self;
        let (health, health_service) = tonic_health::server::health_reporter();
        let metrics = Arc::clone(service.metrics());
        let routes = routes(Arc::clone(&service), health_service).map_err(io::Error::other)?;
        announce(&health, tonic_health::ServingStatus::Serving).await;

        let stop = CancellationToken::new();
        let (http1, pages) = web.as_ref().map(|_| mpsc::channel(connections::BACKLOG)).unzip();
        let incoming = connections::accept(listener, tls, Bounds::of_process(), http1, stop.clone(), &metrics);
        // The same as below, for those who come over HTTP/1.1.
        let pages = pages.zip(web.as_ref().map(|web| web.layer(layer.layer(routes.clone().prepare()))));
        let pages = serve_pages(pages, stop.clone());
        let server = tonic::transport::Server::builder()
            .layer(option_layer(web))
            .layer(layer)
            // tonic removes hyper's own limits unless these are set.
            .max_concurrent_streams(limits.max_concurrent_streams)
            .http2_max_header_list_size(MAX_HEADER_LIST)
            .http2_max_pending_accept_reset_streams(Some(MAX_RESET_STREAMS))
            .http2_max_local_error_reset_streams(Some(MAX_RESET_STREAMS))
            .http2_keepalive_interval(Some(KEEPALIVE))
            .http2_keepalive_timeout(Some(KEEPALIVE))
            // Not tonic's grace as well: with it a connection is cut without ever having been told to go.
            .max_connection_age(connections::MAX_AGE)
            .add_routes(routes)
            .serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned())
            .into_future();
        let server = async { tokio::try_join!(server, pages).map(|_| ()) };
        tokio::pin!(server);

        tokio::select! {
            ended = &mut server => return ended.map_err(io::Error::other),
            () = shutdown.cancelled() => {}
        }
        announce(&health, tonic_health::ServingStatus::NotServing).await;
        tokio::select! {
            ended = &mut server => return ended.map_err(io::Error::other),
            () = sleep(limits.pause) => {}
        }
        // Streams without an end are no calls that could finish.
        service.stop_watches();
        stop.cancel();
        // An idle client holds its connection for ever; the bound is ours to keep.
        if let Ok(ended) = timeout(limits.drain, &mut server).await {
            return ended.map_err(io::Error::other);
        }
        tracing::info!("connections still open after the drain, closing them");
        Ok(())
    }
}

/// Serves pages that come over HTTP/1.1, if any may.
async fn serve_pages<S>(
    pages: Option<(mpsc::Receiver<connections::Connection>, S)>,
    stop: CancellationToken,
) -> Result<(), tonic::transport::Error>
where
    S: tower::Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    if let Some((incoming, service)) = pages {
        web::serve(incoming, service, stop).await;
    }
    Ok(())
}

/// What health tells of: the server as a whole, and each service.
const SERVICES: [&str; 9] = [
    "",
    "vouchsafe.v1.AuthService",
    "vouchsafe.v1.AccountService",
    "vouchsafe.v1.UserAdminService",
    "vouchsafe.v1.RoleAdminService",
    "vouchsafe.v1.ServiceAccountAdminService",
    "vouchsafe.v1.KeyAdminService",
    "vouchsafe.v1.AuditService",
    "vouchsafe.v1.VerifierService",
];

/// Sets the health of the server as a whole and of each service.
async fn announce(health: &HealthReporter, status: tonic_health::ServingStatus) {
    for service in SERVICES {
        health.set_service_status(service, status).await;
    }
}
