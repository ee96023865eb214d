//! What an operator's own programs make of a server: promtool of its metrics, a collector of its traces.

use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind};
use rustix::process::Signal;
use tokio::{net::TcpListener, process::Command};
use tonic::Request;
use vouchsafe::{
    pb::v1::{self, auth_service_client::AuthServiceClient},
    telemetry::CATALOG,
};

use super::{
    client::Client,
    harness::{Place, finish, until},
    tools::{python, tool},
    web::get,
};
use crate::{
    rpc::on_both_databases,
    support::{Backend, Collector, PASSWORD, attribute, histogram, login_request, number},
};

on_both_databases!(
    promtool_accepts_a_scrape,
    a_collector_receives_spans_and_metrics,
    a_collector_that_is_away_costs_a_line_in_the_log,
    a_collector_is_reached_over_tls_if_its_authority_is_trusted,
);

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

async fn promtool_accepts_a_scrape(backend: Backend) {
    let place = Place::new(backend).await;
    let server = place.serve().await;
    let client = Client::of(&server).await;
    let tokens = client.join("ada@example.com").await;
    client.claims(&tokens.access_token).await;
    client.refresh(&tokens.refresh_token).await.unwrap();
    let scrape = get(&server, "/metrics").await;
    assert_eq!((scrape.status.as_u16(), scrape.header("cache-control")), (200, "no-store"));
    assert_eq!(scrape.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    for about in CATALOG.iter().filter(|about| !about.prometheus.contains("hot_state_up")) {
        let there = scrape.body.contains(&format!("# TYPE {} ", about.prometheus));
        assert!(there || about.prometheus.contains("next_activation"), "{}", about.prometheus);
    }

    let mut promtool = Command::new(tool("promtool"));
    promtool.args(["check", "metrics"]);
    let said = finish(promtool, &scrape.body).await;
    assert!(said.status.success(), "{said:?}");
    assert_eq!((said.stdout.as_str(), said.stderr.as_str()), ("", ""), "promtool has nothing to complain about");
    // It would, if there were something.
    let mut promtool = Command::new(tool("promtool"));
    promtool.args(["check", "metrics"]);
    let worse = scrape.body.replace("vouchsafe_logins_total", "vouchsafe_logins");
    assert!(!finish(promtool, &worse).await.status.success());
    server.stop().await;

    let place = place.set("telemetry.metrics", "false");
    let server = place.serve().await;
    assert_eq!(get(&server, "/metrics").await.status.as_u16(), 404);
    server.stop().await;
    place.remove().await;
}

/// A message that continues a trace.
fn traced<T>(message: T, traceparent: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("traceparent", traceparent.parse().unwrap());
    request
}

fn named<'a>(spans: &'a [Span], name: &str) -> Vec<&'a Span> {
    spans.iter().filter(|span| span.name == name).collect()
}

async fn a_collector_receives_spans_and_metrics(backend: Backend) {
    let (collector, address) = Collector::start().await;
    let place = Place::new(backend)
        .await
        .set("telemetry.otlp_endpoint", &format!("http://{address}"))
        .set("telemetry.trace_percent", "0")
        .variable("OTEL_METRIC_EXPORT_INTERVAL", "50")
        .variable("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test");
    let server = place.serve().await;
    let client = Client::of(&server).await;
    let tokens = client.join("ada@example.com").await;
    let mut auth = AuthServiceClient::new(client.channel.clone());
    let traceparent = format!("00-{TRACE}-{PARENT}-01");
    auth.login(traced(login_request("ada@example.com", PASSWORD), &traceparent)).await.unwrap();
    let refresh = v1::RefreshRequest { refresh_token: tokens.refresh_token.clone() };
    auth.refresh(traced(refresh, &traceparent)).await.unwrap();
    let verify = v1::VerifyRequest { token: tokens.access_token.clone(), ..Default::default() };
    auth.verify(traced(verify.clone(), &traceparent)).await.unwrap();
    let wrong = login_request("ada@example.com", "wrong horse battery staple");
    auth.login(traced(wrong, &traceparent)).await.unwrap_err();
    // These are not traced: their caller said so, or said nothing that can be understood.
    for other in [format!("00-{TRACE}-{PARENT}-00"), format!("00-{TRACE}-{PARENT}-1"), "nonsense".to_owned()] {
        auth.verify(traced(verify.clone(), &other)).await.unwrap();
    }
    until("metrics come at intervals", async || number(&collector.metrics(), "vouchsafe.logins", &[])).await;
    server.stop().await;

    let spans = collector.spans();
    for span in &spans {
        assert_eq!(span.trace_id, u128::from_str_radix(TRACE, 16).unwrap().to_be_bytes(), "{span:?}");
        assert!(span.start_time_unix_nano > 0 && span.end_time_unix_nano >= span.start_time_unix_nano);
    }
    assert_rpc_spans(&spans);
    assert_child_spans(&spans, backend);
    assert_metrics(&collector);
    assert_resources(&collector);
    let everything = collector.everything();
    for secret in [PASSWORD, "wrong horse", "example.com", "127.0.0.1", &tokens.access_token, &tokens.refresh_token] {
        assert!(!everything.contains(secret), "{secret}");
    }
    place.remove().await;
}

fn assert_rpc_spans(spans: &[Span]) {
    for (method, statuses) in [("Login", &["OK", "UNAUTHENTICATED"][..]), ("Refresh", &["OK"]), ("Verify", &["OK"])] {
        let name = format!("vouchsafe.v1.AuthService/{method}");
        let found = named(spans, &name);
        let said: Vec<_> =
            found.iter().filter_map(|span| attribute(&span.attributes, "rpc.response.status_code")).collect();
        assert_eq!(said, statuses, "{name}");
        for span in found {
            assert_eq!(span.parent_span_id, u64::from_str_radix(PARENT, 16).unwrap().to_be_bytes());
            assert_eq!(span.kind(), SpanKind::Server);
            assert_eq!(attribute(&span.attributes, "rpc.method"), Some(name.as_str()));
            assert_eq!(attribute(&span.attributes, "rpc.system.name"), Some("grpc"));
            // A refusal is no fault of the server.
            assert_eq!(span.status.as_ref().map_or(0, |status| status.code), 0, "{span:?}");
        }
    }
}

fn assert_child_spans(spans: &[Span], backend: Backend) {
    let system = if backend == Backend::Sqlite { "sqlite" } else { "postgresql" };
    for (parent, child, kind) in [
        ("Login", "find_credentials", SpanKind::Client),
        ("Login", "password_hash_wait", SpanKind::Internal),
        ("Login", "password_hash", SpanKind::Internal),
        ("Login", "create_session", SpanKind::Client),
        ("Refresh", "refresh", SpanKind::Client),
    ] {
        let parent = named(spans, &format!("vouchsafe.v1.AuthService/{parent}"))[0];
        let children = named(spans, child);
        let span = children.iter().find(|span| span.parent_span_id == parent.span_id);
        let span = span.unwrap_or_else(|| panic!("{} has no {child}: {spans:#?}", parent.name));
        assert_eq!(span.kind(), kind, "{child}");
        let expected = (kind == SpanKind::Client).then_some(system);
        assert_eq!(attribute(&span.attributes, "db.system.name"), expected, "{child}");
    }
}

fn assert_metrics(collector: &Collector) {
    let metrics = collector.metrics();
    let login = |status: &'static str| {
        let labels = [("rpc.method", "vouchsafe.v1.AuthService/Login"), ("rpc.response.status_code", status)];
        histogram(&metrics, "rpc.server.call.duration", &labels).unwrap()
    };
    let ok = login("OK");
    assert_eq!((ok.count, ok.bucket_counts.len()), (2, ok.explicit_bounds.len() + 1));
    assert_eq!(ok.bucket_counts.iter().sum::<u64>(), 2);
    assert!(ok.sum() > 0.0 && ok.time_unix_nano > ok.start_time_unix_nano);
    assert_eq!(login("UNAUTHENTICATED").count, 1);
    for (name, labels, value) in [
        ("vouchsafe.logins", &[("outcome", "ok")][..], 2.0),
        ("vouchsafe.logins", &[("outcome", "invalid_credentials")], 1.0),
        ("vouchsafe.verifications", &[("result", "active")], 4.0),
        ("vouchsafe.refreshes", &[("decision", "rotate"), ("path", "row")], 1.0),
    ] {
        assert_eq!(number(&metrics, name, labels), Some(value), "{name} {labels:?}");
    }
}

fn assert_resources(collector: &Collector) {
    let (traces, metrics) = collector.resources();
    let instance = |at: usize| attribute(&traces[at].attributes, "service.instance.id").unwrap();
    assert_eq!(instance(0).len(), 36, "a UUID");
    for resource in traces.iter().chain(&metrics) {
        let value = |key| attribute(&resource.attributes, key);
        assert_eq!(value("service.name"), Some("vouchsafe"));
        assert_eq!(value("service.version"), Some(env!("CARGO_PKG_VERSION")));
        assert_eq!(value("service.instance.id"), Some(instance(0)));
        assert_eq!(value("deployment.environment.name"), Some("test"));
    }
}

async fn a_collector_that_is_away_costs_a_line_in_the_log(backend: Backend) {
    // One that accepts and never says a word is worse than one that is not there.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent_endpoint = format!("http://{}", silent.local_addr().unwrap());
    let endpoints = [silent_endpoint, "http://127.0.0.1:1".to_owned()];
    for endpoint in endpoints {
        let place = Place::new(backend)
            .await
            .set("telemetry.otlp_endpoint", &endpoint)
            .set("telemetry.trace_percent", "100")
            .variable("OTEL_METRIC_EXPORT_INTERVAL", "10");
        let mut server = place.serve().await;
        let client = Client::of(&server).await;
        let mut tokens = client.join("ada@example.com").await;
        server.log.wait(|line| line.contains("telemetry is not delivered")).await;
        for _ in 0..50 {
            tokens = client.refresh(&tokens.refresh_token).await.unwrap();
            client.claims(&tokens.access_token).await;
        }
        drop(client);
        server.signal(Signal::TERM);
        assert!(server.wait().await.success());
        let log = server.log.so_far();
        let complaints: Vec<_> = log.iter().filter(|line| line.contains("telemetry is not delivered")).collect();
        assert_eq!(complaints.len(), 1, "{complaints:#?}");
        // Where the line comes from is a call's or nobody's, and it says what to look at.
        assert!(complaints[0].contains("\"code\":") && complaints[0].contains("WARN"), "{}", complaints[0]);
        place.remove().await;
    }
    drop(silent);
}

async fn a_collector_is_reached_over_tls_if_its_authority_is_trusted(backend: Backend) {
    let place = Place::new(backend).await.variable("OTEL_METRIC_EXPORT_INTERVAL", "20");
    let (authority, certificate, key) = (place.path("ca.pem"), place.path("cert.pem"), place.path("key.pem"));
    let files = [&authority, &certificate, &key].map(|path| path.display().to_string());
    finish(python("certificate.py", &files.each_ref().map(String::as_str)), "").await.ok();
    let read = |path| std::fs::read_to_string(path).unwrap();
    let (collector, address) = Collector::start_with_tls(&read(&certificate), &read(&key)).await;
    let place = place.set("telemetry.otlp_endpoint", &format!("https://localhost:{}", address.port()));

    let stranger = place.serve().await;
    stranger.log.wait(|line| line.contains("telemetry is not delivered")).await;
    stranger.stop().await;
    assert!(collector.metrics().is_empty());

    let place = place.variable("SSL_CERT_FILE", &files[0]);
    let server = place.serve().await;
    until("metrics arrive", async || number(&collector.metrics(), "vouchsafe.build.info", &[])).await;
    server.stop().await;
    place.remove().await;
}
