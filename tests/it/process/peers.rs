//! Access tokens at other people's verifiers: PyJWT and joserfc, with the keys fetched over HTTP.

use serde_json::{Value, json};
use vouchsafe::pb::v1::{
    self, auth_service_client::AuthServiceClient,
    service_account_admin_service_client::ServiceAccountAdminServiceClient,
};

use super::{
    client::Client,
    harness::{Ended, ISSUER, Place, finish},
    tools::python,
    web::get,
};
use crate::{
    hostile,
    support::{Backend, PASSWORD, bearer},
};

const PEERS: [&str; 2] = ["verify_pyjwt.py", "verify_joserfc.py"];

async fn verdict(peer: &str, jwks: &str, issuer: &str, audience: &str, token: &str) -> Ended {
    finish(python(peer, &[jwks, issuer, audience]), token).await
}

async fn peers_agree(algorithm: &str) {
    let place = Place::new(Backend::Sqlite).await.set("tokens.algorithm", algorithm);
    let server = place.serve().await;
    let client = Client::of(&server).await;
    let signed_in = client.join("ada@example.com").await;
    let renewed = client.refresh(&signed_in.refresh_token).await.unwrap();
    let jwks = place.file("jwks.json", get(&server, "/.well-known/jwks.json").await.body);
    for peer in PEERS {
        for token in [&signed_in.access_token, &renewed.access_token] {
            let claims: Value =
                serde_json::from_str(&verdict(peer, &jwks, ISSUER, "vouchsafe", token).await.ok()).unwrap();
            assert_eq!(claims["sub"], client.claims(token).await.subject);
            assert_eq!(claims, hostile::payload_of(token));
        }
        let token = &renewed.access_token;
        let tampered = tampered(token);
        for (issuer, audience, token) in [
            (ISSUER, "vouchsafe", &tampered),
            (ISSUER, "orders", token),
            ("https://other.test", "vouchsafe", token),
            (ISSUER, "vouchsafe", &renewed.refresh_token),
        ] {
            let said = verdict(peer, &jwks, issuer, audience, token).await.refused();
            assert!(said.starts_with("refused: "), "{peer}: {said}");
        }
    }
    let service = service_token(&place, &client).await;
    for peer in PEERS {
        let claims: Value =
            serde_json::from_str(&verdict(peer, &jwks, ISSUER, "vouchsafe", &service).await.ok()).unwrap();
        assert!(
            claims["sub"].as_str().unwrap().starts_with("svc_") && claims["sub"] == claims["client_id"],
            "{claims}"
        );
        assert_eq!(claims["roles"], serde_json::json!(["admin"]));
        assert_eq!(claims, hostile::payload_of(&service));
    }
    let other = Place::new(Backend::Sqlite).await.set("tokens.algorithm", algorithm);
    let other_server = other.serve().await;
    let others = other.file("jwks.json", get(&other_server, "/.well-known/jwks.json").await.body);
    for peer in PEERS {
        verdict(peer, &others, ISSUER, "vouchsafe", &renewed.access_token).await.refused();
    }
    for (server, place) in [(server, place), (other_server, other)] {
        server.stop().await;
        place.remove().await;
    }
}

/// The token of a service account that is an administrator.
async fn service_token(place: &Place, client: &Client) -> String {
    let create = ["admin", "create", "--email", "root@example.com", "--password-stdin"];
    place.run_with_input(&create, PASSWORD).await.ok();
    let root = client.login("root@example.com").await.unwrap().access_token;
    let account = v1::CreateServiceAccountRequest {
        display_name: "Orders".into(),
        roles: vec!["admin".into()],
        ..Default::default()
    };
    let mut admin = ServiceAccountAdminServiceClient::new(client.channel.clone());
    let made = admin.create_service_account(bearer(&root, account)).await.unwrap().into_inner();
    let request = v1::IssueServiceTokenRequest {
        client_id: made.service_account.unwrap().client_id,
        client_secret: made.client_secret,
        ..Default::default()
    };
    let mut auth = AuthServiceClient::new(client.channel.clone());
    auth.issue_service_token(request).await.unwrap().into_inner().access_token
}

/// The token with another subject under its signature.
fn tampered(token: &str) -> String {
    let mut claims = hostile::payload_of(token);
    claims["sub"] = "00000000-0000-7000-8000-000000000000".into();
    let parts: Vec<_> = token.split('.').collect();
    format!("{}.{}.{}", parts[0], hostile::encode(claims.to_string()), parts[2])
}

/// What the command line writes is in the tokens of the server that runs, and everybody reads the same.
#[tokio::test]
async fn peers_read_custom_claims() {
    let place = Place::new(Backend::Sqlite).await;
    let file = place
        .file("claims.toml", "[attributes]\ntenant = \"tenant_id\"\n[audiences.vouchsafe.claims]\nregion = \"eu\"\n");
    let place = place.set("tokens.claims", &file);
    let server = place.serve().await;
    let client = Client::of(&server).await;
    client.join("ada@example.com").await;
    let claims = r#"{"desk":5,"rates":[0.5,1],"address_book":{"Ä":null}}"#;
    for args in [
        &["user", "update", "ada@example.com", "--custom-claims", claims][..],
        &["user", "update", "ada@example.com", "--attributes", r#"{"tenant_id":"acme","note":"unsaid"}"#],
        &["role", "create", "clerk", "--custom-claims", r#"{"desk":1,"floor":3}"#],
        &["user", "assign-role", "ada@example.com", "clerk"],
    ] {
        place.run(args).await.ok();
    }
    let token = client.login("ada@example.com").await.unwrap().access_token;
    let wanted = json!({
        "desk": 5, "rates": [0.5, 1], "address_book": { "Ä": null }, "tenant": "acme", "region": "eu", "floor": 3,
    });
    let jwks = place.file("jwks.json", get(&server, "/.well-known/jwks.json").await.body);
    let mut said = Vec::new();
    for peer in PEERS {
        said.push(verdict(peer, &jwks, ISSUER, "vouchsafe", &token).await.ok());
    }
    let verify = ["token", "verify", "--jwks", &jwks, "--issuer", ISSUER, &token];
    said.push(place.run(&verify).await.ok());
    let inspected: Value =
        serde_json::from_str(&place.run(&["token", "inspect", "--output", "json", &token]).await.ok()).unwrap();
    said.push(inspected["claims"].to_string());
    for text in said {
        let claims: Value = serde_json::from_str(&text).unwrap();
        for (name, value) in wanted.as_object().unwrap() {
            assert_eq!(&claims[name], value, "{name} in {text}");
        }
        assert!(!text.contains("unsaid"), "{text}");
    }
    server.stop().await;
    place.remove().await;
}

/// A file that will not do is told of before anything starts, all of it.
#[tokio::test]
async fn a_file_of_claims_that_will_not_do_is_refused() {
    let place = Place::new(Backend::Sqlite).await;
    let file = place.file("claims.toml", "[attributes]\nsub = \"x\"\n[audiences.nobody.claims]\na = 1\n");
    let place = place.set("tokens.claims", &file);
    for args in [&["config", "check"][..], &["serve"]] {
        let said = place.run(args).await.refused();
        for problem in [&file, "\"sub\", which is registered", "audiences.nobody is no audience"] {
            assert!(said.contains(problem), "{problem} in {said}");
        }
    }
    place.remove().await;
}

#[tokio::test]
async fn peers_verify_es256() {
    peers_agree("ES256").await;
}

#[tokio::test]
async fn peers_verify_eddsa() {
    peers_agree("EdDSA").await;
}

#[tokio::test]
async fn peers_verify_rs256() {
    peers_agree("RS256").await;
}
