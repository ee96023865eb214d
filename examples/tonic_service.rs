//! A gRPC service that verifies its callers itself. Run `make run` in one terminal, `cargo run --example tonic_service` in
//! another, and in a third what that prints.

use std::{error::Error, time::Duration};

use futures_util::{StreamExt as _, stream, stream::BoxStream};
use greeter::greeter_service_server::{GreeterService, GreeterServiceServer};
use greeter::{CollectRequest, CollectResponse, CountRequest, CountResponse, GreetRequest, GreetResponse};
use tonic::{Request, Response, Status, Streaming, transport::Server};
use vouchsafe::verifier::{Policy, Principal, Rule, Verifier, VerifierLayer};

#[allow(clippy::pedantic, unreachable_pub)]
mod greeter {
    tonic::include_proto!("greeter.v1");
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let verifier = Verifier::builder("http://localhost:50052", ["vouchsafe"])
        .service_url("http://127.0.0.1:50051")?
        .start()
        .await?;
    // A token may be sent to Greet and must be sent to all else.
    let policy = Policy::required().at("/greeter.v1.GreeterService/Greet", Rule::optional());
    println!("{TRY}");
    Server::builder()
        .layer(VerifierLayer::new(verifier, policy))
        .add_service(GreeterServiceServer::new(Greeter))
        .serve("127.0.0.1:50061".parse()?)
        .await?;
    Ok(())
}

struct Greeter;

#[tonic::async_trait]
impl GreeterService for Greeter {
    type CountStream = BoxStream<'static, Result<CountResponse, Status>>;

    async fn greet(&self, request: Request<GreetRequest>) -> Result<Response<GreetResponse>, Status> {
        let name = match Principal::of(request.extensions()) {
            Some(principal) => principal.subject().to_string(),
            None => "whoever you are".to_owned(),
        };
        Ok(Response::new(GreetResponse { text: format!("Hello, {name}!") }))
    }

    /// Goes on and on. The layer ends it when the caller signs out or the token expires.
    async fn count(&self, _: Request<CountRequest>) -> Result<Response<Self::CountStream>, Status> {
        let numbers = stream::iter(1..).then(|number| async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok(CountResponse { number })
        });
        Ok(Response::new(numbers.boxed()))
    }

    /// Waits for messages. The layer ends that too.
    async fn collect(&self, request: Request<Streaming<CollectRequest>>) -> Result<Response<CollectResponse>, Status> {
        let (mut stream, mut messages) = (request.into_inner(), 0);
        while stream.message().await?.is_some() {
            messages += 1;
        }
        Ok(Response::new(CollectResponse { messages }))
    }
}

const TRY: &str = r#"Listening on 127.0.0.1:50061. To try, in this folder:

V="grpcurl -plaintext" G="grpcurl -plaintext -import-path examples/proto -proto greeter.proto"
$V -d '{"email": "eve@example.com", "username": "eve", "password": "correct horse battery staple"}' localhost:50051 vouchsafe.v1.AuthService/Register
$V -d '{"identifier": "eve", "password": "correct horse battery staple"}' localhost:50051 vouchsafe.v1.AuthService/Login > login.json
ACCESS=$(sed -n 's/.*"accessToken": "\(.*\)".*/\1/p' login.json) REFRESH=$(sed -n 's/.*"refreshToken": "\(.*\)".*/\1/p' login.json)

$G localhost:50061 greeter.v1.GreeterService/Greet                                         # whoever you are
$G -H "authorization: Bearer $ACCESS" localhost:50061 greeter.v1.GreeterService/Greet      # your id
$G localhost:50061 greeter.v1.GreeterService/Count                                         # Unauthenticated
$G -H "authorization: Bearer $ACCESS" localhost:50061 greeter.v1.GreeterService/Count &    # 1, 2, 3, ...
$V -d "{\"refresh_token\": \"$REFRESH\"}" localhost:50051 vouchsafe.v1.AuthService/Logout  # ... and no further
$G -H "authorization: Bearer $ACCESS" localhost:50061 greeter.v1.GreeterService/Greet      # Unauthenticated
"#;
