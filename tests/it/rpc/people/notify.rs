//! Messages by e-mail, as a real mail server receives them: each once, whatever happens on the way.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use uuid::Uuid;
use vouchsafe::{
    crypto::machine_date,
    domain::{
        notice::Notice,
        time::{Clock, Timestamp},
    },
    store::port::Claim,
};

use crate::{
    process::harness::Place,
    rpc::on_both_databases,
    state::own::free_port,
    support::{
        Backend, MASTER_KEY, TestDatabase, TestNode,
        certificates::Authority,
        notify::{Receiver, header, mail, nobody_s, sms, standing_clock, store_on},
        until,
    },
};

on_both_databases!(
    a_message_arrives_once_with_both_its_parts,
    by_starttls_and_a_login_or_not_at_all,
    by_tls_from_the_beginning,
    what_could_not_be_delivered_arrives_when_the_server_is_back,
    a_message_of_a_worker_that_died_comes_when_its_lease_has_ended,
    a_server_killed_while_it_sends_loses_nothing,
    a_server_that_never_answers_holds_up_nobody,
    a_refusal_is_final_and_a_delay_is_not,
    a_server_that_thinks_behind_the_message_gets_it_once,
    what_may_have_arrived_is_not_sent_for_ever,
    doubts_are_counted_and_not_attempts,
    an_answer_that_is_none_is_not_repeated,
    what_is_off_here_is_left_to_others,
    what_cannot_be_opened_waits_for_who_can,
    what_is_of_no_use_any_more_is_not_sent,
    a_message_to_nobody_goes_the_way_of_all_others,
    a_purge_that_fails_keeps_no_other_from_its_work,
);

pub(super) const FROM: &str = "notify.from=Example <noreply@example.com>";
const CODE: &str = "vpr_abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG";

fn reset() -> Notice {
    Notice::ResetPassword { code: CODE.to_owned() }
}

fn in_an_hour() -> Timestamp {
    machine_date().plus(Duration::from_hours(1))
}

/// Waits until no message waits any more.
pub(super) async fn emptied(database: &TestDatabase) {
    until("the outbox is empty", async || database.messages().await == 0).await;
}

async fn a_message_arrives_once_with_both_its_parts(backend: Backend) {
    let server = Receiver::mail().await;
    let node = TestNode::builder(backend).await.set("notify.email=smtp").set(FROM).set(&server.plain_url());
    let node = node.set("notify.link_url=https://app.example.com/codes").start().await;
    let store = store_on(&node.database, standing_clock()).await;
    let message = mail("Ada.L@B\u{fc}cher.example", Some("de-AT"), &reset(), in_an_hour());
    let id = message.id;
    store.enqueue(vec![message, nobody_s(in_an_hour())]).await.unwrap();
    emptied(&node.database).await;
    let received = server.wait_for(1).await;
    assert_eq!(received.len(), 1);
    let mail = &received[0];
    assert_eq!(mail["mail_from"], "noreply@example.com");
    // The local part as it was typed, the domain as every server understands it.
    assert_eq!(mail["rcpt_tos"], json!(["Ada.L@xn--bcher-kva.example"]));
    assert_eq!(mail["ascii"], true);
    assert_eq!(header(mail, "From"), "Example <noreply@example.com>");
    assert_eq!(header(mail, "To"), "Ada.L@xn--bcher-kva.example");
    assert_eq!(header(mail, "Subject"), "Neues Passwort setzen");
    assert_eq!(header(mail, "Message-ID"), format!("<{id}@issuer.test>"));
    assert_eq!(header(mail, "Auto-Submitted"), "auto-generated");
    assert!(header(mail, "Date").contains("20"), "{mail:#}");
    assert_eq!(mail["type"], "multipart/alternative");
    let part = |number: usize| mail["parts"][number][1].as_str().unwrap();
    assert_eq!((&mail["parts"][0][0], &mail["parts"][1][0]), (&json!("text/plain"), &json!("text/html")));
    let link = format!("https://app.example.com/codes?kind=reset_password&code={CODE}");
    assert!(part(0).contains(&link) && part(0).contains(&format!("\n    {CODE}\r\n")), "{}", part(0));
    let attribute = link.replace('&', "&amp;").replace('/', "&#x2f;");
    assert!(part(1).contains(&format!("href=\"{attribute}\"")), "{}", part(1));
    assert!(part(0).contains("f\u{fc}r Ihr Konto bei issuer.test"), "{}", part(0));
    node.remove().await;
}

async fn by_starttls_and_a_login_or_not_at_all(backend: Backend) {
    let authority = Authority::new("mail");
    let (files, pair) = (tempfile::tempdir().unwrap(), authority.server());
    let file = |name: &str, content: &str| {
        let path = files.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    };
    let (certificate, key) = (file("cert.pem", &pair.certificate), file("key.pem", &pair.key));
    let roots = format!("notify.smtp_tls_roots={}", file("roots.pem", &authority.pem()));
    let strangers = format!("notify.smtp_tls_roots={}", file("others.pem", &Authority::new("other").pem()));
    let args = ["--certificate", &certificate, "--key", &key, "--login", "mailer:S3cr@t"];
    let (server, open) = (Receiver::start("mail_server.py", &args).await, Receiver::mail().await);
    let url = |login: &str, port: u16| format!("notify.smtp_url=smtp://{login}localhost:{port}");
    let right = url("mailer:S3cr%40t@", server.port);
    // A wrong password, somebody else's certificate, and a server without TLS: none gets the message, which goes on waiting.
    for (url, roots, problem) in [
        (&url("mailer:guess@", server.port), &roots, "the server answered 535 to the login in notify.smtp_url"),
        (&right, &strangers, "certificate"),
        (&url("", open.port), &roots, "STARTTLS is not supported"),
    ] {
        let node =
            TestNode::builder(backend).await.set("notify.email=smtp").set(FROM).set(url).set(roots).start().await;
        let store = store_on(&node.database, standing_clock()).await;
        let message = mail("ada@example.com", None, &reset(), in_an_hour());
        let id = message.id;
        store.enqueue(vec![message]).await.unwrap();
        until("it was tried", async || node.database.of_message(id, "last_error").await.is_some_and(|e| !e.is_empty()))
            .await;
        let error = node.database.of_message(id, "last_error").await.unwrap();
        assert!(error.contains(problem), "{error}");
        assert!(!error.contains("S3cr") && !error.contains("guess"), "{error}");
        assert_eq!(node.database.of_message(id, "dead_time").await.as_deref(), Some(""), "it is not given up");
        node.remove().await;
    }
    assert!(server.received().is_empty() && open.received().is_empty());

    let node =
        TestNode::builder(backend).await.set("notify.email=smtp").set(FROM).set(&right).set(&roots).start().await;
    let store = store_on(&node.database, standing_clock()).await;
    let messages = ["ada@example.com", "bob@example.com"].map(|to| mail(to, None, &reset(), in_an_hour()));
    store.enqueue(messages.to_vec()).await.unwrap();
    emptied(&node.database).await;
    let received = server.wait_for(2).await;
    assert_eq!(received.len(), 2);
    assert!(received.iter().all(|mail| mail["tls"] == true && mail["login"] == "mailer"), "{received:#?}");
    node.remove().await;
}

async fn by_tls_from_the_beginning(backend: Backend) {
    let authority = Authority::new("mail");
    let (files, pair) = (tempfile::tempdir().unwrap(), authority.server());
    let path = |name: &str| files.path().join(name).display().to_string();
    std::fs::write(path("cert.pem"), &pair.certificate).unwrap();
    std::fs::write(path("key.pem"), &pair.key).unwrap();
    std::fs::write(path("roots.pem"), authority.pem()).unwrap();
    let args = ["--implicit-tls", "--certificate", &path("cert.pem"), "--key", &path("key.pem")];
    let server = Receiver::start("mail_server.py", &args).await;
    let node = TestNode::builder(backend).await.set("notify.email=smtp").set(FROM);
    let node = node.set(&format!("notify.smtp_url=smtps://localhost:{}", server.port));
    let node = node.set(&format!("notify.smtp_tls_roots={}", path("roots.pem"))).start().await;
    let store = store_on(&node.database, standing_clock()).await;
    store.enqueue(vec![mail("ada@example.com", None, &reset(), in_an_hour())]).await.unwrap();
    emptied(&node.database).await;
    assert_eq!(server.wait_for(1).await.len(), 1);
    node.remove().await;
}

async fn what_could_not_be_delivered_arrives_when_the_server_is_back(backend: Backend) {
    let server = Receiver::mail().await;
    let url = server.plain_url();
    let port = server.end().await.to_string();
    let clock = standing_clock();
    let node = TestNode::builder(backend).await.clock(Arc::clone(&clock) as _);
    let node = node.set("notify.email=smtp").set(FROM).set(&url).start().await;
    let store = store_on(&node.database, Arc::clone(&clock) as _).await;
    let message = mail("ada@example.com", None, &reset(), clock.now().plus(Duration::from_hours(1)));
    let id = message.id;
    store.enqueue(vec![message]).await.unwrap();
    // Each failure lies further from the one before; the clock stands until it is moved.
    for attempt in 1..=3 {
        // In one reading: a lease may begin between two.
        let column = "CASE WHEN lease IS NULL THEN attempts END";
        let failed = async || node.database.of_message(id, column).await == Some(attempt.to_string());
        until("it was tried", failed).await;
        let due = node.database.of_message(id, "due_time").await.unwrap().parse().unwrap();
        let pause = Timestamp::from_micros(due).since(clock.now());
        let full = Duration::from_secs([1, 5, 30][attempt - 1]);
        assert!(pause >= full.mul_f64(0.79) && pause <= full.mul_f64(1.21), "{attempt}: {pause:?}");
        if attempt < 3 {
            clock.set(Timestamp::from_micros(due));
        }
    }
    let server = Receiver::start("mail_server.py", &["--port", &port]).await;
    clock.advance(Duration::from_secs(40));
    emptied(&node.database).await;
    let received = server.wait_for(1).await;
    assert_eq!((received.len(), header(&received[0], "Message-ID")), (1, format!("<{id}@issuer.test>").as_str()));
    node.remove().await;
}

async fn a_message_of_a_worker_that_died_comes_when_its_lease_has_ended(backend: Backend) {
    let server = Receiver::mail().await;
    let clock = standing_clock();
    let database = Arc::new(TestDatabase::migrated(backend).await);
    let store = store_on(&database, Arc::clone(&clock) as _).await;
    let expire_time = clock.now().plus(Duration::from_hours(1));
    let (first, second) =
        (mail("a@example.com", None, &reset(), expire_time), mail("b@example.com", None, &reset(), expire_time));
    let lost = first.id;
    store.enqueue(vec![first]).await.unwrap();
    // A worker that takes it, and is not heard of again.
    let lease = Uuid::from_u128(1);
    let claim = Claim { lease, until: clock.now().plus(Duration::from_mins(3)), channels: &["email"], limit: 8 };
    assert_eq!(store.claim_messages(claim).await.unwrap().len(), 1);
    store.enqueue(vec![second]).await.unwrap();
    let node = TestNode::on(Arc::clone(&database)).clock(Arc::clone(&clock) as _);
    let node = node.set("notify.email=smtp").set(FROM).set(&server.plain_url()).start().await;
    until("only the taken one is left", async || database.messages().await == 1).await;
    assert_eq!(server.wait_for(1).await[0]["rcpt_tos"], json!(["b@example.com"]));
    assert_eq!(database.of_message(lost, "attempts").await.as_deref(), Some("1"));
    clock.advance(Duration::from_mins(3));
    emptied(&database).await;
    let received = server.wait_for(2).await;
    assert_eq!((received.len(), &received[1]["rcpt_tos"]), (2, &json!(["a@example.com"])));
    // Should the dead one come back: it has nothing to say any more.
    assert!(!store.finish_message(lost, lease).await.unwrap());
    node.remove().await;
}

/// The process itself, killed with a message half sent.
async fn a_server_killed_while_it_sends_loses_nothing(backend: Backend) {
    let port = free_port();
    let silent = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let place = Place::new(backend).await.set("keys.master_key", MASTER_KEY).set("notify.email", "smtp");
    let place = place.set("notify.from", "noreply@example.com");
    let place = place.set("notify.smtp_url", &format!("smtp://127.0.0.1:{port}?tls=none"));
    let running = place.serve().await;
    let store = store_on(&place.database, standing_clock()).await;
    let message = mail("ada@example.com", None, &reset(), in_an_hour());
    let id = message.id;
    store.enqueue(vec![message]).await.unwrap();
    let half_sent = silent.accept().await.unwrap();
    running.kill().await;
    drop((half_sent, silent));
    let leased = "CASE WHEN lease IS NULL THEN 0 ELSE 1 END";
    assert_eq!(place.database.of_message(id, leased).await.as_deref(), Some("1"), "it is still the dead one's");
    // The lease ends: as three minutes would do it.
    place.database.execute("UPDATE outbox SET due_time = 0").await;
    let server = Receiver::start("mail_server.py", &["--port", &port.to_string()]).await;
    let running = place.serve().await;
    emptied(&place.database).await;
    let received = server.wait_for(1).await;
    assert_eq!((received.len(), header(&received[0], "Message-ID")), (1, format!("<{id}@issuer.test>").as_str()));
    running.stop().await;
    place.remove().await;
}

/// Fault 21: whoever waits for a provider, it is no caller.
async fn a_server_that_never_answers_holds_up_nobody(backend: Backend) {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let texts = Receiver::start("webhook_service.py", &[SECRET]).await;
    let url = format!("notify.smtp_url=smtp://{}?tls=none", silent.local_addr().unwrap());
    let node = TestNode::builder(backend).await.set("notify.email=smtp").set(FROM).set(&url).set("notify.sms=webhook");
    let node = node.set(&format!("notify.webhook_secret={SECRET}"));
    let node = node.set(&format!("notify.webhook_url=http://127.0.0.1:{}/", texts.port)).start().await;
    let store = store_on(&node.database, standing_clock()).await;
    // More than are sent at once.
    let messages: Vec<_> = (0..20).map(|i| mail(&format!("u{i}@example.com"), None, &reset(), in_an_hour())).collect();
    store.enqueue(messages).await.unwrap();
    let mut held = Vec::new();
    for _ in 0..8 {
        held.push(silent.accept().await.unwrap().0);
    }
    // All eight slots wait. What else there is to do is done meanwhile.
    node.register("ada@example.com").await;
    let tokens = node.login("ada@example.com").await;
    assert!(node.verify(&tokens.access_token).await.active);
    store
        .enqueue(vec![sms("+4930123456", &Notice::VerifyPhone { code: "12345678".into() }, in_an_hour())])
        .await
        .unwrap();
    assert_eq!(texts.wait_for(1).await[0]["message"]["to"], "+4930123456");
    // Nothing was said on those connections, and they are given up.
    for mut connection in held {
        assert_eq!(connection.read(&mut [0; 64]).await.unwrap_or(0), 0);
    }
    until("all eight are written down", async || {
        node.database.integer("SELECT COUNT(*) FROM outbox WHERE last_error = 'no answer within 10 s'").await >= 8
    })
    .await;
    assert_eq!(node.database.integer("SELECT COUNT(*) FROM outbox WHERE dead_time IS NULL").await, 21, "Ada's too");
    drop(silent);
    node.remove().await;
}

async fn a_refusal_is_final_and_a_delay_is_not(backend: Backend) {
    let server = Receiver::mail().await;
    let node =
        TestNode::builder(backend).await.set("notify.email=smtp").set(FROM).set(&server.plain_url()).start().await;
    let store = store_on(&node.database, standing_clock()).await;
    let message = |to: &str| mail(to, None, &reset(), in_an_hour());
    let (refused, later, good) =
        (message("refused@example.com"), message("later@example.com"), message("ada@example.com"));
    let (refused_id, later_id) = (refused.id, later.id);
    store.enqueue(vec![refused, later, good]).await.unwrap();
    until("the refused one is given up", async || store.dead_messages(None, 10).await.unwrap().len() == 1).await;
    let dead = store.dead_messages(None, 10).await.unwrap().remove(0);
    assert_eq!((dead.id, dead.attempts, dead.last_error.as_str()), (refused_id, 1, "the server answered 550"));
    until("the delayed one was tried again", async || {
        node.database.of_message(later_id, "attempts").await.is_some_and(|n| n.parse::<i64>().unwrap() >= 2)
    })
    .await;
    assert_eq!(node.database.of_message(later_id, "dead_time").await.as_deref(), Some(""));
    assert_eq!(server.wait_for(1).await.len(), 1);
    // The body of the page that a scrape sees.
    let (_, scrape) = crate::support::wire::get(node.http, "/metrics").await;
    for line in [
        "vouchsafe_messages_total{channel=\"email\",outcome=\"sent\"} 1",
        "vouchsafe_messages_total{channel=\"email\",outcome=\"dead\"} 1",
        "vouchsafe_messages_total{channel=\"sms\",outcome=\"sent\"} 0",
    ] {
        assert!(scrape.lines().any(|found| found == line), "{line} is not in {scrape}");
    }
    node.remove().await;
}

/// The server takes longer than a connection may: it is waited for, and the message is not sent again.
async fn a_server_that_thinks_behind_the_message_gets_it_once(backend: Backend) {
    let server = Receiver::mail().await;
    let node =
        TestNode::builder(backend).await.set("notify.email=smtp").set(FROM).set(&server.plain_url()).start().await;
    let store = store_on(&node.database, standing_clock()).await;
    let message = mail("slow@example.com", None, &reset(), in_an_hour());
    let id = message.id;
    store.enqueue(vec![message]).await.unwrap();
    server.wait_for(1).await;
    until("it is sent, or to be sent again", async || {
        node.database.of_message(id, "CASE WHEN lease IS NULL THEN 0 ELSE 1 END").await.as_deref() != Some("1")
    })
    .await;
    assert_eq!(node.database.of_message(id, "last_error").await, None, "the server has it");
    assert_eq!(server.received().len(), 1);
    node.remove().await;
}

async fn what_may_have_arrived_is_not_sent_for_ever(backend: Backend) {
    let server = Receiver::mail().await;
    let clock = standing_clock();
    let node = TestNode::builder(backend).await.clock(Arc::clone(&clock) as _);
    let node = node.set("notify.email=smtp").set(FROM).set(&server.plain_url()).start().await;
    let store = store_on(&node.database, Arc::clone(&clock) as _).await;
    let message = mail("vanish@example.com", None, &reset(), clock.now().plus(Duration::from_hours(1)));
    let id = message.id;
    store.enqueue(vec![message]).await.unwrap();
    for attempt in 1..=3 {
        let column = "CASE WHEN lease IS NULL THEN attempts END";
        let failed = async || node.database.of_message(id, column).await == Some(attempt.to_string());
        until("it was tried", failed).await;
        clock.advance(Duration::from_secs(10));
    }
    let dead = store.dead_messages(None, 10).await.unwrap().remove(0);
    assert!(dead.id == id && dead.last_error.contains("it may have arrived"), "{}", dead.last_error);
    let received = server.wait_for(3).await;
    let ids: BTreeSet<_> = received.iter().map(|mail| header(mail, "Message-ID")).collect();
    assert_eq!((received.len(), ids.len()), (3, 1), "each time the same");
    node.remove().await;
}

async fn doubts_are_counted_and_not_attempts(backend: Backend) {
    let server = Receiver::mail().await;
    let url = server.plain_url();
    let port = server.end().await.to_string();
    let clock = standing_clock();
    let node = TestNode::builder(backend).await.clock(Arc::clone(&clock) as _);
    let node = node.set("notify.email=smtp").set(FROM).set(&url).start().await;
    let store = store_on(&node.database, Arc::clone(&clock) as _).await;
    let message = mail("vanish@example.com", None, &reset(), clock.now().plus(Duration::from_hours(48)));
    let id = message.id;
    store.enqueue(vec![message]).await.unwrap();
    let tried = async |attempt: u32| {
        let column = "CASE WHEN lease IS NULL THEN attempts END";
        let failed = async || node.database.of_message(id, column).await == Some(attempt.to_string());
        until("it was tried", failed).await;
        node.database.of_message(id, "last_error").await.unwrap()
    };
    // Longer than any pause.
    let go_on = || clock.advance(Duration::from_hours(1));
    // Two attempts without a server, one that may have arrived, one without, and two more in doubt.
    assert!(!tried(1).await.contains("arrived"));
    go_on();
    assert!(!tried(2).await.contains("arrived"));
    let server = Receiver::start("mail_server.py", &["--port", &port]).await;
    go_on();
    assert!(tried(3).await.ends_with(", may have arrived: 1"));
    assert_eq!(server.wait_for(1).await.len(), 1);
    server.end().await;
    go_on();
    assert!(tried(4).await.ends_with(", may have arrived: 1"));
    let server = Receiver::start("mail_server.py", &["--port", &port]).await;
    go_on();
    assert!(tried(5).await.ends_with(", may have arrived: 2"));
    assert!(store.dead_messages(None, 10).await.unwrap().is_empty());
    go_on();
    let error = tried(6).await;
    let dead = store.dead_messages(None, 10).await.unwrap().remove(0);
    assert!(dead.id == id && error.contains("it may have arrived"), "{error}");
    assert_eq!(server.wait_for(2).await.len(), 2);
    // Whoever has it tried again begins anew.
    assert_eq!(store.retry_messages(Some(id)).await.unwrap(), 1);
    assert!(tried(1).await.ends_with(", may have arrived: 1"));
    node.remove().await;
}

/// What a server says is its own, and often names who a message is for.
async fn an_answer_that_is_none_is_not_repeated(backend: Backend) {
    let strange = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("notify.smtp_url=smtp://{}?tls=none", strange.local_addr().unwrap());
    let node = TestNode::builder(backend).await.set("notify.email=smtp").set(FROM).set(&url).start().await;
    let store = store_on(&node.database, standing_clock()).await;
    let message = mail("ada@example.com", None, &reset(), in_an_hour());
    let id = message.id;
    store.enqueue(vec![message]).await.unwrap();
    let (mut connection, _) = strange.accept().await.unwrap();
    connection.write_all(b"nothing for ada@example.com today\r\n").await.unwrap();
    until("it was tried", async || node.database.of_message(id, "last_error").await.is_some_and(|e| !e.is_empty()))
        .await;
    let error = node.database.of_message(id, "last_error").await.unwrap();
    assert_eq!(error, "the server hung up, or what it answered is not SMTP");
    node.remove().await;
}

/// In a rolling change some nodes have the channel already, and some do not yet.
async fn what_is_off_here_is_left_to_others(backend: Backend) {
    let database = Arc::new(TestDatabase::migrated(backend).await);
    let off = TestNode::on(Arc::clone(&database)).set("notify.email=off").set("notify.sms=off").start().await;
    let store = store_on(&database, standing_clock()).await;
    let code = Notice::VerifyPhone { code: "12345678".into() };
    let (letter, text) =
        (mail("ada@example.com", None, &reset(), in_an_hour()), sms("+4930123456", &code, in_an_hour()));
    let (letter_id, text_id) = (letter.id, text.id);
    store.enqueue(vec![letter, text, nobody_s(in_an_hour())]).await.unwrap();
    // The last one put in is done: those before it have been seen, and left.
    until("what is nobody's is done", async || database.messages().await == 2).await;
    store.enqueue(vec![nobody_s(in_an_hour())]).await.unwrap();
    until("what is nobody's is done", async || database.messages().await == 2).await;
    for id in [letter_id, text_id] {
        assert_eq!(database.of_message(id, "attempts").await.as_deref(), Some("0"));
    }
    let off = if backend == Backend::Sqlite {
        // Which takes one server at a time.
        off.stop().await;
        None
    } else {
        Some(off)
    };
    let server = Receiver::mail().await;
    let on = TestNode::on(Arc::clone(&database)).set("notify.email=smtp").set(FROM).set(&server.plain_url());
    let on = on.set("notify.sms=log").start().await;
    emptied(&database).await;
    assert_eq!(server.wait_for(1).await.len(), 1);
    if let Some(off) = off {
        off.stop().await;
    }
    on.remove().await;
}

async fn what_cannot_be_opened_waits_for_who_can(backend: Backend) {
    let server = Receiver::mail().await;
    let node =
        TestNode::builder(backend).await.set("notify.email=smtp").set(FROM).set(&server.plain_url()).start().await;
    let store = store_on(&node.database, standing_clock()).await;
    let mut message = mail("ada@example.com", None, &reset(), in_an_hour());
    let id = message.id;
    message.sealed = vec![0; 64];
    store.enqueue(vec![message]).await.unwrap();
    until("it was tried", async || node.database.of_message(id, "last_error").await.is_some_and(|e| !e.is_empty()))
        .await;
    assert_eq!(node.database.of_message(id, "dead_time").await.as_deref(), Some(""), "it is not given up");
    let error = node.database.of_message(id, "last_error").await.unwrap();
    assert!(error.starts_with("it cannot be opened: "), "{error}");
    node.remove().await;
}

async fn what_is_of_no_use_any_more_is_not_sent(backend: Backend) {
    let server = Receiver::mail().await;
    let database = Arc::new(TestDatabase::migrated(backend).await);
    let store = store_on(&database, standing_clock()).await;
    let old = mail("old@example.com", None, &reset(), machine_date().minus(Duration::from_secs(1)));
    let id = old.id;
    store.enqueue(vec![old, mail("new@example.com", None, &reset(), in_an_hour())]).await.unwrap();
    let node = TestNode::on(Arc::clone(&database)).set("notify.email=smtp").set(FROM).set(&server.plain_url());
    let node = node.start().await;
    // The other, which was put in after it, was sent; this one was deleted, at the start.
    emptied(&database).await;
    assert_eq!(database.of_message(id, "attempts").await, None);
    let received = server.wait_for(1).await;
    assert_eq!((received.len(), &received[0]["rcpt_tos"]), (1, &json!(["new@example.com"])));
    node.remove().await;
}

async fn a_purge_that_fails_keeps_no_other_from_its_work(backend: Backend) {
    let database = Arc::new(TestDatabase::migrated(backend).await);
    let store = store_on(&database, standing_clock()).await;
    store
        .enqueue(vec![mail("old@example.com", None, &reset(), machine_date().minus(Duration::from_secs(1)))])
        .await
        .unwrap();
    database.execute("ALTER TABLE create_requests RENAME TO out_of_reach").await;
    let node = TestNode::on(Arc::clone(&database)).set("notify.email=off").start().await;
    emptied(&database).await;
    node.remove().await;
}

async fn a_message_to_nobody_goes_the_way_of_all_others(backend: Backend) {
    let node = TestNode::builder(backend).await.set("notify.email=off").set("notify.sms=off").start().await;
    let store = store_on(&node.database, standing_clock()).await;
    store.enqueue((0..20).map(|_| nobody_s(in_an_hour())).collect()).await.unwrap();
    emptied(&node.database).await;
    node.remove().await;
}

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_nodes_each_message_is_sent_by_one() {
    let server = Receiver::mail().await;
    let database = Arc::new(TestDatabase::migrated(Backend::Postgres).await);
    let node = || TestNode::on(Arc::clone(&database)).set("notify.email=smtp").set(FROM).set(&server.plain_url());
    let nodes = [node().start().await, node().start().await];
    let store = store_on(&database, standing_clock()).await;
    let messages: Vec<_> = (0..200).map(|i| mail(&format!("u{i}@example.com"), None, &reset(), in_an_hour())).collect();
    let expected: BTreeSet<_> = messages.iter().map(|message| format!("<{}@issuer.test>", message.id)).collect();
    for some in messages.chunks(20) {
        store.enqueue(some.to_vec()).await.unwrap();
    }
    emptied(&database).await;
    // On a busy machine an exchange may take too long, and the message be sent again: only what was, may have arrived twice.
    let again = put_off(&nodes[0]).await + put_off(&nodes[1]).await;
    let [one, other] = nodes;
    // What both had taken, the slower one sends before it stops.
    one.stop().await;
    other.remove().await;
    let received = server.close().await;
    let ids: BTreeSet<_> = received.iter().map(|mail| header(mail, "Message-ID").to_owned()).collect();
    assert_eq!(ids, expected);
    assert!(received.len() <= expected.len() + again, "{} mails, {again} put off", received.len());
}

/// How often this node has put a mail off to another attempt.
async fn put_off(node: &TestNode) -> usize {
    let (_, scrape) = crate::support::wire::get(node.http, "/metrics").await;
    let line = "vouchsafe_messages_total{channel=\"email\",outcome=\"postponed\"} ";
    scrape.lines().find_map(|found| found.strip_prefix(line)).unwrap().parse().unwrap()
}
