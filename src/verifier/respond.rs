//! How a denial is told: as gRPC or as plain HTTP, whichever the request speaks.
//!
//! Plain gRPC only: gRPC-Web carries its trailers in the body, so to a layer it is plain HTTP. Whoever serves it puts the
//! translation outside the layer.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use tonic::{
    Code, Status,
    metadata::{MetadataMap, MetadataValue},
};

use super::{check::Inactive, rule::Denied};

/// When to try again after an outage, in seconds: a verifier that has lost its issuer looks for it about as often.
const RETRY_AFTER_SECONDS: u32 = 1;

/// What a message speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Grpc,
    Http,
}

impl Protocol {
    /// By the content type: `application/grpc`, or that with `+proto` or parameters.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let content_type = headers.get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
        match content_type.strip_prefix(b"application/grpc") {
            Some([] | [b'+' | b';' | b' ', ..]) => Self::Grpc,
            _ => Self::Http,
        }
    }
}

/// The answer to whom a rule denies. What it must say after its headers is its body.
pub(super) fn denied(protocol: Protocol, denied: &Denied) -> Response<Bytes> {
    match protocol {
        Protocol::Grpc => Status::from(denied.clone()).into_http(),
        Protocol::Http => {
            // They are statuses, all of them.
            let status = StatusCode::from_u16(denied.http_status()).unwrap_or(StatusCode::FORBIDDEN);
            let mut response = plain(status, &message(denied));
            if let Some(challenge) = challenge(denied) {
                response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
            }
            if *denied == Denied::Unavailable {
                response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER_SECONDS.into());
            }
            response
        }
    }
}

/// The answer to a path that could be understood in two ways.
pub(super) fn unclear_path(protocol: Protocol) -> Response<Bytes> {
    const TEXT: &str = "the path is not written plainly";
    match protocol {
        Protocol::Grpc => Status::unimplemented(TEXT).into_http(),
        Protocol::Http => plain(StatusCode::BAD_REQUEST, TEXT),
    }
}

fn plain(status: StatusCode, text: &str) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(format!("{text}\n")));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// What its bearer is told. Why a token is no good is not said, as in [`Denied::challenge`].
fn message(denied: &Denied) -> String {
    match denied {
        Denied::Inactive(
            Inactive::Malformed
            | Inactive::WrongType
            | Inactive::UnknownKey
            | Inactive::BadSignature
            | Inactive::WrongIssuer
            | Inactive::WrongAudience
            | Inactive::Expired
            | Inactive::NotYetValid
            | Inactive::Revoked
            | Inactive::NotEncrypted
            | Inactive::Undecryptable,
        ) => "the access token is not accepted".to_owned(),
        Denied::NoToken
        | Denied::UnclearToken
        | Denied::MissingScope(_)
        | Denied::MissingRole
        | Denied::Unavailable => denied.to_string(),
    }
}

fn challenge(denied: &Denied) -> Option<HeaderValue> {
    // A scope that is no header's text is the rule's mistake: then the status alone has to do.
    denied.challenge().and_then(|text| HeaderValue::try_from(text).ok())
}

/// For tonic's handlers and interceptors: `verifier.verify(token, &rule).await?`. The challenge of RFC 6750 is in the metadata
/// `www-authenticate`; after an outage `grpc-retry-pushback-ms` says when to try again.
impl From<Denied> for Status {
    fn from(denied: Denied) -> Self {
        let mut metadata = MetadataMap::new();
        if let Some(Ok(challenge)) = denied.challenge().map(MetadataValue::try_from) {
            metadata.insert("www-authenticate", challenge);
        }
        if denied.grpc_code() == Code::Unavailable {
            metadata.insert("grpc-retry-pushback-ms", (RETRY_AFTER_SECONDS * 1000).into());
        }
        Status::with_metadata(denied.grpc_code(), message(&denied), metadata)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header<'r>(response: &'r Response<Bytes>, name: &str) -> Option<&'r str> {
        response.headers().get(name).map(|value| value.to_str().unwrap())
    }

    #[test]
    fn the_content_type_says_what_a_message_speaks() {
        let of = |content_type: &'static str| {
            Protocol::of(&HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(content_type))]))
        };
        for grpc in ["application/grpc", "application/grpc+proto", "application/grpc;x=y"] {
            assert_eq!(of(grpc), Protocol::Grpc, "{grpc}");
        }
        for http in ["application/json", "application/grpc-web", "application/grpc-web+proto", "application/grpcx", ""]
        {
            assert_eq!(of(http), Protocol::Http, "{http}");
        }
        assert_eq!(Protocol::of(&HeaderMap::new()), Protocol::Http);
    }

    #[test]
    fn http_hears_the_status_the_challenge_and_a_word() {
        let response = denied(Protocol::Http, &Denied::Inactive(Inactive::Revoked));
        assert_eq!(response.status(), 401);
        assert_eq!(header(&response, "www-authenticate"), Some(r#"Bearer error="invalid_token""#));
        assert_eq!(header(&response, "cache-control"), Some("no-store"));
        assert_eq!(header(&response, "content-type"), Some("text/plain; charset=utf-8"));
        assert_eq!(header(&response, "retry-after"), None);
        // Whoever tries tokens does not learn what was wrong with them.
        assert_eq!(response.body(), &denied(Protocol::Http, &Denied::Inactive(Inactive::BadSignature)).into_body());
        let response = denied(Protocol::Http, &Denied::Unavailable);
        assert_eq!((response.status().as_u16(), header(&response, "retry-after")), (503, Some("1")));
        assert_eq!(header(&response, "www-authenticate"), None);
        assert_eq!(denied(Protocol::Http, &Denied::MissingRole).status(), 403);
        assert_eq!(unclear_path(Protocol::Http).status(), 400);
    }

    #[test]
    fn grpc_hears_a_status_without_a_message() {
        let response = denied(Protocol::Grpc, &Denied::MissingScope("orders:write".into()));
        assert_eq!((response.status().as_u16(), response.body().len()), (200, 0));
        assert_eq!(header(&response, "content-type"), Some("application/grpc"));
        assert_eq!(header(&response, "grpc-status"), Some("7"));
        assert_eq!(
            header(&response, "www-authenticate"),
            Some(r#"Bearer error="insufficient_scope", scope="orders:write""#)
        );
        let response = denied(Protocol::Grpc, &Denied::Unavailable);
        assert_eq!(header(&response, "grpc-status"), Some("14"));
        assert_eq!(header(&response, "grpc-retry-pushback-ms"), Some("1000"));
        assert_eq!(header(&unclear_path(Protocol::Grpc), "grpc-status"), Some("12"));
        let revoked = Status::from(Denied::Inactive(Inactive::Revoked));
        assert_eq!((revoked.code(), revoked.message()), (Code::Unauthenticated, "the access token is not accepted"));
    }

    #[test]
    fn a_scope_that_no_header_can_hold_is_left_out() {
        let odd = Denied::MissingScope("a\nb".into());
        assert_eq!(header(&denied(Protocol::Http, &odd), "www-authenticate"), None);
        assert_eq!(header(&denied(Protocol::Grpc, &odd), "www-authenticate"), None);
    }
}
