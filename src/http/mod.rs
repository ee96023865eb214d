//! The HTTP port: public keys, key discovery, liveness, readiness, and metrics where they are wanted. Nothing here needs
//! authentication, and nothing here is secret.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::{Router, routing::get};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::listen::{Bounds, listen};
use crate::{service::Service, tls::Acceptor};

mod health;
mod keys;
mod listen;
mod metrics;

#[derive(Clone)]
struct App {
    service: Arc<Service>,
    serving: Arc<AtomicBool>,
    /// Whether a scrape is answered.
    metrics: bool,
}

impl App {
    fn serving(&self) -> bool {
        self.serving.load(Ordering::Acquire)
    }
}

fn router(app: App) -> Router {
    let scrape = if app.metrics { Router::new().route("/metrics", get(metrics::scrape)) } else { Router::new() };
    scrape
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
    tls: Option<Acceptor>,
    service: Arc<Service>,
    metrics: bool,
    shutdown: CancellationToken,
    stop: CancellationToken,
) -> io::Result<()> {
    let serving = Arc::new(AtomicBool::new(true));
    let router = router(App { service, serving: Arc::clone(&serving), metrics });
    let serve = listen(listener, tls, router, Bounds::of_process(), stop);
    tokio::pin!(serve);
    tokio::select! {
        () = &mut serve => return Ok(()),
        () = shutdown.cancelled() => serving.store(false, Ordering::Release),
    }
    serve.await;
    Ok(())
}
