//! `vouchsafe sidecar` as a child process, with `deploy/envoy/sidecar.toml`.

use std::{net::SocketAddr, path::PathBuf, process::Stdio};

use http::Method;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use super::{
    envoy::{recipe, replaced},
    world::port_value,
};
use crate::process::{
    harness::{Place, until},
    lines::Lines,
    web,
};

/// Where Envoy finds the sidecar, in `ext-authz.yaml`.
const CLUSTER: &str = "address: { socket_address: { address: 127.0.0.1, port_value: 50061 } }";

/// A running sidecar. Killed when dropped.
pub(super) struct Sidecar {
    /// What to replace in `ext-authz.yaml`, for Envoy to find it.
    pub(super) found: [(String, String); 1],
    /// What it wrote to its log so far.
    pub(super) log: Lines,
    http: SocketAddr,
    child: Child,
}

/// How proxies reach it.
pub(super) enum By {
    Tcp,
    Socket,
}

impl Sidecar {
    /// Starts it on free ports for the service at an address, and waits until it is ready.
    pub(super) async fn start(place: &Place, service: SocketAddr, by: By, changes: &[(&str, &str)]) -> Self {
        let socket = place.path("sidecar.sock");
        let grpc = match by {
            By::Tcp => "127.0.0.1:0".to_owned(),
            By::Socket => format!("unix:{}", socket.display()),
        };
        let service = format!("http://{service}");
        let ports = [
            ("http://localhost:50051", service.as_str()),
            ("127.0.0.1:50061", &grpc),
            ("127.0.0.1:50062", "127.0.0.1:0"),
        ];
        let text = replaced(&recipe("sidecar.toml"), &[&ports[..], changes].concat());
        let file = PathBuf::from(place.file("sidecar.toml", text));
        let command = place.command(&["sidecar", "--config", file.to_str().unwrap()]);
        let (child, log, line) = spawn(command).await;
        let http = field(&line, "http").parse().unwrap();
        let to = match by {
            By::Tcp => {
                let address: SocketAddr = field(&line, "grpc").parse().unwrap();
                CLUSTER.replace("port_value: 50061 ", &port_value(address.port()))
            }
            By::Socket => format!("address: {{ pipe: {{ path: {} }} }}", socket.display()),
        };
        let sidecar = Self { found: [(CLUSTER.to_owned(), to)], log, http, child };
        until("the sidecar is ready", async || sidecar.is_ready().await.then_some(())).await;
        sidecar
    }

    pub(super) async fn is_ready(&self) -> bool {
        web::ask(self.http, Method::GET, "/readyz", &[]).await.status == 200
    }

    /// Sends a signal.
    pub(super) fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id().expect("the sidecar runs")).unwrap();
        kill_process(Pid::from_raw(id).unwrap(), signal).unwrap();
    }

    /// `kill -9`.
    pub(super) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Asserts that no token got into its log so far.
    #[track_caller]
    pub(super) fn assert_no_token_logged(&self) {
        let lines = self.log.so_far();
        assert!(!lines.iter().any(|line| line.contains("eyJ") || line.contains("vrt_")), "{lines:#?}");
    }
}

/// Starts a process; what it logs, and the line that says it serves.
async fn spawn(mut command: Command) -> (Child, Lines, String) {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().unwrap();
    let log = Lines::follow(child.stderr.take().unwrap());
    let line = log.wait(|line| line.contains("serving") && line.contains("grpc")).await;
    (child, log, line)
}

/// A field of a line of the log, written for machines or for people.
fn field(line: &str, name: &str) -> String {
    if let Ok(json) = serde_json::from_str::<serde_json::Value>(line) {
        return json[name].as_str().unwrap_or_else(|| panic!("no {name} in {line}")).to_owned();
    }
    let mut words = line.split_whitespace();
    let found = words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    found.unwrap_or_else(|| panic!("no {name} in {line}")).trim_matches('"').to_owned()
}
