//! `vouchsafe serve`.

use std::process::ExitCode;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{Failure, ambient, print};
use crate::{
    config::{Backend, Settings, Tls},
    crypto::SystemEntropy,
    server::{Listeners, Node, bind},
    sidecar::stop_on_signal,
    telemetry::{self, Otlp},
    tls::{Ports, Reload},
};

pub(super) async fn run(settings: Settings) -> Result<ExitCode, Failure> {
    let mut otlp = telemetry::start(&settings.log, &settings.telemetry, &SystemEntropy)?;
    let ended = Box::pin(serve(settings, otlp.as_mut())).await;
    if let Some(otlp) = otlp {
        otlp.shutdown().await;
    }
    ended
}

async fn serve(settings: Settings, otlp: Option<&mut Otlp>) -> Result<ExitCode, Failure> {
    raise_descriptor_limit();
    // Before anything is bound: files that cannot be used are wrong settings.
    Ports::load(&settings)?;
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
    if let Some(reload) = node.reload() {
        reload_on_signal(reload)?;
    }
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        grpc = %listeners.grpc.local_addr()?,
        http = %listeners.http.local_addr()?,
        "serving"
    );
    if embedded {
        print(&greeting)?;
    }
    Box::pin(node.serve(listeners, shutdown)).await?;
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

/// Looks at the certificate files on SIGHUP.
fn reload_on_signal(reload: Reload) -> Result<(), Failure> {
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            reload.now();
        }
    });
    Ok(())
}

/// What a newcomer can try.
fn greeting(settings: &Settings, listeners: &Listeners) -> Result<String, Failure> {
    let grpc = listeners.grpc.local_addr()?;
    let http = listeners.http.local_addr()?;
    let place = &settings.database.backend;
    let grpcurl = format!("grpcurl {}", flags(settings.grpc.tls.as_ref(), "-plaintext", ["-cacert", "-cert", "-key"]));
    let curl = format!("curl {}", flags(settings.http.tls.as_ref(), "", ["--cacert", "--cert", "--key"]));
    let scheme = if settings.http.tls.is_some() { "https" } else { "http" };
    Ok(format!(
        "
Vouchsafe keeps its data in {place}. Try it from another terminal:

  {grpcurl}{grpc} list vouchsafe.v1.AuthService
  {grpcurl}-d '{{\"email\": \"ada@example.com\", \"password\": \"correct horse battery staple\"}}' \\
    {grpc} vouchsafe.v1.AuthService/Register
  {grpcurl}-d '{{\"identifier\": \"ada@example.com\", \"password\": \"correct horse battery staple\"}}' \\
    {grpc} vouchsafe.v1.AuthService/Login
  {curl}{scheme}://{http}/.well-known/jwks.json
"
    ))
}

/// The flags with which a client reaches a port, each with a space after it: without TLS these, with TLS the ones with these names.
fn flags(tls: Option<&Tls>, plaintext: &str, [ca, cert, key]: [&str; 3]) -> String {
    let mut flags = match tls {
        None => plaintext.to_owned(),
        Some(Tls { client_ca: None, .. }) => format!("{ca} CA.pem"),
        Some(Tls { client_ca: Some(_), .. }) => format!("{ca} CA.pem {cert} CLIENT.pem {key} CLIENT.key"),
    };
    if !flags.is_empty() {
        flags.push(' ');
    }
    flags
}
