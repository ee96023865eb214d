//! What a verified token says, and why one is not active, as messages: the same from the service and from the sidecar.

use prost_types::{ListValue, Struct, Timestamp as PbTimestamp, Value as PbValue, value::Kind};
use serde_json::{Map, Value};

use super::check::Inactive;
use crate::{
    domain::{
        claims::{AccessClaims, SignIn},
        time::Timestamp,
    },
    pb::v1,
};

pub(crate) fn timestamp(time: Timestamp) -> PbTimestamp {
    // Below 10^9 by construction.
    let nanos = i32::try_from(time.subsec_micros() * 1_000).unwrap_or_default();
    PbTimestamp { seconds: time.as_seconds(), nanos }
}

/// An object as a message. Numbers are doubles there.
pub(crate) fn structure(map: Map<String, Value>) -> Struct {
    Struct { fields: map.into_iter().map(|(name, value)| (name, protobuf(value))).collect() }
}

fn protobuf(value: Value) -> PbValue {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(value) => Kind::BoolValue(value),
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        Value::String(text) => Kind::StringValue(text),
        Value::Array(values) => Kind::ListValue(ListValue { values: values.into_iter().map(protobuf).collect() }),
        Value::Object(map) => Kind::StructValue(structure(map)),
    };
    PbValue { kind: Some(kind) }
}

pub(crate) fn claims(claims: AccessClaims) -> v1::Claims {
    let AccessClaims {
        issuer,
        subject,
        audience,
        expire_time,
        issue_time,
        token_id,
        client_id,
        scope,
        roles,
        permissions,
        epoch: _, // of use to verifiers only
        custom,
        sign_in,
    } = claims;
    let (session_id, auth_time, amr, acr) = match sign_in {
        Some(SignIn { session_id, auth_time, amr, acr }) => (session_id.to_string(), Some(auth_time), amr, acr),
        None => (String::new(), None, Vec::new(), String::new()),
    };
    v1::Claims {
        issuer,
        subject: subject.to_string(),
        audience: audience.into_iter().map(String::from).collect(),
        expire_time: Some(timestamp(expire_time)),
        issue_time: Some(timestamp(issue_time)),
        token_id: token_id.to_string(),
        session_id,
        client_id,
        scope: scope.to_string(),
        roles,
        auth_time: auth_time.map(timestamp),
        amr,
        acr,
        permissions,
        custom: (!custom.is_empty()).then(|| structure(custom.into_map())),
    }
}

pub(crate) const fn inactive_reason(reason: Inactive) -> v1::InactiveReason {
    match reason {
        Inactive::Malformed => v1::InactiveReason::Malformed,
        Inactive::WrongType => v1::InactiveReason::WrongType,
        Inactive::UnknownKey => v1::InactiveReason::UnknownKey,
        Inactive::BadSignature => v1::InactiveReason::BadSignature,
        Inactive::WrongIssuer => v1::InactiveReason::WrongIssuer,
        Inactive::WrongAudience => v1::InactiveReason::WrongAudience,
        Inactive::Expired => v1::InactiveReason::Expired,
        Inactive::NotYetValid => v1::InactiveReason::NotYetValid,
        Inactive::Revoked => v1::InactiveReason::Revoked,
        Inactive::NotEncrypted => v1::InactiveReason::NotEncrypted,
        Inactive::Undecryptable => v1::InactiveReason::Undecryptable,
    }
}
