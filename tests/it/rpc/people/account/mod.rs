//! Registration, verified addresses, resets, and what people change of their own accounts.

use std::sync::Arc;

use tokio::sync::Barrier;
use tonic::{Code, Status};
use vouchsafe::{
    domain::notice::{Message, Notice, Recipient},
    pb::v1,
};

use crate::support::{
    Backend, PASSWORD, TestDatabase, TestNode, TestNodeBuilder, bearer, login_request,
    outbox::{outbox_code, outbox_is_to, outbox_keep, outbox_messages},
    reason,
};

mod addresses;
mod numbers;
mod own;
mod registering;
mod resets;

const ADA: &str = "ada@example.com";
pub(super) const NEW_PASSWORD: &str = "another correct horse battery";

/// A node that sends mail and SMS, of which the test keeps copies.
async fn mailing(backend: Backend) -> TestNodeBuilder {
    let database = Arc::new(TestDatabase::migrated(backend).await);
    outbox_keep(&database).await;
    TestNode::on(database).set("notify.email=log").set("notify.sms=log")
}

impl TestNode {
    pub(super) async fn verify_email(&self, code: &str) -> Result<bool, Status> {
        let request = v1::VerifyEmailRequest { code: code.into() };
        Ok(self.auth().await.verify_email(request).await?.into_inner().awaiting_other_address)
    }

    pub(super) async fn send_verification(&self, email: &str) -> Result<(), Status> {
        let request = v1::SendEmailVerificationRequest { email: email.into() };
        self.auth().await.send_email_verification(request).await.map(|_| ())
    }

    pub(super) async fn ask_reset(&self, identifier: &str) -> Result<(), Status> {
        let request = v1::RequestPasswordResetRequest { identifier: identifier.into() };
        self.auth().await.request_password_reset(request).await.map(|_| ())
    }

    pub(super) async fn reset(&self, code: &str, password: &str) -> Result<(), Status> {
        let request = v1::ResetPasswordRequest { code: code.into(), new_password: password.into() };
        self.auth().await.reset_password(request).await.map(|_| ())
    }

    async fn change_email(&self, token: &str, email: &str) -> Result<(), Status> {
        let request = v1::ChangeEmailRequest { new_email: email.into() };
        self.account().await.change_email(bearer(token, request)).await.map(|_| ())
    }

    pub(super) async fn own(&self, token: &str) -> v1::User {
        let answer = self.account().await.get_account(bearer(token, v1::GetAccountRequest {})).await;
        answer.unwrap().into_inner().user.unwrap()
    }

    /// The newest code that was sent to an address or number.
    pub(super) async fn code_to(&self, to: &str) -> String {
        outbox_code(&self.database, to).await
    }

    /// What was said to an address or number, the newest last.
    pub(super) async fn said_to(&self, to: &str) -> Vec<Notice> {
        let messages = outbox_messages(&self.database).await.into_iter();
        messages.filter(|message| outbox_is_to(message, to)).map(|message| message.notice).collect()
    }

    /// How many messages went to nobody.
    async fn said_to_nobody(&self) -> usize {
        let nobody = |message: &Message| message.to == Recipient::Nobody && message.notice == Notice::Nothing;
        outbox_messages(&self.database).await.iter().filter(|message| nobody(message)).count()
    }

    async fn count(&self, table: &str) -> i64 {
        self.database.integer(&format!("SELECT COUNT(*) FROM {table}")).await
    }

    /// A user whose address is verified, and tokens of a sign-in.
    async fn verified(&self, email: &str) -> v1::TokenPair {
        self.register(email).await;
        assert!(!self.verify_email(&self.code_to(email).await).await.unwrap());
        self.login(email).await
    }
}

fn registration(email: &str, username: &str) -> v1::RegisterRequest {
    v1::RegisterRequest {
        email: email.into(),
        username: username.into(),
        password: PASSWORD.into(),
        ..v1::RegisterRequest::default()
    }
}

/// Which error it is: code and reason.
#[track_caller]
pub(super) fn refusal<T: std::fmt::Debug>(answer: Result<T, Status>) -> (Code, String) {
    let status = answer.unwrap_err();
    (status.code(), reason(&status))
}

pub(super) fn code_invalid() -> (Code, String) {
    (Code::Unauthenticated, "CODE_INVALID".into())
}

/// Calls twenty times at the same moment. Which had success; the others were told that the code is no good, or to wait.
async fn at_once<F, Fut>(node: &Arc<TestNode>, call: F) -> Vec<usize>
where
    F: Fn(Arc<TestNode>, usize) -> Fut,
    Fut: Future<Output = Result<(), Status>> + Send + 'static,
{
    let start = Arc::new(Barrier::new(20));
    let calls: Vec<_> = (0..20)
        .map(|n| {
            let (start, call) = (start.clone(), call(node.clone(), n));
            tokio::spawn(async move {
                start.wait().await;
                call.await
            })
        })
        .collect();
    let mut done = Vec::new();
    for (n, call) in calls.into_iter().enumerate() {
        match call.await.unwrap() {
            Ok(()) => done.push(n),
            Err(status) => {
                let reason = reason(&status);
                assert!(["CODE_INVALID", "TOO_MANY_ATTEMPTS"].contains(&reason.as_str()), "{status:?}");
            }
        }
    }
    done
}

async fn remove(node: Arc<TestNode>) {
    Arc::into_inner(node).unwrap().remove().await;
}

/// What becomes of a sign-in.
pub(super) async fn signs_in(node: &TestNode, identifier: &str, password: &str) -> bool {
    match node.try_login(login_request(identifier, password)).await {
        Ok(_) => true,
        Err(status) => {
            assert_eq!(reason(&status), "INVALID_CREDENTIALS");
            false
        }
    }
}

/// From now on the database refuses to forget what failed at least so often. Everything else goes on.
async fn break_forgetting(database: &TestDatabase, failures: u32) {
    if database.postgres_pool().is_some() {
        database
            .execute(
                "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'broken'; END $$",
            )
            .await;
        let when = format!("FOR EACH ROW WHEN (OLD.failures >= {failures}) EXECUTE FUNCTION refuse()");
        database.execute(&format!("CREATE TRIGGER broken BEFORE DELETE ON throttles {when}")).await;
    } else {
        let refuse = format!("WHEN OLD.failures >= {failures} BEGIN SELECT RAISE(ABORT, 'broken'); END");
        database.execute(&format!("CREATE TRIGGER broken BEFORE DELETE ON throttles {refuse}")).await;
    }
}

async fn mend_forgetting(database: &TestDatabase) {
    let on = if database.postgres_pool().is_some() { " ON throttles" } else { "" };
    database.execute(&format!("DROP TRIGGER broken{on}")).await;
}
