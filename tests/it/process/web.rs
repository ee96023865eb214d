//! A small HTTP client.

use std::net::SocketAddr;

use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::{body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{net::TcpStream, time::timeout};

use super::harness::{BOUND, Server};

/// An answer, whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    /// A header's text; empty if there is none.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// Asks for a path with these headers.
pub(crate) async fn ask(address: SocketAddr, method: Method, path: &str, headers: &[(&str, &str)]) -> Answer {
    let exchange = async {
        let stream = TcpStream::connect(address).await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header("host", address.to_string());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
        let (head, body) = answer.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer { status: head.status, headers: head.headers, body: String::from_utf8(body.to_vec()).unwrap() }
    };
    timeout(BOUND, exchange).await.expect("the HTTP port answers")
}

pub(super) async fn get(server: &Server, path: &str) -> Answer {
    ask(server.http, Method::GET, path, &[]).await
}

/// The `kid`s that the server publishes.
pub(super) async fn published_kids(server: &Server) -> Vec<String> {
    let jwks = get(server, "/.well-known/jwks.json").await.json();
    let kids = jwks["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned());
    kids.collect()
}

/// What a series of the server's metrics says; 0 if it is not there.
pub(crate) async fn metric(server: &Server, series: &str) -> f64 {
    let scrape = get(server, "/metrics").await;
    assert_eq!(scrape.status, StatusCode::OK);
    let mut lines = scrape.body.lines().filter_map(|line| line.rsplit_once(' '));
    lines.find(|(name, _)| *name == series).map_or(0.0, |(_, value)| value.parse().unwrap())
}
