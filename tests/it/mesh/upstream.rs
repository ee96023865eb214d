//! The services behind Envoy: one that speaks HTTP/1.1 and one that speaks gRPC. Both note what reaches them.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{Router, extract::Request};
use http::HeaderMap;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::service::interceptor::InterceptedService;
use tonic_health::pb::FILE_DESCRIPTOR_SET;

/// Running backends. They end with the test's runtime.
pub(super) struct Upstream {
    pub(super) http: SocketAddr,
    pub(super) grpc: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

/// What reached a backend.
#[derive(Debug)]
pub(super) struct Seen {
    /// The path; of a gRPC call nothing.
    pub(super) path: String,
    headers: HeaderMap,
}

impl Seen {
    /// Every value of a header.
    pub(super) fn all(&self, name: &str) -> Vec<&str> {
        self.headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
    }

    /// The names of all headers that begin like this.
    pub(super) fn names(&self, prefix: &str) -> Vec<&str> {
        let mut names: Vec<_> =
            self.headers.keys().map(http::HeaderName::as_str).filter(|name| name.starts_with(prefix)).collect();
        names.sort_unstable();
        names
    }
}

impl Upstream {
    pub(super) async fn start() -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        Self { http: http(seen.clone()).await, grpc: grpc(seen.clone()).await, seen }
    }

    /// What has reached the backends since the last time this was asked.
    pub(super) fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

async fn bound() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

async fn http(seen: Arc<Mutex<Vec<Seen>>>) -> SocketAddr {
    let (listener, address) = bound().await;
    let note = move |request: Request| {
        let (head, _) = request.into_parts();
        seen.lock().unwrap().push(Seen { path: head.uri.to_string(), headers: head.headers });
        std::future::ready("reached\n")
    };
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(note)).await });
    address
}

/// The health service, found by reflection, as grpcurl wants it.
async fn grpc(seen: Arc<Mutex<Vec<Seen>>>) -> SocketAddr {
    let (listener, address) = bound().await;
    let (_, health) = tonic_health::server::health_reporter();
    let note = move |call: tonic::Request<()>| {
        let headers = call.metadata().clone().into_headers();
        seen.lock().unwrap().push(Seen { path: String::new(), headers });
        Ok(call)
    };
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .build_v1alpha()
        .unwrap();
    let server = tonic::transport::Server::builder()
        .add_service(InterceptedService::new(health, note))
        .add_service(reflection)
        .serve_with_incoming(TcpListenerStream::new(listener));
    tokio::spawn(server);
    address
}
