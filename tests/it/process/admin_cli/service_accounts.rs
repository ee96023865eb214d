//! The life of a service account.

use serde_json::{Value, json};

use super::{Way, World, texts, words};
use crate::{rpc::on_both_databases, support::Backend};

on_both_databases!(service_accounts_live_on_the_database, service_accounts_live_through_a_server);

async fn service_accounts_live_on_the_database(backend: Backend) {
    service_accounts_live(World::new(backend, Way::Direct).await).await;
}

async fn service_accounts_live_through_a_server(backend: Backend) {
    service_accounts_live(World::new(backend, Way::Server).await).await;
}

fn secrets(account: &Value) -> usize {
    account["secrets"].as_array().unwrap().len()
}

async fn service_accounts_live(world: World) {
    world.run(&["role", "create", "shipping", "--permission", "orders:read"]).await.ok();
    let create = ["service-account", "create", "--display-name", "Shipping", "--role", "shipping"];
    let answer = world.json(&create).await;
    let secret = answer["client_secret"].as_str().unwrap();
    assert!(secret.starts_with("vss_"), "{answer}");
    let account = &answer["service_account"];
    assert_eq!((&account["display_name"], texts(&account["roles"])), (&json!("Shipping"), vec!["shipping"]));
    assert_eq!(secrets(account), 1, "{account}");
    let id = account["client_id"].as_str().unwrap();
    assert!(id.starts_with("svc_"), "{account}");
    let shown = world.json(&["service-account", "get", id]).await;
    assert_eq!(&shown, account);
    assert!(!shown.to_string().contains("vss_"), "it is shown once");

    // For people it is all of standard output, so that it can go where it belongs as it is.
    let other = world.run(&["service-account", "create", "--display-name", "Other"]).await;
    assert!(other.stderr.contains("this once") && other.stderr.contains("svc_"), "{}", other.stderr);
    assert!(!other.stderr.contains("vss_"), "{}", other.stderr);
    let printed = other.ok();
    assert!(printed.starts_with("vss_") && printed.lines().count() == 1, "{printed}");
    let spiffe = "spiffe://example.com/mesh";
    let without = ["service-account", "create", "--display-name", "Mesh", "--spiffe-id", spiffe, "--no-secret"];
    let shown = world.run(&without).await.ok();
    assert!(shown.contains(spiffe) && !shown.contains("vss_"), "{shown}");
    world.refused(&without, "SPIFFE_ID_TAKEN").await;

    let listed = world.json(&["service-account", "list"]).await;
    let names: Vec<_> = listed.as_array().unwrap().iter().map(|one| one["display_name"].as_str().unwrap()).collect();
    assert_eq!(names, ["Shipping", "Other", "Mesh"], "the oldest first");
    let table = world.run(&["service-account", "list", "--limit", "3"]).await.ok();
    assert_eq!((words(&table).len(), &words(&table)[1][..3]), (4, &[id, "Shipping", "shipping"][..]));

    let update = ["service-account", "update", id];
    let changed = world.json(&[&update[..], &["--display-name", "Ship", "--remove-role", "shipping"]].concat()).await;
    assert_eq!((&changed["display_name"], &changed["roles"]), (&json!("Ship"), &json!([])));
    let stale = account["etag"].as_str().unwrap();
    world.refused(&[&update[..], &["--role", "shipping", "--etag", stale]].concat(), "ETAG_MISMATCH").await;
    let changed = world.json(&[&update[..], &["--add-role", "shipping"]].concat()).await;
    assert_eq!(texts(&changed["roles"]), ["shipping"]);
    world.refused(&[&update[..], &["--role", "nonsense"]].concat(), "ROLE_NOT_FOUND").await;

    let rotated = world.json(&["service-account", "rotate-secret", id]).await;
    assert_ne!(rotated["client_secret"], *secret);
    assert_eq!(secrets(&rotated["service_account"]), 2);
    let ends = &rotated["service_account"]["secrets"][1]["expire_time"];
    assert!(ends.as_str().is_some_and(|time| time.ends_with('Z')), "{rotated}");
    assert_eq!(rotated["service_account"]["secrets"][0]["expire_time"], Value::Null);
    let at_once = ["service-account", "rotate-secret", id, "--keep-previous", "0s", "--yes"];
    assert_eq!(secrets(&world.json(&at_once).await["service_account"]), 1);
    let too_long = ["service-account", "rotate-secret", id, "--keep-previous", "31d"];
    world.refused(&too_long, "INVALID_ARGUMENT").await;

    assert_eq!(world.json(&["service-account", "delete", id, "--yes"]).await, json!({}));
    world.refused(&["service-account", "get", id], "SERVICE_ACCOUNT_NOT_FOUND").await;
    world.end().await;
}
