//! The life of a role.

use serde_json::json;

use super::{Way, World, texts, words};
use crate::{rpc::on_both_databases, support::Backend};

on_both_databases!(roles_live_on_the_database, roles_live_through_a_server);

async fn roles_live_on_the_database(backend: Backend) {
    roles_live(World::new(backend, Way::Direct).await).await;
}

async fn roles_live_through_a_server(backend: Backend) {
    roles_live(World::new(backend, Way::Server).await).await;
}

async fn roles_live(world: World) {
    let create = ["role", "create", "support", "--description", "First line", "--permission"];
    let made = world.json(&[&create[..], &["users:read", "--permission", "orders:cancel"]].concat()).await;
    assert_eq!((&made["name"], &made["description"]), (&json!("support"), &json!("First line")));
    assert_eq!((texts(&made["permissions"]).len(), &made["built_in"]), (2, &json!(false)));
    assert_eq!(world.json(&["role", "get", "support"]).await, made);
    world.refused(&["role", "create", "support"], "ROLE_EXISTS").await;
    world.refused(&["role", "create", "other", "--permission", "Nonsense"], "INVALID_ARGUMENT").await;
    world.refused(&["role", "get", "other"], "ROLE_NOT_FOUND").await;

    let listed = world.json(&["role", "list"]).await;
    let names: Vec<_> = listed.as_array().unwrap().iter().map(|role| role["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"admin") && names.contains(&"support") && names.is_sorted(), "{names:?}");
    let table = world.run(&["role", "list"]).await.ok();
    let rows = words(&table);
    assert_eq!(rows[0], ["NAME", "BUILT", "IN", "PERMISSIONS", "DESCRIPTION"]);
    assert!(rows.contains(&vec!["support", "no", "orders:cancel,", "users:read", "First", "line"]), "{table}");

    let update = ["role", "update", "support"];
    let differ = ["--add-permission", "orders:read", "--remove-permission", "users:read"];
    let changed = world.json(&[&update[..], &differ].concat()).await;
    assert_eq!(texts(&changed["permissions"]), ["orders:cancel", "orders:read"]);
    assert_eq!(changed["description"], "First line");
    let stale = made["etag"].as_str().unwrap();
    world.refused(&[&update[..], &["--description", "x", "--etag", stale]].concat(), "ETAG_MISMATCH").await;
    let replaced = world.json(&[&update[..], &["--permission", "a:b", "--description", ""]].concat()).await;
    assert_eq!((texts(&replaced["permissions"]), &replaced["description"]), (vec!["a:b"], &json!("")));
    assert_eq!(replaced["custom_claims"], json!({}));
    let claims = json!({ "tier": "first", "desks": [1, 2.5] });
    let saying = world.json(&[&update[..], &["--custom-claims", &claims.to_string()]].concat()).await;
    assert_eq!((&saying["custom_claims"], texts(&saying["permissions"])), (&claims, vec!["a:b"]));
    world.refused(&[&update[..], &["--custom-claims", r#"{"sub":"x"}"#]].concat(), "INVALID_ARGUMENT").await;
    let floor = r#"{"floor":3}"#;
    let other = world.json(&["role", "create", "porter", "--custom-claims", floor]).await;
    assert_eq!(other["custom_claims"], json!({ "floor": 3 }));
    let silent = world.json(&["role", "update", "porter", "--custom-claims", "{}"]).await;
    assert_eq!(silent["custom_claims"], json!({}));
    let none = world.json(&[&update[..], &["--no-permissions"]].concat()).await;
    assert_eq!(none["permissions"], json!([]));

    world.refused(&["role", "update", "admin", "--no-permissions"], "ROLE_BUILT_IN").await;
    world.refused(&["role", "delete", "admin", "--yes"], "ROLE_BUILT_IN").await;
    world.run(&["user", "create", "--email", "ada@example.com", "--no-password", "--role", "support"]).await.ok();
    world.refused(&["role", "delete", "support", "--yes"], "ROLE_IN_USE").await;
    world.run(&["user", "unassign-role", "ada@example.com", "support"]).await.ok();
    assert_eq!(world.json(&["role", "delete", "support", "--yes"]).await, json!({}));
    world.refused(&["role", "get", "support"], "ROLE_NOT_FOUND").await;
    world.end().await;
}
