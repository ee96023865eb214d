//! `vouchsafe token verify`, without a server, and the `Verify` RPC: the same answer to the same bytes.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use vouchsafe::{pb::v1::InactiveReason, verifier::Inactive};

use super::{
    client::Client,
    harness::{ISSUER, Place, Server},
    web::get,
};
use crate::{
    hostile::{self, Forge},
    support::{Backend, MASTER_KEY, stolen_key},
};

/// A running server, the file with its keys, and a good token.
async fn desk() -> (Place, Server, String, String) {
    let place = Place::new(Backend::Sqlite).await.set("keys.master_key", MASTER_KEY);
    let server = place.serve().await;
    let tokens = Client::of(&server).await.join("ada@example.com").await;
    let jwks = place.file("jwks.json", get(&server, "/.well-known/jwks.json").await.body);
    (place, server, jwks, tokens.access_token)
}

fn verify<'a>(jwks: &'a str, issuer: &'a str, rest: &[&'a str]) -> Vec<&'a str> {
    [&["token", "verify", "--jwks", jwks, "--issuer", issuer], rest].concat()
}

#[tokio::test]
async fn a_good_token_shows_its_claims() {
    let (place, server, jwks, token) = desk().await;
    let given = place.run(&verify(&jwks, ISSUER, &[&token])).await.ok();
    let claims: Value = serde_json::from_str(&given).unwrap();
    assert_eq!((&claims["iss"], &claims["aud"]), (&json!(ISSUER), &json!(["vouchsafe"])));
    assert_eq!(claims, hostile::payload_of(&token));
    for flags in [&[][..], &["-"], &["--audience", "orders", "--audience", "vouchsafe"]] {
        let read = place.run_with_input(&verify(&jwks, ISSUER, flags), &format!("{token}\n")).await.ok();
        assert_eq!(read, given);
    }
    server.stop().await;
    // No server is asked, and none is needed.
    assert_eq!(place.run(&verify(&jwks, ISSUER, &[&token])).await.ok(), given);
    place.remove().await;
}

#[tokio::test]
async fn a_bad_token_is_refused_with_the_reason() {
    let (place, server, jwks, token) = desk().await;
    let refresh_token = Client::of(&server).await.login("ada@example.com").await.unwrap().refresh_token;
    let key = stolen_key(&place.database).await;
    let forge = Forge::new(&key, &token);
    let good = forge.with_claim("jti", json!("0197a0c4-0000-7000-8000-000000000000"));
    place.run(&verify(&jwks, ISSUER, &[&good])).await.ok();

    let issued = hostile::payload_of(&token)["iat"].as_i64().unwrap();
    let expired = forge.with_claim("exp", json!(issued - 3600));
    let forged = hostile::all(&key, &token).into_iter().find(|h| h.name.starts_with("HS256 with the public point"));
    let forged = forged.unwrap().token;
    let audience = ["--audience", "orders"];
    for (token, issuer, flags, reason) in [
        (&*expired, ISSUER, &[][..], Inactive::Expired),
        ("garbage", ISSUER, &[], Inactive::Malformed),
        ("", ISSUER, &[], Inactive::Malformed),
        (&token, ISSUER, &audience, Inactive::WrongAudience),
        (&token, "https://issuer.test/", &[], Inactive::WrongIssuer),
        (&refresh_token, ISSUER, &[], Inactive::WrongType),
        (&forged, ISSUER, &[], Inactive::Malformed),
    ] {
        let reason = format!("vouchsafe: the token is not valid: {reason}\n");
        let read = place.run_with_input(&verify(&jwks, issuer, flags), token).await.refused();
        assert_eq!(read, reason, "{token}");
        let given = place.run(&verify(&jwks, issuer, &[flags, &[token]].concat())).await.refused();
        assert_eq!(given, reason, "{token}");
    }
    // What only the server knows.
    let client = Client::of(&server).await;
    client.logout(&refresh_token).await.unwrap();
    server.stop().await;
    place.remove().await;
}

#[tokio::test]
async fn keys_that_cannot_be_used_are_named() {
    let place = Place::new(Backend::Sqlite).await;
    let missing = place.path("missing.json").display().to_string();
    let text = place.file("text.json", "no keys here");
    let other = place.file("other.json", r#"{"keys": 1}"#);
    let secret = json!({"keys": [{"kty": "oct", "kid": "1", "k": STANDARD.encode([1; 32])}]}).to_string();
    let symmetric = place.file("symmetric.json", secret);
    for file in [&missing, &text, &other] {
        let said = place.run(&verify(file, ISSUER, &["x"])).await.cannot_tell();
        assert!(said.contains(file.as_str()) && !said.contains("not valid"), "{said}");
    }
    // RFC 7517 §5: a key of a kind that is not understood is skipped; then there is none left, or the set is refused.
    let said = place.run(&verify(&symmetric, ISSUER, &["x"])).await.refused();
    assert!(!said.contains(&STANDARD.encode([1; 32])), "{said}");
    place.remove().await;
}

/// Every hostile token by the RPC, and a sample of them by the command, which takes a process each.
#[tokio::test]
async fn hostile_tokens_get_the_same_verdict_everywhere() {
    let (place, server, jwks, token) = desk().await;
    let key = stolen_key(&place.database).await;
    let client = Client::of(&server).await;
    let mut sampled = 0;
    for (number, hostile::Hostile { name, token, reason }) in hostile::all(&key, &token).into_iter().enumerate() {
        if token.len() > 48 * 1024 {
            // More than a message may hold: refused before it is read.
            assert!(client.check(&token, 0.try_into().unwrap()).await.is_err(), "{name}");
        } else if !token.is_empty() {
            assert_eq!(client.inactive(&token).await, in_proto(reason), "{name}");
        }
        // The command takes a token from a line of text, so white space around it is no part of it.
        if number % 10 == 0 && token.trim() == token {
            sampled += 1;
            let said = place.run_with_input(&verify(&jwks, ISSUER, &[]), &token).await.refused();
            assert_eq!(said, format!("vouchsafe: the token is not valid: {reason}\n"), "{name}");
        }
    }
    assert!(sampled > 30, "{sampled}");
    client.claims(&token).await;
    server.stop().await;
    place.remove().await;
}

fn in_proto(reason: Inactive) -> InactiveReason {
    match reason {
        Inactive::Malformed => InactiveReason::Malformed,
        Inactive::WrongType => InactiveReason::WrongType,
        Inactive::UnknownKey => InactiveReason::UnknownKey,
        Inactive::BadSignature => InactiveReason::BadSignature,
        Inactive::WrongIssuer => InactiveReason::WrongIssuer,
        Inactive::WrongAudience => InactiveReason::WrongAudience,
        Inactive::Expired => InactiveReason::Expired,
        Inactive::NotYetValid => InactiveReason::NotYetValid,
        Inactive::Revoked => InactiveReason::Revoked,
        Inactive::NotEncrypted => InactiveReason::NotEncrypted,
        Inactive::Undecryptable => InactiveReason::Undecryptable,
    }
}
