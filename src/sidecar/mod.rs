//! `vouchsafe sidecar`: verifies tokens beside a workload, for its proxy and for services in any language.
//!
//! One port serves `envoy.service.auth.v3.Authorization` (what Envoy and Istio call external authorization),
//! `vouchsafe.v1.AuthService/Verify` and `grpc.health.v1`; another one serves probes and metrics. What is demanded of which
//! request stands in a file (`config`), which may change while the sidecar runs (`reload`).
//!
//! What this room promises:
//! - A request is let through only if a rule of the file says so; everything else is denied, and never by an error.
//! - No spelling of a path is asked for less than the path itself ([`crate::verifier::route`], `policy`).
//! - A header that tells who calls was set here or is not there (`headers`).

use std::{
    fmt::Display,
    io::{self, Write as _},
    process::ExitCode,
    sync::{Arc, atomic::AtomicBool},
};

use arc_swap::ArcSwap;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::{EnvFilter, fmt};

use self::{
    args::{LogFormat, LogLevel, SidecarArgs},
    config::Config,
    listen::Listener,
    metrics::Metrics,
    reload::Reload,
    state::State,
};
use crate::{domain::time::Clock as _, verifier::SystemClock};

mod answer;
pub mod args;
mod check;
mod config;
mod file;
mod headers;
mod http;
mod listen;
mod metrics;
mod policy;
mod reason;
mod reload;
mod server;
mod state;
mod summary;
mod upstream;
mod verify;

/// Why the sidecar cannot go on: a text that says what to do.
struct Failure(String);

impl<E: Display> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

/// Runs the command.
pub fn main(args: &SidecarArgs) -> ExitCode {
    match dispatch(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(text)) => {
            // Nothing is left to be done if standard error is closed.
            let _ = writeln!(io::stderr(), "vouchsafe sidecar: {text}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(args: &SidecarArgs) -> Result<(), Failure> {
    let text = config::read(&args.config);
    let text = text.map_err(|error| Failure(format!("cannot read {}: {error}", args.config.display())))?;
    let config = Config::parse(&text);
    let config = config.map_err(|problems| Failure(format!("{} is not usable\n{problems}", args.config.display())))?;
    upstream::verifier(&config.fixed)?.validate().map_err(upstream::named)?;
    if args.check {
        write!(io::stdout(), "{}", summary::summary(&config))?;
        return Ok(());
    }
    start_log(args);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(Box::pin(run(args, text, config)))
}

async fn run(args: &SidecarArgs, text: String, config: Config) -> Result<(), Failure> {
    let Config { fixed, policy, warnings } = config;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let shutdown = CancellationToken::new();
    stop_on_signal(shutdown.clone())?;
    let grpc =
        Listener::bind(&fixed.grpc).await.map_err(|e| Failure(format!("cannot listen on {}: {e}", fixed.grpc)))?;
    let http = TcpListener::bind(fixed.http).await;
    let http = http.map_err(|e| Failure(format!("cannot listen on {}: {e}", fixed.http)))?;
    let starting = upstream::verifier(&fixed)?.start();
    let Some(verifier) = shutdown.run_until_cancelled(Box::pin(starting)).await else { return Ok(()) };
    let state = Arc::new(State {
        verifier: verifier.map_err(upstream::named)?,
        audience: fixed.audience.clone(),
        policy: Arc::new(ArcSwap::from_pointee(policy)),
        metrics: Arc::new(Metrics::new(SystemClock.now())),
        stopping: AtomicBool::new(false),
    });
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        grpc = %grpc.address()?,
        http = %http.local_addr()?,
        routes = state.policy.load().routes.len(),
        "serving"
    );
    let stop = CancellationToken::new();
    let reload = tokio::spawn(Reload::new(args.config.clone(), text, fixed, Arc::clone(&state)).run());
    let probes = tokio::spawn(http::serve(http, Arc::clone(&state), stop.clone()));
    let served = server::serve(grpc, state, shutdown).await;
    reload.abort();
    stop.cancel();
    probes.await??;
    served?;
    tracing::info!("stopped");
    Ok(())
}

/// To standard error. Only our own events below warnings: other crates' may show headers.
fn start_log(args: &SidecarArgs) {
    let level = match args.log_level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "warn,vouchsafe=info",
        LogLevel::Debug => "warn,vouchsafe=debug",
    };
    let log = fmt().with_env_filter(EnvFilter::new(level)).with_writer(io::stderr);
    // Only the first one of a process counts.
    let _ = match args.log_format {
        LogFormat::Json => log.json().flatten_event(true).try_init(),
        LogFormat::Pretty => log.try_init(),
    };
}

/// Stops on SIGTERM and SIGINT; a second signal ends the process at once.
pub(crate) fn stop_on_signal(shutdown: CancellationToken) -> io::Result<()> {
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
