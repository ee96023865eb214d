//! HTTP/1.1 byte by byte: what no client library would send.

use std::net::SocketAddr;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    time::timeout,
};

use crate::process::{harness::BOUND, web::Answer};

/// Asks a host for a path, exactly as it is written, with these header lines; the answer.
pub(super) async fn ask(address: SocketAddr, method: &str, host: &str, path: &str, lines: &[&[u8]]) -> Answer {
    let mut request = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\n").into_bytes();
    for line in lines {
        request.extend_from_slice(line);
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    timeout(BOUND, exchange(address, &request)).await.expect("an answer")
}

async fn exchange(address: SocketAddr, request: &[u8]) -> Answer {
    let mut stream = BufReader::new(TcpStream::connect(address).await.unwrap());
    stream.write_all(request).await.unwrap();
    let mut status = String::new();
    stream.read_line(&mut status).await.unwrap();
    let status: StatusCode =
        status.split(' ').nth(1).unwrap_or_else(|| panic!("no status: {status:?}")).parse().unwrap();
    let mut headers = HeaderMap::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
    }
    let length = headers.get("content-length").map_or(0, |length| length.to_str().unwrap().parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    Answer { status, headers, body: String::from_utf8(body).unwrap() }
}
