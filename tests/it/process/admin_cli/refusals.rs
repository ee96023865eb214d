//! Who is not let in, what is not sent, and what is not done without being asked for.

use super::{Way, World, make_root, through};
use crate::{
    process::{client::Client, harness::Place, tls::with_tls},
    rpc::on_both_databases,
    support::{Backend, PASSWORD, certificates::Authority},
};

on_both_databases!(tokens_that_do_not_do_are_refused, what_cannot_be_undone_is_not_done_without_a_terminal);

/// Of those that do not verify, of nobody's that may, and of none at all.
async fn tokens_that_do_not_do_are_refused(backend: Backend) {
    let world = World::new(backend, Way::Server).await;
    let place = &world.place;
    let ada = world.client.join("ada@example.com").await;
    let list = |server: &str, more: &[&str]| -> Vec<String> {
        ["user", "list", "--server", server].iter().chain(more).map(|&arg| arg.to_owned()).collect()
    };
    let url = format!("http://{}", world.server.grpc);
    let run = async |args: Vec<String>, input: &str| {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        place.run_with_input(&args, input).await.refused()
    };
    for (token, part) in [
        (ada.access_token.as_str(), "(PERMISSION_DENIED)"),
        ("nonsense", "(ACCESS_TOKEN_INVALID)"),
        (ada.refresh_token.as_str(), "this is a refresh token"),
        ("", "the access token is empty"),
        ("a\nb", "this is no access token"),
    ] {
        let said = run(list(&url, &["--token-stdin"]), token).await;
        assert!(said.contains(part), "{token}: {said}");
        assert!(token.is_empty() || !said.contains(token), "{said}");
    }
    let file = place.file("ada", &ada.access_token);
    let said = run(list(&url, &["--token-file", &file]), "").await;
    assert!(said.contains("(PERMISSION_DENIED)"), "{said}");
    let said = run(list(&url, &["--token-file", "missing"]), "").await;
    assert!(said.contains("missing"), "{said}");
    let said = run(list(&url, &[]), "").await;
    assert!(said.contains("--token-file") && said.contains("--token-stdin"), "{said}");
    // Not to anybody else without TLS; the address is nobody's.
    let said = run(list("http://192.0.2.1:50051", &["--token-stdin"]), &ada.access_token).await;
    assert!(said.contains("--allow-plaintext"), "{said}");
    let said = run(list(&url.replace("http", "https"), &["--token-stdin"]), &ada.access_token).await;
    assert!(said.contains("cannot reach"), "{said}");

    let World { place, server, .. } = world;
    let gone = through(&server, &file);
    server.stop().await;
    let gone: Vec<&str> = ["role", "list"].into_iter().chain(gone.iter().map(String::as_str)).collect();
    let said = place.run(&gone).await.refused();
    assert!(said.contains("cannot reach http://127.0.0.1:"), "{said}");
    place.remove().await;
}

/// Standard input is none here, and what is on it is no answer.
async fn what_cannot_be_undone_is_not_done_without_a_terminal(backend: Backend) {
    let world = World::new(backend, Way::Direct).await;
    let client_id = "svc_01a201df-cd63-7f06-8a56-41ca84f800ad";
    let before = world.place.database.dump("users").await;
    for command in [
        &["user", "delete", "root@example.com"][..],
        &["user", "suspend", "root@example.com"],
        &["user", "remove-factors", "root@example.com"],
        &["user", "revoke-sessions", "root@example.com"],
        &["role", "delete", "admin"],
        &["service-account", "delete", client_id],
        &["service-account", "rotate-secret", client_id, "--keep-previous", "0s"],
    ] {
        let said = world.place.run_with_input(command, "y\n").await.refused();
        assert!(said.contains("no terminal") && said.contains("--yes"), "{command:?}: {said}");
    }
    for command in
        [&["user", "create", "--email", "ada@example.com"][..], &["user", "set-password", "root@example.com"]]
    {
        let said = world.run(command).await.refused();
        assert!(said.contains("--password-stdin"), "{command:?}: {said}");
    }
    assert_eq!(world.place.database.dump("users").await, before);
    world.end().await;
}

#[tokio::test]
async fn a_server_is_asked_over_tls_and_only_whom_the_file_trusts() {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let place = Place::new(Backend::Sqlite).await;
    make_root(&place).await;
    // Signed in without TLS; the token is good for the same server with it.
    let server = place.serve().await;
    let token = Client::of(&server).await.login("root@example.com").await.unwrap().access_token;
    server.stop().await;
    let place = with_tls(place, "grpc", &ours.server(), Some(&ours));
    let server = place.serve().await;
    let token = place.file("token", token);
    let (ca, stranger) = (place.file("ca.pem", ours.pem()), place.file("stranger.pem", other.pem()));
    let pair = ours.client();
    let (certificate, key) = (place.file("client.pem", &pair.certificate), place.file("client.key", &pair.key));
    let url = format!("https://localhost:{}", server.grpc.port());
    let list = async |flags: &[&str]| {
        let list = ["role", "list", "--output", "json", "--server", &url, "--token-file", &token];
        place.run(&[&list[..], flags].concat()).await
    };
    let own = ["--client-cert", &certificate, "--client-key", &key];
    let printed = list(&[&own[..], &["--ca-file", &ca]].concat()).await.ok();
    assert!(printed.contains("\"admin\""), "{printed}");
    for (flags, part) in [
        (&["--ca-file", &stranger][..], "cannot reach"),
        (&[], "cannot reach"),
        (&["--ca-file", &certificate], "cannot reach"),
        (&["--ca-file", "missing"], "missing"),
    ] {
        let said = list(&[&own[..], flags].concat()).await.refused();
        assert!(said.contains(part), "{flags:?}: {said}");
    }
    // It demands a certificate.
    list(&["--ca-file", &ca]).await.refused();
    let said = place.run(&["role", "list", "--server", &url.replace("https", "http"), "--token-file", &token]).await;
    said.refused();
    server.stop().await;
    place.remove().await;
}

/// What the server would tell its log alone, the operator at the database is told.
#[tokio::test]
async fn an_outage_is_told_with_its_cause_to_whoever_is_at_the_database() {
    let place = Place::new(Backend::Sqlite).await;
    make_root(&place).await;
    place.database.execute("DROP TABLE user_roles").await;
    let said = place.run(&["user", "get", "root@example.com"]).await.refused();
    assert!(said.contains("user_roles") && !said.contains(PASSWORD), "{said}");
    place.remove().await;
}
