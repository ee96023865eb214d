//! Whom the sidecar lets through.

use envoy_types::pb::envoy::{
    config::core::v3::{HeaderMap, HeaderValue},
    service::auth::v3::attribute_context::HttpRequest,
};

use super::world::{Answer, Sidecar, request, token};
use crate::{
    process::harness::until,
    support::{Backend, TestNode},
};

const POLICY: &str = r#"
[[routes]]
path = "/admin/**"
roles = ["admin"]

[[routes]]
path = "/write"
scopes = ["orders:write"]

[[routes]]
path = "/public/**"
access = "public"

[[routes]]
path = "/maybe"
access = "optional"

[[routes]]
path = "/host"
hosts = ["open.example.com"]
access = "public"

[headers.claims]
"x-user-acr" = "acr"
"#;

fn with(mut request: HttpRequest, headers: &[(&str, &str)]) -> HttpRequest {
    request.headers.extend(headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    request
}

fn raw(request: HttpRequest, values: &[&[u8]]) -> HttpRequest {
    let headers = values.iter().map(|value| HeaderValue {
        key: "authorization".into(),
        raw_value: value.to_vec(),
        ..HeaderValue::default()
    });
    HttpRequest { header_map: Some(HeaderMap { headers: headers.collect() }), ..request }
}

#[tokio::test]
async fn a_request_goes_on_with_who_calls_and_nothing_forged() {
    let node = TestNode::start(Backend::Sqlite).await;
    let sidecar = Sidecar::beside(&node, POLICY).await;
    let user = node.register("ada@example.com").await;
    let pair = node.login("ada@example.com").await;

    let denied = sidecar.get("/orders", None).await;
    assert_eq!(denied.status, 401);
    assert_eq!(denied.headers["www-authenticate"], "Bearer");
    assert_eq!(denied.headers["cache-control"], "no-store");

    let forged = [("x-vouchsafe-subject", "root"), ("x-vouchsafe-roles", "admin"), ("x_vouchsafe_scope", "all")];
    let allowed = sidecar.check(with(request("/orders", Some(&pair.access_token)), &forged)).await;
    assert_eq!(allowed.status, 200, "{allowed:?}");
    assert_eq!(allowed.headers["x-vouchsafe-subject"], user.id);
    assert_eq!(allowed.headers["x-vouchsafe-session"], pair.session_id);
    // Whoever registers has none.
    assert!(allowed.removed.contains("x-vouchsafe-roles"), "{allowed:?}");
    assert_eq!(allowed.headers["x-user-acr"], "aal1");
    assert!(allowed.removed.contains("x_vouchsafe_scope") && allowed.removed.contains("x-vouchsafe-scope"));

    let anonymous = sidecar.check(with(request("/public/x", Some(&pair.access_token)), &forged)).await;
    assert_eq!((anonymous.status, anonymous.headers.len()), (200, 0));
    for name in ["x-vouchsafe-subject", "x-vouchsafe-session", "x-vouchsafe-roles", "x-vouchsafe-scope", "x-user-acr"] {
        assert!(anonymous.removed.contains(name), "{name}");
    }
    sidecar.stop().await;
    node.remove().await;
}

#[tokio::test]
async fn a_session_that_is_ended_gets_nowhere() {
    let node = TestNode::start(Backend::Sqlite).await;
    let sidecar = Sidecar::on_socket(&node, POLICY).await;
    node.register("ada@example.com").await;
    let (ended, other) = (node.login("ada@example.com").await, node.login("ada@example.com").await);
    assert_eq!(sidecar.get("/maybe", Some(&ended.access_token)).await.status, 200);
    node.logout(&ended.refresh_token).await.unwrap();
    until("the revocation is there", async || {
        (sidecar.get("/maybe", Some(&ended.access_token)).await.status == 401).then_some(())
    })
    .await;
    assert_eq!(sidecar.get("/maybe", Some(&other.access_token)).await.status, 200);
    let dir = sidecar.stop().await;
    assert!(!dir.path().join("s").exists(), "the socket is gone with the sidecar");
    node.remove().await;
}

#[tokio::test]
async fn a_route_decides_however_its_path_is_spelled() {
    let node = TestNode::start(Backend::Sqlite).await;
    let sidecar = Sidecar::beside(&node, POLICY).await;
    let user = token(&node, &["user"], "").await;
    let admin = token(&node, &["user", "admin"], "orders:write").await;
    let status = async |path: &str, token: Option<&str>| sidecar.get(path, token).await.status;

    for path in
        ["/admin", "//admin", "/%61dmin", "/ADMIN", "/admin/", "/x/../admin", "/public/../admin/x", "/admin?a=b"]
    {
        assert_eq!(status(path, None).await, 401, "{path}");
        assert_eq!(status(path, Some(&user)).await, 403, "{path}");
        assert_eq!(status(path, Some(&admin)).await, 200, "{path}");
    }
    for path in ["admin", "", "/public/%2e%2e/admin", "/public%2fadmin", "/public\\admin", "/public/..;/admin", "/%00"]
    {
        assert_eq!(status(path, Some(&admin)).await, 400, "{path}");
    }
    assert_eq!(sidecar.get("/admin", Some(&admin)).await.headers["x-vouchsafe-roles"], "user,admin");
    assert_eq!((status("/write", Some(&user)).await, status("/write", Some(&admin)).await), (403, 200));
    assert_eq!((status("/maybe", None).await, status("/maybe", Some("junk")).await), (200, 401));
    assert_eq!((status("/public/x", None).await, status("/PUBLIC/x", None).await), (200, 401));

    let host = async |host: &str| -> Answer {
        sidecar.check(HttpRequest { host: host.into(), ..request("/host", None) }).await
    };
    assert_eq!((host("OPEN.example.com:8080").await.status, host("x.open.example.com").await.status), (200, 401));
    assert_eq!(host("open.example.com@evil").await.status, 400);
    sidecar.stop().await;
    node.remove().await;
}

#[tokio::test]
async fn a_token_that_is_not_clearly_one_is_none() {
    let node = TestNode::start(Backend::Sqlite).await;
    let sidecar = Sidecar::beside(&node, POLICY).await;
    let bearer = format!("Bearer {}", token(&node, &["user"], "").await);
    let twice = with(request("/maybe", None), &[("authorization", &format!("{bearer},{bearer}"))]);
    let bytes = bearer.as_bytes();
    for unclear in [
        twice,
        raw(request("/maybe", None), &[bytes, bytes]),
        raw(request("/maybe", None), &[b"Bearer \xff\xfe"]),
        raw(request("/maybe", None), &[bytes, b"Basic x"]),
    ] {
        assert_eq!(sidecar.check(unclear).await.status, 401);
    }
    assert_eq!(sidecar.check(raw(request("/maybe", None), &[bytes])).await.status, 200);
    sidecar.stop().await;
    node.remove().await;
}
