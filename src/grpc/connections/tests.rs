use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    task::yield_now,
};
use tokio_rustls::rustls;
use tokio_stream::StreamExt as _;

use super::{greeting::PREFACE, *};
use crate::config::{Sources, load};

const BOUND: Duration = Duration::from_mins(1);
/// Nothing of what the tests wait for is waiting for one of these.
const LONG: Duration = Duration::from_hours(1);
const ROOMY: Bounds = Bounds { connections: 8, newcomers: 8, handshake: LONG, lifetime: LONG };

/// One that pages may call: those who speak HTTP/1.1 are given out too.
async fn start_for_pages(
    bounds: Bounds,
) -> (SocketAddr, ReceiverStream<io::Result<Connection>>, mpsc::Receiver<Connection>, CancellationToken) {
    let (http1, pages) = mpsc::channel(8);
    let (address, incoming, stop) = start_at(None, bounds, Some(http1)).await;
    (address, incoming, pages, stop)
}

async fn start(bounds: Bounds) -> (SocketAddr, ReceiverStream<io::Result<Connection>>, CancellationToken) {
    start_with(None, bounds).await
}

async fn start_with(
    tls: Option<Acceptor>,
    bounds: Bounds,
) -> (SocketAddr, ReceiverStream<io::Result<Connection>>, CancellationToken) {
    start_at(tls, bounds, None).await
}

async fn start_at(
    tls: Option<Acceptor>,
    bounds: Bounds,
    http1: Option<mpsc::Sender<Connection>>,
) -> (SocketAddr, ReceiverStream<io::Result<Connection>>, CancellationToken) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let metrics = Arc::new(Metrics::new([], crate::domain::time::Timestamp::default()));
    (address, accept(listener, tls, bounds, http1, stop.clone(), &metrics), stop)
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
    assert_eq!(server.connect_info().address(), Some(client.local_addr().unwrap()));
    #[cfg(target_os = "linux")]
    {
        let socket = SockRef::from(tls::tcp(server.stream.get_ref()));
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(NOT_TAKEN));
    }
    let mut read = [0; 32];
    // In small pieces.
    for piece in read.chunks_mut(5) {
        server.read_exact(piece).await.unwrap();
    }
    assert_eq!(read, *b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nand more");
    server.write_all(b"answer").await.unwrap();
    server.flush().await.unwrap();
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

/// TLS with a certificate of an authority's, which also signs what clients must show; and a client's side with or without one.
struct Secured {
    acceptor: Acceptor,
    authority: rcgen::CertifiedIssuer<'static, rcgen::KeyPair>,
}

impl Secured {
    fn new() -> Self {
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority = rcgen::CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate().unwrap()).unwrap();
        let (certificate, key) = Self::signed(&authority);
        let dir = tempfile::tempdir().unwrap();
        let sets = [("tls_cert", certificate.pem()), ("tls_key", key.serialize_pem()), ("client_ca", authority.pem())];
        let sets = sets.map(|(name, content)| {
            let path = dir.path().join(name);
            std::fs::write(&path, content).unwrap();
            format!("grpc.{name}={}", path.display())
        });
        let sources = Sources { file: None, env: Vec::new(), sets: sets.into(), data_dir: Some("d".to_owned()) };
        let acceptor = tls::Ports::load(&load(sources).unwrap()).unwrap().grpc().unwrap();
        Self { acceptor, authority }
    }

    fn signed(authority: &rcgen::CertifiedIssuer<'static, rcgen::KeyPair>) -> (rcgen::Certificate, rcgen::KeyPair) {
        let (mut params, key) =
            (rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap(), rcgen::KeyPair::generate().unwrap());
        params.distinguished_name.push(rcgen::DnType::CommonName, "signed");
        (params.signed_by(&key, authority).unwrap(), key)
    }

    /// Speaks TLS and then HTTP/2 to the address.
    async fn client(
        &self,
        address: SocketAddr,
        own: Option<(&rcgen::Certificate, &rcgen::KeyPair)>,
    ) -> io::Result<impl AsyncRead> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.authority.der().clone()).unwrap();
        let builder =
            rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(roots);
        let config = match own {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let key = rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der());
                builder.with_client_auth_cert(vec![certificate.der().clone()], key.into()).unwrap()
            }
        };
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let stream = TcpStream::connect(address).await.unwrap();
        let mut stream = connector.connect("localhost".try_into().unwrap(), stream).await?;
        stream.write_all(&PREFACE).await?;
        stream.flush().await?;
        Ok(stream)
    }
}

#[tokio::test]
async fn who_proved_to_hold_a_certificate_is_known_by_it() {
    let secured = Secured::new();
    let (address, mut incoming, _stop) = start_with(Some(secured.acceptor.clone()), ROOMY).await;
    let (certificate, key) = Secured::signed(&secured.authority);
    let _client = secured.client(address, Some((&certificate, &key))).await.unwrap();
    let server = next(&mut incoming).await;
    let peer = server.connect_info();
    assert_eq!(peer.certificates(), Some(&[certificate.der().clone()][..]));
    assert!(peer.address().is_some_and(|address| address.ip().is_loopback()));

    let (address, mut incoming, _stop) = start(ROOMY).await;
    let _client = connect(address, &PREFACE).await;
    assert_eq!(next(&mut incoming).await.connect_info().certificates(), None);
}

#[tokio::test]
async fn who_shows_no_certificate_or_anothers_is_closed() {
    let (secured, other) = (Secured::new(), Secured::new());
    let (address, mut incoming, stop) = start_with(Some(secured.acceptor.clone()), ROOMY).await;
    let (certificate, key) = Secured::signed(&other.authority);
    for own in [None, Some((&certificate, &key))] {
        // By TLS 1.3 a client hears of it only when it reads.
        if let Ok(mut client) = secured.client(address, own).await {
            let read = timeout(BOUND, client.read(&mut [0])).await.expect("the connection is closed");
            assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
        }
    }
    stop.cancel();
    assert!(timeout(BOUND, incoming.next()).await.unwrap().is_none(), "none of them got in");
}

const HEAD: &[u8] = b"POST / HTTP/1.1\r\nhost: localhost\r\n\r\n";

#[tokio::test]
async fn pages_have_a_door_of_their_own_and_share_the_places() {
    let (address, mut incoming, mut pages, _stop) = start_for_pages(Bounds { connections: 2, ..ROOMY }).await;
    let mut page = connect(address, HEAD).await;
    page.write_all(b"body").await.unwrap();
    let mut served = timeout(BOUND, pages.recv()).await.unwrap().unwrap();
    let mut read = vec![0; HEAD.len() + 4];
    for piece in read.chunks_mut(5) {
        served.read_exact(piece).await.unwrap();
    }
    assert_eq!(read, [HEAD, b"body"].concat());
    assert_eq!(served.connect_info().address(), Some(page.local_addr().unwrap()));

    // Pages have half of the places: the next waits, and whoever speaks HTTP/2 does not.
    let mut waits = connect(address, HEAD).await;
    let _client = connect(address, &PREFACE).await;
    let _server = next(&mut incoming).await;
    let waiting = pages.recv();
    tokio::pin!(waiting);
    assert!(futures_util::poll!(&mut waiting).is_pending());
    drop(served);
    let served = timeout(BOUND, waiting).await.unwrap().unwrap();
    assert_eq!(served.connect_info().address(), Some(waits.local_addr().unwrap()));
    drop(served);
    closed(&mut waits).await;
}

#[tokio::test]
async fn whoever_sends_a_head_slowly_takes_no_place_and_keeps_nobody_waiting() {
    let bounds = Bounds { newcomers: 3, connections: 1, ..ROOMY };
    let (address, _incoming, mut pages, _stop) = start_for_pages(bounds).await;
    let mut slow = Vec::new();
    for _ in 0..30 {
        for _ in 0..5 {
            slow.push(connect(address, &HEAD[..HEAD.len() - 1]).await);
        }
        let _page = connect(address, HEAD).await;
        timeout(BOUND, pages.recv()).await.expect("there is a place").unwrap();
    }
    for stream in &mut slow[..100] {
        closed(stream).await;
    }
    let bounds = Bounds { handshake: Duration::from_millis(50), ..ROOMY };
    let (address, _incoming, _pages, _stop) = start_for_pages(bounds).await;
    for sent in [&b""[..], b"P", b"POST / HTTP/1.1\r\n", &HEAD[..HEAD.len() - 1]] {
        closed(&mut connect(address, sent).await).await;
    }
}
