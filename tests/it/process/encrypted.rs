//! Encrypted access tokens at other people's libraries, both ways: joserfc in Python and jose in Node.js. The command line, and
//! the file with the keys.

use serde_json::{Value, json};
use tokio::process::Command;
use vouchsafe::pb::v1::{self, InactiveReason, auth_service_client::AuthServiceClient};

use super::{
    client::Client,
    harness::{Ended, ISSUER, Place, finish},
    tools::{python, tool},
    web::get,
};
use crate::{
    hostile::payload_of,
    support::{
        Backend, PASSWORD,
        encryption::{agreeing_jwk, direct_jwk, private_file, public, wrapping_jwk},
        login_request,
    },
};

/// Both peers.
#[derive(Clone, Copy, Debug)]
enum Peer {
    Joserfc,
    Jose,
}

impl Peer {
    const ALL: [Self; 2] = [Self::Joserfc, Self::Jose];

    async fn run(self, verb: &str, key: &str, token: &str) -> Ended {
        let command = match self {
            Self::Joserfc => python("jwe_joserfc.py", &[verb, key]),
            Self::Jose => {
                let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/jwe_jose.cjs");
                let mut command = Command::new(tool("node"));
                command.args([script, verb, key]);
                command
            }
        };
        finish(command, token).await
    }

    async fn does(self, verb: &str, key: &str, token: &str) -> String {
        self.run(verb, key, token).await.ok().trim().to_owned()
    }
}

async fn login_for(client: &Client, audience: &str) -> v1::TokenPair {
    let request =
        v1::LoginRequest { audience: vec![audience.to_owned()], ..login_request("ada@example.com", PASSWORD) };
    let answer = AuthServiceClient::new(client.channel.clone()).login(request).await.unwrap().into_inner();
    let v1::login_response::Outcome::Tokens(tokens) = answer.outcome.unwrap() else { panic!("a challenge") };
    tokens
}

/// Each audience, the key that it has, and what of it the server has.
fn audiences() -> [(&'static str, Value, Value); 4] {
    [
        ("direct", direct_jwk(), direct_jwk()),
        ("wrapped", wrapping_jwk(), wrapping_jwk()),
        ("agreed", agreeing_jwk("agreed"), agreeing_jwk("agreed")),
        ("sealed", agreeing_jwk("sealed"), public(agreeing_jwk("sealed"))),
    ]
}

fn place(place: Place) -> Place {
    let keys: serde_json::Map<String, Value> =
        audiences().into_iter().map(|(name, _, known)| (name.to_owned(), known)).collect();
    let file = private_file(place.home.path(), "encryption.json", &json!({ "audiences": keys }));
    place.set("tokens.audiences", "vouchsafe,direct,wrapped,agreed,sealed").set("tokens.encryption_keys", &file)
}

fn verify<'a>(jwks: &'a str, key: &'a str, token: &'a str) -> Vec<&'a str> {
    vec!["token", "verify", "--jwks", jwks, "--issuer", ISSUER, "--decryption-key", key, token]
}

#[tokio::test]
async fn peers_open_our_tokens_and_we_open_theirs() {
    let place = place(Place::new(Backend::Sqlite).await);
    let server = place.serve().await;
    let client = Client::of(&server).await;
    client.join("ada@example.com").await;
    let jwks = place.file("jwks.json", get(&server, "/.well-known/jwks.json").await.body);
    for (audience, jwk, _) in audiences() {
        let key = private_file(place.home.path(), &format!("{audience}.json"), &jwk);
        let token = login_for(&client, audience).await.access_token;
        // Another key of the same name.
        let mut other = if audience == "wrapped" { direct_jwk() } else { wrapping_jwk() };
        other["kid"] = jwk["kid"].clone();
        if jwk["kty"] == "oct" {
            other["alg"] = jwk["alg"].clone();
        }
        let other = private_file(place.home.path(), "other.json", &other);
        let (head, tag) = token.rsplit_once('.').unwrap();
        let letter = if tag.starts_with('A') { "B" } else { "A" };
        let tampered = format!("{head}.{letter}{}", &tag[1..]);
        for peer in Peer::ALL {
            let inner = peer.does("decrypt", &key, &token).await;
            assert_eq!(payload_of(&inner)["aud"], json!([audience]), "{peer:?}");
            let verified = finish(python("verify_joserfc.py", &[&jwks, ISSUER, audience]), &inner).await.ok();
            assert_eq!(serde_json::from_str::<Value>(&verified).unwrap(), payload_of(&inner));
            for (key, token) in [(&key, &tampered), (&other, &token)] {
                assert!(peer.run("decrypt", key, token).await.refused().starts_with("refused: "), "{peer:?}");
            }

            let theirs = peer.does("encrypt", &key, &inner).await;
            assert_ne!(theirs, token);
            if audience == "sealed" {
                assert_eq!(client.inactive(&theirs).await, InactiveReason::Undecryptable);
            } else {
                assert_eq!(client.claims(&theirs).await.audience, [audience], "{peer:?}");
            }
            let shown = place.run(&verify(&jwks, &key, &theirs)).await.ok();
            assert_eq!(serde_json::from_str::<Value>(&shown).unwrap(), payload_of(&inner), "{peer:?}");
            // Whoever holds a key of one audience cannot make tokens of another.
            let stray = if audience == "wrapped" { agreeing_jwk("agreed") } else { wrapping_jwk() };
            let stray = private_file(place.home.path(), "stray.json", &stray);
            let moved = peer.does("encrypt", &stray, &inner).await;
            assert_eq!(client.inactive(&moved).await, InactiveReason::WrongAudience, "{peer:?}");
            assert_eq!(client.inactive(&inner).await, InactiveReason::NotEncrypted);
        }
    }
    server.stop().await;
    place.remove().await;
}

#[tokio::test]
async fn the_command_line_opens_what_it_has_the_key_of() {
    let place = place(Place::new(Backend::Sqlite).await);
    let server = place.serve().await;
    let client = Client::of(&server).await;
    let plain = client.join("ada@example.com").await.access_token;
    let jwks = place.file("jwks.json", get(&server, "/.well-known/jwks.json").await.body);
    let token = login_for(&client, "wrapped").await.access_token;
    let key = private_file(place.home.path(), "key.json", &wrapping_jwk());
    let set = private_file(place.home.path(), "set.json", &json!({"keys": [direct_jwk(), wrapping_jwk()]}));
    for file in [&key, &set] {
        let shown: Value = serde_json::from_str(&place.run(&verify(&jwks, file, &token)).await.ok()).unwrap();
        assert_eq!(shown["aud"], json!(["wrapped"]));
    }
    let said = place.run(&verify(&jwks, &key, &plain)).await.refused();
    assert_eq!(said, "vouchsafe: the token is not valid: not encrypted, where it must be\n");
    let other = private_file(place.home.path(), "other.json", &direct_jwk());
    let undecryptable = "vouchsafe: the token is not valid: encrypted, and cannot be decrypted here\n";
    assert_eq!(place.run(&verify(&jwks, &other, &token)).await.refused(), undecryptable);
    let without = ["token", "verify", "--jwks", &jwks, "--issuer", ISSUER, &token];
    assert_eq!(place.run(&without).await.refused(), undecryptable);
    let half = private_file(place.home.path(), "half.json", &public(agreeing_jwk("x")));
    let open = place.file("open.json", wrapping_jwk().to_string());
    let none = place.file("none.json", "{}");
    for (file, part) in [(&half, "its private part d is missing"), (&open, "chmod o="), (&none, "kty")] {
        let said = place.run(&verify(&jwks, file, &token)).await.cannot_tell();
        assert!(said.contains(part) && said.contains(file.as_str()), "{said}");
    }

    let inspect = |more: &[&str]| {
        let args: Vec<String> =
            [&["token", "inspect", "--output", "json"], more].concat().iter().map(|s| (*s).into()).collect();
        args
    };
    let run = async |args: Vec<String>| place.run(&args.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let seen: Value = serde_json::from_str(&run(inspect(&[&token])).await.ok()).unwrap();
    assert_eq!(
        seen,
        json!({
            "verified": false,
            "encryption_header": {"alg": "A256KW", "enc": "A256GCM", "cty": "JWT", "kid": "wrapped"},
        })
    );
    let seen: Value = serde_json::from_str(&run(inspect(&["--decryption-key", &key, &token])).await.ok()).unwrap();
    assert_eq!((&seen["claims"]["aud"], &seen["header"]["typ"]), (&json!(["wrapped"]), &json!("at+jwt")));
    assert_eq!(seen["encryption_header"]["alg"], "A256KW");
    let text = place.run(&["token", "inspect", "--decryption-key", &key, &token]).await.ok();
    assert!(text.starts_with("NOT VERIFIED\nencryption header: "), "{text}");
    let text = place.run(&["token", "inspect", &token]).await.ok();
    assert!(text.starts_with("ENCRYPTED\n") && !text.contains("wrapped\","), "{text}");
    let said = run(inspect(&["--decryption-key", &other, &token])).await.refused();
    assert!(said.contains("no key in"), "{said}");
    server.stop().await;
    place.remove().await;
}

#[tokio::test]
async fn a_file_of_keys_that_cannot_be_used_is_named() {
    let secret = wrapping_jwk()["k"].as_str().unwrap().to_owned();
    let check = async |content: Value, open: bool| {
        let place = Place::new(Backend::Sqlite).await.set("tokens.audiences", "vouchsafe,billing");
        let file = if open {
            place.file("keys.json", content.to_string())
        } else {
            private_file(place.home.path(), "keys.json", &content)
        };
        let place = place.set("tokens.encryption_keys", &file);
        let ended = place.run(&["config", "check"]).await;
        if ended.status.success() {
            place.remove().await;
            return String::new();
        }
        let said = ended.refused();
        assert!(said.contains("tokens.encryption_keys") && said.contains(&file) && !said.contains(&secret), "{said}");
        assert!(place.run(&["serve"]).await.refused().contains("tokens.encryption_keys"));
        place.remove().await;
        said
    };
    let billing = |jwk: Value| json!({"audiences": {"billing": jwk}});
    assert_eq!(check(billing(wrapping_jwk()), false).await, "");
    assert_eq!(check(billing(public(agreeing_jwk("b"))), true).await, "", "nothing in it is secret");
    for (content, open, part) in [
        (billing(wrapping_jwk()), true, "chmod o="),
        (billing(agreeing_jwk("b")), true, "chmod o="),
        (json!({"audiences": {"vouchsafe": wrapping_jwk()}}), false, "tokens for the service itself"),
        (json!({"audiences": {"shipping": wrapping_jwk()}}), false, "no audience of tokens.audiences"),
        (billing(json!({"kty": "oct", "alg": "A256KW", "kid": "x", "k": "c2hvcnQ"})), false, "32 random bytes"),
        (billing(json!({"kty": "RSA"})), false, "kty must be"),
        (json!({"billing": wrapping_jwk()}), false, "must be {\"audiences\""),
    ] {
        let said = check(content.clone(), open).await;
        assert!(said.contains(part), "{content}: {said}");
    }
    let place = Place::new(Backend::Sqlite).await.set("tokens.encryption_keys", "/nowhere/keys.json");
    let said = place.run(&["config", "check"]).await.refused();
    assert!(said.contains("/nowhere/keys.json") && said.contains("cannot be read"), "{said}");
    place.remove().await;
}
