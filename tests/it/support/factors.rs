//! Second factors as their owners have them: an app that is not ours, and the calls about it.

use std::{path::Path, process::Stdio};

use serde_json::Value;
use tokio::{io::AsyncWriteExt as _, process::Command};
use tonic::Status;
use vouchsafe::pb::v1;

use super::{TestNode, bearer};

/// What `tests/peers/totp.py` prints.
async fn factors_app(args: &[&str], input: &str) -> String {
    let advice = "run the tests by `make test`, which installs what they need";
    let tools = std::env::var("VOUCHSAFE_TEST_TOOLS").unwrap_or_else(|_| panic!("VOUCHSAFE_TEST_TOOLS: {advice}"));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/totp.py");
    let mut command = Command::new(Path::new(&tools).join("python3"));
    command.arg(script).args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("python3: {error}: {advice}"));
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).await.unwrap();
    drop(stdin);
    let done = child.wait_with_output().await.unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

/// What pyotp shows for a secret at these moments, in seconds.
pub(crate) async fn factors_codes(secret: &str, times: &[i64]) -> Vec<String> {
    let times: Vec<_> = times.iter().map(i64::to_string).collect();
    let args: Vec<&str> = ["codes", secret].into_iter().chain(times.iter().map(String::as_str)).collect();
    factors_app(&args, "").await.lines().map(str::to_owned).collect()
}

/// What `oathtool` shows for a secret: now, or at this moment in seconds.
pub(crate) async fn factors_oathtool(secret: &str, at: Option<i64>) -> String {
    let mut command = Command::new("oathtool");
    command.args(["--totp", "-b", secret]).args(at.map(|at| format!("--now=@{at}")));
    let done = command.output().await;
    let done =
        done.unwrap_or_else(|e| panic!("oathtool: {e}: run the tests by `make test`, which installs what they need"));
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap().trim_end().to_owned()
}

/// What an app reads off the images, and what pyotp makes of it.
pub(crate) async fn factors_read(svg: &[u8], png: &[u8]) -> Value {
    let asked = serde_json::json!({ "svg": std::str::from_utf8(svg).unwrap(), "png": super::hex(png) });
    serde_json::from_str(&factors_app(&["read"], &asked.to_string()).await).unwrap()
}

impl TestNode {
    /// Begins an enrolment.
    pub(crate) async fn enroll_totp(
        &self,
        token: &str,
        format: v1::QrCodeFormat,
    ) -> Result<v1::EnrollTotpResponse, Status> {
        let request = v1::EnrollTotpRequest { qr_code_format: format.into() };
        Ok(self.account().await.enroll_totp(bearer(token, request)).await?.into_inner())
    }

    /// Begins an enrolment. The secret in base32.
    pub(crate) async fn totp_secret(&self, token: &str) -> String {
        self.enroll_totp(token, v1::QrCodeFormat::Unspecified).await.unwrap().secret
    }

    /// Confirms an enrolment. The recovery codes.
    pub(crate) async fn confirm_totp(&self, token: &str, code: &str) -> Result<Vec<String>, Status> {
        let request = v1::ConfirmTotpRequest { code: code.into() };
        Ok(self.account().await.confirm_totp(bearer(token, request)).await?.into_inner().recovery_codes)
    }

    pub(crate) async fn remove_totp(&self, token: &str) -> Result<(), Status> {
        self.account().await.remove_totp(bearer(token, v1::RemoveTotpRequest {})).await.map(|_| ())
    }

    pub(crate) async fn generate_recovery_codes(&self, token: &str) -> Result<Vec<String>, Status> {
        let request = bearer(token, v1::GenerateRecoveryCodesRequest {});
        Ok(self.account().await.generate_recovery_codes(request).await?.into_inner().recovery_codes)
    }

    /// The account of the bearer of an access token: whether it has a second factor, and how many recovery codes.
    pub(crate) async fn factors_of(&self, token: &str) -> (bool, i32) {
        let request = bearer(token, v1::GetAccountRequest {});
        let account = self.account().await.get_account(request).await.unwrap().into_inner();
        (account.user.unwrap().totp_enrolled, account.recovery_codes_left)
    }
}
