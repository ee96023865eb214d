//! Where the keys come from, and how often.

use std::{
    sync::atomic::{AtomicU64, Ordering::SeqCst},
    time::{Duration, Instant},
};

use serde_json::json;
use tokio::task::JoinSet;
use vouchsafe::verifier::{Denied, Inactive, Rule, Verifier};

use super::{ISSUER, REVOKED, builder, check, until};
use crate::{
    hostile::encode,
    process::{
        client::Client,
        harness::{Place, finish},
        tools::tool,
    },
    support::{Backend, TestNode, certificates::Authority},
};

fn by_url(url: &str) -> vouchsafe::verifier::Builder {
    Verifier::builder(ISSUER, ["vouchsafe"]).jwks_url(url).without_revocations()
}

#[tokio::test]
async fn keys_come_by_grpc_or_from_a_url() {
    let node = TestNode::start(Backend::Sqlite).await;
    let user = node.register("ada@example.com").await;
    let token = node.login("ada@example.com").await.access_token;
    let url = format!("http://{}/.well-known/jwks.json", node.http);
    for builder in [builder(node.grpc), by_url(&url), builder(node.grpc).jwks_url(&url)] {
        let verifier = builder.start().await.unwrap();
        assert!(verifier.is_ready());
        for _ in 0..2 {
            let principal = verifier.verify(&token, &Rule::required()).await.unwrap();
            assert_eq!(principal.subject().to_string(), user.id);
        }
        assert!(verifier.verify_now(&token, &Rule::required()).is_ok());
        let metrics = verifier.metrics();
        assert_eq!((metrics.verified("active"), metrics.examined, metrics.remembered), (3, 1, 2));
        assert_eq!((metrics.keys, metrics.key_fetches_failed, metrics.stale), (1, 0, false));
    }
    node.remove().await;
}

#[tokio::test]
async fn keys_come_over_tls_from_whom_the_file_trusts() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    };
    let (authority, stranger) = (Authority::new("ours"), Authority::new("another"));
    let pair = authority.server();
    let (certificate, key) = (file("cert.pem", &pair.certificate), file("key.pem", &pair.key));
    let (trusted, other) = (file("ca.pem", &authority.pem()), file("other.pem", &stranger.pem()));
    let mut node = TestNode::builder(Backend::Sqlite).await;
    for port in ["grpc", "http"] {
        node = node.set(&format!("{port}.tls_cert={certificate}")).set(&format!("{port}.tls_key={key}"));
    }
    let node = node.start().await;
    let jwks = format!("https://localhost:{}/.well-known/jwks.json", node.http.port());
    let grpc = || {
        let url = format!("https://localhost:{}", node.grpc.port());
        Verifier::builder(ISSUER, ["vouchsafe"]).service_url(&url).unwrap()
    };
    for good in [by_url(&jwks).ca_file(&trusted), grpc().ca_file(&trusted)] {
        let verifier = good.start().await.unwrap();
        assert!(verifier.is_ready());
        assert_eq!(verifier.metrics().keys, 1);
    }
    for bad in [by_url(&jwks).ca_file(&other), grpc().ca_file(&other)] {
        let verifier = bad.start_timeout(Duration::ZERO).start().await.unwrap();
        until("an attempt", async || verifier.metrics().key_fetches_failed > 1).await;
        assert!(!verifier.is_ready());
        assert_eq!(verifier.metrics().keys, 0);
    }
    node.remove().await;
}

#[tokio::test]
async fn keys_of_another_issuer_are_none() {
    let node = TestNode::start(Backend::Sqlite).await;
    node.register("ada@example.com").await;
    let token = node.login("ada@example.com").await.access_token;
    let url = format!("http://{}", node.grpc);
    let other = Verifier::builder("https://other.test", ["vouchsafe"]).service_url(&url).unwrap();
    let verifier = other.start_timeout(Duration::ZERO).start().await.unwrap();
    until("an attempt", async || verifier.metrics().key_fetches_failed > 1).await;
    assert_eq!((verifier.is_ready(), verifier.metrics().keys), (false, 0));
    assert_eq!(check(&verifier, &token).await, Err(Denied::Unavailable));
    node.remove().await;
}

/// SECURITY.md: forged tokens must not make a verifier ask the issuer all the time, nor fill its memory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_unknown_keys_is_one_fetch_per_interval() {
    const CALLERS: u32 = 8;
    const EACH: u32 = 12_500;
    let node = TestNode::start(Backend::Sqlite).await;
    node.register("ada@example.com").await;
    let token = node.login("ada@example.com").await.access_token;
    let cool_down = Duration::from_secs(1);
    let verifier = builder(node.grpc).key_cool_down(cool_down).start().await.unwrap();
    let (payload, signature) = (encode(json!({"iss": ISSUER}).to_string()), encode([1; 64]));
    let before = verifier.metrics();
    #[allow(clippy::disallowed_methods)]
    let began = Instant::now();
    let refused = std::sync::Arc::new(AtomicU64::new(0));
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let (verifier, payload, signature) = (verifier.clone(), payload.clone(), signature.clone());
        let refused = std::sync::Arc::clone(&refused);
        callers.spawn(async move {
            for number in 0..EACH {
                let header = json!({"typ": "at+jwt", "alg": "ES256", "kid": format!("{caller}-{number}")});
                let forged = format!("{}.{payload}.{signature}", encode(header.to_string()));
                let denied = if number % 2 == 0 {
                    verifier.verify(&forged, &Rule::required()).await.unwrap_err()
                } else {
                    verifier.verify_now(&forged, &Rule::required()).unwrap_err()
                };
                // Nobody can say while the keys are fetched, and somebody does not want to wait.
                assert!(matches!(denied, Denied::Inactive(Inactive::UnknownKey) | Denied::Unavailable), "{denied:?}");
                refused.fetch_add(1, SeqCst);
            }
        });
    }
    while let Some(ended) = callers.join_next().await {
        ended.unwrap();
    }
    let intervals = began.elapsed().as_secs() / cool_down.as_secs() + 1;
    let after = verifier.metrics();
    assert_eq!(refused.load(SeqCst), u64::from(CALLERS * EACH));
    let fetches = (after.key_fetches + after.key_fetches_failed) - (before.key_fetches + before.key_fetches_failed);
    assert!(fetches <= intervals, "{fetches} fetches in {intervals} intervals");
    assert_eq!((after.keys, after.revocations, after.remembered), (1, before.revocations, 0), "nothing is kept");
    assert_eq!(check(&verifier, &token).await, Ok(()));
    // And once the interval is over, it is worth a look again.
    let header = encode(json!({"typ": "at+jwt", "alg": "ES256", "kid": "x"}).to_string());
    let forged = format!("{header}.{payload}.{signature}");
    until("another fetch", async || {
        assert!(check(&verifier, &forged).await.is_err());
        verifier.metrics().key_fetches > after.key_fetches
    })
    .await;
    node.remove().await;
}

/// The issuer says that the keys have changed; without that, this verifier would learn of it in minutes at the earliest.
#[tokio::test]
async fn a_new_key_and_a_revoked_one_are_learnt_at_once() {
    let place = Place::new(Backend::Postgres).await;
    let server = place.serve().await;
    let token = Client::of(&server).await.join("ada@example.com").await.access_token;
    let verifier = builder(server.grpc).key_cool_down(Duration::from_hours(1)).start().await.unwrap();
    let principal = verifier.verify(&token, &Rule::required()).await.unwrap();
    let ended = tokio::spawn({
        let (verifier, principal) = (verifier.clone(), principal.clone());
        async move { verifier.ended(&principal, &Rule::required()).await }
    });
    assert_eq!(verifier.metrics().keys, 1);
    place.run(&["keys", "rotate"]).await.ok();
    until("a second key", async || verifier.metrics().keys == 2).await;
    assert_eq!(check(&verifier, &token).await, Ok(()));
    place.run(&["keys", "revoke", principal.key_id(), "--yes"]).await.ok();
    until("the key is revoked", async || check(&verifier, &token).await == Err(REVOKED)).await;
    assert_eq!(ended.await.unwrap(), REVOKED);
    until("it has left the set", async || verifier.metrics().keys == 1).await;
    assert_eq!(check(&verifier, &token).await, Err(REVOKED), "and not merely unknown");
    assert_eq!(verifier.recheck(&principal, &Rule::required()), Err(REVOKED));
    server.stop().await;
    place.remove().await;
}

#[tokio::test]
async fn promtool_accepts_the_metrics() {
    let node = TestNode::start(Backend::Sqlite).await;
    let verifier = builder(node.grpc).start().await.unwrap();
    assert!(check(&verifier, "x").await.is_err());
    let metrics = verifier.metrics().to_prometheus();
    assert!(metrics.contains("vouchsafe_verifier_verifications_total{result=\"malformed\"} 1\n"), "{metrics}");
    assert!(metrics.contains("vouchsafe_verifier_watch_connected 1\n"), "{metrics}");
    let never = Verifier::builder(ISSUER, ["x"]).service_url("http://127.0.0.1:1").unwrap();
    let never = never.start_timeout(Duration::ZERO).start().await.unwrap().metrics().to_prometheus();
    assert!(never.contains("staleness_seconds +Inf\n"), "{never}");
    for metrics in [&metrics, &never] {
        let mut promtool = tokio::process::Command::new(tool("promtool"));
        promtool.args(["check", "metrics"]);
        let said = finish(promtool, metrics).await;
        assert_eq!(said.ok(), "");
    }
    node.remove().await;
}
