//! Fetches a small public document over HTTP or HTTPS.
//!
//! Whoever can change the answer decides which tokens pass, so without TLS only this machine is asked. Nobody is followed
//! elsewhere, and what does not come soon or is large does not come at all.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
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

use super::Failure;

/// Longest that one document may take.
const LIMIT: Duration = Duration::from_secs(5);
/// Largest document. A key set has a few kilobytes.
const MAX_DOCUMENT: usize = 64 * 1024;

/// How to fetch.
pub(super) struct Fetcher {
    /// Certificates to trust instead of the system's.
    pub(super) ca_file: Option<PathBuf>,
    /// Whether other machines may be asked without TLS.
    pub(super) insecure_http: bool,
}

/// What there is at a URL.
pub(super) enum Document {
    /// This text.
    Found(String),
    /// Nothing (404).
    Missing,
}

impl Fetcher {
    /// Fetches a document.
    pub(super) async fn fetch(&self, url: &str) -> Result<Document, Failure> {
        match timeout(LIMIT, self.get(url)).await {
            Ok(document) => document.map_err(|Failure(problem)| Failure(format!("{url}: {problem}"))),
            Err(_) => Err(Failure(format!("{url} did not answer within {} s", LIMIT.as_secs()))),
        }
    }

    async fn get(&self, url: &str) -> Result<Document, Failure> {
        let uri: Uri = url.parse().map_err(|e| Failure(format!("no URL: {e}")))?;
        let authority = uri.authority().ok_or_else(|| Failure("the URL names no host".to_owned()))?;
        if authority.as_str().contains('@') {
            return Err(Failure("a URL with a user name is not fetched".to_owned()));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        match uri.scheme_str() {
            Some("https") => {
                let stream = TcpStream::connect((host, authority.port_u16().unwrap_or(443))).await?;
                let name = ServerName::try_from(host.to_owned())?;
                let stream = self.connector()?.connect(name, stream).await.map_err(|e| format!("no TLS: {e}"))?;
                exchange(stream, &uri).await
            }
            Some("http") if self.insecure_http || is_this_machine(host) => {
                exchange(TcpStream::connect((host, authority.port_u16().unwrap_or(80))).await?, &uri).await
            }
            Some("http") => Err(Failure(
                "whoever is in between could replace the keys: use https, or --insecure-http if nobody can be"
                    .to_owned(),
            )),
            _ => Err(Failure("not an http(s) URL".to_owned())),
        }
    }

    fn connector(&self) -> Result<TlsConnector, Failure> {
        let mut roots = RootCertStore::empty();
        match &self.ca_file {
            Some(file) => trust(&mut roots, file)?,
            None => {
                // Single broken files among the system's are none of ours, as long as anybody is trusted.
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        if roots.is_empty() {
            return Err(Failure("no certificates to trust: name some with --ca-file".to_owned()));
        }
        // Not the process's default provider: there is none, and nobody installs one.
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(TlsConnector::from(Arc::new(config)))
    }
}

fn trust(roots: &mut RootCertStore, file: &Path) -> Result<(), Failure> {
    let failed = |problem: String| Failure(format!("cannot use the certificates in {}: {problem}", file.display()));
    for certificate in CertificateDer::pem_file_iter(file).map_err(|e| failed(e.to_string()))? {
        let certificate = certificate.map_err(|e| failed(e.to_string()))?;
        roots.add(certificate).map_err(|e| failed(e.to_string()))?;
    }
    Ok(())
}

/// Whether nobody can be in between.
pub(super) fn is_this_machine(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    uri: &Uri,
) -> Result<Document, Failure> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let host = uri.authority().map_or("", |authority| authority.as_str());
    let request = Request::get(path)
        .header(header::HOST, host)
        .header(header::ACCEPT, "application/json, application/jwk-set+json")
        .header(header::USER_AGENT, concat!("vouchsafe/", env!("CARGO_PKG_VERSION")))
        .body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    match response.status() {
        StatusCode::OK => {}
        StatusCode::NOT_FOUND => return Ok(Document::Missing),
        status if status.is_redirection() => {
            return Err(Failure(format!("{status}: nobody is followed elsewhere, give the URL itself")));
        }
        status => return Err(Failure(format!("answered {status}"))),
    }
    let body = Limited::new(response.into_body(), MAX_DOCUMENT).collect().await;
    let body = body.map_err(|e| Failure(format!("no document of at most {MAX_DOCUMENT} bytes: {e}")))?;
    let text = String::from_utf8(body.to_bytes().into()).map_err(|_| Failure("the answer is no text".to_owned()))?;
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
