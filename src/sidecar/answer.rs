//! Decisions as Envoy wants to hear them.
//!
//! A denial is an answer like any other: an error of the call itself would be for the proxy to interpret.

use std::collections::HashMap;

use envoy_types::pb::{
    envoy::{
        config::core::v3::{HeaderValue, HeaderValueOption, header_value_option::HeaderAppendAction},
        service::auth::v3::{CheckResponse, DeniedHttpResponse, OkHttpResponse, check_response::HttpResponse},
        r#type::v3::HttpStatus,
    },
    google::{
        protobuf::{BoolValue, ListValue, Struct, Value, value::Kind},
        rpc,
    },
};
use tonic::Code;

use super::reason::{Reason, Refusal};
use crate::verifier::Principal;

/// What a request was let through with.
pub(super) struct Allowed<'p> {
    pub(super) principal: Option<&'p Principal>,
    pub(super) set: Vec<(&'p http::HeaderName, String)>,
    pub(super) remove: Vec<String>,
}

pub(super) fn allow(allowed: Allowed<'_>, reason: Reason, route: Option<&str>) -> CheckResponse {
    let Allowed { principal, set, remove } = allowed;
    let ok = OkHttpResponse {
        headers: set.into_iter().map(|(name, value)| header(name.as_str(), value)).collect(),
        headers_to_remove: remove,
        ..OkHttpResponse::default()
    };
    CheckResponse {
        status: Some(rpc::Status { code: Code::Ok.into(), ..rpc::Status::default() }),
        dynamic_metadata: Some(metadata("allow", reason, route, principal)),
        http_response: Some(HttpResponse::OkResponse(ok)),
    }
}

pub(super) fn deny(refusal: &Refusal, route: Option<&str>) -> CheckResponse {
    let mut headers = vec![header("cache-control", "no-store".to_owned())];
    headers.extend(refusal.challenge().map(|challenge| header("www-authenticate", challenge)));
    if refusal.is_passing() {
        headers.push(header("retry-after", "1".to_owned()));
    }
    let body = refusal.text();
    let denied = DeniedHttpResponse {
        status: Some(HttpStatus { code: refusal.http_status().into() }),
        headers,
        body: body.clone(),
    };
    CheckResponse {
        status: Some(rpc::Status { code: refusal.grpc_code().into(), message: body, details: Vec::new() }),
        dynamic_metadata: Some(metadata("deny", refusal.reason(), route, None)),
        http_response: Some(HttpResponse::DeniedResponse(denied)),
    }
}

fn header(key: &str, value: String) -> HeaderValueOption {
    // Older proxies know only `append`.
    #[allow(deprecated)]
    HeaderValueOption {
        header: Some(HeaderValue { key: key.to_owned(), value, raw_value: Vec::new() }),
        append: Some(BoolValue { value: false }),
        append_action: HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
        keep_empty_value: false,
    }
}

/// For access logs and the filters that follow.
fn metadata(decision: &str, reason: Reason, route: Option<&str>, principal: Option<&Principal>) -> Struct {
    let mut fields = HashMap::with_capacity(8);
    let mut put = |name: &str, value: Value| fields.insert(name.to_owned(), value);
    put("decision", text(decision));
    put("reason", text(reason.as_str()));
    put("route", text(route.unwrap_or("default")));
    if let Some(principal) = principal {
        put("subject", text(principal.subject().to_string()));
        if let Some(session) = principal.session_id() {
            put("session", text(session.to_string()));
        }
        let roles = principal.roles().iter().map(|role| text(role.as_str())).collect();
        put("roles", Value { kind: Some(Kind::ListValue(ListValue { values: roles })) });
        put("scope", text(principal.claims().scope.to_string()));
        put("jti", text(principal.token_id().to_string()));
    }
    Struct { fields }
}

fn text(text: impl Into<String>) -> Value {
    Value { kind: Some(Kind::StringValue(text.into())) }
}
