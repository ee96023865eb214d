//! Starts that must not happen: each says what is wrong and what to do, and leaves the data as it was.

use std::{fs, net::TcpListener, os::unix::fs::PermissionsExt as _};

use vouchsafe::pb::v1::TokenPair;

use super::{client::Client, harness::Place};
use crate::{
    rpc::on_both_databases,
    support::{Backend, TestDatabase},
};

/// Base64 of 32 other bytes.
const OTHER_KEY: &str = "YW5vdGhlciBrZXkgZm9yIHRlc3RzLCAzMiBieXRlcyE=";

on_both_databases!(a_wrong_master_key_is_noticed, a_newer_schema_is_left_alone, a_damaged_master_key_is_no_key);

/// A place with a user in it.
async fn inhabited(backend: Backend) -> (Place, TokenPair) {
    let place = Place::new(backend).await;
    let server = place.serve().await;
    let tokens = Client::of(&server).await.join("ada@example.com").await;
    server.stop().await;
    (place, tokens)
}

/// Nothing was lost: the user is still signed in.
async fn assert_untouched(place: Place, tokens: TokenPair) {
    let server = place.serve().await;
    let client = Client::of(&server).await;
    client.claims(&tokens.access_token).await;
    client.refresh(&tokens.refresh_token).await.unwrap();
    server.stop().await;
    place.remove().await;
}

#[track_caller]
fn assert_says(said: &str, parts: &[&str]) {
    for part in parts {
        assert!(said.contains(part), "{part}: {said}");
    }
}

/// Every command that opens the store.
const COMMANDS: [&[&str]; 4] = [
    &["serve"],
    &["keys", "list"],
    &["keys", "rotate"],
    &["admin", "create", "--email", "root@example.com", "--password-stdin"],
];

const INPUT: &str = "correct horse battery staple\n";

async fn a_wrong_master_key_is_noticed(backend: Backend) {
    let (place, tokens) = inhabited(backend).await;
    for command in COMMANDS {
        let mut process = place.command(command);
        process.env("VOUCHSAFE_KEYS__MASTER_KEY", OTHER_KEY);
        let said = super::harness::finish(process, INPUT).await.refused();
        assert_says(&said, &["master key does not open", "keys.master_key"]);
        assert!(!said.contains(OTHER_KEY), "{said}");
    }
    assert_eq!(place.database.integer("SELECT count(*) FROM users").await, 1);
    assert_eq!(place.database.integer("SELECT count(*) FROM signing_keys").await, 1);
    assert_untouched(place, tokens).await;
}

async fn a_damaged_master_key_is_no_key(backend: Backend) {
    let (place, tokens) = inhabited(backend).await;
    for bad in ["short", "!!!!", &OTHER_KEY[..20]] {
        let mut process = place.command(&["serve"]);
        process.env("VOUCHSAFE_KEYS__MASTER_KEY", bad);
        let said = super::harness::finish(process, "").await.refused();
        assert_says(&said, &["keys.master_key"]);
        assert!(!said.contains(bad), "{said}");
    }
    assert_untouched(place, tokens).await;
}

async fn a_newer_schema_is_left_alone(backend: Backend) {
    let (place, tokens) = inhabited(backend).await;
    place.database.execute("UPDATE schema_compatibility SET oldest_reader = 99").await;
    for command in COMMANDS.iter().copied().chain([&["migrate"][..]]) {
        let said = place.run_with_input(command, INPUT).await.refused();
        assert_says(&said, &["99", "run a newer vouchsafe"]);
    }
    place.database.execute("UPDATE schema_compatibility SET oldest_reader = 1").await;
    assert_eq!(place.database.integer("SELECT count(*) FROM users").await, 1);
    assert_untouched(place, tokens).await;
}

#[tokio::test]
async fn a_lost_master_key_is_not_replaced() {
    let (place, tokens) = inhabited(Backend::Sqlite).await;
    let (key, aside) = (place.data_dir().join("master.key"), place.path("aside"));
    fs::rename(&key, &aside).unwrap();
    for command in COMMANDS {
        let said = place.run_with_input(command, INPUT).await.refused();
        assert_says(&said, &[key.to_str().unwrap(), "put the key back"]);
        assert!(!key.exists(), "a new key was made");
    }
    // As long as it is somewhere, it can be put back, and meanwhile be named.
    let given = place.variable("VOUCHSAFE_KEYS__MASTER_KEY_FILE", aside.to_str().unwrap());
    assert_untouched(given, tokens).await;
}

#[tokio::test]
async fn a_master_key_that_others_may_read_is_refused() {
    let (place, tokens) = inhabited(Backend::Sqlite).await;
    let key = place.data_dir().join("master.key");
    for mode in [0o640, 0o604, 0o620] {
        fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
        let said = place.run(&["serve"]).await.refused();
        assert_says(&said, &[key.to_str().unwrap(), "chmod 600"]);
    }
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    assert_untouched(place, tokens).await;
}

#[tokio::test]
async fn a_postgres_without_a_schema_asks_for_the_migration() {
    let place = Place::on(TestDatabase::empty(Backend::Postgres).await);
    for command in COMMANDS {
        let said = place.run_with_input(command, INPUT).await.refused();
        assert_says(&said, &["run `vouchsafe migrate`"]);
    }
    let tables = "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'";
    assert_eq!(place.database.integer(tables).await, 0, "a table was made");
    // Which then does it, and may be repeated.
    for _ in 0..2 {
        assert_eq!(place.run(&["migrate"]).await.ok(), "the schema is up to date\n");
    }
    let server = place.serve().await;
    Client::of(&server).await.join("ada@example.com").await;
    server.stop().await;
    place.remove().await;
}

#[tokio::test]
async fn a_port_in_use_is_named_and_nothing_created() {
    for key in ["grpc.listen", "http.listen"] {
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = other.local_addr().unwrap().to_string();
        let place = Place::new(Backend::Sqlite).await.set(key, &address);
        let said = place.run(&["serve"]).await.refused();
        assert_says(&said, &[&address, key, &format!("--set {key}=")]);
        assert_eq!(fs::read_dir(place.data_dir()).unwrap().count(), 0, "something was created");
        place.remove().await;
    }
}

#[tokio::test]
async fn a_second_server_on_one_data_directory_is_kept_out() {
    let (place, tokens) = inhabited(Backend::Sqlite).await;
    let first = place.serve().await;
    let said = place.run(&["serve"]).await.refused();
    assert_says(&said, &[place.data_dir().to_str().unwrap(), "another vouchsafe server", "--data-dir"]);
    Client::of(&first).await.claims(&tokens.access_token).await;
    // A dead server's lock is gone with it.
    first.kill().await;
    assert_untouched(place, tokens).await;
}

/// What counts is the database, not which directory its server keeps its key in.
#[tokio::test]
async fn a_second_server_on_one_database_is_kept_out() {
    let (place, tokens) = inhabited(Backend::Sqlite).await;
    let first = place.serve().await;
    let database = place.data_dir().join("vouchsafe.db");
    let (key, other) = (place.data_dir().join("master.key"), place.path("other"));
    fs::create_dir(&other).unwrap();
    fs::copy(key, other.join("master.key")).unwrap();
    let link = place.path("link.db");
    std::os::unix::fs::symlink(&database, &link).unwrap();
    for name in [&database, &link] {
        let url = format!("database.url=sqlite:{}", name.display());
        let said = place.run(&["serve", "--data-dir", other.to_str().unwrap(), "--set", &url]).await.refused();
        assert_says(&said, &[name.to_str().unwrap(), "another vouchsafe server", "database.url"]);
    }
    Client::of(&first).await.claims(&tokens.access_token).await;
    first.stop().await;
    assert_untouched(place, tokens).await;
}

#[tokio::test]
async fn a_database_that_others_may_read_or_write_is_refused() {
    let (place, tokens) = inhabited(Backend::Sqlite).await;
    let database = place.data_dir().join("vouchsafe.db");
    for mode in [0o604, 0o602, 0o644] {
        fs::set_permissions(&database, fs::Permissions::from_mode(mode)).unwrap();
        for command in COMMANDS.iter().copied().chain([&["migrate"][..]]) {
            let said = place.run_with_input(command, INPUT).await.refused();
            assert_says(&said, &[database.to_str().unwrap(), "chmod 600"]);
        }
    }
    // A group is somebody's choice.
    fs::set_permissions(&database, fs::Permissions::from_mode(0o660)).unwrap();
    assert_untouched(place, tokens).await;
}

#[tokio::test]
async fn a_migration_makes_what_the_server_then_finds() {
    let place = Place::new(Backend::Sqlite).await;
    assert_eq!(place.run(&["migrate"]).await.ok(), "the schema is up to date\n");
    let server = place.serve().await;
    Client::of(&server).await.join("ada@example.com").await;
    server.stop().await;
    place.remove().await;
}

#[tokio::test]
async fn cheap_passwords_are_warned_of() {
    let place = Place::new(Backend::Sqlite).await;
    let server = place.serve().await;
    let warned = |log: &[String]| log.iter().any(|line| line.contains("OWASP") && line.contains("WARN"));
    assert!(warned(&server.log.so_far()), "{:#?}", server.log.so_far());
    server.stop().await;
    let place = place.unset("passwords.memory_kib").unset("passwords.iterations");
    let server = place.serve().await;
    assert!(!warned(&server.log.so_far()), "{:#?}", server.log.so_far());
    server.stop().await;
    place.remove().await;
}

#[tokio::test]
async fn a_data_directory_that_cannot_be_is_named() {
    let place = Place::new(Backend::Sqlite).await;
    // Below a file, because root may write everywhere else.
    let file = place.file("file", "");
    let dir = format!("{file}/data");
    for command in COMMANDS {
        let said = place.run_with_input(&[command, &["--data-dir", &dir]].concat(), INPUT).await.refused();
        assert_says(&said, &[&dir, "--data-dir"]);
    }
    let homeless = place.unset("data_dir");
    let mut process = homeless.command(&["serve"]);
    process.env_remove("HOME");
    let said = super::harness::finish(process, "").await.refused();
    assert_says(&said, &["HOME", "--data-dir", "VOUCHSAFE__DATA_DIR"]);
    homeless.remove().await;
}
