//! A good token passes; every hostile one is refused, for the reason stated.

use serde_json::json;

use super::*;
use crate::{
    domain::{
        audience::Scope,
        claims::SignIn,
        custom_claims::CustomClaims,
        id::{ServiceAccountId, SessionId, TokenId, UserId},
        revocation::{FeedEntry, Revocation},
        signing_key::Algorithm,
    },
    jose::SigningKeyPair,
};

/// The table that the integration tests use, with this crate under the name it has for them.
#[allow(dead_code)]
mod hostile {
    extern crate self as vouchsafe;
    include!("../../../tests/it/hostile.rs");
}

const ISSUER: &str = "https://id.example.com";
const NOW: Timestamp = Timestamp::from_seconds(1_790_000_000);
const SECOND: Duration = Duration::from_secs(1);

fn audience(name: &str) -> Audience {
    Audience::try_from(name.to_owned()).unwrap()
}

fn claims() -> AccessClaims {
    AccessClaims {
        issuer: ISSUER.into(),
        subject: UserId::new(NOW, &[1; 10]).into(),
        audience: vec![audience("vouchsafe"), audience("orders")],
        expire_time: NOW.plus(300 * SECOND),
        issue_time: NOW,
        token_id: TokenId::new(NOW, &[2; 10]),
        client_id: "web".into(),
        scope: "read write".to_owned().try_into().unwrap(),
        roles: vec!["admin".into()],
        permissions: Vec::new(),
        epoch: 7,
        custom: CustomClaims::default(),
        sign_in: Some(SignIn {
            session_id: SessionId::new(NOW, &[3; 10]),
            auth_time: NOW,
            amr: vec!["pwd".into()],
            acr: "aal1".into(),
        }),
    }
}

struct Desk {
    pair: SigningKeyPair,
    keys: KeySet,
    revocations: RevocationSet,
    verifier: TokenVerifier,
}

impl Desk {
    fn new(algorithm: Algorithm) -> Self {
        let pair = SigningKeyPair::generate(algorithm).unwrap();
        // A second key of the other kind beside it, as during a change of algorithm.
        let other = SigningKeyPair::generate(Algorithm::EdDsa).unwrap();
        let keys = KeySet::from_keys(vec![pair.public_key().clone(), other.public_key().clone()]).unwrap();
        let verifier = TokenVerifier::new(ISSUER.into(), AudiencePolicy::NotChecked).unwrap();
        Self { pair, keys, revocations: RevocationSet::new(), verifier }
    }

    fn sign(&self, claims: &AccessClaims) -> String {
        self.pair.sign("at+jwt", &claims::to_json(claims)).unwrap()
    }

    fn verify(&self, token: &str, now: Timestamp) -> Result<AccessClaims, Inactive> {
        self.verifier.verify(token, &self.keys, &self.revocations, now)
    }

    fn lenient(self, seconds: u64) -> Self {
        let leeway = Leeway::try_from(Duration::from_secs(seconds)).unwrap();
        Self { verifier: self.verifier.with_leeway(leeway), ..self }
    }
}

#[test]
fn a_good_token_yields_its_claims() {
    for algorithm in Algorithm::ALL {
        let desk = Desk::new(algorithm);
        assert_eq!(desk.verify(&desk.sign(&claims()), NOW), Ok(claims()));
    }
}

#[test]
fn every_hostile_token_is_refused_for_its_reason() {
    for algorithm in Algorithm::ALL {
        let desk = Desk::new(algorithm);
        let genuine = desk.sign(&claims());
        let table = hostile::all(&desk.pair, &genuine);
        assert!(table.len() > 400, "{}", table.len());
        for hostile::Hostile { name, token, reason } in table {
            assert_eq!(desk.verify(&token, NOW).err(), Some(reason), "{algorithm}: {name}");
        }
        assert!(desk.verify(&genuine, NOW).is_ok(), "the table is made from a token that is good");
    }
}

/// The counterpart of the table: what it changes is what makes a token bad, not that it was made by hand.
#[test]
fn a_token_made_by_hand_is_as_good_as_ours() {
    let desk = Desk::new(Algorithm::Es256);
    let genuine = desk.sign(&claims());
    let forge = hostile::Forge::new(&desk.pair, &genuine);
    for (name, token) in [
        ("nothing", forge.with_claim("epoch", json!(7))),
        ("typ in capitals", forge.with_header("typ", json!("AT+JWT"))),
        ("typ in full", forge.with_header("typ", json!("application/at+jwt"))),
        ("an unknown header member", forge.with_header("x", json!({"y": [1, 2]}))),
        ("a custom claim", forge.with_claim("x", json!({"y": [1.5, null, {"z": true}]}))),
        ("exp with a fraction of zero", forge.with_claim("exp", json!(1_790_000_300.0))),
        ("nbf now", forge.with_claim("nbf", json!(1_790_000_000))),
    ] {
        let said = desk.verify(&token, NOW).map(|said| AccessClaims { custom: CustomClaims::default(), ..said });
        assert_eq!(said, Ok(claims()), "{name}");
    }
    let one = desk.verify(&forge.with_claim("aud", json!("orders")), NOW).unwrap();
    assert_eq!(one.audience, [audience("orders")]);
    let none = hostile::payload_of(&desk.sign(&AccessClaims { scope: Scope::default(), ..claims() }));
    assert!(none.get("scope").is_none());
}

#[test]
fn a_token_is_good_until_its_expiry_and_not_at_it() {
    let desk = Desk::new(Algorithm::EdDsa);
    let token = desk.sign(&claims());
    let expiry = claims().expire_time;
    assert!(desk.verify(&token, expiry.minus(Duration::from_micros(1))).is_ok());
    assert_eq!(desk.verify(&token, expiry).err(), Some(Inactive::Expired));
    let desk = desk.lenient(10);
    assert!(desk.verify(&token, expiry.plus(10 * SECOND).minus(Duration::from_micros(1))).is_ok());
    assert_eq!(desk.verify(&token, expiry.plus(10 * SECOND)).err(), Some(Inactive::Expired));
}

#[test]
fn a_token_is_good_from_its_nbf_on_and_its_iat_may_be_a_minute_ahead() {
    let desk = Desk::new(Algorithm::EdDsa);
    let genuine = desk.sign(&claims());
    let forge = hostile::Forge::new(&desk.pair, &genuine);
    let nbf = forge.with_claim("nbf", json!(1_790_000_010));
    let nbf_time = NOW.plus(10 * SECOND);
    assert_eq!(desk.verify(&nbf, nbf_time.minus(Duration::from_micros(1))).err(), Some(Inactive::NotYetValid));
    assert!(desk.verify(&nbf, nbf_time).is_ok());
    assert!(desk.verify(&genuine, NOW.minus(ISSUE_TIME_SKEW)).is_ok());
    let early = desk.verify(&genuine, NOW.minus(ISSUE_TIME_SKEW).minus(Duration::from_micros(1)));
    assert_eq!(early.err(), Some(Inactive::NotYetValid));
    assert!(desk.lenient(10).verify(&nbf, NOW).is_ok());
    assert!(ISSUE_TIME_SKEW >= Leeway::MAX.get());
}

#[test]
fn the_audience_of_the_verifier_and_of_the_call_must_both_match() {
    let desk = Desk::new(Algorithm::EdDsa);
    let token = desk.sign(&claims());
    let verify = |own: &[&str], call: &[&str]| {
        let list = |names: &[&str]| names.iter().map(|n| audience(n)).collect::<Vec<_>>();
        let policy = if own.is_empty() { AudiencePolicy::NotChecked } else { AudiencePolicy::AnyOf(list(own)) };
        let verifier = TokenVerifier::new(ISSUER.into(), policy).unwrap();
        verifier.verify_for(&list(call), &token, &desk.keys, &desk.revocations, NOW).err()
    };
    assert_eq!(verify(&[], &[]), None);
    assert_eq!(verify(&["orders"], &[]), None);
    assert_eq!(verify(&[], &["billing", "orders"]), None);
    assert_eq!(verify(&["orders"], &["vouchsafe"]), None);
    for (own, call) in [
        (&["billing"][..], &[][..]),
        (&[], &["billing"]),
        (&["orders"], &["billing"]),
        (&["billing"], &["orders"]),
        (&["Orders"], &[]),
    ] {
        assert_eq!(verify(own, call), Some(Inactive::WrongAudience), "{own:?} {call:?}");
    }
}

#[test]
fn a_verifier_cannot_be_built_without_issuer_and_audience_or_with_much_leeway() {
    let new = |issuer: &str, policy| TokenVerifier::new(issuer.into(), policy).err();
    assert_eq!(new("", AudiencePolicy::NotChecked), Some(PolicyError::NoIssuer));
    assert_eq!(new(ISSUER, AudiencePolicy::AnyOf(vec![])), Some(PolicyError::NoAudience));
    assert_eq!(new(ISSUER, AudiencePolicy::AnyOf(vec![audience("a")])), None);
    assert_eq!(Leeway::try_from(60 * SECOND), Ok(Leeway::MAX));
    assert_eq!(Leeway::try_from(Duration::from_millis(60_001)), Err(PolicyError::LeewayTooLong));
}

#[test]
fn each_kind_of_revocation_refuses_the_token() {
    let claims = claims();
    let desk = Desk::new(Algorithm::Es256);
    let kid = desk.pair.public_key().kid().to_owned();
    let token = desk.sign(&claims);
    let (user, session) = (claims.subject.user().unwrap(), claims.session_id().unwrap());
    for (revocation, refused) in [
        (Revocation::KeySetChanged, false),
        (Revocation::Role { role: "admin".into() }, false),
        (Revocation::ServiceAccount { account: ServiceAccountId::from_uuid(*user.as_uuid()), epoch: 8 }, false),
        (Revocation::User { user, epoch: 7, spared: None }, false),
        (Revocation::User { user, epoch: 8, spared: Some(session) }, false),
        (Revocation::User { user, epoch: 8, spared: None }, true),
        (Revocation::Session { session }, true),
        (Revocation::Token { token: claims.token_id }, true),
        (Revocation::Key { kid }, true),
    ] {
        let desk = Desk {
            revocations: RevocationSet::new(),
            keys: desk.keys.clone(),
            verifier: desk.verifier.clone(),
            ..Desk::new(Algorithm::EdDsa)
        };
        desk.revocations.apply(&FeedEntry {
            number: 1,
            revocation: revocation.clone(),
            time: NOW,
            expire_time: NOW.plus(SECOND),
        });
        assert_eq!(desk.verify(&token, NOW).err(), refused.then_some(Inactive::Revoked), "{revocation:?}");
    }
}

mod encrypted {
    use std::collections::BTreeMap;

    use serde_json::Value;

    use super::*;
    use crate::{
        domain::secret::Entropy,
        jose::{DecryptionKeys, JweKey, jwe::encrypt},
        verifier::{EncryptedAudiences, RememberingVerifier},
    };

    struct Fixed;

    impl Entropy for Fixed {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(9);
        }
    }

    fn key(kid: &str, first: u8) -> JweKey {
        let k: Vec<u8> = (first..first + 32).collect();
        let k = base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, k);
        JweKey::from_jwk(&json!({"kty": "oct", "alg": "A256KW", "kid": kid, "k": k})).unwrap()
    }

    fn wrap(token: &str, key: &JweKey) -> String {
        encrypt(token, key, &Fixed).unwrap()
    }

    fn for_one(name: &str) -> AccessClaims {
        AccessClaims { audience: vec![audience(name)], ..claims() }
    }

    fn keys(keys: &[JweKey]) -> DecryptionKeys {
        DecryptionKeys::from_keys(keys.to_vec()).unwrap()
    }

    impl Desk {
        fn wrapped(self, wrapping: Wrapping) -> Self {
            Self { verifier: self.verifier.with_wrapping(wrapping), ..self }
        }
    }

    #[test]
    fn with_a_key_only_encrypted_tokens_are_good() {
        let desk = Desk::new(Algorithm::Es256).wrapped(Wrapping::Encrypted(keys(&[key("new", 1), key("old", 2)])));
        let plain = desk.sign(&claims());
        assert_eq!(desk.verify(&plain, NOW), Err(Inactive::NotEncrypted));
        for good in [key("new", 1), key("old", 2)] {
            assert_eq!(desk.verify(&wrap(&plain, &good), NOW), Ok(claims()));
        }
        for bad in [key("new", 3), key("other", 1)] {
            assert_eq!(desk.verify(&wrap(&plain, &bad), NOW), Err(Inactive::Undecryptable));
        }
        // What is no token is so in its wrapping, too, and what is none without it is not asked to be wrapped.
        let unsigned =
            format!("eyJhbGciOiJub25lIiwidHlwIjoiYXQrand0Iiwia2lkIjoiIn0.{}.", plain.split('.').nth(1).unwrap());
        let id_token = desk.pair.sign("JWT", &claims::to_json(&claims())).unwrap();
        for (token, reason) in [
            ("junk", Inactive::Malformed),
            (&*unsigned, Inactive::Malformed),
            (&*wrap(&plain, &key("new", 1)), Inactive::Malformed),
            (&*id_token, Inactive::WrongType),
        ] {
            assert_eq!(desk.verify(&wrap(token, &key("new", 1)), NOW), Err(reason), "{token}");
        }
        assert_eq!(desk.verify("junk", NOW), Err(Inactive::Malformed));
        assert_eq!(desk.verify(&wrap(&plain, &key("new", 1)), NOW.plus(300 * SECOND)), Err(Inactive::Expired));
        let (signed, _) = plain.rsplit_once('.').unwrap();
        let forged = format!("{signed}.{}", "A".repeat(86));
        assert_eq!(desk.verify(&wrap(&forged, &key("new", 1)), NOW), Err(Inactive::BadSignature));
    }

    #[test]
    fn without_a_key_an_encrypted_token_is_no_good() {
        let desk = Desk::new(Algorithm::Es256);
        assert_eq!(desk.verify(&wrap(&desk.sign(&claims()), &key("k", 1)), NOW), Err(Inactive::Undecryptable));
    }

    #[test]
    fn a_revoked_key_is_found_in_its_wrapping() {
        let desk = Desk::new(Algorithm::Es256).wrapped(Wrapping::Encrypted(keys(&[key("k", 1)])));
        let stranger = SigningKeyPair::generate(Algorithm::Es256).unwrap();
        let token = wrap(&stranger.sign("at+jwt", &claims::to_json(&claims())).unwrap(), &key("k", 1));
        assert_eq!(desk.verify(&token, NOW), Err(Inactive::UnknownKey));
        let revocation = Revocation::Key { kid: stranger.public_key().kid().to_owned() };
        let entry = FeedEntry { number: 1, revocation, time: NOW, expire_time: NOW.plus(300 * SECOND) };
        desk.revocations.apply(&entry);
        assert_eq!(desk.verify(&token, NOW), Err(Inactive::Revoked));
    }

    #[test]
    fn each_audience_has_its_own_way() {
        let [billing, orders] = [key("b", 1), key("o", 2)];
        let names = |name: &str, kid: &str| (audience(name), vec![kid.to_owned(), format!("{kid}-old")]);
        let audiences: BTreeMap<_, _> = [names("billing", "b"), names("orders", "o"), names("sealed", "s")].into();
        let held = keys(&[billing.clone(), orders.clone()]);
        let desk = Desk::new(Algorithm::Es256).wrapped(Wrapping::ByAudience(EncryptedAudiences::new(audiences, held)));
        let plain = |name: &str| desk.sign(&for_one(name));
        assert_eq!(desk.verify(&plain("vouchsafe"), NOW), Ok(for_one("vouchsafe")));
        assert_eq!(desk.verify(&wrap(&plain("billing"), &billing), NOW), Ok(for_one("billing")));
        for (token, reason) in [
            (plain("billing"), Inactive::NotEncrypted),
            (plain("sealed"), Inactive::NotEncrypted),
            // vouchsafe and orders.
            (desk.sign(&claims()), Inactive::NotEncrypted),
            (wrap(&desk.sign(&claims()), &orders), Inactive::WrongAudience),
            (wrap(&plain("billing"), &orders), Inactive::WrongAudience),
            (wrap(&plain("vouchsafe"), &orders), Inactive::WrongAudience),
            (wrap(&plain("sealed"), &key("s", 7)), Inactive::Undecryptable),
        ] {
            assert_eq!(desk.verify(&token, NOW), Err(reason), "{token}");
        }
    }

    #[test]
    fn what_is_remembered_is_the_token_as_it_came() {
        let desk = Desk::new(Algorithm::Es256).wrapped(Wrapping::Encrypted(keys(&[key("k", 1)])));
        let verifier = RememberingVerifier::new(desk.verifier.clone(), 100);
        let verify = |token: &str| verifier.verify_for(&[], token, &desk.keys, &desk.revocations, NOW).map(|_| ());
        let plain = desk.sign(&claims());
        let token = wrap(&plain, &key("k", 1));
        for _ in 0..2 {
            assert_eq!(verify(&token), Ok(()));
            assert_eq!(verify(&plain), Err(Inactive::NotEncrypted));
        }
        assert_eq!(verifier.hits_and_misses(), (1, 3));
    }

    #[test]
    fn every_change_of_an_encrypted_token_is_the_same_refusal() {
        let desk = Desk::new(Algorithm::Es256).wrapped(Wrapping::Encrypted(keys(&[key("k", 1)])));
        let token = wrap(&desk.sign(&claims()), &key("k", 1));
        let header: Value = serde_json::from_slice(
            &base64::Engine::decode(
                &base64::engine::general_purpose::URL_SAFE_NO_PAD,
                token.split('.').next().unwrap(),
            )
            .unwrap(),
        )
        .unwrap();
        assert_eq!(header, json!({"alg": "A256KW", "enc": "A256GCM", "cty": "JWT", "kid": "k"}));
        for at in (0..token.len()).filter(|at| token.as_bytes()[*at] != b'.') {
            let other = if token.as_bytes()[at] == b'A' { "B" } else { "A" };
            let mut changed = token.clone();
            changed.replace_range(at..=at, other);
            assert_eq!(desk.verify(&changed, NOW), Err(Inactive::Undecryptable), "{at}");
        }
    }
}
