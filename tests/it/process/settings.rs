//! Settings that are wrong: each is named with what to do about it, before anything is created.

use super::harness::{Place, variable};
use crate::support::Backend;

/// Serving with these settings is refused, and nothing was created; what it says.
async fn refused(place: Place, flags: &[&str]) -> String {
    let said = place.run(&[&["serve"], flags].concat()).await.refused();
    assert!(said.starts_with("vouchsafe: the settings are not usable\n"), "{said}");
    assert_eq!(std::fs::read_dir(place.data_dir()).unwrap().count(), 0, "something was created");
    let checked = place.run(&[&["config", "check"], flags].concat()).await.refused();
    assert_eq!(checked, said, "`config check` says the same");
    place.remove().await;
    said
}

async fn sqlite() -> Place {
    Place::new(Backend::Sqlite).await
}

#[track_caller]
fn assert_says(said: &str, parts: &[&str]) {
    for part in parts {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[tokio::test]
async fn an_unknown_setting_is_told_the_nearest_one_wherever_it_stands() {
    let place = sqlite().await;
    let file = place.file("vouchsafe.toml", "issuer = \"https://id.example\"\n\n[tokens]\nacess_ttl = \"5m\"\n");
    let said = refused(place, &["--config", &file]).await;
    assert_says(&said, &["tokens.acess_ttl", "tokens.access_ttl", &format!("{file}, line 4")]);

    let place = sqlite().await;
    let file = place.file("vouchsafe.toml", "[grcp]\nlisten = \"127.0.0.1:1\"\n");
    let said = refused(place.variable("VOUCHSAFE_CONFIG", &file), &[]).await;
    assert_says(&said, &["grcp", "grpc", "line 1"]);

    let said = refused(sqlite().await.variable("VOUCHSAFE_GRPC__LISEN", "127.0.0.1:1"), &[]).await;
    assert_says(&said, &["VOUCHSAFE_GRPC__LISEN", "VOUCHSAFE_GRPC__LISTEN"]);

    let said = refused(sqlite().await, &["--set", "log.fromat=json", "--set", "isuer=https://id.example"]).await;
    assert_says(&said, &["log.fromat", "log.format", "isuer", "issuer", "--set"]);
}

#[tokio::test]
async fn every_problem_is_reported_at_once_and_values_name_what_would_do() {
    let place = sqlite().await.set("tokens.access_ttl", "soon").set("shutdown.drain", "-1s");
    let said = refused(place, &["--set", "grpc.max_deadline=1", "--set", "tokens.algorithm=HS256"]).await;
    assert_eq!(said.lines().count(), 5, "{said}");
    assert_says(&said, &["tokens.access_ttl", "\"soon\"", "30s to 1d", "VOUCHSAFE_TOKENS__ACCESS_TTL"]);
    assert_says(&said, &["shutdown.drain", "grpc.max_deadline", "tokens.algorithm", "ES256, EdDSA or RS256"]);
}

#[tokio::test]
async fn a_setting_and_its_file_are_not_both_taken() {
    let place = sqlite().await;
    let file = place.file("issuer", "https://id.example\n");
    let name = format!("{}_FILE", variable("issuer"));
    let said = refused(place.variable(&name, &file), &[]).await;
    assert_says(&said, &["VOUCHSAFE__ISSUER", "VOUCHSAFE__ISSUER_FILE", "both are set"]);

    let place = sqlite().await.unset("issuer");
    let file = place.file("issuer", "https://file.example\n");
    let dump = place.variable(&name, &file).run(&["config", "check"]).await.ok();
    assert_says(&dump, &["issuer = \"https://file.example\"\n"]);

    let missing = "/nonexistent/issuer";
    let said = refused(sqlite().await.unset("issuer").variable(&name, missing), &[]).await;
    assert_says(&said, &[missing, &name]);
}

#[tokio::test]
async fn a_configuration_file_that_is_not_there_or_not_toml_is_named() {
    let said = refused(sqlite().await, &["--config", "/nonexistent/vouchsafe.toml"]).await;
    assert_says(&said, &["/nonexistent/vouchsafe.toml", "--config"]);
    let place = sqlite().await;
    let file = place.file("vouchsafe.toml", "issuer https://id.example\n");
    let said = refused(place, &["--config", &file]).await;
    assert_says(&said, &[&file, "line 1"]);
}

#[tokio::test]
async fn plaintext_leaves_this_machine_only_where_the_operator_said_so() {
    for (key, opt_in) in [("grpc.listen", "grpc.allow_plaintext"), ("http.listen", "http.allow_plaintext")] {
        for address in ["0.0.0.0:0", "[::]:0"] {
            let said = refused(sqlite().await, &["--set", &format!("{key}={address}")]).await;
            assert_says(&said, &[key, opt_in, address, "unencrypted"]);
        }
    }
    let place = sqlite().await.set("grpc.listen", "0.0.0.0:0").set("grpc.allow_plaintext", "true");
    let server = place.serve().await;
    assert!(server.grpc.ip().is_unspecified());
    server.stop().await;
    place.remove().await;
}

#[tokio::test]
async fn postgres_wants_an_issuer_and_a_master_key() {
    let place = Place::new(Backend::Postgres).await.unset("issuer").unset("keys.master_key");
    let said = place.run(&["serve"]).await.refused();
    assert_says(&said, &["VOUCHSAFE__ISSUER", "VOUCHSAFE_KEYS__MASTER_KEY", "openssl rand -base64 32"]);
    place.remove().await;
}

/// Kubernetes puts such variables there for a service that is called `vouchsafe`.
#[tokio::test]
async fn variables_of_kubernetes_are_left_alone() {
    let place = sqlite()
        .await
        .variable("VOUCHSAFE_PORT", "tcp://10.0.0.1:50051")
        .variable("VOUCHSAFE_PORT_50051_TCP_ADDR", "10.0.0.1")
        .variable("VOUCHSAFE_SERVICE_HOST", "10.0.0.1")
        .variable("VOUCHSAFE_SERVICE_PORT_GRPC", "50051");
    let server = place.serve().await;
    assert!(server.grpc.ip().is_loopback());
    server.stop().await;
    place.remove().await;
}

#[tokio::test]
async fn a_check_shows_every_setting_and_no_secret() {
    let key = "c2VjcmV0IG1hc3RlciBrZXkgb2YgMzIgYnl0ZXMgISE=";
    let place = sqlite()
        .await
        .set("database.url", "postgres://vouchsafe:hunter2@db.example:5433/identity?sslmode=require&password=hunter3")
        .set("keys.master_key", key);
    let dump = place.run(&["config", "check"]).await.ok();
    let redacted = "url = \"postgres://vouchsafe:[redacted]@db.example:5433/identity?sslmode=require\"";
    assert_says(&dump, &[redacted, "master_key = \"[redacted]\"", "listen = \"127.0.0.1:0\"", "access_ttl = \"5m\""]);
    for secret in ["hunter", key, &key[..8]] {
        assert!(!dump.contains(secret), "{dump}");
    }
    // What was shown is a settings file, but for the secrets.
    let file = place.file("dump.toml", dump.replace("[redacted]", "x"));
    let again = place.run(&["config", "check", "--config", &file]).await.ok();
    assert_eq!(again, dump);
    assert_eq!(std::fs::read_dir(place.data_dir()).unwrap().count(), 0, "a check created something");
    place.remove().await;
}

#[tokio::test]
async fn what_is_no_command_is_answered_with_usage() {
    let place = sqlite().await;
    for (args, part) in [
        (&["serv"][..], "serve"),
        (&["serve", "--data-dri", "x"], "--data-dir"),
        (&["admin", "create"], "--email"),
        (&["admin", "create", "--email", "nobody", "--password-stdin"], "nobody"),
        (&["admin", "create", "--email", "a@b.example", "--password-stdin", "--password-file", "x"], "--password-file"),
        (&["token", "verify", "x"], "--issuer"),
    ] {
        let ended = place.run(args).await;
        assert_eq!((ended.status.code(), ended.stdout.as_str()), (Some(2), ""), "{ended:?}");
        assert_says(&ended.stderr, &[part]);
    }
    place.remove().await;
}

#[tokio::test]
async fn a_master_key_that_is_none_is_found_by_the_check_too_and_not_shown() {
    let place = sqlite().await.set("keys.master_key", "S3cretButNoKey");
    for command in [&["config", "check"][..], &["serve"]] {
        let said = place.run(command).await.refused();
        assert!(said.contains("keys.master_key") && !said.contains("S3cret"), "{said}");
    }
    place.remove().await;
}
