//! The service of the examples, which tells what becomes of its calls.

use futures_util::{StreamExt as _, stream, stream::BoxStream};
use proto::{
    CollectRequest, CollectResponse, CountRequest, CountResponse, GreetRequest, GreetResponse,
    greeter_service_server::{GreeterService, GreeterServiceServer},
};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, Streaming, transport::Server};
use vouchsafe::verifier::{Principal, VerifierInterceptor, VerifierLayer};

use super::Served;

#[allow(clippy::pedantic, unreachable_pub)]
pub(super) mod proto {
    tonic::include_proto!("greeter.v1");
}

/// Says when it is dropped.
struct Gone(&'static str, mpsc::UnboundedSender<&'static str>);

impl Drop for Gone {
    fn drop(&mut self) {
        // Nobody listens once the test is over.
        let _ = self.1.send(self.0);
    }
}

struct Greeter {
    events: mpsc::UnboundedSender<&'static str>,
}

#[tonic::async_trait]
impl GreeterService for Greeter {
    type CountStream = BoxStream<'static, Result<CountResponse, Status>>;

    async fn greet(&self, request: Request<GreetRequest>) -> Result<Response<GreetResponse>, Status> {
        let text = match Principal::of(request.extensions()) {
            Some(principal) => principal.subject().to_string(),
            None => "nobody".to_owned(),
        };
        Ok(Response::new(GreetResponse { text }))
    }

    /// Counts to three and stays.
    async fn count(&self, _: Request<CountRequest>) -> Result<Response<Self::CountStream>, Status> {
        let gone = Gone("count is over", self.events.clone());
        let numbers = stream::iter(1..=3).map(|number| Ok(CountResponse { number }));
        let held = move |next| {
            let _ = &gone;
            next
        };
        Ok(Response::new(numbers.chain(stream::pending()).map(held).boxed()))
    }

    async fn collect(&self, request: Request<Streaming<CollectRequest>>) -> Result<Response<CollectResponse>, Status> {
        let _gone = Gone("collect is over", self.events.clone());
        let (mut stream, mut messages) = (request.into_inner(), 0);
        while stream.message().await?.is_some() {
            messages += 1;
            self.events.send("a message came").unwrap();
        }
        Ok(Response::new(CollectResponse { messages }))
    }
}

/// The service, and what becomes of its calls.
pub(super) struct Serving {
    pub(super) served: Served,
    pub(super) events: mpsc::UnboundedReceiver<&'static str>,
}

/// Serves it behind a layer.
pub(super) async fn behind_layer(layer: VerifierLayer) -> Serving {
    let (events, told) = mpsc::unbounded_channel();
    let server = Server::builder().layer(layer).add_service(GreeterServiceServer::new(Greeter { events }));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serve = async move { server.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap() };
    Serving { served: Served { address, running: tokio::spawn(serve) }, events: told }
}

/// Serves it behind an interceptor.
pub(super) async fn behind_interceptor(interceptor: VerifierInterceptor) -> Serving {
    let (events, told) = mpsc::unbounded_channel();
    let service = GreeterServiceServer::with_interceptor(Greeter { events }, interceptor);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::builder().add_service(service);
    let serve = async move { server.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap() };
    Serving { served: Served { address, running: tokio::spawn(serve) }, events: told }
}
