//! Custom claims: what tokens say beside the claims that are ours. Personal data, perhaps.
//!
//! A claim of ours, or one that a standard gives a meaning to, is never custom: nobody gets a token that says something else by
//! it than the service means.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Number, Value};

use super::json_text;

/// Claims of tokens, each with a value of any kind.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CustomClaims(#[serde(with = "json_text")] Map<String, Value>);

/// Why an object is none of custom claims.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CustomClaimsError {
    /// More than [`CustomClaims::MAX_BYTES`].
    #[error("are too large: keep them within {} bytes as JSON", CustomClaims::MAX_BYTES)]
    TooLarge,
    /// More than [`CustomClaims::MAX_DEPTH`].
    #[error(
        "lie too deep: use objects and lists within each other at most {} deep, the outermost one counted",
        CustomClaims::MAX_DEPTH
    )]
    TooDeep,
    /// A name that is no claim's.
    #[error("have a claim {0:?}: name claims with 1 to {max} visible ASCII characters without quotes or backslashes", max = CustomClaims::MAX_NAME)]
    Name(String),
    /// A claim that has a meaning of its own.
    #[error("have the claim {0:?}, which is registered: use another name, for instance with a prefix of yours")]
    Reserved(String),
    /// Not every database can hold it.
    #[error("have a text with the character U+0000, which cannot be stored: leave it out")]
    Nul,
    /// JSON does not know it, or nobody needs it.
    #[error(
        "cannot be claims: use finite numbers, and objects within each other at most {} deep",
        CustomClaims::MAX_DEPTH
    )]
    Unfit,
    /// Not every reader would read the same.
    #[error("have a number that not every reader of JSON can hold: write those beyond 2^53 as texts")]
    Number,
}

/// Claims that are never custom, sorted: what our tokens say, and what RFC 7519, RFC 7800, RFC 8417, RFC 8693, RFC 9068, RFC 9396
/// and OpenID Connect (Core, Session, Front- and Back-Channel Logout, Identity Assurance) give a meaning to.
pub const RESERVED: [&str; 58] = [
    "_claim_names",
    "_claim_sources",
    "acr",
    "act",
    "address",
    "amr",
    "at_hash",
    "aud",
    "auth_time",
    "authorization_details",
    "azp",
    "birthdate",
    "c_hash",
    "client_id",
    "cnf",
    "email",
    "email_verified",
    "entitlements",
    "epoch",
    "events",
    "exp",
    "family_name",
    "gender",
    "given_name",
    "groups",
    "iat",
    "iss",
    "jti",
    "jwk",
    "kid",
    "locale",
    "may_act",
    "middle_name",
    "name",
    "nbf",
    "nickname",
    "nonce",
    "permissions",
    "phone_number",
    "phone_number_verified",
    "picture",
    "preferred_username",
    "profile",
    "roles",
    "s_hash",
    "scope",
    "scp",
    "sid",
    "sub",
    "sub_id",
    "sub_jwk",
    "toe",
    "txn",
    "typ",
    "updated_at",
    "verified_claims",
    "website",
    "zoneinfo",
];

/// Whether a claim has a meaning of its own, in whatever case: there are readers of JSON to whom `SUB` is `sub`, and the later one
/// counts. Some libraries take `scp` for `scope`.
pub fn is_reserved(claim: &str) -> bool {
    RESERVED.binary_search(&claim.to_ascii_lowercase().as_str()).is_ok()
}

impl CustomClaims {
    /// How long they may be as JSON, in bytes, for one user, role or audience.
    pub const MAX_BYTES: usize = 4096;
    /// How long all of a token's may be as JSON, in bytes. With base64url's third more it leaves room for the rest of a token in
    /// the 16 KiB that proxies and HTTP servers commonly allow for headers.
    pub const MAX_TOKEN_BYTES: usize = 8192;
    /// How deep objects and lists may lie within each other.
    pub const MAX_DEPTH: u32 = 4;
    /// How long a claim's name may be.
    pub const MAX_NAME: usize = 128;

    /// Takes an object whose members can all be claims. Whole numbers are kept as such, however they were written.
    ///
    /// # Errors
    /// What cannot.
    pub fn new(map: Map<String, Value>) -> Result<Self, CustomClaimsError> {
        let mut claims = Map::new();
        for (name, value) in map {
            check_name(&name)?;
            claims.insert(name, checked(value, Self::MAX_DEPTH - 1)?);
        }
        let claims = Self(claims);
        if claims.bytes() > Self::MAX_BYTES { Err(CustomClaimsError::TooLarge) } else { Ok(claims) }
    }

    /// Takes what an authentic token says beside the claims that have a meaning of their own.
    pub(crate) fn of_token(mut map: Map<String, Value>) -> Self {
        map.retain(|name, _| !is_reserved(name));
        Self(map)
    }

    /// The value of a claim.
    pub fn get(&self, claim: &str) -> Option<&Value> {
        self.0.get(claim)
    }

    /// Each of them by its name, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The object.
    pub const fn as_map(&self) -> &Map<String, Value> {
        &self.0
    }

    /// The object.
    pub fn into_map(self) -> Map<String, Value> {
        self.0
    }

    /// How long they are as JSON.
    pub fn bytes(&self) -> usize {
        // A map of JSON values is one that can be written.
        serde_json::to_vec(&self.0).map_or(usize::MAX, |json| json.len())
    }

    /// About how many bytes of memory they take: many times their length as JSON, where they are many small objects.
    pub fn weight(&self) -> usize {
        weight_of(&self.0)
    }

    /// Adds `others`, whose values go before.
    pub fn add(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    /// Leaves out what has a meaning of its own by now. It could have been stored by a version that did not know of that, and no token
    /// may name a member twice.
    pub fn drop_reserved(&mut self) {
        self.0.retain(|name, _| !is_reserved(name));
    }

    /// Adds a claim, unless it has a meaning of its own. Whole numbers become such.
    pub fn set(&mut self, claim: &str, value: Value) {
        if !is_reserved(claim) {
            self.0.insert(claim.to_owned(), with_whole_numbers(value));
        }
    }
}

/// What a text takes at least, however short it is.
const TEXT: usize = 32;

/// A node of a map has room for eleven members, is half full at least, and is there for a single one too.
fn weight_of(map: &Map<String, Value>) -> usize {
    const NODE: usize = 11 * (size_of::<String>() + size_of::<Value>()) + 16;
    let nodes = map.len().div_ceil(5) * NODE;
    map.iter().fold(nodes, |sum, (name, value)| sum + name.len().max(TEXT) + weight(value))
}

fn weight(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len().max(TEXT),
        Value::Array(values) => values.iter().fold(0, |sum, value| sum + size_of::<Value>() + weight(value)),
        Value::Object(map) => weight_of(map),
    }
}

/// Whether a claim may have this name.
///
/// # Errors
/// Why not.
pub fn check_name(name: &str) -> Result<(), CustomClaimsError> {
    let plain = |b: u8| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\');
    // To a careless reader in JavaScript it is no member, but what all members are looked up in.
    let harmless = name != "__proto__";
    if !harmless || !(1..=CustomClaims::MAX_NAME).contains(&name.len()) || !name.bytes().all(plain) {
        // The beginning tells which it is: it may be as long as the message.
        return Err(CustomClaimsError::Name(name.chars().take(64).collect()));
    }
    if is_reserved(name) { Err(CustomClaimsError::Reserved(name.to_owned())) } else { Ok(()) }
}

/// The value, if it lies no deeper than this.
fn checked(value: Value, depth: u32) -> Result<Value, CustomClaimsError> {
    let inner = || depth.checked_sub(1).ok_or(CustomClaimsError::TooDeep);
    let text = |text: &str| if text.contains('\0') { Err(CustomClaimsError::Nul) } else { Ok(()) };
    Ok(match value {
        Value::Null | Value::Bool(_) => value,
        Value::Number(number) => {
            let number = whole(number);
            if is_inexact(&number) {
                return Err(CustomClaimsError::Number);
            }
            Value::Number(number)
        }
        Value::String(string) => {
            text(&string)?;
            Value::String(string)
        }
        Value::Array(values) => {
            let depth = inner()?;
            Value::Array(values.into_iter().map(|value| checked(value, depth)).collect::<Result<_, _>>()?)
        }
        Value::Object(map) => {
            let depth = inner()?;
            let member = |(name, value): (String, Value)| {
                text(&name)?;
                Ok((name, checked(value, depth)?))
            };
            Value::Object(map.into_iter().map(member).collect::<Result<_, _>>()?)
        }
    })
}

/// Larger whole numbers are not all doubles, which is what many readers of JSON have.
const LARGEST_EXACT: u64 = 1 << 53;

/// Whether some reader would read another number.
fn is_inexact(number: &Number) -> bool {
    let size = number.as_u64().or_else(|| Some(number.as_i64()?.unsigned_abs()));
    match size {
        Some(size) => size > LARGEST_EXACT,
        #[allow(clippy::cast_precision_loss)] // a power of two
        None => number.as_f64().is_none_or(|double| double.abs() > LARGEST_EXACT as f64),
    }
}

/// A whole number as one: `google.protobuf.Value` knows doubles only, and nobody means 5.0 by 5.
fn whole(number: Number) -> Number {
    match number.as_f64() {
        #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)] // exact up to the bound
        Some(double) if number.is_f64() && double.fract() == 0.0 && double.abs() <= LARGEST_EXACT as f64 => {
            Number::from(double as i64)
        }
        _ => number,
    }
}

fn with_whole_numbers(value: Value) -> Value {
    match value {
        Value::Number(number) => Value::Number(whole(number)),
        Value::Array(values) => Value::Array(values.into_iter().map(with_whole_numbers).collect()),
        Value::Object(map) => {
            Value::Object(map.into_iter().map(|(name, value)| (name, with_whole_numbers(value))).collect())
        }
        Value::Null | Value::Bool(_) | Value::String(_) => value,
    }
}

impl fmt::Debug for CustomClaims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CustomClaims([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn claims(value: Value) -> Result<CustomClaims, CustomClaimsError> {
        let Value::Object(map) = value else { panic!("no object") };
        CustomClaims::new(map)
    }

    #[test]
    fn what_is_registered_is_found() {
        assert!(RESERVED.is_sorted());
        for name in [
            "iss",
            "sub",
            "aud",
            "exp",
            "nbf",
            "iat",
            "jti",
            "epoch",
            "cnf",
            "zoneinfo",
            "_claim_names",
            "SUB",
            "Roles",
            "eXp",
            "scp",
        ] {
            assert_eq!(claims(json!({ name: 1 })), Err(CustomClaimsError::Reserved(name.to_owned())), "{name}");
        }
        for name in ["tenant", "iss2", "https://example.com/roles", "x.y-z_1"] {
            assert!(claims(json!({ name: 1 })).is_ok(), "{name}");
        }
        for name in ["", "a b", "ä", "a\"", "a\\b", "a\n", &"a".repeat(129)] {
            assert!(matches!(claims(json!({ name: 1 })), Err(CustomClaimsError::Name(_))), "{name:?}");
        }
    }

    #[test]
    fn the_outermost_object_is_the_first_of_four() {
        assert!(claims(json!({ "a": { "b": [{ "iss": "deep inside it means nothing" }] } })).is_ok());
        assert_eq!(claims(json!({ "a": { "b": [{ "c": [] }] } })), Err(CustomClaimsError::TooDeep));
        assert_eq!(claims(json!({ "a": [[[[]]]] })), Err(CustomClaimsError::TooDeep));
    }

    #[test]
    fn the_size_is_that_of_the_json() {
        let frame = r#"{"a":""}"#.len();
        let of = |bytes: usize| claims(json!({ "a": "x".repeat(bytes - frame) }));
        assert_eq!(of(CustomClaims::MAX_BYTES).unwrap().bytes(), CustomClaims::MAX_BYTES);
        assert_eq!(of(CustomClaims::MAX_BYTES + 1), Err(CustomClaimsError::TooLarge));
    }

    #[test]
    fn whole_numbers_are_whole_and_every_reader_can_hold_them() {
        let kept = claims(json!({ "a": 5.0, "b": [-0.0, 2.5, 9_007_199_254_740_992.0] })).unwrap();
        assert_eq!(serde_json::to_string(&kept).unwrap(), r#"{"a":5,"b":[0,2.5,9007199254740992]}"#);
        for number in
            [json!(9_007_199_254_740_993_u64), json!(-9_007_199_254_740_993_i64), json!(u64::MAX), json!(1e300)]
        {
            assert_eq!(claims(json!({ "a": number })), Err(CustomClaimsError::Number));
        }
        assert_eq!(claims(json!({ "a": { "b\0": 1 } })), Err(CustomClaimsError::Nul));
        assert_eq!(claims(json!({ "a": ["\0"] })), Err(CustomClaimsError::Nul));
    }

    #[cfg(feature = "server")]
    #[test]
    fn they_survive_a_format_that_does_not_describe_itself() {
        for value in [json!({}), json!({ "a": [1, null, { "b": "c" }], "d": 1.5 })] {
            let claims = claims(value).unwrap();
            let packed = postcard::to_allocvec(&claims).unwrap();
            assert_eq!(postcard::from_bytes::<CustomClaims>(&packed), Ok(claims));
        }
    }

    #[test]
    fn nobody_reads_them_in_a_log() {
        assert_eq!(format!("{:?}", claims(json!({ "tenant": "acme" })).unwrap()), "CustomClaims([redacted])");
    }
}
