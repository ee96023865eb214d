//! A whole node in the test's own process: the server that operators run, on free ports and a database of its own.

use std::{net::SocketAddr, sync::Arc};

use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::{
    Request,
    transport::{Channel, Endpoint},
};
use vouchsafe::{
    config::{Settings, Sources, load},
    crypto::SystemEntropy,
    domain::time::Clock,
    pb::v1::{
        self, account_service_client::AccountServiceClient, auth_service_client::AuthServiceClient,
        verifier_service_client::VerifierServiceClient,
    },
    server::{Ambient, DatabaseClock, Node, bind},
    store::Location,
};

use super::{Backend, TestDatabase};

/// 32 bytes for tests, in base64.
pub(crate) const MASTER_KEY: &str = "dGhpcyBrZXkgaXMgZm9yIHRlc3RzIG9ubHksIDMyIEI=";

/// A password that the rules accept.
pub(crate) const PASSWORD: &str = "correct horse battery staple";

/// A running node.
pub(crate) struct TestNode {
    pub(crate) grpc: SocketAddr,
    pub(crate) http: SocketAddr,
    pub(crate) database: Arc<TestDatabase>,
    shutdown: CancellationToken,
    running: JoinHandle<std::io::Result<()>>,
    _data_dir: TempDir,
}

/// How to start a node.
pub(crate) struct TestNodeBuilder {
    database: Arc<TestDatabase>,
    clock: Arc<dyn Clock>,
    sets: Vec<String>,
}

impl TestNodeBuilder {
    /// Goes by this clock instead of the database's.
    pub(crate) fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// With this setting, `key=value`.
    pub(crate) fn set(mut self, setting: &str) -> Self {
        self.sets.push(setting.to_owned());
        self
    }

    /// The settings, as they would be read.
    pub(crate) fn settings(&self, data_dir: &TempDir) -> Settings {
        let mut sets: Vec<String> = [
            "grpc.listen=127.0.0.1:0",
            "http.listen=127.0.0.1:0",
            "issuer=https://issuer.test",
            // As cheap as argon2 gets: these tests are not about its cost.
            "passwords.memory_kib=8",
            "passwords.iterations=1",
            "shutdown.pause=0s",
        ]
        .map(str::to_owned)
        .to_vec();
        sets.push(format!("keys.master_key={MASTER_KEY}"));
        sets.push(match self.database.location() {
            Location::Sqlite(path) => format!("database.url=sqlite:{}", path.display()),
            Location::Postgres(url) => format!("database.url={}", url.expose()),
        });
        sets.extend(self.sets.iter().cloned());
        let data_dir = Some(data_dir.path().display().to_string());
        load(Sources { file: None, env: Vec::new(), sets, data_dir }).unwrap()
    }

    /// Starts it.
    pub(crate) async fn start(self) -> TestNode {
        let data_dir = tempfile::tempdir().unwrap();
        let settings = self.settings(&data_dir);
        let listeners = bind(&settings).await.unwrap();
        let (grpc, http) = (listeners.grpc.local_addr().unwrap(), listeners.http.local_addr().unwrap());
        let ambient = Ambient { clock: self.clock, entropy: Arc::new(SystemEntropy) };
        let node = Node::prepare(settings, ambient).await.unwrap();
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(node.serve(listeners, shutdown.clone()));
        TestNode { grpc, http, database: self.database, shutdown, running, _data_dir: data_dir }
    }
}

impl TestNode {
    /// A node on a database of its own.
    pub(crate) async fn start(backend: Backend) -> Self {
        Self::builder(backend).await.start().await
    }

    /// A node on a database of its own, to be configured.
    pub(crate) async fn builder(backend: Backend) -> TestNodeBuilder {
        Self::on(Arc::new(TestDatabase::migrated(backend).await))
    }

    /// A node on a database that others may use too.
    pub(crate) fn on(database: Arc<TestDatabase>) -> TestNodeBuilder {
        TestNodeBuilder { database, clock: Arc::new(DatabaseClock::new()), sets: Vec::new() }
    }

    /// A connection of its own.
    pub(crate) async fn channel(&self) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.grpc)).unwrap().connect().await.unwrap()
    }

    pub(crate) async fn auth(&self) -> AuthServiceClient<Channel> {
        AuthServiceClient::new(self.channel().await)
    }

    pub(crate) async fn account(&self) -> AccountServiceClient<Channel> {
        AccountServiceClient::new(self.channel().await)
    }

    pub(crate) async fn verifier(&self) -> VerifierServiceClient<Channel> {
        VerifierServiceClient::new(self.channel().await)
    }

    /// Registers a user with [`PASSWORD`].
    pub(crate) async fn register(&self, email: &str) -> v1::User {
        let request = v1::RegisterRequest { email: email.into(), password: PASSWORD.into(), ..Default::default() };
        self.auth().await.register(request).await.unwrap().into_inner().user.unwrap()
    }

    /// Signs a user in with [`PASSWORD`].
    pub(crate) async fn login(&self, identifier: &str) -> v1::TokenPair {
        let response = self.auth().await.login(login_request(identifier, PASSWORD)).await.unwrap().into_inner();
        let v1::login_response::Outcome::Tokens(tokens) = response.outcome.unwrap();
        tokens
    }

    /// What `Verify` says of an access token.
    pub(crate) async fn verify(&self, token: &str) -> v1::VerifyResponse {
        let request = v1::VerifyRequest { token: token.into(), ..Default::default() };
        self.auth().await.verify(request).await.unwrap().into_inner()
    }

    /// Presents a refresh token.
    pub(crate) async fn refresh(&self, token: &str) -> Result<v1::TokenPair, tonic::Status> {
        let request = v1::RefreshRequest { refresh_token: token.into() };
        Ok(self.auth().await.refresh(request).await?.into_inner().tokens.unwrap())
    }

    /// Stops the node as SIGTERM would and waits for its end. The database stays.
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.running.await.unwrap().unwrap();
    }

    /// Stops the node and removes its database.
    pub(crate) async fn remove(self) {
        let database = Arc::clone(&self.database);
        self.stop().await;
        database.remove().await;
    }
}

/// A sign-in by password.
pub(crate) fn login_request(identifier: &str, password: &str) -> v1::LoginRequest {
    v1::LoginRequest { identifier: identifier.into(), password: password.into(), ..Default::default() }
}

/// A request that carries an access token.
pub(crate) fn bearer<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    request
}

/// The reason in a refusal's details.
pub(crate) fn reason(status: &tonic::Status) -> String {
    use tonic_types::StatusExt as _;
    status.get_error_details().error_info().map(|info| info.reason.clone()).unwrap_or_default()
}
