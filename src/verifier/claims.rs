//! The payload of an access token as JSON, strictly read and written (RFC 7519 §4, RFC 9068 §2.2).

use std::{fmt, str::FromStr, time::Duration};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value};

use crate::{
    domain::{
        audience::{Audience, Scope},
        claims::{AccessClaims, SignIn},
        custom_claims::{CustomClaims, is_reserved},
        id::{SessionId, Subject, TokenId},
        time::Timestamp,
    },
    jose::json::{self, Text, once, parse_object},
};

/// The last moment that RFC 3339 and `google.protobuf.Timestamp` can name, 9999-12-31T23:59:59Z, in seconds. A later
/// date is a mistake or an attack on somebody's arithmetic.
const LAST_SECOND: Timestamp = Timestamp::from_seconds(253_402_300_799);

/// The payload is not that of an access token: no JSON object of unique members, or a claim is missing or malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the payload is not that of an access token")]
pub struct ClaimsError;

/// What a payload says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    /// The claims. Fractions of seconds are rounded down, so that no token lives longer than it says.
    pub claims: AccessClaims,
    /// `nbf`, which we never write, and honour in case somebody else does.
    pub not_before: Option<Timestamp>,
}

/// Reads a payload. The payload must be authentic: nothing here looks at a signature, an audience or a clock.
///
/// Every claim but `scope`, `permissions` and `nbf` must be there, and none may be null; those of a sign-in in a user's token
/// and in no service account's. None may come twice. Custom claims are all that have no meaning of their own; of those that do, what
/// is not among ours is ignored.
pub fn parse(payload: &[u8]) -> Result<Payload, ClaimsError> {
    let members = parse_object::<Members>(payload).map_err(|_| ClaimsError)?;
    let has_custom = members.has_custom;
    let mut payload_said = members.complete().ok_or(ClaimsError)?;
    if has_custom {
        // Only now: most tokens have none, and the first pass has seen that no member comes twice.
        let all: Map<String, Value> = serde_json::from_slice(payload).map_err(|_| ClaimsError)?;
        payload_said.claims.custom = CustomClaims::of_token(all);
    }
    Ok(payload_said)
}

/// The claims as the JSON object to be signed.
pub fn to_json(claims: &AccessClaims) -> impl Serialize {
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
        epoch,
        custom,
        sign_in,
    } = claims;
    Json {
        iss: issuer,
        sub: subject,
        aud: audience.iter().map(Audience::as_str).collect(),
        exp: expire_time.as_seconds(),
        iat: issue_time.as_seconds(),
        jti: token_id,
        client_id,
        scope: (!scope.is_empty()).then(|| scope.to_string()),
        roles,
        permissions,
        epoch: *epoch,
        sign_in: sign_in.as_ref().map(|SignIn { session_id, auth_time, amr, acr }| JsonSignIn {
            sid: session_id,
            auth_time: auth_time.as_seconds(),
            amr,
            acr,
        }),
        custom: custom.as_map(),
    }
}

#[derive(Serialize)]
struct Json<'a> {
    iss: &'a str,
    sub: &'a Subject,
    /// Always an array, so that a reader in another language has one form to handle.
    aud: Vec<&'a str>,
    exp: i64,
    iat: i64,
    jti: &'a TokenId,
    client_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    roles: &'a [String],
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    permissions: &'a [String],
    epoch: i64,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    sign_in: Option<JsonSignIn<'a>>,
    /// None of these is one of the above: see [`RESERVED`](crate::domain::custom_claims::RESERVED).
    #[serde(flatten)]
    custom: &'a Map<String, Value>,
}

#[derive(Serialize)]
struct JsonSignIn<'a> {
    sid: &'a SessionId,
    auth_time: i64,
    amr: &'a [String],
    acr: &'a str,
}

#[derive(Default)]
struct Members {
    iss: Option<Name>,
    sub: Option<Id<Subject>>,
    aud: Option<Audiences>,
    exp: Option<NumericDate>,
    nbf: Option<NumericDate>,
    iat: Option<NumericDate>,
    jti: Option<Id<TokenId>>,
    sid: Option<Id<SessionId>>,
    client_id: Option<Name>,
    scope: Option<Scope>,
    roles: Option<Vec<String>>,
    permissions: Option<Vec<String>>,
    auth_time: Option<NumericDate>,
    amr: Option<Vec<String>>,
    acr: Option<String>,
    epoch: Option<Epoch>,
    /// Whether there is any that is nobody's by a standard.
    has_custom: bool,
}

impl<'de> json::Members<'de> for Members {
    fn take<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<bool, A::Error> {
        match name {
            "iss" => once(&mut self.iss, map),
            "sub" => once(&mut self.sub, map),
            "aud" => once(&mut self.aud, map),
            "exp" => once(&mut self.exp, map),
            "nbf" => once(&mut self.nbf, map),
            "iat" => once(&mut self.iat, map),
            "jti" => once(&mut self.jti, map),
            "sid" => once(&mut self.sid, map),
            "client_id" => once(&mut self.client_id, map),
            "scope" => once(&mut self.scope, map),
            "roles" => once(&mut self.roles, map),
            "permissions" => once(&mut self.permissions, map),
            "auth_time" => once(&mut self.auth_time, map),
            "amr" => once(&mut self.amr, map),
            "acr" => once(&mut self.acr, map),
            "epoch" => once(&mut self.epoch, map),
            _ => {
                self.has_custom |= !is_reserved(name);
                Ok(false)
            }
        }
    }
}

impl Members {
    fn complete(self) -> Option<Payload> {
        let subject = self.sub?.0;
        let sign_in = match (subject, self.sid, self.auth_time, self.amr, self.acr) {
            (Subject::User(_), Some(sid), Some(auth_time), Some(amr), Some(acr)) => {
                Some(SignIn { session_id: sid.0, auth_time: auth_time.whole_seconds(), amr, acr })
            }
            (Subject::Service(_), None, None, None, None) => None,
            _ => return None,
        };
        let claims = AccessClaims {
            issuer: self.iss?.0,
            subject,
            audience: self.aud?.0,
            expire_time: self.exp?.whole_seconds(),
            issue_time: self.iat?.whole_seconds(),
            token_id: self.jti?.0,
            client_id: self.client_id?.0,
            scope: self.scope.unwrap_or_default(),
            roles: self.roles?,
            permissions: self.permissions.unwrap_or_default(),
            epoch: self.epoch?.0,
            custom: CustomClaims::default(),
            sign_in,
        };
        Some(Payload { claims, not_before: self.nbf.map(|date| date.0) })
    }
}

/// A string that says something.
struct Name(String);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match String::deserialize(deserializer)? {
            empty if empty.is_empty() => Err(D::Error::custom("empty")),
            text => Ok(Self(text)),
        }
    }
}

/// An id in its one spelling; its own serde form would take others.
struct Id<T>(T);

impl<'de, T: FromStr> Deserialize<'de> for Id<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Text::deserialize(deserializer)?.0.parse().map(Self).map_err(|_| D::Error::custom("not an id"))
    }
}

/// Counts upwards from zero.
struct Epoch(i64);

impl<'de> Deserialize<'de> for Epoch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match i64::deserialize(deserializer)? {
            epoch @ 0.. => Ok(Self(epoch)),
            _ => Err(D::Error::custom("negative")),
        }
    }
}

/// RFC 7519 §4.1.3: a string, or an array of strings; at least one.
struct Audiences(Vec<Audience>);

impl<'de> Deserialize<'de> for Audiences {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AudiencesVisitor).map(Self)
    }
}

struct AudiencesVisitor;

impl<'de> Visitor<'de> for AudiencesVisitor {
    type Value = Vec<Audience>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an audience or several")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Vec<Audience>, E> {
        Ok(vec![Audience::try_from(text.to_owned()).map_err(E::custom)?])
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<Audience>, A::Error> {
        let mut audience = Vec::new();
        while let Some(item) = items.next_element()? {
            audience.push(item);
        }
        if audience.is_empty() { Err(A::Error::custom("no audience")) } else { Ok(audience) }
    }
}

/// RFC 7519 §2: seconds since 1970 as a JSON number, not negative and not beyond [`LAST_SECOND`].
struct NumericDate(Timestamp);

impl NumericDate {
    fn whole_seconds(&self) -> Timestamp {
        self.0.rounded_down(Duration::from_secs(1))
    }

    fn after<E: Error>(since_epoch: Duration) -> Result<Self, E> {
        let date = Timestamp::from_seconds(0).plus(since_epoch);
        if date <= LAST_SECOND { Ok(Self(date)) } else { Err(E::custom("too late a date")) }
    }
}

impl<'de> Deserialize<'de> for NumericDate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Asks for a number rather than for anything: with serde_json's `arbitrary_precision`, which an embedder's tree
        // may turn on, anything would come as an object.
        deserializer.deserialize_u64(NumericDateVisitor)
    }
}

struct NumericDateVisitor;

impl Visitor<'_> for NumericDateVisitor {
    type Value = NumericDate;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("seconds since 1970")
    }

    fn visit_u64<E: Error>(self, seconds: u64) -> Result<NumericDate, E> {
        NumericDate::after(Duration::from_secs(seconds))
    }

    fn visit_f64<E: Error>(self, seconds: f64) -> Result<NumericDate, E> {
        // Refuses what is negative, infinite or no number.
        NumericDate::after(Duration::try_from_secs_f64(seconds).map_err(E::custom)?)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::domain::id::{ServiceAccountId, UserId};

    fn name() -> impl Strategy<Value = String> {
        "[!#-\\[\\]-~]{1,20}"
    }

    fn id() -> impl Strategy<Value = Uuid> {
        any::<u128>().prop_map(Uuid::from_u128)
    }

    fn seconds() -> impl Strategy<Value = Timestamp> {
        (0..=LAST_SECOND.as_seconds()).prop_map(Timestamp::from_seconds)
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            any::<i16>().prop_map(|number| Value::from(f64::from(number) + 0.5)),
            ".{0,9}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 12, 4, |inner| {
            let list = prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from);
            prop_oneof![
                list,
                prop::collection::btree_map(".{0,9}", inner, 0..4).prop_map(|map| map.into_iter().collect())
            ]
        })
    }

    fn custom() -> impl Strategy<Value = CustomClaims> {
        prop::collection::btree_map("[a-z:/._-]{1,20}", value(), 0..4)
            .prop_map(|map| CustomClaims::of_token(map.into_iter().collect()))
    }

    prop_compose! {
        fn claims()(
            (subject, token_id, session_id) in (id(), id(), id()),
            (expire_time, issue_time, auth_time) in (seconds(), seconds(), seconds()),
            (issuer, client_id, acr) in (".{1,20}", ".{1,20}", ".{0,20}"),
            audience in prop::collection::vec(name(), 1..4),
            scope in prop::collection::vec(name(), 0..4),
            (roles, amr) in (prop::collection::vec(".{0,9}", 0..4), prop::collection::vec(".{0,9}", 0..4)),
            permissions in prop::collection::vec(".{0,9}", 0..4),
            (epoch, is_user, custom) in (0..=i64::MAX, any::<bool>(), custom()),
        ) -> AccessClaims {
            AccessClaims {
                issuer,
                subject: if is_user {
                    UserId::from_uuid(subject).into()
                } else {
                    ServiceAccountId::from_uuid(subject).into()
                },
                audience: audience.into_iter().map(|a| a.try_into().unwrap()).collect(),
                expire_time,
                issue_time,
                token_id: TokenId::from_uuid(token_id),
                client_id,
                scope: scope.join(" ").try_into().unwrap(),
                roles,
                permissions,
                epoch,
                custom,
                sign_in: is_user.then(|| SignIn { session_id: SessionId::from_uuid(session_id), auth_time, amr, acr }),
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(claims in claims()) {
            let json = serde_json::to_vec(&to_json(&claims)).unwrap();
            prop_assert_eq!(parse(&json), Ok(Payload { claims, not_before: None }));
        }

        #[test]
        fn no_payload_makes_it_panic(payload: Vec<u8>) {
            let _ = parse(&payload);
        }
    }

    /// A token that says all that tokens of ours say, as JSON.
    fn full() -> serde_json::Map<String, Value> {
        let claims = AccessClaims {
            issuer: "https://id.example.com".to_owned(),
            subject: UserId::from_uuid(Uuid::from_u128(1)).into(),
            audience: vec![Audience::try_from("billing".to_owned()).unwrap()],
            expire_time: Timestamp::from_seconds(2),
            issue_time: Timestamp::from_seconds(1),
            token_id: TokenId::from_uuid(Uuid::from_u128(2)),
            client_id: "client".to_owned(),
            scope: Scope::try_from("read".to_owned()).unwrap(),
            roles: vec!["clerk".to_owned()],
            permissions: vec!["orders:read".to_owned()],
            epoch: 1,
            custom: CustomClaims::default(),
            sign_in: Some(SignIn {
                session_id: SessionId::from_uuid(Uuid::from_u128(3)),
                auth_time: Timestamp::from_seconds(1),
                amr: vec!["pwd".to_owned()],
                acr: "aal1".to_owned(),
            }),
        };
        let Ok(Value::Object(map)) = serde_json::to_value(to_json(&claims)) else { panic!("no object") };
        map
    }

    #[test]
    fn no_claim_of_ours_is_ever_custom() {
        for name in full().keys().map(String::as_str).chain(["nbf"]) {
            assert!(is_reserved(name), "{name}");
        }
    }

    #[test]
    fn what_has_a_meaning_elsewhere_is_not_custom_and_what_has_none_is() {
        let mut said = full();
        said.insert("cnf".to_owned(), serde_json::json!({ "jkt": "x" }));
        said.insert("tenant".to_owned(), serde_json::json!({ "id": [1, 2.5, "x", null] }));
        let parsed = parse(&serde_json::to_vec(&said).unwrap()).unwrap().claims;
        let names: Vec<_> = parsed.custom.iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["tenant"]);
        assert_eq!(parsed.custom.get("tenant"), said.get("tenant"));
        let text = serde_json::to_string(&said).unwrap();
        let twice = text.replacen('{', r#"{"tenant":1,"#, 1);
        assert_eq!(parse(twice.as_bytes()), Err(ClaimsError), "none comes twice");
        let twice_inside = text.replacen(r#"{"id":"#, r#"{"id":1,"id":"#, 1);
        assert_ne!(twice_inside, text);
        assert_eq!(parse(twice_inside.as_bytes()), Err(ClaimsError));
    }

    #[test]
    fn a_fraction_of_a_second_never_prolongs_a_token() {
        let date = |text: &str| serde_json::from_str::<NumericDate>(text).map(|d| (d.0, d.whole_seconds())).ok();
        let at = Timestamp::from_seconds;
        assert_eq!(date("5"), Some((at(5), at(5))));
        assert_eq!(date("5.75"), Some((Timestamp::from_micros(5_750_000), at(5))));
        assert_eq!(date("1.79e9"), Some((at(1_790_000_000), at(1_790_000_000))));
        assert_eq!(date("253402300799"), Some((LAST_SECOND, LAST_SECOND)));
        for bad in ["253402300799.5", "253402300800", "-1", "-1e-9", "1e400", "null", "\"5\"", "[5]"] {
            assert_eq!(date(bad), None, "{bad}");
        }
    }
}
