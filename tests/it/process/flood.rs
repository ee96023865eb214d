//! More callers than a process has file descriptors for, none of whom means it (FAULTS 12 and 20).

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::{
    client::Client,
    harness::{BOUND, PROGRAM, Place, Server},
    web::get,
};
use crate::{rpc::on_both_databases, support::Backend};

on_both_databases!(
    the_silent_are_sent_away_and_others_are_served,
    clients_that_do_not_read_keep_no_probe_away,
    a_full_node_serves_those_it_has_and_has_room_again,
);

/// Twice as many as there are file descriptors.
const CROWD: usize = 192;
/// Half of the file descriptors.
const PLACES: usize = 48;

/// A server that may have 96 file descriptors.
pub(super) async fn serve_with_few_descriptors(place: &Place) -> Server {
    let server = Server::start(place.wrapped("/bin/sh", &["-c", "ulimit -n 96 && exec \"$0\" serve", PROGRAM])).await;
    get(&server, "/readyz").await;
    server
}

pub(super) async fn crowd(address: SocketAddr, sent: &[u8]) -> Vec<TcpStream> {
    let mut crowd = Vec::new();
    for _ in 0..CROWD {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // A connection may be closed already.
        let _ = stream.write_all(sent).await;
        crowd.push(stream);
    }
    crowd
}

/// Waits until the server closes a connection.
pub(super) async fn closed(stream: &mut TcpStream) {
    let reading = async { while stream.read(&mut [0; 1024]).await.is_ok_and(|read| read > 0) {} };
    timeout(BOUND, reading).await.expect("the connection is closed");
}

async fn the_silent_are_sent_away_and_others_are_served(backend: Backend) {
    let place = Place::new(backend).await;
    let server = serve_with_few_descriptors(&place).await;
    let before = Client::of(&server).await;
    let tokens = before.join("ada@example.com").await;
    let mut silent = crowd(server.grpc, b"").await;
    silent.extend(crowd(server.grpc, b"PRI * HTTP/2").await);
    // While the newest of them are still there.
    let newcomer = Client::of(&server).await;
    newcomer.claims(&tokens.access_token).await;
    newcomer.join("bob@example.com").await;
    before.refresh(&tokens.refresh_token).await.unwrap();
    assert_eq!(get(&server, "/readyz").await.status, 200);
    for stream in &mut silent {
        closed(stream).await;
    }
    drop((before, newcomer));
    assert!(!server.log.so_far().iter().any(|line| line.contains("cannot accept")), "descriptors ran out");
    server.stop().await;
    place.remove().await;
}

async fn clients_that_do_not_read_keep_no_probe_away(backend: Backend) {
    let place = Place::new(backend).await;
    let server = serve_with_few_descriptors(&place).await;
    let pipelined = b"GET /.well-known/jwks.json HTTP/1.1\r\nhost: test\r\n\r\n".repeat(100);
    let mut crowds = Vec::new();
    for sent in [&pipelined[..], b"", b"GET /livez HTTP"] {
        crowds.push(crowd(server.http, sent).await);
        assert_eq!(get(&server, "/livez").await.status, 200);
        assert_eq!(get(&server, "/readyz").await.status, 200);
    }
    Client::of(&server).await.join("ada@example.com").await;
    for stream in crowds.iter_mut().flatten() {
        closed(stream).await;
    }
    assert!(!server.log.so_far().iter().any(|line| line.contains("cannot accept")), "descriptors ran out");
    server.stop().await;
    place.remove().await;
}

/// Those who speak HTTP/2 take the places there are. It is the others that go without, not the database or the probes.
async fn a_full_node_serves_those_it_has_and_has_room_again(backend: Backend) {
    let place = Place::new(backend).await;
    let server = serve_with_few_descriptors(&place).await;
    let before = Client::of(&server).await;
    let tokens = before.join("ada@example.com").await;
    // The preface, empty settings.
    let mut crowd = crowd(server.grpc, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
    let renewed = before.refresh(&tokens.refresh_token).await.unwrap();
    before.join("bob@example.com").await;
    assert_eq!(get(&server, "/readyz").await.status, 200);
    // Places come back: of those that were served, and of those for whom there was none.
    let mut refused = 0;
    for stream in &mut crowd {
        let mut first = [0];
        match timeout(BOUND, stream.read(&mut first)).await.expect("served or closed") {
            Ok(1) => {}
            Ok(_) | Err(_) => refused += 1,
        }
    }
    assert!(refused >= CROWD - PLACES, "{refused}");
    drop(crowd);
    let after = super::harness::until("there is room", async || Client::try_of(&server).await.ok()).await;
    after.refresh(&renewed.refresh_token).await.unwrap();
    drop((before, after));
    server.stop().await;
    place.remove().await;
}
