//! What the documentation shows a newcomer: everything by grpcurl, found by reflection.

use serde_json::{Value, json};

use super::{
    harness::{Place, Server},
    tools::{call, grpcurl},
};
use crate::{
    rpc::on_every_form,
    support::{Backend, PASSWORD},
};

on_every_form!(a_newcomer_finds_their_way, refusals_explain_themselves);

const REGISTER: &str = "vouchsafe.v1.AuthService/Register";
const LOGIN: &str = "vouchsafe.v1.AuthService/Login";
const VERIFY: &str = "vouchsafe.v1.AuthService/Verify";
const REFRESH: &str = "vouchsafe.v1.AuthService/Refresh";
const LOGOUT: &str = "vouchsafe.v1.AuthService/Logout";

async fn a_newcomer_finds_their_way(backend: Backend) {
    let place = Place::new(backend).await;
    let server = place.serve().await;
    look_around(&server).await;

    let registered = call(&server, REGISTER, &json!({"email": "ada@example.com", "password": PASSWORD})).await;
    assert_eq!(registered["user"]["email"], "ada@example.com");
    let login = json!({"identifier": "ada@example.com", "password": PASSWORD, "device": {"name": "laptop"}});
    let tokens = &call(&server, LOGIN, &login).await["tokens"];
    assert_eq!(tokens["tokenType"], "Bearer");

    let verified = call(&server, VERIFY, &json!({"token": tokens["accessToken"]})).await;
    assert_eq!(verified["active"], true);
    assert_eq!(verified["claims"]["subject"], registered["user"]["id"]);
    let authorization = format!("authorization: Bearer {}", tokens["accessToken"].as_str().unwrap());
    let account = grpcurl(&server, &["-H", &authorization], &["vouchsafe.v1.AccountService/GetAccount"]).await.ok();
    assert_eq!(serde_json::from_str::<Value>(&account).unwrap()["user"], registered["user"]);

    let renewed = &call(&server, REFRESH, &json!({"refreshToken": tokens["refreshToken"]})).await["tokens"];
    assert_eq!(renewed["sessionId"], tokens["sessionId"]);
    assert_ne!(renewed["refreshToken"], tokens["refreshToken"]);
    assert_eq!(call(&server, LOGOUT, &json!({"refreshToken": renewed["refreshToken"]})).await, json!({}));
    for token in [&tokens["accessToken"], &renewed["accessToken"]] {
        let verified = call(&server, VERIFY, &json!({"token": token})).await;
        assert_eq!(verified, json!({"inactiveReason": "INACTIVE_REASON_REVOKED"}), "what is false is left out");
    }
    server.stop().await;
    place.remove().await;
}

async fn look_around(server: &Server) {
    let services = grpcurl(server, &[], &["list"]).await.ok();
    for service in ["vouchsafe.v1.AuthService", "vouchsafe.v1.AccountService", "grpc.health.v1.Health"] {
        assert!(services.lines().any(|line| line == service), "{services}");
    }
    let methods = grpcurl(server, &[], &["list", "vouchsafe.v1.AuthService"]).await.ok();
    for method in ["Register", "Login", "Refresh", "Verify", "Logout"] {
        assert!(methods.lines().any(|line| line == format!("vouchsafe.v1.AuthService.{method}")), "{methods}");
    }
    let described = grpcurl(server, &[], &["describe", "vouchsafe.v1.AuthService.Login"]).await.ok();
    assert!(described.contains("rpc Login ( .vouchsafe.v1.LoginRequest )"), "{described}");
    let described = grpcurl(server, &[], &["describe", "vouchsafe.v1.LoginRequest"]).await.ok();
    assert!(described.contains("string identifier = 1;"), "{described}");
    let health = call(server, "grpc.health.v1.Health/Check", &json!({"service": "vouchsafe.v1.AuthService"})).await;
    assert_eq!(health, json!({"status": "SERVING"}));
}

async fn refusals_explain_themselves(backend: Backend) {
    let place = Place::new(backend).await;
    let server = place.serve().await;
    let ada = json!({"email": "ada@example.com", "password": PASSWORD});
    call(&server, REGISTER, &ada).await;

    let refused = refusal(&server, REGISTER, &json!({"email": "ADA@example.com", "password": PASSWORD})).await;
    for part in ["Code: AlreadyExists", r#""@type":"type.googleapis.com/google.rpc.ErrorInfo""#] {
        assert!(refused.contains(part), "{part}: {refused}");
    }
    for part in [r#""reason":"EMAIL_TAKEN""#, r#""domain":"vouchsafe""#] {
        assert!(refused.contains(part), "{part}: {refused}");
    }
    let refused = refusal(&server, REGISTER, &json!({"email": "nobody", "password": "short"})).await;
    for part in ["Code: InvalidArgument", r#""field":"email""#, r#""field":"password""#] {
        assert!(refused.contains(part), "{part}: {refused}");
    }
    for identifier in ["ada@example.com", "nobody@example.com"] {
        let wrong = json!({"identifier": identifier, "password": "not the right password"});
        let refused = refusal(&server, LOGIN, &wrong).await;
        assert!(refused.contains("Code: Unauthenticated"), "{refused}");
        assert!(refused.contains(r#""reason":"INVALID_CREDENTIALS""#), "{refused}");
    }
    server.stop().await;
    place.remove().await;
}

/// What grpcurl shows of a refusal, without the spaces of its JSON. Details that it cannot decode would be base64.
async fn refusal(server: &Server, method: &str, request: &Value) -> String {
    let request = request.to_string();
    let ended = grpcurl(server, &["-d", &request], &[method]).await;
    assert!(!ended.status.success() && ended.stdout.is_empty(), "{ended:?}");
    assert!(!ended.stderr.contains(r#""value":"#), "details are shown encoded: {}", ended.stderr);
    ended.stderr.replace("\": ", "\":")
}
