//! What the sidecar says of itself.

use http::StatusCode;
use tokio::process::Command;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use super::world::{Sidecar, token};
use crate::{
    process::{
        harness::{finish, until},
        tools::tool,
    },
    support::{Backend, TestNode},
};

async fn health(sidecar: &Sidecar, service: &str) -> ServingStatus {
    let request = HealthCheckRequest { service: service.to_owned() };
    HealthClient::new(sidecar.channel.clone()).check(request).await.unwrap().into_inner().status()
}

#[tokio::test]
async fn it_is_ready_once_it_can_tell_good_tokens_from_bad() {
    let sidecar =
        Sidecar::start("http://127.0.0.1:1", false, "[[routes]]\npath = \"/open\"\naccess = \"public\"\n").await;
    let services = ["", "envoy.service.auth.v3.Authorization", "vouchsafe.v1.AuthService"];
    for service in services {
        assert_eq!(health(&sidecar, service).await, ServingStatus::NotServing, "{service}");
    }
    assert_eq!(sidecar.http("/livez").await.status, StatusCode::OK);
    assert_eq!(sidecar.http("/readyz").await.status, StatusCode::SERVICE_UNAVAILABLE);
    let other = TestNode::start(Backend::Sqlite).await;
    let token = token(&other, &[], "").await;
    assert_eq!(sidecar.get("/orders", Some(&token)).await.status, 503, "nobody can say");
    assert_eq!(sidecar.get("/orders", None).await.status, 401);
    assert_eq!(sidecar.get("/open", None).await.status, 200);
    sidecar.stop().await;

    let sidecar = Sidecar::beside(&other, "").await;
    for service in services {
        until("it serves", async || (health(&sidecar, service).await == ServingStatus::Serving).then_some(())).await;
    }
    assert_eq!(sidecar.http("/readyz").await.status, StatusCode::OK);
    assert_eq!(sidecar.http("/nothing").await.status, StatusCode::NOT_FOUND);
    sidecar.stop().await;
    other.remove().await;
}

#[tokio::test]
async fn promtool_accepts_a_scrape() {
    let node = TestNode::start(Backend::Sqlite).await;
    let sidecar = Sidecar::beside(&node, "").await;
    sidecar.get("/orders", None).await;
    let scrape = sidecar.http("/metrics").await;
    assert!(
        scrape.body.contains("vouchsafe_sidecar_checks_total{decision=\"deny\",reason=\"no_token\"} 1\n"),
        "{}",
        scrape.body
    );
    assert!(scrape.body.contains("vouchsafe_verifier_"), "{}", scrape.body);
    let mut promtool = Command::new(tool("promtool"));
    promtool.args(["check", "metrics"]);
    finish(promtool, &scrape.body).await.ok();
    sidecar.stop().await;
    node.remove().await;
}
