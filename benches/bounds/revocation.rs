//! How long a revoked token goes on being accepted elsewhere: from the answer of `Logout` at one node to the first refusal at
//! another node, at a sidecar and in an embedded verifier.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use envoy_types::pb::envoy::service::auth::v3::authorization_client::AuthorizationClient;
use tokio::{sync::oneshot, task::JoinSet, time::sleep};
use tonic::transport::{Channel, Endpoint};
use vouchsafe::{
    pb::v1::{LogoutRequest, TokenPair, VerifyRequest, auth_service_client::AuthServiceClient},
    verifier::{Rule, Verifier},
};

use crate::{
    Bound, Plan, Report,
    load::{Client, Side, check_request, sign_in},
    process::Process,
    stats::quantile,
};

/// Logouts of each round.
const LOGOUTS: usize = 1_000;
/// Users; the logouts are of their sessions.
const USERS: usize = 50;
/// The bound on the p99, DESIGN: at other nodes, sidecars and embedded verifiers.
const MILLIS: f64 = 100.0;
/// Pause between two questions whether a token is refused by now.
const POLL: Duration = Duration::from_micros(500);
/// Pause between two logouts.
const GAP: Duration = Duration::from_millis(2);
/// Callers of each kind that load both nodes.
const LOAD: usize = 4;

/// Who is asked.
const PLACES: [&str; 3] = ["another node", "a sidecar", "an embedded verifier"];

/// Idle, and under load.
pub(crate) async fn run(plan: &Plan, report: &mut Report) {
    let one = Process::on_redis(&[("tokens.access_ttl", "1h")]).await;
    let other = one.sibling().await;
    let sidecar = other.sidecar().await;
    let verifier = Verifier::builder("http://localhost:50052", ["vouchsafe"])
        .service_url(&format!("http://{}", other.address))
        .unwrap()
        .start()
        .await
        .unwrap();
    verifier.ready().await;
    let places = Places {
        node: AuthServiceClient::new(connect(&one).await),
        other: AuthServiceClient::new(connect(&other).await),
        sidecar: AuthorizationClient::new(connect(&sidecar).await),
        verifier,
    };
    let mut pairs = sign_in(&one, USERS, 2 * LOGOUTS / USERS + 1).await;
    let loaders = pairs.split_off(2 * LOGOUTS);
    let (idle, busy) = pairs.split_at(LOGOUTS);
    places.report("idle", idle, report).await;

    let stop = Arc::new(AtomicBool::new(false));
    let mut load = JoinSet::new();
    for (server, tokens) in [(&one, &loaders[..LOAD]), (&other, &loaders[LOAD..2 * LOAD])] {
        let (mut verify, mut refresh) = (Side::verify(server, tokens).await, Side::rotate(server, tokens).await);
        let stop = Arc::clone(&stop);
        load.spawn(async move {
            let mut rates = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let batch = Duration::from_secs(1);
                let (verify, refresh) = tokio::join!(verify.batch(batch), refresh.batch(batch));
                rates.push(verify + refresh);
            }
            rates
        });
    }
    places.report("under load", busy, report).await;
    stop.store(true, Ordering::Relaxed);
    let rates: Vec<Vec<f64>> = load.join_all().await;
    let rate: f64 = rates.iter().map(|rates| crate::stats::median(rates)).sum();
    let _ = plan;
    report
        .note(format!("revocations under load: both nodes answered {rate:.0} Verify and Refresh per second meanwhile"));
}

async fn connect(server: &Process) -> Channel {
    Endpoint::try_from(format!("http://{}", server.address)).unwrap().connect().await.unwrap()
}

struct Places {
    node: Client,
    other: Client,
    sidecar: AuthorizationClient<Channel>,
    verifier: Verifier,
}

impl Places {
    async fn report(&self, when: &str, pairs: &[TokenPair], report: &mut Report) {
        let mut seen = [Vec::new(), Vec::new(), Vec::new()];
        for pair in pairs {
            for (seen, millis) in seen.iter_mut().zip(self.log_out(pair).await) {
                seen.push(millis);
            }
            sleep(GAP).await;
        }
        for (place, mut millis) in PLACES.iter().zip(seen) {
            millis.sort_by(f64::total_cmp);
            let [p50, p99, most] = [0.5, 0.99, 1.0].map(|share| quantile(&millis, share));
            let detail = format!("of {} logouts: p50 {p50:.1} ms, p99 {p99:.1} ms, longest {most:.1} ms", millis.len());
            let what = format!("from the answer of `Logout` to the refusal at {place}, {when}, p99");
            report.figure(&what, p99, "ms", Bound::AtMost(MILLIS), &detail);
        }
    }

    /// Milliseconds from the answer until each place refuses; none if it did before.
    async fn log_out(&self, pair: &TokenPair) -> [f64; 3] {
        let token = &pair.access_token;
        let (told, when) = oneshot::channel::<Instant>();
        let node = async {
            let mut client = self.other.clone();
            until_refused(async || {
                let request = VerifyRequest { token: token.clone(), ..VerifyRequest::default() };
                !client.verify(request).await.unwrap().into_inner().active
            })
            .await
        };
        let sidecar = async {
            let mut client = self.sidecar.clone();
            let request = check_request(token);
            until_refused(async || {
                client.check(request.clone()).await.unwrap().into_inner().status.is_some_and(|status| status.code != 0)
            })
            .await
        };
        let embedded = async {
            let rule = Rule::required();
            until_refused(async || self.verifier.verify(token, &rule).await.is_err()).await
        };
        let logout = async {
            // Everybody has seen the token by now, and accepted it.
            sleep(Duration::from_millis(3)).await;
            let request = LogoutRequest { refresh_token: pair.refresh_token.clone() };
            self.node.clone().logout(request).await.unwrap();
            told.send(Instant::now()).unwrap();
        };
        let (node, sidecar, embedded, ()) = tokio::join!(node, sidecar, embedded, logout);
        let answered = when.await.unwrap();
        [node, sidecar, embedded].map(|refused| refused.saturating_duration_since(answered).as_secs_f64() * 1e3)
    }
}

/// When the first question was answered by a refusal. The first of all is not: the token is good.
async fn until_refused(mut refused: impl AsyncFnMut() -> bool) -> Instant {
    assert!(!refused().await, "refused before it was revoked");
    loop {
        if refused().await {
            return Instant::now();
        }
        sleep(POLL).await;
    }
}
