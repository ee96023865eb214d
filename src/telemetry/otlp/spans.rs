//! Spans on their way out.

use std::{sync::Arc, time::Duration};

use opentelemetry::{
    Context, KeyValue,
    trace::{Link, SpanKind, TraceContextExt as _, TraceId, TraceState},
};
use opentelemetry_proto::{
    tonic::collector::trace::v1::{ExportTraceServiceRequest, trace_service_client::TraceServiceClient},
    transform::{common::tonic::ResourceAttributesWithSchema, trace::tonic::group_spans_by_resource_and_scope},
};
use opentelemetry_sdk::{
    Resource,
    error::{OTelSdkError, OTelSdkResult},
    trace::{
        BatchConfigBuilder, BatchSpanProcessor, Sampler, SamplingDecision, SamplingResult, SdkTracerProvider,
        ShouldSample, SpanData, SpanExporter,
    },
};
use tokio::runtime::Handle;
use tonic::transport::Channel;

use super::Complaints;

/// The attributes that may leave the process. Everything else that a span says is for the log alone, whoever adds it: no
/// identifier, address or token can get into a trace by accident.
const ATTRIBUTES: [&str; 6] =
    ["rpc.system.name", "rpc.method", "rpc.response.status_code", "error.type", "db.system.name", "db.query.summary"];

/// Spans that wait to be sent. Further ones are dropped.
const QUEUE: usize = 4_096;
/// Spans in one batch.
const BATCH: usize = 512;
/// How long a span waits for company.
const DELAY: Duration = Duration::from_secs(2);

/// Makes spans and sends them in batches.
pub(super) fn provider(
    channel: Channel,
    resource: Resource,
    ratio: f64,
    complaints: Arc<Complaints>,
) -> SdkTracerProvider {
    let attributes = ResourceAttributesWithSchema::from(&resource);
    let exporter = Exporter { channel, runtime: Handle::current(), resource: Arc::new(attributes), complaints };
    let batches = BatchConfigBuilder::default()
        .with_max_queue_size(QUEUE)
        .with_max_export_batch_size(BATCH)
        .with_scheduled_delay(DELAY)
        .build();
    SdkTracerProvider::builder()
        .with_resource(resource)
        .with_sampler(Sampler::ParentBased(Box::new(Calls { ratio: Sampler::TraceIdRatioBased(ratio) })))
        .with_span_processor(BatchSpanProcessor::builder(exporter).with_batch_config(batches).build())
        .build()
}

/// Decides about spans without a parent: a share of the calls, and nothing that runs in the background, of which each
/// statement would be a trace of its own.
#[derive(Clone, Debug)]
struct Calls {
    ratio: Sampler,
}

impl ShouldSample for Calls {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace_id: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        if name == "rpc" {
            return self.ratio.should_sample(parent, trace_id, name, kind, attributes, links);
        }
        let trace_state = parent.map_or(TraceState::NONE, |parent| parent.span().span_context().trace_state().clone());
        SamplingResult { decision: SamplingDecision::Drop, attributes: Vec::new(), trace_state }
    }
}

#[derive(Debug)]
struct Exporter {
    channel: Channel,
    /// The batches come from a thread outside the runtime.
    runtime: Handle,
    resource: Arc<ResourceAttributesWithSchema>,
    complaints: Arc<Complaints>,
}

impl SpanExporter for Exporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let (channel, resource, complaints) =
            (self.channel.clone(), Arc::clone(&self.resource), Arc::clone(&self.complaints));
        let sending = self.runtime.spawn(async move {
            let batch = batch.into_iter().map(dress).collect();
            let request =
                ExportTraceServiceRequest { resource_spans: group_spans_by_resource_and_scope(batch, &resource) };
            let sent = TraceServiceClient::new(channel).export(request).await;
            complaints.note("traces", &sent);
            sent
        });
        match sending.await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(status)) => Err(OTelSdkError::InternalFailure(status.message().to_owned())),
            Err(gone) => Err(OTelSdkError::InternalFailure(gone.to_string())),
        }
    }
}

/// A span as the conventions want it: their name and kind instead of the log's, and only what may leave.
fn dress(mut span: SpanData) -> SpanData {
    span.attributes.retain(|attribute| ATTRIBUTES.contains(&attribute.key.as_str()));
    let value = |span: &SpanData, key: &str| {
        span.attributes.iter().find(|attribute| attribute.key.as_str() == key).map(|a| a.value.as_str().into_owned())
    };
    let (kind, name) = match &*span.name {
        "rpc" => (SpanKind::Server, value(&span, "rpc.method")),
        "transaction" | "read" | "hot" => (SpanKind::Client, value(&span, "db.query.summary")),
        _ => (SpanKind::Internal, None),
    };
    span.span_kind = kind;
    if let Some(name) = name {
        span.name = name.into();
    }
    span.events = opentelemetry_sdk::trace::SpanEvents::default();
    span
}
