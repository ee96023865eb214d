//! Traces and metrics for an OpenTelemetry collector, by OTLP over gRPC.
//!
//! Everything is sent in batches from the background. A collector that is away costs a line in the log now and then: spans
//! wait in a queue of fixed length and are then dropped, and metrics are totals, so that the next ones say it all.

mod metrics;
mod spans;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use opentelemetry::KeyValue;
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use tokio::{task::JoinHandle, time::timeout};
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};

use super::family::Family;
use crate::{
    crypto::monotonic_now,
    domain::secret::{Entropy, random},
};

/// Longest for a connection to the collector.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);
/// Longest for one batch.
const EXPORT_LIMIT: Duration = Duration::from_secs(5);
/// Longest that the end of the process waits for what is still to be sent.
const FLUSH_LIMIT: Duration = Duration::from_secs(3);
/// At most this often is it logged that the collector does not take what it is sent.
const COMPLAINT_INTERVAL: Duration = Duration::from_mins(5);
/// How often metrics are sent, unless `OTEL_METRIC_EXPORT_INTERVAL` says otherwise.
const METRICS_INTERVAL: Duration = Duration::from_mins(1);

/// Why there is no exporter.
#[derive(Debug, thiserror::Error)]
#[error("telemetry.otlp_endpoint cannot be used: {0}")]
pub struct OtlpError(#[from] tonic::transport::Error);

/// The way to the collector.
#[derive(Debug)]
pub struct Otlp {
    channel: Channel,
    resource: Resource,
    provider: SdkTracerProvider,
    complaints: Arc<Complaints>,
    metrics: Option<(metrics::Pusher, JoinHandle<()>)>,
}

impl Otlp {
    /// Prepares the way to `endpoint`; connects when there is something to send. New traces are recorded at `ratio`, 0 to 1.
    /// Must be called within the runtime.
    pub(super) fn new(endpoint: &str, ratio: f64, entropy: &dyn Entropy) -> Result<Self, OtlpError> {
        let mut to = Endpoint::from_shared(endpoint.to_owned())?.connect_timeout(CONNECT_LIMIT).timeout(EXPORT_LIMIT);
        if endpoint.starts_with("https://") {
            to = to.tls_config(ClientTlsConfig::new().with_native_roots())?;
        }
        let channel = to.connect_lazy();
        let (resource, complaints) = (resource(entropy), Arc::new(Complaints::default()));
        let provider = spans::provider(channel.clone(), resource.clone(), ratio, Arc::clone(&complaints));
        Ok(Self { channel, resource, provider, complaints, metrics: None })
    }

    pub(super) fn provider(&self) -> &SdkTracerProvider {
        &self.provider
    }

    /// Sends these metrics at intervals from now on.
    pub fn push_metrics(&mut self, collect: impl Fn() -> Vec<Family> + Send + Sync + 'static) {
        let pusher =
            metrics::Pusher::new(self.channel.clone(), &self.resource, Arc::new(collect), Arc::clone(&self.complaints));
        let task = tokio::spawn(pusher.clone().run(metrics_interval()));
        self.metrics = Some((pusher, task));
    }

    /// Sends what is still to be sent, within a bound.
    pub async fn shutdown(self) {
        let provider = self.provider;
        let spans = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(FLUSH_LIMIT));
        let metrics = async {
            if let Some((pusher, task)) = self.metrics {
                task.abort();
                pusher.push().await;
            }
        };
        // What does not go out in time is lost, and the log has said so.
        let _ = timeout(FLUSH_LIMIT, async { tokio::join!(spans, metrics) }).await;
    }
}

/// The interval that `OTEL_METRIC_EXPORT_INTERVAL` asks for, in milliseconds.
fn metrics_interval() -> Duration {
    let asked = std::env::var("OTEL_METRIC_EXPORT_INTERVAL").ok().and_then(|text| text.trim().parse().ok());
    asked.filter(|millis| *millis > 0).map_or(METRICS_INTERVAL, Duration::from_millis)
}

/// Who sends. `OTEL_RESOURCE_ATTRIBUTES` and `OTEL_SERVICE_NAME` go before.
fn resource(entropy: &dyn Entropy) -> Resource {
    let instance = uuid::Builder::from_random_bytes(random(entropy)).into_uuid().to_string();
    let given = Resource::builder().build();
    let unless_given = |key: &'static str, value: String| {
        let known = given.get(&key.into()).is_some_and(|v| !v.as_str().starts_with("unknown_service"));
        (!known).then(|| KeyValue::new(key, value))
    };
    let own = [
        unless_given("service.name", "vouchsafe".to_owned()),
        unless_given("service.version", env!("CARGO_PKG_VERSION").to_owned()),
        unless_given("service.instance.id", instance),
    ];
    Resource::builder().with_attributes(own.into_iter().flatten()).build()
}

/// Says that the collector does not take what it is sent, not too often, and when it does again.
#[derive(Debug, Default)]
struct Complaints(Mutex<Trouble>);

#[derive(Debug, Default)]
struct Trouble {
    failures: u64,
    said: Option<Instant>,
}

impl Complaints {
    fn note<T>(&self, what: &'static str, result: &Result<T, tonic::Status>) {
        let mut trouble = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = monotonic_now();
        match result {
            Ok(_) if trouble.failures == 0 => {}
            Ok(_) => {
                let Trouble { failures, .. } = std::mem::take(&mut *trouble);
                tracing::info!(failures, "telemetry is delivered again");
            }
            Err(status) => {
                trouble.failures += 1;
                if trouble.said.is_none_or(|said| now.saturating_duration_since(said) >= COMPLAINT_INTERVAL) {
                    trouble.said = Some(now);
                    let (failures, code) = (trouble.failures, super::metrics::status_name(status.code()));
                    tracing::warn!(what, failures, code, cause = status.message(), "telemetry is not delivered");
                }
            }
        }
    }
}
