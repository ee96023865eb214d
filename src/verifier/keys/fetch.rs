//! Fetches a small public document over HTTP or HTTPS.
//!
//! Whoever can change the answer decides which tokens pass, so without TLS only this machine is asked. Nobody is followed
//! elsewhere, and what does not come soon or is large does not come at all.

use std::{
    convert::Infallible,
    fmt,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use http::{Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{
    body::{Body, Bytes, Incoming},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::OnceCell,
    task::spawn_blocking,
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::aws_lc_rs,
        pki_types::{CertificateDer, ServerName, pem::PemObject as _},
    },
};

/// Why a document could not be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    /// Another machine, and no TLS.
    #[error("whoever is in between could replace the keys: use https, or allow plaintext if nobody can be")]
    Plaintext,
    /// Nobody is trusted, so nobody can prove to be who they should be.
    #[error("there are no certificates to trust")]
    NobodyTrusted,
    /// It was no use.
    #[error("{0}")]
    Failed(String),
}

impl FetchError {
    fn failed(problem: impl fmt::Display) -> Self {
        Self::Failed(problem.to_string())
    }
}

/// Longest that one document may take.
const LIMIT: Duration = Duration::from_secs(5);
/// Largest document. A key set has a few kilobytes.
const MAX_DOCUMENT: usize = 64 * 1024;

/// How to fetch.
#[derive(Clone, Default)]
pub(crate) struct Fetcher {
    /// Certificates to trust instead of the system's.
    ca_file: Option<PathBuf>,
    /// Whether other machines may be asked without TLS.
    insecure_http: bool,
    /// Whom the system trusts: read once, for they are many files.
    system: Arc<OnceCell<TlsConnector>>,
}

/// What there is at a URL.
pub(crate) enum Document {
    /// This text.
    Found(String),
    /// Nothing (404).
    Missing,
}

impl Fetcher {
    /// One that trusts these certificates instead of the system's, and perhaps asks other machines without TLS.
    pub(crate) fn new(ca_file: Option<PathBuf>, insecure_http: bool) -> Self {
        Self { ca_file, insecure_http, system: Arc::default() }
    }

    /// Fetches a document.
    pub(crate) async fn fetch(&self, url: &str) -> Result<Document, FetchError> {
        let answer = timeout(LIMIT, self.get(url)).await;
        answer.unwrap_or_else(|_| Err(FetchError::Failed(format!("did not answer within {} s", LIMIT.as_secs()))))
    }

    /// Whether it would ever ask for a document there.
    pub(crate) fn accepts(&self, url: &str) -> Result<(), FetchError> {
        self.target(url).map(|_| ())
    }

    /// The URL in parts, and whether TLS is spoken there.
    fn target(&self, url: &str) -> Result<(Uri, bool), FetchError> {
        let uri: Uri = url.parse().map_err(|e| FetchError::Failed(format!("no URL: {e}")))?;
        let authority = uri.authority().ok_or_else(|| FetchError::failed("the URL names no host"))?;
        if authority.as_str().contains('@') {
            return Err(FetchError::failed("a URL with a user name is not fetched"));
        }
        match uri.scheme_str() {
            Some("https") => Ok((uri, true)),
            Some("http") if self.insecure_http || is_this_machine(bare(authority.host())) => Ok((uri, false)),
            Some("http") => Err(FetchError::Plaintext),
            _ => Err(FetchError::failed("not an http(s) URL")),
        }
    }

    async fn get(&self, url: &str) -> Result<Document, FetchError> {
        let (uri, tls) = self.target(url)?;
        let request = request(Request::get(path(&uri)), &uri)
            .header(header::ACCEPT, "application/json, application/jwk-set+json")
            .body(Empty::<Bytes>::new())
            .map_err(FetchError::failed)?;
        document(self.send(&uri, tls, request).await?).await
    }

    /// Posts a body of JSON with these headers; the status that was answered. What else was answered is not read, and nobody is
    /// followed elsewhere. How long it may take is up to whoever calls.
    #[cfg(feature = "server")]
    pub(crate) async fn post(
        &self,
        url: &str,
        headers: http::HeaderMap,
        body: String,
    ) -> Result<StatusCode, FetchError> {
        let (uri, tls) = self.target(url)?;
        let mut request = request(Request::post(path(&uri)), &uri)
            .header(header::CONTENT_TYPE, "application/json")
            .body(http_body_util::Full::new(Bytes::from(body)))
            .map_err(FetchError::failed)?;
        request.headers_mut().extend(headers);
        Ok(self.send(&uri, tls, request).await?.status())
    }

    /// Sends a request on a connection of its own.
    async fn send<B>(&self, uri: &Uri, tls: bool, request: Request<B>) -> Result<Response<Incoming>, FetchError>
    where
        B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
    {
        let (host, port) = (uri.host().map_or("", bare), uri.port_u16());
        let connect = async |port| TcpStream::connect((host, port)).await.map_err(FetchError::failed);
        if !tls {
            return exchange(connect(port.unwrap_or(80)).await?, request).await;
        }
        let name = ServerName::try_from(host.to_owned()).map_err(FetchError::failed)?;
        let connector = self.connector().await?;
        let stream = connector.connect(name, connect(port.unwrap_or(443)).await?).await;
        exchange(stream.map_err(|e| FetchError::Failed(format!("no TLS: {e}")))?, request).await
    }

    /// Reads files, so elsewhere than where calls are answered.
    async fn connector(&self) -> Result<TlsConnector, FetchError> {
        let Some(file) = self.ca_file.clone() else {
            return self.system.get_or_try_init(async || blocking(|| connector(system())).await).await.cloned();
        };
        // It may be another one tomorrow.
        blocking(move || {
            let mut roots = RootCertStore::empty();
            trust(&mut roots, &file)?;
            connector(roots)
        })
        .await
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, FetchError> + Send + 'static,
) -> Result<T, FetchError> {
    // It does not come back only if the runtime ends.
    spawn_blocking(work).await.unwrap_or_else(|error| Err(FetchError::failed(error)))
}

fn system() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    // Single broken files among the system's are none of ours, as long as anybody is trusted.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

fn connector(roots: RootCertStore) -> Result<TlsConnector, FetchError> {
    if roots.is_empty() {
        return Err(FetchError::NobodyTrusted);
    }
    // Not the process's default provider: there is none, and nobody installs one.
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(FetchError::failed)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

fn trust(roots: &mut RootCertStore, file: &Path) -> Result<(), FetchError> {
    let failed =
        |problem: String| FetchError::Failed(format!("cannot use the certificates in {}: {problem}", file.display()));
    for certificate in CertificateDer::pem_file_iter(file).map_err(|e| failed(e.to_string()))? {
        let certificate = certificate.map_err(|e| failed(e.to_string()))?;
        roots.add(certificate).map_err(|e| failed(e.to_string()))?;
    }
    Ok(())
}

/// An IPv6 address without its brackets.
pub(crate) fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

/// Whether nobody can be in between.
pub(crate) fn is_this_machine(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

fn path(uri: &Uri) -> &str {
    uri.path_and_query().map_or("/", |path| path.as_str())
}

fn request(builder: http::request::Builder, uri: &Uri) -> http::request::Builder {
    let host = uri.authority().map_or("", |authority| authority.as_str());
    builder.header(header::HOST, host).header(header::USER_AGENT, concat!("vouchsafe/", env!("CARGO_PKG_VERSION")))
}

async fn exchange<B>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<B>,
) -> Result<Response<Incoming>, FetchError>
where
    B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(FetchError::failed)?;
    tokio::spawn(connection);
    sender.send_request(request).await.map_err(FetchError::failed)
}

async fn document(response: Response<Incoming>) -> Result<Document, FetchError> {
    match response.status() {
        StatusCode::OK => {}
        StatusCode::NOT_FOUND => return Ok(Document::Missing),
        status if status.is_redirection() => {
            return Err(FetchError::Failed(format!("{status}: nobody is followed elsewhere, give the URL itself")));
        }
        status => return Err(FetchError::Failed(format!("answered {status}"))),
    }
    let body = Limited::new(response.into_body(), MAX_DOCUMENT).collect().await;
    let body = body.map_err(|e| FetchError::Failed(format!("no document of at most {MAX_DOCUMENT} bytes: {e}")))?;
    let text = String::from_utf8(body.to_bytes().into()).map_err(|_| FetchError::failed("the answer is no text"))?;
    Ok(Document::Found(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_asked_without_tls() {
        for host in ["localhost", "127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"] {
            assert!(is_this_machine(host), "{host}");
        }
        for host in ["", "localhost.example.com", "0.0.0.0", "::", "192.0.2.1", "127.0.0.1.example.com", "2130706433"] {
            assert!(!is_this_machine(host), "{host}");
        }
    }
}
