//! The embedded default: `vouchsafe serve`, and nothing said about anything.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use serde_json::json;
use tokio::process::Command;

use super::{
    client::Client,
    harness::{PROGRAM, Server, finish},
    tools::{call, grpcurl},
    web::get,
};
use crate::support::PASSWORD;

/// No settings but the ports, since the default ones may be in use.
const PORTS: [&str; 5] = ["serve", "--set", "grpc.listen=127.0.0.1:0", "--set", "http.listen=127.0.0.1:0"];

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Starts it with this environment and an empty working directory, and says where its data must be.
async fn runs_in(env: &[(&str, &Path)], data: &Path) {
    let work = tempfile::tempdir().unwrap();
    let command = |args: &[&str]| {
        let mut command = Command::new(PROGRAM);
        command.args(args).env_clear().envs(env.iter().copied()).current_dir(work.path());
        command
    };
    let server = Server::start(command(&PORTS)).await;
    assert!(server.grpc.ip().is_loopback() && server.http.ip().is_loopback());
    assert_eq!(mode(data), 0o700);
    assert_eq!(mode(&data.join("master.key")), 0o600);
    // With the write-ahead log beside the database while it runs.
    let files = ["master.key", "vouchsafe.db", "vouchsafe.db-shm", "vouchsafe.db-wal", "vouchsafe.db.lock"];
    assert_eq!(names(data), files);
    for file in files {
        assert_eq!(mode(&data.join(file)), 0o600, "{file}");
    }
    let discovery = get(&server, "/.well-known/openid-configuration").await.json();
    // Where the port is, which the issuer, a mere name here, does not say.
    assert_eq!(discovery["jwks_uri"], format!("http://{}/.well-known/jwks.json", server.http));
    assert_eq!(discovery["issuer"], "http://localhost:50052");
    greets(&server, data).await;
    let client = Client::of(&server).await;
    let tokens = client.login("ada@example.com").await.unwrap();
    assert_eq!(client.claims(&tokens.access_token).await.issuer, "http://localhost:50052");
    server.stop().await;

    assert_eq!(names(work.path()), [""; 0], "something was written into the working directory");
    let server = Server::start(command(&PORTS)).await;
    Client::of(&server).await.refresh(&tokens.refresh_token).await.unwrap();
    server.stop().await;
    // The other commands find the same place by themselves.
    let listed = finish(command(&["keys", "list"]), "").await.ok();
    assert_eq!(listed.lines().count(), 2, "{listed}");
}

/// The lines to try are printed, and work.
async fn greets(server: &Server, data: &Path) {
    server.stdout.wait(|line| line.contains("/.well-known/jwks.json")).await;
    let greeting = server.stdout.so_far().join("\n");
    assert!(greeting.contains(&data.join("vouchsafe.db").display().to_string()), "{greeting}");
    for part in ["list vouchsafe.v1.AuthService", "vouchsafe.v1.AuthService/Register", "vouchsafe.v1.AuthService/Login"]
    {
        assert!(greeting.contains(&format!("{} {part}", server.grpc)), "{greeting}");
    }
    assert!(greeting.contains(&format!("http://{}/.well-known/jwks.json", server.http)), "{greeting}");
    grpcurl(server, &[], &["list", "vouchsafe.v1.AuthService"]).await.ok();
    let shown = r#"'{"email": "ada@example.com", "password": "correct horse battery staple"}'"#;
    assert!(greeting.contains(shown), "{greeting}");
    call(server, "vouchsafe.v1.AuthService/Register", &json!({"email": "ada@example.com", "password": PASSWORD})).await;
}

#[tokio::test]
async fn data_is_kept_in_the_home_directory() {
    let home = tempfile::tempdir().unwrap();
    runs_in(&[("HOME", home.path())], &home.path().join(".local/share/vouchsafe")).await;
}

#[tokio::test]
async fn data_is_kept_where_xdg_says() {
    let (home, xdg) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    runs_in(&[("HOME", home.path()), ("XDG_DATA_HOME", xdg.path())], &xdg.path().join("vouchsafe")).await;
    assert_eq!(names(home.path()), [""; 0]);
}
