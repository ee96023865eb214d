//! Services that are known by their client certificates.

use rcgen::{ExtendedKeyUsagePurpose, SanType};
use serde_json::{Value, json};

use super::{channel, grpcurl, on_loopback, sqlite, with_tls};
use crate::{
    process::{
        client::Client,
        harness::{Ended, Place},
    },
    support::{
        PASSWORD,
        certificates::{Authority, Pair},
    },
};

const ISSUE: &str = "vouchsafe.v1.AuthService/IssueServiceToken";
const CREATE: &str = "vouchsafe.v1.ServiceAccountAdminService/CreateServiceAccount";
const ORDERS: &str = "spiffe://example.org/orders";

fn named(authority: &Authority, uris: &[&str]) -> Pair {
    authority.sign(|params| {
        params.insert_extended_key_usage(ExtendedKeyUsagePurpose::ClientAuth);
        params.subject_alt_names.extend(uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())));
    })
}

/// The flags that make grpcurl show this certificate.
fn showing(place: &Place, name: &str, pair: &Pair) -> Vec<String> {
    let certificate = place.file(&format!("{name}.pem"), &pair.certificate);
    let key = place.file(&format!("{name}.key"), &pair.key);
    vec!["-cert".into(), certificate, "-key".into(), key]
}

fn answer(ended: Ended) -> Value {
    serde_json::from_str(&ended.ok()).unwrap()
}

#[tokio::test]
async fn a_service_is_known_by_its_certificate() {
    let ours = Authority::new("ours");
    let place = with_tls(sqlite().await, "grpc", &ours.server(), Some(&ours)).set("grpc.listen", "0.0.0.0:0");
    let ca = place.file("ours.pem", ours.pem());
    let server = place.serve().await;
    let address = on_loopback(server.grpc);
    place.run_with_input(&["admin", "create", "--email", "root@example.com", "--password-stdin"], PASSWORD).await.ok();
    let client = Client { channel: channel(ours.connector("h2", Some(&ours.client())), address).await.unwrap() };
    let root = format!("authorization: Bearer {}", client.login("root@example.com").await.unwrap().access_token);
    let call = async |by: &[String], extra: &[&str], data: Value, method: &str| {
        let data = data.to_string();
        let mut flags = vec!["-cacert", &ca, "-d", &data];
        flags.extend(by.iter().map(String::as_str).chain(extra.iter().copied()));
        grpcurl(address, &flags, &[method]).await
    };
    let plain = showing(&place, "plain", &ours.client());
    let orders = showing(&place, "orders", &named(&ours, &[ORDERS]));
    let payments = showing(&place, "payments", &named(&ours, &["spiffe://example.org/payments"]));
    let both = showing(&place, "both", &named(&ours, &[ORDERS, "spiffe://example.org/payments"]));

    let account = json!({"displayName": "Orders", "spiffeId": ORDERS, "noSecret": true});
    let made = answer(call(&plain, &["-H", &root], account, CREATE).await);
    let id = made["serviceAccount"]["clientId"].as_str().unwrap();
    assert_eq!((&made["clientSecret"], &made["serviceAccount"]["secrets"]), (&Value::Null, &Value::Null));
    let other = answer(call(&plain, &["-H", &root], json!({"displayName": "Other"}), CREATE).await);
    let (other_id, secret) = (&other["serviceAccount"]["clientId"], &other["clientSecret"]);

    for asked in [json!({}), json!({"clientId": id})] {
        let issued = answer(call(&orders, &[], asked, ISSUE).await);
        let token = issued["accessToken"].as_str().unwrap();
        assert_eq!(client.claims(token).await.subject, id);
    }
    // A secret is one as before, whoever shows which certificate.
    let issued = answer(call(&orders, &[], json!({"clientId": other_id, "clientSecret": secret}), ISSUE).await);
    assert_eq!(client.claims(issued["accessToken"].as_str().unwrap()).await.subject, *other_id.as_str().unwrap());

    for (by, asked) in [
        (&orders, json!({"clientId": other_id})),
        (&orders, json!({"clientId": id, "clientSecret": secret})),
        (&payments, json!({})),
        (&payments, json!({"clientId": id})),
        (&both, json!({"clientId": id})),
        (&plain, json!({"clientId": id})),
    ] {
        let refused = call(by, &[], asked.clone(), ISSUE).await;
        assert!(!refused.status.success() && refused.stderr.contains("INVALID_CLIENT"), "{asked}: {refused:?}");
    }
    for by in [&both, &plain] {
        let refused = call(by, &[], json!({}), ISSUE).await;
        assert!(!refused.status.success() && refused.stderr.contains("client_id is empty"), "{refused:?}");
    }
    server.stop().await;
    place.remove().await;
}
