//! Web pages as callers, by gRPC-Web: what pages of listed origins get, and what others do not, byte by byte and in a real browser.

mod bounds;
mod browser;
mod tls;

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

use super::{
    client::Client,
    flood::closed,
    harness::{BOUND, Place},
};
use crate::support::{
    Backend, PASSWORD, login_request, reason,
    wire::{self, frame},
};

const APP: &str = "https://app.example.com";
const STRANGER: &str = "https://evil.test";
const BINARY: &str = "application/grpc-web+proto";
const TEXT: &str = "application/grpc-web-text";
const AUTH: &str = "/vouchsafe.v1.AuthService";

/// A place whose pages of [`APP`] may call.
async fn place() -> Place {
    Place::new(Backend::Sqlite).await.set("grpc.web_origins", &format!("{APP},http://localhost:3000"))
}

/// A connection that speaks HTTP/1.1, as a page's browser has it.
struct Browser {
    sender: SendRequest<Full<Bytes>>,
    host: String,
    /// Ends with the connection.
    driver: JoinHandle<Result<(), hyper::Error>>,
}

impl Browser {
    async fn at(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap(), address).await
    }

    async fn over(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, address: SocketAddr) -> Self {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        Self { sender, host: address.to_string(), driver: tokio::spawn(connection) }
    }

    async fn send(
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
    async fn ask(&mut self, method: Method, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Page {
        let (head, body) = self.send(method, path, headers, body).await.into_parts();
        let body = timeout(BOUND, body.collect()).await.expect("an answer ends").unwrap().to_bytes();
        Page { status: head.status.as_u16(), headers: head.headers, body }
    }

    /// A call as a page of this origin makes it.
    async fn call(&mut self, content_type: &str, path: &str, token: Option<&str>, message: &impl Message) -> Page {
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
struct Page {
    status: u16,
    headers: HeaderMap,
    body: Bytes,
}

impl Page {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }

    /// Its messages, and how the call ended, as a page finds them: the status is in the body, or in the head of an answer
    /// without one.
    fn outcome(&self) -> (Vec<Bytes>, Status) {
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
    fn message<T: Message + Default>(&self) -> T {
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

fn tokens(answer: v1::LoginResponse) -> v1::TokenPair {
    let v1::login_response::Outcome::Tokens(tokens) = answer.outcome.unwrap() else { panic!("a challenge") };
    tokens
}

fn register(email: &str) -> v1::RegisterRequest {
    v1::RegisterRequest { email: email.into(), password: PASSWORD.into(), ..Default::default() }
}

#[tokio::test]
async fn pages_of_a_listed_origin_call_over_http1_and_are_told_what_is_wrong() {
    let place = place().await;
    let server = place.serve().await;
    // One connection for all of it.
    let mut browser = Browser::at(server.grpc).await;
    let asked = [
        ("origin", APP),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "authorization,x-grpc-web"),
    ];
    let login = format!("{AUTH}/Login");
    let preflight = browser.ask(Method::OPTIONS, &login, &asked, Vec::new()).await;
    assert_eq!((preflight.status, preflight.header("access-control-allow-origin")), (204, APP), "{preflight:?}");

    for (content_type, email) in [(BINARY, "ada@example.com"), (TEXT, "bob@example.com")] {
        let registered = browser.call(content_type, &format!("{AUTH}/Register"), None, &register(email)).await;
        assert_eq!(registered.message::<v1::RegisterResponse>().user.unwrap().email, email);
        let signed_in = browser.call(content_type, &login, None, &login_request(email, PASSWORD)).await;
        assert!(signed_in.header("content-type").starts_with(content_type), "{signed_in:?}");
        assert_eq!((signed_in.header("access-control-allow-origin"), signed_in.header("vary")), (APP, "origin"));
        assert_eq!(signed_in.header("access-control-allow-credentials"), "");
        for readable in ["grpc-status", "grpc-status-details-bin", "x-request-id"] {
            assert!(signed_in.header("access-control-expose-headers").contains(readable), "{signed_in:?}");
        }
        let tokens = tokens(signed_in.message());

        // Refused before the handler, by the handler, and where nothing is.
        let account = "/vouchsafe.v1.AccountService/GetAccount";
        let refused = [
            (browser.call(content_type, account, None, &()).await, Code::Unauthenticated, "ACCESS_TOKEN_MISSING"),
            (
                browser.call(content_type, &login, None, &login_request(email, "not that password")).await,
                Code::Unauthenticated,
                "INVALID_CREDENTIALS",
            ),
            (browser.call(content_type, "/vouchsafe.v1.Nothing/Nothing", None, &()).await, Code::Unimplemented, ""),
        ];
        for (answer, code, why) in refused {
            let (messages, status) = answer.outcome();
            assert!(messages.is_empty() && !answer.header("x-request-id").is_empty(), "{answer:?}");
            assert_eq!(status.code(), code, "{status:?}");
            assert!(why.is_empty() || reason(&status) == why, "{status:?}");
        }

        let request = v1::GetAccountRequest::default();
        let found = browser.call(content_type, account, Some(&tokens.access_token), &request).await;
        assert_eq!(found.message::<v1::GetAccountResponse>().user.unwrap().email, email);
    }
    drop(browser);
    server.stop().await;
    place.remove().await;
}

/// What a page can have its browser send without asking first, and what comes from elsewhere: refused, and nothing done.
#[tokio::test]
async fn strangers_get_nothing_done() {
    let place = place().await.set("log.filter", "info,vouchsafe=debug");
    let server = place.serve().await;
    let client = Client::of(&server).await;
    let path = format!("{AUTH}/Register");
    let message = || frame(&register("mallory@example.com"));
    // Each on a connection of its own.
    let ask = async |method, headers: &[(&str, &str)]| {
        Browser::at(server.grpc).await.ask(method, &path, headers, message()).await
    };
    let asked = [("origin", STRANGER), ("access-control-request-method", "POST")];
    let preflight = ask(Method::OPTIONS, &asked).await;
    assert_eq!((preflight.status, preflight.header("access-control-allow-origin")), (403, ""), "{preflight:?}");

    for content_type in [BINARY, TEXT, "text/plain", "application/grpc"] {
        for origin in [STRANGER, "null", "http://localhost:3001", "https://app.example.com.evil.test"] {
            let headers = [("content-type", content_type), ("origin", origin)];
            let refused = ask(Method::POST, &headers).await;
            assert_eq!((refused.status, refused.header("access-control-allow-origin")), (403, ""), "{refused:?}");
            // The same over HTTP/2, as browsers do where there is TLS.
            let headers = [("content-type", content_type.as_bytes()), ("origin", origin.as_bytes())];
            let refused = wire::call_as(server.grpc, &path, &headers, message()).await.unwrap();
            assert_eq!(refused.http, 403, "{refused:?}");
        }
    }
    // A name that leads here only since the page is there (DNS rebinding) is still the page's own.
    let mut browser = Browser::at(server.grpc).await;
    browser.host = "rebound.test:50051".to_owned();
    let rebound = [("content-type", BINARY), ("origin", "http://rebound.test:50051")];
    assert_eq!(browser.ask(Method::POST, &path, &rebound, message()).await.status, 403);
    // No page at all: there is gRPC for those.
    assert_eq!(ask(Method::POST, &[("content-type", BINARY)]).await.status, 403);
    for (method, content_type, status) in [
        (Method::POST, "application/grpc", 505),
        (Method::POST, "application/json", 415),
        (Method::GET, "", 405),
        (Method::OPTIONS, "", 405),
    ] {
        let refused = ask(method.clone(), &[("content-type", content_type)]).await;
        assert_eq!(refused.status, status, "{method} {content_type}");
        assert!(refused.header("content-type").starts_with("text/plain") && !refused.body.is_empty(), "{refused:?}");
    }
    // The address is free: none of them has registered.
    client.join("mallory@example.com").await;
    drop((browser, client));
    server.stop().await;
    place.remove().await;
}

#[tokio::test]
async fn where_no_origin_is_listed_no_page_is_heard() {
    let place = Place::new(Backend::Sqlite).await;
    let server = place.serve().await;
    let path = format!("{AUTH}/Register");
    let head =
        format!("POST {path} HTTP/1.1\r\nhost: {}\r\norigin: {APP}\r\ncontent-type: {BINARY}\r\n\r\n", server.grpc);
    let said = wire::raw(server.grpc, head.as_bytes(), |_| {}).await;
    assert_eq!(said, "", "HTTP/1.1 is not answered");
    // Over HTTP/2, what a browser sends to anybody without asking, and what it asks for first.
    for content_type in ["text/plain", BINARY, "application/x-www-form-urlencoded", ""] {
        let headers = [("content-type", content_type.as_bytes()), ("origin", APP.as_bytes())];
        let refused = wire::call_as(server.grpc, &path, &headers, frame(&register("ada@example.com"))).await.unwrap();
        assert_eq!((refused.http, refused.headers.get("access-control-allow-origin")), (415, None), "{refused:?}");
    }
    Client::of(&server).await.join("ada@example.com").await;
    server.stop().await;
    place.remove().await;
}

/// A stream of the service, read as a page does.
struct Stream {
    body: Incoming,
    text: bool,
    /// What came and was not decoded yet: whole groups of base64 are.
    coded: Vec<u8>,
    /// What came and was not a whole frame yet.
    rest: Vec<u8>,
}

impl Stream {
    async fn watch(browser: &mut Browser, content_type: &str) -> Self {
        let message = frame(&v1::WatchRevocationsRequest::default());
        let body = if content_type == TEXT { STANDARD.encode(message).into_bytes() } else { message };
        let headers = [("content-type", content_type), ("accept", content_type), ("origin", APP)];
        let path = "/vouchsafe.v1.VerifierService/WatchRevocations";
        let answer = browser.send(Method::POST, path, &headers, body).await;
        assert_eq!(answer.status(), 200);
        Self { body: answer.into_body(), text: content_type == TEXT, coded: Vec::new(), rest: Vec::new() }
    }

    /// The next frame; `None` at the end.
    async fn next(&mut self) -> Option<(u8, Bytes)> {
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
    async fn until_revoked(&mut self, session: &str) {
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

#[tokio::test]
async fn streams_reach_pages_as_they_are_written() {
    let place = place().await;
    let server = place.serve().await;
    let client = Client::of(&server).await;
    client.register("ada@example.com").await.unwrap();
    for content_type in [BINARY, TEXT] {
        let mut stream = Stream::watch(&mut Browser::at(server.grpc).await, content_type).await;
        stream.next().await.unwrap();
        let tokens = client.login("ada@example.com").await.unwrap();
        let session = client.claims(&tokens.access_token).await.session_id;
        client.logout(&tokens.refresh_token).await.unwrap();
        stream.until_revoked(&session).await;
    }
    drop(client);
    server.stop().await;
    place.remove().await;
}
