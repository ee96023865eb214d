//! The sidecar as Envoy sees it, beside a handler that returns a constant.

use std::time::Duration;

use envoy_types::pb::envoy::service::auth::v3::authorization_client::AuthorizationClient;
use tonic::transport::Endpoint;

use crate::{
    Bound, Plan, Report,
    constant::Answers,
    load::{Side, alternate, check_request, sign_in},
    process::Process,
    stats::median,
};

/// Calls under way at once on each side.
const CALLERS: usize = 32;
/// How long one side calls before it is the other's turn.
const BATCH: Duration = Duration::from_millis(100);

/// `Check` of requests whose tokens were seen before.
pub(crate) async fn run(plan: &Plan, report: &mut Report) {
    let server = Process::on_sqlite(&[]).await;
    let sidecar = server.sidecar().await;
    let pairs = sign_in(&server, CALLERS / 4, 8).await;
    let (one, other) = pairs.split_at(CALLERS);
    let endpoint = Endpoint::try_from(format!("http://{}", sidecar.address)).unwrap();
    let mut client = AuthorizationClient::new(endpoint.connect().await.unwrap());
    let check = client.check(check_request(&one[0].access_token)).await.unwrap().into_inner();
    assert_eq!(check.status.as_ref().map(|status| status.code), Some(0), "{check:?}");
    let constant = Process::constant(&Answers { check, ..Answers::default() }).await;
    let (mut a, mut again) = (Side::check(&sidecar, one).await, Side::check(&sidecar, other).await);
    let mut b = Side::check(&constant, one).await;
    let floor = alternate(&mut a, &mut again, BATCH, plan.budget / 2).await;
    let paired = alternate(&mut a, &mut b, BATCH, plan.budget).await;
    let detail = format!(
        "{:.0} and {:.0} per second; time on a processor per call: {}; constant: {}",
        median(&paired.a),
        median(&paired.b),
        a.cpu_per_call(),
        b.cpu_per_call(),
    );
    report.ratio(
        "`Check` of the sidecar : constant handler",
        paired.ratios(),
        Some(floor.ratios()),
        Bound::None,
        &detail,
    );
    let what = "memory of a sidecar";
    report.figure(what, sidecar.settled_memory().await, "MiB", Bound::None, "resident, after that load");
}
