//! The layer around services that are made to be slow, long, or picky.

use std::{convert::Infallible, future::pending, time::Duration};

use http::HeaderMap;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::*;
use crate::verifier::testing::Surroundings;

const GRPC: &str = "application/grpc";

/// A body that yields what is sent, until its sender is dropped.
struct Pipe {
    frames: mpsc::UnboundedReceiver<Frame<Bytes>>,
    announced: Option<u64>,
}

type Sender = mpsc::UnboundedSender<Frame<Bytes>>;

fn pipe() -> (Sender, Pipe) {
    let (sender, frames) = mpsc::unbounded_channel();
    (sender, Pipe { frames, announced: None })
}

fn send(sender: &Sender, text: &'static str) {
    sender.send(Frame::data(Bytes::from_static(text.as_bytes()))).unwrap();
}

impl Body for Pipe {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.frames.poll_recv(cx).map(|frame| frame.map(Ok))
    }

    fn size_hint(&self) -> SizeHint {
        self.announced.map_or_else(SizeHint::new, SizeHint::with_exact)
    }
}

type Answering = Pin<Box<dyn Future<Output = Response<Pipe>> + Send>>;

/// A service that must be polled ready before each call, each clone on its own.
struct Inner {
    answer: Arc<dyn Fn(Request<Guarded<Pipe>>) -> Answering + Send + Sync>,
    ready: bool,
}

impl Inner {
    fn new<R: Future<Output = Response<Pipe>> + Send + 'static>(
        answer: impl Fn(Request<Guarded<Pipe>>) -> R + Send + Sync + 'static,
    ) -> Self {
        Self { answer: Arc::new(move |request| Box::pin(answer(request))), ready: false }
    }
}

impl Clone for Inner {
    fn clone(&self) -> Self {
        Self { answer: Arc::clone(&self.answer), ready: false }
    }
}

impl Service<Request<Guarded<Pipe>>> for Inner {
    type Response = Response<Pipe>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Pipe>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Guarded<Pipe>>) -> Self::Future {
        assert!(mem::take(&mut self.ready), "called without having been polled ready");
        let answering = (self.answer)(request);
        Box::pin(async move { Ok(answering.await) })
    }
}

fn layer(around: &Surroundings, rule: Rule) -> VerifierLayer {
    VerifierLayer::new(around.verifier.clone(), Policy::new(rule))
}

fn request(token: Option<&str>, content_type: &str) -> (Sender, Request<Pipe>) {
    let (sender, body) = pipe();
    let mut request = Request::post("/shop.v1.Orders/List").header("content-type", content_type);
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    (sender, request.body(body).unwrap())
}

async fn call(service: &mut Guard<Inner>, request: Request<Pipe>) -> Response<Guarded<Pipe>> {
    std::future::poll_fn(|cx| service.poll_ready(cx)).await.unwrap();
    service.call(request).await.unwrap()
}

/// Answers with a body that is sent from here.
fn streaming(content_type: &'static str) -> (mpsc::UnboundedReceiver<Sender>, Inner) {
    let (tell, told) = mpsc::unbounded_channel();
    let inner = Inner::new(move |_| {
        let (sender, body) = pipe();
        tell.send(sender).unwrap();
        async move { Response::builder().header("content-type", content_type).body(body).unwrap() }
    });
    (told, inner)
}

async fn next<B>(body: &mut Guarded<B>) -> Option<Result<Frame<Bytes>, String>>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    body.frame().await.map(|frame| frame.map_err(|error| error.to_string()))
}

fn grpc_status(headers: &HeaderMap) -> &str {
    headers["grpc-status"].to_str().unwrap()
}

#[tokio::test]
async fn the_service_that_was_polled_ready_is_called() {
    let around = Surroundings::new().await;
    let (mut senders, inner) = streaming(GRPC);
    let mut service = layer(&around, Rule::required()).layer(inner);
    let token = around.token("", &[]);
    for _ in 0..3 {
        let (_sender, request) = request(Some(&token), GRPC);
        assert_eq!(call(&mut service, request).await.status(), 200);
        senders.try_recv().unwrap();
    }
}

#[tokio::test]
async fn who_is_denied_does_not_reach_the_service() {
    let around = Surroundings::new().await;
    let inner = Inner::new(|request| async move { panic!("{} was called", request.uri()) });
    let mut service = layer(&around, Rule::required().role("seller")).layer(inner);
    let buyer = around.token("", &["buyer"]);
    for (token, status) in [(None, 401), (Some("x"), 401), (Some(&*buyer), 403)] {
        let (_sender, request) = request(token, "text/plain");
        let response = call(&mut service, request).await;
        assert_eq!(response.status(), status);
        let exact = response.body().size_hint().exact().unwrap();
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes().len() as u64, exact);
    }
    let (_sender, request) = request(Some(&around.token("", &["seller"])), GRPC);
    let (mut parts, body) = request.into_parts();
    parts.uri = "/shop.v1.Orders//List".parse().unwrap();
    let response = call(&mut service, Request::from_parts(parts, body)).await;
    assert_eq!((grpc_status(response.headers()), response.body().is_end_stream()), ("12", true));
}

#[tokio::test]
async fn the_service_sees_who_calls_and_no_one_else() {
    let around = Surroundings::new().await;
    let token = around.token("", &[]);
    let other = around.verifier.verify_now(&token, &Rule::required()).unwrap();
    for (layer, sent, principal, authorization) in [
        (layer(&around, Rule::required()), Some(&*token), true, true),
        (layer(&around, Rule::required()).strip_token(), Some(&*token), true, false),
        (layer(&around, Rule::optional()), Some(&*token), true, true),
        (layer(&around, Rule::optional()), None, false, false),
        (layer(&around, Rule::public()), Some("x"), false, true),
        (layer(&around, Rule::public()).strip_token(), Some("x"), false, false),
    ] {
        let mut service = layer.layer(Inner::new(move |request| {
            let found =
                (Principal::of(request.extensions()).is_some(), request.headers().contains_key("authorization"));
            assert_eq!(found, (principal, authorization));
            async { Response::new(pipe().1) }
        }));
        let (_sender, mut request) = request(sent, GRPC);
        request.extensions_mut().insert(other.clone());
        assert_eq!(call(&mut service, request).await.status(), 200);
    }
}

#[tokio::test]
async fn a_grpc_stream_ends_with_the_status_once_its_token_is_revoked() {
    let around = Surroundings::new().await;
    let (mut senders, inner) = streaming(GRPC);
    let mut service = layer(&around, Rule::required()).layer(inner);
    let (_request_body, request) = request(Some(&around.token("", &[])), GRPC);
    let mut body = call(&mut service, request).await.into_body();
    let sender = senders.try_recv().unwrap();
    for text in ["a", "b"] {
        send(&sender, text);
        assert_eq!(next(&mut body).await.unwrap().unwrap().into_data().unwrap(), text);
    }
    // While nothing comes.
    let (frame, ()) = tokio::join!(biased; next(&mut body), async { around.revoke() });
    let trailers = frame.unwrap().unwrap().into_trailers().unwrap();
    assert_eq!(grpc_status(&trailers), "16");
    assert!(trailers.contains_key("www-authenticate"));
    assert!(sender.is_closed(), "whoever fills the stream must notice");
    assert!(body.is_end_stream() && next(&mut body).await.is_none());
}

#[tokio::test]
async fn a_stream_that_never_lets_wait_is_cut_as_well() {
    let around = Surroundings::new().await;
    let (mut senders, inner) = streaming("text/plain");
    let mut service = layer(&around, Rule::required()).layer(inner);
    let (_request_body, request) = request(Some(&around.token("", &[])), "text/plain");
    let mut body = call(&mut service, request).await.into_body();
    let sender = senders.try_recv().unwrap();
    for text in ["a", "b", "c"] {
        send(&sender, text);
    }
    assert!(next(&mut body).await.unwrap().is_ok());
    assert!(next(&mut body).await.unwrap().is_ok());
    around.revoke();
    // A clean end would pass for the whole.
    let error = next(&mut body).await.unwrap().unwrap_err();
    assert!(error.contains("revoked"), "{error}");
    assert!(sender.is_closed());
}

#[tokio::test]
async fn a_stream_ends_when_its_token_expires() {
    let around = Surroundings::new().await;
    let (mut senders, inner) = streaming(GRPC);
    let mut service = layer(&around, Rule::required()).layer(inner);
    let (_request_body, request) = request(Some(&around.token("", &[])), GRPC);
    around.nearly_expire();
    let mut body = call(&mut service, request).await.into_body();
    let sender = senders.try_recv().unwrap();
    let (frame, ()) = tokio::join!(biased; next(&mut body), async { around.expire() });
    assert_eq!(grpc_status(&frame.unwrap().unwrap().into_trailers().unwrap()), "16");
    assert!(sender.is_closed());
}

#[tokio::test]
async fn a_handler_that_has_not_answered_is_dropped() {
    for (content_type, status) in [(GRPC, 200), ("text/plain", 401)] {
        let around = Surroundings::new().await;
        let (tell, mut told) = mpsc::unbounded_channel();
        let inner = Inner::new(move |_| {
            let (alive, dropped) = oneshot::channel::<()>();
            tell.send(dropped).unwrap();
            async move {
                let _alive = alive;
                pending().await
            }
        });
        let mut service = layer(&around, Rule::required()).layer(inner);
        let (_request_body, request) = request(Some(&around.token("", &[])), content_type);
        let revoke = async {
            let alive = told.recv().await.unwrap();
            around.revoke();
            alive.await
        };
        let both = async { tokio::join!(biased; call(&mut service, request), revoke) };
        let (response, dropped) = timeout(Duration::from_mins(1), both).await.expect("it is never dropped");
        assert_eq!(response.status(), status);
        assert_eq!(response.headers().get("grpc-status").is_some(), content_type == GRPC);
        assert!(dropped.is_err());
    }
}

#[tokio::test]
async fn a_task_that_goes_on_reading_gets_no_more() {
    for waiting in [false, true] {
        let around = Surroundings::new().await;
        let (tell, mut told) = mpsc::unbounded_channel();
        let inner = Inner::new(move |request| {
            tell.send(request.into_body()).unwrap();
            async { Response::new(pipe().1) }
        });
        let mut service = layer(&around, Rule::required()).layer(inner);
        let (sender, request) = request(Some(&around.token("", &[])), GRPC);
        drop(call(&mut service, request).await);
        let mut left = told.recv().await.unwrap();
        send(&sender, "a");
        assert!(next(&mut left).await.unwrap().is_ok());
        let error = if waiting {
            tokio::join!(biased; next(&mut left), async { around.revoke() }).0
        } else {
            send(&sender, "b");
            around.revoke();
            next(&mut left).await
        };
        let error = error.unwrap().unwrap_err();
        assert!(error.contains("the access token is not accepted"), "{error}");
        assert!(sender.is_closed());
    }
}

#[tokio::test]
async fn a_body_that_is_first_read_late_gets_nothing() {
    let around = Surroundings::new().await;
    let (tell, mut told) = mpsc::unbounded_channel();
    let inner = Inner::new(move |request: Request<Guarded<Pipe>>| {
        tell.send(request.into_body()).unwrap();
        async { Response::new(pipe().1) }
    });
    let mut service = layer(&around, Rule::required()).layer(inner);
    let (sender, request) = request(Some(&around.token("", &[])), "text/plain");
    assert_eq!(call(&mut service, request).await.status(), 200);
    let mut left_behind = told.recv().await.unwrap();
    send(&sender, "sent in time");
    around.revoke();
    assert!(next(&mut left_behind).await.unwrap().is_err());
}

#[tokio::test]
async fn a_call_that_answers_at_once_costs_no_alarm() {
    let around = Surroundings::new().await;
    let alarms = || around.verifier.shared.changes.receiver_count();
    let (mut senders, inner) = streaming(GRPC);
    let mut service = layer(&around, Rule::required()).layer(inner);
    let (_request_body, request) = request(Some(&around.token("", &[])), GRPC);
    let mut body = call(&mut service, request).await.into_body();
    let sender = senders.try_recv().unwrap();
    send(&sender, "a");
    // What was there at once belongs to what was admitted, and so does its end.
    around.revoke();
    assert!(next(&mut body).await.unwrap().unwrap().is_data());
    let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), "0".parse().unwrap())]);
    sender.send(Frame::trailers(trailers)).unwrap();
    assert_eq!(grpc_status(&next(&mut body).await.unwrap().unwrap().into_trailers().unwrap()), "0");
    assert_eq!(alarms(), 0);
}

#[tokio::test]
async fn a_wait_costs_one_alarm_and_nobody_in_particular_none() {
    for (rule, sends, alarms) in [(Rule::required(), true, 1), (Rule::optional(), false, 0), (Rule::public(), true, 0)]
    {
        let around = Surroundings::new().await;
        let (mut senders, inner) = streaming(GRPC);
        let mut service = layer(&around, rule).layer(inner);
        let token = sends.then(|| around.token("", &[]));
        let (_request_body, request) = request(token.as_deref(), GRPC);
        let mut body = call(&mut service, request).await.into_body();
        let sender = senders.try_recv().unwrap();
        let (frame, ()) = tokio::join!(biased; next(&mut body), async {
            assert_eq!(around.verifier.shared.changes.receiver_count(), alarms);
            send(&sender, "a");
        });
        assert!(frame.unwrap().unwrap().is_data());
    }
}

#[tokio::test]
async fn only_what_may_be_cut_short_of_it_announces_its_length() {
    let around = Surroundings::new().await;
    let principal = around.verifier.verify_now(&around.token("", &[]), &Rule::required()).unwrap();
    let grant = Grant { verifier: around.verifier.clone(), principal, rule: Arc::new(Rule::required()) };
    let hint = |protocol, grant: Option<&Grant>| {
        let body = Pipe { announced: Some(9), ..pipe().1 };
        Guarded::response(body, protocol, grant.cloned()).size_hint()
    };
    assert_eq!(hint(Protocol::Grpc, Some(&grant)).exact(), None);
    assert_eq!(hint(Protocol::Grpc, Some(&grant)).upper(), Some(9));
    assert_eq!(hint(Protocol::Grpc, None).exact(), Some(9));
    assert_eq!(hint(Protocol::Http, Some(&grant)).exact(), Some(9));
}
