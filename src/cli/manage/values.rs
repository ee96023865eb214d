//! What the command line writes and reads of the API's messages: JSON with the messages' own field names, times by RFC 3339.
//! Scripts go by it.

use prost_types::{ListValue, Struct, Timestamp as PbTimestamp, Value as PbValue, value::Kind};
use serde_json::{Map, Number, Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::pb::v1;

/// Larger whole numbers are not all numbers of a `google.protobuf.Value`, which are doubles.
const LARGEST_EXACT: u64 = 1 << 53;

/// A user.
pub(super) fn user(user: v1::User) -> Value {
    let state = user.state();
    let v1::User {
        id,
        email,
        username,
        display_name,
        email_verified,
        state: _,
        roles,
        attributes,
        create_time,
        update_time,
        etag,
        phone_number,
        locale,
        has_password,
        totp_enrolled,
        custom_claims,
    } = user;
    json!({
        "id": id,
        "email": email,
        "username": username,
        "display_name": display_name,
        "email_verified": email_verified,
        "state": match state {
            v1::UserState::Unspecified => "unspecified",
            v1::UserState::Active => "active",
            v1::UserState::Suspended => "suspended",
        },
        "roles": roles,
        "attributes": object(attributes.unwrap_or_default()),
        "create_time": rfc3339(create_time),
        "update_time": rfc3339(update_time),
        "etag": etag,
        "phone_number": phone_number,
        "locale": locale,
        "has_password": has_password,
        "totp_enrolled": totp_enrolled,
        "custom_claims": object(custom_claims.unwrap_or_default()),
    })
}

/// A session.
pub(super) fn session(session: v1::Session) -> Value {
    let v1::Session { id, device_name, user_agent, ip_address, create_time, last_used_time, expire_time, current } =
        session;
    json!({
        "id": id,
        "device_name": device_name,
        "user_agent": user_agent,
        "ip_address": ip_address,
        "create_time": rfc3339(create_time),
        "last_used_time": rfc3339(last_used_time),
        "expire_time": rfc3339(expire_time),
        "current": current,
    })
}

/// A role.
pub(super) fn role(role: v1::Role) -> Value {
    let v1::Role { name, description, permissions, built_in, create_time, update_time, etag, custom_claims } = role;
    json!({
        "name": name,
        "description": description,
        "permissions": permissions,
        "built_in": built_in,
        "create_time": rfc3339(create_time),
        "update_time": rfc3339(update_time),
        "etag": etag,
        "custom_claims": object(custom_claims.unwrap_or_default()),
    })
}

/// A service account.
pub(super) fn service_account(account: v1::ServiceAccount) -> Value {
    let v1::ServiceAccount { client_id, display_name, spiffe_id, roles, secrets, create_time, update_time, etag } =
        account;
    let secrets: Vec<Value> = secrets
        .into_iter()
        .map(|v1::ServiceAccountSecret { id, create_time, expire_time }| {
            json!({ "id": id, "create_time": rfc3339(create_time), "expire_time": rfc3339(expire_time) })
        })
        .collect();
    json!({
        "client_id": client_id,
        "display_name": display_name,
        "spiffe_id": spiffe_id,
        "roles": roles,
        "secrets": secrets,
        "create_time": rfc3339(create_time),
        "update_time": rfc3339(update_time),
        "etag": etag,
    })
}

/// An audit event.
pub(super) fn audit_event(event: v1::AuditEvent) -> Value {
    let v1::AuditEvent {
        event_id,
        time,
        act,
        succeeded,
        actor,
        actor_id,
        subject_id,
        session_id,
        request_id,
        ip_address,
        user_agent,
        detail,
        link,
        // As they are hashed: `export` has them.
        personal_sealed: _,
        detail_json: _,
    } = event;
    let link = link.map(|v1::AuditLink { lane, position, hash: _ }| json!({ "lane": lane, "position": position }));
    json!({
        "event_id": event_id,
        "time": rfc3339(time),
        "act": act,
        "succeeded": succeeded,
        "actor": actor,
        "actor_id": actor_id,
        "subject_id": subject_id,
        "session_id": session_id,
        "request_id": request_id,
        "ip_address": ip_address,
        "user_agent": user_agent,
        "detail": object(detail.unwrap_or_default()),
        "link": link,
    })
}

/// RFC 3339 in UTC, with the fraction that there is. `None` for a time that is not set, or is none.
pub(super) fn rfc3339(time: Option<PbTimestamp>) -> Option<String> {
    let PbTimestamp { seconds, nanos } = time?;
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(seconds) * 1_000_000_000 + i128::from(nanos));
    time.ok()?.format(&Rfc3339).ok()
}

pub(super) fn object(Struct { fields }: Struct) -> Value {
    Value::Object(fields.into_iter().map(|(name, value)| (name, value_of(value))).collect())
}

fn value_of(PbValue { kind }: PbValue) -> Value {
    match kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(value)) => Value::Bool(value),
        Some(Kind::NumberValue(number)) => Value::Number(number_of(number)),
        Some(Kind::StringValue(text)) => Value::String(text),
        Some(Kind::ListValue(ListValue { values })) => Value::Array(values.into_iter().map(value_of).collect()),
        Some(Kind::StructValue(fields)) => object(fields),
    }
}

/// A whole number is written as one.
fn number_of(number: f64) -> Number {
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)] // exact up to the bound
    if number.fract() == 0.0 && number.abs() <= LARGEST_EXACT as f64 {
        return Number::from(number as i64);
    }
    // What is not finite is no JSON and never sent.
    Number::from_f64(number).unwrap_or_else(|| Number::from(0))
}

/// Attributes, or custom claims, as they are sent.
pub(super) fn structure(fields: Map<String, Value>) -> Struct {
    Struct { fields: fields.into_iter().map(|(name, value)| (name, protobuf_value(value))).collect() }
}

fn protobuf_value(value: Value) -> PbValue {
    PbValue {
        kind: Some(match value {
            Value::Null => Kind::NullValue(0),
            Value::Bool(value) => Kind::BoolValue(value),
            Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
            Value::String(text) => Kind::StringValue(text),
            Value::Array(values) => {
                Kind::ListValue(ListValue { values: values.into_iter().map(protobuf_value).collect() })
            }
            Value::Object(fields) => Kind::StructValue(structure(fields)),
        }),
    }
}

/// Parses attributes, or custom claims, from the command line.
pub(in crate::cli) fn attributes(text: &str) -> Result<Map<String, Value>, String> {
    let Ok(Value::Object(fields)) = serde_json::from_str(text) else {
        return Err("not a JSON object, like {\"customer\": \"42\"}".to_owned());
    };
    match fields.values().find_map(inexact) {
        Some(number) => Err(format!("{number} is too large to be kept exactly: write it as a text")),
        None => Ok(fields),
    }
}

/// A whole number that a double would change.
fn inexact(value: &Value) -> Option<&Number> {
    match value {
        Value::Number(number) => {
            let size = number.as_u64().or_else(|| Some(number.as_i64()?.unsigned_abs()))?;
            (size > LARGEST_EXACT).then_some(number)
        }
        Value::Array(values) => values.iter().find_map(inexact),
        Value::Object(fields) => fields.values().find_map(inexact),
        Value::Null | Value::Bool(_) | Value::String(_) => None,
    }
}

/// Parses a moment from the command line: RFC 3339, or a date, which is its first moment in UTC.
pub(in crate::cli) fn moment(text: &str) -> Result<PbTimestamp, String> {
    let date = || {
        let midnight = format!("{text}T00:00:00Z");
        (text.len() == 10).then(|| OffsetDateTime::parse(&midnight, &Rfc3339).ok()).flatten()
    };
    let time = OffsetDateTime::parse(text, &Rfc3339).ok().or_else(date);
    let time = time.ok_or("not a time like 2026-11-22T12:00:00Z, nor a date like 2026-11-22")?;
    // Below a second's nanoseconds.
    Ok(PbTimestamp { seconds: time.unix_timestamp(), nanos: i32::try_from(time.nanosecond()).unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_and_read_by_rfc_3339() {
        let noon = PbTimestamp { seconds: 1_795_348_800, nanos: 0 };
        assert_eq!(rfc3339(Some(noon)).unwrap(), "2026-11-22T12:00:00Z");
        let later = PbTimestamp { nanos: 5_000, ..noon };
        assert_eq!(rfc3339(Some(later)).unwrap(), "2026-11-22T12:00:00.000005Z");
        assert_eq!(rfc3339(None), None);
        for (text, time) in [
            ("2026-11-22T12:00:00Z", noon),
            ("2026-11-22T13:00:00+01:00", noon),
            ("2026-11-22T12:00:00.000005Z", later),
            ("2026-11-22", PbTimestamp { seconds: noon.seconds - 12 * 3600, nanos: 0 }),
        ] {
            assert_eq!(moment(text), Ok(time), "{text}");
        }
        for bad in ["", "yesterday", "2026-13-01", "2026-11-22 12:00", "2026-11-22T12:00:00"] {
            assert!(moment(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn attributes_come_back_as_they_were_given() {
        let text = r#"{"a":1,"b":[true,null,-2.5,{"c":"d"}],"e":9007199254740992}"#;
        let fields = attributes(text).unwrap();
        assert_eq!(serde_json::to_string(&object(structure(fields))).unwrap(), text);
        for bad in ["", "[]", "1", "{", r#"{"a":9007199254740993}"#, r#"{"a":[{"b":-9007199254740993}]}"#] {
            assert!(attributes(bad).is_err(), "{bad}");
        }
    }
}
