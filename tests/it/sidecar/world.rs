//! A node, a sidecar beside it, and whoever asks it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    process::{ExitStatus, Stdio},
};

use envoy_types::pb::envoy::service::auth::v3::{
    AttributeContext, CheckRequest, CheckResponse,
    attribute_context::{HttpRequest, Request},
    authorization_client::AuthorizationClient,
    check_response::HttpResponse,
};
use http::Method;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    time::timeout,
};
use tonic::transport::{Channel, Endpoint};
use vouchsafe::{
    domain::{
        claims::{AccessClaims, SignIn},
        custom_claims::CustomClaims,
        id::{SessionId, TokenId, UserId},
        time::{Clock as _, Timestamp},
    },
    pb::v1::auth_service_client::AuthServiceClient,
    verifier::{SystemClock, claims},
};

use crate::{
    process::{
        harness::{BOUND, Ended, finish},
        lines::Lines,
        web,
    },
    support::TestNode,
};

pub(super) const PROGRAM: &str = env!("CARGO_BIN_EXE_vouchsafe");
const ISSUER: &str = "https://issuer.test";

/// A running sidecar. Killed when dropped.
pub(super) struct Sidecar {
    pub(super) log: Lines,
    pub(super) channel: Channel,
    serving: Value,
    file: PathBuf,
    /// How the file begins.
    service: String,
    listen: String,
    child: Child,
    pub(super) dir: TempDir,
}

/// The file of a sidecar beside the node there.
pub(super) fn file(service: &str, listen: &str, policy: &str) -> String {
    file_for("vouchsafe", service, listen, policy)
}

fn file_for(audience: &str, service: &str, listen: &str, policy: &str) -> String {
    format!(
        "issuer = {ISSUER:?}\naudience = [{audience:?}]\nservice = {service:?}\nstart_timeout = \"1s\"\n{policy}\n[listen]\ngrpc = {listen:?}\nhttp = \"127.0.0.1:0\"\n"
    )
}

/// Runs `vouchsafe sidecar` to its end.
pub(super) async fn run(args: &[&str]) -> Ended {
    let mut command = Command::new(PROGRAM);
    command.arg("sidecar").args(args).env_clear();
    finish(command, "").await
}

impl Sidecar {
    pub(super) async fn beside(node: &TestNode, policy: &str) -> Self {
        Self::start(&format!("http://{}", node.grpc), false, policy).await
    }

    pub(super) async fn on_socket(node: &TestNode, policy: &str) -> Self {
        Self::start(&format!("http://{}", node.grpc), true, policy).await
    }

    pub(super) async fn start(service: &str, socket: bool, policy: &str) -> Self {
        Self::start_for("vouchsafe", service, socket, policy).await
    }

    /// For tokens of another audience.
    pub(super) async fn start_for(audience: &str, service: &str, socket: bool, policy: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listen = if socket { format!("unix:{}", dir.path().join("s").display()) } else { "127.0.0.1:0".to_owned() };
        let path = dir.path().join("sidecar.toml");
        std::fs::write(&path, file_for(audience, service, &listen, policy)).unwrap();
        let mut command = Command::new(PROGRAM);
        command.args(["sidecar", "--log-level", "debug", "--config"]).arg(&path).env_clear();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let log = Lines::follow(child.stderr.take().unwrap());
        let line = log.wait(|line| line.contains("\"serving\"")).await;
        let serving: Value = serde_json::from_str(&line).unwrap();
        let grpc = serving["grpc"].as_str().unwrap();
        let url = if socket { grpc.to_owned() } else { format!("http://{grpc}") };
        let channel = Endpoint::from_shared(url).unwrap().connect().await.unwrap();
        Self { log, channel, serving, file: path, service: service.to_owned(), listen, child, dir }
    }

    /// Replaces the file, as an orchestrator does: whole.
    pub(super) fn rewrite(&self, policy: &str) {
        let new = self.file.with_extension("new");
        std::fs::write(&new, file(&self.service, &self.listen, policy)).unwrap();
        std::fs::rename(&new, &self.file).unwrap();
    }

    pub(super) fn auth(&self) -> AuthServiceClient<Channel> {
        AuthServiceClient::new(self.channel.clone())
    }

    /// What a proxy is told of a request.
    pub(super) async fn check(&self, http: HttpRequest) -> Answer {
        let request = Some(Request { http: Some(http), ..Request::default() });
        let attributes = Some(AttributeContext { request, ..AttributeContext::default() });
        let mut client = AuthorizationClient::new(self.channel.clone());
        Answer::of(client.check(CheckRequest { attributes }).await.expect("a decision is no error").into_inner())
    }

    /// The same of a `GET`.
    pub(super) async fn get(&self, path: &str, token: Option<&str>) -> Answer {
        self.check(request(path, token)).await
    }

    /// What its HTTP port says.
    pub(super) async fn http(&self, path: &str) -> web::Answer {
        web::ask(self.serving["http"].as_str().unwrap().parse().unwrap(), Method::GET, path, &[]).await
    }

    /// Bytes of its memory that are resident.
    pub(super) fn resident(&self) -> u64 {
        let id = self.child.id().expect("the sidecar runs");
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1024
    }

    pub(super) fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id().expect("the sidecar runs")).unwrap();
        kill_process(Pid::from_raw(id).unwrap(), signal).unwrap();
    }

    /// Stops it, and makes sure that it ended well and logged nothing secret.
    pub(super) async fn stop(mut self) -> TempDir {
        self.signal(Signal::TERM);
        let status: ExitStatus = timeout(BOUND, self.child.wait()).await.expect("the sidecar ends").unwrap();
        let log = self.log.so_far();
        assert!(status.success(), "{status}: {log:#?}");
        for secret in ["eyJ", "Bearer"] {
            assert!(!log.iter().any(|line| line.contains(secret)), "{secret} was logged: {log:#?}");
        }
        self.dir
    }
}

/// A request as Envoy describes it.
pub(super) fn request(path: &str, token: Option<&str>) -> HttpRequest {
    let mut request = HttpRequest {
        method: "GET".into(),
        path: path.into(),
        host: "shop.example.com".into(),
        ..HttpRequest::default()
    };
    request.headers.extend(token.map(|token| ("authorization".to_owned(), format!("Bearer {token}"))));
    request
}

/// A token that the node could have issued, with these roles and this scope.
pub(super) async fn token(node: &TestNode, roles: &[&str], scope: &str) -> String {
    let now = Timestamp::from_seconds(SystemClock.now().as_seconds());
    let claims = AccessClaims {
        issuer: ISSUER.into(),
        subject: UserId::new(now, &[1; 10]).into(),
        audience: vec!["vouchsafe".to_owned().try_into().unwrap()],
        expire_time: now.plus(BOUND),
        issue_time: now,
        token_id: TokenId::new(now, &[2; 10]),
        client_id: "web".into(),
        scope: scope.to_owned().try_into().unwrap(),
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        permissions: Vec::new(),
        epoch: 1,
        custom: CustomClaims::default(),
        sign_in: Some(SignIn {
            session_id: SessionId::new(now, &[3; 10]),
            auth_time: now,
            amr: vec!["pwd".into()],
            acr: "aal1".into(),
        }),
    };
    node.signing_key().await.sign("at+jwt", &claims::to_json(&claims)).unwrap()
}

/// An answer as a proxy takes it.
#[derive(Debug)]
pub(super) struct Answer {
    /// The status that the client gets; 200 for a request that goes on.
    pub(super) status: i32,
    /// The headers that are set: of the request, or of the denial.
    pub(super) headers: BTreeMap<String, String>,
    pub(super) removed: BTreeSet<String>,
}

impl Answer {
    fn of(response: CheckResponse) -> Self {
        let code = response.status.unwrap().code;
        let (status, headers, removed) = match response.http_response.unwrap() {
            HttpResponse::OkResponse(ok) => (200, ok.headers, ok.headers_to_remove),
            HttpResponse::DeniedResponse(denied) => (denied.status.unwrap().code, denied.headers, Vec::new()),
            HttpResponse::ErrorResponse(error) => panic!("{error:?}"),
        };
        assert_eq!(code == 0, status == 200);
        let headers = headers.into_iter().map(|option| option.header.unwrap()).map(|header| (header.key, header.value));
        Self { status, headers: headers.collect(), removed: removed.into_iter().collect() }
    }
}
