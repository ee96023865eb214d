//! What does and does not go together.

use std::sync::Weak;

use super::*;
use crate::{
    domain::{
        revocation::{FeedEntry, Revocation},
        signing_key::Algorithm,
        time::Timestamp,
    },
    jose::SigningKeyPair,
    verifier::{Denied, Rule},
};

fn builder() -> Builder {
    Verifier::builder("https://issuer.test", ["orders"]).start_timeout(Duration::ZERO)
}

fn keys() -> KeySet {
    let pair = SigningKeyPair::generate(Algorithm::Es256).unwrap();
    KeySet::from_keys(vec![pair.public_key().clone()]).unwrap()
}

/// Nobody listens there.
fn service() -> Endpoint {
    Endpoint::from_static("http://127.0.0.1:1")
}

type Is = fn(&BuildError) -> bool;

#[test]
fn what_does_not_go_together_is_refused_with_advice() {
    let url = "http://127.0.0.1:1/jwks.json";
    let cases: Vec<(Builder, Is)> = vec![
        (Verifier::builder("", ["orders"]), |e| matches!(e, BuildError::Policy(PolicyError::NoIssuer))),
        (Verifier::builder("i", Vec::<String>::new()), |e| matches!(e, BuildError::Policy(PolicyError::NoAudience))),
        (Verifier::builder("i", ["a b"]), |e| matches!(e, BuildError::Audience(_))),
        (builder(), |e| matches!(e, BuildError::NoKeys)),
        (builder().without_revocations(), |e| matches!(e, BuildError::NoKeys)),
        (builder().keys(keys()), |e| matches!(e, BuildError::NoRevocations)),
        (builder().jwks_url(url), |e| matches!(e, BuildError::NoRevocations)),
        (builder().keys(keys()).jwks_url(url).without_revocations(), |e| matches!(e, BuildError::TwoSourcesOfKeys)),
        (builder().keys(KeySet::default()).without_revocations(), |e| matches!(e, BuildError::EmptyKeys)),
        (builder().keys(keys()).service(service()).without_revocations(), |e| matches!(e, BuildError::UselessService)),
        (builder().keys(keys()).without_revocations().service_account("svc_x", "vss_x".to_owned()), |e| {
            matches!(e, BuildError::UselessAccount)
        }),
        (builder().keys(keys()).without_revocations().persist_in("x"), |e| matches!(e, BuildError::UselessPersistence)),
        (builder().service(service()).max_staleness(Duration::from_millis(2_999)), |e| {
            matches!(e, BuildError::StalenessTooShort)
        }),
        (builder().service(service()).key_cool_down(Duration::from_millis(999)), |e| {
            matches!(e, BuildError::CoolDownTooShort)
        }),
        (builder().service(service()).service_account_file("svc_x", "/missing"), |e| {
            matches!(e, BuildError::SecretFile { .. })
        }),
        (builder().service_url("http://192.0.2.1:50051").unwrap(), |e| matches!(e, BuildError::Plaintext(_))),
        (builder().service_url("http://[2001:db8::1]:50051").unwrap(), |e| matches!(e, BuildError::Plaintext(_))),
        (builder().jwks_url("http://example.com/k").without_revocations(), |e| matches!(e, BuildError::Plaintext(_))),
        (builder().service_url("https://example.com").unwrap().ca_file("/missing"), |e| {
            matches!(e, BuildError::CaFile { .. })
        }),
        (builder().jwks_url("ftp://example.com/k").without_revocations(), |e| matches!(e, BuildError::JwksUrl(_))),
    ];
    for (builder, is) in cases {
        let error = builder.check().err().unwrap();
        assert!(is(&error), "{error:?}");
    }
    assert!(matches!(builder().service_url("http://a b"), Err(BuildError::ServiceUrl(_))));
}

#[test]
fn what_goes_together_is_taken() {
    for good in [
        builder().service(service()),
        builder().service_url("http://[::1]:1").unwrap(),
        builder().service_url("unix:///run/vouchsafe.sock").unwrap(),
        builder().service_url("http://192.0.2.1:1").unwrap().allow_plaintext(),
        builder().service_url("https://issuer.example.com").unwrap().service_account("svc_x", "vss_x".to_owned()),
        builder().service(service()).without_revocations(),
        builder().service(service()).max_staleness(Duration::from_secs(3)).key_cool_down(Duration::from_secs(1)),
        builder().service(service()).jwks_url("https://issuer.example.com/jwks"),
        builder().service(service()).keys(keys()).persist_in("x"),
        builder().jwks_url("http://localhost:1/jwks").without_revocations().persist_in("x"),
        builder().keys(keys()).without_revocations().max_staleness(Duration::ZERO),
    ] {
        assert_eq!(good.check().err().map(|error| error.to_string()), None);
    }
}

#[tokio::test]
async fn without_keys_nobody_can_say_and_with_given_ones_an_unknown_one_is_unknown() {
    let token = {
        let pair = SigningKeyPair::generate(Algorithm::Es256).unwrap();
        pair.sign("at+jwt", &serde_json::json!({})).unwrap()
    };
    let verifier = builder().service(service()).start().await.unwrap();
    assert!(!verifier.is_ready());
    assert_eq!(verifier.staleness(), Duration::MAX);
    for rule in [Rule::required(), Rule::required().allow_stale()] {
        assert_eq!(verifier.verify(&token, &rule).await, Err(Denied::Unavailable));
        assert_eq!(verifier.verify_now(&token, &rule), Err(Denied::Unavailable));
    }
    let given = builder().keys(keys()).without_revocations().start().await.unwrap();
    assert!(given.is_ready());
    let unknown = Err(Denied::Inactive(crate::verifier::Inactive::UnknownKey));
    assert_eq!(given.verify(&token, &Rule::required()).await, unknown);
    assert_eq!(given.verify_now(&token, &Rule::required()), unknown);
    assert_eq!(given.metrics().verified("unknown_key"), 2);
    assert_eq!(given.metrics().examined, 2);
}

#[tokio::test]
async fn the_background_ends_with_the_last_clone() {
    let directory = tempfile::tempdir().unwrap();
    let verifier = builder().service(service()).persist_in(directory.path()).start().await.unwrap();
    let (clone, shared): (_, Weak<Shared>) = (verifier.clone(), Arc::downgrade(&verifier.shared));
    drop(verifier);
    tokio::task::yield_now().await;
    assert!(shared.strong_count() > 1, "the clone still needs it");
    drop(clone);
    while shared.strong_count() > 0 {
        tokio::task::yield_now().await;
    }
}

/// Ten thousand streams, of which one revocation ends one: it is told at once, and nobody else is.
#[tokio::test]
async fn of_many_who_wait_only_who_must_is_told() {
    const MANY: u64 = 10_000;
    let pair = SigningKeyPair::generate(Algorithm::Es256).unwrap();
    let keys = KeySet::from_keys(vec![pair.public_key().clone()]).unwrap();
    let verifier = builder().keys(keys).without_revocations().remember(1).start().await.unwrap();
    let now = SystemClock.now().as_seconds();
    let id = |kind: u64, number: u64| format!("01a20076-bd5d-7314-{kind:04x}-{number:012x}");
    let mut waiting = tokio::task::JoinSet::new();
    for number in 0..MANY {
        let claims = serde_json::json!({
            "iss": "https://issuer.test", "sub": id(0x8001, 1), "aud": ["orders"], "exp": now + 3_600, "iat": now,
            "jti": id(0x8002, number), "sid": id(0x8003, number), "client_id": "c", "roles": [], "auth_time": now,
            "amr": ["pwd"], "acr": "aal1", "epoch": 0,
        });
        let principal = verifier.verify(&pair.sign("at+jwt", &claims).unwrap(), &Rule::required()).await.unwrap();
        let verifier = verifier.clone();
        waiting.spawn(async move { (number, verifier.ended(&principal, &Rule::required()).await) });
    }
    tokio::task::yield_now().await;
    for number in [MANY - 1, 0, 17] {
        let revocation = Revocation::Session { session: id(0x8003, number).parse().unwrap() };
        let expire_time = SystemClock.now().plus(Duration::from_hours(2));
        verifier.revocations().apply(&FeedEntry { number: 0, revocation, time: Timestamp::default(), expire_time });
        verifier.shared.announce();
        let told = waiting.join_next().await.unwrap().unwrap();
        assert_eq!(told, (number, Denied::Inactive(crate::verifier::Inactive::Revoked)));
    }
    assert_eq!(waiting.len() as u64, MANY - 3);
}
