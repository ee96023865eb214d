//! gRPC-Web: web pages of the origins in `grpc.web_origins` call, and those of no other.
//!
//! CORS alone keeps a page from reading answers, not from sending requests: what needs no preflight is carried out all the same. So
//! whatever names an origin that is not listed is refused before anybody looks at it, and what speaks gRPC-Web must name one, as
//! every browser does. That holds against pages that come under a name of ours too (DNS rebinding): their origin is still theirs.
//! Cookies are not used, so that a browser has nothing to send along that a page does not hold itself.
//!
//! Without origins nothing of this is in the path of a call, and no connection speaks HTTP/1.1.

mod http1;

use std::{
    future::ready,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use tokio::time::Instant;
use tonic::body::Body;
use tonic_web::{GrpcWebLayer, GrpcWebService};
use tower::{Layer, Service as TowerService};

pub(super) use self::http1::serve;
use crate::domain::web_origin::WebOrigin;

/// The content types of gRPC-Web, those that `tonic_web` translates.
const CONTENT_TYPES: [&str; 4] = [
    "application/grpc-web",
    "application/grpc-web+proto",
    "application/grpc-web-text",
    "application/grpc-web-text+proto",
];
/// What a page may send beside what every page may.
const ALLOWED_HEADERS: &str =
    "authorization, content-type, grpc-timeout, traceparent, tracestate, x-grpc-web, x-request-id, x-user-agent";
/// What a page may read.
const EXPOSED_HEADERS: &str = "grpc-message, grpc-status, grpc-status-details-bin, x-request-id";
/// How often it is told that pages were refused: anybody's page can have itself refused as often as it likes.
const TELL: Duration = Duration::from_mins(1);
/// Most characters that are told of an origin.
const MAX_ORIGIN: usize = 100;
/// How long a browser need not ask again, in seconds: the most that Chromium keeps.
const MAX_AGE: &str = "7200";

/// Lets pages in. See the module.
#[derive(Clone, Debug)]
pub(super) struct WebLayer {
    origins: Arc<[HeaderValue]>,
    told: Arc<Mutex<Option<Instant>>>,
}

impl WebLayer {
    /// For pages of these origins. `None` if there are none.
    pub(super) fn new(origins: &[WebOrigin]) -> Option<Self> {
        // An origin is ASCII.
        let origins: Arc<[_]> = origins.iter().filter_map(|origin| origin.as_str().parse().ok()).collect();
        (!origins.is_empty()).then(|| Self { origins, told: Arc::default() })
    }
}

impl<S> Layer<S> for WebLayer {
    type Service = Web<S>;

    fn layer(&self, inner: S) -> Web<S> {
        Web {
            inner: GrpcWebLayer::new().layer(inner),
            origins: Arc::clone(&self.origins),
            told: Arc::clone(&self.told),
        }
    }
}

/// A service that pages may call.
#[derive(Clone, Debug)]
pub(super) struct Web<S> {
    inner: GrpcWebService<S>,
    origins: Arc<[HeaderValue]>,
    /// When it was last told that a page was refused.
    told: Arc<Mutex<Option<Instant>>>,
}

impl<S> Web<S> {
    /// Tells of a page that was refused, so that whoever mistyped an origin finds out.
    fn tell_of(&self, origin: &HeaderValue) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|told| told.elapsed() >= TELL) {
            *told = Some(Instant::now());
            let origin: String = origin.as_bytes().escape_ascii().map(char::from).take(MAX_ORIGIN).collect();
            tracing::warn!(origin, "refused a page: grpc.web_origins does not list its origin");
        }
    }
}

impl<S> TowerService<Request<Body>> for Web<S>
where
    S: TowerService<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        TowerService::<Request<Body>>::poll_ready(&mut self.inner, cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        match judge(&self.origins, &request) {
            Verdict::Answer(mut answer) => {
                // Whoever is not to call keeps no place that a page could have.
                if request.version() != Version::HTTP_2 && answer.status() != StatusCode::NO_CONTENT {
                    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                }
                let origin = request.headers().get(header::ORIGIN);
                tracing::debug!(?origin, status = %answer.status(), "not a call");
                if answer.status() == StatusCode::FORBIDDEN
                    && let Some(origin) = origin
                {
                    self.tell_of(origin);
                }
                Box::pin(ready(Ok(answer)))
            }
            Verdict::Call => Box::pin(self.inner.call(request)),
            Verdict::PagesCall(origin, content_type) => {
                // As the translation knows it.
                request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
                let call = self.inner.call(request);
                Box::pin(async move {
                    let mut answer = call.await?;
                    let headers = answer.headers_mut();
                    allow(headers, origin);
                    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED_HEADERS));
                    Ok(answer)
                })
            }
        }
    }
}

/// What becomes of a request.
enum Verdict {
    /// Whoever calls is no page.
    Call,
    /// A page of this origin calls, in this content type.
    PagesCall(HeaderValue, &'static str),
    /// It ends here.
    Answer(Response<Body>),
}

fn judge<B>(origins: &[HeaderValue], request: &Request<B>) -> Verdict {
    let Ok(origin) = origin(origins, request.headers()) else {
        let why = "the pages of this origin may not call: grpc.web_origins does not list it";
        return refuse(None, StatusCode::FORBIDDEN, why);
    };
    let content_type = request.headers().get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let is_post = *request.method() == Method::POST;
    let of_web = if is_post { web_content_type(content_type) } else { None };
    let origin = match (origin, of_web) {
        (Some(origin), _) if is_preflight(request) => return preflight(origin),
        (Some(origin), Some(content_type)) => return Verdict::PagesCall(origin, content_type),
        (None, Some(_)) => {
            let why = "gRPC-Web is for web pages, which name their origin: call by gRPC";
            return refuse(None, StatusCode::FORBIDDEN, why);
        }
        (origin, None) => origin,
    };
    // Whoever speaks HTTP/2 speaks gRPC, and is answered by those who do.
    if request.version() == Version::HTTP_2 {
        return Verdict::Call;
    }
    if !is_post {
        return refuse(origin, StatusCode::METHOD_NOT_ALLOWED, "gRPC-Web is spoken here, by POST");
    }
    if is_grpc(content_type) {
        return refuse(origin, StatusCode::HTTP_VERSION_NOT_SUPPORTED, "gRPC needs HTTP/2");
    }
    let why = "gRPC-Web is spoken here, in application/grpc-web+proto or -text";
    refuse(origin, StatusCode::UNSUPPORTED_MEDIA_TYPE, why)
}

/// An origin that may not call.
struct Stranger;

/// The origin of the page that calls, if one calls. More than one `Origin` is nobody's.
fn origin(origins: &[HeaderValue], headers: &HeaderMap) -> Result<Option<HeaderValue>, Stranger> {
    let mut named = headers.get_all(header::ORIGIN).iter();
    match (named.next(), named.next()) {
        (None, _) => Ok(None),
        (Some(origin), None) if origins.contains(origin) => Ok(Some(origin.clone())),
        _ => Err(Stranger),
    }
}

/// Whether the browser asks what a page may do (Fetch standard, CORS-preflight).
fn is_preflight<B>(request: &Request<B>) -> bool {
    *request.method() == Method::OPTIONS && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

fn preflight(origin: HeaderValue) -> Verdict {
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = StatusCode::NO_CONTENT;
    let headers = answer.headers_mut();
    allow(headers, origin);
    for (name, value) in [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "POST"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED_HEADERS),
        (header::ACCESS_CONTROL_MAX_AGE, MAX_AGE),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    Verdict::Answer(answer)
}

/// Tells the browser that pages of this origin may read the answer, and caches that others get another.
fn allow(headers: &mut HeaderMap, origin: HeaderValue) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(header::VARY, HeaderValue::from_static("origin"));
}

/// Pages of this origin may read why.
fn refuse(origin: Option<HeaderValue>, status: StatusCode, why: &'static str) -> Verdict {
    let mut answer = Response::new(Body::new(format!("{why}\n")));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::VARY, HeaderValue::from_static("origin"));
    if let Some(origin) = origin {
        allow(headers, origin);
    }
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(header::ALLOW, HeaderValue::from_static("POST, OPTIONS"));
    }
    Verdict::Answer(answer)
}

/// Whether this is a content type of gRPC itself, over HTTP/2.
pub(super) fn is_grpc(content_type: &[u8]) -> bool {
    const GRPC: &[u8] = b"application/grpc";
    let split = media_type(content_type).split_at_checked(GRPC.len());
    split.is_some_and(|(begin, rest)| begin.eq_ignore_ascii_case(GRPC) && rest.first().is_none_or(|next| *next == b'+'))
}

/// Which of those of gRPC-Web this content type is.
fn web_content_type(content_type: &[u8]) -> Option<&'static str> {
    let asked = media_type(content_type);
    CONTENT_TYPES.into_iter().find(|known| known.as_bytes().eq_ignore_ascii_case(asked))
}

/// A content type without its parameters. Whether its letters are large or small does not matter (RFC 9110 §8.3.1).
fn media_type(content_type: &[u8]) -> &[u8] {
    content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii()
}

#[cfg(test)]
mod tests;
