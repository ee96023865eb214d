//! A Postgres of a test's own, to be stopped and started.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

/// A running server that only its socket leads to.
pub(super) struct OwnPostgres {
    dir: TempDir,
    bin: PathBuf,
}

impl Drop for OwnPostgres {
    fn drop(&mut self) {
        // Also where a test failed half-way. Then it may not be running.
        let _ = self.control(&["-m", "immediate", "stop"]).output();
    }
}

impl OwnPostgres {
    /// Makes one. Its superuser is `postgres`.
    pub(super) fn start_new() -> Self {
        let bin = std::env::var("VOUCHSAFE_TEST_PG_BIN").expect(
            "VOUCHSAFE_TEST_PG_BIN is not set: run the tests by `make test`, which finds PostgreSQL's programs for them",
        );
        // A short path: it has to fit a socket's name. Its owner is the server, which refuses to be root.
        let dir = tempfile::Builder::new().prefix("vouchsafe-own-pg").tempdir_in("/tmp").unwrap();
        if rustix::process::getuid().is_root() {
            run(Command::new("chown").arg("postgres:postgres").arg(dir.path()));
        }
        let own = Self { dir, bin: bin.into() };
        let data = own.data();
        run(own.program("initdb").arg("-D").arg(&data).args(["-U", "postgres", "--auth=trust", "--no-sync"]));
        own.start();
        own
    }

    /// The URL of a database.
    pub(super) fn url_of(&self, database: &str) -> String {
        let folder = self.dir.path().display().to_string().replace('/', "%2F");
        format!("postgres://postgres@{folder}/{database}")
    }

    /// Starts it again.
    pub(super) fn start(&self) {
        // What was acknowledged was handed to the kernel, which outlives the server: nothing has to be flushed for that.
        let settings =
            format!("-c listen_addresses= -c unix_socket_directories={} -c fsync=off", self.path().display());
        let log = self.path().join("log");
        run(&mut self.control(&["-s", "-w", "-o", &settings, "-l", &log.display().to_string(), "start"]));
    }

    /// Stops it as a crash would.
    pub(super) fn crash(&self) {
        run(&mut self.control(&["-s", "-w", "-m", "immediate", "stop"]));
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    fn control(&self, args: &[&str]) -> Command {
        let mut command = self.program("pg_ctl");
        command.arg("-D").arg(self.data()).args(args);
        command
    }

    /// A program of the server's, run as its user.
    fn program(&self, name: &str) -> Command {
        let program = self.bin.join(name);
        let mut command = if rustix::process::getuid().is_root() {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        command.current_dir("/");
        command
    }
}

#[track_caller]
fn run(command: &mut Command) {
    let ended = command.output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{command:?}: {}{said}", String::from_utf8_lossy(&ended.stdout));
}
