//! The JWKS (RFC 7517) and a key-discovery document in the form of RFC 8414.

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use axum::{
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::App;

/// Longest a verifier may keep the keys without asking again.
const MAX_AGE: Duration = Duration::from_mins(5);

pub(super) async fn jwks(State(app): State<App>, headers: HeaderMap) -> Response {
    answer(&app, &headers, "application/jwk-set+json", &app.service.current_keys().await.jwks())
}

/// What a verifier needs to find the keys. Not an OpenID provider's metadata: there is nothing to log in to over HTTP.
pub(super) async fn discovery(State(app): State<App>, headers: HeaderMap) -> Response {
    let policy = app.service.policy();
    let mut algorithms: Vec<_> = app.service.keys().published().iter().map(|k| k.algorithm.as_str()).collect();
    algorithms.sort_unstable();
    algorithms.dedup();
    let document = json!({
        "issuer": policy.issuer,
        "jwks_uri": policy.public_url.get().map(|url| format!("{url}/.well-known/jwks.json")),
        "response_types_supported": [],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": algorithms,
        "access_token_signing_alg_values_supported": algorithms,
    });
    answer(&app, &headers, "application/json", &document)
}

/// A JSON document with an entity tag, or 304 if the caller has it.
fn answer(app: &App, headers: &HeaderMap, content_type: &'static str, document: &Value) -> Response {
    let body = document.to_string();
    let tag = format!("\"{}\"", URL_SAFE_NO_PAD.encode(&digest(&SHA256, body.as_bytes()).as_ref()[..16]));
    let known = headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .any(|known| matches!(known.trim(), "*") || known.trim().trim_start_matches("W/") == tag);
    // At most half the time a key is published before it signs, so that it is known everywhere by then.
    let max_age = MAX_AGE.min(app.service.policy().rotation.lead / 2).as_secs();
    let cache = format!("public, max-age={max_age}, must-revalidate");
    let common = [(header::CACHE_CONTROL, cache), (header::ETAG, tag)];
    if known {
        (StatusCode::NOT_MODIFIED, common).into_response()
    } else {
        (common, [(header::CONTENT_TYPE, content_type)], body).into_response()
    }
}
