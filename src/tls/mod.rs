//! TLS on a port: certificates that are replaced while it serves, and client certificates where they are wanted.
//!
//! An [`Acceptor`] does one handshake at a time for whoever accepts connections, who also bounds how many there are and how
//! long they take. It always uses what was loaded last (see [`Ports`]), so that a new certificate needs no restart and
//! connections that stand go on as they are. The cryptography is given by name each time: no provider is installed for the
//! whole process, which would then be everybody's.

use std::{io, sync::Arc};

use arc_swap::ArcSwap;
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::{CryptoProvider, aws_lc_rs},
        pki_types::CertificateDer,
    },
    server::TlsStream,
};
use tokio_util::either::Either;

mod expiry;
mod files;
mod identity;
mod pinned;
mod reload;

pub use files::TlsError;
pub(crate) use identity::spiffe_id;
pub(crate) use pinned::pinned_client;
pub use reload::{Ports, Reload};

/// A connection with TLS or without.
pub(crate) type Stream = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// The cryptography of every handshake.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Does handshakes with the certificate that is in use at the moment.
#[derive(Clone)]
pub struct Acceptor {
    current: Arc<ArcSwap<ServerConfig>>,
}

impl Acceptor {
    /// One handshake. Unbounded in time: whoever calls bounds it.
    async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        TlsAcceptor::from(self.current.load_full()).accept(stream).await
    }
}

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Acceptor")
    }
}

/// Makes a new connection what its port speaks: TLS if there is an acceptor. Unbounded in time: whoever calls bounds it.
///
/// # Errors
/// If the handshake fails. The peer has been told why.
pub(crate) async fn open(stream: TcpStream, acceptor: Option<&Acceptor>) -> io::Result<Stream> {
    match acceptor {
        None => Ok(Either::Left(stream)),
        // What a handshake needs is large, and without TLS nobody needs it.
        Some(acceptor) => Ok(Either::Right(Box::new(Box::pin(acceptor.accept(stream)).await?))),
    }
}

/// The connection below.
pub(crate) fn tcp(stream: &Stream) -> &TcpStream {
    match stream {
        Either::Left(stream) => stream,
        Either::Right(stream) => stream.get_ref().0,
    }
}

/// The certificates that the peer proved to hold, its own first. None unless the port asks for them.
pub(crate) fn peer_certificates(stream: &Stream) -> Option<Arc<[CertificateDer<'static>]>> {
    match stream {
        Either::Left(_) => None,
        Either::Right(stream) => stream.get_ref().1.peer_certificates().map(Arc::from),
    }
}
