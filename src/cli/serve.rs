//! `vouchsafe serve`.

use std::process::ExitCode;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{Failure, ambient, print};
use crate::{
    config::{Backend, Settings},
    crypto::SystemEntropy,
    server::{Listeners, Node, bind},
    telemetry::{self, Otlp},
};

pub(super) async fn run(settings: Settings) -> Result<ExitCode, Failure> {
    let mut otlp = telemetry::start(&settings.log, &settings.telemetry, &SystemEntropy)?;
    let ended = serve(settings, otlp.as_mut()).await;
    if let Some(otlp) = otlp {
        otlp.shutdown().await;
    }
    ended
}

async fn serve(settings: Settings, otlp: Option<&mut Otlp>) -> Result<ExitCode, Failure> {
    raise_descriptor_limit();
    // Bound first, so that a port in use is found before anything is created.
    let listeners = bind(&settings).await?;
    let embedded = matches!(settings.database.backend, Backend::Sqlite { .. });
    let greeting = greeting(&settings, &listeners)?;
    let node = Node::prepare(settings, ambient()).await?;
    if let Some(otlp) = otlp {
        otlp.push_metrics(node.metrics());
    }
    let shutdown = CancellationToken::new();
    stop_on_signal(shutdown.clone())?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        grpc = %listeners.grpc.local_addr()?,
        http = %listeners.http.local_addr()?,
        "serving"
    );
    if embedded {
        print(&greeting)?;
    }
    node.serve(listeners, shutdown).await?;
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

/// Takes all the file descriptors that the system allows: the usual soft limit is there for programs that use select(2).
fn raise_descriptor_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
    {
        tracing::debug!(%error, "the limit of file descriptors stays as it is");
    }
}

/// Stops on SIGTERM and SIGINT. A second signal ends the process at once, as people expect.
fn stop_on_signal(shutdown: CancellationToken) -> Result<(), Failure> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::spawn(async move {
        let mut asked = false;
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if asked {
                std::process::exit(130);
            }
            asked = true;
            tracing::info!("stopping; a second signal stops at once");
            shutdown.cancel();
        }
    });
    Ok(())
}

/// What a newcomer can try.
fn greeting(settings: &Settings, listeners: &Listeners) -> Result<String, Failure> {
    let grpc = listeners.grpc.local_addr()?;
    let http = listeners.http.local_addr()?;
    let place = &settings.database.backend;
    Ok(format!(
        "
Vouchsafe keeps its data in {place}. Try it from another terminal:

  grpcurl -plaintext {grpc} list vouchsafe.v1.AuthService
  grpcurl -plaintext -d '{{\"email\": \"ada@example.com\", \"password\": \"correct horse battery staple\"}}' \\
    {grpc} vouchsafe.v1.AuthService/Register
  grpcurl -plaintext -d '{{\"identifier\": \"ada@example.com\", \"password\": \"correct horse battery staple\"}}' \\
    {grpc} vouchsafe.v1.AuthService/Login
  curl http://{http}/.well-known/jwks.json
"
    ))
}
