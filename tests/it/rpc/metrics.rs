//! What is counted and measured, as a scrape shows it.

use std::collections::BTreeMap;

use tonic::Code;
use vouchsafe::{pb::v1, telemetry::CATALOG};

use super::on_both_databases;
use crate::support::{
    Backend, PASSWORD, TestDatabase, TestNode, bearer, login_request, surely_later, until,
    wire::{call, get},
};

on_both_databases!(
    logins_and_registrations_are_counted_by_outcome,
    refreshes_are_counted_by_what_was_decided,
    verifications_are_counted_by_what_was_said,
    rpcs_are_measured_by_method_and_status,
    a_revocation_of_another_node_is_measured_where_it_arrives,
    a_node_tells_how_it_is,
);

/// A scrape: each series with its labels, and its value.
struct Scrape(BTreeMap<String, f64>);

impl Scrape {
    async fn of(node: &TestNode) -> Self {
        let (status, text) = get(node.http, "/metrics").await;
        assert_eq!(status, 200);
        let series = text.lines().filter(|line| !line.starts_with('#')).map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap();
            (series.to_owned(), value.parse().unwrap())
        });
        Self(series.collect())
    }

    fn value(&self, series: &str) -> f64 {
        self.find(series).unwrap_or_else(|| panic!("{series} is not in {:#?}", self.0))
    }

    fn find(&self, series: &str) -> Option<f64> {
        self.0.get(series).copied()
    }
}

/// What a series has grown by.
#[track_caller]
fn assert_grown(before: &Scrape, after: &Scrape, by: &[(&str, f64)]) {
    for (series, grown) in by {
        let (before, after) = (before.find(series).unwrap_or(0.0), after.value(series));
        assert!((after - before - grown).abs() < 1e-9, "{series}: {before} to {after}");
    }
}

async fn logins_and_registrations_are_counted_by_outcome(backend: Backend) {
    let node = TestNode::builder(backend).await.start().await;
    let before = Scrape::of(&node).await;
    node.register("ada@example.com").await;
    let again =
        v1::RegisterRequest { email: "ada@example.com".into(), password: PASSWORD.into(), ..Default::default() };
    node.auth().await.register(again).await.unwrap_err();
    node.login("ada@example.com").await;
    node.login("ada@example.com").await;
    for identifier in ["ada@example.com", "nobody@example.com"] {
        node.try_login(login_request(identifier, "wrong horse battery staple")).await.unwrap_err();
    }
    let after = Scrape::of(&node).await;
    assert_grown(
        &before,
        &after,
        &[
            ("vouchsafe_registrations_total{outcome=\"ok\"}", 1.0),
            ("vouchsafe_registrations_total{outcome=\"taken\"}", 1.0),
            ("vouchsafe_logins_total{outcome=\"ok\"}", 2.0),
            ("vouchsafe_logins_total{outcome=\"invalid_credentials\"}", 2.0),
            ("vouchsafe_logins_total{outcome=\"unavailable\"}", 0.0),
            // Each of them cost a hash, whether or not there is such an account.
            ("vouchsafe_password_hash_duration_seconds_count", 6.0),
            ("vouchsafe_password_hash_wait_seconds_count", 6.0),
        ],
    );
    assert!(after.value("vouchsafe_password_hash_duration_seconds_sum") > 0.0);
    node.remove().await;
}

async fn refreshes_are_counted_by_what_was_decided(backend: Backend) {
    let node = TestNode::start(backend).await;
    node.register("ada@example.com").await;
    let first = node.login("ada@example.com").await.refresh_token;
    let before = Scrape::of(&node).await;
    let second = node.refresh(&first).await.unwrap().refresh_token;
    node.refresh(&first).await.unwrap();
    let third = node.refresh(&second).await.unwrap().refresh_token;
    surely_later().await;
    node.refresh(&first).await.unwrap_err();
    node.refresh(&third).await.unwrap_err();
    node.refresh("vrt_nonsense").await.unwrap_err();
    let after = Scrape::of(&node).await;
    assert_grown(
        &before,
        &after,
        &[
            ("vouchsafe_refreshes_total{decision=\"rotate\",path=\"row\"}", 2.0),
            ("vouchsafe_refreshes_total{decision=\"redeliver\",path=\"row\"}", 1.0),
            ("vouchsafe_refreshes_total{decision=\"replay\",path=\"row\"}", 1.0),
            ("vouchsafe_refreshes_total{decision=\"ended\",path=\"row\"}", 1.0),
            ("vouchsafe_refreshes_total{decision=\"late_redelivery\",path=\"row\"}", 0.0),
            ("vouchsafe_refresh_replays_total", 1.0),
        ],
    );
    node.remove().await;
}

async fn verifications_are_counted_by_what_was_said(backend: Backend) {
    let node = TestNode::start(backend).await;
    node.register("ada@example.com").await;
    let tokens = node.login("ada@example.com").await;
    let before = Scrape::of(&node).await;
    assert!(node.verify(&tokens.access_token).await.active);
    assert!(node.admits(&tokens.access_token).await);
    node.verify("nonsense").await;
    node.verify(&tokens.refresh_token).await;
    node.logout(&tokens.refresh_token).await.unwrap();
    node.verify(&tokens.access_token).await;
    let after = Scrape::of(&node).await;
    assert_grown(
        &before,
        &after,
        &[
            ("vouchsafe_verifications_total{result=\"active\"}", 2.0),
            ("vouchsafe_verifications_total{result=\"malformed\"}", 1.0),
            ("vouchsafe_verifications_total{result=\"wrong_type\"}", 1.0),
            ("vouchsafe_verifications_total{result=\"revoked\"}", 1.0),
            ("vouchsafe_verifications_total{result=\"expired\"}", 0.0),
            ("vouchsafe_revocations_held", 1.0),
        ],
    );
    node.remove().await;
}

fn rpc(method: &str, status: &str) -> String {
    format!(
        "rpc_server_call_duration_seconds_count{{rpc_system_name=\"grpc\",rpc_method=\"{method}\",\
         rpc_response_status_code=\"{status}\"}}"
    )
}

async fn rpcs_are_measured_by_method_and_status(backend: Backend) {
    let node = TestNode::start(backend).await;
    node.verify("nonsense").await;
    node.try_login(login_request("nobody@example.com", PASSWORD)).await.unwrap_err();
    let missing = node.account().await.get_account(bearer("nonsense", v1::GetAccountRequest {})).await.unwrap_err();
    assert_eq!(missing.code(), Code::Unauthenticated);
    for path in ["/vouchsafe.v1.AuthService/Nonsense", "/made.up/Name", "/grpc.health.v1.Health/MadeUp"] {
        call(node.grpc, path, &[], Vec::new()).await.unwrap();
    }
    let health = tonic_health::pb::HealthCheckRequest { service: String::new() };
    let mut client = tonic_health::pb::health_client::HealthClient::new(node.shared().await);
    client.check(health.clone()).await.unwrap();
    // A stream is counted when it ends, here because nobody listens any more.
    let mut watch = client.watch(health).await.unwrap().into_inner();
    watch.message().await.unwrap().unwrap();
    assert_eq!(Scrape::of(&node).await.find(&rpc("grpc.health.v1.Health/Watch", "CANCELLED")), None);
    drop(watch);
    until("the end of the stream is seen", async || {
        Scrape::of(&node).await.find(&rpc("grpc.health.v1.Health/Watch", "CANCELLED")) == Some(1.0)
    })
    .await;

    let scrape = Scrape::of(&node).await;
    for (method, status, count) in [
        ("vouchsafe.v1.AuthService/Verify", "OK", 1.0),
        ("vouchsafe.v1.AuthService/Login", "UNAUTHENTICATED", 1.0),
        ("vouchsafe.v1.AccountService/GetAccount", "UNAUTHENTICATED", 1.0),
        ("grpc.health.v1.Health/Check", "OK", 1.0),
        ("_OTHER", "UNIMPLEMENTED", 3.0),
    ] {
        assert!((scrape.value(&rpc(method, status)) - count).abs() < 1e-9, "{method} {status}");
    }
    assert!(!scrape.0.keys().any(|series| series.to_lowercase().contains("made")), "callers cannot make up series");
    node.remove().await;
}

async fn a_revocation_of_another_node_is_measured_where_it_arrives(backend: Backend) {
    // SQLite has one server at a time; what arrives is what another program wrote.
    let database = std::sync::Arc::new(TestDatabase::migrated(backend).await);
    let here = TestNode::on(std::sync::Arc::clone(&database)).start().await;
    here.register("ada@example.com").await;
    let tokens = here.login("ada@example.com").await;
    here.logout(&tokens.refresh_token).await.unwrap();
    here.catch_up().await;
    let before = Scrape::of(&here).await;
    let head = before.value("vouchsafe_feed_head");
    let columns = "revocation, time, expire_time";
    database
        .execute(&format!(
            "INSERT INTO feed (number, {columns}) SELECT number + 1, {columns} FROM feed WHERE number = {head}"
        ))
        .await;
    database.execute("UPDATE feed_head SET number = number + 1").await;
    here.catch_up().await;
    let after = Scrape::of(&here).await;
    assert_grown(&before, &after, &[("vouchsafe_revocation_lag_seconds_count", 1.0), ("vouchsafe_feed_head", 1.0)]);
    here.remove().await;
}

async fn a_node_tells_how_it_is(backend: Backend) {
    let node = TestNode::start(backend).await;
    node.verify("nonsense").await;
    let scrape = Scrape::of(&node).await;
    assert!((scrape.value("vouchsafe_grpc_connections") - 1.0).abs() < 1e-9);
    for (series, least, most) in [
        ("vouchsafe_signing_key_age_seconds", 0.0, 60.0),
        ("vouchsafe_feed_staleness_seconds", 0.0, 60.0),
        ("vouchsafe_password_hash_queue", 0.0, 0.0),
        ("process_start_time_seconds", 1_700_000_000.0, 1e11),
        ("process_resident_memory_bytes", 1e6, 1e11),
        ("process_open_fds", 3.0, 1e6),
        (&format!("vouchsafe_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION")), 1.0, 1.0),
    ] {
        let value = scrape.value(series);
        assert!((least..=most).contains(&value), "{series} {value}");
    }
    let open = ["in_use", "idle"].map(|s| scrape.value(&format!("vouchsafe_database_connections{{state=\"{s}\"}}")));
    assert!(open.iter().sum::<f64>() >= 1.0, "{open:?}");
    // What has nothing to say is not there, rather than zero.
    for about in CATALOG {
        let there = scrape.0.keys().any(|series| series.starts_with(about.prometheus));
        let silent = ["vouchsafe_hot_state_up", "vouchsafe_signing_key_next_activation_timestamp_seconds"];
        assert_eq!(there, !silent.contains(&about.prometheus), "{}", about.prometheus);
    }
    node.remove().await;
}
