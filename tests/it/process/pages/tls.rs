//! Pages over TLS: what is agreed on is what is spoken, and where no page may call HTTP/1.1 is not on offer.

use http::Method;
use vouchsafe::pb::v1;

use super::{APP, AUTH, BINARY, Browser, place, register};
use crate::{
    process::{
        harness::Place,
        tls::{channel, connect, healthy, with_tls},
    },
    support::{Backend, certificates::Authority, wire::frame},
};

#[tokio::test]
async fn over_tls_pages_choose_the_version_and_others_go_on_as_before() {
    let ours = Authority::new("ours");
    let place = with_tls(place().await, "grpc", &ours.server(), None);
    let server = place.serve().await;
    let stream = connect(&ours.connector("http/1.1", None), server.grpc).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let mut browser = Browser::over(stream, server.grpc).await;
    let path = format!("{AUTH}/Register");
    let registered = browser.call(BINARY, &path, None, &register("ada@example.com")).await;
    assert_eq!(registered.message::<v1::RegisterResponse>().user.unwrap().email, "ada@example.com");
    // Which HTTP is spoken changes nothing about who may call.
    let headers = [("content-type", BINARY), ("origin", "https://evil.test")];
    let refused = browser.ask(Method::POST, &path, &headers, frame(&register("bob@example.com"))).await;
    assert_eq!(refused.status, 403);

    let stream = connect(&ours.connector("h2", None), server.grpc).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (mut sender, connection) = hyper::client::conn::http2::handshake(
        hyper_util::rt::TokioExecutor::new(),
        hyper_util::rt::TokioIo::new(stream),
    )
    .await
    .unwrap();
    tokio::spawn(connection);
    let request = http::Request::post(format!("https://{}{path}", server.grpc))
        .header("content-type", BINARY)
        .header("origin", APP)
        .body(http_body_util::Full::new(hyper::body::Bytes::from(frame(&register("bob@example.com")))))
        .unwrap();
    let answer = sender.send_request(request).await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), answer.headers()["access-control-allow-origin"].as_bytes()),
        (200, APP.as_bytes())
    );
    healthy(&channel(ours.connector("h2", None), server.grpc).await.unwrap()).await.unwrap();
    drop((browser, sender));
    server.stop().await;
    place.remove().await;
}

#[tokio::test]
async fn without_pages_tls_offers_http2_alone() {
    let ours = Authority::new("ours");
    let place = with_tls(Place::new(Backend::Sqlite).await, "grpc", &ours.server(), None);
    let server = place.serve().await;
    let refused = connect(&ours.connector("http/1.1", None), server.grpc).await.unwrap_err();
    assert!(refused.to_string().contains("NoApplicationProtocol"), "{refused}");
    healthy(&channel(ours.connector("h2", None), server.grpc).await.unwrap()).await.unwrap();
    server.stop().await;
    place.remove().await;
}
