//! Messages handed to a web service, which checks by itself who calls; and messages in the log.

use std::time::Duration;

use serde_json::json;
use vouchsafe::{crypto::machine_date, domain::notice::Notice, domain::time::Timestamp};

use crate::{
    process::harness::Place,
    rpc::on_both_databases,
    support::{
        Backend, TestNode,
        notify::{Receiver, mail, sms, standing_clock, store_on},
        until,
    },
};

on_both_databases!(
    a_call_can_be_checked_by_whoever_knows_the_secret,
    a_web_service_that_refuses_or_puts_off,
    a_login_that_is_refused_is_in_the_log,
    messages_that_were_given_up_are_in_the_operator_s_hands,
);

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn in_an_hour() -> Timestamp {
    machine_date().plus(Duration::from_hours(1))
}

async fn calling(service: &Receiver, backend: Backend) -> TestNode {
    let node = TestNode::builder(backend).await.set("notify.email=webhook").set("notify.sms=webhook");
    let node = node.set(&format!("notify.webhook_secret={SECRET}"));
    node.set(&format!("notify.webhook_url=http://127.0.0.1:{}/send?key=1", service.port)).start().await
}

async fn a_call_can_be_checked_by_whoever_knows_the_secret(backend: Backend) {
    let service = Receiver::start("webhook_service.py", &[SECRET]).await;
    let node = calling(&service, backend).await;
    let store = store_on(&node.database, standing_clock()).await;
    let expire_time = in_an_hour();
    let code = mail("ada@example.com", Some("de"), &Notice::LoginCode { code: "12345678".into() }, expire_time);
    let news = mail("ada@example.com", None, &Notice::PasswordChanged, expire_time);
    let text = sms("+4930123456", &Notice::VerifyPhone { code: "87654321".into() }, expire_time);
    let ids = [code.id, news.id, text.id].map(|id| id.to_string());
    store.enqueue(vec![code, news, text]).await.unwrap();
    until("all are sent", async || node.database.messages().await == 0).await;
    let calls = service.wait_for(3).await;
    assert_eq!(calls.len(), 3);
    for call in &calls {
        assert_eq!((&call["genuine"], &call["path"]), (&json!(true), &json!("/send?key=1")), "{call:#}");
        for otherwise in ["genuine_if_altered", "genuine_by_another_secret", "genuine_an_hour_later"] {
            assert_eq!(call[otherwise], false, "{otherwise}: {call:#}");
        }
        assert_eq!(call["headers"]["webhook-id"], call["message"]["id"]);
        assert_eq!(call["headers"]["content-type"], "application/json");
    }
    let message = |id: &str| &calls.iter().find(|call| call["message"]["id"] == id).unwrap()["message"];
    let code = message(&ids[0]);
    assert_eq!(
        [&code["channel"], &code["to"], &code["kind"], &code["locale"], &code["code"], &code["subject"]],
        ["email", "ada@example.com", "login_code", "de", "12345678", "Ihr Code zum Anmelden"]
    );
    assert_eq!(code["expire_time"], expire_time.to_string());
    assert!(code["text"].as_str().unwrap().contains("12345678") && code["html"].as_str().unwrap().contains("<html"));
    assert_eq!((&message(&ids[1])["kind"], message(&ids[1]).get("code")), (&json!("password_changed"), None));
    let text = message(&ids[2]);
    assert_eq!([&text["channel"], &text["to"], &text["code"]], ["sms", "+4930123456", "87654321"]);
    assert!(text["text"].as_str().unwrap().starts_with("87654321 is your code") && text.get("html").is_none());
    node.remove().await;
}

async fn a_web_service_that_refuses_or_puts_off(backend: Backend) {
    let service = Receiver::start("webhook_service.py", &[SECRET]).await;
    let node = calling(&service, backend).await;
    let store = store_on(&node.database, standing_clock()).await;
    let to = |to: &str| mail(to, None, &Notice::AlreadyRegistered, in_an_hour());
    let (refused, later) = (to("refused@example.com"), to("later@example.com"));
    let (refused_id, later_id) = (refused.id, later.id.to_string());
    store.enqueue(vec![refused, later]).await.unwrap();
    until("only the refused one is left", async || node.database.messages().await == 1).await;
    let dead = store.dead_messages(None, 10).await.unwrap().remove(0);
    assert_eq!((dead.id, dead.last_error.as_str()), (refused_id, "the web service answered 422"));
    let calls = service.wait_for(4).await;
    let tries: Vec<_> = calls.iter().filter(|call| call["headers"]["webhook-id"] == *later_id).collect();
    // By the id it is known again.
    assert_eq!(tries.iter().map(|call| call["status"].as_u64().unwrap()).collect::<Vec<_>>(), [503, 503, 204]);
    assert!(tries.iter().all(|call| call["message"] == tries[0]["message"]));
    node.remove().await;
}

/// Nobody looks for the reason in the outbox: it is in the log, with what to do.
async fn a_login_that_is_refused_is_in_the_log(backend: Backend) {
    let server = Receiver::start("mail_server.py", &["--login", "mailer:right"]).await;
    let place = Place::new(backend).await.set("keys.master_key", crate::support::MASTER_KEY);
    let place = place.set("notify.email", "smtp").set("notify.from", "noreply@example.com");
    let place = place.set("notify.smtp_url", &format!("smtp://mailer:wrong-7731@127.0.0.1:{}?tls=none", server.port));
    let running = place.serve().await;
    let store = store_on(&place.database, standing_clock()).await;
    store.enqueue(vec![mail("ada@example.com", None, &Notice::AlreadyRegistered, in_an_hour())]).await.unwrap();
    running.log.wait(|line| line.contains("WARN") && line.contains("refuses the login in notify.smtp_url")).await;
    assert!(!running.log.so_far().iter().any(|line| line.contains("wrong-7731")), "the log has the password");
    running.stop().await;
    place.remove().await;
}

async fn messages_that_were_given_up_are_in_the_operator_s_hands(backend: Backend) {
    let server = Receiver::mail().await;
    let place = Place::new(backend).await.set("keys.master_key", crate::support::MASTER_KEY);
    let place = place.set("notify.email", "smtp").set("notify.from", "noreply@example.com");
    let url = format!("smtp://127.0.0.1:{}?tls=none", server.port);
    let place = place.set("notify.smtp_url", &url);
    let running = place.serve().await;
    let store = store_on(&place.database, standing_clock()).await;
    let code = || Notice::VerifyEmail { code: "vev_secret".to_owned() };
    let messages: Vec<_> = (0..3).map(|_| mail("refused@example.com", None, &code(), in_an_hour())).collect();
    let mut ids: Vec<_> = messages.iter().map(|message| message.id.to_string()).collect();
    // Those of one millisecond are in any order.
    ids.sort();
    store.enqueue(messages).await.unwrap();
    until("all are given up", async || store.dead_messages(None, 10).await.unwrap().len() == 3).await;
    running.log.wait(|line| line.contains("message given up") && line.contains(&ids[0])).await;

    let table = place.run(&["messages", "list"]).await.ok();
    let listed = place.run(&["messages", "list", "--output", "json"]).await.ok();
    let rows: Vec<Vec<&str>> = table.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows.len(), 3, "{table}");
    assert_eq!(rows[0][..3], [ids[0].as_str(), "email", "verify_email"]);
    assert!(table.lines().nth(1).unwrap().ends_with("1  the server answered 550"), "{table}");
    let json: serde_json::Value = serde_json::from_str(&listed).unwrap();
    assert_eq!((json[2]["id"].as_str(), json[2]["attempts"].as_u64()), (Some(&*ids[2]), Some(1)));
    for text in [&table, &listed, &running.log.so_far().join("\n")] {
        assert!(!text.contains("refused@") && !text.contains("vev_"), "{text}");
    }

    // Nothing is put right yet: it is refused again.
    assert_eq!(place.run(&["messages", "retry", &ids[0]]).await.ok(), "1 message to be tried again\n");
    until("it is given up again", async || store.dead_messages(None, 10).await.unwrap().len() == 3).await;
    assert_eq!(place.run(&["messages", "drop", &ids[1]]).await.ok(), "1 message forgotten\n");
    for command in ["retry", "drop"] {
        let said = place.run(&["messages", command, &ids[1]]).await.refused();
        assert!(said.contains(&format!("no message with the id {} was given up", ids[1])), "{said}");
    }
    assert_eq!(place.run(&["messages", "retry", "--all"]).await.ok(), "2 messages to be tried again\n");
    until("both are given up again", async || store.dead_messages(None, 10).await.unwrap().len() == 2).await;
    let long_ago = machine_date().as_micros() - 1;
    place.database.execute(&format!("UPDATE outbox SET expire_time = {long_ago}")).await;
    let said = place.run(&["messages", "retry", &ids[2]]).await.refused();
    assert!(said.contains("of no use any more"), "{said}");
    assert_eq!(place.run(&["messages", "drop", "--all"]).await.ok(), "2 messages forgotten\n");
    assert_eq!(place.run(&["messages", "list"]).await.ok().lines().count(), 1);
    running.stop().await;
    place.remove().await;
}

/// With no settings at all, a newcomer finds the code in the console.
#[tokio::test]
async fn the_log_shows_the_code_where_nothing_is_set() {
    let place = Place::new(Backend::Sqlite).await.set("keys.master_key", crate::support::MASTER_KEY);
    let place = place.set("log.format", "pretty");
    let running = place.serve().await;
    let store = store_on(&place.database, standing_clock()).await;
    let code = Notice::VerifyEmail { code: "vev_A-B_c".to_owned() };
    store.enqueue(vec![mail("ada@example.com", None, &code, in_an_hour())]).await.unwrap();
    let line = running.log.wait(|line| line.contains("vev_")).await;
    let said = "e-mail to ada@example.com: Verify your e-mail address. Code: vev_A-B_c";
    assert!(line.contains("INFO") && line.ends_with(said), "{line}");
    let text = sms("+4930123456", &Notice::LoginCode { code: "12345678".into() }, in_an_hour());
    store.enqueue(vec![text]).await.unwrap();
    let line = running.log.wait(|line| line.contains("SMS")).await;
    assert!(line.ends_with("SMS to +4930123456: Your code to sign in. Code: 12345678"), "{line}");
    running.stop().await;
    place.remove().await;
}

#[tokio::test]
async fn a_broken_template_is_named_and_the_server_does_not_start() {
    let place = Place::new(Backend::Sqlite).await;
    std::fs::create_dir_all(place.path("texts/en")).unwrap();
    let file = place.file("texts/en/verify_email.txt", "Hello\n{{ cod }}\n");
    let folder = place.path("texts").display().to_string();
    let place = place.set("notify.templates", &folder);
    for command in [&["serve"][..], &["config", "check"]] {
        let said = place.run(command).await.refused();
        assert!(said.contains(&format!("{file}, line 2: undefined value")), "{said}");
    }
    place.remove().await;
}

#[tokio::test]
async fn codes_in_a_shared_log_are_warned_of() {
    let place = Place::new(Backend::Postgres).await.set("notify.email", "log");
    let running = place.serve().await;
    running.log.wait(|line| line.contains("notify.email is log") && line.contains("WARN")).await;
    running.stop().await;
    place.remove().await;
}
