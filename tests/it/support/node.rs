//! A whole node in the test's own process: the server that operators run, on free ports and a database of its own.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tempfile::TempDir;
use tokio::{sync::OnceCell, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;
use tonic::{
    Code, Request, Status,
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt as _;
use vouchsafe::{
    config::{Settings, Sources, load},
    crypto::{MasterKey, SealContext, SystemEntropy, machine_date},
    domain::{refresh::CLOCK_SKEW, time::Clock},
    jose::SigningKeyPair,
    pb::v1::{
        self, InactiveReason, account_service_client::AccountServiceClient, auth_service_client::AuthServiceClient,
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
    pub(crate) shutdown: CancellationToken,
    running: JoinHandle<std::io::Result<()>>,
    connection: OnceCell<Channel>,
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

    /// What the settings are made of, as `--set` takes it.
    pub(crate) fn sets(&self) -> Vec<String> {
        let mut sets: Vec<String> = [
            "grpc.listen=127.0.0.1:0",
            "http.listen=127.0.0.1:0",
            "issuer=https://issuer.test",
            // As cheap as argon2 gets: these tests are not about its cost.
            "passwords.memory_kib=8",
            "passwords.iterations=1",
            "shutdown.pause=0s",
            // All tests call from one address, and some share a Redis.
            "throttle.address_failures=0",
            "throttle.overall_failures=0",
        ]
        .map(str::to_owned)
        .to_vec();
        sets.push(format!("keys.master_key={MASTER_KEY}"));
        sets.push(match self.database.location() {
            Location::Sqlite(path) => format!("database.url=sqlite:{}", path.display()),
            Location::Postgres(url) | Location::PgBouncer(url) => format!("database.url={}", url.expose()),
        });
        sets.extend(self.database.hot_url().map(|url| format!("redis.url={url}")));
        if let Location::PgBouncer(_) = self.database.location() {
            sets.push("database.pgbouncer=true".into());
        }
        sets.extend(self.sets.iter().cloned());
        sets
    }

    /// The settings, as they would be read.
    pub(crate) fn settings(&self, data_dir: &TempDir) -> Settings {
        let sets = self.sets();
        let data_dir = Some(data_dir.path().display().to_string());
        load(Sources { file: None, env: Vec::new(), sets, data_dir }).unwrap()
    }

    /// Starts it.
    pub(crate) async fn start(self) -> TestNode {
        let data_dir = tempfile::tempdir().unwrap();
        let settings = self.settings(&data_dir);
        let listeners = bind(&settings).await.unwrap();
        let (mut grpc, http) = (listeners.grpc.local_addr().unwrap(), listeners.http.local_addr().unwrap());
        if grpc.ip().is_unspecified() {
            grpc.set_ip(Ipv4Addr::LOCALHOST.into());
        }
        let ambient = Ambient { clock: self.clock, entropy: Arc::new(SystemEntropy) };
        let node = Node::prepare(settings, ambient).await.unwrap();
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(node.serve(listeners, shutdown.clone()));
        let connection = OnceCell::new();
        TestNode { grpc, http, database: self.database, shutdown, running, connection, _data_dir: data_dir }
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
        TestNodeBuilder { database, clock: Arc::new(DatabaseClock::new(machine_date())), sets: Vec::new() }
    }

    /// A connection of its own.
    pub(crate) async fn channel(&self) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.grpc)).unwrap().connect().await.unwrap()
    }

    /// The connection that all helpers share.
    pub(crate) async fn shared(&self) -> Channel {
        self.connection.get_or_init(|| self.channel()).await.clone()
    }

    pub(crate) async fn auth(&self) -> AuthServiceClient<Channel> {
        AuthServiceClient::new(self.shared().await)
    }

    pub(crate) async fn account(&self) -> AccountServiceClient<Channel> {
        AccountServiceClient::new(self.shared().await)
    }

    pub(crate) async fn verifier(&self) -> VerifierServiceClient<Channel> {
        VerifierServiceClient::new(self.shared().await)
    }

    /// Registers a user with [`PASSWORD`].
    pub(crate) async fn register(&self, email: &str) -> v1::User {
        let request = v1::RegisterRequest { email: email.into(), password: PASSWORD.into(), ..Default::default() };
        self.auth().await.register(request).await.unwrap().into_inner().user.unwrap()
    }

    /// Signs a user in with [`PASSWORD`].
    pub(crate) async fn login(&self, identifier: &str) -> v1::TokenPair {
        self.try_login(login_request(identifier, PASSWORD)).await.unwrap()
    }

    /// Tries to sign a user in.
    pub(crate) async fn try_login(&self, request: v1::LoginRequest) -> Result<v1::TokenPair, Status> {
        let response = self.auth().await.login(request).await?.into_inner();
        let v1::login_response::Outcome::Tokens(tokens) = response.outcome.unwrap() else { panic!("a challenge") };
        Ok(tokens)
    }

    /// What `Verify` says of an access token.
    pub(crate) async fn verify(&self, token: &str) -> v1::VerifyResponse {
        let request = v1::VerifyRequest { token: token.into(), ..Default::default() };
        self.auth().await.verify(request).await.unwrap().into_inner()
    }

    /// What `Verify` says of an access token after it has read the feed to its end. `UNSPECIFIED`: it is active.
    pub(crate) async fn verify_strongly(&self, token: &str) -> InactiveReason {
        let consistency = v1::Consistency::Strong.into();
        let request = v1::VerifyRequest { token: token.into(), consistency, ..Default::default() };
        let verified = self.auth().await.verify(request).await.unwrap().into_inner();
        assert_eq!(verified.active, verified.inactive_reason() == InactiveReason::Unspecified);
        assert_eq!(verified.active, verified.claims.is_some());
        verified.inactive_reason()
    }

    /// Makes the node read the feed to its end now, so that a leap of its clock does not make its list look too old.
    pub(crate) async fn catch_up(&self) {
        self.verify_strongly("x").await;
    }

    /// Presents a refresh token.
    pub(crate) async fn refresh(&self, token: &str) -> Result<v1::TokenPair, Status> {
        let request = v1::RefreshRequest { refresh_token: token.into() };
        Ok(self.auth().await.refresh(request).await?.into_inner().tokens.unwrap())
    }

    /// Ends the session of a refresh token.
    pub(crate) async fn logout(&self, token: &str) -> Result<(), Status> {
        let request = v1::LogoutRequest { refresh_token: token.into() };
        self.auth().await.logout(request).await.map(|_| ())
    }

    /// Revokes a token of either kind.
    pub(crate) async fn revoke_token(&self, token: &str) -> Result<(), Status> {
        let request = v1::RevokeTokenRequest { token: token.into() };
        self.auth().await.revoke_token(request).await.map(|_| ())
    }

    /// Replaces the password of the bearer of an access token.
    pub(crate) async fn change_password(&self, token: &str, current: &str, new: &str) -> Result<(), Status> {
        let request = v1::ChangePasswordRequest { current_password: current.to_owned(), new_password: new.to_owned() };
        self.account().await.change_password(bearer(token, request)).await.map(|_| ())
    }

    /// The live sessions of the bearer of an access token.
    pub(crate) async fn sessions(&self, token: &str) -> Vec<v1::Session> {
        let request = bearer(token, v1::ListSessionsRequest::default());
        self.account().await.list_sessions(request).await.unwrap().into_inner().sessions
    }

    /// Whether `AccountService` accepts an access token.
    pub(crate) async fn admits(&self, token: &str) -> bool {
        match self.account().await.get_account(bearer(token, v1::GetAccountRequest {})).await {
            Ok(_) => true,
            Err(status) => {
                assert_eq!(reason(&status), "ACCESS_TOKEN_INVALID", "{status:?}");
                false
            }
        }
    }

    /// The key that signs its tokens.
    pub(crate) async fn signing_key(&self) -> SigningKeyPair {
        stolen_key(&self.database).await
    }

    /// How many audit events satisfy a condition.
    pub(crate) async fn events(&self, condition: &str) -> i64 {
        self.database.integer(&format!("SELECT COUNT(*) FROM audit_events WHERE {condition}")).await
    }

    /// Stops the node as SIGTERM would and waits for its end. The database stays.
    pub(crate) async fn stop(self) {
        // An idle connection would hold up the drain.
        drop(self.connection);
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
pub(crate) fn reason(status: &Status) -> String {
    status.get_error_details().error_info().map(|info| info.reason.clone()).unwrap_or_default()
}

/// The fields that a refusal names.
pub(crate) fn fields(status: &Status) -> Vec<String> {
    assert_eq!((status.code(), reason(status).as_str()), (Code::InvalidArgument, "INVALID_ARGUMENT"), "{status:?}");
    let details = status.get_error_details();
    details.bad_request().unwrap().field_violations.iter().map(|v| v.field.clone()).collect()
}

/// Asks until the answer is yes. What takes longer than any of this may take fails the test.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut question: impl FnMut() -> F) {
    let asking = async {
        while !question().await {
            // Each question may be a new connection: without a pause the machine would run out of ports for everybody else.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(timeout(Duration::from_mins(2), asking).await.is_ok(), "never: {what}");
}

/// A node that lets a hundred callers at once wait for each other, however slow the machine is.
pub(crate) fn patient(node: TestNodeBuilder) -> TestNodeBuilder {
    node.set("database.acquire_timeout=20s").set("redis.timeout=5s")
}

/// Waits for as long as two nodes' clocks may be apart: before that nobody can say which of two moments came first.
pub(crate) async fn surely_later() {
    tokio::time::sleep(CLOCK_SKEW).await;
}

/// The key that signs tokens, as only the holder of database and master key can read it.
pub(crate) async fn stolen_key(database: &TestDatabase) -> SigningKeyPair {
    let hex = match database.postgres_pool() {
        Some(_) => "encode(private_key_sealed, 'hex')",
        None => "hex(private_key_sealed)",
    };
    let row = async |column: &str| {
        let sql = format!("SELECT {column} FROM signing_keys ORDER BY activate_time DESC LIMIT 1");
        database.texts(&sql).await.swap_remove(0)
    };
    let (kid, algorithm, hex) = (row("kid").await, row("algorithm").await, row(hex).await);
    let sealed: Vec<u8> = (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect();
    let context = SealContext { table: "signing_keys", row: kid.as_bytes(), column: "private_key_sealed" };
    let document = MasterKey::parse(MASTER_KEY).unwrap().open(context, &sealed).unwrap();
    SigningKeyPair::from_pkcs8(algorithm.parse().unwrap(), &document).unwrap()
}
