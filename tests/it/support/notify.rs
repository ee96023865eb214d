//! Messages put into the outbox behind a node's back, and those who receive them: real servers, each a process of its own.

use std::sync::Arc;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::process::Child;
use uuid::Uuid;
use vouchsafe::{
    crypto::{MasterKey, MessageSeal, SystemEntropy, machine_date},
    domain::{
        email::Email,
        id::UserId,
        notice::Notice,
        secret::random,
        time::{Clock, Timestamp},
    },
    store::{
        Surroundings, open,
        port::{NewMessage, Store},
    },
};

use super::{MASTER_KEY, ManualClock, OPTIONS, RecordingObserver, RecordingVault, TestDatabase};
use crate::{
    process::{lines::Lines, tools::python},
    state::own::free_port,
};

/// A store of the test's own on this database, by this clock.
pub(crate) async fn store_on(database: &TestDatabase, clock: Arc<dyn Clock>) -> Arc<dyn Store> {
    let around = Surroundings {
        clock,
        entropy: Arc::new(SystemEntropy),
        vault: Arc::new(RecordingVault::default()),
        observer: Arc::new(RecordingObserver::default()),
        kept_passwords: 0,
    };
    open(database.location(), &OPTIONS, around).await.unwrap()
}

/// A clock that stands at the present moment.
pub(crate) fn standing_clock() -> Arc<ManualClock> {
    let clock = ManualClock::new();
    clock.set(machine_date());
    Arc::new(clock)
}

/// A message as the service puts it into the outbox.
pub(crate) fn mail(to: &str, locale: Option<&str>, notice: &Notice, expire_time: Timestamp) -> NewMessage {
    let email = Email::parse(to).unwrap();
    sealed(
        "email",
        &json!({ "email": [email.as_typed(), email.key()], "phone": null, "locale": locale, "notice": notice }),
        expire_time,
    )
}

/// The same to a phone.
pub(crate) fn sms(to: &str, notice: &Notice, expire_time: Timestamp) -> NewMessage {
    sealed("sms", &json!({ "email": null, "phone": to, "locale": null, "notice": notice }), expire_time)
}

/// A message to nobody.
pub(crate) fn nobody_s(expire_time: Timestamp) -> NewMessage {
    sealed("none", &json!({ "email": null, "phone": null, "locale": null, "notice": Notice::Nothing }), expire_time)
}

fn sealed(channel: &'static str, message: &Value, expire_time: Timestamp) -> NewMessage {
    let id = *UserId::new(machine_date(), &random(&SystemEntropy)).as_uuid();
    let seal = MessageSeal::new(Arc::new(MasterKey::parse(MASTER_KEY).unwrap()));
    let sealed = seal.seal(id, message.to_string().as_bytes(), &SystemEntropy);
    NewMessage { id, channel, user: None, sealed, expire_time, budget: None }
}

impl TestDatabase {
    /// What the outbox says of a message in this column, as text; nothing if it is not there.
    pub(crate) async fn of_message(&self, id: Uuid, column: &str) -> Option<String> {
        let sql = format!("SELECT CAST({column} AS TEXT) FROM outbox WHERE id = {}", self.id(&id));
        self.texts(&sql).await.pop()
    }

    /// How many messages there are in the outbox.
    pub(crate) async fn messages(&self) -> i64 {
        self.integer("SELECT COUNT(*) FROM outbox").await
    }
}

/// A server that receives messages, a Python script of `tests/peers`. Killed when dropped.
pub(crate) struct Receiver {
    pub(crate) port: u16,
    lines: Lines,
    child: Child,
}

impl Receiver {
    /// A mail server whose arguments name no port gets one that nobody else is given while it is down.
    pub(crate) async fn start(script: &str, args: &[&str]) -> Self {
        let port = free_port().to_string();
        let takes_port = script == "mail_server.py" && !args.contains(&"--port");
        let named = if takes_port { &["--port", &port][..] } else { &[] };
        let mut command = python(script, &[args, named].concat());
        command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let lines = Lines::follow(child.stdout.take().unwrap());
        let first: Value = serde_json::from_str(&lines.wait(|_| true).await).unwrap();
        let port = u16::try_from(first["port"].as_u64().unwrap()).unwrap();
        Self { port, lines, child }
    }

    /// A mail server without TLS.
    pub(crate) async fn mail() -> Self {
        Self::start("mail_server.py", &[]).await
    }

    /// Where it is, for `notify.smtp_url`.
    pub(crate) fn plain_url(&self) -> String {
        format!("notify.smtp_url=smtp://127.0.0.1:{}?tls=none", self.port)
    }

    /// What was received so far.
    pub(crate) fn received(&self) -> Vec<Value> {
        messages(&self.lines.so_far())
    }

    /// What was received, once it is this much.
    pub(crate) async fn wait_for(&self, count: usize) -> Vec<Value> {
        if count > 0 {
            self.lines.wait_after(count, |_| true).await;
        }
        self.received()
    }

    /// Ends it, so that its port is free again.
    pub(crate) async fn end(mut self) -> u16 {
        self.kill().await;
        self.port
    }

    /// Ends it. All that it ever received.
    pub(crate) async fn close(mut self) -> Vec<Value> {
        self.kill().await;
        messages(&self.lines.all().await)
    }

    async fn kill(&mut self) {
        let pid = Pid::from_raw(i32::try_from(self.child.id().unwrap()).unwrap()).unwrap();
        kill_process(pid, Signal::KILL).unwrap();
        self.child.wait().await.unwrap();
    }
}

/// What a server shows after the line that says where it is.
fn messages(lines: &[String]) -> Vec<Value> {
    lines.iter().skip(1).map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The value of a header of a received mail.
pub(crate) fn header<'a>(mail: &'a Value, name: &str) -> &'a str {
    let all: Vec<_> = mail["headers"].as_array().unwrap().iter().filter(|header| header[0] == name).collect();
    assert_eq!(all.len(), 1, "{name} in {mail:#}");
    all[0][1].as_str().unwrap()
}
