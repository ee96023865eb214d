//! Handshakes that never end, and those that never begin.

use std::sync::Arc;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::rustls::{ClientConnection, pki_types::ServerName};

use super::{channel, connect, fetch, healthy, sqlite, with_tls};
use crate::{
    process::{
        client::Client,
        flood::{closed, crowd},
        harness::{BOUND, PROGRAM, Place, Server},
        web::get,
    },
    support::certificates::Authority,
};

/// What a client says first.
fn client_hello(authority: &Authority) -> Vec<u8> {
    let connector = authority.connector("h2", None);
    let name = ServerName::try_from("localhost").unwrap();
    let mut connection = ClientConnection::new(Arc::clone(connector.config()), name).unwrap();
    let mut hello = Vec::new();
    connection.write_tls(&mut hello).unwrap();
    hello
}

/// A server that may have 64 file descriptors, half as many as there are in a crowd.
async fn serve_with_few_descriptors(place: &Place) -> Server {
    Server::start(place.wrapped("/bin/sh", &["-c", "ulimit -n 64 && exec \"$0\" serve", PROGRAM])).await
}

#[tokio::test]
async fn handshakes_that_never_end_keep_nobody_away() {
    let ours = Authority::new("ours");
    let pair = ours.server();
    let place = with_tls(with_tls(sqlite().await, "grpc", &pair, None), "http", &pair, None);
    let ca = place.file("ours.pem", ours.pem());
    let server = serve_with_few_descriptors(&place).await;
    let connector = ours.connector("h2", None);
    let before = channel(connector.clone(), server.grpc).await.unwrap();
    healthy(&before).await.unwrap();

    let hello = client_hello(&ours);
    let mut crowds = Vec::new();
    for address in [server.grpc, server.http] {
        for sent in [&b""[..], &hello[..hello.len() / 2], &hello] {
            crowds.extend(crowd(address, sent).await);
            // While the newest of them are still there.
            healthy(&before).await.unwrap();
            healthy(&channel(connector.clone(), server.grpc).await.unwrap()).await.unwrap();
            assert_eq!(fetch(&format!("https://{}/readyz", server.http), &[&ca]).await.ok(), "ready\n");
        }
    }
    // Who did the handshake and then says nothing is a newcomer still.
    let mut mute = Vec::new();
    for _ in 0..32 {
        mute.extend(connect(&connector, server.grpc).await);
    }
    healthy(&channel(connector.clone(), server.grpc).await.unwrap()).await.unwrap();
    for stream in &mut mute {
        let reading = async { while stream.read(&mut [0; 1024]).await.is_ok_and(|read| read > 0) {} };
        timeout(BOUND, reading).await.expect("the connection is closed");
    }
    for stream in &mut crowds {
        closed(stream).await;
    }
    // Few enough that nobody pushes them out: their time is over.
    let mut few = Vec::new();
    for address in [server.grpc, server.http] {
        for sent in [&b""[..], &hello[..hello.len() / 2]] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(sent).await.unwrap();
            few.push(stream);
        }
    }
    for stream in &mut few {
        closed(stream).await;
    }
    let log = server.log.so_far();
    assert!(!log.iter().any(|line| line.contains("cannot accept")), "descriptors ran out: {log:#?}");
    server.stop().await;
    place.remove().await;
}

#[tokio::test]
async fn who_speaks_the_wrong_way_is_closed_and_harms_nobody() {
    let ours = Authority::new("ours");
    let plain_place = sqlite().await;
    let plain = plain_place.serve().await;
    let pair = ours.server();
    let place = with_tls(with_tls(sqlite().await, "grpc", &pair, None), "http", &pair, None);
    let server = place.serve().await;
    let hello = client_hello(&ours);
    for (address, sent) in [
        (plain.grpc, &hello[..]),
        (plain.http, &hello),
        (server.grpc, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"),
        (server.http, b"GET /readyz HTTP/1.1\r\nhost: test\r\n\r\n"),
        (server.grpc, &[0x16; 4096]),
        (server.http, &[0; 4096]),
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(sent).await.unwrap();
        closed(&mut stream).await;
    }
    // A protocol that a port does not speak, and none at all.
    assert!(connect(&ours.connector("http/1.1", None), server.grpc).await.is_err());
    assert!(connect(&ours.connector("h2", None), server.http).await.is_err());
    Client::of(&plain).await.join("ada@example.com").await;
    assert_eq!(get(&plain, "/readyz").await.status, 200);
    healthy(&channel(ours.connector("h2", None), server.grpc).await.unwrap()).await.unwrap();
    for (server, place) in [(plain, plain_place), (server, place)] {
        let quiet = |line: &String| line.contains("handshake") || line.contains("ERROR") || line.contains("closed");
        assert!(!server.log.so_far().iter().any(quiet), "{:#?}", server.log.so_far());
        server.stop().await;
        place.remove().await;
    }
}
