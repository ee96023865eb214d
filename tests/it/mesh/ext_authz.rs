//! `deploy/envoy/ext-authz.yaml` and `sidecar.toml`: Envoy asks `vouchsafe sidecar`.

use std::net::SocketAddr;

use http::uri::PathAndQuery;
use rustix::process::Signal;
use tonic::{Code, Request, Status};
use vouchsafe::pb::v1;

use super::{
    hostile::{DODGES, no_tokens},
    sidecar::{By, Sidecar},
    world::{Front, Issuer, SHORT_STREAMS, authorization},
};
use crate::process::{client::Client, harness::until, proxy::Proxy};

/// How long Envoy waits for the sidecar, which on a machine as busy as with tests may not be enough.
const PATIENCE: (&str, &str) = ("timeout: 0.2s", "timeout: 60s");

async fn mesh(issuer: &Issuer, service: SocketAddr, changes: &[(&str, &str)]) -> (Sidecar, Front) {
    let sidecar = Sidecar::start(&issuer.place, service, By::Tcp, changes).await;
    let [(from, to)] = &sidecar.found;
    let front = Front::start("ext-authz.yaml", &[(from, to), PATIENCE]).await;
    (sidecar, front)
}

#[tokio::test]
async fn ext_authz_lets_good_tokens_through_and_no_others() {
    let issuer = Issuer::start().await;
    let (sidecar, front) = mesh(&issuer, issuer.server.grpc, &[]).await;
    let tokens = issuer.ada().await;
    let claims = issuer.client.claims(&tokens.access_token).await;
    let (ada, root) = (authorization(&tokens), authorization(&issuer.root().await));

    let seen = front.let_through("/orders?token=1", &[ada.as_bytes()]).await;
    assert_eq!(seen.path, "/orders?token=1");
    assert_eq!(seen.all("x-vouchsafe-subject"), [&claims.subject]);
    assert_eq!(seen.all("x-vouchsafe-session"), [&claims.session_id]);
    assert_eq!(seen.all("x-vouchsafe-scope"), ["orders"]);
    assert_eq!(seen.all("x-vouchsafe-roles"), [""; 0]);
    assert_eq!(front.let_through("/admin", &[root.as_bytes()]).await.all("x-vouchsafe-roles"), ["admin"]);

    let answer = front.denied("/orders", &[]).await;
    assert_eq!((answer.status.as_u16(), answer.header("www-authenticate")), (401, "Bearer"));
    for bad in no_tokens(&tokens.access_token) {
        let answer = front.denied("/orders", &[&bad]).await;
        assert_eq!(answer.status, 401, "{}", bad.escape_ascii());
        assert!(answer.header("www-authenticate").starts_with("Bearer"), "{answer:?}");
    }
    let twice = front.denied("/orders", &[ada.as_bytes(), ada.as_bytes()]).await;
    assert_eq!(twice.status, 401, "two tokens are not one");
    let query = format!("/orders?access_token={}", tokens.access_token);
    assert_eq!(front.denied(&query, &[]).await.status, 401);
    let elsewhere = authorization(&issuer.ada_elsewhere().await);
    assert_eq!(front.denied("/orders", &[elsewhere.as_bytes()]).await.status, 401);
    assert_eq!(front.ask("DELETE", "/orders/7", &[ada.as_bytes()]).await.status, 200);
    let answer = front.ask("DELETE", "/orders/7", &[root.as_bytes()]).await;
    assert_eq!(answer.status, 403, "without the scope: {answer:?}");
    assert!(answer.header("www-authenticate").contains("insufficient_scope"), "{answer:?}");
    front.upstream.take();

    issuer.client.logout(&tokens.refresh_token).await.unwrap();
    until("the revocation is heard of", async || {
        let answer = front.get("/orders", &[ada.as_bytes()]).await;
        (answer.status == 401).then_some(())
    })
    .await;
    front.upstream.take();
    assert_eq!(front.denied("/orders", &[ada.as_bytes()]).await.status, 401);

    let logged = front.logged(|line| line["path"] == "/orders" && line["status"] == 200).await;
    assert_eq!(
        (&logged["subject"], &logged["session"]),
        (&claims.subject.into(), &claims.session_id.into()),
        "{logged}"
    );
    let logged = front.logged(|line| line["status"] == 401).await;
    assert_eq!((&logged["decision"], &logged["subject"]), (&"deny".into(), &serde_json::Value::Null), "{logged}");
    assert!(logged["reason"].is_string(), "{logged}");
    front.assert_no_token_logged();
    sidecar.assert_no_token_logged();
    issuer.server.stop().await;
    issuer.place.remove().await;
}

#[tokio::test]
async fn ext_authz_believes_no_header_and_no_spelling_of_a_path() {
    let issuer = Issuer::start().await;
    let (_sidecar, front) = mesh(&issuer, issuer.server.grpc, &[]).await;
    let tokens = issuer.ada().await;
    let subject = issuer.client.claims(&tokens.access_token).await.subject;
    let (ada, root) = (authorization(&tokens), authorization(&issuer.root().await));

    let forged: [&[u8]; 5] = [
        b"x-vouchsafe-subject: forged",
        b"X-VOUCHSAFE-Subject: again",
        b"x-vouchsafe-roles: admin",
        b"x-vouchsafe-session: forged",
        b"X-Vouchsafe-Anything: forged",
    ];
    let seen = front.let_through("/orders", &[&forged[..], &[ada.as_bytes()]].concat()).await;
    assert_eq!(seen.all("x-vouchsafe-subject"), [&subject]);
    assert_eq!(seen.names("x-vouchsafe-"), ["x-vouchsafe-scope", "x-vouchsafe-session", "x-vouchsafe-subject"]);
    for path in ["/public/news", "/healthz"] {
        let seen = front.let_through(path, &forged).await;
        assert!(seen.names("x-vouchsafe-").is_empty(), "{seen:?}");
        let seen = front.let_through(path, &[&forged[..], &[b"authorization: nonsense"]].concat()).await;
        assert!(seen.names("x-vouchsafe-").is_empty(), "{seen:?}");
    }
    assert_eq!(front.denied("/orders", &[b"x_vouchsafe_subject: forged", ada.as_bytes()]).await.status, 400);

    let seen = front.let_through("/public/./x/../y//%61", &[]).await;
    assert_eq!(seen.path, "/public/y/a", "the backend reads what was decided on");
    assert_eq!(front.denied("/orders%2fx", &[ada.as_bytes()]).await.status, 400);
    front.let_through("/admin", &[root.as_bytes()]).await;
    for path in DODGES.iter().chain(&["/%2561dmin", "/public/%252e%252e/admin", "/Admin/x/", "/public/x;/../../admin"])
    {
        for lines in [&[ada.as_bytes()][..], &[]] {
            let status = front.denied(path, lines).await.status.as_u16();
            assert!([400, 401, 403].contains(&status), "{path}: {status}");
        }
    }
    issuer.server.stop().await;
    issuer.place.remove().await;
}

/// What a token does not say nobody may say in its place.
#[tokio::test]
async fn ext_authz_lets_no_service_forge_a_session() {
    let issuer = Issuer::start().await;
    let (_sidecar, front) = mesh(&issuer, issuer.server.grpc, &[]).await;
    let service = format!("authorization: Bearer {}", issuer.service().await);
    let lines: [&[u8]; 4] = [
        service.as_bytes(),
        b"x-vouchsafe-session: forged",
        b"X-Vouchsafe-Roles: forged",
        b"x-vouchsafe-scope: forged",
    ];
    let seen = front.let_through("/orders", &lines).await;
    assert_eq!(seen.all("x-vouchsafe-subject").len(), 1);
    assert!(!format!("{seen:?}").contains("forged"), "{seen:?}");
    issuer.server.stop().await;
    issuer.place.remove().await;
}

#[tokio::test]
async fn ext_authz_ends_streams_and_serves_its_own_hosts_alone() {
    let issuer = Issuer::start().await;
    let sidecar = Sidecar::start(&issuer.place, issuer.server.grpc, By::Tcp, &[]).await;
    let [(from, to)] = &sidecar.found;
    let front =
        Front::start("ext-authz.yaml", &[&[(from.as_str(), to.as_str()), PATIENCE], &SHORT_STREAMS[..]].concat()).await;
    let tokens = issuer.ada().await;
    front.stream_until_it_is_cut(&format!("Bearer {}", tokens.access_token)).await;
    front.assert_only_own_hosts(&authorization(&tokens)).await;
    issuer.server.stop().await;
    issuer.place.remove().await;
}

#[tokio::test]
async fn ext_authz_guards_grpc() {
    let issuer = Issuer::start().await;
    let (_sidecar, front) = mesh(&issuer, issuer.server.grpc, &[]).await;
    let tokens = issuer.ada().await;
    let subject = issuer.client.claims(&tokens.access_token).await.subject;
    let bearer = format!("Bearer {}", tokens.access_token);

    let seen = front.call(&[("authorization", &bearer), ("x-vouchsafe-subject", "forged")]).await.unwrap();
    assert_eq!(seen.all("x-vouchsafe-subject"), [&subject]);
    assert_eq!(front.call_refused(&[]).await, Code::Unauthenticated);
    assert_eq!(
        front.call_refused(&[("authorization", &bearer), ("authorization", &bearer)]).await,
        Code::Unauthenticated
    );
    assert!(front.grpcurl(&[&authorization(&tokens)]).await.ok().contains("SERVING"));
    let refused = front.grpcurl(&[]).await;
    assert!(format!("{refused:?}").contains("Unauthenticated"), "{refused:?}");

    // The backend has no such method, and only who gets there hears so.
    assert_eq!(delete_order(&front, &tokens).await.code(), Code::PermissionDenied);
    assert_eq!(delete_order(&front, &issuer.root().await).await.code(), Code::Unimplemented);

    issuer.client.logout(&tokens.refresh_token).await.unwrap();
    until("the revocation is heard of", async || {
        let refused = front.call(&[("authorization", &bearer)]).await.err()?;
        assert_eq!(refused.code(), Code::Unauthenticated, "{refused:?}");
        Some(())
    })
    .await;
    issuer.server.stop().await;
    issuer.place.remove().await;
}

/// What an administrator alone may call.
async fn delete_order(front: &Front, tokens: &v1::TokenPair) -> Status {
    let mut client = tonic::client::Grpc::new(Client::at(front.envoy.ingress).await.unwrap().channel);
    let mut call = Request::new(());
    call.metadata_mut().insert("authorization", format!("Bearer {}", tokens.access_token).parse().unwrap());
    client.ready().await.unwrap();
    let path = PathAndQuery::from_static("/shop.v1.OrderService/DeleteOrder");
    client.unary(call, path, tonic_prost::ProstCodec::<(), ()>::default()).await.unwrap_err()
}

#[tokio::test]
async fn ext_authz_denies_while_the_sidecar_is_away() {
    let issuer = Issuer::start().await;
    let sidecar = Sidecar::start(&issuer.place, issuer.server.grpc, By::Socket, &[]).await;
    let [(from, to)] = &sidecar.found;
    let front = Front::start("ext-authz.yaml", &[(from, to)]).await;
    let tokens = issuer.ada().await;
    let (ada, bearer) = (authorization(&tokens), format!("Bearer {}", tokens.access_token));
    let passes = async || (front.get("/orders", &[ada.as_bytes()]).await.status == 200).then_some(());
    until("the sidecar answers in time", passes).await;
    front.upstream.take();

    sidecar.signal(Signal::STOP);
    // Its threads stop one after the other.
    let fails = async || (front.get("/orders", &[ada.as_bytes()]).await.status == 503).then_some(());
    until("the sidecar is frozen", fails).await;
    front.upstream.take();
    for path in ["/orders", "/public/news"] {
        assert_eq!(front.denied(path, &[ada.as_bytes()]).await.status, 503, "{path}");
    }
    sidecar.signal(Signal::CONT);
    until("the sidecar answers again", passes).await;
    front.upstream.take();

    sidecar.kill().await;
    for path in ["/orders", "/public/news", "/status/x"] {
        assert_eq!(front.denied(path, &[ada.as_bytes()]).await.status, 503, "{path}");
    }
    assert_eq!(front.call_refused(&[("authorization", &bearer)]).await, Code::Unavailable);

    // Its socket is still there, with nobody behind it.
    let _sidecar = Sidecar::start(&issuer.place, issuer.server.grpc, By::Socket, &[]).await;
    until("Envoy finds it again", passes).await;
    issuer.server.stop().await;
    issuer.place.remove().await;
}

#[tokio::test]
async fn ext_authz_goes_on_without_the_service_as_long_as_it_may() {
    let issuer = Issuer::start().await;
    let service = Proxy::to(issuer.server.grpc.to_string()).await;
    let short = [(r#"max_staleness = "30s""#, r#"max_staleness = "6s""#)];
    let (sidecar, front) = mesh(&issuer, service.address, &short).await;
    let tokens = issuer.ada().await;
    let (ada, bearer) = (authorization(&tokens), format!("Bearer {}", tokens.access_token));
    front.let_through("/orders", &[ada.as_bytes()]).await;

    let Issuer { place, server, .. } = issuer;
    server.kill().await;
    front.let_through("/orders", &[ada.as_bytes()]).await;
    let stale = until("it may have missed something", async || {
        let answer = front.get("/orders", &[ada.as_bytes()]).await;
        (answer.status != 200).then_some(answer)
    })
    .await;
    assert_eq!(stale.status, 503, "{stale:?}");
    front.upstream.take();
    assert_eq!(front.denied("/orders", &[ada.as_bytes()]).await.status, 503);
    assert_eq!(front.call_refused(&[("authorization", &bearer)]).await, Code::Unavailable);
    assert_eq!(front.denied("/orders", &[]).await.status, 401, "what needs no service is said as ever");
    front.let_through("/status/x", &[ada.as_bytes()]).await;
    front.let_through("/public/news", &[]).await;

    let server = place.serve().await;
    service.lead_to(server.grpc.to_string());
    until("the sidecar has caught up", async || {
        let answer = front.get("/orders", &[ada.as_bytes()]).await;
        (answer.status == 200).then_some(())
    })
    .await;
    sidecar.assert_no_token_logged();
    server.stop().await;
    place.remove().await;
}
