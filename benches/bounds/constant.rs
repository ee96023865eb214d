//! What everything is measured against: a tonic server whose handlers return a constant, in a process of its own.
//!
//! It does what tonic's generated code does for a handler that clones its answer, under the settings of our own server,
//! without anything of ours around it.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    io::{BufRead as _, Read as _},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use envoy_types::pb::envoy::service::auth::v3::{CheckRequest, CheckResponse};
use prost::Message as _;
use tonic::{
    Request, Response, Status,
    body::Body,
    server::{Grpc, NamedService, UnaryService},
    transport::server::{Server, TcpIncoming},
};
use tonic_prost::ProstCodec;
use vouchsafe::pb::v1::{RefreshRequest, RefreshResponse, VerifyRequest, VerifyResponse};

/// The answers, as they come and go on standard input: a line each, in base64.
#[derive(Default)]
pub(crate) struct Answers {
    pub(crate) verify: VerifyResponse,
    pub(crate) refresh: RefreshResponse,
    pub(crate) check: CheckResponse,
}

impl Answers {
    pub(crate) fn to_lines(&self) -> String {
        let answers = [self.verify.encode_to_vec(), self.refresh.encode_to_vec(), self.check.encode_to_vec()];
        answers.map(|answer| STANDARD.encode(answer) + "\n").concat()
    }

    fn read() -> Self {
        let mut lines = std::io::stdin().lock().lines();
        let mut bytes = || STANDARD.decode(lines.next().unwrap().unwrap()).unwrap();
        Self {
            verify: VerifyResponse::decode(&*bytes()).unwrap(),
            refresh: RefreshResponse::decode(&*bytes()).unwrap(),
            check: CheckResponse::decode(&*bytes()).unwrap(),
        }
    }
}

/// Serves until standard input ends.
pub(crate) fn run() {
    let answers = Arc::new(Answers::read());
    std::thread::spawn(|| {
        let _ = std::io::stdin().lock().read(&mut [0]);
        std::process::exit(0);
    });
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
        let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap().with_nodelay(Some(true));
        println!("listening {}", incoming.local_addr().unwrap());
        Server::builder()
            .max_concurrent_streams(200)
            .http2_max_header_list_size(16 * 1024)
            .http2_keepalive_interval(Some(Duration::from_secs(20)))
            .http2_keepalive_timeout(Some(Duration::from_secs(20)))
            .add_service(Constant(Arc::clone(&answers)))
            .add_service(ConstantCheck(Constant(answers)))
            .serve_with_incoming(incoming)
            .await
            .unwrap();
    });
}

#[derive(Clone)]
struct Constant(Arc<Answers>);

impl NamedService for Constant {
    const NAME: &'static str = "vouchsafe.v1.AuthService";
}

/// The same under the name of the other service.
#[derive(Clone)]
struct ConstantCheck(Constant);

impl NamedService for ConstantCheck {
    const NAME: &'static str = "envoy.service.auth.v3.Authorization";
}

impl tower::Service<http::Request<Body>> for ConstantCheck {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = <Constant as tower::Service<http::Request<Body>>>::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        self.0.call(request)
    }
}

struct Check(Arc<Answers>);

impl UnaryService<CheckRequest> for Check {
    type Response = CheckResponse;
    type Future = Ready<Result<Response<CheckResponse>, Status>>;

    fn call(&mut self, _: Request<CheckRequest>) -> Self::Future {
        ready(Ok(Response::new(self.0.check.clone())))
    }
}

struct Verify(Arc<Answers>);
struct Refresh(Arc<Answers>);

impl UnaryService<VerifyRequest> for Verify {
    type Response = VerifyResponse;
    type Future = Ready<Result<Response<VerifyResponse>, Status>>;

    fn call(&mut self, _: Request<VerifyRequest>) -> Self::Future {
        ready(Ok(Response::new(self.0.verify.clone())))
    }
}

impl UnaryService<RefreshRequest> for Refresh {
    type Response = RefreshResponse;
    type Future = Ready<Result<Response<RefreshResponse>, Status>>;

    fn call(&mut self, _: Request<RefreshRequest>) -> Self::Future {
        ready(Ok(Response::new(self.0.refresh.clone())))
    }
}

impl tower::Service<http::Request<Body>> for Constant {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let answers = Arc::clone(&self.0);
        match request.uri().path() {
            "/vouchsafe.v1.AuthService/Verify" => {
                Box::pin(async move { Ok(Grpc::new(ProstCodec::default()).unary(Verify(answers), request).await) })
            }
            "/vouchsafe.v1.AuthService/Refresh" => {
                Box::pin(async move { Ok(Grpc::new(ProstCodec::default()).unary(Refresh(answers), request).await) })
            }
            "/envoy.service.auth.v3.Authorization/Check" => {
                Box::pin(async move { Ok(Grpc::new(ProstCodec::default()).unary(Check(answers), request).await) })
            }
            _ => Box::pin(async { Ok(Status::unimplemented("only Verify, Refresh and Check").into_http()) }),
        }
    }
}
