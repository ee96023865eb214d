//! Spans of RPCs: whose they continue, what they say, and how they end.
//!
//! A span is an ordinary one of `tracing`, so that it is in the log as well; what belongs into a trace only is added here,
//! and only where spans are exported. What leaves the process is decided by a list: see [`super::otlp`].

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use http::HeaderMap;
use opentelemetry::{
    Context, KeyValue,
    trace::{SpanContext, SpanId, Status, TraceContextExt as _, TraceFlags, TraceId, TraceState},
};
use tonic::Code;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use super::metrics::status_name;

/// Whether the spans of this process are exported. Like the log, that is a matter of the process.
static EXPORTED: AtomicBool = AtomicBool::new(false);

/// From now on they are.
pub(super) fn set_exported() {
    EXPORTED.store(true, Relaxed);
}

/// Gives the span of an RPC its parent, out of `traceparent`, and its name.
pub fn begin_rpc_span(span: &Span, method: &'static str, headers: &HeaderMap) {
    if !EXPORTED.load(Relaxed) || span.is_disabled() {
        return;
    }
    if let Some(parent) = remote_parent(headers) {
        // It can only fail for a span that has begun.
        let _ = span.set_parent(Context::new().with_remote_span_context(parent));
    }
    span.set_attribute("rpc.system.name", "grpc");
    span.set_attribute("rpc.method", method);
    // This begins it, and makes the trace known to the log.
    let context = span.context();
    let context = context.span().span_context().clone();
    if context.is_sampled() {
        span.record("trace_id", tracing::field::display(context.trace_id()));
    }
}

/// Says how an RPC ended, and that it has ended: what goes on after the answer holds on to the span as well. An error of the
/// conventions is a fault of the server, not the refusal of a bad request.
pub fn end_rpc_span(span: &Span, status: Code) {
    if !EXPORTED.load(Relaxed) || span.is_disabled() {
        return;
    }
    let context = span.context();
    let span = context.span();
    span.set_attribute(KeyValue::new("rpc.response.status_code", status_name(status)));
    if is_server_fault(status) {
        span.set_attribute(KeyValue::new("error.type", status_name(status)));
        span.set_status(Status::error(""));
    }
    span.end();
}

/// As the conventions for gRPC servers have it.
const fn is_server_fault(status: Code) -> bool {
    matches!(
        status,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    )
}

/// The span that an RPC continues (W3C Trace Context, `traceparent`). One that is malformed, or there twice, is ignored, as
/// the standard wants it. `tracestate` is not taken over: it is free text of a caller's, and would leave with every span.
fn remote_parent(headers: &HeaderMap) -> Option<SpanContext> {
    let mut values = headers.get_all("traceparent").iter();
    let (first, second) = (values.next()?, values.next());
    if second.is_some() {
        return None;
    }
    parse_traceparent(first.to_str().ok()?)
}

fn parse_traceparent(text: &str) -> Option<SpanContext> {
    let mut fields = text.split('-');
    let [version, trace, span, flags] = [2, 32, 16, 2].map(|length| {
        fields.next().filter(|field| {
            field.len() == length && field.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        })
    });
    // Later versions may have more fields; this one may not, and "ff" is none.
    let version = version?;
    if version == "ff" || (version == "00" && fields.next().is_some()) {
        return None;
    }
    let (trace, span) = (TraceId::from_hex(trace?).ok()?, SpanId::from_hex(span?).ok()?);
    let flags = TraceFlags::new(u8::from_str_radix(flags?, 16).ok()?) & TraceFlags::SAMPLED;
    Some(SpanContext::new(trace, span, flags, true, TraceState::NONE)).filter(SpanContext::is_valid)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    #[test]
    fn a_traceparent_of_the_standard_is_understood() {
        for (text, sampled) in [
            (format!("00-{TRACE}-{SPAN}-01"), true),
            (format!("00-{TRACE}-{SPAN}-00"), false),
            (format!("00-{TRACE}-{SPAN}-02"), false),
            (format!("cc-{TRACE}-{SPAN}-01-what-comes-later"), true),
        ] {
            let parent = parse_traceparent(&text).unwrap();
            assert_eq!((parent.trace_id().to_string(), parent.span_id().to_string()), (TRACE.into(), SPAN.into()));
            assert_eq!((parent.is_sampled(), parent.is_remote()), (sampled, true), "{text}");
        }
    }

    #[test]
    fn a_malformed_traceparent_is_none() {
        let (zeros, short) = ("0".repeat(32), &TRACE[1..]);
        for bad in [
            String::new(),
            format!("00-{TRACE}-{SPAN}"),
            format!("00-{TRACE}-{SPAN}-01-more"),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            format!("00-{zeros}-{SPAN}-01"),
            format!("00-{TRACE}-{}-01", &zeros[..16]),
            format!("00-{short}-{SPAN}-01"),
            format!("00-{TRACE}-{SPAN}-1"),
            format!("00-{TRACE}-{SPAN}-0g"),
            format!(" 00-{TRACE}-{SPAN}-01"),
            format!("00_{TRACE}_{SPAN}_01"),
        ] {
            assert_eq!(parse_traceparent(&bad), None, "{bad:?}");
        }
        let mut twice = HeaderMap::new();
        for _ in 0..2 {
            twice.append("traceparent", format!("00-{TRACE}-{SPAN}-01").parse().unwrap());
        }
        assert_eq!(remote_parent(&twice), None);
    }

    #[test]
    fn a_refusal_is_no_fault() {
        let faults: Vec<_> = (0..17).map(Code::from).filter(|code| is_server_fault(*code)).map(status_name).collect();
        assert_eq!(faults, ["UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"]);
    }
}
