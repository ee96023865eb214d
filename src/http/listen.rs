//! Connections of the HTTP port: one request each, and never so many that a probe finds no place.

use std::time::Duration;

use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{
        conn::auto,
        graceful::{GracefulShutdown, Watcher},
    },
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    grpc::{Newcomers, descriptors},
    tls::{self, Acceptor, Stream},
};

/// How long answers under way may take at shutdown.
const DRAIN: Duration = Duration::from_secs(2);
/// Pause after a failed accept, so that a lack of file descriptors does not make it spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Bounds on connections.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Connections served at once; one more ends the oldest.
    pub(super) connections: usize,
    /// A TLS handshake must end within this time, and a request's head arrive.
    pub(super) head: Duration,
    /// Longest that a connection may last, whatever its peer does.
    pub(super) lifetime: Duration,
}

impl Bounds {
    /// As the process's file descriptors allow. Scrapers and probes need a few.
    pub(super) fn of_process() -> Self {
        Self { connections: descriptors(16).min(512), head: Duration::from_secs(5), lifetime: Duration::from_secs(30) }
    }
}

/// Serves until `stop`, and lets answers under way go out.
pub(super) async fn listen(
    listener: TcpListener,
    tls: Option<Acceptor>,
    router: Router,
    bounds: Bounds,
    stop: CancellationToken,
) {
    let connections = GracefulShutdown::new();
    let mut newcomers = Newcomers::new(bounds.connections);
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let (tls, router, watcher) = (tls.clone(), router.clone(), connections.watcher());
                    let opened = stop.clone().run_until_cancelled_owned(async move { open(stream, tls, bounds).await });
                    newcomers.admit(async move {
                        if let Some(Some(stream)) = opened.await {
                            serve(stream, router, bounds, watcher).await;
                        }
                    }).await;
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    if timeout(DRAIN, connections.shutdown()).await.is_err() {
        tracing::debug!("HTTP connections still open after the drain, closing them");
    }
}

/// Does the TLS handshake, if there is TLS.
async fn open(stream: TcpStream, tls: Option<Acceptor>, bounds: Bounds) -> Option<Stream> {
    match timeout(bounds.head, tls::open(stream, tls.as_ref())).await {
        Ok(Ok(stream)) => Some(stream),
        Ok(Err(error)) => {
            tracing::debug!(%error, "no TLS handshake");
            None
        }
        Err(_) => {
            tracing::debug!("closed a connection: no TLS handshake in time");
            None
        }
    }
}

/// Serves one connection.
async fn serve(stream: Stream, router: Router, bounds: Bounds, watcher: Watcher) {
    let mut builder = auto::Builder::new(TokioExecutor::new()).http1_only();
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.head)
        .max_buf_size(16 * 1024)
        // Probes and verifiers ask once. An answer is smaller than the kernel's buffer, so one that nobody reads holds no
        // place; a second and third request on the same connection would fill that buffer, and then us.
        .keep_alive(false);
    let service = TowerToHyperService::new(router.into_service::<hyper::body::Incoming>());
    let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
    match timeout(bounds.lifetime, watcher.watch(connection)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(error, "HTTP connection ended"),
        Err(_) => tracing::debug!("closed an HTTP connection that lasted too long"),
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const BOUND: Duration = Duration::from_mins(1);
    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: test\r\n\r\n";
    /// Nothing of what the tests wait for is waiting for one of these.
    const LONG: Duration = Duration::from_hours(1);

    async fn start(bounds: Bounds) -> (std::net::SocketAddr, CancellationToken) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        // Much larger than any answer of ours.
        let large = "x".repeat(16 << 20);
        let router = Router::new().route("/", get(async || "live\n")).route("/large", get(async || large));
        tokio::spawn(listen(listener, None, router, bounds, stop.clone()));
        (address, stop)
    }

    /// What comes until the server closes the connection.
    async fn rest(stream: &mut TcpStream) -> String {
        let mut all = Vec::new();
        // What was sent and not read makes the kernel reset the connection, which ends it as well.
        let _ = timeout(BOUND, stream.read_to_end(&mut all)).await.expect("the connection is closed");
        String::from_utf8(all).unwrap()
    }

    #[tokio::test]
    async fn a_connection_answers_one_request() {
        let (address, stop) = start(Bounds { connections: 4, head: LONG, lifetime: LONG }).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(REQUEST).await.unwrap();
        let answer = rest(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("live\n"), "{answer}");
        assert!(answer.contains("connection: close"), "{answer}");
        stop.cancel();
    }

    #[tokio::test]
    async fn whoever_comes_last_is_served_however_many_hold_on() {
        let (address, stop) = start(Bounds { connections: 4, head: LONG, lifetime: LONG }).await;
        let mut held = Vec::new();
        for number in 0..40 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            // Silent ones, slow ones, and ones that do not read.
            let sent = [&b""[..], b"GET / HT", b"GET /large HTTP/1.1\r\nhost: test\r\n\r\n"][number % 3];
            stream.write_all(sent).await.unwrap();
            held.push(stream);
            let mut probe = TcpStream::connect(address).await.unwrap();
            probe.write_all(REQUEST).await.unwrap();
            assert!(rest(&mut probe).await.ends_with("live\n"), "{number}");
        }
        rest(&mut held[0]).await;
        stop.cancel();
    }

    #[tokio::test]
    async fn a_connection_ends_though_nobody_reads_or_writes() {
        let (address, stop) = start(Bounds { connections: 4, head: LONG, lifetime: Duration::from_millis(50) }).await;
        for sent in [&b""[..], b"GET / HT", b"GET /large HTTP/1.1\r\nhost: test\r\n\r\n"] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(sent).await.unwrap();
            // Its end shows on a socket that was not read from: writing fails.
            let closed = async {
                while stream.write_all(b"x").await.is_ok() {
                    tokio::task::yield_now().await;
                }
            };
            timeout(BOUND, closed).await.expect("the connection is closed");
        }
        stop.cancel();
    }
}
