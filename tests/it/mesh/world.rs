//! What the tests of a recipe share: the service, people, backends, and Envoy in front of these.

use std::time::Duration;

use serde_json::Value;
use tokio::{process::Command, time::timeout};
use tonic::{Code, Request, Status};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use vouchsafe::pb::v1::{self, auth_service_client::AuthServiceClient};

use super::{
    envoy::Envoy,
    raw,
    upstream::{Seen, Upstream},
};
use crate::{
    process::{
        client::Client,
        harness::{BOUND, Ended, Place, Server, finish},
        tools::tool,
        web::Answer,
    },
    support::{Backend, PASSWORD, login_request},
};

/// The issuer in the files of `deploy/envoy`: that of a server without settings.
const ISSUER: &str = "http://localhost:50052";

/// The service with its people: Ada without a role, and Root, an administrator.
pub(super) struct Issuer {
    pub(super) place: Place,
    pub(super) server: Server,
    pub(super) client: Client,
}

impl Issuer {
    pub(super) async fn start() -> Self {
        let place = Place::new(Backend::Sqlite)
            .await
            .set("issuer", ISSUER)
            .set("tokens.audiences", "vouchsafe,elsewhere")
            .set("tokens.scopes", "orders")
            .set("keys.publish_lead", "2s");
        let server = place.serve().await;
        let client = Client::of(&server).await;
        client.register("ada@example.com").await.unwrap();
        let root = ["admin", "create", "--email", "root@example.com", "--password-stdin"];
        place.run_with_input(&root, PASSWORD).await.ok();
        Self { place, server, client }
    }

    /// Signs Ada in.
    pub(super) async fn ada(&self) -> v1::TokenPair {
        self.login(v1::LoginRequest { scope: "orders".into(), ..login_request("ada@example.com", PASSWORD) }).await
    }

    /// Signs the administrator in.
    pub(super) async fn root(&self) -> v1::TokenPair {
        self.login(login_request("root@example.com", PASSWORD)).await
    }

    /// Signs Ada in for another audience.
    pub(super) async fn ada_elsewhere(&self) -> v1::TokenPair {
        let audience = vec!["elsewhere".into()];
        self.login(v1::LoginRequest { audience, ..login_request("ada@example.com", PASSWORD) }).await
    }

    /// The token of a service account, which says neither a session nor a scope.
    pub(super) async fn service(&self) -> String {
        let create = ["service-account", "create", "--display-name", "Orders", "--output", "json"];
        let made: Value = serde_json::from_str(&self.place.run(&create).await.ok()).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let request = v1::IssueServiceTokenRequest {
            client_id: text(&made["service_account"]["client_id"]),
            client_secret: text(&made["client_secret"]),
            audience: vec!["vouchsafe".into()],
            ..Default::default()
        };
        let mut client = AuthServiceClient::new(self.client.channel.clone());
        client.issue_service_token(request).await.unwrap().into_inner().access_token
    }

    async fn login(&self, request: v1::LoginRequest) -> v1::TokenPair {
        let answer = AuthServiceClient::new(self.client.channel.clone()).login(request).await.unwrap().into_inner();
        let v1::login_response::Outcome::Tokens(tokens) = answer.outcome.unwrap() else { panic!("a challenge") };
        tokens
    }
}

/// Envoy before the backends.
pub(super) struct Front {
    pub(super) envoy: Envoy,
    pub(super) upstream: Upstream,
}

impl Front {
    /// Starts both, with a file of `deploy/envoy` in which this is replaced as well.
    pub(super) async fn start(recipe: &str, changes: &[(&str, &str)]) -> Self {
        let upstream = Upstream::start().await;
        let (http, grpc) = (port_value(upstream.http.port()), port_value(upstream.grpc.port()));
        let backends = [
            ("port_value: 8000 ", http.as_str()),
            ("port_value: 50071 ", &grpc),
            ("domains: [localhost, 127.0.0.1]", "domains: [shop.test, 127.0.0.1]"),
        ];
        Self { envoy: Envoy::start(recipe, &[&backends[..], changes].concat()).await, upstream }
    }

    /// What is answered on a path, sent as it is written.
    pub(super) async fn get(&self, path: &str, lines: &[&[u8]]) -> Answer {
        self.ask("GET", path, lines).await
    }

    /// The same with another method.
    pub(super) async fn ask(&self, method: &str, path: &str, lines: &[&[u8]]) -> Answer {
        raw::ask(self.envoy.ingress, method, "shop.test", path, lines).await
    }

    /// What reaches the backend of a request that is let through.
    pub(super) async fn let_through(&self, path: &str, lines: &[&[u8]]) -> Seen {
        let answer = self.get(path, lines).await;
        assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, "reached\n"), "{path}: {answer:?}");
        let mut seen = self.upstream.take();
        assert_eq!(seen.len(), 1, "{path}: {seen:?}");
        seen.remove(0)
    }

    /// The answer to a request that must not reach the backend.
    pub(super) async fn denied(&self, path: &str, lines: &[&[u8]]) -> Answer {
        let answer = self.get(path, lines).await;
        assert!(!answer.status.is_success(), "{path}: {answer:?}");
        let seen = self.upstream.take();
        assert!(seen.is_empty(), "{path}: {} was answered, and yet it got through: {seen:?}", answer.status);
        answer
    }

    /// A gRPC call with these metadata; what reached the backend of it.
    pub(super) async fn call(&self, metadata: &[(&'static str, &str)]) -> Result<Seen, Status> {
        let client = Client::at(self.envoy.ingress).await.unwrap();
        let mut call = Request::new(HealthCheckRequest::default());
        for (name, value) in metadata {
            call.metadata_mut().append(*name, value.parse().unwrap());
        }
        let outcome = HealthClient::new(client.channel).check(call).await;
        let mut seen = self.upstream.take();
        assert_eq!(seen.len(), usize::from(outcome.is_ok()), "{outcome:?}: {seen:?}");
        outcome.map(|_| seen.remove(0))
    }

    /// Opens a stream that the backend never ends, with a deadline in an hour, and waits until Envoy ends it.
    pub(super) async fn stream_until_it_is_cut(&self, bearer: &str) {
        let client = Client::at(self.envoy.ingress).await.unwrap();
        let mut call = Request::new(HealthCheckRequest::default());
        call.metadata_mut().insert("authorization", bearer.parse().unwrap());
        call.set_timeout(Duration::from_hours(1));
        let mut stream = HealthClient::new(client.channel).watch(call).await.unwrap().into_inner();
        stream.message().await.unwrap().expect("it was let through");
        let ended = timeout(BOUND, stream.message()).await.expect("the stream is cut");
        assert!(!matches!(ended, Ok(Some(_))), "{ended:?}");
        self.upstream.take();
    }

    /// Asserts that no backend meets a host that nobody has thought of.
    pub(super) async fn assert_only_own_hosts(&self, line: &str) {
        for host in ["shop.test:1", "SHOP.test"] {
            let answer = raw::ask(self.envoy.ingress, "GET", host, "/orders", &[line.as_bytes()]).await;
            assert_eq!((answer.status.as_u16(), self.upstream.take().len()), (200, 1), "{host}");
        }
        for host in ["x", "shop.test.", "a.shop.test", "shop.test..", ""] {
            let answer = raw::ask(self.envoy.ingress, "GET", host, "/orders", &[line.as_bytes()]).await;
            assert!([400, 404].contains(&answer.status.as_u16()), "{host}: {answer:?}");
            assert!(self.upstream.take().is_empty(), "{host}");
        }
    }

    /// The code that a gRPC call is refused with before it reaches the backend.
    pub(super) async fn call_refused(&self, metadata: &[(&'static str, &str)]) -> Code {
        self.call(metadata).await.unwrap_err().code()
    }

    /// Calls the same by grpcurl, which asks by reflection first, with these header lines.
    pub(super) async fn grpcurl(&self, lines: &[&str]) -> Ended {
        let mut command = Command::new(tool("grpcurl"));
        command.arg("-plaintext");
        for line in lines {
            command.args(["-H", line]);
        }
        command.arg(self.envoy.ingress.to_string()).arg("grpc.health.v1.Health/Check");
        let ended = finish(command, "").await;
        self.upstream.take();
        ended
    }

    /// The line of the access log about the first request that is so.
    pub(super) async fn logged(&self, is_so: impl Fn(&Value) -> bool) -> Value {
        let parsed = |line: &str| serde_json::from_str::<Value>(line).unwrap();
        parsed(&self.envoy.access.wait(|line| is_so(&parsed(line))).await)
    }

    /// Asserts that no token got into the access log so far.
    #[track_caller]
    pub(super) fn assert_no_token_logged(&self) {
        let lines = self.envoy.access.so_far();
        for secret in ["eyJ", "Bearer", "vrt_"] {
            assert!(!lines.iter().any(|line| line.contains(secret)), "{secret} was logged: {lines:#?}");
        }
    }
}

/// A file of `deploy/envoy` lets no stream go on for longer than a token lives. Here so long that a test can wait for it.
pub(super) const SHORT_STREAMS: [(&str, &str); 2] = [
    ("max_stream_duration: 300s", "max_stream_duration: 2s"),
    ("grpc_timeout_header_max: 300s", "grpc_timeout_header_max: 2s"),
];

/// As the files write the port of an address.
pub(super) fn port_value(port: u16) -> String {
    format!("port_value: {port} ")
}

/// The header line that carries a token.
pub(super) fn authorization(tokens: &v1::TokenPair) -> String {
    format!("authorization: Bearer {}", tokens.access_token)
}
