//! Envoy as a child process, with a file of `deploy/envoy`.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
};

use http::Method;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::process::{harness::until, lines::Lines, tools::tool, web};

/// A running Envoy. Killed when dropped.
pub(super) struct Envoy {
    /// Where it takes requests.
    pub(super) ingress: SocketAddr,
    /// What it wrote to its access log so far.
    pub(super) access: Lines,
    _home: TempDir,
    _child: Child,
}

/// A file of `deploy/envoy`.
pub(super) fn recipe(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/envoy").join(name)
}

/// The text of a file with something else in place of each of these, all of which it must have.
pub(super) fn replaced(file: &Path, changes: &[(&str, &str)]) -> String {
    let mut text = std::fs::read_to_string(file).unwrap();
    for (old, new) in changes {
        assert!(text.contains(old), "{} has no `{old}` to replace", file.display());
        text = text.replace(old, new);
    }
    text
}

impl Envoy {
    /// Starts it with a file of `deploy/envoy` in which this is replaced, on free ports, and waits until it serves.
    pub(super) async fn start(name: &str, changes: &[(&str, &str)]) -> Self {
        let home = tempfile::tempdir().unwrap();
        let ports = [("port_value: 10000 ", "port_value: 0 "), ("port_value: 9901 ", "port_value: 0 ")];
        let config = home.path().join(name);
        std::fs::write(&config, replaced(&recipe(name), &[&ports[..], changes].concat())).unwrap();
        let admin = home.path().join("admin");

        let mut command = Command::new(tool("envoy"));
        command.arg("--config-path").arg(&config).arg("--admin-address-path").arg(&admin);
        // Nothing shared with another Envoy, and the access log at once.
        command.args(["--disable-hot-restart", "--concurrency", "1", "--file-flush-interval-msec", "20"]);
        command.args(["--log-level", "warn"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let (access, log) = (Lines::follow(child.stdout.take().unwrap()), Lines::follow(child.stderr.take().unwrap()));

        let admin = until("Envoy's admin port", async || {
            assert!(child.try_wait().unwrap().is_none(), "Envoy ended: {:#?}", log.so_far());
            std::fs::read_to_string(&admin).ok()?.parse().ok()
        })
        .await;
        let ingress = until("Envoy is ready", async || {
            let ready = web::ask(admin, Method::GET, "/ready", &[]).await;
            if ready.status != 200 {
                return None;
            }
            let listeners = web::ask(admin, Method::GET, "/listeners?format=json", &[]).await.json();
            let port = &listeners["listener_statuses"][0]["local_address"]["socket_address"]["port_value"];
            Some(SocketAddr::from(([127, 0, 0, 1], port.as_u64()?.try_into().unwrap())))
        })
        .await;
        Self { ingress, access, _home: home, _child: child }
    }
}
