//! What an auditor does, by grpcurl and at the command line.

use serde_json::{Value, json};

use super::{
    admin_cli::{make_root, through},
    harness::{Place, Server},
    lines::Lines,
    tools::{call, grpcurl},
};
use crate::{
    rpc::on_both_databases,
    support::{Backend, PASSWORD},
};

on_both_databases!(
    a_newcomer_reads_back_who_did_what,
    the_trail_is_listed_on_the_database_and_through_a_server,
    the_trail_is_exported_alike_on_the_database_and_through_a_server,
    the_trail_is_watched_and_gone_on_with,
);

const EMAIL: &str = "ada@example.com";

async fn as_root(server: &Server, token: &str, method: &str, request: &Value) -> Value {
    let authorization = format!("authorization: Bearer {token}");
    let request = request.to_string();
    let flags = ["-H", &authorization, "-H", "x-request-id: the-tour", "-d", &request];
    let answer = grpcurl(server, &flags, &[&format!("vouchsafe.v1.{method}")]).await.ok();
    serde_json::from_str(&answer).unwrap()
}

/// The code in the first message on the console that has one.
async fn reset_code(server: &Server) -> String {
    let code_in = |line: &str| {
        let rest = &line[line.find("vpr_")?..];
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "_-".contains(c))).unwrap_or(rest.len());
        Some(rest[..end].to_owned())
    };
    code_in(&server.log.wait(|line| code_in(line).is_some()).await).unwrap()
}

/// A sign-in fails, a password is reset, a role is assigned; who did what, to whom, from where, is read back.
async fn a_newcomer_reads_back_who_did_what(backend: Backend) {
    const NEW_PASSWORD: &str = "quite another long enough password";
    let place = Place::new(backend).await.set("notify.email", "log");
    make_root(&place).await;
    let server = place.serve().await;
    let registration = json!({"email": EMAIL, "password": PASSWORD});
    let registered = call(&server, "vouchsafe.v1.AuthService/Register", &registration).await;
    let ada = registered["user"]["id"].as_str().unwrap().to_owned();
    let sign_in = async |identifier: &str, password: &str| {
        let request = json!({"identifier": identifier, "password": password}).to_string();
        grpcurl(&server, &["-user-agent", "curious", "-d", &request], &["vouchsafe.v1.AuthService/Login"]).await
    };
    assert!(!sign_in(EMAIL, "wrong password").await.status.success());
    call(&server, "vouchsafe.v1.AuthService/RequestPasswordReset", &json!({"identifier": EMAIL})).await;
    let reset = json!({"code": reset_code(&server).await, "newPassword": NEW_PASSWORD});
    call(&server, "vouchsafe.v1.AuthService/ResetPassword", &reset).await;
    let root: Value = serde_json::from_str(&sign_in("root@example.com", PASSWORD).await.ok()).unwrap();
    let token = root["tokens"]["accessToken"].as_str().unwrap();
    as_root(&server, token, "RoleAdminService/CreateRole", &json!({"role": {"name": "clerk"}})).await;
    let assign = json!({"userId": ada, "role": "clerk"});
    as_root(&server, token, "UserAdminService/AssignRole", &assign).await;

    let filter = json!({"filter": {"subject": ada}, "order": "AUDIT_ORDER_OLDEST_FIRST"});
    let listed = as_root(&server, token, "AuditService/ListAuditEvents", &filter).await;
    let events = listed["events"].as_array().unwrap();
    let expected = ["user.registered", "login.failed", "password.reset_requested", "password.reset", "role.assigned"];
    // A reset proves the address as well.
    let acts: Vec<_> = events.iter().map(|event| event["act"].as_str().unwrap()).collect();
    let looked_for: Vec<_> = acts.iter().copied().filter(|act| expected.contains(act)).collect();
    assert_eq!(looked_for, expected, "{events:#?}");
    assert!(events.iter().all(|event| event["subjectId"] == json!(ada) && event["ipAddress"] == "127.0.0.1"));
    let find = |act: &str| events.iter().find(|event| event["act"] == act).unwrap();
    let (failed, assigned) = (find("login.failed"), find("role.assigned"));
    assert_eq!((&failed["actor"], &failed["detail"]["cause"]), (&json!("anonymous"), &json!("wrong_password")));
    assert_eq!(failed.get("succeeded"), None, "what is false is left out");
    assert!(failed["userAgent"].as_str().unwrap().starts_with("curious"), "{failed}");
    let who = as_root(&server, token, "AccountService/GetAccount", &json!({})).await["user"]["id"].clone();
    assert_eq!((&assigned["actor"], &assigned["actorId"]), (&json!("user"), &who));
    assert_eq!((&assigned["detail"], &assigned["succeeded"]), (&json!({"role": "clerk"}), &json!(true)));
    assert_eq!(assigned["requestId"], "the-tour");
    let verified = as_root(&server, token, "AuditService/VerifyAuditChain", &json!({})).await;
    assert_eq!((&verified["intact"], verified.get("faults")), (&json!(true), None), "{verified}");
    server.stop().await;
    place.remove().await;
}

/// What there is to read: a server with some history, and the two ways to it.
struct Trail {
    place: Place,
    server: Server,
    token: String,
}

impl Trail {
    async fn new(backend: Backend) -> Self {
        let place = Place::new(backend).await;
        make_root(&place).await;
        let server = place.serve().await;
        let client = super::client::Client::of(&server).await;
        client.join(EMAIL).await;
        client.login_with(EMAIL, "wrong password").await.unwrap_err();
        let token = client.login("root@example.com").await.unwrap().access_token;
        let token = place.file("token", format!("{token}\n"));
        Self { place, server, token }
    }

    /// The flags of each way.
    fn ways(&self) -> [Vec<String>; 2] {
        [Vec::new(), through(&self.server, &self.token)]
    }

    async fn run(&self, args: &[&str], way: &[String]) -> super::harness::Ended {
        let way: Vec<&str> = way.iter().map(String::as_str).collect();
        self.place.run(&[&["audit"], args, &way].concat()).await
    }

    async fn remove(self) {
        self.server.stop().await;
        self.place.remove().await;
    }
}

async fn the_trail_is_listed_on_the_database_and_through_a_server(backend: Backend) {
    let trail = Trail::new(backend).await;
    let mut answers = Vec::new();
    for way in trail.ways() {
        let failed = ["list", "--act", "login.*", "--failed", "--output", "json"];
        let found: Value = serde_json::from_str(&trail.run(&failed, &way).await.ok()).unwrap();
        assert_eq!(found.as_array().unwrap().len(), 1, "{found}");
        assert_eq!((&found[0]["act"], &found[0]["ip_address"]), (&json!("login.failed"), &json!("127.0.0.1")));
        let subject = found[0]["subject_id"].as_str().unwrap();
        let first = ["list", "--subject", subject, "--oldest-first", "--limit", "1", "--output", "json"];
        let first: Value = serde_json::from_str(&trail.run(&first, &way).await.ok()).unwrap();
        assert_eq!(first[0]["act"], "user.registered");
        let table = trail.run(&["list", "--actor", "operator"], &way).await.ok();
        assert!(table.starts_with("TIME") && table.contains("user.registered"), "{table}");
        let said = trail.run(&["list", "--act", "No Act"], &way).await.refused();
        assert!(said.ends_with(" (INVALID_ARGUMENT)\n"), "{said}");
        answers.push((found, first, table));
    }
    assert_eq!(answers[0], answers[1], "both ways the same");
    trail.remove().await;
}

async fn the_trail_is_exported_alike_on_the_database_and_through_a_server(backend: Backend) {
    let trail = Trail::new(backend).await;
    let mut exports = Vec::new();
    for way in trail.ways() {
        let text = trail.run(&["export", "--personal"], &way).await.ok();
        let mut lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((&lines[0]["type"], &lines[0]["form"]), (&json!("header"), &json!("vouchsafe audit export v1")));
        let end = lines.pop().unwrap();
        let header = lines.remove(0);
        assert_eq!(end["events"], json!(lines.len()));
        assert_eq!(header["lanes"].as_array().unwrap().len(), end["lanes"].as_array().unwrap().len());
        // Each lane whole, from its base to its head.
        for (base, head) in header["lanes"].as_array().unwrap().iter().zip(end["lanes"].as_array().unwrap()) {
            let mut of_lane = lines.iter().filter(|line| line["lane"] == head["lane"]);
            let positions: Vec<_> = of_lane.clone().map(|line| line["position"].as_i64().unwrap()).collect();
            let expected = base["position"].as_i64().unwrap() + 1..=head["position"].as_i64().unwrap();
            assert_eq!(positions, expected.collect::<Vec<_>>());
            let last = of_lane.next_back().map_or(&base["hash"], |line| &line["hash"]);
            assert_eq!(last, &head["hash"]);
            assert!(positions.is_empty() || head["mac"].is_string(), "vouched for");
        }
        let failed = lines.iter().find(|line| line["act"] == "login.failed").unwrap();
        assert_eq!(failed["personal"]["ip_address"], "127.0.0.1");
        lines.sort_by_key(|line| line["id"].as_str().unwrap().to_owned());
        exports.push((lines, header["lanes"].clone(), end));
    }
    assert_eq!(exports[0], exports[1]);

    let file = trail.place.path("export.jsonl").display().to_string();
    let way = &trail.ways()[1];
    trail.run(&["export", &file], way).await.ok();
    let written = std::fs::read_to_string(&file).unwrap();
    assert!(!written.contains("127.0.0.1") && written.contains("personal_sealed"), "only what is asked for");
    assert!(trail.run(&["export", &file], way).await.refused().contains("cannot write"), "nothing is overwritten");
    check_files(&trail, &file, &written).await;
    let checkpoint = trail.place.path("checkpoint").display().to_string();
    for way in trail.ways() {
        let said = trail.run(&["verify", "--save-checkpoint", &checkpoint, "--output", "json"], &way).await.ok();
        assert_eq!(serde_json::from_str::<Value>(&said).unwrap()["intact"], true);
        trail.run(&["verify", "--checkpoint", &checkpoint], &way).await.ok();
    }
    let said = trail.run(&["verify", "--checkpoint", &file], &[]).await.cannot_tell();
    assert!(said.contains("no checkpoint"), "{said}");
    trail.remove().await;
}

/// An export checks, with the key and without; one that was tampered with does not.
async fn check_files(trail: &Trail, file: &str, written: &str) {
    let events = written.lines().count() - 2;
    for flags in [&["verify", file][..], &["verify", file, "--without-key"]] {
        let said = trail.run(flags, &[]).await.ok();
        assert!(said.starts_with(&format!("intact: {events} events")), "{said}");
    }
    let without = |what: &str| {
        let lines: Vec<_> = written.lines().filter(|line| !line.contains(what)).collect();
        lines.join("\n") + "\n"
    };
    let changed: [(&str, String); 2] = [
        ("altered", written.replace("login.failed", "login.succeeded")),
        ("missing", without("\"act\":\"login.failed\"")),
    ];
    for (fault, content) in changed {
        let content =
            content.replace(&format!("\"events\":{events}"), &format!("\"events\":{}", content.lines().count() - 2));
        let file = trail.place.file("changed.jsonl", content);
        let ended = trail.run(&["verify", &file, "--without-key", "--output", "json"], &[]).await;
        assert_eq!(ended.status.code(), Some(1), "{ended:?}");
        let said: Value = serde_json::from_str(&ended.stdout).unwrap();
        assert_eq!((&said["intact"], &said["faults"][0]["kind"]), (&json!(false), &json!(fault)), "{said}");
    }
    check_old(trail, written).await;
    let (cut, _) = written.trim_end().rsplit_once('\n').unwrap();
    let cut = trail.place.file("cut.jsonl", format!("{cut}\n"));
    trail.run(&["verify", &cut, "--without-key"], &[]).await.cannot_tell();
}

/// A checkpoint that is older than the file goes back: what it names is not called good.
async fn check_old(trail: &Trail, written: &str) {
    let mut lines: Vec<Value> = written.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let place = |line: &Value| (line["lane"].clone(), line["position"].clone());
    let lane = lines.iter().find(|line| line["position"] == 2).unwrap()["lane"].clone();
    let at = |lines: &[Value], position| lines.iter().position(|line| place(line) == (lane.clone(), json!(position)));
    let first = lines.remove(at(&lines, 1).unwrap());
    let second = lines.remove(at(&lines, 2).unwrap());
    let base = json!({ "lane": lane, "position": 2, "hash": second["hash"], "mac": null });
    let bases = lines[0]["lanes"].as_array_mut().unwrap();
    *bases.iter_mut().find(|of| of["lane"] == lane).unwrap() = base;
    let events = lines.len() - 2;
    lines.last_mut().unwrap()["events"] = json!(events);
    let content = lines.iter().map(Value::to_string).collect::<Vec<_>>().join("\n") + "\n";
    let file = trail.place.file("later.jsonl", content);
    let seen = json!({ "lane": lane, "position": 1, "hash": first["hash"], "mac": null });
    let form = "vouchsafe audit checkpoint v1";
    let checkpoint = json!({ "form": form, "time": "2026-01-01T00:00:00.000000Z", "lanes": [seen] });
    let checkpoint = trail.place.file("old-checkpoint", checkpoint.to_string());
    let flags = ["verify", &file, "--without-key", "--checkpoint", &checkpoint];
    let ended = trail.run(&[&flags[..], &["--output", "json"]].concat(), &[]).await;
    assert_eq!(ended.status.code(), Some(2), "{ended:?}");
    let said: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!((&said["intact"], &said["not_compared"]), (&json!(true), &json!([{ "lane": lane, "position": 1 }])));
    let said = trail.run(&flags, &[]).await.stdout;
    assert!(said.contains("\nnot compared, because"), "{said}");
}

/// Starts `audit watch` and follows what it prints.
fn watch(trail: &Trail, args: &[&str], way: &[String]) -> (tokio::process::Child, Lines) {
    let way: Vec<&str> = way.iter().map(String::as_str).collect();
    let mut command = trail.place.command(&[&["audit", "watch", "--output", "json"], args, &way].concat());
    command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().unwrap();
    let lines = Lines::follow(child.stdout.take().unwrap());
    (child, lines)
}

async fn the_trail_is_watched_and_gone_on_with(backend: Backend) {
    let trail = Trail::new(backend).await;
    let client = super::client::Client::of(&trail.server).await;
    for (n, way) in trail.ways().into_iter().enumerate() {
        let cursor = trail.place.path(&format!("cursor{n}")).display().to_string();
        let flags = ["--from-beginning", "--cursor-file", &cursor];
        let (mut child, lines) = watch(&trail, &flags, &way);
        lines.wait(|line| line.contains("login.failed")).await;
        let first = format!("first{n}@example.com");
        client.register(&first).await.unwrap();
        let seen = lines.count();
        lines.wait_after(seen.saturating_sub(1), |line| line.contains("user.registered")).await;
        super::harness::until("the cursor is kept", async || std::path::Path::new(&cursor).exists().then_some(()))
            .await;
        child.kill().await.unwrap();
        child.wait().await.unwrap();
        // What is recorded while nobody watches is told when somebody does again; at most the last message is told twice.
        client.login(&first).await.unwrap();
        let (mut child, lines) = watch(&trail, &flags, &way);
        lines.wait(|line| line.contains("login.succeeded")).await;
        assert!(!lines.so_far().iter().any(|line| line.contains("login.failed")), "told before");
        child.kill().await.unwrap();
        child.wait().await.unwrap();
    }
    trail.remove().await;
}
