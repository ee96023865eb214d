//! Secrets sent through every RPC, in every field that takes text and some that should not have had them, and then looked
//! for in everything the process wrote down. SECURITY, EDGE: "even at TRACE".

use std::{fmt::Write as _, net::SocketAddr, process::Stdio, sync::Arc};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader},
    process::{Child, Command},
    sync::watch,
    task::JoinHandle,
};
use tonic::{Request, Status, transport::Channel};
use vouchsafe::{
    crypto::machine_date,
    pb::v1::{
        self, account_service_client::AccountServiceClient, audit_service_client::AuditServiceClient,
        auth_service_client::AuthServiceClient, service_account_admin_service_client::ServiceAccountAdminServiceClient,
        user_admin_service_client::UserAdminServiceClient,
    },
    store::Location,
};

use super::on_both_databases;
use crate::support::{
    Backend, Collector, MASTER_KEY, TestDatabase, TestNode, bearer, factors_codes, login_request,
    notify::Receiver,
    outbox::{outbox_code, outbox_keep},
    reason, surely_later, until,
    wire::get,
};

on_both_databases!(no_secret_is_written_down_anywhere);

const PASSWORD: &str = "canary-password one two three";
const NEW_PASSWORD: &str = "canary-password four five six";
const WRONG_PASSWORD: &str = "canary-password seven eight nine";
const TYPED: &str = "canary-typed-where-the-name-goes";
const EMAIL: &str = "Canary.Mailbox@example.com";
const UNKNOWN: &str = "canary.stranger@example.com";
const AGENT: &str = "canary-agent/1.0";
const GARBAGE: &str = "canary-garbage-token";
const REQUEST_ID: &str = "canary-request-id";
const TRACE_STATE: &str = "canary=trace-state";
const DAMAGED: &str = "canary-damaged-value";
const WEBHOOK_SECRET: &str = "whsec_Y2FuYXJ5LXNlY3JldC1vZi10aGUtd2ViaG9vay1oZXJl";
const PROVED: &str = "canary.proved@example.com";
const MOVED: &str = "canary.moved@example.com";
const NUMBER: &str = "+493055512345";

/// The real program, and all that it writes.
struct Process {
    child: Child,
    address: SocketAddr,
    http: SocketAddr,
    readers: [JoinHandle<String>; 2],
    _data_dir: TempDir,
}

/// Reads to the end. The line that says where the server listens is passed on as soon as it is there.
fn collect(
    stream: impl AsyncRead + Unpin + Send + 'static,
    serving: watch::Sender<Option<String>>,
) -> JoinHandle<String> {
    tokio::spawn(async move {
        let (mut lines, mut all) = (BufReader::new(stream).lines(), String::new());
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.contains("serving") && line.contains("version") {
                serving.send_replace(Some(line.clone()));
            }
            all.push_str(&line);
            all.push('\n');
        }
        all
    })
}

impl Process {
    async fn start(
        database: &Arc<TestDatabase>,
        format: &str,
        collector: SocketAddr,
        mails: &Receiver,
        texts: &Receiver,
    ) -> Self {
        let data_dir = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_vouchsafe"));
        command.env_clear().arg("serve").arg("--data-dir").arg(data_dir.path());
        let node = TestNode::on(Arc::clone(database)).set("log.filter=trace").set(&format!("log.format={format}"));
        let node = node.set(&format!("telemetry.otlp_endpoint=http://{collector}")).set("telemetry.trace_percent=100");
        // On the console, where they are by default, codes are meant to be seen. Here they are really sent.
        let node = node.set("notify.email=smtp").set(&mails.plain_url()).set("notify.from=noreply@example.com");
        let node = node.set("notify.sms=webhook").set(&format!("notify.webhook_secret={WEBHOOK_SECRET}"));
        let node = node.set(&format!("notify.webhook_url=http://127.0.0.1:{}/", texts.port));
        let node = node.set("login.codes=email,sms");
        for set in node.sets() {
            command.arg("--set").arg(set);
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let (serving, mut told) = watch::channel(None);
        let out = collect(child.stdout.take().unwrap(), serving.clone());
        let err = collect(child.stderr.take().unwrap(), serving);
        let line = told.wait_for(Option::is_some).await.expect("it serves").clone().unwrap();
        let port_of = |name: &str| {
            let port = line.split(name).nth(1).unwrap().split("127.0.0.1:").nth(1).unwrap();
            let port: String = port.chars().take_while(char::is_ascii_digit).collect();
            format!("127.0.0.1:{port}").parse().unwrap()
        };
        let (address, http) = (port_of("grpc"), port_of("http"));
        Self { child, address, http, readers: [out, err], _data_dir: data_dir }
    }

    async fn connect(&self) -> Channel {
        let endpoint = Channel::from_shared(format!("http://{}", self.address)).unwrap();
        endpoint.user_agent(AGENT).unwrap().connect().await.unwrap()
    }

    /// Stops it as an operator does. All that it wrote.
    async fn stop(mut self) -> String {
        let pid = Pid::from_raw(self.child.id().unwrap().try_into().unwrap()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        assert!(self.child.wait().await.unwrap().success());
        let mut all = String::new();
        for reader in self.readers {
            all.push_str(&reader.await.unwrap());
        }
        all
    }
}

/// A caller who collects the tokens that were given out.
struct Caller {
    auth: AuthServiceClient<Channel>,
    account: AccountServiceClient<Channel>,
    services: ServiceAccountAdminServiceClient<Channel>,
    tokens: Vec<v1::TokenPair>,
    /// What else was given out.
    secrets: Vec<String>,
}

impl Caller {
    async fn register(&mut self, email: &str, password: &str) -> Result<(), Status> {
        let (email, password) = (email.to_owned(), password.to_owned());
        let request = v1::RegisterRequest { email, password, ..Default::default() };
        self.auth.register(request).await.map(|_| ())
    }

    async fn login(&mut self, identifier: &str, password: &str) -> Result<v1::TokenPair, Status> {
        let mut request = Request::new(login_request(identifier, password));
        for (name, value) in [
            ("x-request-id", REQUEST_ID),
            ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
            ("tracestate", TRACE_STATE),
        ] {
            request.metadata_mut().insert(name, value.parse().unwrap());
        }
        let response = self.auth.login(request).await?.into_inner();
        let v1::login_response::Outcome::Tokens(tokens) = response.outcome.unwrap() else { panic!("a challenge") };
        self.tokens.push(tokens.clone());
        Ok(tokens)
    }

    async fn refresh(&mut self, token: &str) -> Result<v1::TokenPair, Status> {
        let request = v1::RefreshRequest { refresh_token: token.into() };
        let tokens = self.auth.refresh(request).await?.into_inner().tokens.unwrap();
        self.tokens.push(tokens.clone());
        Ok(tokens)
    }

    async fn logout(&mut self, token: &str) {
        self.auth.logout(v1::LogoutRequest { refresh_token: token.into() }).await.unwrap();
    }

    async fn change_password(&mut self, token: &str, current: &str, new: &str) -> Result<(), Status> {
        let request = v1::ChangePasswordRequest { current_password: current.into(), new_password: new.into() };
        self.account.change_password(bearer(token, request)).await.map(|_| ())
    }

    /// Every RPC as it is meant.
    async fn use_it(&mut self) {
        self.register(EMAIL, PASSWORD).await.unwrap();
        let first = self.login(EMAIL, PASSWORD).await.unwrap();
        let second = self.login(EMAIL, PASSWORD).await.unwrap();
        let third = self.login(EMAIL, PASSWORD).await.unwrap();
        let renewed = self.refresh(&first.refresh_token).await.unwrap();
        let access = &renewed.access_token;
        let verify = v1::VerifyRequest { token: access.clone(), audience: vec!["vouchsafe".into()], consistency: 2 };
        assert!(self.auth.verify(verify).await.unwrap().into_inner().active);
        self.account.get_account(bearer(access, v1::GetAccountRequest {})).await.unwrap();
        self.account.list_sessions(bearer(access, v1::ListSessionsRequest::default())).await.unwrap();
        let one = v1::RevokeSessionRequest { session_id: second.session_id };
        self.account.revoke_session(bearer(access, one)).await.unwrap();
        self.account.revoke_other_sessions(bearer(access, v1::RevokeOtherSessionsRequest {})).await.unwrap();
        self.change_password(access, PASSWORD, NEW_PASSWORD).await.unwrap();
        self.logout(&third.refresh_token).await;
        for token in [access, &renewed.refresh_token] {
            self.auth.revoke_token(v1::RevokeTokenRequest { token: token.clone() }).await.unwrap();
        }
        self.logout(&renewed.refresh_token).await;
    }

    /// The management of users, as it is meant and as it is not.
    async fn manage_users(&mut self, mut users: UserAdminServiceClient<Channel>) {
        let admin = self.login(EMAIL, NEW_PASSWORD).await.unwrap().access_token;
        let create = v1::CreateUserRequest {
            email: "canary.managed@example.com".into(),
            password: PASSWORD.into(),
            request_id: "6f2a4f7e-2f0d-4f4c-9a51-6f0a3f1c9b7d".into(),
            ..Default::default()
        };
        let user = users.create_user(bearer(&admin, create.clone())).await.unwrap().into_inner().user.unwrap();
        for bad in [
            v1::CreateUserRequest { request_id: GARBAGE.into(), ..create.clone() },
            v1::CreateUserRequest { request_id: String::new(), ..create.clone() },
            v1::CreateUserRequest { email: TYPED.into(), roles: vec![GARBAGE.to_uppercase()], ..create.clone() },
            v1::CreateUserRequest {
                email: UNKNOWN.into(),
                password: String::new(),
                password_hash: format!("$argon2id${DAMAGED}"),
                ..create
            },
        ] {
            users.create_user(bearer(&admin, bad)).await.unwrap_err();
        }
        let password = NEW_PASSWORD.to_owned();
        let set = v1::SetUserPasswordRequest { user_id: user.id.clone(), password };
        users.set_user_password(bearer(&admin, set)).await.unwrap();
        let update_mask = Some(prost_types::FieldMask { paths: vec![PASSWORD.into()] });
        let update = v1::UpdateUserRequest { user: Some(user.clone()), update_mask };
        users.update_user(bearer(&admin, update)).await.unwrap_err();
        let page = v1::ListUsersRequest { page_token: GARBAGE.into(), ..Default::default() };
        users.list_users(bearer(&admin, page)).await.unwrap_err();
        let delete = v1::DeleteUserRequest { user_id: user.id, etag: GARBAGE.into() };
        users.delete_user(bearer(&admin, delete)).await.unwrap_err();
    }

    /// The audit trail, read as it is meant and as it is not.
    async fn audit_it(&mut self, mut audit: AuditServiceClient<Channel>) {
        let admin = self.login(EMAIL, NEW_PASSWORD).await.unwrap().access_token;
        let list = v1::ListAuditEventsRequest::default();
        let listed = audit.list_audit_events(bearer(&admin, list.clone())).await.unwrap().into_inner();
        assert!(!listed.events.is_empty());
        let verify = v1::VerifyAuditChainRequest::default();
        audit.verify_audit_chain(bearer(&admin, verify.clone())).await.unwrap();
        let watch = v1::WatchAuditEventsRequest { cursor: String::new(), from_beginning: true };
        let mut watched = audit.watch_audit_events(bearer(&admin, watch)).await.unwrap().into_inner();
        while watched.message().await.unwrap().unwrap().events.is_empty() {}
        drop(watched);
        for secret in [GARBAGE, NEW_PASSWORD, &admin] {
            let secret = || secret.to_owned();
            let filter = v1::AuditEventFilter {
                act: secret(),
                actor: secret(),
                subject: secret(),
                session_id: secret(),
                ..Default::default()
            };
            for bad in [
                v1::ListAuditEventsRequest { filter: Some(filter), ..list.clone() },
                v1::ListAuditEventsRequest { page_token: secret(), ..list.clone() },
            ] {
                audit.list_audit_events(bearer(&admin, bad)).await.unwrap_err();
            }
            let filter =
                v1::AuditEventFilter { request_id: secret().chars().take(128).collect(), ..Default::default() };
            let unknown = v1::ListAuditEventsRequest { filter: Some(filter), ..list.clone() };
            if let Ok(found) = audit.list_audit_events(bearer(&admin, unknown)).await {
                assert!(found.into_inner().events.is_empty());
            }
            let bad = v1::VerifyAuditChainRequest { page_token: secret(), ..verify.clone() };
            audit.verify_audit_chain(bearer(&admin, bad)).await.unwrap_err();
            let bad = v1::WatchAuditEventsRequest { cursor: secret(), from_beginning: false };
            audit.watch_audit_events(bearer(&admin, bad)).await.unwrap_err();
        }
    }

    /// What is kept of people, given to them and to those who ask for nobody.
    async fn export_it(&mut self, mut users: UserAdminServiceClient<Channel>) {
        let access = self.login(EMAIL, NEW_PASSWORD).await.unwrap().access_token;
        let own = self.account.export_account(bearer(&access, v1::ExportAccountRequest {})).await.unwrap();
        let (mut own, mut told) = (own.into_inner(), String::new());
        while let Some(message) = own.message().await.unwrap() {
            write!(told, "{message:?}").unwrap();
        }
        let account = self.account.get_account(bearer(&access, v1::GetAccountRequest {})).await.unwrap().into_inner();
        let export = |user_id: &str| bearer(&access, v1::ExportUserRequest { user_id: user_id.to_owned() });
        let mut given = users.export_user(export(&account.user.unwrap().id)).await.unwrap().into_inner();
        while let Some(message) = given.message().await.unwrap() {
            write!(told, "{message:?}").unwrap();
        }
        assert!(told.contains(EMAIL) && told.contains("account.exported") && told.contains("user.exported"));
        assert!(!told.contains("canary-password") && !told.contains("$argon2") && !has_a_handle(&told));
        for tokens in &self.tokens {
            assert!(!told.contains(&tokens.access_token) && !told.contains(&tokens.refresh_token));
        }
        for secret in [GARBAGE, NEW_PASSWORD, &access] {
            users.export_user(export(secret)).await.unwrap_err();
            let nobody = bearer(&format!("{secret}x"), v1::ExportAccountRequest {});
            self.account.export_account(nobody).await.unwrap_err();
        }
    }

    /// What a service account is given and shows, right and wrong.
    async fn serve_it(&mut self, database: &TestDatabase) {
        let roles = "INSERT INTO user_roles (user_id, role, assign_time) SELECT id, 'admin', 0 FROM users";
        assert_eq!(database.execute(roles).await, 1);
        let root = self.login(EMAIL, NEW_PASSWORD).await.unwrap().access_token;
        let account = v1::CreateServiceAccountRequest { display_name: "Orders".into(), ..Default::default() };
        let made = self.services.create_service_account(bearer(&root, account)).await.unwrap().into_inner();
        let client_id = made.service_account.unwrap().client_id;
        let rotate = v1::RotateServiceAccountSecretRequest { client_id: client_id.clone(), keep_previous_seconds: 60 };
        let rotated = self.services.rotate_service_account_secret(bearer(&root, rotate)).await.unwrap().into_inner();
        let ask = |client_secret: &str| v1::IssueServiceTokenRequest {
            client_id: client_id.clone(),
            client_secret: client_secret.to_owned(),
            ..Default::default()
        };
        for secret in [made.client_secret, rotated.client_secret] {
            let issued = self.auth.issue_service_token(ask(&secret)).await.unwrap().into_inner();
            for wrong in [GARBAGE, NEW_PASSWORD, &format!("{secret}x"), &issued.access_token] {
                let refused = self.auth.issue_service_token(ask(wrong)).await.unwrap_err();
                assert_eq!(reason(&refused), "INVALID_CLIENT");
            }
            for request in [
                v1::IssueServiceTokenRequest { client_id: secret.clone(), ..ask(&secret) },
                v1::IssueServiceTokenRequest { scope: secret.clone(), ..ask(&secret) },
                v1::IssueServiceTokenRequest { audience: vec![secret.clone()], ..ask(&secret) },
            ] {
                self.auth.issue_service_token(request).await.unwrap_err();
            }
            self.tokens.push(v1::TokenPair {
                access_token: issued.access_token,
                refresh_token: secret,
                session_id: client_id.clone(),
                ..Default::default()
            });
        }
    }

    /// A second factor, as it is meant and as it is not, for an account of its own.
    async fn factor_it(&mut self, database: &TestDatabase) {
        let email = "canary.factors@example.com";
        self.register(email, PASSWORD).await.unwrap();
        database.execute("UPDATE users SET email_verified_time = 1 WHERE email = 'canary.factors@example.com'").await;
        let tokens = self.login(email, PASSWORD).await.unwrap();
        let access = &tokens.access_token;
        for qr_code_format in [1, 2] {
            let asked = bearer(access, v1::EnrollTotpRequest { qr_code_format });
            let enrolment = self.account.enroll_totp(asked).await.unwrap().into_inner();
            let code = factors_codes(&enrolment.secret, &[machine_date().as_seconds()]).await.swap_remove(0);
            self.secrets.extend([enrolment.secret, enrolment.otpauth_uri]);
            for code in [GARBAGE, access] {
                let wrong = bearer(access, v1::ConfirmTotpRequest { code: code.to_owned() });
                assert_eq!(reason(&self.account.confirm_totp(wrong).await.unwrap_err()), "CODE_INVALID");
            }
            if qr_code_format == 2 {
                let right = bearer(access, v1::ConfirmTotpRequest { code });
                let confirmed = self.account.confirm_totp(right).await.unwrap().into_inner();
                self.secrets.extend(confirmed.recovery_codes);
            }
        }
        let access = self.refresh(&tokens.refresh_token).await.unwrap().access_token;
        let more = bearer(&access, v1::GenerateRecoveryCodesRequest {});
        let more = self.account.generate_recovery_codes(more).await.unwrap().into_inner();
        self.secrets.extend(more.recovery_codes);
        assert_eq!(self.secrets.len(), 4 + 20);
    }

    /// Codes and challenges, as they are meant and as they are not, for an account of their own.
    async fn prove_it(&mut self, database: &TestDatabase) {
        self.register(PROVED, PASSWORD).await.unwrap();
        for email in [PROVED, UNKNOWN] {
            let request = v1::SendEmailVerificationRequest { email: email.into() };
            self.auth.send_email_verification(request).await.unwrap();
        }
        self.confirm(&outbox_code(database, PROVED).await).await;
        for identifier in [PROVED, UNKNOWN, TYPED] {
            let request = v1::RequestPasswordResetRequest { identifier: identifier.into() };
            self.auth.request_password_reset(request).await.unwrap();
        }
        let code = outbox_code(database, PROVED).await;
        let reset = |code: &str| v1::ResetPasswordRequest { code: code.into(), new_password: NEW_PASSWORD.into() };
        for wrong in [GARBAGE, &format!("{code}x"), NEW_PASSWORD] {
            assert_eq!(reason(&self.auth.reset_password(reset(wrong)).await.unwrap_err()), "CODE_INVALID");
        }
        self.auth.reset_password(reset(&code)).await.unwrap();
        self.secrets.push(code);

        let tokens = self.login(PROVED, NEW_PASSWORD).await.unwrap();
        let access = tokens.access_token.clone();
        self.secrets.push(tokens.known_device_secret.clone());
        self.move_it(&access, database).await;
        self.sign_in_by_code(&tokens.known_device_secret, database).await;
        // What is left open is in the database.
        let change = v1::ChangeEmailRequest { new_email: "canary.further@example.com".into() };
        self.account.change_email(bearer(&access, change)).await.unwrap();
        for to in [MOVED, "canary.further@example.com"] {
            self.secrets.push(outbox_code(database, to).await);
        }
    }

    /// Confirms an address.
    async fn confirm(&mut self, code: &str) {
        for wrong in [GARBAGE, &format!("{code}x"), NEW_PASSWORD] {
            let refused = self.auth.verify_email(v1::VerifyEmailRequest { code: wrong.into() }).await.unwrap_err();
            assert_eq!(reason(&refused), "CODE_INVALID");
        }
        self.auth.verify_email(v1::VerifyEmailRequest { code: code.into() }).await.unwrap();
        self.secrets.push(code.to_owned());
    }

    /// To another address and another number.
    async fn move_it(&mut self, access: &str, database: &TestDatabase) {
        let change = v1::ChangeEmailRequest { new_email: MOVED.into() };
        self.account.change_email(bearer(access, change)).await.unwrap();
        for to in [PROVED, MOVED] {
            self.confirm(&outbox_code(database, to).await).await;
        }
        let change = v1::ChangePhoneNumberRequest { phone_number: NUMBER.into() };
        let begun = self.account.change_phone_number(bearer(access, change)).await.unwrap().into_inner();
        let code = outbox_code(database, NUMBER).await;
        let verify = |code: &str| {
            let (verification_id, code) = (begun.verification_id.clone(), code.to_owned());
            bearer(access, v1::VerifyPhoneNumberRequest { verification_id, code })
        };
        for wrong in [GARBAGE, NEW_PASSWORD] {
            assert_eq!(reason(&self.account.verify_phone_number(verify(wrong)).await.unwrap_err()), "CODE_INVALID");
        }
        self.account.verify_phone_number(verify(&code)).await.unwrap();
        self.secrets.extend([begun.verification_id.clone(), code]);
    }

    async fn sign_in_by_code(&mut self, device_secret: &str, database: &TestDatabase) {
        for (channel, to) in [(v1::CodeChannel::Email, MOVED), (v1::CodeChannel::Sms, NUMBER)] {
            for identifier in [UNKNOWN, TYPED, MOVED] {
                let device = v1::Device { name: "canary".into(), known_device_secret: device_secret.to_owned() };
                let request = v1::SendLoginCodeRequest {
                    identifier: identifier.into(),
                    channel: channel.into(),
                    device: Some(device),
                    ..Default::default()
                };
                let challenge = self.auth.send_login_code(request).await.unwrap().into_inner().challenge.unwrap();
                let id = challenge.challenge_id;
                let answer = |id: &str, code: &str| v1::CompleteChallengeRequest {
                    challenge_id: id.to_owned(),
                    response: Some(v1::complete_challenge_request::Response::OneTimeCode(code.to_owned())),
                };
                let refused = self.auth.complete_challenge(answer(&id, GARBAGE)).await.unwrap_err();
                assert_eq!(reason(&refused), "CODE_INVALID");
                let code = outbox_code(database, to).await;
                let refused = self.auth.complete_challenge(answer(&format!("{id}x"), &code)).await.unwrap_err();
                assert_eq!(reason(&refused), "CHALLENGE_INVALID");
                if identifier == MOVED {
                    self.auth.complete_challenge(answer(&id, &code)).await.unwrap();
                }
                self.secrets.extend([id, code]);
            }
        }
    }

    /// Every RPC as it is not.
    async fn misuse_it(&mut self) {
        self.register(EMAIL, PASSWORD).await.unwrap_err();
        self.register(&format!("{EMAIL} {TYPED}"), "canary").await.unwrap_err();
        for (identifier, password) in
            [(EMAIL, WRONG_PASSWORD), (UNKNOWN, PASSWORD), (TYPED, PASSWORD), ("x", &PASSWORD.repeat(100))]
        {
            self.login(identifier, password).await.unwrap_err();
        }
        let good = self.login(EMAIL, NEW_PASSWORD).await.unwrap();
        for token in [GARBAGE, &good.access_token, &format!("{}x", good.refresh_token)] {
            self.refresh(token).await.unwrap_err();
            self.logout(token).await;
        }
        for token in [GARBAGE, NEW_PASSWORD, &format!("{}x", good.refresh_token), &format!("{}x", good.access_token)] {
            self.auth.revoke_token(v1::RevokeTokenRequest { token: token.to_owned() }).await.unwrap();
        }
        for token in [GARBAGE, &good.refresh_token, NEW_PASSWORD, &format!("{}x", good.access_token)] {
            let request = v1::VerifyRequest { token: token.to_owned(), audience: vec![], consistency: 0 };
            assert!(!self.auth.verify(request).await.unwrap().into_inner().active);
            self.account.get_account(bearer(token, v1::GetAccountRequest {})).await.unwrap_err();
        }
        let access = &good.access_token;
        self.change_password(access, WRONG_PASSWORD, PASSWORD).await.unwrap_err();
        self.change_password(access, NEW_PASSWORD, "canary").await.unwrap_err();
        for secret in [GARBAGE, &good.refresh_token, access, NEW_PASSWORD] {
            let one = v1::RevokeSessionRequest { session_id: secret.to_owned() };
            self.account.revoke_session(bearer(access, one)).await.unwrap_err();
            let page = v1::ListSessionsRequest { page_size: 1, page_token: secret.to_owned() };
            self.account.list_sessions(bearer(access, page)).await.unwrap_err();
            let request = v1::LoginRequest {
                audience: vec![secret.to_owned()],
                scope: secret.to_owned(),
                device: Some(v1::Device { name: format!("{secret}\n"), ..v1::Device::default() }),
                ..login_request(EMAIL, NEW_PASSWORD)
            };
            self.auth.login(request).await.unwrap_err();
        }
        // A replay.
        let next = self.refresh(&good.refresh_token).await.unwrap();
        self.refresh(&next.refresh_token).await.unwrap();
        surely_later().await;
        assert_eq!(reason(&self.refresh(&good.refresh_token).await.unwrap_err()), "REFRESH_TOKEN_REUSED");
    }

    /// Faults of ours, whose causes go to the log.
    async fn break_it(&mut self, database: &TestDatabase) {
        let good = self.login(EMAIL, NEW_PASSWORD).await.unwrap();
        database.execute("ALTER TABLE audit_events RENAME TO elsewhere").await;
        for failed in [
            self.register("canary.other@example.com", PASSWORD).await.unwrap_err(),
            self.login(EMAIL, NEW_PASSWORD).await.unwrap_err(),
            self.login(TYPED, WRONG_PASSWORD).await.unwrap_err(),
            self.change_password(&good.access_token, NEW_PASSWORD, WRONG_PASSWORD).await.unwrap_err(),
        ] {
            assert_eq!(reason(&failed), "INTERNAL");
        }
        database.execute("ALTER TABLE elsewhere RENAME TO audit_events").await;
        database.execute(&format!("UPDATE sessions SET amr = '{{\"{DAMAGED}\": 1}}'")).await;
        assert_eq!(reason(&self.refresh(&good.refresh_token).await.unwrap_err()), "INTERNAL");
        database.execute(&format!("UPDATE users SET password_hash = '$argon2id${DAMAGED}'")).await;
        // That is for the log alone.
        assert_eq!(reason(&self.login(EMAIL, NEW_PASSWORD).await.unwrap_err()), "INVALID_CREDENTIALS");
    }
}

async fn no_secret_is_written_down_anywhere(backend: Backend) {
    let format = if backend == Backend::Sqlite { "json" } else { "pretty" };
    let database = Arc::new(TestDatabase::migrated(backend).await);
    let (collector, endpoint) = Collector::start().await;
    outbox_keep(&database).await;
    let (mails, texts) = (Receiver::mail().await, Receiver::start("webhook_service.py", &[WEBHOOK_SECRET]).await);
    let process = Process::start(&database, format, endpoint, &mails, &texts).await;
    let channel = process.connect().await;
    let (auth, account) = (AuthServiceClient::new(channel.clone()), AccountServiceClient::new(channel.clone()));
    let services = ServiceAccountAdminServiceClient::new(channel.clone());
    let mut caller = Caller { auth, account, services, tokens: Vec::new(), secrets: Vec::new() };
    caller.use_it().await;
    caller.serve_it(&database).await;
    caller.audit_it(AuditServiceClient::new(channel.clone())).await;
    caller.export_it(UserAdminServiceClient::new(channel.clone())).await;
    caller.manage_users(UserAdminServiceClient::new(channel)).await;
    caller.factor_it(&database).await;
    caller.prove_it(&database).await;
    caller.misuse_it().await;
    let hash = database.texts("SELECT password_hash FROM users").await.swap_remove(0);
    assert!(hash.starts_with("$argon2id$"));
    caller.break_it(&database).await;
    let (tokens, given) = (std::mem::take(&mut caller.tokens), std::mem::take(&mut caller.secrets));
    drop(caller);
    let (status, scrape) = get(process.http, "/metrics").await;
    assert_eq!(status, 200);
    // All ways of writing a code down were gone.
    until("codes were mailed and texted", async || mails.received().len() > 8 && texts.received().len() > 1).await;
    let log = process.stop().await;
    let sent = collector.everything();
    let of_a_hash = "the stored password hash of an account";
    for noise in ["TRACE", "/vouchsafe.v1.AccountService/ChangePassword", "call failed", "replayed", "h2", of_a_hash] {
        assert!(log.contains(noise), "{noise}: too little was logged for this to prove anything");
    }

    let parts = |token: &str| token.split('.').map(str::to_owned).filter(|p| p.len() > 60).collect::<Vec<_>>();
    let mut secrets: Vec<String> =
        [PASSWORD, NEW_PASSWORD, WRONG_PASSWORD, TYPED, GARBAGE, MASTER_KEY].map(String::from).into();
    secrets.push("canary-password".into());
    secrets.push(WEBHOOK_SECRET["whsec_".len()..].to_owned());
    let (digits, given): (Vec<_>, Vec<_>) = given.into_iter().partition(|secret| secret.parse::<u32>().is_ok());
    for prefix in ["vev_", "vpr_", "vch_", "vds_"] {
        assert!(given.iter().any(|secret| secret.starts_with(prefix)), "{prefix}");
    }
    assert!(digits.len() > 2 && digits.iter().all(|code| code.len() == 8));
    secrets.extend(given);
    secrets.extend(tokens.iter().flat_map(|t| [parts(&t.access_token), parts(&t.refresh_token)].concat()));
    assert!(secrets.len() > 30, "the tokens are among them");
    // The header of every token is the same and no secret.
    secrets.retain(|secret| !tokens[0].access_token.starts_with(secret.as_str()));
    let mut unlogged = secrets.clone();
    unlogged.extend(
        [
            "$argon2",
            DAMAGED,
            "PRIVATE KEY",
            "Canary.Mailbox",
            "canary.mailbox",
            "canary.stranger",
            "canary.other",
            "canary.managed",
            "canary.proved",
            "canary.moved",
            "canary.further",
            NUMBER,
        ]
        .map(String::from),
    );
    unlogged.push(hash.rsplit('$').next().unwrap().to_owned());
    if let Location::Postgres(url) = database.location() {
        unlogged.push(url.expose().to_owned());
        unlogged.push(url.expose().split(['@', ':']).nth(2).unwrap().to_owned());
    }
    for secret in &unlogged {
        let line = log.lines().find(|line| line.contains(secret.as_str()));
        assert_eq!(line, None, "{secret}");
    }
    for line in log.lines() {
        assert!(!has_a_handle(line), "{line}");
        assert!(!digits.iter().any(|code| has_number(line, code)), "{line}");
    }
    for there in ["AccountService/ChangePassword", "password_hash", "refresh_replays", "create_session"] {
        let there_is = sent.contains(there) || scrape.contains(there);
        assert!(there_is, "{there}: too little was sent for this to prove anything");
    }
    // What leaves for others to keep has nothing personal in it either, nor what callers are free to write.
    unlogged.extend(["anary", "example.com", "127.0.0.1", AGENT, REQUEST_ID, TRACE_STATE].map(String::from));
    unlogged.extend(tokens.iter().map(|t| t.session_id.clone()));
    for secret in &unlogged {
        assert!(!sent.contains(secret.as_str()), "{secret} was sent to the collector");
        assert!(!scrape.contains(secret.as_str()), "{secret} is in the scrape");
    }
    assert!(!has_a_handle(&sent) && !has_a_handle(&scrape));
    for code in &digits {
        assert!(!has_number(&sent, code) && !has_number(&scrape, code), "{code}");
    }
    assert_nothing_is_stored(&database, &secrets, &digits).await;
    database.remove().await;
}

/// Whether a text has a code or handle of ours in it, whosoever it is.
fn has_a_handle(text: &str) -> bool {
    let of_it = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_".contains(byte);
    ["vev_", "vpr_", "vch_", "vds_"].iter().any(|prefix| {
        text.match_indices(prefix)
            .any(|(at, _)| text.as_bytes()[at + prefix.len()..].iter().take_while(|b| of_it(b)).count() >= 43)
    })
}

/// Whether a number stands in a text by itself, and not as a part of a longer one or of an id.
fn has_number(text: &str, number: &str) -> bool {
    let apart = |c: Option<char>| c.is_none_or(|c| !c.is_ascii_alphanumeric());
    text.match_indices(number)
        .any(|(at, _)| apart(text[..at].chars().next_back()) && apart(text[at + number.len()..].chars().next()))
}

#[test]
fn handles_and_numbers_are_found_where_they_are() {
    let handle = format!("x vev_{}.", "aB3_-".repeat(9));
    assert!(has_a_handle(&handle) && !has_a_handle(&handle[..30]));
    assert!(has_number("a=12345678,", "12345678") && has_number("12345678", "12345678"));
    assert!(!has_number("a12345678", "12345678") && !has_number("0.123456789", "12345678"));
}

async fn assert_nothing_is_stored(database: &TestDatabase, secrets: &[String], digits: &[String]) {
    for table in [
        "users",
        "sessions",
        "feed",
        "signing_keys",
        "refresh_keys",
        "data_keys",
        "audit_events",
        "service_accounts",
        "service_account_secrets",
        "create_requests",
        "totp_factors",
        "recovery_codes",
        "mailed_codes",
        "challenges",
        "email_changes",
        "known_devices",
        "outbox_kept",
        "throttles",
        "budgets",
    ] {
        let dump = database.dump(table).await;
        assert!(!dump.is_empty(), "{table}");
        for secret in secrets {
            assert!(!dump.contains(secret.as_str()), "{secret} in {table}");
        }
        assert!(!has_a_handle(&dump) && !digits.iter().any(|code| has_number(&dump, code)), "{table}");
    }
    // In the audit trail nothing personal is in plain sight either.
    let trail = database.dump("audit_events").await;
    assert!(trail.contains("login.failed") && trail.contains("unknown_identifier"));
    for personal in ["anary.", "mailbox", "stranger", "canary-agent", "127.0.0.1"] {
        assert!(!trail.contains(personal), "{personal} in the audit trail");
    }
}
