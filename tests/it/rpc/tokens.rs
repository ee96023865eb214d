//! Access tokens: what they say, for how long, and to whom.

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::Value;
use vouchsafe::{
    domain::time::{Clock as _, Timestamp},
    jose::KeySet,
    pb::v1::{self, InactiveReason},
    verifier::{AudiencePolicy, RevocationSet, TokenVerifier},
};

use super::on_every_form;
use crate::{
    hostile::payload_of,
    support::{Backend, ManualClock, PASSWORD, TestNode, fields, login_request, wire},
};

on_every_form!(
    a_token_says_all_that_rfc_9068_asks_for_and_verifies_by_the_published_keys,
    a_token_is_active_until_the_moment_it_expires,
    verify_matches_any_audience_it_is_asked_for,
    a_token_of_another_issuer_on_the_same_keys_is_refused,
);

fn header_of(token: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap()).unwrap()
}

fn members(object: &Value) -> Vec<&str> {
    let mut names: Vec<_> = object.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    names
}

async fn a_token_says_all_that_rfc_9068_asks_for_and_verifies_by_the_published_keys(backend: Backend) {
    for algorithm in ["ES256", "EdDSA", "RS256"] {
        let clock = Arc::new(ManualClock::new());
        let node = TestNode::builder(backend)
            .await
            .clock(clock.clone())
            .set(&format!("tokens.algorithm={algorithm}"))
            .set("tokens.access_ttl=90s")
            .set("tokens.scopes=read,write")
            .set("tokens.client_id=the-app")
            .start()
            .await;
        let user = node.register("ada@example.com").await;
        let request = v1::LoginRequest { scope: "read".into(), ..login_request("ada@example.com", PASSWORD) };
        let first = node.try_login(request).await.unwrap();
        let signed_in = clock.now().as_seconds();
        clock.advance(Duration::from_millis(10_700));
        let tokens = node.refresh(&first.refresh_token).await.unwrap();

        let header = header_of(&tokens.access_token);
        assert_eq!(members(&header), ["alg", "kid", "typ"]);
        assert_eq!((&header["alg"], &header["typ"]), (&algorithm.into(), &"at+jwt".into()));
        let claims = payload_of(&tokens.access_token);
        let all = "acr amr aud auth_time client_id epoch exp iat iss jti roles scope sid sub";
        assert_eq!(members(&claims), all.split(' ').collect::<Vec<_>>());
        for (name, value) in [
            ("iss", "https://issuer.test"),
            ("sub", &user.id),
            ("sid", &tokens.session_id),
            ("client_id", "the-app"),
            ("scope", "read"),
            ("acr", "aal1"),
        ] {
            assert_eq!(claims[name], value, "{name}");
        }
        assert_eq!((claims["auth_time"].as_i64(), claims["iat"].as_i64()), (Some(signed_in), Some(signed_in + 10)));
        assert_eq!(claims["exp"].as_i64(), Some(signed_in + 100), "whole seconds");
        assert_eq!((&claims["aud"][0], &claims["amr"][0]), (&"vouchsafe".into(), &"pwd".into()));
        assert_ne!(claims["jti"], payload_of(&first.access_token)["jti"]);
        assert_eq!((tokens.expires_in, tokens.access_token_expire_time.unwrap().seconds), (90, signed_in + 100));

        // Verify says the same, and so does anybody who has fetched the keys.
        let said = node.verify(&tokens.access_token).await.claims.unwrap();
        assert_eq!((said.token_id.as_str(), said.scope.as_str()), (claims["jti"].as_str().unwrap(), "read"));
        assert_eq!(
            (said.client_id.as_str(), said.acr.as_str(), &*said.amr),
            ("the-app", "aal1", &["pwd".to_owned()][..])
        );
        assert_eq!(said.expire_time.unwrap().seconds, signed_in + 100);
        assert_eq!((said.issue_time.unwrap().seconds, said.auth_time.unwrap().seconds), (signed_in + 10, signed_in));
        let (status, jwks) = wire::get(node.http, "/.well-known/jwks.json").await;
        assert_eq!(status, 200);
        assert!(!jwks.contains("\"d\""), "no private half");
        let verifier = TokenVerifier::new("https://issuer.test".into(), AudiencePolicy::NotChecked).unwrap();
        let keys = KeySet::from_jwks(&jwks).unwrap();
        let locally = verifier.verify(&tokens.access_token, &keys, &RevocationSet::new(), clock.now()).unwrap();
        assert_eq!(locally.token_id.to_string(), said.token_id);
        node.remove().await;
    }
}

async fn a_token_is_active_until_the_moment_it_expires(backend: Backend) {
    let clock = Arc::new(ManualClock::new());
    let node = TestNode::builder(backend).await.clock(clock.clone()).set("tokens.access_ttl=30s").start().await;
    node.register("ada@example.com").await;
    clock.advance(Duration::from_millis(999));
    let tokens = node.login("ada@example.com").await;
    let expiry = Timestamp::from_seconds(tokens.access_token_expire_time.unwrap().seconds);
    clock.set(expiry.minus(Duration::from_micros(1)));
    assert_eq!(node.verify_strongly(&tokens.access_token).await, InactiveReason::Unspecified);
    assert!(node.admits(&tokens.access_token).await);
    clock.set(expiry);
    assert_eq!(node.verify_strongly(&tokens.access_token).await, InactiveReason::Expired);
    assert!(!node.admits(&tokens.access_token).await);
    // Nor does it come back to life.
    clock.advance(Duration::from_hours(1));
    assert_eq!(node.verify_strongly(&tokens.access_token).await, InactiveReason::Expired);
    node.remove().await;
}

async fn verify_matches_any_audience_it_is_asked_for(backend: Backend) {
    let node = TestNode::builder(backend)
        .await
        .set("tokens.audiences=vouchsafe,orders,billing")
        .set("tokens.default_audience=vouchsafe,orders")
        .start()
        .await;
    node.register("ada@example.com").await;
    let token = node.login("ada@example.com").await.access_token;
    let ask = async |audience: &[&str]| {
        let audience = audience.iter().map(ToString::to_string).collect();
        let request = v1::VerifyRequest { token: token.clone(), audience, consistency: 0 };
        Ok::<_, tonic::Status>(node.auth().await.verify(request).await?.into_inner().inactive_reason())
    };
    for matching in [&[][..], &["vouchsafe"], &["orders"], &["billing", "orders"], &["vouchsafe", "unheard-of"]] {
        assert_eq!(ask(matching).await.unwrap(), InactiveReason::Unspecified, "{matching:?}");
    }
    for other in [&["billing"][..], &["Orders"], &["order"], &["orders/"], &["billing", "unheard-of"]] {
        assert_eq!(ask(other).await.unwrap(), InactiveReason::WrongAudience, "{other:?}");
    }
    for nonsense in [&[""][..], &["orders", "a b"], &["\u{0}"]] {
        assert_eq!(fields(&ask(nonsense).await.unwrap_err()), ["audience"], "{nonsense:?}");
    }
    node.remove().await;
}

async fn a_token_of_another_issuer_on_the_same_keys_is_refused(backend: Backend) {
    let node = TestNode::start(backend).await;
    node.register("ada@example.com").await;
    let before = node.login("ada@example.com").await;
    let database = node.database.clone();
    node.stop().await;
    let node = TestNode::on(database).set("issuer=https://issuer.test/").start().await;
    assert_eq!(node.verify(&before.access_token).await.inactive_reason(), InactiveReason::WrongIssuer);
    assert!(!node.admits(&before.access_token).await);
    let after = node.refresh(&before.refresh_token).await.unwrap();
    assert_eq!(node.verify(&after.access_token).await.claims.unwrap().issuer, "https://issuer.test/");
    node.remove().await;
}
