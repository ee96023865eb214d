//! The HTTP port: keys, discovery, probes; and `vouchsafe healthcheck`, which asks it.

use http::Method;
use serde_json::json;
use tokio::{io::AsyncReadExt as _, net::TcpListener};

use super::{
    harness::{ISSUER, Place},
    web::{ask, get},
};
use crate::{rpc::on_both_databases, support::Backend};

on_both_databases!(keys_are_published, discovery_leads_to_the_keys, probes_are_answered);

const JWKS: &str = "/.well-known/jwks.json";

async fn keys_are_published(backend: Backend) {
    let place = Place::new(backend).await.set("keys.publish_lead", "2m");
    let server = place.serve().await;
    let answer = get(&server, JWKS).await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, "application/jwk-set+json"));
    // Half the lead, so that a new key is known everywhere before it signs.
    assert_eq!(answer.header("cache-control"), "public, max-age=60, must-revalidate");
    for key in answer.json()["keys"].as_array().unwrap() {
        let mut members: Vec<_> = key.as_object().unwrap().keys().map(String::as_str).collect();
        members.sort_unstable();
        assert_eq!(members, ["alg", "crv", "kid", "kty", "use", "x", "y"], "nothing private, nothing more");
    }

    let tag = answer.header("etag").to_owned();
    assert!(tag.len() > 4 && tag.starts_with('"') && tag.ends_with('"'), "{tag}");
    for known in [tag.clone(), format!("W/{tag}"), format!("\"other\", {tag}"), "*".to_owned()] {
        let again = ask(server.http, Method::GET, JWKS, &[("if-none-match", &known)]).await;
        assert_eq!((again.status.as_u16(), again.body.as_str()), (304, ""), "{known}");
        assert_eq!((again.header("etag"), again.header("cache-control")), (&*tag, answer.header("cache-control")));
    }
    let changed = ask(server.http, Method::GET, JWKS, &[("if-none-match", "\"other\"")]).await;
    assert_eq!((changed.status.as_u16(), changed.body), (200, answer.body));
    place.run(&["keys", "rotate"]).await.ok();
    super::harness::until("the tag changes", async || (get(&server, JWKS).await.header("etag") != tag).then_some(()))
        .await;
    server.stop().await;
    place.remove().await;
}

async fn discovery_leads_to_the_keys(backend: Backend) {
    let place = Place::new(backend).await;
    let server = place.serve().await;
    for path in ["/.well-known/openid-configuration", "/.well-known/oauth-authorization-server"] {
        let answer = get(&server, path).await;
        assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, "application/json"));
        let document = answer.json();
        assert_eq!(document["issuer"], ISSUER);
        assert_eq!(document["jwks_uri"], format!("{ISSUER}{JWKS}"));
        assert_eq!(document["id_token_signing_alg_values_supported"], json!(["ES256"]));
        let known = [("if-none-match", answer.header("etag"))];
        assert_eq!(ask(server.http, Method::GET, path, &known).await.status, 304);
    }
    server.stop().await;

    let place = place.set("http.public_url", "https://keys.example/vouchsafe/");
    let server = place.serve().await;
    let document = get(&server, "/.well-known/openid-configuration").await.json();
    assert_eq!(document["issuer"], ISSUER);
    assert_eq!(document["jwks_uri"], format!("https://keys.example/vouchsafe{JWKS}"));
    server.stop().await;
    place.remove().await;
}

async fn probes_are_answered(backend: Backend) {
    let place = Place::new(backend).await;
    let server = place.serve().await;
    for (path, body) in [("/livez", "live\n"), ("/readyz", "ready\n")] {
        let answer = get(&server, path).await;
        assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, body));
        assert_eq!(ask(server.http, Method::HEAD, path, &[]).await.status, 200);
        assert_eq!(ask(server.http, Method::POST, path, &[]).await.status, 405);
    }
    for path in ["/", "/nothing", "/.well-known", "/.well-known/jwks.json/", "//livez", "/.well-known/../livez"] {
        let answer = get(&server, path).await;
        assert_eq!((answer.status.as_u16(), answer.body.as_str()), (404, ""), "{path}");
    }
    for method in [Method::POST, Method::PUT, Method::DELETE] {
        assert_eq!(ask(server.http, method, JWKS, &[]).await.status, 405);
    }
    server.stop().await;
    place.remove().await;
}

#[tokio::test]
async fn a_healthcheck_tells_by_its_status() {
    let place = Place::new(Backend::Sqlite).await.set("shutdown.pause", "5m");
    let server = place.serve().await;
    let url = format!("http://{}", server.http);
    let check = async |url: &str| place.run(&["healthcheck", "--url", url]).await;
    assert_eq!(check(&url).await.ok(), "ready\n");
    assert_eq!(check(&format!("{url}/")).await.ok(), "ready\n");

    server.signal(rustix::process::Signal::TERM);
    super::harness::until("draining", async || (get(&server, "/readyz").await.status == 503).then_some(())).await;
    let said = check(&url).await.refused();
    assert!(said.contains("not ready") && said.contains("503") && said.contains("draining"), "{said}");
    server.kill().await;
    let said = check(&url).await.refused();
    assert!(said.contains("does not answer"), "{said}");
    for (bad, part) in
        [("https://127.0.0.1:1", "http.tls_cert"), ("/readyz", "http://127.0.0.1:50052"), ("http://", "http://")]
    {
        let said = check(bad).await.refused();
        assert!(said.contains(part), "{said}");
    }
    place.remove().await;
}

#[tokio::test]
async fn a_healthcheck_of_something_else_fails() {
    let place = Place::new(Backend::Sqlite).await;
    let server = place.serve().await;
    // The gRPC port speaks HTTP/2 alone.
    let said = place.run(&["healthcheck", "--url", &format!("http://{}", server.grpc)]).await.refused();
    assert!(said.starts_with("vouchsafe: "), "{said}");
    server.stop().await;

    for answer in ["HTTP/1.1 500 Oh No\r\ncontent-length: 0\r\n\r\n", "SSH-2.0-OpenSSH_9.6\r\n", ""] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let other = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 1024]).await;
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, answer.as_bytes()).await;
        };
        let args = ["healthcheck", "--url", &url];
        let (ended, ()) = tokio::join!(place.run(&args), other);
        ended.refused();
    }
    place.remove().await;
}
