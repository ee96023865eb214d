//! Calls as no well-behaved client makes them: any path, any headers, any body, straight onto the connection.

use std::{convert::Infallible, net::SocketAddr};

use http::{HeaderMap, Request};
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tonic::{Code, Status};

/// An answer before anybody made sense of it.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The HTTP status.
    pub(crate) http: u16,
    /// Headers and trailers in one.
    pub(crate) headers: HeaderMap,
    /// The messages in their frames.
    pub(crate) body: Bytes,
}

impl Answer {
    /// The gRPC status; of an answer that has none, unknown.
    pub(crate) fn status(&self) -> Status {
        Status::from_header_map(&self.headers).unwrap_or_else(|| Status::new(Code::Unknown, "no gRPC status"))
    }
}

/// A message in the frame of gRPC.
pub(crate) fn frame(message: &impl Message) -> Vec<u8> {
    let body = message.encode_to_vec();
    let mut frame = vec![0];
    frame.extend_from_slice(&u32::try_from(body.len()).unwrap().to_be_bytes());
    frame.extend_from_slice(&body);
    frame
}

/// Makes one gRPC call on a connection of its own. An error says how the connection refused.
pub(crate) async fn call(
    address: SocketAddr,
    path: &str,
    headers: &[(&str, &[u8])],
    body: Vec<u8>,
) -> Result<Answer, hyper::Error> {
    let content_type: (&str, &[u8]) = ("content-type", b"application/grpc");
    call_as(address, path, &[&[content_type], headers].concat(), body).await
}

/// The same without a content type, unless it is among the headers.
pub(crate) async fn call_as(
    address: SocketAddr,
    path: &str,
    headers: &[(&str, &[u8])],
    body: Vec<u8>,
) -> Result<Answer, hyper::Error> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let mut request = Request::post(format!("http://{address}{path}")).header("te", "trailers");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = sender.send_request(request.body(Full::new(Bytes::from(body))).unwrap()).await?;
    let answer = read(answer).await?;
    drop(sender);
    connection.abort();
    Ok(answer)
}

async fn read(answer: http::Response<Incoming>) -> Result<Answer, hyper::Error> {
    let (parts, body) = answer.into_parts();
    let mut headers = parts.headers;
    let body = body.collect().await?;
    if let Some(trailers) = body.trailers() {
        headers.extend(trailers.clone());
    }
    Ok(Answer { http: parts.status.as_u16(), headers, body: body.to_bytes() })
}

/// Opens a call and sends its message only when `late` is done.
pub(crate) async fn late_call(address: SocketAddr, path: &str, late: impl Future<Output = Vec<u8>> + Send) -> Answer {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let (message, body) = tokio::sync::mpsc::channel::<Result<Frame<Bytes>, Infallible>>(1);
    let body = StreamBody::new(tokio_stream::wrappers::ReceiverStream::new(body));
    let request = Request::post(format!("http://{address}{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(body)
        .unwrap();
    let answer = sender.send_request(request);
    let send = async {
        let bytes = late.await;
        message.send(Ok(Frame::data(Bytes::from(bytes)))).await.unwrap();
        drop(message);
    };
    let (answer, ()) = tokio::join!(answer, send);
    let answer = read(answer.unwrap()).await.unwrap();
    connection.abort();
    answer
}

/// The status line's code and the body of a `GET` over HTTP/1.1.
pub(crate) async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// Sends these bytes over HTTP/1.1 and returns what came back until the connection ended, however that was; `until` is called
/// with what there is so far, each time that there is more.
pub(crate) async fn raw(address: SocketAddr, request: &[u8], mut until: impl FnMut(&str)) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    while let Ok(1..) = stream.read_buf(&mut answer).await {
        until(&String::from_utf8_lossy(&answer));
    }
    String::from_utf8(answer).unwrap()
}
