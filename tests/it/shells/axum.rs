//! axum: the layer around a router, by requests as they come over the connection.

use std::{convert::Infallible, net::SocketAddr};

use axum::{Extension, Router, body::Body, http::Uri, routing::get};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::Method;
use tokio::net::TcpListener;
use vouchsafe::verifier::{Policy, Principal, Rule, VerifierLayer};

use super::{Issuer, SUBJECT, Served};
use crate::support::wire;

async fn who(principal: Option<Extension<Principal>>) -> String {
    principal.map_or_else(|| "nobody".to_owned(), |Extension(principal)| principal.subject().to_string())
}

/// Two pieces, and it stays open.
async fn stream() -> Body {
    let pieces =
        stream::iter(["one\n", "two\n"]).map(|piece| Ok::<_, Infallible>(Bytes::from_static(piece.as_bytes())));
    Body::from_stream(pieces.chain(stream::pending()))
}

pub(super) async fn serve(layer: VerifierLayer) -> Served {
    let routes = Router::new()
        .route("/", get(who))
        .route("/me", get(who).post(who))
        .route("/admin", get(who))
        .route("/optional", get(who))
        .route("/stream", get(stream))
        .fallback(async |uri: Uri| format!("fell back at {uri}"))
        .layer(layer);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    Served { address, running: tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() }) }
}

pub(super) fn policy() -> Policy {
    Policy::required()
        .at("/", Rule::public())
        .at("/optional", Rule::optional())
        .under("/admin", Rule::required().role("admin"))
        .method_at(Method::POST, "/me", Rule::required().scope("write"))
}

/// What is answered over HTTP/1.1 to these header lines: status, head in lower case, body.
async fn send(address: SocketAddr, method: &str, path: &str, headers: &[String]) -> (u16, String, String) {
    let headers = headers.concat();
    let request = format!("{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n{headers}\r\n");
    let answer = wire::raw(address, request.as_bytes(), |_| ()).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), head.to_ascii_lowercase(), body.to_owned())
}

fn authorization(token: &str) -> Vec<String> {
    vec![format!("authorization: Bearer {token}\r\n")]
}

#[tokio::test]
async fn each_route_is_held_to_its_rule() {
    let issuer = Issuer::new().await;
    let served = serve(VerifierLayer::new(issuer.verifier.clone(), policy())).await;
    let plain = authorization(&issuer.token("", &["user"]));
    let admin = authorization(&issuer.token("write", &["admin"]));
    let bad = authorization("x");
    let none = Vec::new();
    for (method, path, headers, status, body) in [
        ("GET", "/", &none, 200, Some("nobody")),
        ("GET", "/", &bad, 200, Some("nobody")),
        ("GET", "/?next=//x/../%2F", &none, 200, Some("nobody")),
        ("GET", "/me", &plain, 200, Some(SUBJECT)),
        ("GET", "/me", &none, 401, None),
        ("GET", "/me", &bad, 401, None),
        ("HEAD", "/me", &none, 401, None),
        ("POST", "/me", &plain, 403, None),
        ("POST", "/me", &admin, 200, Some(SUBJECT)),
        ("GET", "/admin", &admin, 200, Some(SUBJECT)),
        ("GET", "/admin", &plain, 403, None),
        ("GET", "/admin/", &plain, 403, None),
        ("GET", "/optional", &none, 200, Some("nobody")),
        ("GET", "/optional", &plain, 200, Some(SUBJECT)),
        ("GET", "/optional", &bad, 401, None),
        ("GET", "/nowhere", &none, 401, None),
        ("GET", "/nowhere", &plain, 200, Some("fell back at /nowhere")),
    ] {
        let answer = send(served.address, method, path, headers).await;
        assert_eq!(answer.0, status, "{method} {path} {headers:?}");
        if let Some(body) = body {
            assert_eq!(answer.2, body, "{method} {path} {headers:?}");
        }
    }
    issuer.expire();
    assert_eq!(send(served.address, "GET", "/me", &plain).await.0, 401);
}

#[tokio::test]
async fn a_denial_says_what_to_do_and_is_not_kept() {
    let issuer = Issuer::new().await;
    let served = serve(VerifierLayer::new(issuer.verifier.clone(), policy())).await;
    let (_, head, body) = send(served.address, "GET", "/me", &[]).await;
    assert!(head.contains("\r\nwww-authenticate: bearer\r\n"), "{head}");
    assert!(head.contains("\r\ncache-control: no-store"), "{head}");
    assert!(body.contains("send `authorization: Bearer <access token>`"), "{body}");
    let (_, head, body) = send(served.address, "POST", "/me", &authorization(&issuer.token("", &[]))).await;
    assert!(head.contains(r#"error="insufficient_scope", scope="write""#), "{head}");
    assert!(body.contains("needs the scope write"), "{body}");
    let good = issuer.token("", &[]);
    let twice = [authorization(&good), authorization(&good)].concat();
    let (status, head, _) = send(served.address, "GET", "/me", &twice).await;
    assert!(status == 401 && head.contains(r#"error="invalid_token""#), "{head}");
    let mut request = b"GET /me HTTP/1.1\r\nhost: test\r\nconnection: close\r\nauthorization: Bearer ".to_vec();
    request.extend_from_slice(b"\xff\xfe\r\n\r\n");
    assert!(wire::raw(served.address, &request, |_| ()).await.starts_with("HTTP/1.1 401"));
}

#[tokio::test]
async fn no_spelling_of_a_path_leads_around_its_rule() {
    let issuer = Issuer::new().await;
    // The worst case: what is not named is open.
    let policy = Policy::new(Rule::public()).under("/admin", Rule::required().role("admin"));
    let served = serve(VerifierLayer::new(issuer.verifier.clone(), policy)).await;
    let user = authorization(&issuer.token("", &["user"]));
    assert_eq!(send(served.address, "GET", "/admin", &user).await.0, 403);
    for odd in [
        "//admin",
        "/admin//",
        "/./admin",
        "/x/../admin",
        "/admin/../admin",
        "/%61dmin",
        "/adm%49n/../admin",
        "/%2fadmin",
        "/x/%2e%2e/admin",
        "/admin;x",
        "/..;/admin",
        "/admin%2f",
        "/admin%5c",
        "/%2561dmin",
        "/admin%00",
    ] {
        assert_eq!(send(served.address, "GET", odd, &user).await.0, 400, "{odd}");
    }
    // Another path to the policy and to the router alike.
    for other in ["/ADMIN", "/administrators", "/x%20y"] {
        let (status, _, body) = send(served.address, "GET", other, &user).await;
        assert_eq!((status, body), (200, format!("fell back at {other}")));
    }
}

#[tokio::test]
async fn a_streamed_body_is_cut_off_and_does_not_look_complete() {
    let issuer = Issuer::new().await;
    let served = serve(VerifierLayer::new(issuer.verifier.clone(), policy())).await;
    issuer.nearly_expire();
    let token = issuer.token("", &[]);
    let request = format!("GET /stream HTTP/1.1\r\nhost: test\r\nauthorization: Bearer {token}\r\n\r\n");
    let answer = wire::raw(served.address, request.as_bytes(), |so_far| {
        if so_far.contains("two\n") {
            issuer.expire();
        }
    });
    let answer = answer.await;
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.to_ascii_lowercase().contains("transfer-encoding: chunked"),
        "{answer}"
    );
    assert!(answer.contains("two\n") && !answer.ends_with("0\r\n\r\n"), "{answer}");
}
