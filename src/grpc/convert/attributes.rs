//! A user's attributes, and custom claims: `google.protobuf.Struct` ↔ JSON.

use prost_types::{Struct, Value, value::Kind};
use serde_json::{Map, Value as Json};

use crate::{
    domain::{
        custom_claims::{CustomClaims, CustomClaimsError},
        user::{Attributes, AttributesError},
    },
    verifier::wire,
};

/// How deep values may lie in each other.
const MAX_DEPTH: u32 = 16;

/// What was sent, if it is not too much.
pub(in crate::grpc) fn attributes(sent: Struct) -> Result<Attributes, AttributesError> {
    Attributes::new(object(sent, MAX_DEPTH).ok_or(AttributesError::Unfit)?)
}

/// What is kept, as it is sent.
pub(in crate::grpc) fn structure(attributes: Attributes) -> Struct {
    wire::structure(attributes.into_map())
}

/// What was sent, if all of it can be claims.
pub(in crate::grpc) fn custom_claims(sent: Struct) -> Result<CustomClaims, CustomClaimsError> {
    // Deeper than claims may be, so that whoever goes too deep hears of that.
    CustomClaims::new(object(sent, MAX_DEPTH).ok_or(CustomClaimsError::Unfit)?)
}

/// Claims as they are sent; nothing for none.
pub(in crate::grpc) fn claims_structure(claims: CustomClaims) -> Option<Struct> {
    (!claims.is_empty()).then(|| wire::structure(claims.into_map()))
}

fn object(sent: Struct, depth: u32) -> Option<Map<String, Json>> {
    sent.fields.into_iter().map(|(name, value)| Some((name, json(value, depth)?))).collect()
}

fn json(value: Value, depth: u32) -> Option<Json> {
    let depth = depth.checked_sub(1)?;
    Some(match value.kind {
        None | Some(Kind::NullValue(_)) => Json::Null,
        // Infinite ones and those that are no number have no place in JSON.
        Some(Kind::NumberValue(number)) => Json::Number(serde_json::Number::from_f64(number)?),
        Some(Kind::StringValue(text)) => Json::String(text),
        Some(Kind::BoolValue(value)) => Json::Bool(value),
        Some(Kind::StructValue(sent)) => Json::Object(object(sent, depth)?),
        Some(Kind::ListValue(list)) => {
            Json::Array(list.values.into_iter().map(|value| json(value, depth)).collect::<Option<_>>()?)
        }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn kept(value: Json) -> Attributes {
        let Json::Object(map) = value else { panic!("no object") };
        Attributes::new(map).unwrap()
    }

    #[test]
    fn what_is_kept_is_what_was_sent() {
        let kept =
            kept(json!({ "plan": "gold", "seats": 5.0, "tags": ["a", null, true], "address": { "city": "Oslo" } }));
        assert_eq!(attributes(structure(kept.clone())), Ok(kept));
        assert_eq!(attributes(Struct::default()), Ok(Attributes::default()));
    }

    #[test]
    fn what_json_cannot_say_or_nobody_needs_is_refused() {
        let with = |kind| Struct { fields: [("a".to_owned(), Value { kind: Some(kind) })].into() };
        for bad in [f64::NAN, f64::INFINITY] {
            assert_eq!(attributes(with(Kind::NumberValue(bad))), Err(AttributesError::Unfit));
        }
        assert_eq!(attributes(with(Kind::StringValue("x".repeat(4096)))), Err(AttributesError::TooLarge));
        let deep = (0..20).fold(Kind::BoolValue(true), |kind, _| Kind::StructValue(with(kind)));
        assert_eq!(attributes(with(deep)), Err(AttributesError::Unfit));
    }
}
