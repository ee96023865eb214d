//! `deploy/envoy/jwt-authn.yaml`: Envoy verifies tokens itself, with the keys of the HTTP port.

use serde_json::Value;
use tonic::Code;

use super::{
    hostile::{DODGES, no_tokens},
    world::{Front, Issuer, SHORT_STREAMS, authorization, port_value},
};
use crate::process::{client::kid, harness::until};

async fn front(issuer: &Issuer) -> Front {
    changed_front(issuer, &[]).await
}

async fn changed_front(issuer: &Issuer, changes: &[(&str, &str)]) -> Front {
    let keys = port_value(issuer.server.http.port());
    let fast = [("port_value: 50052 ", keys.as_str()), ("cache_duration: 60s", "cache_duration: 1s")];
    Front::start("jwt-authn.yaml", &[&fast[..], changes].concat()).await
}

#[tokio::test]
async fn jwt_authn_lets_good_tokens_through_and_no_others() {
    let issuer = Issuer::start().await;
    let front = front(&issuer).await;
    let tokens = issuer.ada().await;
    let claims = issuer.client.claims(&tokens.access_token).await;
    let ada = authorization(&tokens);

    let seen = front.let_through("/orders?token=1", &[ada.as_bytes()]).await;
    assert_eq!(seen.path, "/orders?token=1");
    assert_eq!(seen.all("x-vouchsafe-subject"), [&claims.subject]);
    assert_eq!(seen.all("x-vouchsafe-session"), [&claims.session_id]);
    assert_eq!(seen.all("x-vouchsafe-scope"), ["orders"]);
    assert_eq!(seen.all("authorization"), [ada.strip_prefix("authorization: ").unwrap()]);
    assert_eq!(payload(seen.all("x-vouchsafe-claims")[0])["roles"], serde_json::json!([]));

    let answer = front.denied("/orders", &[]).await;
    assert_eq!(answer.status, 401);
    assert!(answer.header("www-authenticate").starts_with("Bearer"), "{answer:?}");
    for bad in no_tokens(&tokens.access_token) {
        let answer = front.denied("/orders", &[&bad]).await;
        assert_eq!(answer.status, 401, "{}", bad.escape_ascii());
    }
    let twice = front.denied("/orders", &[ada.as_bytes(), ada.as_bytes()]).await;
    assert_eq!(twice.status, 401, "two tokens are not one");
    let query = format!("/orders?access_token={}", tokens.access_token);
    assert_eq!(front.denied(&query, &[]).await.status, 401);
    let elsewhere = authorization(&issuer.ada_elsewhere().await);
    assert_eq!(front.denied("/orders", &[elsewhere.as_bytes()]).await.status, 403);

    // What the file says: jwt_authn hears of no revocation.
    issuer.client.logout(&tokens.refresh_token).await.unwrap();
    issuer.client.inactive(&tokens.access_token).await;
    front.let_through("/orders", &[ada.as_bytes()]).await;

    let logged = front.logged(|line| line["path"] == "/orders" && line["status"] == 200).await;
    assert_eq!(
        (&logged["subject"], &logged["session"]),
        (&claims.subject.into(), &claims.session_id.into()),
        "{logged}"
    );
    front.assert_no_token_logged();
    issuer.server.stop().await;
    issuer.place.remove().await;
}

/// What base64url of JSON says.
fn payload(text: &str) -> Value {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).unwrap()).unwrap()
}

#[tokio::test]
async fn jwt_authn_believes_no_header_and_no_spelling_of_a_path() {
    let issuer = Issuer::start().await;
    let front = front(&issuer).await;
    let tokens = issuer.ada().await;
    let subject = issuer.client.claims(&tokens.access_token).await.subject;
    let (ada, root) = (authorization(&tokens), authorization(&issuer.root().await));

    let forged: [&[u8]; 5] = [
        b"x-vouchsafe-subject: forged",
        b"X-VOUCHSAFE-Subject: again",
        b"x-vouchsafe-claims: forged",
        b"x-vouchsafe-roles: admin",
        b"X-Vouchsafe-Anything: forged",
    ];
    let seen = front.let_through("/orders", &[&forged[..], &[ada.as_bytes()]].concat()).await;
    assert_eq!(seen.all("x-vouchsafe-subject"), [&subject]);
    let names = ["x-vouchsafe-claims", "x-vouchsafe-scope", "x-vouchsafe-session", "x-vouchsafe-subject"];
    assert_eq!(seen.names("x-vouchsafe-"), names);
    for path in ["/public/news", "/healthz"] {
        let seen = front.let_through(path, &forged).await;
        assert!(seen.names("x-vouchsafe-").is_empty(), "{seen:?}");
    }
    assert_eq!(front.denied("/orders", &[b"x_vouchsafe_subject: forged", ada.as_bytes()]).await.status, 400);

    let seen = front.let_through("/public/./x/../y//%61", &[]).await;
    assert_eq!(seen.path, "/public/y/a", "the backend reads what was decided on");
    assert_eq!(front.denied("/orders%2fx", &[ada.as_bytes()]).await.status, 400);
    front.let_through("/admin", &[root.as_bytes()]).await;
    for path in DODGES {
        let status = front.denied(path, &[ada.as_bytes()]).await.status.as_u16();
        assert!([400, 403].contains(&status), "{path}: {status}");
        let status = front.denied(path, &[]).await.status.as_u16();
        assert!([400, 401].contains(&status), "{path}: {status}");
    }
    issuer.server.stop().await;
    issuer.place.remove().await;
}

/// What a token does not say nobody may say in its place.
#[tokio::test]
async fn jwt_authn_lets_no_service_forge_a_session() {
    let issuer = Issuer::start().await;
    // Underscores get as far as the filters, as they do where nothing refuses them.
    let allowed = ("headers_with_underscores_action: REJECT_REQUEST", "headers_with_underscores_action: ALLOW");
    let front = changed_front(&issuer, &[allowed]).await;
    let service = format!("authorization: Bearer {}", issuer.service().await);
    let lines: [&[u8]; 7] = [
        service.as_bytes(),
        b"x-vouchsafe-session: forged",
        b"X-Vouchsafe-Roles: forged",
        b"x_vouchsafe_session: forged",
        b"X-Vouchsafe_Roles: forged",
        b"x_vouchsafe-subject: forged",
        b"x-vouchsafe-scope: forged",
    ];
    let seen = front.let_through("/orders", &lines).await;
    let claims = payload(seen.all("x-vouchsafe-claims")[0]);
    assert_eq!(claims["sid"], Value::Null, "{claims}");
    assert_eq!(seen.all("x-vouchsafe-subject"), [claims["sub"].as_str().unwrap()]);
    assert_eq!(seen.all("x-vouchsafe-session"), [""; 0]);
    assert!(!format!("{seen:?}").contains("forged"), "{seen:?}");
    for path in ["/public/news", "/healthz"] {
        let seen = front.let_through(path, &lines).await;
        assert!(!format!("{seen:?}").contains("forged"), "{seen:?}");
    }
    issuer.server.stop().await;
    issuer.place.remove().await;
}

#[tokio::test]
async fn jwt_authn_ends_streams_and_serves_its_own_hosts_alone() {
    let issuer = Issuer::start().await;
    let front = changed_front(&issuer, &SHORT_STREAMS).await;
    let tokens = issuer.ada().await;
    front.stream_until_it_is_cut(&format!("Bearer {}", tokens.access_token)).await;
    front.assert_only_own_hosts(&authorization(&tokens)).await;
    issuer.server.stop().await;
    issuer.place.remove().await;
}

#[tokio::test]
async fn jwt_authn_guards_grpc_and_follows_the_keys() {
    let issuer = Issuer::start().await;
    let front = front(&issuer).await;
    let tokens = issuer.ada().await;
    let subject = issuer.client.claims(&tokens.access_token).await.subject;
    let bearer = format!("Bearer {}", tokens.access_token);

    let seen = front.call(&[("authorization", &bearer), ("x-vouchsafe-subject", "forged")]).await.unwrap();
    assert_eq!(seen.all("x-vouchsafe-subject"), [&subject]);
    assert_eq!(front.call_refused(&[]).await, Code::Unauthenticated);
    let elsewhere = format!("Bearer {}", issuer.ada_elsewhere().await.access_token);
    assert_eq!(front.call_refused(&[("authorization", &elsewhere)]).await, Code::PermissionDenied);
    assert!(front.grpcurl(&[&authorization(&tokens)]).await.ok().contains("SERVING"));
    let refused = front.grpcurl(&[]).await;
    assert!(format!("{refused:?}").contains("Unauthenticated"), "{refused:?}");

    // A new key is known before it signs.
    let old = kid(&tokens.access_token);
    issuer.place.run(&["keys", "rotate"]).await.ok();
    let new = until("the new key signs", async || {
        let tokens = issuer.ada().await;
        front.let_through("/orders", &[authorization(&tokens).as_bytes()]).await;
        (kid(&tokens.access_token) != old).then_some(tokens)
    })
    .await;
    front.let_through("/orders", &[authorization(&new).as_bytes()]).await;
    front.let_through("/orders", &[authorization(&tokens).as_bytes()]).await;
    issuer.server.stop().await;
    issuer.place.remove().await;
}
