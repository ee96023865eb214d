//! `vouchsafe healthcheck`: asks a running server whether it is ready, for containers without a shell.
//!
//! With TLS it trusts the certificate that the settings name, and no other. A server takes over a new one within seconds, so
//! for that long another one is not yet an answer.

use std::{
    error::Error as _,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    process::ExitCode,
    time::Duration,
};

use http::{Request, Uri, header, uri::Authority};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::{sleep, timeout},
};
use tokio_rustls::rustls::{self, CertificateError, pki_types::ServerName};

use super::{Failure, print};
use crate::{
    config::{Http, Settings, Tls},
    tls::pinned_client,
};

/// Longest a check takes.
const LIMIT: Duration = Duration::from_secs(5);
/// Pause before a server that has another certificate is asked again.
const RETRY: Duration = Duration::from_millis(500);
/// The answer is one line.
const MAX_ANSWER: usize = 4096;

/// What to ask, and how.
struct Target {
    url: String,
    authority: Authority,
    tls: Option<Tls>,
}

/// Why there is no answer.
enum Refused {
    /// There is none to be had.
    Now(Failure),
    /// The server may have one in a moment.
    Yet(Failure),
}

impl<E: Into<Failure>> From<E> for Refused {
    fn from(error: E) -> Self {
        Self::Now(error.into())
    }
}

/// Asks the server at `url`, or the one of the settings. They are read only if they are needed.
pub(super) async fn run(
    url: Option<String>,
    settings: impl FnOnce() -> Result<Settings, Failure>,
) -> Result<ExitCode, Failure> {
    let target = target(url, settings)?;
    let mut refused = None;
    let asking = async {
        loop {
            match ask(&target).await {
                Ok(code) => return Ok(code),
                Err(Refused::Now(failure)) => return Err(failure),
                Err(Refused::Yet(failure)) => refused = Some(failure),
            }
            sleep(RETRY).await;
        }
    };
    let asked = timeout(LIMIT, asking).await;
    let silent = || Failure(format!("{} did not answer within {} s", target.url, LIMIT.as_secs()));
    asked.unwrap_or_else(|_| Err(refused.unwrap_or_else(silent)))
}

fn target(url: Option<String>, settings: impl FnOnce() -> Result<Settings, Failure>) -> Result<Target, Failure> {
    let Some(url) = url else {
        let Http { listen, tls, .. } = settings()?.http;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}", reachable(listen));
        let authority = authority(&url)?.1;
        return Ok(Target { url, authority, tls });
    };
    let (scheme, authority) = authority(&url)?;
    let tls = match scheme.as_str() {
        "http" => None,
        "https" => Some(settings()?.http.tls.ok_or_else(|| {
            Failure(format!("{url} is an https URL: set http.tls_cert and http.tls_key as for the server, so that its certificate is known"))
        })?),
        _ => return Err(Failure(format!("{url} is not an http(s) URL: write http://127.0.0.1:50052"))),
    };
    Ok(Target { url, authority, tls })
}

/// Where a server on this machine is that listens there.
fn reachable(mut listen: SocketAddr) -> SocketAddr {
    if listen.ip().is_unspecified() {
        listen.set_ip(match listen.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    listen
}

fn authority(url: &str) -> Result<(String, Authority), Failure> {
    let uri: Uri = url.parse().map_err(|e| Failure(format!("{url} is no URL: {e}")))?;
    let not_http = || Failure(format!("{url} is not an http(s) URL: write http://127.0.0.1:50052"));
    let scheme = uri.scheme_str().ok_or_else(not_http)?.to_owned();
    let authority = uri.authority().ok_or_else(|| Failure(format!("{url} names no host")))?;
    Ok((scheme, authority.clone()))
}

async fn ask(target: &Target) -> Result<ExitCode, Refused> {
    let Target { authority, tls, .. } = target;
    let port = authority.port_u16().unwrap_or(if tls.is_some() { 443 } else { 80 });
    let address = format!("{}:{port}", authority.host());
    let stream = TcpStream::connect(&address).await.map_err(|e| Failure(format!("{address} does not answer: {e}")))?;
    let Some(tls) = tls else { return Ok(exchange(stream, authority).await?) };
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(host).map_err(|e| Failure(format!("{address} is not usable with TLS: {e}")))?;
    let stream = match pinned_client("http", tls)?.connect(name, stream).await {
        Ok(stream) => stream,
        Err(error) if is_another_certificate(&error) => {
            let file = tls.certificate.display();
            return Err(Refused::Yet(Failure(format!(
                "{address} uses another certificate than http.tls_cert names ({file}): the server's log says why"
            ))));
        }
        Err(error) => return Err(Failure(format!("{address}: no TLS handshake: {error}")).into()),
    };
    exchange(stream, authority).await.map_err(|Failure(text)| {
        let hint = if tls.client_ca.is_some() {
            "; http.client_ca is set, so http.tls_cert, which the healthcheck shows, must be a client certificate as well"
        } else {
            ""
        };
        Failure(text + hint).into()
    })
}

fn is_another_certificate(error: &io::Error) -> bool {
    let expected = rustls::Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure);
    error.get_ref().and_then(|cause| cause.downcast_ref()).is_some_and(|cause: &rustls::Error| *cause == expected)
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    authority: &Authority,
) -> Result<ExitCode, Failure> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::get("/readyz").header(header::HOST, authority.as_str()).body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await.map_err(|error| match error.source() {
        Some(cause) => Failure(format!("{error}: {cause}")),
        None => error.into(),
    })?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await.map_err(|e| Failure(e.to_string()))?;
    let text = String::from_utf8_lossy(&body.to_bytes()).trim().to_owned();
    if status.is_success() { print(&text) } else { Err(Failure(format!("not ready: {status}: {text}"))) }
}
