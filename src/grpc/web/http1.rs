//! Connections of web pages that speak HTTP/1.1, under the bounds of those that speak HTTP/2.
//!
//! The transport of gRPC could serve them, but would let a head be 400 KiB long, and a body take for ever.

use std::{
    io,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use pin_project_lite::pin_project;
use tokio::{
    sync::mpsc,
    time::{Sleep, sleep},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{body::Body, transport::server::Connected as _};
use tower::{Service as TowerService, ServiceExt as _, service_fn};

use crate::grpc::connections::{self, Connection};

/// A connection that has been answered must ask again, or end, within this time: so long it may be idle, and so long the next
/// head take. The first has come before. Longer than proxies keep a connection that they have no use for (nginx: 60 s), so that
/// they never call by one that ends just then.
const IDLE: Duration = Duration::from_secs(75);
/// A request's body must have come within this time. It is one message.
const BODY: Duration = Duration::from_secs(30);

/// Serves connections until there are no more, and those that are left have ended. Once `stop` is cancelled they end with the
/// answers under way.
pub(in crate::grpc) async fn serve<S>(mut incoming: mpsc::Receiver<Connection>, service: S, stop: CancellationToken)
where
    S: TowerService<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let connections = TaskTracker::new();
    while let Some(connection) = incoming.recv().await {
        connections.spawn(serve_one(connection, service.clone(), stop.clone()));
    }
    connections.close();
    connections.wait().await;
}

async fn serve_one<S>(connection: Connection, service: S, stop: CancellationToken)
where
    S: TowerService<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let peer = connection.connect_info();
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        let is_read = Arc::new(AtomicBool::new(request.body().is_end_stream()));
        let request = request.map(|body| Body::new(Arriving::new(body, Arc::clone(&is_read))));
        let answer = service.clone().oneshot(request);
        async move {
            let mut answer = answer.await?;
            // Else hyper would skip what is left of the body, and go on with the next request before this answer has gone out: the
            // answers of somebody who asks on and on, and reads nothing, would be kept without a bound.
            if !is_read.load(Ordering::Relaxed) {
                answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, S::Error>(answer)
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new()).http1_only();
    builder.http1().timer(TokioTimer::new()).header_read_timeout(IDLE).max_buf_size(connections::MAX_HEAD);
    let mut served = pin!(builder.serve_connection(TokioIo::new(connection), TowerToHyperService::new(service)));
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = to_go(&stop) => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error, "a connection of a page ended");
    }
}

/// Until a connection is to end with what is under way.
async fn to_go(stop: &CancellationToken) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = sleep(connections::MAX_AGE) => {}
    }
}

pin_project! {
    /// A request's body, which comes in time or not at all.
    struct Arriving<B> {
        #[pin]
        body: B,
        #[pin]
        end: Sleep,
        is_read: Arc<AtomicBool>,
    }
}

impl<B> Arriving<B> {
    /// Says so in `is_read` once it is read to its end.
    fn new(body: B, is_read: Arc<AtomicBool>) -> Self {
        Self { body, end: sleep(BODY), is_read }
    }
}

impl<B: HttpBody<Data = Bytes>> HttpBody for Arriving<B>
where
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let mut this = self.project();
        // A body that comes byte by byte is late as well.
        if this.end.poll(cx).is_ready() {
            return Poll::Ready(Some(Err(io::Error::from(io::ErrorKind::TimedOut).into())));
        }
        let frame = ready!(this.body.as_mut().poll_frame(cx));
        if frame.is_none() || this.body.is_end_stream() {
            this.is_read.store(true, Ordering::Relaxed);
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn a_body_comes_in_time_or_not_at_all() {
        let is_read = Arc::new(AtomicBool::new(false));
        let whole = Arriving::new(Body::new("message".to_owned()), Arc::clone(&is_read));
        assert_eq!(whole.collect().await.unwrap().to_bytes(), "message");
        assert!(is_read.load(Ordering::Relaxed));
        let (_keeps_on, body) = tokio::sync::mpsc::channel::<Result<Frame<Bytes>, io::Error>>(1);
        let body = http_body_util::StreamBody::new(tokio_stream::wrappers::ReceiverStream::new(body));
        let is_read = Arc::new(AtomicBool::new(false));
        let late = Arriving { body, end: sleep(Duration::from_millis(1)), is_read: Arc::clone(&is_read) };
        let error = late.collect().await.unwrap_err();
        assert_eq!(error.downcast_ref::<io::Error>().unwrap().kind(), io::ErrorKind::TimedOut);
        assert!(!is_read.load(Ordering::Relaxed));
    }
}
