//! Measures every call until its answer has been handed over, and closes its span with how it ended.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use http::{HeaderMap, Response};
use hyper::body::{Body as HttpBody, Bytes, Frame, SizeHint};
use tonic::{Code, Status, body::Body};
use tracing::Span;

use crate::{
    crypto::monotonic_now,
    telemetry::{Metrics, RpcMethod, end_rpc_span},
};

/// A call under way. Recorded when it ends, at the latest when this is dropped: a call whose answer nobody waited for has
/// ended as CANCELLED.
pub(super) struct Recording {
    metrics: Arc<Metrics>,
    method: RpcMethod,
    begun: Instant,
    /// `None`: it has ended.
    span: Option<Span>,
}

impl Recording {
    pub(super) fn begin(metrics: Arc<Metrics>, method: RpcMethod, span: Span) -> Self {
        Self { metrics, method, begun: monotonic_now(), span: Some(span) }
    }

    /// The answer with the rest of the recording in it: what an answer ends with is in its head only if it has no message.
    pub(super) fn follow(mut self, answer: Response<Body>) -> Response<Body> {
        if let Some(code) = status_in(answer.headers()) {
            self.end(code);
            return answer;
        }
        answer.map(|body| Body::new(Recorded { body, recording: self }))
    }

    fn end(&mut self, status: Code) {
        if let Some(span) = self.span.take() {
            self.metrics.rpc(self.method, status, monotonic_now().saturating_duration_since(self.begun));
            end_rpc_span(&span, status);
        }
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.end(Code::Cancelled);
    }
}

fn status_in(headers: &HeaderMap) -> Option<Code> {
    headers.get("grpc-status").map(|value| Code::from_bytes(value.as_bytes()))
}

/// The body of an answer, watched for its trailers.
struct Recorded {
    body: Body,
    recording: Recording,
}

impl HttpBody for Recorded {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &frame
            && let Some(code) = frame.trailers_ref().and_then(status_in)
        {
            // Before the caller can know of it.
            self.recording.end(code);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
