//! Other people's programs: grpcurl, and Python with two JWT libraries.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tokio::process::Command;

use super::harness::{Ended, Server, finish};

/// A program that `make test` installs.
pub(crate) fn tool(name: &str) -> PathBuf {
    let advice = "run the tests by `make test`, which installs what they need";
    let folder =
        std::env::var("VOUCHSAFE_TEST_TOOLS").unwrap_or_else(|_| panic!("VOUCHSAFE_TEST_TOOLS is not set: {advice}"));
    let path = Path::new(&folder).join(name);
    assert!(path.exists(), "{} is missing: {advice}", path.display());
    path
}

/// Runs grpcurl as the documentation tells people to, the flags first.
pub(super) async fn grpcurl(server: &Server, flags: &[&str], what: &[&str]) -> Ended {
    let address = server.grpc.to_string();
    let mut command = Command::new(tool("grpcurl"));
    command.arg("-plaintext").args(flags).arg(address).args(what);
    finish(command, "").await
}

/// Calls an RPC by grpcurl; its answer.
pub(super) async fn call(server: &Server, method: &str, request: &Value) -> Value {
    let request = request.to_string();
    let answer = grpcurl(server, &["-d", &request], &[method]).await.ok();
    serde_json::from_str(&answer).unwrap()
}

/// A Python script of `tests/peers` with these arguments.
pub(crate) fn python(script: &str, args: &[&str]) -> Command {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers").join(script);
    let mut command = Command::new(tool("python3"));
    command.arg(script).args(args);
    command
}
