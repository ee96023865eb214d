//! `vouchsafe privacy`: a restored backup brings back who was deleted since, and the list of erasures sees to it that they go again.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tokio::process::Command;
use vouchsafe::{pb::v1, store::Location};

use super::{
    admin_cli::make_root,
    client::Client,
    harness::{Place, Server, until},
};
use crate::{
    rpc::{on_both_databases, on_forms},
    state::own::OwnRedis,
    support::{Backend, TestDatabase, bearer, reason},
};

on_both_databases!(who_was_deleted_stays_deleted_after_a_restore, what_is_no_list_of_erasures_does_nothing);
on_forms!([postgres_and_redis Postgres] [who_is_deleted_at_the_command_line_has_no_record_left]);

const ADA: &str = "ada@example.com";
const BOB: &str = "bob@example.com";

/// Runs one of Postgres's own programs.
async fn run(program: &str, args: &[&str]) {
    let bin = std::env::var("VOUCHSAFE_TEST_PG_BIN").expect("VOUCHSAFE_TEST_PG_BIN: run the tests by `make test`");
    let done = Command::new(Path::new(&bin).join(program)).args(args).output().await.unwrap();
    assert!(done.status.success(), "{program}: {}", String::from_utf8_lossy(&done.stderr));
}

/// Copies the database, as no server runs.
async fn back_up(place: &Place) -> PathBuf {
    let copy = place.path("backup");
    match place.database.schema_location() {
        Location::Sqlite(path) => {
            // The last connection that was closed has left nothing beside the file.
            assert!(!path.with_extension("db-wal").exists());
            std::fs::copy(path, &copy).unwrap();
        }
        Location::Postgres(url) | Location::PgBouncer(url) => {
            let file = copy.display().to_string();
            run("pg_dump", &["--format=custom", "--file", &file, "--dbname", url.expose()]).await;
        }
    }
    copy
}

/// Puts the copy in the place of the database.
async fn restore(place: Place, copy: &Path) -> Place {
    match place.database.schema_location() {
        Location::Sqlite(path) => {
            for beside in ["db-wal", "db-shm"] {
                // Not all of them are there.
                let _ = std::fs::remove_file(path.with_extension(beside));
            }
            std::fs::copy(copy, path).unwrap();
            place
        }
        Location::Postgres(_) | Location::PgBouncer(_) => {
            let restored = TestDatabase::empty(Backend::Postgres).await;
            let Location::Postgres(url) = restored.schema_location() else { panic!("a Postgres") };
            let file = copy.display().to_string();
            run("pg_restore", &["--no-owner", "--exit-on-error", "--dbname", url.expose(), &file]).await;
            let new = Place::on(restored);
            place.remove().await;
            new
        }
    }
}

async fn delete_own(client: &Client, token: &str) {
    let mut account = v1::account_service_client::AccountServiceClient::new(client.channel.clone());
    account.delete_account(bearer(token, v1::DeleteAccountRequest {})).await.unwrap();
}

async fn deleted(server: Server) -> (String, String) {
    let client = Client::of(&server).await;
    let token = client.login(ADA).await.unwrap().access_token;
    let ada = client.claims(&token).await.subject;
    delete_own(&client, &token).await;
    let token = client.login(BOB).await.unwrap().access_token;
    let bob = client.claims(&token).await.subject;
    delete_own(&client, &token).await;
    server.stop().await;
    (ada, bob)
}

async fn who_was_deleted_stays_deleted_after_a_restore(backend: Backend) {
    let place = Place::new(backend).await;
    make_root(&place).await;
    let server = place.serve().await;
    let client = Client::of(&server).await;
    client.register(ADA).await.unwrap();
    client.register(BOB).await.unwrap();
    drop(client);
    server.stop().await;
    let backup = back_up(&place).await;
    assert_eq!(place.run(&["privacy", "erasures"]).await.ok(), "", "nobody yet");

    let (ada, bob) = deleted(place.serve().await).await;
    let listed = place.run(&["privacy", "erasures"]).await.ok();
    let lines: Vec<Value> = listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.iter().map(|line| line["user_id"].as_str().unwrap()).collect::<Vec<_>>(), [&ada, &bob]);
    let since =
        |time: &Value| ["privacy".to_owned(), "erasures".into(), "--since".into(), time.as_str().unwrap().into()];
    let since = since(&lines[1]["time"]);
    let later = place.run(&since.each_ref().map(String::as_str)).await.ok();
    assert_eq!(later.lines().collect::<Vec<_>>(), [listed.lines().nth(1).unwrap()]);
    assert_eq!(place.run(&["privacy", "erasures", "--since", "2100-01-01"]).await.ok(), "");
    let export = place.run(&["audit", "export"]).await.ok();

    // Both are there again, and nothing knows that they should not be.
    let place = restore(place, &backup).await;
    let there = "SELECT COUNT(*) FROM users WHERE email_key IN ('ada@example.com', 'bob@example.com')";
    assert_eq!(place.database.integer(there).await, 2);
    assert_eq!(place.run(&["privacy", "erasures"]).await.ok(), "");
    let only_ada = place.file("only-ada", listed.lines().next().unwrap());
    let said = place.run(&["privacy", "reapply", &only_ada]).await.refused();
    assert!(said.contains("--yes"), "{said}");
    assert_eq!(place.database.integer(there).await, 2, "nobody said yes");
    let said = place.run(&["privacy", "reapply", &only_ada, "--yes"]).await.ok();
    assert_eq!(said, "1 deleted again, 0 noted, 0 known before\n");
    let said = place.run_with_input(&["privacy", "reapply", "-", "--yes"], &export).await.ok();
    assert_eq!(said, "1 deleted again, 0 noted, 1 known before\n", "the trail says the same");
    let list = place.file("list", &listed);
    // There is nobody to ask about.
    assert_eq!(place.run(&["privacy", "reapply", &list]).await.ok(), "0 deleted again, 0 noted, 2 known before\n");
    let again = place.run(&["privacy", "erasures"]).await.ok();
    assert_eq!(again.lines().next(), listed.lines().next(), "as it was listed");
    assert!(again.lines().count() == 2 && again.contains(&bob), "{again}");
    assert_eq!(place.database.integer(there).await, 0);
    for id in [&ada, &bob] {
        let id = place.database.id(&id.parse().unwrap());
        let keys = format!("SELECT COUNT(*) FROM data_keys WHERE owner_id = {id}");
        assert_eq!(place.database.integer(&keys).await, 0);
    }
    let by_operator = "SELECT COUNT(*) FROM audit_events WHERE act = 'user.deleted' AND actor = 'operator'";
    assert_eq!(place.database.integer(by_operator).await, 2);
    let server = place.serve().await;
    let client = Client::of(&server).await;
    for email in [ADA, BOB] {
        assert_eq!(reason(&client.login(email).await.unwrap_err()), "INVALID_CREDENTIALS");
    }
    client.login("root@example.com").await.unwrap();
    drop(client);
    server.stop().await;
    assert!(place.run(&["audit", "verify"]).await.status.success());
    place.remove().await;
}

async fn what_is_no_list_of_erasures_does_nothing(backend: Backend) {
    let place = Place::new(backend).await;
    let server = place.serve().await;
    let client = Client::of(&server).await;
    let ada = client.register(ADA).await.unwrap().id;
    drop(client);
    server.stop().await;
    let erased = |user: &str| format!("{{\"user_id\":\"{user}\",\"time\":\"2026-11-22T12:00:00.000000Z\"}}");
    for (list, line) in [
        (format!("{}\n{ada}\n", erased(&ada)), "line 2"),
        (format!("{}\n{}\n", erased(&ada), erased("00000000-0000-0000-0000-000000000000")), "line 2"),
        (format!("{}\n\n{}\n", erased(&ada), erased(&ada)), "line 2"),
    ] {
        let said = place.run_with_input(&["privacy", "reapply", "-", "--yes"], &list).await.refused();
        assert!(said.contains(line) && said.contains("nothing was done"), "{said}");
    }
    let missing = place.path("missing").display().to_string();
    assert!(place.run(&["privacy", "reapply", &missing, "--yes"]).await.refused().contains("missing"));
    assert_eq!(place.database.integer("SELECT COUNT(*) FROM users").await, 1);
    // Of somebody who is not there it is remembered all the same, and once.
    let gone = erased("01a201df-cd63-7f06-8a56-41ca84f800ad");
    let reapply = ["privacy", "reapply", "-"];
    assert_eq!(place.run_with_input(&reapply, &gone).await.ok(), "0 deleted again, 1 noted, 0 known before\n");
    assert_eq!(place.run(&["privacy", "erasures"]).await.ok(), format!("{gone}\n"));
    assert_eq!(place.run_with_input(&reapply, &gone).await.ok(), "0 deleted again, 0 noted, 1 known before\n");
    place.remove().await;
}

/// No server runs, so nobody else could have removed it.
async fn who_is_deleted_at_the_command_line_has_no_record_left(backend: Backend) {
    let redis = OwnRedis::start(&[]).await;
    let place = Place::new(backend).await.set("redis.url", &redis.url());
    let server = place.serve().await;
    let client = Client::of(&server).await;
    let tokens = client.join(ADA).await;
    client.refresh(&tokens.refresh_token).await.unwrap();
    let other = client.join(BOB).await;
    client.refresh(&other.refresh_token).await.unwrap();
    drop(client);
    let records = async || redis.ask::<Vec<String>>(&["KEYS", "vouchsafe:s:*"]).await.unwrap().len();
    // A refresh that Redis was too slow for leaves its record a moment later.
    until("both have a record", async || (records().await == 2).then_some(())).await;
    server.stop().await;
    place.run(&["user", "delete", ADA, "--yes"]).await.ok();
    until("her record is gone", async || (records().await == 1).then_some(())).await;
    place.remove().await;
}
