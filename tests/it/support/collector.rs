//! A collector that keeps what it is sent: a server of the real OTLP services.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use opentelemetry_proto::tonic::{
    collector::{
        metrics::v1::{
            ExportMetricsServiceRequest, ExportMetricsServiceResponse,
            metrics_service_server::{MetricsService, MetricsServiceServer},
        },
        trace::v1::{
            ExportTraceServiceRequest, ExportTraceServiceResponse,
            trace_service_server::{TraceService, TraceServiceServer},
        },
    },
    common::v1::{KeyValue, any_value},
    metrics::v1::{HistogramDataPoint, Metric, metric, number_data_point},
    resource::v1::Resource,
    trace::v1::Span,
};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Request, Response, Status,
    transport::{Identity, Server, ServerTlsConfig},
};

/// A running collector. It ends with the test's runtime.
#[derive(Clone, Default)]
pub(crate) struct Collector {
    received: Arc<Mutex<Received>>,
}

#[derive(Default)]
struct Received {
    traces: Vec<ExportTraceServiceRequest>,
    metrics: Vec<ExportMetricsServiceRequest>,
}

impl Collector {
    /// Starts one; where it listens.
    pub(crate) async fn start() -> (Self, SocketAddr) {
        Self::serve(Server::builder()).await
    }

    /// Starts one that speaks TLS with this certificate and key.
    pub(crate) async fn start_with_tls(certificate: &str, key: &str) -> (Self, SocketAddr) {
        let identity = ServerTlsConfig::new().identity(Identity::from_pem(certificate, key));
        Self::serve(Server::builder().tls_config(identity).unwrap()).await
    }

    async fn serve(mut server: Server) -> (Self, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let collector = Self::default();
        let server = server
            .add_service(TraceServiceServer::new(collector.clone()))
            .add_service(MetricsServiceServer::new(collector.clone()))
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(server);
        (collector, address)
    }

    /// Every span it has received.
    pub(crate) fn spans(&self) -> Vec<Span> {
        let received = self.received.lock().unwrap();
        let resources = received.traces.iter().flat_map(|request| &request.resource_spans);
        resources.flat_map(|resource| &resource.scope_spans).flat_map(|scope| scope.spans.clone()).collect()
    }

    /// The metrics of the latest batch.
    pub(crate) fn metrics(&self) -> Vec<Metric> {
        let received = self.received.lock().unwrap();
        let resources = received.metrics.last().into_iter().flat_map(|request| &request.resource_metrics);
        resources.flat_map(|resource| &resource.scope_metrics).flat_map(|scope| scope.metrics.clone()).collect()
    }

    /// Who sent traces and metrics.
    pub(crate) fn resources(&self) -> (Vec<Resource>, Vec<Resource>) {
        let received = self.received.lock().unwrap();
        let traces = received.traces.iter().flat_map(|r| &r.resource_spans).filter_map(|r| r.resource.clone());
        let metrics = received.metrics.iter().flat_map(|r| &r.resource_metrics).filter_map(|r| r.resource.clone());
        (traces.collect(), metrics.collect())
    }

    /// All of it as text, to look for what must not be in it.
    pub(crate) fn everything(&self) -> String {
        let received = self.received.lock().unwrap();
        format!("{:#?}\n{:#?}", received.traces, received.metrics)
    }
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.received.lock().unwrap().traces.push(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Collector {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        self.received.lock().unwrap().metrics.push(request.into_inner());
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

/// The value of an attribute, if there is one and it is text.
pub(crate) fn attribute<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a str> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    match found.value.as_ref()?.value.as_ref()? {
        any_value::Value::StringValue(text) => Some(text),
        _ => None,
    }
}

fn labelled(attributes: &[KeyValue], labels: &[(&str, &str)]) -> bool {
    labels.iter().all(|(key, value)| attribute(attributes, key) == Some(*value))
}

/// The number of a counter or gauge.
pub(crate) fn number(metrics: &[Metric], name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let points = match metrics.iter().find(|metric| metric.name == name)?.data.as_ref()? {
        metric::Data::Sum(sum) => {
            assert!(sum.is_monotonic && sum.aggregation_temporality == 2, "{name} is a total");
            &sum.data_points
        }
        metric::Data::Gauge(gauge) => &gauge.data_points,
        other => panic!("{name}: {other:?}"),
    };
    match points.iter().find(|point| labelled(&point.attributes, labels))?.value? {
        number_data_point::Value::AsDouble(number) => Some(number),
        number_data_point::Value::AsInt(_) => panic!("{name} is an integer"),
    }
}

/// A point of a histogram.
pub(crate) fn histogram(metrics: &[Metric], name: &str, labels: &[(&str, &str)]) -> Option<HistogramDataPoint> {
    let metric::Data::Histogram(histogram) = metrics.iter().find(|metric| metric.name == name)?.data.as_ref()? else {
        panic!("{name} is no histogram");
    };
    histogram.data_points.iter().find(|point| labelled(&point.attributes, labels)).cloned()
}
