use std::net::SocketAddr;

use tokio::{io::AsyncWriteExt as _, task::yield_now};
use tokio_stream::StreamExt as _;

use super::*;

const BOUND: Duration = Duration::from_mins(1);
/// Nothing of what the tests wait for is waiting for one of these.
const LONG: Duration = Duration::from_hours(1);
const ROOMY: Bounds = Bounds { connections: 8, newcomers: 8, handshake: LONG, lifetime: LONG };

async fn start(bounds: Bounds) -> (SocketAddr, ReceiverStream<io::Result<Connection>>, CancellationToken) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let metrics = Arc::new(Metrics::new([], crate::domain::time::Timestamp::default()));
    (address, accept(listener, bounds, stop.clone(), &metrics), stop)
}

async fn connect(address: SocketAddr, sent: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(sent).await.unwrap();
    stream
}

async fn next(incoming: &mut ReceiverStream<io::Result<Connection>>) -> Connection {
    timeout(BOUND, incoming.next()).await.expect("a connection is given out").unwrap().unwrap()
}

/// Waits until the other side closes the connection.
async fn closed(stream: &mut TcpStream) {
    let read = timeout(BOUND, stream.read(&mut [0])).await.expect("the connection is closed");
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
}

#[tokio::test]
async fn what_was_read_to_look_at_it_is_read_again() {
    let (address, mut incoming, _stop) = start(ROOMY).await;
    let mut client = connect(address, &PREFACE[..10]).await;
    yield_now().await;
    client.write_all(&PREFACE[10..]).await.unwrap();
    client.write_all(b"and more").await.unwrap();
    let mut server = next(&mut incoming).await;
    assert_eq!(server.connect_info().remote_addr(), Some(client.local_addr().unwrap()));
    let mut read = [0; 32];
    // In small pieces.
    for piece in read.chunks_mut(5) {
        server.read_exact(piece).await.unwrap();
    }
    assert_eq!(read, *b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nand more");
    server.write_all(b"answer").await.unwrap();
    let mut answer = [0; 6];
    client.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"answer");
}

#[tokio::test]
async fn what_does_not_speak_http2_is_closed() {
    let (address, _incoming, _stop) = start(ROOMY).await;
    closed(&mut connect(address, b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await).await;
    let (address, _incoming, _stop) = start(Bounds { handshake: Duration::from_millis(50), ..ROOMY }).await;
    for sent in [&b""[..], b"P", &PREFACE[..23]] {
        closed(&mut connect(address, sent).await).await;
    }
}

#[tokio::test]
async fn the_silent_keep_nobody_waiting() {
    let (address, mut incoming, _stop) = start(Bounds { newcomers: 3, connections: 40, ..ROOMY }).await;
    let mut silent = Vec::new();
    let mut served = Vec::new();
    for _ in 0..30 {
        for _ in 0..5 {
            silent.push(connect(address, b"PRI").await);
        }
        served.push((connect(address, &PREFACE).await, next(&mut incoming).await));
    }
    for stream in &mut silent[..100] {
        closed(stream).await;
    }
}

#[tokio::test]
async fn places_are_bounded_and_come_back() {
    let (address, mut incoming, _stop) = start(Bounds { connections: 2, ..ROOMY }).await;
    let _clients = [connect(address, &PREFACE).await, connect(address, &PREFACE).await];
    let (first, _second) = (next(&mut incoming).await, next(&mut incoming).await);
    let mut third = connect(address, &PREFACE).await;
    third.write_all(b"3").await.unwrap();
    let waiting = incoming.next();
    tokio::pin!(waiting);
    // A fourth that is closed shows that the third was seen, and still waits.
    closed(&mut connect(address, b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await).await;
    assert!(futures_util::poll!(&mut waiting).is_pending());
    drop(first);
    let mut third = timeout(BOUND, waiting).await.unwrap().unwrap().unwrap();
    let mut read = [0; 25];
    third.read_exact(&mut read).await.unwrap();
    assert_eq!(read[24], b'3');

    let short = Bounds { connections: 1, handshake: Duration::from_millis(50), ..ROOMY };
    let (address, mut incoming, _stop) = start(short).await;
    let _client = connect(address, &PREFACE).await;
    let _holds = next(&mut incoming).await;
    closed(&mut connect(address, &PREFACE).await).await;
}

#[tokio::test]
async fn a_connection_ends_whatever_its_peer_does() {
    let (address, mut incoming, _stop) = start(Bounds { lifetime: Duration::from_millis(50), ..ROOMY }).await;
    let _reads_nothing = connect(address, &PREFACE).await;
    let mut writer = next(&mut incoming).await;
    let much = vec![0; 1 << 16];
    let fill = async { while writer.write(&much).await.is_ok() {} };
    timeout(BOUND, fill).await.expect("writing ends");
    let _says_nothing = connect(address, &PREFACE).await;
    let mut reader = next(&mut incoming).await;
    reader.read_exact(&mut [0; PREFACE.len()]).await.unwrap();
    let error = timeout(BOUND, reader.read(&mut [0])).await.expect("reading ends").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
}

#[tokio::test]
async fn a_stop_closes_the_listener_and_those_who_have_said_nothing() {
    let (address, mut incoming, stop) = start(ROOMY).await;
    let mut mute = connect(address, b"").await;
    let _client = connect(address, &PREFACE).await;
    let _server = next(&mut incoming).await;
    stop.cancel();
    closed(&mut mute).await;
    assert!(timeout(BOUND, incoming.next()).await.unwrap().is_none());
    let refused = async { while TcpStream::connect(address).await.is_ok() {} };
    timeout(BOUND, refused).await.expect("the listener is closed");
}
