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

use crate::{constant::Answers, proc};

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
        let mut command = Command::new(env!("CARGO_BIN_EXE_vouchsafe"));
        let own = [
            ("issuer", "http://localhost:50052"),
            ("grpc.listen", "127.0.0.1:0"),
            ("http.listen", "127.0.0.1:0"),
            ("log.format", "json"),
        ];
        command.arg("serve").env_clear();
        for (key, value) in own.iter().chain(settings) {
            let separator = if key.contains('.') { "" } else { "_" };
            command.env(format!("VOUCHSAFE_{separator}{}", key.to_ascii_uppercase().replace('.', "__")), value);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = first(&mut lines, "vouchsafe serve", |line| {
            let line: Value = serde_json::from_str(line).ok()?;
            line["grpc"].as_str()?.parse().ok()
        })
        .await;
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self::new(child, address)
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
        Self { address, pid, helpers: Vec::new(), held: Held { child: Some(child), ..Held::default() } }
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
