//! Metrics on their way out: totals since the start of the process, at intervals.

use std::{fmt, sync::Arc, time::Duration};

use opentelemetry_proto::{
    tonic::{
        collector::metrics::v1::{ExportMetricsServiceRequest, metrics_service_client::MetricsServiceClient},
        common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value},
        metrics::v1::{
            AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics,
            ScopeMetrics, Sum, metric, number_data_point,
        },
        resource::v1::Resource as ProtoResource,
    },
    transform::common::tonic::ResourceAttributesWithSchema,
};
use opentelemetry_sdk::Resource;
use tokio::time::{MissedTickBehavior, interval};
use tonic::transport::Channel;

use super::Complaints;
use crate::{
    crypto::machine_date,
    domain::time::Timestamp,
    telemetry::family::{Family, Kind, Point, Value},
};

/// Sends metrics.
#[derive(Clone)]
pub(super) struct Pusher {
    channel: Channel,
    resource: ProtoResource,
    collect: Arc<dyn Fn() -> Vec<Family> + Send + Sync>,
    complaints: Arc<Complaints>,
    started: Timestamp,
}

impl fmt::Debug for Pusher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pusher")
    }
}

impl Pusher {
    pub(super) fn new(
        channel: Channel,
        resource: &Resource,
        collect: Arc<dyn Fn() -> Vec<Family> + Send + Sync>,
        complaints: Arc<Complaints>,
    ) -> Self {
        let attributes = ResourceAttributesWithSchema::from(resource).attributes.0;
        let resource = ProtoResource { attributes, ..Default::default() };
        Self { channel, resource, collect, complaints, started: machine_date() }
    }

    /// Sends at intervals for ever.
    pub(super) async fn run(self, every: Duration) {
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first is at once, when there is nothing to tell.
        ticks.tick().await;
        loop {
            ticks.tick().await;
            self.push().await;
        }
    }

    /// Sends once.
    pub(super) async fn push(&self) {
        let times = Times { start: nanos(self.started), now: nanos(machine_date()) };
        let metrics = (self.collect)().iter().filter(|f| !f.points.is_empty()).map(|f| metric(f, times)).collect();
        let scope = InstrumentationScope {
            name: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..Default::default()
        };
        let scope_metrics = vec![ScopeMetrics { scope: Some(scope), metrics, ..Default::default() }];
        let resource_metrics =
            vec![ResourceMetrics { resource: Some(self.resource.clone()), scope_metrics, ..Default::default() }];
        let request = ExportMetricsServiceRequest { resource_metrics };
        let sent = MetricsServiceClient::new(self.channel.clone()).export(request).await;
        self.complaints.note("metrics", &sent);
    }
}

#[derive(Clone, Copy)]
struct Times {
    start: u64,
    now: u64,
}

/// Nanoseconds since 1970.
fn nanos(time: Timestamp) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(0).saturating_mul(1_000)
}

fn metric(family: &Family, times: Times) -> Metric {
    let Family { about, points } = family;
    let aggregation_temporality = AggregationTemporality::Cumulative.into();
    let data = match about.kind {
        Kind::Counter => {
            let data_points = points.iter().filter_map(|p| number(p, times)).collect();
            metric::Data::Sum(Sum { data_points, aggregation_temporality, is_monotonic: true })
        }
        Kind::Gauge => {
            metric::Data::Gauge(Gauge { data_points: points.iter().filter_map(|p| number(p, times)).collect() })
        }
        Kind::Histogram => {
            let data_points = points.iter().filter_map(|p| histogram(p, times)).collect();
            metric::Data::Histogram(Histogram { data_points, aggregation_temporality })
        }
    };
    Metric {
        name: about.name.to_owned(),
        description: about.help.to_owned(),
        unit: about.unit.to_owned(),
        data: Some(data),
        ..Default::default()
    }
}

fn number(point: &Point, times: Times) -> Option<NumberDataPoint> {
    let Value::Number(number) = point.value else { return None };
    Some(NumberDataPoint {
        attributes: attributes(&point.labels),
        start_time_unix_nano: times.start,
        time_unix_nano: times.now,
        value: Some(number_data_point::Value::AsDouble(number)),
        ..Default::default()
    })
}

fn histogram(point: &Point, times: Times) -> Option<HistogramDataPoint> {
    let Value::Distribution(distribution) = &point.value else { return None };
    Some(HistogramDataPoint {
        attributes: attributes(&point.labels),
        start_time_unix_nano: times.start,
        time_unix_nano: times.now,
        count: distribution.count(),
        sum: Some(distribution.sum),
        explicit_bounds: distribution.bounds.to_vec(),
        bucket_counts: distribution.counts.clone(),
        ..Default::default()
    })
}

fn attributes(labels: &[(&'static str, &'static str)]) -> Vec<KeyValue> {
    let attribute = |&(key, value): &(&str, &str)| KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(any_value::Value::StringValue(value.to_owned())) }),
        ..Default::default()
    };
    labels.iter().map(attribute).collect()
}
