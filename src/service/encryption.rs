//! The audiences whose access tokens are encrypted, and for which keys.
//!
//! Such an audience stands alone in a token: beside another one, either that one's services could not read the token, or the client
//! could read in a plain one what was to be kept from it.

use std::{collections::BTreeMap, fmt, sync::Arc};

use serde_json::Value;

use super::{Service, ServiceError, tokens::ACCESS_TOKEN_TYPE};
use crate::{
    domain::{
        audience::{Audience, OWN_AUDIENCE},
        claims::AccessClaims,
        secret::SecretString,
        time::Timestamp,
    },
    jose::{
        DecryptionKeys, JweKey,
        json::parse_value,
        jwe::{EncryptError, encrypt, encrypted_len},
        jws::MAX_TOKEN_LEN,
    },
    store::Refused,
    verifier::{EncryptedAudiences, Wrapping, claims},
};

/// All that is wrong with the keys, one a line. Nothing of a key is repeated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncryptionProblems(Vec<String>);

impl fmt::Display for EncryptionProblems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for EncryptionProblems {}

/// Which audiences' tokens are encrypted. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Encryption {
    /// The keys of each: the first encrypts, all of them open.
    audiences: Arc<BTreeMap<Audience, Vec<JweKey>>>,
}

impl Encryption {
    /// Reads `{"audiences": {"billing": JWK}}`, with an array of JWKs where a key is being replaced. The audiences must be among
    /// `known`, and not among the `default` ones, which stand together.
    pub fn parse(text: &str, known: &[Audience], default: &[Audience]) -> Result<Self, EncryptionProblems> {
        let problem = |text: &str| EncryptionProblems(vec![text.to_owned()]);
        let file = parse_value(text.as_bytes()).map_err(|_| problem("is not JSON in which no member comes twice"))?;
        let shape = || problem(r#"must be {"audiences": {"NAME": JWK}} and nothing else"#);
        let members = file.as_object().filter(|file| file.len() == 1).ok_or_else(shape)?;
        let named = members.get("audiences").and_then(Value::as_object).ok_or_else(shape)?;
        let mut reading = Reading { known, default, problems: Vec::new() };
        let audiences = named.iter().filter_map(|(name, jwks)| reading.audience(name, jwks)).collect();
        reading.names_differ(&audiences);
        if reading.problems.is_empty() {
            Ok(Self { audiences: Arc::new(audiences) })
        } else {
            Err(EncryptionProblems(reading.problems))
        }
    }

    /// Whether a token for this audience is encrypted.
    pub fn covers(&self, audience: &Audience) -> bool {
        self.audiences.contains_key(audience)
    }

    /// Whether a secret is among the keys.
    pub fn holds_secret(&self) -> bool {
        self.audiences.values().flatten().any(JweKey::can_decrypt)
    }

    /// Of the audiences that a sign-in was granted, those that its next token is for: all that are plain; or, if each is encrypted,
    /// the first. They are mixed only if encryption was turned on after the sign-in.
    pub fn audience_of_token(&self, granted: &[Audience]) -> Vec<Audience> {
        let plain: Vec<_> = granted.iter().filter(|audience| !self.covers(audience)).cloned().collect();
        if plain.is_empty() { granted.iter().take(1).cloned().collect() } else { plain }
    }

    /// How tokens come to the service itself.
    pub fn wrapping(&self) -> Wrapping {
        if self.audiences.is_empty() {
            return Wrapping::Signed;
        }
        let names = |keys: &Vec<JweKey>| keys.iter().map(|key| key.kid().to_owned()).collect();
        let audiences = self.audiences.iter().map(|(audience, keys)| (audience.clone(), names(keys))).collect();
        let readable = self.audiences.values().flatten().filter(|key| key.can_decrypt()).cloned().collect();
        // Their names differ: that was looked at when they were read.
        let keys = DecryptionKeys::from_keys(readable).unwrap_or_default();
        Wrapping::ByAudience(EncryptedAudiences::new(audiences, keys))
    }

    /// The key that a token for this audience is encrypted for.
    fn key(&self, audience: &[Audience]) -> Option<&JweKey> {
        let [one] = audience else { return None };
        self.audiences.get(one)?.first()
    }
}

/// What is wrong so far.
struct Reading<'a> {
    known: &'a [Audience],
    default: &'a [Audience],
    problems: Vec<String>,
}

impl Reading<'_> {
    fn audience(&mut self, name: &str, jwks: &Value) -> Option<(Audience, Vec<JweKey>)> {
        let audience = self.known.iter().find(|known| known.as_str() == name);
        if name == OWN_AUDIENCE {
            self.problems.push(format!("{name}: tokens for the service itself are never encrypted"));
        } else if audience.is_none() {
            self.problems.push(format!("{name}: is no audience of tokens.audiences"));
        } else if self.default.iter().any(|default| default.as_str() == name) {
            let text = "is in tokens.default_audience beside others, but tokens for it are for nobody else";
            self.problems.push(format!("{name}: {text}: remove it there"));
        }
        let jwks = match jwks {
            Value::Array(jwks) => &jwks[..],
            one => std::slice::from_ref(one),
        };
        if jwks.is_empty() {
            self.problems.push(format!("{name}: has no key"));
        }
        let mut keys = Vec::with_capacity(jwks.len());
        for (index, jwk) in jwks.iter().enumerate() {
            match JweKey::from_jwk(jwk) {
                Ok(key) => keys.push(key),
                Err(error) if jwks.len() == 1 => self.problems.push(format!("{name}: {error}")),
                Err(error) => self.problems.push(format!("{name}: key at index {index}: {error}")),
            }
        }
        Some((audience?.clone(), keys))
    }

    /// A name decides the audience that a token was encrypted for.
    fn names_differ(&mut self, audiences: &BTreeMap<Audience, Vec<JweKey>>) {
        let mut kids: Vec<_> = audiences.values().flatten().map(JweKey::kid).collect();
        kids.sort_unstable();
        for pair in kids.windows(2).filter(|pair| pair[0] == pair[1]) {
            self.problems.push(format!("two keys have the kid {:?}", pair[0]));
        }
    }
}

impl Service {
    /// Refuses what [`Self::access_token`] could not make a token of, because it would be longer than verifiers take.
    pub(super) fn check_length(&self, claims: &AccessClaims, now: Timestamp) -> Result<(), Refused> {
        let (revocations, json) = (self.feed.revocations(), claims::to_json(claims));
        let Some(signed) = self.keys.signed_len(revocations, now, ACCESS_TOKEN_TYPE, &json) else { return Ok(()) };
        let length = self.policy.encryption.key(&claims.audience).map_or(signed, |key| encrypted_len(signed, key));
        if length > MAX_TOKEN_LEN { Err(Refused::ClaimsTooLarge) } else { Ok(()) }
    }

    /// Signs an access token, and encrypts it if it is for an audience whose tokens are.
    pub(super) async fn access_token(
        &self,
        claims: &AccessClaims,
        now: Timestamp,
    ) -> Result<SecretString, ServiceError> {
        let (store, revocations, json) = (&*self.store, self.feed.revocations(), claims::to_json(claims));
        let signed = self.keys.sign(store, revocations, now, ACCESS_TOKEN_TYPE, &json).await?;
        let Some(key) = self.policy.encryption.key(&claims.audience) else { return Ok(signed) };
        let encrypted = encrypt(signed.expose(), key, &*self.entropy);
        encrypted.map(SecretString::new).map_err(|error| match error {
            // Claims that a plain token has room for: what is encrypted grows once more.
            EncryptError::TooLong => Refused::ClaimsTooLarge.into(),
            EncryptError::Library => ServiceError::internal(error),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn audiences(names: &[&str]) -> Vec<Audience> {
        names.iter().map(|name| Audience::try_from((*name).to_owned()).unwrap()).collect()
    }

    fn parse(file: &Value) -> Result<Encryption, EncryptionProblems> {
        Encryption::parse(
            &file.to_string(),
            &audiences(&["vouchsafe", "billing", "orders"]),
            &audiences(&["vouchsafe"]),
        )
    }

    fn oct(kid: &str) -> Value {
        json!({"kty": "oct", "alg": "A256KW", "kid": kid, "k": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"})
    }

    fn public() -> Value {
        json!({
            "kty": "EC", "crv": "P-256", "alg": "ECDH-ES",
            "x": "weNJy2HscCSM6AEDTDg04biOvhFhyyWvOHQfeF_PxMQ",
            "y": "e8lnCO-AlStT-NJVX-crhB7QRYhiix03illJOVAOyck",
        })
    }

    #[test]
    fn an_encrypted_audience_is_left_out_of_a_plain_token_and_stands_alone_otherwise() {
        let encryption = parse(&json!({"audiences": {"billing": oct("b"), "orders": public()}})).unwrap();
        let of = |granted: &[&str]| encryption.audience_of_token(&audiences(granted));
        assert_eq!(of(&["vouchsafe"]), audiences(&["vouchsafe"]));
        assert_eq!(of(&["billing", "vouchsafe"]), audiences(&["vouchsafe"]));
        assert_eq!(of(&["billing"]), audiences(&["billing"]));
        assert_eq!(of(&["orders", "billing"]), audiences(&["orders"]));
        assert_eq!(encryption.key(&audiences(&["billing"])).unwrap().kid(), "b");
        assert!(encryption.key(&audiences(&["vouchsafe"])).is_none());
        assert!(encryption.holds_secret());
        let none = Encryption::default();
        assert!(!none.holds_secret() && matches!(none.wrapping(), Wrapping::Signed));
        assert_eq!(none.audience_of_token(&audiences(&["a", "b"])), audiences(&["a", "b"]));
    }

    #[test]
    fn the_first_key_encrypts_and_each_opens() {
        let encryption = parse(&json!({"audiences": {"billing": [public(), oct("old")]}})).unwrap();
        assert_eq!(encryption.key(&audiences(&["billing"])).unwrap().kid().len(), 43);
        assert!(matches!(encryption.wrapping(), Wrapping::ByAudience(_)));
    }

    #[test]
    fn every_problem_is_named_and_no_key_is_shown() {
        let text = json!({"audiences": {
            "vouchsafe": oct("a"), "elsewhere": oct("b"), "billing": [oct("c"), {"kty": "oct", "k": "x"}], "orders": oct("c"),
        }});
        let problems = parse(&text).unwrap_err().to_string();
        for part in [
            "vouchsafe: tokens for the service itself",
            "elsewhere: is no audience",
            "billing: key at index 1: the JWK's alg",
            "two keys have the kid \"c\"",
        ] {
            assert!(problems.contains(part), "{part}: {problems}");
        }
        assert!(!problems.contains("AAECAw"));
        for text in [json!([]), json!({}), json!({"audiences": []}), json!({"audiences": {}, "more": 1})] {
            assert!(parse(&text).unwrap_err().to_string().contains("must be"), "{text}");
        }
        assert!(parse(&json!({"audiences": {"billing": []}})).unwrap_err().to_string().contains("has no key"));
        let twice = r#"{"audiences": {"billing": 1, "billing": 2}}"#;
        assert!(Encryption::parse(twice, &[], &[]).is_err());
        let both = audiences(&["vouchsafe", "billing"]);
        let among_defaults = json!({"audiences": {"billing": oct("a")}}).to_string();
        let refused = Encryption::parse(&among_defaults, &both, &both).unwrap_err().to_string();
        assert!(refused.contains("tokens.default_audience"), "{refused}");
    }
}
