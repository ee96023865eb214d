//! A person's life with an account, by grpcurl and an authenticator app, with the codes read off the console as a newcomer would.

use serde_json::{Value, json};

use super::{
    harness::{Place, Server, finish},
    tools::{call, grpcurl, python},
};
use crate::{
    rpc::on_both_databases,
    support::{Backend, PASSWORD},
};

on_both_databases!(
    an_account_from_its_registration_over_a_lost_phone_to_its_end,
    an_account_without_a_password_lives_by_codes,
);

const EMAIL: &str = "ada@example.com";

fn auth(rpc: &str) -> String {
    format!("vouchsafe.v1.AuthService/{rpc}")
}

/// A place whose messages go to the console.
async fn place(backend: Backend) -> Place {
    Place::new(backend).await.set("notify.email", "log").set("registration.require_verified_email", "true")
}

/// The code in the newest message on the console with one that begins so, once there is one more than `seen`.
async fn code(server: &Server, prefix: &str, seen: usize) -> String {
    let code_in = |line: &str| {
        let rest = &line[line.find(prefix)?..];
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "_-".contains(c))).unwrap_or(rest.len());
        Some(rest[..end].to_owned())
    };
    let line = server.log.wait_after(seen, |line| code_in(line).is_some()).await;
    code_in(&line).unwrap()
}

/// The digits of a one-time code in the first such message after `seen` lines.
async fn digits(server: &Server, seen: usize) -> String {
    let digits_in = |line: &str| {
        line.split(|c: char| !c.is_ascii_alphanumeric())
            .find(|word| word.len() == 8 && word.bytes().all(|b| b.is_ascii_digit()))
            .map(str::to_owned)
    };
    let line = server.log.wait_after(seen, |line| line.contains(EMAIL) && digits_in(line).is_some()).await;
    digits_in(&line).unwrap()
}

/// Calls with an access token.
async fn account(server: &Server, tokens: &Value, rpc: &str, request: &Value) -> Value {
    let authorization = format!("authorization: Bearer {}", tokens["accessToken"].as_str().unwrap());
    let request = request.to_string();
    let method = format!("vouchsafe.v1.AccountService/{rpc}");
    let answer = grpcurl(server, &["-H", &authorization, "-d", &request], &[&method]).await.ok();
    serde_json::from_str(&answer).unwrap()
}

/// Why a call is refused.
async fn refusal(server: &Server, rpc: &str, request: &Value) -> String {
    let ended = grpcurl(server, &["-d", &request.to_string()], &[&auth(rpc)]).await;
    assert!(!ended.status.success(), "{ended:?}");
    ended.stderr
}

/// What an authenticator app shows `steps` steps from now.
async fn app(uri: &str, steps: i32) -> String {
    finish(python("totp.py", &["shows", uri, &steps.to_string()]), "").await.ok().trim().to_owned()
}

async fn an_account_from_its_registration_over_a_lost_phone_to_its_end(backend: Backend) {
    let place = place(backend).await;
    let server = place.serve().await;
    let login = json!({"identifier": EMAIL, "password": PASSWORD});

    // Register, verify, sign in.
    call(&server, &auth("Register"), &json!({"email": EMAIL, "password": PASSWORD})).await;
    assert!(refusal(&server, "Login", &login).await.contains("INVALID_CREDENTIALS"), "there is no account yet");
    let verification = json!({"code": code(&server, "vev_", 0).await});
    call(&server, &auth("VerifyEmail"), &verification).await;
    assert!(refusal(&server, "VerifyEmail", &verification).await.contains("CODE_INVALID"), "used");
    let tokens = call(&server, &auth("Login"), &login).await["tokens"].clone();

    // Turn the second factor on.
    let enrolment = account(&server, &tokens, "EnrollTotp", &json!({})).await;
    let uri = enrolment["otpauthUri"].as_str().unwrap();
    let confirmed = account(&server, &tokens, "ConfirmTotp", &json!({"code": app(uri, -1).await})).await;
    let recovery_codes = confirmed["recoveryCodes"].as_array().unwrap();
    assert_eq!(recovery_codes.len(), 10);

    // Sign in with it.
    let challenge = call(&server, &auth("Login"), &login).await["challenge"].clone();
    let answer = json!({"challengeId": challenge["challengeId"], "totpCode": app(uri, 0).await});
    let tokens = call(&server, &auth("CompleteChallenge"), &answer).await["tokens"].clone();
    let claims = call(&server, &auth("Verify"), &json!({"token": tokens["accessToken"]})).await["claims"].clone();
    assert_eq!((&claims["acr"], &claims["amr"]), (&json!("aal2"), &json!(["pwd", "otp", "mfa"])));
    assert!(refusal(&server, "CompleteChallenge", &answer).await.contains("CHALLENGE_INVALID"), "answered");

    // The phone is lost: a recovery code, once; the app is removed, and the password is enough again.
    let challenge = call(&server, &auth("Login"), &login).await["challenge"].clone();
    let answer = json!({"challengeId": challenge["challengeId"], "recoveryCode": recovery_codes[3]});
    let tokens = call(&server, &auth("CompleteChallenge"), &answer).await["tokens"].clone();
    let challenge = call(&server, &auth("Login"), &login).await["challenge"].clone();
    let again = json!({"challengeId": challenge["challengeId"], "recoveryCode": recovery_codes[3]});
    assert!(refusal(&server, "CompleteChallenge", &again).await.contains("CODE_INVALID"), "used");
    account(&server, &tokens, "RemoveTotp", &json!({})).await;
    assert!(call(&server, &auth("Login"), &login).await["tokens"].is_object());

    // The password is forgotten.
    let seen = server.log.count();
    call(&server, &auth("RequestPasswordReset"), &json!({"identifier": EMAIL})).await;
    let new_password = "a wholly other staple of horses";
    let reset = json!({"code": code(&server, "vpr_", seen).await, "newPassword": new_password});
    call(&server, &auth("ResetPassword"), &reset).await;
    assert!(refusal(&server, "Login", &login).await.contains("INVALID_CREDENTIALS"));
    let login = json!({"identifier": EMAIL, "password": new_password});
    let tokens = call(&server, &auth("Login"), &login).await["tokens"].clone();

    // The end.
    account(&server, &tokens, "DeleteAccount", &json!({})).await;
    assert!(refusal(&server, "Login", &login).await.contains("INVALID_CREDENTIALS"));
    server.kill().await;
    place.remove().await;
}

async fn an_account_without_a_password_lives_by_codes(backend: Backend) {
    let place = place(backend).await;
    let server = place.serve().await;
    call(&server, &auth("Register"), &json!({"email": EMAIL, "passwordless": true})).await;
    call(&server, &auth("VerifyEmail"), &json!({"code": code(&server, "vev_", 0).await})).await;

    let seen = server.log.count();
    let challenge = call(&server, &auth("SendLoginCode"), &json!({"identifier": EMAIL})).await["challenge"].clone();
    assert_eq!(challenge["factors"], json!(["CHALLENGE_FACTOR_ONE_TIME_CODE"]));
    let code = digits(&server, seen).await;
    let wrong = if code == "00000000" { "00000001" } else { "00000000" };
    let answer = |code: &str| json!({"challengeId": challenge["challengeId"], "oneTimeCode": code});
    assert!(refusal(&server, "CompleteChallenge", &answer(wrong)).await.contains("CODE_INVALID"));
    let tokens = call(&server, &auth("CompleteChallenge"), &answer(&code)).await["tokens"].clone();
    let claims = call(&server, &auth("Verify"), &json!({"token": tokens["accessToken"]})).await["claims"].clone();
    assert_eq!((&claims["acr"], &claims["amr"]), (&json!("aal1"), &json!(["otp"])));
    let user = account(&server, &tokens, "GetAccount", &json!({})).await["user"].clone();
    assert_eq!((&user["emailVerified"], &user["hasPassword"]), (&json!(true), &Value::Null));

    // A first password.
    account(&server, &tokens, "ChangePassword", &json!({"newPassword": PASSWORD})).await;
    assert!(
        call(&server, &auth("Login"), &json!({"identifier": EMAIL, "password": PASSWORD})).await["tokens"].is_object()
    );
    server.kill().await;
    place.remove().await;
}
