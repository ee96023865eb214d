//! Servers that one test has to itself, to be killed and frozen.

use std::{
    hash::{BuildHasher as _, Hasher as _, RandomState},
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::Duration,
};

use redis::{Client, FromRedisValue, RedisResult};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::time::timeout;

use super::world::variable;
use crate::support::until;

/// Every server here wants it.
pub(crate) const PASSWORD: &str = "S3cret";

/// What the README says that Vouchsafe's user of a cluster needs.
const CLUSTER_RIGHTS: &str = "~vouchsafe:* +get +set +eval +evalsha +xadd +xread +expire +ping +cluster|slots";

/// A server. Ends when dropped.
pub(crate) struct OwnRedis {
    pub(crate) port: u16,
    folder: TempDir,
    lines: Vec<String>,
    is_sentinel: bool,
    child: Option<Child>,
}

impl OwnRedis {
    /// A server, with these lines in its configuration, that answers.
    pub(crate) async fn start(lines: &[&str]) -> Self {
        let mut server = Self::stopped(lines, false);
        server.launch().await;
        server
    }

    /// A sentinel.
    pub(super) async fn sentinel(lines: &[&str]) -> Self {
        let mut server = Self::stopped(lines, true);
        server.launch().await;
        server
    }

    /// A server that does not run yet.
    pub(super) fn stopped(lines: &[&str], is_sentinel: bool) -> Self {
        let lines = lines.iter().map(|&line| line.to_owned()).collect();
        Self { port: free_port(), folder: tempfile::tempdir().unwrap(), lines, is_sentinel, child: None }
    }

    /// Starts it, where it was before.
    pub(crate) async fn launch(&mut self) {
        let folder = self.folder.path().display();
        let mut lines = vec![
            "bind 127.0.0.1".to_owned(),
            format!("port {}", self.port),
            format!("dir {folder}"),
            format!("requirepass {PASSWORD}"),
        ];
        if !self.is_sentinel {
            lines.extend(["save \"\"".to_owned(), "repl-diskless-sync-delay 0".to_owned()]);
            lines.extend([format!("masterauth {PASSWORD}"), format!("unixsocket {folder}/socket")]);
        }
        lines.extend(self.lines.iter().cloned());
        let path = self.folder.path().join("conf");
        std::fs::write(&path, lines.join("\n") + "\n").unwrap();
        let mut command = Command::new(variable("VOUCHSAFE_TEST_REDIS_SERVER"));
        command.arg(path).stdout(Stdio::null());
        if self.is_sentinel {
            command.arg("--sentinel");
        }
        self.child = Some(command.spawn().unwrap());
        until("the server answers", || async {
            self.ask::<String>(&["PING"]).await.is_ok_and(|answer| answer == "PONG")
        })
        .await;
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://:{PASSWORD}@127.0.0.1:{}", self.port)
    }

    /// The same by its socket.
    pub(super) fn socket_url(&self) -> String {
        format!("redis+unix://{}/socket?password={PASSWORD}", self.folder.path().display())
    }

    /// Asks it something, over a connection of its own.
    pub(crate) async fn ask<T: FromRedisValue>(&self, command: &[&str]) -> RedisResult<T> {
        let mut connection = Client::open(self.url())?.get_multiplexed_async_connection().await?;
        let (name, arguments) = command.split_first().unwrap();
        redis::cmd(name).arg(arguments).query_async(&mut connection).await
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub(crate) fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    pub(crate) fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = self.child.as_ref().unwrap().id();
        kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), signal).unwrap();
    }
}

impl Drop for OwnRedis {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Three nodes with about a third of the slots each, of which the others go on without one. The borders are those of parts as
/// the adapter counts them: a part across a border would share the fate of both its nodes.
pub(super) async fn cluster() -> [OwnRedis; 3] {
    let mut nodes = Vec::new();
    for _ in 0..3 {
        let bus = format!("cluster-port {}", free_port());
        let user = format!("user vouchsafe on >{PASSWORD} {CLUSTER_RIGHTS}");
        let policy = ["cluster-enabled yes", "cluster-require-full-coverage no", "cluster-node-timeout 2000"];
        let lines = [&*bus, &*user, policy[0], policy[1], policy[2]];
        nodes.push(OwnRedis::start(&lines).await);
    }
    let first = nodes[0].port.to_string();
    for (index, node) in nodes.iter().enumerate() {
        let (from, to) = [("0", "5375"), ("5376", "10751"), ("10752", "16383")][index];
        node.ask::<()>(&["CLUSTER", "ADDSLOTSRANGE", from, to]).await.unwrap();
        node.ask::<()>(&["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()]).await.unwrap();
        let bus = nodes[0].lines[0].trim_start_matches("cluster-port ");
        node.ask::<()>(&["CLUSTER", "MEET", "127.0.0.1", &first, bus]).await.unwrap();
    }
    for node in &nodes {
        until("the cluster is whole", || async {
            let info: String = node.ask(&["CLUSTER", "INFO"]).await.unwrap();
            info.contains("cluster_state:ok") && info.contains("cluster_slots_ok:16384")
        })
        .await;
    }
    nodes.try_into().ok().unwrap()
}

/// Whatever it does, it must end: nothing here takes nearly as long.
pub(super) async fn ends<T>(call: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(30), call).await.expect("a call hangs")
}

/// A port nobody listens on, below the range that the kernel hands out to others while this server is down.
pub(crate) fn free_port() -> u16 {
    loop {
        let random = RandomState::new().build_hasher().finish() % 12_000;
        let port = 20_000 + u16::try_from(random).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
