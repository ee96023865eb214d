//! Pages' browsers, as far as a connection shows them: requests in HTTP/1.1, messages and trailers in bodies.

use std::net::SocketAddr;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    body::{Bytes, Incoming},
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::JoinHandle,
    time::timeout,
};
use tonic::{Code, Status};
use vouchsafe::pb::v1;

use super::{APP, BOUND, TEXT};
use crate::support::wire::frame;

/// A connection that speaks HTTP/1.1, as a page's browser has it.
pub(super) struct Browser {
    sender: SendRequest<Full<Bytes>>,
    pub(super) host: String,
    /// Ends with the connection.
    pub(super) driver: JoinHandle<Result<(), hyper::Error>>,
}

impl Browser {
    pub(super) async fn at(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap(), address).await
    }

    pub(super) async fn over(
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        address: SocketAddr,
    ) -> Self {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        Self { sender, host: address.to_string(), driver: tokio::spawn(connection) }
    }

    pub(super) async fn send(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Response<Incoming> {
        let mut request = Request::builder().method(method).uri(path).header("host", &self.host);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::from(body))).unwrap();
        let answer = async {
            self.sender.ready().await?;
            self.sender.send_request(request).await
        };
        timeout(BOUND, answer).await.expect("a request is answered").unwrap()
    }

    /// Sends, and reads the answer to its end.
    pub(super) async fn ask(&mut self, method: Method, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Page {
        let (head, body) = self.send(method, path, headers, body).await.into_parts();
        let body = timeout(BOUND, body.collect()).await.expect("an answer ends").unwrap().to_bytes();
        Page { status: head.status.as_u16(), headers: head.headers, body }
    }

    /// A call as a page of this origin makes it.
    pub(super) async fn call(
        &mut self,
        content_type: &str,
        path: &str,
        token: Option<&str>,
        message: &impl Message,
    ) -> Page {
        let token = token.map(|token| format!("Bearer {token}"));
        let mut headers = vec![("content-type", content_type), ("accept", content_type), ("origin", APP)];
        headers.push(("x-grpc-web", "1"));
        headers.extend(token.as_deref().map(|token| ("authorization", token)));
        let message = frame(message);
        let body = if content_type == TEXT { STANDARD.encode(message).into_bytes() } else { message };
        self.ask(Method::POST, path, &headers, body).await
    }
}

/// An answer, whole.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Page {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }

    /// Its messages, and how the call ended, as a page finds them: the status is in the body, or in the head of an answer
    /// without one.
    pub(super) fn outcome(&self) -> (Vec<Bytes>, Status) {
        assert_eq!(self.status, 200, "{self:?}");
        let body = if self.header("content-type").starts_with(TEXT) { decode(&self.body) } else { self.body.clone() };
        let (mut messages, mut trailers) = (Vec::new(), self.headers.clone());
        for (flag, content) in frames(&body) {
            if flag == 0x80 { trailers = parse(&content) } else { messages.push(content) }
        }
        (messages, Status::from_header_map(&trailers).expect("a status"))
    }

    /// The message of a success.
    #[track_caller]
    pub(super) fn message<T: Message + Default>(&self) -> T {
        let (messages, status) = self.outcome();
        assert_eq!((status.code(), messages.len()), (Code::Ok, 1), "{status:?}");
        T::decode(messages[0].clone()).unwrap()
    }
}

/// Base64 in pieces, each with its own padding.
fn decode(text: &[u8]) -> Bytes {
    text.chunks(4).flat_map(|four| STANDARD.decode(four).unwrap()).collect()
}

/// The whole frames in a body: flag and content.
fn frames(mut body: &[u8]) -> Vec<(u8, Bytes)> {
    let mut frames = Vec::new();
    while let Some((head, rest)) = body.split_first_chunk::<5>() {
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let Some((content, behind)) = rest.split_at_checked(length) else { break };
        frames.push((head[0], Bytes::copy_from_slice(content)));
        body = behind;
    }
    frames
}

/// Trailers as they stand in a body.
fn parse(trailers: &[u8]) -> HeaderMap {
    let lines = std::str::from_utf8(trailers).unwrap().split_terminator("\r\n");
    let pairs = lines.map(|line| line.split_once(':').unwrap());
    pairs
        .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.trim().parse::<HeaderValue>().unwrap()))
        .collect()
}

/// A stream of the service, read as a page does.
pub(super) struct Stream {
    body: Incoming,
    text: bool,
    /// What came and was not decoded yet: whole groups of base64 are.
    coded: Vec<u8>,
    /// What came and was not a whole frame yet.
    rest: Vec<u8>,
}

impl Stream {
    pub(super) async fn watch(browser: &mut Browser, content_type: &str) -> Self {
        let message = frame(&v1::WatchRevocationsRequest::default());
        let body = if content_type == TEXT { STANDARD.encode(message).into_bytes() } else { message };
        let headers = [("content-type", content_type), ("accept", content_type), ("origin", APP)];
        let path = "/vouchsafe.v1.VerifierService/WatchRevocations";
        let answer = browser.send(Method::POST, path, &headers, body).await;
        assert_eq!(answer.status(), 200);
        Self { body: answer.into_body(), text: content_type == TEXT, coded: Vec::new(), rest: Vec::new() }
    }

    /// The next frame; `None` at the end.
    pub(super) async fn next(&mut self) -> Option<(u8, Bytes)> {
        loop {
            if let Some((flag, content)) = frames(&self.rest).into_iter().next() {
                self.rest.drain(..5 + content.len());
                return Some((flag, content));
            }
            let more = timeout(BOUND, self.body.frame()).await.expect("a stream goes on")?.unwrap();
            self.coded.extend_from_slice(&more.into_data().unwrap());
            let whole = if self.text { self.coded.len() / 4 * 4 } else { self.coded.len() };
            let whole: Vec<u8> = self.coded.drain(..whole).collect();
            self.rest.extend_from_slice(&if self.text { decode(&whole) } else { whole.into() });
        }
    }

    /// Waits until the end of a session is told.
    pub(super) async fn until_revoked(&mut self, session: &str) {
        loop {
            let (flag, content) = self.next().await.expect("the stream goes on");
            assert_eq!(flag, 0, "it has ended: {content:?}");
            let told = v1::WatchRevocationsResponse::decode(content).unwrap();
            let wanted = v1::revocation::Revoked::SessionId(session.to_owned());
            if told.revocations.iter().any(|revocation| revocation.revoked.as_ref() == Some(&wanted)) {
                return;
            }
        }
    }
}
