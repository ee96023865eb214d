//! `vouchsafe admin create`, beside a running server.

use serde_json::json;
use vouchsafe::{pb::v1::Consistency, store::Location};

use super::{
    client::Client,
    harness::{PROGRAM, Place, finish},
    tools::python,
};
use crate::{
    rpc::on_both_databases,
    support::{Backend, PASSWORD, reason},
};

on_both_databases!(
    an_administrator_is_made_while_the_server_runs,
    an_administrator_may_come_before_the_server,
    bad_requests_make_nobody,
);

fn create<'a>(email: &'a str, flags: &[&'a str]) -> Vec<&'a str> {
    [&["admin", "create", "--email", email], flags].concat()
}

async fn an_administrator_is_made_while_the_server_runs(backend: Backend) {
    let place = Place::new(backend).await;
    let server = place.serve().await;
    let client = Client::of(&server).await;

    // Only the first line counts, with or without its end.
    let typed = format!("{PASSWORD}\nsecond line\n");
    let flags = ["--username", "Root", "--display-name", "The Root", "--password-stdin"];
    let said = place.run_with_input(&create("Root@example.com", &flags), &typed).await.ok();
    assert!(said.contains("Root@example.com"), "{said}");
    let file = place.file("password", PASSWORD);
    place.run(&create("second@example.com", &["--password-file", &file])).await.ok();

    for identifier in ["root@example.com", "root", "second@example.com"] {
        let tokens = client.login(identifier).await.unwrap();
        assert_eq!(client.claims(&tokens.access_token).await.roles, ["admin"]);
    }
    // Nobody becomes one by registering.
    let tokens = client.join("ada@example.com").await;
    let answer = client.check(&tokens.access_token, Consistency::Strong).await.unwrap();
    assert_eq!(answer.claims.unwrap().roles, [""; 0]);

    let events = "SELECT count(*) FROM audit_events WHERE actor = 'operator' AND act =";
    for act in ["user.registered", "role.assigned"] {
        assert_eq!(place.database.integer(&format!("{events} '{act}'")).await, 2, "{act}");
    }
    server.stop().await;
    place.remove().await;
}

/// The embedded database is made for them. No key is: that is the server's, with the server's settings.
async fn an_administrator_may_come_before_the_server(backend: Backend) {
    let place = Place::new(backend).await;
    let args = create("root@example.com", &["--password-stdin", "--set", "tokens.algorithm=EdDSA"]);
    let said = place.run_with_input(&args, PASSWORD).await.ok();
    match place.database.location() {
        Location::Sqlite(path) => assert!(said.contains(&format!(" in {}\n", path.display())), "{said}"),
        Location::Postgres(url) | Location::PgBouncer(url) => {
            let (_, host) = url.expose().split_once('@').unwrap();
            assert!(said.contains(&format!(" in postgres://{}", host.split('?').next().unwrap())), "{said}");
            // That of the address is the only one.
            assert_eq!(said.matches('@').count(), 1, "no login: {said}");
        }
    }
    assert_eq!(place.database.integer("SELECT count(*) FROM signing_keys").await, 0);
    let server = place.serve().await;
    Client::of(&server).await.login("root@example.com").await.unwrap();
    assert_eq!(place.database.texts("SELECT algorithm FROM signing_keys").await, ["ES256"]);
    server.stop().await;
    place.remove().await;
}

async fn bad_requests_make_nobody(backend: Backend) {
    let place = Place::new(backend).await;
    let by_stdin = ["--password-stdin"];
    let mut refusals = Vec::new();
    for (short, part) in [("", "empty"), ("\n", "empty"), ("fourteen chars\nand a second line", "15")] {
        refusals.push((place.run_with_input(&create("root@example.com", &by_stdin), short).await, part));
    }
    let missing = place.path("missing").display().to_string();
    refusals.push((place.run(&create("root@example.com", &["--password-file", &missing])).await, "missing"));
    // Standard input is no terminal here.
    refusals.push((place.run(&create("root@example.com", &[])).await, "--password-stdin"));
    for (ended, part) in refusals {
        let said = ended.refused();
        assert!(said.contains(part), "{part}: {said}");
    }

    place.run_with_input(&create("root@example.com", &["--username", "root", "--password-stdin"]), PASSWORD).await.ok();
    for (email, username, part) in
        [("ROOT@example.com", "other", "ROOT@example.com"), ("other@example.com", "Root", "user name")]
    {
        let args = create(email, &["--username", username, "--password-stdin"]);
        let said = place.run_with_input(&args, "another battery staple").await.refused();
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(place.database.integer("SELECT count(*) FROM users").await, 1);
    let server = place.serve().await;
    let client = Client::of(&server).await;
    client.login("root").await.unwrap();
    let refused = client.login_with("root", "another battery staple").await.unwrap_err();
    assert_eq!(reason(&refused), "INVALID_CREDENTIALS");
    server.stop().await;
    place.remove().await;
}

/// What a terminal shows while these answers are typed; how the program ended.
pub(super) async fn at_terminal(place: &Place, args: &[&str], answers: &[(&str, &str)]) -> (String, bool) {
    let whole = [&[PROGRAM], args].concat();
    let script = json!({"command": whole, "answers": answers}).to_string();
    let mut command = python("at_terminal.py", &[]);
    command.env_clear().envs(place.command(args).as_std().get_envs().filter_map(|(name, value)| Some((name, value?))));
    let ended = finish(command, &script).await;
    let done = ended.status.success();
    assert!(done || ended.status.code() == Some(1), "{ended:?}");
    (ended.stdout, done)
}

#[tokio::test]
async fn a_password_typed_at_the_prompt_is_not_shown() {
    let place = Place::new(Backend::Sqlite).await;
    let twice = [("Password: ", PASSWORD), ("Password again: ", PASSWORD)];
    let (shown, done) = at_terminal(&place, &create("root@example.com", &[]), &twice).await;
    assert!(done && shown.contains("administrator root@example.com created"), "{shown}");
    assert!(shown.contains("Password again: ") && !shown.contains("battery"), "{shown}");

    let differ = [("Password: ", PASSWORD), ("Password again: ", "correct horse battery stable")];
    let (shown, done) = at_terminal(&place, &create("second@example.com", &[]), &differ).await;
    assert!(!done && shown.contains("differ") && !shown.contains("battery"), "{shown}");
    assert_eq!(place.database.integer("SELECT count(*) FROM users").await, 1);

    let server = place.serve().await;
    let client = Client::of(&server).await;
    let tokens = client.login("root@example.com").await.unwrap();
    assert_eq!(client.claims(&tokens.access_token).await.roles, ["admin"]);
    server.stop().await;
    place.remove().await;
}
