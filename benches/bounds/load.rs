//! Callers: in a closed loop for throughput, on a schedule for latency.

use std::{
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use envoy_types::pb::envoy::service::auth::v3::{
    AttributeContext, CheckRequest, attribute_context, authorization_client::AuthorizationClient,
};
use tokio::{runtime::Handle, sync::mpsc, task::JoinSet};
use tonic::{
    Code, Request,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};
use vouchsafe::pb::v1::{
    ListUsersRequest, LoginRequest, RefreshRequest, RegisterRequest, TokenPair, VerifyRequest,
    auth_service_client::AuthServiceClient, login_response::Outcome, user_admin_service_client::UserAdminServiceClient,
};

use crate::{proc, process::Process, stats::Paired};

/// The password of everybody.
pub(crate) const PASSWORD: &str = "correct horse battery staple";
/// Connections that a server's callers share.
const CONNECTIONS: usize = 4;

pub(crate) type Client = AuthServiceClient<Channel>;

/// Some connections to a server, in turn.
pub(crate) async fn connect(server: &Process) -> Vec<Client> {
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        let endpoint = Endpoint::try_from(format!("http://{}", server.address)).unwrap();
        clients.push(AuthServiceClient::new(endpoint.connect().await.unwrap()));
    }
    clients
}

/// Registers users called `user-0`, ... and signs each in as often as is said.
pub(crate) async fn sign_in(server: &Process, users: usize, sessions: usize) -> Vec<TokenPair> {
    let clients = connect(server).await;
    let mut set = JoinSet::new();
    for user in 0..users {
        let mut client = clients[user % clients.len()].clone();
        set.spawn(async move {
            let username = format!("user-{user}");
            let email = format!("{username}@example.com");
            let display_name = "Somebody".to_owned();
            let request = RegisterRequest {
                email,
                username: username.clone(),
                password: PASSWORD.to_owned(),
                display_name,
                ..RegisterRequest::default()
            };
            client.register(request).await.unwrap();
            let mut tokens = Vec::new();
            for _ in 0..sessions {
                tokens.push(login(&mut client, &username, PASSWORD).await.unwrap());
            }
            tokens
        });
    }
    set.join_all().await.into_iter().flatten().collect()
}

/// Signs in.
pub(crate) async fn login(client: &mut Client, identifier: &str, password: &str) -> Result<TokenPair, Code> {
    let (identifier, password) = (identifier.to_owned(), password.to_owned());
    let request = LoginRequest { identifier, password, ..LoginRequest::default() };
    match client.login(request).await {
        Ok(response) => {
            let Some(Outcome::Tokens(tokens)) = response.into_inner().outcome else { panic!("no tokens") };
            Ok(tokens)
        }
        Err(status) => Err(status.code()),
    }
}

/// A caller who lists.
struct Lister {
    client: UserAdminServiceClient<Channel>,
    authorization: MetadataValue<Ascii>,
    page: String,
}

/// A caller with a connection and something to ask.
pub(crate) struct Caller {
    client: Client,
    ask: Ask,
}

enum Ask {
    Verify(String),
    /// The newest token of a session of its own.
    Rotate(String),
    /// The same token each time, of a constant handler.
    Refresh(String),
    Login(String),
    /// Somebody else of so many each time.
    LoginAnybody {
        users: usize,
        last: usize,
    },
    /// Page after page, with an administrator's token.
    ListUsers(Box<Lister>),
    /// May this request pass?
    Check(Box<(AuthorizationClient<Channel>, CheckRequest)>),
}

impl Caller {
    pub(crate) async fn call(&mut self) {
        let Self { client, ask } = self;
        match ask {
            Ask::Verify(token) => {
                let request = VerifyRequest { token: token.clone(), ..VerifyRequest::default() };
                assert!(client.verify(request).await.unwrap().into_inner().active);
            }
            Ask::Rotate(token) => {
                let answer = client.refresh(RefreshRequest { refresh_token: token.clone() }).await.unwrap();
                let next = answer.into_inner().tokens.unwrap().refresh_token;
                assert_ne!(next, *token);
                *token = next;
            }
            Ask::Refresh(token) => {
                let answer = client.refresh(RefreshRequest { refresh_token: token.clone() }).await.unwrap();
                assert!(answer.into_inner().tokens.is_some());
            }
            Ask::LoginAnybody { users, last } => {
                // A prime far from powers of two: everybody comes once before anybody comes twice.
                *last = (*last + 611_953) % *users;
                login(client, &format!("user-{last}"), PASSWORD).await.unwrap();
            }
            Ask::ListUsers(lister) => {
                let Lister { client, authorization, page } = &mut **lister;
                let mut request = Request::new(ListUsersRequest { page_token: page.clone(), ..Default::default() });
                request.metadata_mut().insert("authorization", authorization.clone());
                let answer = client.list_users(request).await.unwrap().into_inner();
                assert!(!answer.users.is_empty());
                *page = answer.next_page_token;
            }
            Ask::Check(check) => {
                let (client, request) = &mut **check;
                let answer = client.check(request.clone()).await.unwrap().into_inner();
                assert_eq!(answer.status.map(|status| status.code), Some(0));
            }
            Ask::Login(user) => {
                login(client, user, PASSWORD).await.unwrap();
            }
        }
    }
}

/// The callers of one side of a comparison, and the processes that work for it.
pub(crate) struct Side {
    callers: Vec<Caller>,
    groups: Vec<(&'static str, Group)>,
    calls: u64,
    nanos: Vec<u64>,
}

enum Group {
    Process(u32),
    WithChildren(u32),
}

impl Side {
    /// Verifies these tokens.
    pub(crate) async fn verify(server: &Process, tokens: &[TokenPair]) -> Self {
        Self::new(server, tokens, |pair| Ask::Verify(pair.access_token.clone())).await
    }

    /// Refreshes these sessions, each for itself.
    pub(crate) async fn rotate(server: &Process, tokens: &[TokenPair]) -> Self {
        Self::new(server, tokens, |pair| Ask::Rotate(pair.refresh_token.clone())).await
    }

    /// Asks a constant handler to refresh.
    pub(crate) async fn refresh(server: &Process, tokens: &[TokenPair]) -> Self {
        Self::new(server, tokens, |pair| Ask::Refresh(pair.refresh_token.clone())).await
    }

    /// Signs in, so many at a time.
    pub(crate) async fn login(server: &Process, users: usize, callers: usize) -> Self {
        let users: Vec<_> = (0..callers).map(|caller| format!("user-{}", caller % users)).collect();
        Self::new(server, &users, |user| Ask::Login(user.clone())).await
    }

    /// Signs in one of so many users after the other, so many at a time.
    pub(crate) async fn login_anybody(server: &Process, users: usize, callers: usize) -> Self {
        let starts: Vec<_> = (0..callers).map(|caller| caller * users / callers).collect();
        Self::new(server, &starts, |last| Ask::LoginAnybody { users, last: *last }).await
    }

    /// Lists users, so many callers at a time.
    pub(crate) async fn list_users(server: &Process, token: &str, callers: usize) -> Self {
        let endpoint = Endpoint::try_from(format!("http://{}", server.address)).unwrap();
        let client = UserAdminServiceClient::new(endpoint.connect().await.unwrap());
        let authorization: MetadataValue<Ascii> = format!("Bearer {token}").parse().unwrap();
        let lister = || Lister { client: client.clone(), authorization: authorization.clone(), page: String::new() };
        let ask = |(): &()| Ask::ListUsers(Box::new(lister()));
        Self::new(server, &vec![(); callers], ask).await
    }

    /// Asks a sidecar whether requests with these tokens may pass.
    pub(crate) async fn check(sidecar: &Process, tokens: &[TokenPair]) -> Self {
        let mut clients = Vec::new();
        for _ in 0..CONNECTIONS {
            let endpoint = Endpoint::try_from(format!("http://{}", sidecar.address)).unwrap();
            clients.push(AuthorizationClient::new(endpoint.connect().await.unwrap()));
        }
        let clients = std::cell::RefCell::new(clients.into_iter().cycle());
        Self::new(sidecar, tokens, |pair| {
            let client = clients.borrow_mut().next().unwrap();
            Ask::Check(Box::new((client, check_request(&pair.access_token))))
        })
        .await
    }

    async fn new<T>(server: &Process, over: &[T], ask: impl Fn(&T) -> Ask) -> Self {
        let clients = connect(server).await;
        let caller =
            |(number, thing): (usize, &T)| Caller { client: clients[number % CONNECTIONS].clone(), ask: ask(thing) };
        let callers = over.iter().enumerate().map(caller).collect();
        let helpers = server.helpers.iter().map(|(name, pid)| (*name, Group::WithChildren(*pid)));
        let groups: Vec<_> = std::iter::once(("server", Group::Process(server.pid))).chain(helpers).collect();
        let nanos = vec![0; groups.len() + 1];
        Self { callers, groups, calls: 0, nanos }
    }

    /// Lets all callers call for this long. Calls per second.
    pub(crate) async fn batch(&mut self, length: Duration) -> f64 {
        let before = self.cpu();
        let begun = Instant::now();
        let mut set = JoinSet::new();
        for mut caller in self.callers.drain(..) {
            set.spawn(async move {
                let mut calls = 0_u64;
                while begun.elapsed() < length {
                    caller.call().await;
                    calls += 1;
                }
                (caller, calls)
            });
        }
        let mut calls = 0;
        for (caller, made) in set.join_all().await {
            self.callers.push(caller);
            calls += made;
        }
        let took = begun.elapsed();
        let after = self.cpu();
        for ((sum, before), after) in self.nanos.iter_mut().zip(before).zip(after) {
            *sum += after.saturating_sub(before);
        }
        self.calls += calls;
        per_second(calls, took)
    }

    fn cpu(&self) -> Vec<u64> {
        let groups = self.groups.iter().map(|(_, group)| match group {
            Group::Process(pid) => proc::cpu_nanos(&[*pid]),
            Group::WithChildren(pid) => proc::cpu_nanos(&proc::family(*pid)),
        });
        groups.chain([proc::cpu_nanos(&proc::own())]).collect()
    }

    /// Time on a processor per call, of each of its processes and of the callers.
    pub(crate) fn cpu_per_call(&self) -> String {
        let names = self.groups.iter().map(|(name, _)| *name).chain(["callers"]);
        #[allow(clippy::cast_precision_loss)]
        let micros = |nanos: &u64| *nanos as f64 / 1_000.0 / self.calls.max(1) as f64;
        let parts = names.zip(&self.nanos).map(|(name, nanos)| format!("{name} {:.1}", micros(nanos)));
        parts.collect::<Vec<_>>().join(", ") + " µs"
    }
}

/// What Envoy asks about a usual request.
pub(crate) fn check_request(token: &str) -> CheckRequest {
    let headers = [
        (":authority", "orders.example.com"),
        (":method", "GET"),
        (":path", "/orders/42?expand=lines"),
        (":scheme", "https"),
        ("accept", "application/json"),
        ("accept-encoding", "gzip, deflate, br"),
        ("authorization", &format!("Bearer {token}")),
        ("user-agent", "bench/1"),
        ("x-forwarded-proto", "https"),
        ("x-request-id", "5b1f5f0e-8f0b-4c36-9d1f-1b7b5d0f0c11"),
    ];
    let http = attribute_context::HttpRequest {
        id: "1234567890".to_owned(),
        method: "GET".to_owned(),
        headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        path: "/orders/42?expand=lines".to_owned(),
        host: "orders.example.com".to_owned(),
        scheme: "https".to_owned(),
        protocol: "HTTP/1.1".to_owned(),
        ..attribute_context::HttpRequest::default()
    };
    let request = attribute_context::Request { http: Some(http), ..attribute_context::Request::default() };
    let attributes = AttributeContext { request: Some(request), ..AttributeContext::default() };
    CheckRequest { attributes: Some(attributes) }
}

#[allow(clippy::cast_precision_loss)]
pub(crate) fn per_second(count: u64, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}

/// Rates of two sides in batches of this length: A B, B A, A B, ... for as long as the budget lasts.
pub(crate) async fn alternate(a: &mut Side, b: &mut Side, batch: Duration, budget: Duration) -> Paired {
    a.batch(batch * 3).await;
    b.batch(batch * 3).await;
    (a.calls, b.calls) = (0, 0);
    a.nanos.fill(0);
    b.nanos.fill(0);
    let begun = Instant::now();
    let mut paired = Paired::default();
    while begun.elapsed() < budget || paired.a.len() < 4 {
        let of_a = a.batch(batch).await;
        let of_b = b.batch(batch).await;
        paired.push(of_a, of_b);
        let of_b = b.batch(batch).await;
        let of_a = a.batch(batch).await;
        paired.push(of_a, of_b);
    }
    paired
}

/// Callers that take turns on a schedule.
pub(crate) struct Schedule {
    idle: Arc<tokio::sync::Mutex<mpsc::UnboundedReceiver<Caller>>>,
    back: mpsc::UnboundedSender<Caller>,
    per_second: f64,
}

impl Schedule {
    /// So many calls per second, whether or not the earlier ones have been answered.
    pub(crate) fn new(side: Side, per_second: f64) -> Self {
        let (back, idle) = mpsc::unbounded_channel();
        for caller in side.callers {
            back.send(caller).ok();
        }
        Self { idle: Arc::new(tokio::sync::Mutex::new(idle)), back, per_second }
    }

    /// Calls for this long. The sorted latencies in milliseconds, each from the moment the schedule had foreseen: a call
    /// that could not even be sent in time counts as slow.
    pub(crate) async fn window(&self, length: Duration) -> Vec<f64> {
        let latencies = Arc::new(Mutex::new(Vec::new()));
        let (sent, mut all_sent) = mpsc::channel::<()>(1);
        let (runtime, idle, back) = (Handle::current(), Arc::clone(&self.idle), self.back.clone());
        let (kept, gap) = (Arc::clone(&latencies), Duration::from_secs_f64(1.0 / self.per_second));
        // A thread of its own: the runtime's timer has no better resolution than a millisecond.
        let pacer = thread::spawn(move || {
            let begun = Instant::now();
            let mut due = Duration::ZERO;
            while due < length {
                thread::sleep(due.saturating_sub(begun.elapsed()));
                let (idle, back, kept, sent) = (Arc::clone(&idle), back.clone(), Arc::clone(&kept), sent.clone());
                runtime.spawn(async move {
                    let mut caller = idle.lock().await.recv().await.unwrap();
                    caller.call().await;
                    let latency = begun.elapsed().saturating_sub(due);
                    back.send(caller).ok();
                    kept.lock().unwrap().push(latency.as_secs_f64() * 1_000.0);
                    drop(sent);
                });
                due += gap;
            }
        });
        // Ends when the pacer and every call have dropped their sender.
        all_sent.recv().await;
        pacer.join().unwrap();
        let mut latencies = std::mem::take(&mut *latencies.lock().unwrap());
        latencies.sort_by(f64::total_cmp);
        latencies
    }
}
