//! The life of a user.

use serde_json::{Value, json};
use vouchsafe::pb::v1::{Consistency, InactiveReason};

use super::{Way, World, texts, words};
use crate::{
    process::harness::{Place, until},
    rpc::on_both_databases,
    support::{Backend, PASSWORD, reason},
};

on_both_databases!(
    users_live_on_the_database,
    users_live_through_a_server,
    lists_are_filtered_on_the_database,
    lists_are_filtered_through_a_server,
    sessions_are_ended_on_the_database,
    sessions_are_ended_through_a_server,
    a_user_may_come_before_the_server,
);

async fn users_live_on_the_database(backend: Backend) {
    users_live(World::new(backend, Way::Direct).await).await;
}

async fn users_live_through_a_server(backend: Backend) {
    users_live(World::new(backend, Way::Server).await).await;
}

/// Everything that is kept of a user, a JSON object on each line.
async fn export(world: &World, ada: &Value) {
    let exported = world.run(&["user", "export", "ada"]).await.ok();
    let lines: Vec<Value> = exported.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lines[0]["record"], &lines[0]["user"]), (&json!("account"), ada));
    assert_eq!((&lines[1]["record"], &lines[1]["name"]), (&json!("role"), &json!("support")));
    let events: Vec<_> = lines.iter().filter(|line| line["record"] == "event").map(|line| &line["act"]).collect();
    assert!(events.contains(&&json!("user.created")) && events.contains(&&json!("user.exported")), "{exported}");
    let end = lines.last().unwrap();
    assert_eq!((&end["record"], &end["records"]), (&json!("end"), &json!(lines.len() - 1)));
    assert!(!exported.contains("argon2id$"));
    world.refused(&["user", "export", "nobody"], "USER_NOT_FOUND").await;
}

/// Created, found by each of their names, changed, barred, let in again, and deleted; the running server sees all of it.
async fn users_live(world: World) {
    world.run(&["role", "create", "support", "--permission", "users:read"]).await.ok();
    let password = world.place.file("password", format!("{PASSWORD}\nsecond line\n"));
    let attributes = "{\"customer\": 42, \"tags\": [\"\u{202e}\", null]}";
    let create =
        ["user", "create", "--email", "Ada@example.com", "--username", "ada", "--display-name", "Ada Lovelace"];
    let more = ["--password-file", &password, "--role", "support", "--email-verified", "--attributes", attributes];
    let ada = world.json(&[&create[..], &more].concat()).await;
    for (field, value) in [
        ("email", json!("Ada@example.com")),
        ("username", json!("ada")),
        ("display_name", json!("Ada Lovelace")),
        ("email_verified", json!(true)),
        ("state", json!("active")),
        ("roles", json!(["support"])),
        ("attributes", json!({"customer": 42, "tags": ["\u{202e}", null]})),
    ] {
        assert_eq!(ada[field], value, "{ada}");
    }
    let id = ada["id"].as_str().unwrap();
    for time in ["create_time", "update_time"] {
        let time = ada[time].as_str().unwrap();
        assert!(time.starts_with("20") && time.ends_with('Z') && time.contains('T'), "{ada}");
    }
    for name in [id, "ada", "ada@EXAMPLE.com"] {
        assert_eq!(world.json(&["user", "get", name]).await, ada, "{name}");
    }
    export(&world, &ada).await;
    let shown = world.run(&["user", "get", "ada"]).await.ok();
    assert!(shown.lines().any(|line| line.split_whitespace().eq(["email", "Ada@example.com"])), "{shown}");
    assert!(shown.contains("\\u{202e}") && shown.is_ascii(), "{shown:?}");
    let tokens = world.client.login("ada").await.unwrap();
    assert_eq!(world.client.claims(&tokens.access_token).await.roles, ["support"]);

    world.refused(&[&create[..], &["--no-password"]].concat(), "EMAIL_TAKEN").await;
    world.refused(&["user", "create", "--email", "nonsense", "--no-password"], "INVALID_ARGUMENT").await;
    let short = world.place.file("short", "fourteen chars");
    let weak = ["user", "create", "--email", "b@example.com", "--password-file", &short];
    let said = world.refused(&weak, "INVALID_ARGUMENT").await;
    assert!(said.contains("password"), "{said}");
    world.refused(&["user", "get", "nobody"], "USER_NOT_FOUND").await;

    change(&world, &ada).await;
    roles(&world, id).await;
    factors(&world, id).await;
    bar(&world, id).await;

    assert_eq!(world.json(&["user", "delete", "ada@example.com", "--yes"]).await, json!({}));
    world.refused(&["user", "get", id], "USER_NOT_FOUND").await;
    world.refused(&["user", "delete", id, "--yes"], "USER_NOT_FOUND").await;
    let gone = world.client.login("ada").await.unwrap_err();
    assert_eq!(reason(&gone), "INVALID_CREDENTIALS");
    // Nobody is left without an administrator.
    for command in ["delete", "suspend"] {
        world.refused(&["user", command, "root@example.com", "--yes"], "LAST_ADMINISTRATOR").await;
    }
    world.refused(&["user", "unassign-role", "root@example.com", "admin"], "LAST_ADMINISTRATOR").await;
    world.end().await;
}

async fn change(world: &World, ada: &Value) {
    let id = ada["id"].as_str().unwrap();
    let stale = ada["etag"].as_str().unwrap();
    let flags = ["--username", "", "--display-name", "Countess", "--email-verified=false", "--attributes", "{}"];
    let changed = world.json(&[&["user", "update", "ada"][..], &flags].concat()).await;
    for (field, value) in [
        ("id", json!(id)),
        ("email", json!("Ada@example.com")),
        ("username", json!("")),
        ("display_name", json!("Countess")),
        ("email_verified", json!(false)),
        ("attributes", json!({})),
        ("roles", json!(["support"])),
    ] {
        assert_eq!(changed[field], value, "{changed}");
    }
    let update = ["user", "update", id, "--username", "ada", "--etag"];
    world.refused(&[&update[..], &[stale]].concat(), "ETAG_MISMATCH").await;
    world.refused(&["user", "delete", id, "--yes", "--etag", stale], "ETAG_MISMATCH").await;
    let fresh = changed["etag"].as_str().unwrap();
    assert_eq!(world.json(&[&update[..], &[fresh]].concat()).await["username"], "ada");
}

async fn roles(world: &World, id: &str) {
    world.run(&["role", "create", "auditor", "--permission", "audit:read"]).await.ok();
    let given = world.json(&["user", "assign-role", "ada", "auditor"]).await;
    assert_eq!(texts(&given["roles"]), ["auditor", "support"]);
    let tokens = world.client.login("ada").await.unwrap();
    assert_eq!(world.client.claims(&tokens.access_token).await.roles, ["auditor", "support"]);
    let taken = world.json(&["user", "unassign-role", id, "auditor"]).await;
    assert_eq!(texts(&taken["roles"]), ["support"]);
    // The running server refuses what says so still, and the next token does not.
    until("the token with the role is refused", async || {
        let answer = world.client.check(&tokens.access_token, Consistency::Local).await.unwrap();
        (!answer.active).then_some(())
    })
    .await;
    let renewed = world.client.refresh(&tokens.refresh_token).await.unwrap();
    assert_eq!(world.client.claims(&renewed.access_token).await.roles, ["support"]);
    world.refused(&["user", "assign-role", id, "nonsense"], "ROLE_NOT_FOUND").await;
}

/// An app that nobody has, and a recovery code of it.
async fn factors(world: &World, id: &str) {
    let tokens = world.client.login("ada").await.unwrap();
    let database = &world.place.database;
    let (user, bytes) = (database.id(&id.parse().unwrap()), database.bytes("00"));
    for row in [
        format!(
            "totp_factors (user_id, id, seed_sealed, create_time, confirm_time, last_step) VALUES ({user}, {user}, {bytes}, 0, 0, 0)"
        ),
        format!("recovery_codes (user_id, code_hash, create_time) VALUES ({user}, {bytes}, 0)"),
    ] {
        database.execute(&format!("INSERT INTO {row}")).await;
    }
    assert_eq!(world.json(&["user", "remove-factors", "ada", "--yes"]).await, json!({}));
    for table in ["totp_factors", "recovery_codes"] {
        assert_eq!(database.integer(&format!("SELECT COUNT(*) FROM {table}")).await, 0);
    }
    until("the token is refused", async || {
        let answer = world.client.check(&tokens.access_token, Consistency::Local).await.unwrap();
        (!answer.active).then_some(())
    })
    .await;
    let session = world.client.login("ada").await.unwrap();
    assert_eq!(world.json(&["user", "remove-factors", id, "--yes"]).await, json!({}), "once is enough");
    world.client.refresh(&session.refresh_token).await.unwrap();
    world.refused(&["user", "remove-factors", "nobody", "--yes"], "USER_NOT_FOUND").await;
}

async fn bar(world: &World, id: &str) {
    let tokens = world.client.login("ada").await.unwrap();
    assert_eq!(world.json(&["user", "suspend", "ada", "--yes"]).await["state"], "suspended");
    until("the token is refused", async || {
        let answer = world.client.check(&tokens.access_token, Consistency::Local).await.unwrap();
        (!answer.active).then_some(())
    })
    .await;
    assert_eq!(reason(&world.client.login("ada").await.unwrap_err()), "INVALID_CREDENTIALS");
    assert_eq!(world.json(&["user", "reactivate", id]).await["state"], "active");
    world.client.login("ada").await.unwrap();

    let other = world.place.file("other", "another battery staple");
    let set = ["user", "set-password", "ada", "--password-file", &other];
    assert_eq!(world.json(&set).await, json!({}));
    assert_eq!(reason(&world.client.login("ada").await.unwrap_err()), "INVALID_CREDENTIALS");
    world.client.login_with("ada", "another battery staple").await.unwrap();
}

async fn lists_are_filtered_on_the_database(backend: Backend) {
    lists_are_filtered(World::new(backend, Way::Direct).await).await;
}

async fn lists_are_filtered_through_a_server(backend: Backend) {
    lists_are_filtered(World::new(backend, Way::Server).await).await;
}

async fn lists_are_filtered(world: World) {
    for n in 0..5 {
        let (email, name) = (format!("User{n}@example.com"), format!("user{n}"));
        world.run(&["user", "create", "--email", &email, "--username", &name, "--no-password"]).await.ok();
    }
    world.run(&["user", "suspend", "user3", "--yes"]).await.ok();
    let listed = async |flags: &[&str]| {
        let users = world.json(&[&["user", "list"], flags].concat()).await;
        let emails = users.as_array().unwrap().iter().map(|user| user["email"].as_str().unwrap().to_owned());
        emails.collect::<Vec<_>>()
    };
    let five: Vec<_> = (0..5).map(|n| format!("User{n}@example.com")).collect();
    assert_eq!(listed(&["--email-prefix", "USER"]).await, five);
    assert_eq!(listed(&["--username-prefix", "user", "--state", "active"]).await.len(), 4);
    assert_eq!(listed(&["--state", "suspended"]).await, ["User3@example.com"]);
    assert_eq!(listed(&["--role", "admin"]).await, ["root@example.com"]);
    assert_eq!(listed(&["--created-before", "2020-01-01"]).await, [""; 0]);
    assert_eq!(listed(&["--created-since", "2020-01-01T00:00:00Z", "--all"]).await.len(), 6);

    // What was left out is said, and not where a program reads.
    let some = world.run(&["user", "list", "--email-prefix", "user", "--limit", "2", "--output", "json"]).await;
    assert!(some.stderr.contains("--all"), "{some:?}");
    let users: Value = serde_json::from_str(&some.ok()).unwrap();
    assert_eq!(users.as_array().unwrap().len(), 2);
    let all = world.run(&["user", "list", "--email-prefix", "user", "--limit", "5"]).await;
    assert_eq!(all.stderr, "");
    let table = all.ok();
    let rows = words(&table);
    assert_eq!((rows.len(), &rows[0][..3]), (6, &["ID", "EMAIL", "USERNAME"][..]));
    assert_eq!(rows[4][1..5], ["User3@example.com", "user3", "suspended", "-"]);
    assert_eq!(table.lines().map(|line| line.find("  ")).collect::<std::collections::BTreeSet<_>>().len(), 2);
    world.end().await;
}

async fn sessions_are_ended_on_the_database(backend: Backend) {
    sessions_are_ended(World::new(backend, Way::Direct).await).await;
}

async fn sessions_are_ended_through_a_server(backend: Backend) {
    sessions_are_ended(World::new(backend, Way::Server).await).await;
}

async fn sessions_are_ended(world: World) {
    world.client.register("ada@example.com").await.unwrap();
    let mut signed_in = Vec::new();
    for _ in 0..3 {
        signed_in.push(world.client.login("ada@example.com").await.unwrap());
    }
    let sessions = async || {
        let sessions = world.json(&["user", "sessions", "ada@example.com"]).await;
        let ids = sessions.as_array().unwrap().iter().map(|session| session["id"].as_str().unwrap().to_owned());
        ids.collect::<Vec<_>>()
    };
    // The newest first.
    let ids: Vec<_> = signed_in.iter().rev().map(|tokens| tokens.session_id.clone()).collect();
    assert_eq!(sessions().await, ids);
    let table = world.run(&["user", "sessions", "ada@example.com"]).await.ok();
    assert_eq!((words(&table).len(), words(&table)[1][0]), (4, ids[0].as_str()));

    let one = ["user", "revoke-sessions", "ada@example.com", "--session", &ids[0]];
    assert_eq!(world.json(&one).await, json!({}));
    assert_eq!(sessions().await, ids[1..]);
    assert_eq!(reason(&world.client.refresh(&signed_in[2].refresh_token).await.unwrap_err()), "SESSION_REVOKED");
    until("its access token is refused", async || {
        let answer = world.client.check(&signed_in[2].access_token, Consistency::Local).await.unwrap();
        (answer.inactive_reason() == InactiveReason::Revoked).then_some(())
    })
    .await;
    world.client.refresh(&signed_in[1].refresh_token).await.unwrap();

    world.run(&["user", "revoke-sessions", "ada@example.com", "--yes"]).await.ok();
    assert_eq!(sessions().await, [""; 0]);
    for tokens in &signed_in[..2] {
        assert!(world.client.refresh(&tokens.refresh_token).await.is_err());
    }
    world.refused(&one, "SESSION_NOT_FOUND").await;
    world.end().await;
}

/// As the first administrator may; and looking does not make a database.
async fn a_user_may_come_before_the_server(backend: Backend) {
    let place = Place::new(backend).await;
    if backend == Backend::Sqlite {
        let said = place.run(&["user", "list"]).await.refused();
        assert!(said.contains("there is no database"), "{said}");
        assert_eq!(std::fs::read_dir(place.data_dir()).unwrap().count(), 0, "something was created");
    }
    let create = ["user", "create", "--email", "root@example.com", "--role", "admin", "--password-stdin"];
    place.run_with_input(&create, PASSWORD).await.ok();
    let events = "SELECT count(*) FROM audit_events WHERE actor = 'operator'";
    assert!(place.database.integer(events).await > 0);
    assert_eq!(place.database.integer("SELECT count(*) FROM signing_keys").await, 0, "those are the server's");
    let server = place.serve().await;
    let client = crate::process::client::Client::of(&server).await;
    let tokens = client.login("root@example.com").await.unwrap();
    assert_eq!(client.claims(&tokens.access_token).await.roles, ["admin"]);
    server.stop().await;
    place.remove().await;
}
