//! The server as its callers see it, beside a handler that returns a constant.

use std::time::{Duration, Instant};

use tonic::transport::Endpoint;
use vouchsafe::pb::v1::{
    RefreshRequest, RefreshResponse, TokenPair, VerifyRequest, VerifyResponse, auth_service_client::AuthServiceClient,
};

use crate::{
    Bound, Plan, Report,
    constant::Answers,
    load::{Schedule, Side, alternate, login, sign_in},
    logins,
    process::Process,
    redis,
    stats::{Paired, median, quantile},
    storm::Storm,
};

/// Users, and sessions of each. Half of the sessions are for A and half for B where A is measured against itself.
const USERS: usize = 16;
const SESSIONS: usize = 8;
/// Calls under way at once on each side.
const CALLERS: usize = 32;
/// How long one side calls before it is the other's turn.
const BATCH: Duration = Duration::from_millis(100);
/// Attempts per second in a storm: ten times what one core can hash.
const STORM: u32 = 500;
/// The share of its capacity that each RPC is loaded with while latencies are taken.
const LOAD: f64 = 0.05;

/// Every caller of a storm has the same address, which would not do for long.
const UNSLOWED: [(&str, &str); 2] = [("throttle.address_failures", "1000000"), ("throttle.overall_failures", "0")];

/// The two ways to run it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Backend {
    Redis,
    Sqlite,
}

impl Backend {
    const fn name(self) -> &'static str {
        match self {
            Self::Redis => "Postgres and Redis",
            Self::Sqlite => "SQLite",
        }
    }
}

/// Everything that talks to a server.
pub(crate) async fn run(plan: &Plan, report: &mut Report) {
    let with_redis = ["verify", "refresh", "login", "storm", "memory"].iter().any(|part| plan.has(part));
    if with_redis {
        on(Backend::Redis, plan, report).await;
    }
    if plan.has("sqlite") || plan.has("memory") {
        on(Backend::Sqlite, plan, report).await;
    }
}

async fn on(backend: Backend, plan: &Plan, report: &mut Report) {
    let server = match backend {
        Backend::Redis => Process::on_redis(&UNSLOWED).await,
        Backend::Sqlite => Process::on_sqlite(&UNSLOWED).await,
    };
    let idle = server.settled_memory().await;
    if plan.has("memory") {
        let what = format!("memory of an idle server, {}", backend.name());
        report.figure(&what, idle, "MiB", Bound::AtMost(40.0), "resident, once it has stopped to grow after its start");
    }
    let pairs = sign_in(&server, USERS, SESSIONS).await;
    if plan.has("memory") {
        let what = format!("memory after {} logins, {}", pairs.len(), backend.name());
        report.figure(&what, server.settled_memory().await, "MiB", Bound::None, "of which 19 MiB are for hashing");
    }
    let answers = answers(&server, &pairs[0]).await;
    let constant = Process::constant(&answers).await;
    let (one, other) = pairs[1..].split_at(CALLERS);
    let other = &other[..CALLERS];
    let bench = Bench { backend, server, constant, plan };
    if plan.has("verify") && backend == Backend::Redis || plan.has("sqlite") && backend == Backend::Sqlite {
        bench.verify(one, other, report).await;
    }
    if plan.has("refresh") && backend == Backend::Redis || plan.has("sqlite") && backend == Backend::Sqlite {
        bench.refresh(one, other, report).await;
    }
    if backend == Backend::Redis {
        // Each part with tokens of its own time.
        let mut fresh = refreshed(&bench.server, &pairs[1 + 2 * CALLERS..]).await;
        if plan.has("login") {
            let mut verify = Side::verify(&bench.server, &fresh).await;
            logins::run(&bench.server, USERS, &mut verify, plan.budget * 2, report).await;
        }
        fresh = refreshed(&bench.server, &fresh).await;
        if plan.has("storm") {
            bench.storm(&fresh, report).await;
        }
        // Each of these sessions has been refreshed, so Redis holds a record of it.
        if plan.has("memory") {
            redis::memory_per_session(report).await;
        }
    }
}

/// What the server really answers, for the constant handler.
async fn answers(server: &Process, pair: &TokenPair) -> Answers {
    let endpoint = Endpoint::try_from(format!("http://{}", server.address)).unwrap();
    let mut client = AuthServiceClient::new(endpoint.connect().await.unwrap());
    let request = VerifyRequest { token: pair.access_token.clone(), ..VerifyRequest::default() };
    let verify: VerifyResponse = client.verify(request).await.unwrap().into_inner();
    let request = RefreshRequest { refresh_token: pair.refresh_token.clone() };
    let refresh: RefreshResponse = client.refresh(request).await.unwrap().into_inner();
    assert!(verify.active);
    Answers { verify, refresh, ..Answers::default() }
}

/// The same sessions with new tokens: access tokens do not live for long.
pub(crate) async fn refreshed(server: &Process, pairs: &[TokenPair]) -> Vec<TokenPair> {
    let endpoint = Endpoint::try_from(format!("http://{}", server.address)).unwrap();
    let mut client = AuthServiceClient::new(endpoint.connect().await.unwrap());
    let mut fresh = Vec::new();
    for pair in pairs {
        let request = RefreshRequest { refresh_token: pair.refresh_token.clone() };
        fresh.push(client.refresh(request).await.unwrap().into_inner().tokens.unwrap());
    }
    fresh
}

struct Bench<'a> {
    backend: Backend,
    server: Process,
    constant: Process,
    plan: &'a Plan,
}

impl Bench<'_> {
    async fn verify(&self, one: &[TokenPair], other: &[TokenPair], report: &mut Report) {
        let mut a = Side::verify(&self.server, one).await;
        let mut again = Side::verify(&self.server, other).await;
        let mut b = Side::verify(&self.constant, one).await;
        self.against_constant("Verify", [&mut a, &mut again, &mut b], Bound::AtLeast(0.85), report).await;
    }

    async fn refresh(&self, one: &[TokenPair], other: &[TokenPair], report: &mut Report) {
        let mut a = Side::rotate(&self.server, one).await;
        let mut again = Side::rotate(&self.server, other).await;
        let mut b = Side::refresh(&self.constant, one).await;
        let bound = match self.backend {
            Backend::Redis => Bound::AtLeast(0.40),
            Backend::Sqlite => Bound::None,
        };
        self.against_constant("Refresh", [&mut a, &mut again, &mut b], bound, report).await;
    }

    async fn against_constant(
        &self,
        rpc: &str,
        [a, again, constant]: [&mut Side; 3],
        bound: Bound,
        report: &mut Report,
    ) {
        let floor = alternate(a, again, BATCH, self.plan.budget / 2).await;
        let paired = alternate(a, constant, BATCH, self.plan.budget).await;
        let detail = format!(
            "{:.0} and {:.0} per second; time on a processor per call: {}; constant: {}",
            median(&paired.a),
            median(&paired.b),
            a.cpu_per_call(),
            constant.cpu_per_call(),
        );
        let what = format!("`{rpc}` ({}) : constant handler", self.backend.name());
        report.ratio(&what, paired.ratios(), Some(floor.ratios()), bound, &detail);
    }

    /// Latencies of both RPCs in windows without, with and again without a storm.
    async fn storm(&self, sessions: &[TokenPair], report: &mut Report) {
        let (mut verify, mut refresh) =
            (Side::verify(&self.server, sessions).await, Side::rotate(&self.server, sessions).await);
        let rates = [verify.batch(BATCH * 10).await * LOAD, refresh.batch(BATCH * 10).await * LOAD];
        let [verify, refresh] = [Schedule::new(verify, rates[0]), Schedule::new(refresh, rates[1])];
        let length = Duration::from_secs(3);
        let windows = async || <[_; 2]>::from(tokio::join!(verify.window(length), refresh.window(length)));
        let mut seen = [Latencies::default(), Latencies::default()];
        let (mut hashed, mut shed, mut failed) = (0, 0, 0);
        let begun = Instant::now();
        windows().await;
        while begun.elapsed() < self.plan.budget * 5 || seen[0].p99.a.len() < 4 {
            let before = windows().await;
            let storm = Storm::rise(&self.server, STORM).await;
            let during = windows().await;
            let ends = storm.end().await;
            hashed += ends.hashed;
            shed += ends.shed;
            failed += ends.failed;
            calm(&self.server).await;
            let after = windows().await;
            for (at, seen) in seen.iter_mut().enumerate() {
                seen.add(&before[at], &during[at], &after[at]);
            }
        }
        report.note(format!(
            "of the storms' logins, {STORM} per second, {hashed} were hashed, {shed} shed, {failed} ended otherwise"
        ));
        for ((rpc, seen), rate) in ["Verify", "Refresh"].iter().zip(&seen).zip(rates) {
            let detail = format!(
                "without p50 {:.2} ms, p99 {:.2} ms; with p50 {:.2} ms, p99 {:.2} ms; at {rate:.0} calls per second",
                median(&seen.p50.b),
                median(&seen.p99.b),
                median(&seen.p50.a),
                median(&seen.p99.a),
            );
            let what = format!("p99 of `{rpc}` in a login storm : without");
            report.ratio(&what, seen.p99.ratios(), Some(seen.floor.ratios()), Bound::AtMost(2.0), &detail);
        }
    }
}

/// Quantiles per window: with the storm and without.
#[derive(Default)]
struct Latencies {
    p50: Paired,
    p99: Paired,
    floor: Paired,
}

impl Latencies {
    fn add(&mut self, before: &[f64], during: &[f64], after: &[f64]) {
        self.p50.push(quantile(during, 0.5), quantile(before, 0.5));
        self.p99.push(quantile(during, 0.99), quantile(before, 0.99));
        self.floor.push(quantile(after, 0.99), quantile(before, 0.99));
    }
}

/// Waits until the last of a storm's hashes is done or dropped.
async fn calm(server: &Process) {
    let endpoint = Endpoint::try_from(format!("http://{}", server.address)).unwrap();
    let mut client = AuthServiceClient::new(endpoint.connect().await.unwrap());
    loop {
        let begun = Instant::now();
        let answer = login(&mut client, "user-0", crate::load::PASSWORD).await;
        if answer.is_ok() && begun.elapsed() < Duration::from_millis(300) {
            return;
        }
    }
}
