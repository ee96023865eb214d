//! The sidecar as a process: starts, serves, drains.

use std::{
    future::IntoFuture as _,
    io,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use envoy_types::pb::envoy::service::auth::v3::authorization_server::AuthorizationServer;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::{
    service::{Routes, RoutesBuilder},
    transport::Server,
};
use tonic_health::{
    ServingStatus,
    pb::health_server::{Health, HealthServer},
    server::HealthReporter,
};

use super::{
    check::Checker,
    listen::{Accept, Listener, accept},
    state::State,
    verify::LocalAuth,
};
use crate::pb::v1::auth_service_server::AuthServiceServer;

/// A proxy sends all headers of a request, which may have 60 KiB by default and some more around them.
const MAX_CHECK: usize = 256 * 1024;
/// A token is a few KiB.
const MAX_VERIFY: usize = 64 * 1024;
/// The name of a service.
const MAX_HEALTH: usize = 16 * 1024;
/// Connections at once, so that descriptors are left (often there are 1024) for the service, probes and files.
const MAX_CONNECTIONS: usize = 800;
/// Calls at once on one connection: a proxy has a connection for each of its threads.
const MAX_STREAMS: u32 = 1024;
/// Bytes of header list; what callers ask about is in the message.
const MAX_HEADER_LIST: u32 = 16 * 1024;
/// Streams that a caller may reset before we answered (CVE-2023-44487), and that we may have to reset ourselves.
const MAX_RESET_STREAMS: usize = 64;
/// A peer that does not answer a ping for this long is gone.
const KEEPALIVE: Duration = Duration::from_secs(20);
/// How soon health follows the verifier.
const HEALTH_PERIOD: Duration = Duration::from_millis(200);
/// Longest that calls under way may go on at the end; each takes microseconds, or the look-up of a key.
const DRAIN: Duration = Duration::from_secs(5);

/// What health tells of.
const SERVICES: [&str; 3] = ["", "envoy.service.auth.v3.Authorization", "vouchsafe.v1.AuthService"];

/// Serves until `shutdown`, and lets calls under way end.
pub(super) async fn serve(listener: Listener, state: Arc<State>, shutdown: CancellationToken) -> io::Result<()> {
    let (health, health_service) = tonic_health::server::health_reporter();
    announce(&health, &state).await;
    let routes = routes(&state, health_service);
    let follow = tokio::spawn(follow(health.clone(), Arc::clone(&state)));
    let ended = match listener {
        Listener::Tcp(listener) => run(listener, routes, &state, &health, shutdown).await,
        Listener::Unix(listener, file) => {
            let ended = run(listener, routes, &state, &health, shutdown).await;
            drop(file);
            ended
        }
    };
    follow.abort();
    ended
}

fn routes(state: &Arc<State>, health: HealthServer<impl Health>) -> Routes {
    let checker = Checker {
        verifier: state.verifier.clone(),
        policy: Arc::clone(&state.policy),
        metrics: Arc::clone(&state.metrics),
    };
    let verify = LocalAuth::new(state.verifier.clone(), state.audience.clone());
    let mut routes = RoutesBuilder::default();
    routes
        .add_service(AuthorizationServer::new(checker).max_decoding_message_size(MAX_CHECK))
        .add_service(AuthServiceServer::new(verify).max_decoding_message_size(MAX_VERIFY))
        .add_service(health.max_decoding_message_size(MAX_HEALTH));
    routes.routes()
}

async fn run<L>(
    listener: L,
    routes: Routes,
    state: &State,
    health: &HealthReporter,
    shutdown: CancellationToken,
) -> io::Result<()>
where
    L: Accept + Sync,
    L::Io: tokio::io::AsyncRead + tokio::io::AsyncWrite + tonic::transport::server::Connected + Unpin,
{
    let stop = CancellationToken::new();
    let server = Server::builder()
        // tonic removes hyper's own limits unless these are set.
        .max_concurrent_streams(MAX_STREAMS)
        .http2_max_header_list_size(MAX_HEADER_LIST)
        .http2_max_pending_accept_reset_streams(Some(MAX_RESET_STREAMS))
        .http2_max_local_error_reset_streams(Some(MAX_RESET_STREAMS))
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .add_routes(routes)
        .serve_with_incoming_shutdown(accept(listener, MAX_CONNECTIONS, stop.clone()), stop.clone().cancelled_owned())
        .into_future();
    tokio::pin!(server);
    tokio::select! {
        ended = &mut server => return ended.map_err(io::Error::other),
        () = shutdown.cancelled() => {}
    }
    state.stopping.store(true, Ordering::Release);
    announce(health, state).await;
    stop.cancel();
    if let Ok(ended) = timeout(DRAIN, &mut server).await {
        return ended.map_err(io::Error::other);
    }
    tracing::info!("connections still open after the drain, closing them");
    Ok(())
}

/// Keeps health true.
async fn follow(health: HealthReporter, state: Arc<State>) {
    let mut told = state.readiness();
    loop {
        sleep(HEALTH_PERIOD).await;
        let readiness = state.readiness();
        if readiness != told {
            announce(&health, &state).await;
            match readiness {
                Ok(()) => tracing::info!("ready"),
                Err(why) => tracing::warn!(why, "not ready"),
            }
            told = readiness;
        }
    }
}

async fn announce(health: &HealthReporter, state: &State) {
    let status = if state.readiness().is_ok() { ServingStatus::Serving } else { ServingStatus::NotServing };
    for service in SERVICES {
        health.set_service_status(service, status).await;
    }
}
