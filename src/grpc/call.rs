//! What happens to every call before and after its handler: a request id, a deadline, and the check of who may call.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use ipnet::IpNet;
use tonic::{Status, body::Body};
use tower::{Layer, Service as TowerService};
use tracing::Instrument as _;

use super::{
    access::{self, Access},
    client_address::client_address,
    connections::Peer,
    recording::Recording,
    web,
};
use crate::{
    crypto::monotonic_now,
    domain::{
        audit::Origin,
        secret::{Entropy, SecretString, random},
        user::Label,
        warrant::Warrant,
    },
    service::{Principal, RequestContext, Service, ServiceError},
    telemetry::begin_rpc_span,
};

const REQUEST_ID: &str = "x-request-id";

/// A caller's deadline is met a little early, so that the caller hears DEADLINE_EXCEEDED with its details rather than
/// nothing; never earlier than this share of it.
const EARLY: Duration = Duration::from_millis(20);

/// Longest that an import or a watch may take. The connection ends before.
const LONGEST: Duration = Duration::from_hours(24);

/// The access token of a call that may outlast it.
#[derive(Clone)]
pub(super) struct CallersToken(pub(super) SecretString);

/// How calls are treated on one listener.
#[derive(Clone, Debug)]
pub struct CallPolicy {
    /// Longest a call may take, whatever its caller allows.
    pub max_deadline: Duration,
    /// Whether verification is open to anybody who can reach the listener. Otherwise it is to service accounts.
    pub verification_open: bool,
    /// Proxies that are believed where a call came from.
    pub trusted_proxies: Vec<IpNet>,
}

/// Wraps every call. See the module.
#[derive(Clone)]
pub struct CallLayer {
    shared: Arc<Shared>,
}

struct Shared {
    service: Arc<Service>,
    entropy: Arc<dyn Entropy>,
    policy: CallPolicy,
}

impl CallLayer {
    /// A layer for one listener.
    pub fn new(service: Arc<Service>, entropy: Arc<dyn Entropy>, policy: CallPolicy) -> Self {
        Self { shared: Arc::new(Shared { service, entropy, policy }) }
    }
}

impl std::fmt::Debug for CallLayer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CallLayer").field("policy", &self.shared.policy).finish_non_exhaustive()
    }
}

impl<S> Layer<S> for CallLayer {
    type Service = Call<S>;

    fn layer(&self, inner: S) -> Call<S> {
        Call { inner, shared: Arc::clone(&self.shared) }
    }
}

/// A wrapped service.
#[derive(Clone)]
pub struct Call<S> {
    inner: S,
    shared: Arc<Shared>,
}

impl<S> TowerService<Request<Body>> for Call<S>
where
    S: TowerService<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let request_id = self.shared.request_id(request.headers());
        let metrics = self.shared.service.metrics();
        let method = metrics.rpc_method(request.uri().path());
        let span = tracing::info_span!(
            "rpc",
            method = request.uri().path(),
            request_id = request_id.as_str(),
            trace_id = tracing::field::Empty
        );
        begin_rpc_span(&span, metrics.rpc_name(method), request.headers());
        let recording = Recording::begin(Arc::clone(metrics), method, span.clone());
        let budget = self.shared.budget(request.uri().path(), request.headers());
        let shared = Arc::clone(&self.shared);
        // The one that was polled ready; its clone need not be.
        let next = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, next);
        let handler = {
            let request_id = request_id.clone();
            async move {
                match shared.admit(&mut request, &request_id, budget).await {
                    Ok(()) => inner.call(request).await,
                    Err(refusal) => Ok(refusal.into_answer()),
                }
            }
        };
        // Counted from here, as the transport counts its own, whose answer would be CANCELLED.
        let handler = tokio::time::timeout(budget, handler);
        let answer = async move {
            let mut response = match handler.await {
                Ok(answer) => answer?,
                Err(_) => Status::from(ServiceError::DeadlineExceeded).into_http(),
            };
            tracing::debug!(grpc_status = ?grpc_status(&response), "answered");
            if let Ok(value) = HeaderValue::from_str(&request_id) {
                response.headers_mut().insert(REQUEST_ID, value);
            }
            Ok(recording.follow(response))
        };
        Box::pin(answer.instrument(span))
    }
}

/// The status of an answer without a message; an answer with one has it in its trailers.
fn grpc_status(response: &Response<Body>) -> Option<&HeaderValue> {
    response.headers().get("grpc-status")
}

/// Why a call does not reach its handler.
enum Refusal {
    NotGrpc,
    NoSuchMethod,
    Service(ServiceError),
}

impl Refusal {
    fn into_answer(self) -> Response<Body> {
        match self {
            Self::NotGrpc => {
                let mut answer = Status::invalid_argument("the content type is not application/grpc").into_http();
                // As the protocol wants it.
                *answer.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
                answer
            }
            Self::NoSuchMethod => {
                Status::unimplemented("there is no such RPC: reflection lists those there are").into_http()
            }
            Self::Service(error) => Status::from(error).into_http(),
        }
    }
}

impl Shared {
    /// Checks who calls, and puts the context and the caller into the request's extensions.
    async fn admit(&self, request: &mut Request<Body>, request_id: &str, budget: Duration) -> Result<(), Refusal> {
        // A browser sends any other content type to any server, without asking it first (CORS), for whatever page.
        if !request.headers().get(header::CONTENT_TYPE).is_some_and(|kind| web::is_grpc(kind.as_bytes())) {
            return Err(Refusal::NotGrpc);
        }
        let Some(access) = access::of(request.uri().path()) else { return Err(Refusal::NoSuchMethod) };
        match access {
            Access::Open => {}
            Access::Verifier if self.policy.verification_open => {}
            Access::Verifier => {
                let token = bearer(request.headers()).map_err(|error| match error {
                    ServiceError::AccessTokenMissing => Refusal::Service(ServiceError::VerificationClosed),
                    other => Refusal::Service(other),
                })?;
                self.service.authenticate_service(&token).await.map_err(Refusal::Service)?;
                if access::is_long(request.uri().path()) {
                    request.extensions_mut().insert(CallersToken(token));
                }
            }
            Access::Account => {
                let token = bearer(request.headers()).map_err(Refusal::Service)?;
                let principal = self.service.authenticate_user(&token).await.map_err(Refusal::Service)?;
                request.extensions_mut().insert(principal);
            }
            Access::Permission(permission) => {
                let token = bearer(request.headers()).map_err(Refusal::Service)?;
                let warrant = self.service.warrant(&token, permission).await.map_err(Refusal::Service)?;
                request.extensions_mut().insert(warrant);
                if access::is_long(request.uri().path()) {
                    request.extensions_mut().insert(CallersToken(token));
                }
            }
        }
        let context = RequestContext {
            origin: origin(request, request_id, &self.policy.trusted_proxies),
            arrived: self.service.clock().now(),
            deadline: monotonic_now() + budget,
        };
        request.extensions_mut().insert(context);
        Ok(())
    }

    /// The caller's request id, or a new one. It goes into logs and the audit trail, so it is short and plain.
    fn request_id(&self, headers: &HeaderMap) -> String {
        let sent = headers.get(REQUEST_ID).and_then(|v| v.to_str().ok());
        let plain = |id: &&str| {
            (1..=128).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:/+=".contains(&b))
        };
        match sent.filter(plain) {
            Some(id) => id.to_owned(),
            None => uuid::Builder::from_random_bytes(random(&*self.entropy)).into_uuid().to_string(),
        }
    }

    /// How long the call may take.
    fn budget(&self, path: &str, headers: &HeaderMap) -> Duration {
        let longest = if access::is_long(path) { LONGEST } else { self.policy.max_deadline };
        match headers.get("grpc-timeout").and_then(|v| v.to_str().ok()).and_then(parse_timeout) {
            Some(asked) => asked.saturating_sub(EARLY.min(asked / 10)).min(longest),
            None => longest,
        }
    }
}

/// The context that [`CallLayer`] gave the call. The call arrives only now, with its message: whoever opens a stream and
/// sends the message later has not been waiting for us.
pub(super) fn context<T>(request: &tonic::Request<T>, service: &Service) -> Result<RequestContext, ServiceError> {
    let Some(context) = request.extensions().get::<RequestContext>() else {
        return Err(ServiceError::internal("a call reached its handler without a context"));
    };
    Ok(RequestContext { arrived: service.clock().now(), ..context.clone() })
}

/// The caller that [`CallLayer`] admitted.
pub(super) fn principal<T>(request: &tonic::Request<T>) -> Result<Principal, ServiceError> {
    request.extensions().get::<Principal>().copied().ok_or(ServiceError::AccessTokenMissing)
}

/// In whose name the caller manages, as [`CallLayer`] found.
pub(super) fn warrant<T>(request: &tonic::Request<T>) -> Result<Warrant, ServiceError> {
    request.extensions().get::<Warrant>().cloned().ok_or(ServiceError::AccessTokenMissing)
}

fn origin(request: &Request<Body>, request_id: &str, trusted_proxies: &[IpNet]) -> Origin {
    let peer: Option<SocketAddr> = request.extensions().get::<Peer>().and_then(Peer::address);
    let client = peer.map(|peer| client_address(peer.ip(), request.headers(), trusted_proxies));
    let agent = request.headers().get(header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    Origin {
        request_id: request_id.to_owned(),
        ip_address: client.map(|address| address.to_string()).unwrap_or_default(),
        user_agent: Label::lossy(agent).as_str().to_owned(),
    }
}

/// The bearer token of a call (RFC 6750 §2.1). Two `authorization` values are refused: which of them was checked by whom
/// before us cannot be known.
fn bearer(headers: &HeaderMap) -> Result<SecretString, ServiceError> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Err(ServiceError::AccessTokenMissing) };
    if values.next().is_some() {
        return Err(ServiceError::AccessTokenInvalid);
    }
    let text = value.to_str().map_err(|_| ServiceError::AccessTokenInvalid)?;
    match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(SecretString::new(token.to_owned())),
        _ => Err(ServiceError::AccessTokenMissing),
    }
}

/// `grpc-timeout` of the gRPC protocol: up to eight digits and a unit.
fn parse_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(amount * 3600)),
        "M" => Some(Duration::from_secs(amount * 60)),
        "S" => Some(Duration::from_secs(amount)),
        "m" => Some(Duration::from_millis(amount)),
        "u" => Some(Duration::from_micros(amount)),
        "n" => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_of_the_protocol_are_understood() {
        assert_eq!(parse_timeout("99999999H"), Some(Duration::from_hours(99_999_999)));
        assert_eq!(parse_timeout("5m"), Some(Duration::from_millis(5)));
        for bad in ["", "5", "S", "123456789S", "+5S", "-5S", "5 S", "5X", "5é"] {
            assert_eq!(parse_timeout(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_bearer_token_is_taken_only_if_it_is_the_only_one() {
        let headers = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::AUTHORIZATION, value.parse().unwrap());
            }
            headers
        };
        assert_eq!(bearer(&headers(&["bearer abc"])).unwrap().expose(), "abc");
        assert!(matches!(bearer(&headers(&[])), Err(ServiceError::AccessTokenMissing)));
        assert!(matches!(bearer(&headers(&["Basic abc"])), Err(ServiceError::AccessTokenMissing)));
        assert!(matches!(bearer(&headers(&["Bearer a", "Bearer b"])), Err(ServiceError::AccessTokenInvalid)));
    }
}
