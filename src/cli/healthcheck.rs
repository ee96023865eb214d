//! `vouchsafe healthcheck`: asks a running server whether it is ready, for containers without a shell.

use std::{process::ExitCode, time::Duration};

use http::{Request, Uri, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

use super::{Failure, print};

/// Longest a check takes.
const LIMIT: Duration = Duration::from_secs(5);
/// The answer is one line.
const MAX_ANSWER: usize = 4096;

pub(super) async fn run(url: String) -> Result<ExitCode, Failure> {
    match timeout(LIMIT, ask(&url)).await {
        Ok(answer) => answer,
        Err(_) => Err(Failure(format!("{url} did not answer within {} s", LIMIT.as_secs()))),
    }
}

async fn ask(url: &str) -> Result<ExitCode, Failure> {
    let uri: Uri = url.parse().map_err(|e| Failure(format!("{url} is no URL: {e}")))?;
    if uri.scheme_str() != Some("http") {
        return Err(Failure(format!("{url} is not an http URL: write http://127.0.0.1:50052")));
    }
    let authority = uri.authority().ok_or_else(|| Failure(format!("{url} names no host")))?;
    let address = format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(80));
    let stream = TcpStream::connect(&address).await.map_err(|e| Failure(format!("{address} does not answer: {e}")))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::get("/readyz").header(header::HOST, authority.as_str()).body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await.map_err(|e| Failure(e.to_string()))?;
    let text = String::from_utf8_lossy(&body.to_bytes()).trim().to_owned();
    if status.is_success() { print(&text) } else { Err(Failure(format!("not ready: {status}: {text}"))) }
}
