//! Connections of the gRPC port: how many, how soon they must speak HTTP/2, and how long they last.
//!
//! A connection is handed to the server only when its peer has done the TLS handshake, if there is TLS, and has sent the HTTP/2
//! preface, which every client sends at once; where web pages may call, also the head of a request in HTTP/1.1.
//! Until then it is a newcomer, and newcomers push out each other: see [`Newcomers`]. One that has sent it takes a place of
//! its own. If there is none it waits for as long as a handshake may take and is then closed, so that a client behind a
//! balancer tries elsewhere rather than hang. Nothing here spins: bytes are read, not peeked at, and given to the server again.

mod gathering;
mod greeting;
mod places;

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf as _, Bytes};
use rustix::process::{Resource, getrlimit};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::{Sleep, sleep, timeout},
};
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::{Connected, TcpConnectInfo};

pub(super) use self::greeting::MAX_HEAD;
use self::{
    gathering::Gathering,
    greeting::Greeting,
    places::{Place, Places},
};
use super::newcomers::Newcomers;
use crate::service::WatchPlaces;
use crate::telemetry::{Metrics, OpenConnection};
use crate::tls::{self, Acceptor, Stream};

/// Connections handed to the server that it has not taken yet.
pub(super) const BACKLOG: usize = 64;
/// Pause after a failed accept. Out of file descriptors, accept fails at once and for ever; without a pause this would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// After this a connection is told to go (GOAWAY), and its client opens another, maybe to another node.
pub(super) const MAX_AGE: Duration = Duration::from_hours(1);
/// What is still under way that much later is cut: more than a call may take (`grpc.max_deadline`, 10 min at most) and than a
/// watch lasts, so only imports and peers that do not read are hit.
pub(super) const GRACE: Duration = Duration::from_mins(15);

/// A peer that takes nothing of what is sent to it for this time is gone, or as good as: whoever speaks HTTP/2 would have missed a
/// ping by then.
#[cfg(target_os = "linux")]
const NOT_TAKEN: Duration = Duration::from_secs(40);

/// Most watches of revocations at once on one connection: a verifier has one, and a proxy gathers those of a few. What a watcher
/// does not read is kept for it, so nobody may have them all.
const WATCHES: usize = 64;

/// Bounds on connections.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Most connections at once that are served.
    pub(super) connections: usize,
    /// Most connections at once that have not said yet what they speak.
    pub(super) newcomers: usize,
    /// Longest until TLS is agreed on, the preface or a head has come and there is a place.
    pub(super) handshake: Duration,
    /// Longest that a connection may last whatever its peer does.
    pub(super) lifetime: Duration,
}

impl Bounds {
    /// As the process's file descriptors allow: half of them for connections.
    pub(super) fn of_process() -> Self {
        Self {
            connections: descriptors(2).min(10_000),
            newcomers: descriptors(16).min(1024),
            handshake: Duration::from_secs(5),
            lifetime: MAX_AGE + GRACE,
        }
    }
}

/// One part in so many of the file descriptors that this process may have.
///
/// gRPC takes a half and a sixteenth, HTTP a sixteenth; the rest is for the database, its files and the runtime. A process
/// that used all of them for callers could neither reach its database nor answer those it let in.
pub(crate) fn descriptors(part: u64) -> usize {
    let all = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(all / part).unwrap_or(usize::MAX).max(1)
}

/// Where connections go that are to be served.
#[derive(Clone)]
struct Doors {
    http2: mpsc::Sender<io::Result<Connection>>,
    /// `None`: HTTP/1.1 is not spoken.
    http1: Option<mpsc::Sender<Connection>>,
}

/// Accepts until `stop`, and gives out connections that speak HTTP/2; those that speak HTTP/1.1 go to `http1`, if it is there.
pub(super) fn accept(
    listener: TcpListener,
    tls: Option<Acceptor>,
    bounds: Bounds,
    http1: Option<mpsc::Sender<Connection>>,
    stop: CancellationToken,
    metrics: &Arc<Metrics>,
) -> ReceiverStream<io::Result<Connection>> {
    let metrics = Arc::clone(metrics);
    let (http2, incoming) = mpsc::channel(BACKLOG);
    let doors = Doors { http2, http1 };
    let places = Places::new(bounds.connections);
    let mut newcomers = Newcomers::new(bounds.newcomers);
    tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
        loop {
            let accepted = tokio::select! {
                () = doors.http2.closed() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    tune(&stream);
                    let (places, doors, metrics) = (places.clone(), doors.clone(), Arc::clone(&metrics));
                    let greeting = greet(stream, tls.clone(), bounds, places, doors, metrics);
                    let greeting = stop.clone().run_until_cancelled_owned(greeting);
                    newcomers.admit(async { greeting.await.unwrap_or_default() }).await;
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }));
    ReceiverStream::new(incoming)
}

/// Waits until a newcomer has said what it speaks and has a place, and hands it over; or closes it.
async fn greet(
    stream: TcpStream,
    tls: Option<Acceptor>,
    bounds: Bounds,
    places: Places,
    doors: Doors,
    metrics: Arc<Metrics>,
) {
    let handshake = async {
        let opened = tls::open(stream, tls.as_ref()).await;
        let mut stream = opened.inspect_err(|error| tracing::debug!(%error, "no TLS handshake")).ok()?;
        let greeting = Greeting::read(&mut stream, doors.http1.is_some()).await?;
        let place = places.take(&greeting).await?;
        Some((stream, greeting, place))
    };
    let Ok(Some((stream, greeting, place))) = timeout(bounds.handshake, handshake).await else {
        tracing::debug!("closed a connection: no TLS or no HTTP/2 preface in time, or no place for it");
        return;
    };
    let end = Box::pin(sleep(bounds.lifetime));
    let (said, stream, http1) = match greeting {
        Greeting::Http2(said) => (said, Gathering::new(stream), None),
        Greeting::Http1(said) => (said, Gathering::at_once(stream), doors.http1),
    };
    let connection = Connection { stream, said, end, _place: place, _counted: metrics.connection() };
    // If nobody takes it the server has ended.
    match http1 {
        Some(http1) => drop(http1.send(connection).await),
        None => drop(doors.http2.send(Ok(connection)).await),
    }
}

/// Small answers go out at once, dead peers are noticed, and peers that take nothing of what is sent. A socket that refuses is
/// served all the same.
fn tune(stream: &TcpStream) {
    let socket = SockRef::from(stream);
    let tuned = socket
        .set_tcp_nodelay(true)
        .and_then(|()| socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(Duration::from_mins(1))));
    #[cfg(target_os = "linux")]
    let tuned = tuned.and_then(|()| socket.set_tcp_user_timeout(Some(NOT_TAKEN)));
    if let Err(error) = tuned {
        tracing::debug!(%error, "socket options not set");
    }
}

/// A connection whose peer has said what it speaks. Its place is free again when it is dropped.
pub(super) struct Connection {
    stream: Gathering<Stream>,
    /// What the server has yet to hear of what was read already.
    said: Bytes,
    end: Pin<Box<Sleep>>,
    _place: Place,
    _counted: OpenConnection,
}

impl Connection {
    /// Fails once the lifetime is over. Asked before every read and write, it also wakes a connection whose peer does nothing.
    fn check_age(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.end.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check_age(cx)?;
        if self.said.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let now = self.said.len().min(buf.remaining());
        buf.put_slice(&self.said[..now]);
        self.said.advance(now);
        if self.said.is_empty() {
            // What is empty still holds the memory that it was in.
            self.said = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.check_age(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check_age(cx)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Who is at the other end. Every request of a connection carries it as an extension.
#[derive(Clone, Debug)]
pub struct Peer {
    tcp: TcpConnectInfo,
    certificates: Option<Arc<[CertificateDer<'static>]>>,
    watches: WatchPlaces,
}

impl Peer {
    /// Its address.
    pub fn address(&self) -> Option<SocketAddr> {
        self.tcp.remote_addr()
    }

    /// The certificate that it proved to hold, which an authority of `grpc.client_ca` has signed, and those it sent with it.
    /// `None` where none is asked for.
    pub fn certificates(&self) -> Option<&[CertificateDer<'static>]> {
        self.certificates.as_deref()
    }

    /// Places for watches on this connection, whoever's they are.
    pub(super) const fn watches(&self) -> &WatchPlaces {
        &self.watches
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        let stream = self.stream.get_ref();
        Peer {
            tcp: tls::tcp(stream).connect_info(),
            certificates: tls::peer_certificates(stream),
            // Asked once for each connection.
            watches: WatchPlaces::new(WATCHES),
        }
    }
}

#[cfg(test)]
mod tests;
