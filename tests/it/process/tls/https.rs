//! The HTTP port over TLS, and `vouchsafe healthcheck`, which asks it.

use rcgen::ExtendedKeyUsagePurpose;
use serde_json::Value;

use super::{assert_failed, fetch, sqlite, with_tls};
use crate::support::certificates::{Authority, Pair};

#[tokio::test]
async fn keys_are_fetched_over_https() {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let place = with_tls(sqlite().await, "http", &ours.server(), None).unset("issuer").set("http.listen", "0.0.0.0:0");
    let (ca, others) = (place.file("ours.pem", ours.pem()), place.file("other.pem", other.pem()));
    let server = place.serve().await;
    let url = |path: &str| format!("https://localhost:{}{path}", server.http.port());
    let discovery = fetch(&url("/.well-known/openid-configuration"), &[&ca]).await.ok();
    let discovery: Value = serde_json::from_str(&discovery).unwrap();
    assert_eq!(discovery["jwks_uri"], url("/.well-known/jwks.json"));
    let keys = fetch(discovery["jwks_uri"].as_str().unwrap(), &[&ca]).await.ok();
    assert_eq!(serde_json::from_str::<Value>(&keys).unwrap()["keys"].as_array().unwrap().len(), 1);
    assert_failed(&fetch(&url("/livez"), &[&others]).await);
    assert_failed(&fetch(&url("/livez").replace("https", "http"), &[&ca]).await);
    // What the server tells its operator to try.
    let greeting = server.stdout.wait(|line| line.contains("curl --cacert")).await;
    assert!(greeting.contains(" https://0.0.0.0:"), "{greeting}");
    server.stop().await;
    place.remove().await;
}

#[tokio::test]
async fn the_http_port_may_want_certificates_too() {
    let (ours, impostor) = (Authority::new("ours"), Authority::new("ours"));
    let place = with_tls(sqlite().await, "http", &ours.server(), Some(&ours));
    let ca = place.file("ours.pem", ours.pem());
    let server = place.serve().await;
    let url = format!("https://{}/livez", server.http);
    let files = |name: &str, pair: &Pair| {
        (place.file(&format!("{name}.pem"), &pair.certificate), place.file(&format!("{name}.key"), &pair.key))
    };
    let (certificate, key) = files("client", &ours.client());
    assert_eq!(fetch(&url, &[&ca, &certificate, &key]).await.ok(), "live\n");
    let (certificate, key) = files("impostor", &impostor.client());
    assert_failed(&fetch(&url, &[&ca, &certificate, &key]).await);
    assert_failed(&fetch(&url, &[&ca]).await);
    server.stop().await;
    place.remove().await;
}

#[tokio::test]
async fn a_healthcheck_trusts_the_certificate_of_the_settings() {
    let ours = Authority::new("ours");
    let (pair, other) = (ours.server(), ours.server());
    let place = with_tls(sqlite().await, "http", &pair, None);
    let server = place.serve().await;
    let url = format!("https://{}", server.http);
    assert_eq!(place.run(&["healthcheck", "--url", &url]).await.ok(), "ready\n");
    // Without a URL, where the settings say.
    let listen = format!("http.listen=0.0.0.0:{}", server.http.port());
    assert_eq!(place.run(&["healthcheck", "--set", &listen]).await.ok(), "ready\n");
    let (certificate, key) = (place.file("other.crt", &other.certificate), place.file("other.key", &other.key));
    let sets = [format!("http.tls_cert={certificate}"), format!("http.tls_key={key}")];
    let said = place.run(&["healthcheck", "--url", &url, "--set", &sets[0], "--set", &sets[1]]).await.refused();
    assert!(said.contains("another certificate than http.tls_cert names") && said.contains(&certificate), "{said}");
    let plain = place.run(&["healthcheck", "--url", &url.replace("https", "http")]).await.refused();
    assert!(plain.starts_with("vouchsafe: "), "{plain}");
    server.stop().await;

    // Where clients must show a certificate it shows the server's own, which has to be one for clients too.
    let place = with_tls(place, "http", &pair, Some(&ours));
    let server = place.serve().await;
    let url = format!("https://{}", server.http);
    let said = place.run(&["healthcheck", "--url", &url]).await.refused();
    assert!(said.contains("http.client_ca is set"), "{said}");
    server.stop().await;
    let both = ours.sign(|params| {
        params.insert_extended_key_usage(ExtendedKeyUsagePurpose::ServerAuth);
        params.insert_extended_key_usage(ExtendedKeyUsagePurpose::ClientAuth);
    });
    let place = with_tls(place, "http", &both, Some(&ours));
    let server = place.serve().await;
    let url = format!("https://{}", server.http);
    assert_eq!(place.run(&["healthcheck", "--url", &url]).await.ok(), "ready\n");
    server.stop().await;
    place.remove().await;
}
