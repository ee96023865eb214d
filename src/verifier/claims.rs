//! The payload of an access token as JSON, strictly read and written (RFC 7519 §4, RFC 9068 §2.2).

use std::{fmt, str::FromStr, time::Duration};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error, MapAccess, SeqAccess, Visitor},
};

use crate::{
    domain::{
        audience::{Audience, Scope},
        claims::{AccessClaims, SignIn},
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
/// and in no service account's. Unknown claims are ignored, but not even they may come twice.
pub fn parse(payload: &[u8]) -> Result<Payload, ClaimsError> {
    parse_object::<Members>(payload).ok().and_then(Members::complete).ok_or(ClaimsError)
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
            _ => Ok(false),
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

    prop_compose! {
        fn claims()(
            (subject, token_id, session_id) in (id(), id(), id()),
            (expire_time, issue_time, auth_time) in (seconds(), seconds(), seconds()),
            (issuer, client_id, acr) in (".{1,20}", ".{1,20}", ".{0,20}"),
            audience in prop::collection::vec(name(), 1..4),
            scope in prop::collection::vec(name(), 0..4),
            (roles, amr) in (prop::collection::vec(".{0,9}", 0..4), prop::collection::vec(".{0,9}", 0..4)),
            permissions in prop::collection::vec(".{0,9}", 0..4),
            (epoch, is_user) in (0..=i64::MAX, any::<bool>()),
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
