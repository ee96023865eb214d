//! The processes that are measured: the program itself, and the constant handler. Killed when dropped.

use std::{
    env,
    net::SocketAddr,
    process::Stdio,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, Command},
    time::{sleep, timeout},
};

use vouchsafe::pb::v1::TokenPair;

use crate::{
    constant::Answers,
    load::{PASSWORD, connect, login},
    proc,
};

static DATABASES: AtomicU32 = AtomicU32::new(0);

/// What it takes a server to start, at most.
const START: Duration = Duration::from_mins(1);

/// A variable that `make bench` sets.
pub(crate) fn service(variable: &str) -> String {
    env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set: run the benchmarks with `make bench`"))
}

/// What ends with a process.
#[derive(Default)]
#[allow(dead_code)] // only to be dropped
struct Held {
    child: Option<Child>,
    stdin: Option<ChildStdin>,
    folder: Option<TempDir>,
}

/// A process that listens.
pub(crate) struct Process {
    pub(crate) address: SocketAddr,
    pub(crate) pid: u32,
    /// Processes that work for it, by name.
    pub(crate) helpers: Vec<(&'static str, u32)>,
    /// The variables of its settings.
    environment: Vec<(String, String)>,
    held: Held,
}

impl Process {
    /// `vouchsafe serve` on SQLite, on a disk.
    pub(crate) async fn on_sqlite(settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let data_dir = folder.path().display().to_string();
        let mut server = Self::vouchsafe(&[&[("data_dir", data_dir.as_str())], settings].concat()).await;
        server.held.folder = Some(folder);
        server
    }

    /// `vouchsafe serve` on a new database of the private Postgres, and on the private Redis.
    pub(crate) async fn on_redis(settings: &[(&str, &str)]) -> Self {
        let (url, redis) = (service("VOUCHSAFE_TEST_POSTGRES_URL"), service("VOUCHSAFE_TEST_REDIS_URL"));
        let mut postgres = PgConnection::connect(&url).await.unwrap();
        let name = format!("bench_{}", DATABASES.fetch_add(1, Ordering::Relaxed));
        sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut postgres).await.unwrap();
        let backend: i32 = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut postgres).await.unwrap();
        let (server, _) = url.rsplit_once('/').unwrap();
        let database = format!("{server}/{name}");
        let master_key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
        let own = [
            ("database.url", database.as_str()),
            ("database.migrate_on_start", "true"),
            ("redis.url", redis.as_str()),
            ("keys.master_key", master_key),
        ];
        let mut server = Self::vouchsafe(&[&own, settings].concat()).await;
        server.helpers.push(("postgres", proc::parent(u32::try_from(backend).unwrap()).unwrap()));
        server.helpers.push(("redis", crate::redis::pid().await));
        server
    }

    /// The program with these settings, everything else as it is by default.
    async fn vouchsafe(settings: &[(&str, &str)]) -> Self {
        let own = [
            ("issuer", "http://localhost:50052"),
            ("grpc.listen", "127.0.0.1:0"),
            ("http.listen", "127.0.0.1:0"),
            ("log.format", "json"),
            // One user signs in so often here that the session of another measurement would be ended.
            ("sessions.max_per_user", "10000"),
        ];
        let variable = |(key, value): &(&str, &str)| {
            let separator = if key.contains('.') { "" } else { "_" };
            (format!("VOUCHSAFE_{separator}{}", key.to_ascii_uppercase().replace('.', "__")), (*value).to_owned())
        };
        let environment: Vec<_> = own.iter().chain(settings).map(variable).collect();
        Self::started("serve", &environment, &[]).await
    }

    /// The program, once it says where it listens.
    async fn started(command: &str, environment: &[(String, String)], arguments: &[&str]) -> Self {
        let mut program = program(command, environment);
        program.args(arguments);
        program.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = program.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = first(&mut lines, command, |line| {
            let line: Value = serde_json::from_str(line).ok()?;
            line["grpc"].as_str()?.parse().ok()
        })
        .await;
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self { environment: environment.to_vec(), ..Self::new(child, address) }
    }

    /// Another node of the same service.
    pub(crate) async fn sibling(&self) -> Self {
        let mut server = Self::started("serve", &self.environment, &[]).await;
        server.helpers.clone_from(&self.helpers);
        server
    }

    /// `vouchsafe sidecar` beside a workload, for tokens of this server.
    pub(crate) async fn sidecar(&self) -> Self {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let file = folder.path().join("sidecar.toml");
        let text = format!(
            r#"
issuer = "http://localhost:50052"
audience = ["vouchsafe"]
service = "http://{}"

[listen]
grpc = "127.0.0.1:0"
http = "127.0.0.1:0"

[[routes]]
path = "/health"
access = "public"

[[routes]]
path = "/admin/**"
roles = ["admin"]

[[routes]]
path = "/orders/**"
"#,
            self.address
        );
        std::fs::write(&file, text).unwrap();
        let mut sidecar = Self::started("sidecar", &[], &["--config", file.to_str().unwrap()]).await;
        sidecar.held.folder = Some(folder);
        sidecar
    }

    /// Creates an administrator and signs in.
    pub(crate) async fn admin(&self) -> TokenPair {
        let mut command = program("admin", &self.environment);
        command.args(["create", "--email", "root@example.com", "--username", "root", "--password-stdin"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(format!("{PASSWORD}\n").as_bytes()).await.unwrap();
        assert!(child.wait().await.unwrap().success());
        login(&mut connect(self).await[0], "root", PASSWORD).await.unwrap()
    }

    /// The constant handler: this program again.
    pub(crate) async fn constant(answers: &Answers) -> Self {
        let mut command = Command::new(env::current_exe().unwrap());
        command.arg("constant").stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(answers.to_lines().as_bytes()).await.unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address =
            first(&mut lines, "the constant handler", |line| line.strip_prefix("listening ")?.parse().ok()).await;
        let mut constant = Self::new(child, address);
        constant.held.stdin = Some(stdin);
        constant
    }

    fn new(child: Child, address: SocketAddr) -> Self {
        let pid = child.id().unwrap();
        Self {
            address,
            pid,
            helpers: Vec::new(),
            environment: Vec::new(),
            held: Held { child: Some(child), ..Held::default() },
        }
    }

    /// Resident memory in MiB, once it has stopped to grow.
    pub(crate) async fn settled_memory(&self) -> f64 {
        let mut before = 0;
        loop {
            let now = proc::resident(self.pid);
            if now == before {
                #[allow(clippy::cast_precision_loss)]
                return now as f64 / f64::from(1 << 20);
            }
            before = now;
            sleep(Duration::from_secs(2)).await;
        }
    }
}

/// A command of the program with these settings and no others.
fn program(command: &str, environment: &[(String, String)]) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_vouchsafe"));
    program.arg(command).env_clear().envs(environment.iter().cloned());
    program
}

/// The first line that says what is looked for.
async fn first<T>(
    lines: &mut Lines<BufReader<impl AsyncRead + Unpin>>,
    what: &str,
    mut find: impl FnMut(&str) -> Option<T>,
) -> T {
    let mut said = Vec::new();
    let looking = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if let Some(found) = find(&line) {
                return Some(found);
            }
            said.push(line);
        }
        None
    };
    match timeout(START, looking).await {
        Ok(Some(found)) => found,
        _ => panic!("{what} does not start: {said:#?}"),
    }
}
