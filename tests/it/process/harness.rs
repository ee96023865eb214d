//! The program itself as a child process: started, listened to, signalled, and killed when the test ends.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::AsyncWriteExt as _,
    process::{Child, Command},
    time::timeout,
};
use vouchsafe::store::Location;

use super::lines::Lines;
use crate::support::{Backend, MASTER_KEY, PASSWORD, TestDatabase};

/// The program under test.
pub(super) const PROGRAM: &str = env!("CARGO_BIN_EXE_vouchsafe");
/// What every test server calls itself.
pub(super) const ISSUER: &str = "https://issuer.test";
/// What takes longer than this hangs. No test is about time, so it is far more than anything needs.
pub(crate) const BOUND: Duration = Duration::from_mins(2);

/// What outlives a process: the data and the settings. The environment of every process holds these settings and nothing
/// else.
pub(crate) struct Place {
    pub(crate) database: TestDatabase,
    pub(crate) home: TempDir,
    env: BTreeMap<String, String>,
}

/// How a process ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(super) status: ExitStatus,
    pub(super) stdout: String,
    pub(crate) stderr: String,
}

impl Place {
    /// An empty place on SQLite, or one with a schema on Postgres: what `serve` expects to find.
    pub(crate) async fn new(backend: Backend) -> Self {
        Self::on(match backend {
            Backend::Sqlite => TestDatabase::empty(backend).await,
            Backend::Postgres | Backend::PgBouncer | Backend::Redis | Backend::Cluster => {
                TestDatabase::migrated(backend).await
            }
        })
    }

    pub(crate) fn on(database: TestDatabase) -> Self {
        let place = match database.location() {
            Location::Sqlite(path) => vec![("data_dir", path.parent().unwrap().display().to_string())],
            Location::Postgres(url) | Location::PgBouncer(url) => vec![
                ("database.url", url.expose().to_owned()),
                ("database.pgbouncer", matches!(database.location(), Location::PgBouncer(_)).to_string()),
                ("keys.master_key", MASTER_KEY.to_owned()),
            ],
        };
        let mut new = Self { database, home: tempfile::tempdir().unwrap(), env: BTreeMap::new() };
        for (key, value) in [
            ("issuer", ISSUER),
            ("grpc.listen", "127.0.0.1:0"),
            ("http.listen", "127.0.0.1:0"),
            // As cheap as argon2 gets: these tests are not about its cost.
            ("passwords.memory_kib", "8"),
            ("passwords.iterations", "1"),
            ("log.format", "json"),
            ("shutdown.pause", "0s"),
            // All tests call from one address.
            ("throttle.address_failures", "0"),
            ("throttle.overall_failures", "0"),
        ] {
            new = new.set(key, value);
        }
        for (key, value) in place {
            new = new.set(key, &value);
        }
        match new.database.hot_url().map(str::to_owned) {
            Some(url) => new.set("redis.url", &url),
            None => new,
        }
    }

    /// With this setting.
    pub(crate) fn set(self, key: &str, value: &str) -> Self {
        self.variable(&variable(key), value)
    }

    /// Without this setting.
    pub(super) fn unset(mut self, key: &str) -> Self {
        assert!(self.env.remove(&variable(key)).is_some(), "{key} was not set");
        self
    }

    /// With this environment variable.
    pub(super) fn variable(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    /// The data directory, on SQLite.
    pub(super) fn data_dir(&self) -> &Path {
        Path::new(&self.env[&variable("data_dir")])
    }

    /// A path that nothing is at yet.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Writes a file, and says where.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    }

    /// A process of the program, not started yet.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        self.wrapped(PROGRAM, args)
    }

    /// Another program with the same environment.
    pub(super) fn wrapped(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(args).env_clear().envs(&self.env).env("HOME", self.home.path()).current_dir(self.home.path());
        command
    }

    /// Runs the program to its end.
    pub(crate) async fn run(&self, args: &[&str]) -> Ended {
        self.run_with_input(args, "").await
    }

    /// Runs the program to its end with this on standard input.
    pub(crate) async fn run_with_input(&self, args: &[&str], input: &str) -> Ended {
        finish(self.command(args), input).await
    }

    /// Starts a server and waits until it serves.
    pub(crate) async fn serve(&self) -> Server {
        self.serve_with(&[]).await
    }

    /// Starts a server with these flags.
    pub(super) async fn serve_with(&self, flags: &[&str]) -> Server {
        Server::start(self.command(&[&["serve"], flags].concat())).await
    }

    /// Removes everything.
    pub(crate) async fn remove(self) {
        self.database.remove().await;
    }
}

/// The variable of a setting.
pub(crate) fn variable(key: &str) -> String {
    let separator = if key.contains('.') { "" } else { "_" };
    format!("VOUCHSAFE_{separator}{}", key.to_ascii_uppercase().replace('.', "__"))
}

/// Runs a command to its end.
pub(crate) async fn finish(mut command: Command, input: &str) -> Ended {
    let name = format!("{:?}", command.as_std());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().unwrap_or_else(|e| panic!("{name}: {e}"));
    let mut stdin = child.stdin.take().unwrap();
    let write = async move {
        // A process that does not read its input closes the pipe.
        let _ = stdin.write_all(input.as_bytes()).await;
    };
    let ended = async { tokio::join!(write, child.wait_with_output()).1 };
    let output = timeout(BOUND, ended).await.unwrap_or_else(|_| panic!("{name} does not end")).unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { status: output.status, stdout: text(output.stdout), stderr: text(output.stderr) }
}

impl Ended {
    /// Standard output of a success.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert!(self.status.success(), "{self:?}");
        self.stdout
    }

    /// Standard error of a failure that was foreseen: status 1, nothing on standard output, no secret.
    #[track_caller]
    pub(crate) fn refused(self) -> String {
        assert_eq!((self.status.code(), self.stdout.as_str()), (Some(1), ""), "{}: {}", self.status, self.stderr);
        for secret in [MASTER_KEY, PASSWORD] {
            assert!(!self.stderr.contains(secret), "{}", self.stderr);
        }
        self.stderr
    }
}

impl Ended {
    /// Standard error of a question that could not be answered: status 2, nothing on standard output.
    #[track_caller]
    pub(super) fn cannot_tell(self) -> String {
        assert_eq!((self.status.code(), self.stdout.as_str()), (Some(2), ""), "{}: {}", self.status, self.stderr);
        self.stderr
    }
}

/// A running server. Killed when dropped.
pub(crate) struct Server {
    pub(crate) grpc: SocketAddr,
    pub(crate) http: SocketAddr,
    /// What it wrote to standard error so far.
    pub(crate) log: Lines,
    /// What it wrote to standard output so far.
    pub(crate) stdout: Lines,
    child: Child,
}

impl Server {
    /// Starts a process and waits for the line that says it serves.
    pub(crate) async fn start(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let log = Lines::follow(child.stderr.take().unwrap());
        let stdout = Lines::follow(child.stdout.take().unwrap());
        let serving = log.wait(|line| line.contains("serving") && line.contains("grpc")).await;
        let (grpc, http) = ports(&serving).unwrap_or_else(|| panic!("no ports in {serving}"));
        Self { grpc, http, log, stdout, child }
    }

    /// Its process.
    pub(crate) fn pid(&self) -> Pid {
        let id = i32::try_from(self.child.id().expect("the server runs")).unwrap();
        Pid::from_raw(id).unwrap()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Waits for its end.
    pub(super) async fn wait(&mut self) -> ExitStatus {
        let ended = timeout(BOUND, self.child.wait()).await;
        ended.unwrap_or_else(|_| panic!("the server does not end: {:#?}", self.log.so_far())).unwrap()
    }

    /// Stops it as an orchestrator does, and makes sure that nothing secret was logged meanwhile.
    pub(crate) async fn stop(mut self) {
        self.signal(Signal::TERM);
        let status = self.wait().await;
        let log = self.log.so_far();
        assert!(status.success(), "{status}: {log:#?}");
        for secret in [PASSWORD, MASTER_KEY, "vrt_", "eyJ"] {
            assert!(!log.iter().any(|line| line.contains(secret)), "{secret} was logged: {log:#?}");
        }
    }

    /// `kill -9`.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }
}

fn ports(line: &str) -> Option<(SocketAddr, SocketAddr)> {
    let field = |name: &str| -> Option<SocketAddr> {
        if let Ok(json) = serde_json::from_str::<Value>(line) {
            return json[name].as_str()?.parse().ok();
        }
        line.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))?.parse().ok()
    };
    Some((field("grpc")?, field("http")?))
}

/// Asks again until there is an answer, with a bound.
pub(crate) async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(BOUND, asking).await.unwrap_or_else(|_| panic!("never came true: {what}"))
}
