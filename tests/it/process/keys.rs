//! `vouchsafe keys`, beside a running server: a rotation that no verifier notices.

use serde_json::Value;
use vouchsafe::pb::v1::{Consistency, InactiveReason};

use super::{
    client::{Client, kid},
    harness::{Place, until},
    web::published_kids,
};
use crate::{
    rpc::on_both_databases,
    support::{Backend, TestDatabase},
};

on_both_databases!(
    keys_are_listed,
    listing_keys_changes_nothing_whatever_the_settings,
    a_rotation_publishes_one_key_whatever_the_settings,
    a_rotation_reaches_the_running_server,
    a_new_key_waits_until_it_is_known,
    a_revoked_key_is_refused_by_the_running_server_and_after_its_restart,
    a_revocation_asks_first_and_names_what_there_is,
    keys_are_managed_through_a_server_as_well,
);

/// With an access token and without any setting; the trail names its owner.
async fn keys_are_managed_through_a_server_as_well(backend: Backend) {
    let place = Place::new(backend).await;
    let server = place.serve().await;
    let email = ["admin", "create", "--email", "root@example.com", "--password-stdin"];
    place.run_with_input(&email, crate::support::PASSWORD).await.ok();
    let client = Client::of(&server).await;
    let tokens = client.login("root@example.com").await.unwrap();
    let token = place.file("token", &tokens.access_token);
    let url = format!("http://{}", server.grpc);
    let there = ["--server", url.as_str(), "--token-file", token.as_str()];
    let run = async |command: &[&str]| place.run(&[command, &there].concat()).await;
    let listed: Vec<Value> = serde_json::from_str(&run(&["keys", "list", "--output", "json"]).await.ok()).unwrap();
    assert_eq!(Value::from(listed.clone()), Value::from(self::listed(&place).await), "as on the store");
    let rotated = run(&["keys", "rotate"]).await.ok();
    assert!(rotated.lines().count() == 2 && rotated.contains("published"), "{rotated}");
    let said = run(&["keys", "revoke", "nonsense", "--yes"]).await.refused();
    assert!(said.contains("(SIGNING_KEY_NOT_FOUND)"), "{said}");
    let first = listed[0]["kid"].as_str().unwrap();
    let said = run(&["keys", "revoke", first]).await.refused();
    assert!(said.contains("--yes"), "{said}");
    let left = run(&["keys", "revoke", first, "--yes"]).await.ok();
    assert!(!left.contains(first) && left.contains("active"), "{left}");
    assert_eq!(client.inactive(&tokens.access_token).await, InactiveReason::Revoked);
    let by_user = "SELECT count(*) FROM audit_events WHERE act IN ('key.published', 'key.revoked') AND actor = 'user'";
    assert_eq!(place.database.integer(by_user).await, 3);
    server.stop().await;
    place.remove().await;
}

async fn listed(place: &Place) -> Vec<Value> {
    let json = place.run(&["keys", "list", "--output", "json"]).await.ok();
    serde_json::from_str(&json).unwrap()
}

async fn keys_are_listed(backend: Backend) {
    let place = Place::new(backend).await;
    let server = place.serve().await;
    let kids = published_kids(&server).await;
    assert_eq!(kids.len(), 1);
    let table = place.run(&["keys", "list"]).await.ok();
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0][..3], ["KID", "ALGORITHM", "STATE"]);
    assert_eq!((rows.len(), &rows[1][..3]), (2, &[kids[0].as_str(), "ES256", "active"][..]));
    let keys = listed(&place).await;
    assert_eq!((keys.len(), keys[0]["kid"].as_str(), keys[0]["state"].as_str()), (1, Some(&*kids[0]), Some("active")));
    let jwk = keys[0]["jwk"].as_object().unwrap();
    assert!(!jwk.contains_key("d"), "{jwk:?}");
    server.stop().await;
    place.remove().await;
}

/// Settings of whoever looks that no server has: by them a key of another algorithm is missing, every key is overdue, and
/// tokens live longer.
const ODD: [&str; 8] = [
    "--set",
    "tokens.algorithm=EdDSA",
    "--set",
    "tokens.access_ttl=24h",
    "--set",
    "keys.rotation_period=1m",
    "--set",
    "keys.publish_lead=59s",
];

/// What a command could have changed.
async fn tables(place: &Place) -> Vec<String> {
    let mut tables = Vec::new();
    for table in ["signing_keys", "refresh_keys", "feed_head", "feed", "audit_events"] {
        tables.push(place.database.dump(table).await);
    }
    tables
}

async fn listing_keys_changes_nothing_whatever_the_settings(backend: Backend) {
    let place = Place::new(backend).await;
    let server = place.serve().await;
    let kids = published_kids(&server).await;
    // Without the server, which does things of its own.
    server.stop().await;
    let before = tables(&place).await;
    let listed = place.run(&[&["keys", "list"][..], &ODD].concat()).await.ok();
    assert!(listed.lines().count() == 2 && listed.contains(&kids[0]), "{listed}");
    assert_eq!(tables(&place).await, before);
    place.remove().await;
}

async fn a_rotation_publishes_one_key_whatever_the_settings(backend: Backend) {
    let place = Place::new(backend).await;
    place.serve().await.stop().await;
    let ttl = "SELECT longest_access_ttl FROM feed_head";
    let before = place.database.integer(ttl).await;
    let rotated = place.run(&[&["keys", "rotate"][..], &ODD].concat()).await.ok();
    assert_eq!(rotated.lines().count(), 3, "{rotated}");
    for table in ["signing_keys", "refresh_keys"] {
        assert_eq!(place.database.integer(&format!("SELECT count(*) FROM {table}")).await, 2, "{table}");
    }
    assert_eq!(place.database.integer(ttl).await, before, "no server issues such tokens");
    place.remove().await;
}

/// What is not there is named, and not made.
#[tokio::test]
async fn keys_of_no_database_are_neither_listed_nor_made() {
    let place = Place::new(Backend::Sqlite).await;
    let (home, elsewhere) = (place.path("none"), place.path("other.db"));
    let (dir, url) = (home.display().to_string(), format!("database.url=sqlite:{}", elsewhere.display()));
    for command in ["list", "rotate"] {
        for (flags, named) in [
            (&["--data-dir", &*dir][..], home.join("vouchsafe.db")),
            (&["--set", &*url][..], elsewhere.clone()),
            (&[][..], place.data_dir().join("vouchsafe.db")),
        ] {
            let said = place.run(&[&["keys", command], flags].concat()).await.refused();
            assert!(said.contains("there is no database") && said.contains(named.to_str().unwrap()), "{said}");
        }
    }
    assert_eq!(std::fs::read_dir(place.home.path()).unwrap().count(), 0, "something was created");
    assert_eq!(std::fs::read_dir(place.data_dir()).unwrap().count(), 0, "something was created");
    place.remove().await;
}

/// Before the first start there are no keys: a list is empty, and a rotation makes the first ones.
#[tokio::test]
async fn keys_of_a_new_database_are_made_when_asked_for() {
    let place = Place::on(TestDatabase::migrated(Backend::Postgres).await);
    assert_eq!(listed(&place).await.len(), 0);
    assert_eq!(place.database.integer("SELECT count(*) FROM signing_keys").await, 0);
    assert_eq!(place.run(&["keys", "rotate"]).await.ok().lines().count(), 2);
    let keys = listed(&place).await;
    assert_eq!((keys.len(), keys[0]["state"].as_str()), (1, Some("active")));
    place.remove().await;
}

/// The new key is published at once and signs after the lead; old tokens verify before, then, and after.
async fn a_rotation_reaches_the_running_server(backend: Backend) {
    let place = Place::new(backend).await.set("keys.publish_lead", "1s");
    let server = place.serve().await;
    let client = Client::of(&server).await;
    let before = client.join("ada@example.com").await;
    let old = published_kids(&server).await;
    let rotated = place.run(&["keys", "rotate"]).await.ok();
    assert_eq!(rotated.lines().count(), 3, "{rotated}");
    let keys = listed(&place).await;
    let new = keys.iter().map(|key| key["kid"].as_str().unwrap()).find(|kid| *kid != old[0]).unwrap().to_owned();
    assert!(rotated.contains(&new), "{rotated}");

    until("the new key is published", async || published_kids(&server).await.contains(&new).then_some(())).await;
    let after = until("the new key signs", async || {
        let tokens = client.login("ada@example.com").await.unwrap();
        // Whichever signed it, it verifies.
        client.claims(&tokens.access_token).await;
        (kid(&tokens.access_token) == new).then_some(tokens)
    })
    .await;
    assert_eq!(kid(&before.access_token), old[0]);
    client.claims(&before.access_token).await;
    let renewed = client.refresh(&before.refresh_token).await.unwrap();
    assert_eq!(kid(&renewed.access_token), new);
    assert!(published_kids(&server).await.contains(&old[0]), "the old key has live tokens");
    let states: Vec<_> = listed(&place).await.iter().map(|key| key["state"].as_str().unwrap().to_owned()).collect();
    assert_eq!(states, ["retired", "active"]);
    server.stop().await;

    let server = place.serve().await;
    let client = Client::of(&server).await;
    for token in [&before.access_token, &after.access_token, &renewed.access_token] {
        client.claims(token).await;
    }
    client.refresh(&renewed.refresh_token).await.unwrap();
    server.stop().await;
    place.remove().await;
}

/// With a lead that outlasts the test the new key does not sign, however often one looks; and the JWKS says how long it may
/// be kept accordingly.
async fn a_new_key_waits_until_it_is_known(backend: Backend) {
    let place = Place::new(backend).await;
    let server = place.serve().await;
    let client = Client::of(&server).await;
    let first = client.join("ada@example.com").await;
    place.run(&["keys", "rotate"]).await.ok();
    until("the new key is published", async || (published_kids(&server).await.len() == 2).then_some(())).await;
    for _ in 0..5 {
        assert_eq!(kid(&client.login("ada@example.com").await.unwrap().access_token), kid(&first.access_token));
    }
    let states: Vec<_> = listed(&place).await.iter().map(|key| key["state"].as_str().unwrap().to_owned()).collect();
    assert_eq!(states, ["active", "published"]);
    server.stop().await;
    place.remove().await;
}

async fn a_revoked_key_is_refused_by_the_running_server_and_after_its_restart(backend: Backend) {
    let place = Place::new(backend).await;
    let server = place.serve().await;
    let client = Client::of(&server).await;
    let before = client.join("ada@example.com").await;
    let revoked = kid(&before.access_token);
    let table = place.run(&["keys", "revoke", &revoked, "--yes"]).await.ok();
    assert!(table.lines().count() == 2 && !table.contains(&revoked), "{table}");
    let strong = client.check(&before.access_token, Consistency::Strong).await.unwrap();
    assert_eq!(strong.inactive_reason(), InactiveReason::Revoked);
    assert_eq!(client.inactive(&before.access_token).await, InactiveReason::Revoked);
    // The session goes on, at once and with another key.
    let renewed = client.refresh(&before.refresh_token).await.unwrap();
    assert_ne!(kid(&renewed.access_token), revoked);
    client.claims(&renewed.access_token).await;
    until("it leaves the JWKS", async || (!published_kids(&server).await.contains(&revoked)).then_some(())).await;
    server.stop().await;

    let server = place.serve().await;
    let client = Client::of(&server).await;
    assert_eq!(client.inactive(&before.access_token).await, InactiveReason::Revoked);
    client.claims(&renewed.access_token).await;
    assert!(!published_kids(&server).await.contains(&revoked));
    let keys = listed(&place).await;
    assert_eq!((keys.len(), keys[0]["state"].as_str()), (1, Some("active")));
    server.stop().await;
    place.remove().await;
}

async fn a_revocation_asks_first_and_names_what_there_is(backend: Backend) {
    let place = Place::new(backend).await;
    place.serve().await.stop().await;
    let known = listed(&place).await[0]["kid"].as_str().unwrap().to_owned();
    let before = tables(&place).await;
    let said = place.run_with_input(&["keys", "revoke", &known], "yes\n").await.refused();
    assert!(said.contains("--yes"), "no terminal to ask: {said}");
    for kid in ["nonsense", "-", "--", ""] {
        let said = place.run(&["keys", "revoke", "--yes", "--", kid]).await.refused();
        assert!(said.contains(&known) && said.contains("no key has the kid"), "{kid}: {said}");
    }
    assert_eq!(tables(&place).await, before);
    place.remove().await;
}
