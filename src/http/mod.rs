//! The HTTP port: public keys, key discovery, liveness and readiness. Nothing here needs authentication, and nothing here is
//! secret.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{Router, routing::get};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::service::Service;

mod health;
mod keys;

/// Connections served at once; scrapers and probes need a few.
const MAX_CONNECTIONS: usize = 512;
/// A request's head must arrive within this time.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long answers under way may take at shutdown.
const DRAIN: Duration = Duration::from_secs(2);
/// Pause after a failed accept, so that a lack of file descriptors does not make it spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

#[derive(Clone)]
struct App {
    service: Arc<Service>,
    serving: Arc<AtomicBool>,
}

impl App {
    fn serving(&self) -> bool {
        self.serving.load(Ordering::Acquire)
    }
}

fn router(app: App) -> Router {
    Router::new()
        .route("/.well-known/jwks.json", get(keys::jwks))
        .route("/.well-known/openid-configuration", get(keys::discovery))
        .route("/.well-known/oauth-authorization-server", get(keys::discovery))
        .route("/livez", get(health::live))
        .route("/readyz", get(health::ready))
        .with_state(app)
}

/// Serves until `shutdown`, and goes on answering "not ready" until `stop`, so that probes see the drain.
///
/// # Errors
/// None at present: a listener that fails to accept is tried again.
pub async fn run(
    listener: TcpListener,
    service: Arc<Service>,
    shutdown: CancellationToken,
    stop: CancellationToken,
) -> io::Result<()> {
    let serving = Arc::new(AtomicBool::new(true));
    let router = router(App { service, serving: Arc::clone(&serving) });
    let connections = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut draining = false;
    loop {
        tokio::select! {
            () = shutdown.cancelled(), if !draining => {
                draining = true;
                serving.store(false, Ordering::Release);
            }
            () = stop.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => serve(stream, router.clone(), &connections, &places),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    if timeout(DRAIN, connections.shutdown()).await.is_err() {
        tracing::debug!("HTTP connections still open after the drain, closing them");
    }
    Ok(())
}

fn serve(stream: TcpStream, router: Router, connections: &GracefulShutdown, places: &Arc<Semaphore>) {
    // Beyond the limit the connection is closed at once.
    let Ok(place) = Arc::clone(places).try_acquire_owned() else { return };
    let mut builder = auto::Builder::new(TokioExecutor::new()).http1_only();
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(16 * 1024);
    let service = TowerToHyperService::new(router.into_service::<hyper::body::Incoming>());
    let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
    let connection = connections.watch(connection);
    tokio::spawn(async move {
        let _place = place;
        if let Err(error) = connection.await {
            tracing::debug!(error, "HTTP connection ended");
        }
    });
}
