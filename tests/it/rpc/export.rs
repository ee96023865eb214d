//! `ExportAccount` and `ExportUser`: everything that is kept of a person, and of nobody else.

mod columns;
mod streams;

use prost::Message as _;
use tonic::{
    Request, Status, Streaming,
    transport::{Channel, Endpoint},
};
use vouchsafe::{
    crypto::machine_date,
    pb::v1::{
        self, account_service_client::AccountServiceClient, auth_service_client::AuthServiceClient,
        login_response::Outcome, personal_record::Record, role_admin_service_client::RoleAdminServiceClient,
        user_admin_service_client::UserAdminServiceClient,
    },
};

use self::{
    columns::every_column_is_told_or_not_for_a_reason,
    streams::{
        an_export_ends_where_it_began, an_export_ends_with_the_right_to_it, an_export_takes_a_recent_sign_in,
        exports_of_one_account_come_one_by_one, nobody_is_given_what_may_be_somebody_elses,
        nobody_is_given_who_may_do_more, who_is_not_there_has_nothing,
    },
};
use super::on_both_databases;
use crate::support::{
    Backend, PASSWORD, TestDatabase, TestNode, bearer, factors_codes, login_request,
    outbox::{outbox_code, outbox_keep},
};

on_both_databases!(
    everything_that_is_kept_is_told_and_nothing_of_others,
    every_column_is_told_or_not_for_a_reason,
    an_export_takes_a_recent_sign_in,
    an_export_ends_with_the_right_to_it,
    exports_of_one_account_come_one_by_one,
    nobody_is_given_what_may_be_somebody_elses,
    nobody_is_given_who_may_do_more,
    an_export_ends_where_it_began,
    who_is_not_there_has_nothing,
);

const NEW_PASSWORD: &str = "another correct horse battery";
const REQUEST: &str = "6f2a4f7e-2f0d-4f4c-9a51-6f0a3f1c9b7d";
const OTHER_REQUEST: &str = "0d4fb2a4-1a0e-4a53-8d7a-0f6a3f1c9b7e";
const IMPORT: &str = "9b1c1f3a-6f0a-4a51-9f4c-2f0d6f2a4f7e";
const NUMBER: &str = "+493055512345";

/// All records of a stream.
async fn all<M>(
    mut stream: Streaming<M>,
    records: impl Fn(M) -> Vec<v1::PersonalRecord>,
) -> Result<Vec<Record>, Status> {
    let mut found = Vec::new();
    while let Some(message) = stream.message().await? {
        found.extend(records(message).into_iter().map(|record| record.record.unwrap()));
    }
    Ok(found)
}

async fn export_account(node: &TestNode, token: &str) -> Result<Vec<Record>, Status> {
    let request = bearer(token, v1::ExportAccountRequest {});
    all(node.account().await.export_account(request).await?.into_inner(), |message| message.records).await
}

async fn export_user(node: &TestNode, token: &str, user_id: &str) -> Result<Vec<Record>, Status> {
    let request = bearer(token, v1::ExportUserRequest { user_id: user_id.to_owned() });
    let mut users = UserAdminServiceClient::new(node.shared().await);
    all(users.export_user(request).await?.into_inner(), |message| message.records).await
}

/// Somebody who calls from an address of their own, with a program of their own.
struct Caller {
    channel: Channel,
    address: &'static str,
    token: String,
}

impl Caller {
    async fn at(node: &TestNode, address: &'static str, agent: &'static str) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://{}", node.grpc)).unwrap();
        let channel = endpoint.user_agent(agent).unwrap().connect().await.unwrap();
        Self { channel, address, token: String::new() }
    }

    fn auth(&self) -> AuthServiceClient<Channel> {
        AuthServiceClient::new(self.channel.clone())
    }

    fn account(&self) -> AccountServiceClient<Channel> {
        AccountServiceClient::new(self.channel.clone())
    }

    fn users(&self) -> UserAdminServiceClient<Channel> {
        UserAdminServiceClient::new(self.channel.clone())
    }

    fn ask<T>(&self, message: T) -> Request<T> {
        let mut request = if self.token.is_empty() { Request::new(message) } else { bearer(&self.token, message) };
        request.metadata_mut().insert("x-forwarded-for", self.address.parse().unwrap());
        request
    }

    /// Signs in on a device of this name.
    async fn login(&mut self, identifier: &str, password: &str, device: &str) -> Result<Outcome, Status> {
        self.token.clear();
        let device = Some(v1::Device { name: device.to_owned(), ..v1::Device::default() });
        let request = v1::LoginRequest { device, ..login_request(identifier, password) };
        let outcome = self.auth().login(self.ask(request)).await?.into_inner().outcome.unwrap();
        if let Outcome::Tokens(tokens) = &outcome {
            self.token.clone_from(&tokens.access_token);
        }
        Ok(outcome)
    }

    async fn sign_in(&mut self, identifier: &str, password: &str, device: &str) -> v1::TokenPair {
        match self.login(identifier, password, device).await.unwrap() {
            Outcome::Tokens(tokens) => tokens,
            Outcome::Challenge(_) => panic!("a challenge"),
        }
    }
}

fn object(text: &str) -> prost_types::Struct {
    let serde_json::Value::Object(members) = serde_json::from_str(text).unwrap() else { panic!("no object") };
    let value = |value: serde_json::Value| prost_types::Value {
        kind: Some(prost_types::value::Kind::StringValue(value.as_str().unwrap().to_owned())),
    };
    prost_types::Struct { fields: members.into_iter().map(|(name, v)| (name, value(v))).collect() }
}

/// What a person leaves behind, and the secrets in it.
struct Life {
    node: TestNode,
    root: Caller,
    ada: Caller,
    user: v1::User,
    session: String,
    secrets: Vec<String>,
}

impl Life {
    async fn lived(backend: Backend) -> Self {
        let database = std::sync::Arc::new(TestDatabase::migrated(backend).await);
        outbox_keep(&database).await;
        // Nobody takes messages there, so they wait.
        let node = TestNode::on(database).set("notify.email=smtp").set("notify.smtp_url=smtp://127.0.0.1:1?tls=none");
        let node = node.set("notify.from=noreply@example.com").set("notify.sms=log");
        let node = node.set("grpc.trusted_proxies=127.0.0.0/8").start().await;
        node.join("root", &["admin"], "").await;
        let mut root = Caller::at(&node, "203.0.113.9", "root-agent/1.0").await;
        root.sign_in("root@example.com", PASSWORD, "Root's desk").await;
        let mut ada = Caller::at(&node, "198.51.100.7", "ada-agent/1.0").await;
        let user = employ(&root, &node).await;
        let first = ada.sign_in("ada", PASSWORD, "Ada's laptop").await;
        let mut life = Self { node, root, ada, user, session: String::new(), secrets: vec![PASSWORD.to_owned()] };
        life.node.logout(&first.refresh_token).await.unwrap();
        life.note(&first);
        life.others().await;
        life.prove_and_change().await;
        life.work().await;
        life
    }

    fn note(&mut self, tokens: &v1::TokenPair) {
        let given = [&tokens.access_token, &tokens.refresh_token, &tokens.known_device_secret].map(Clone::clone);
        self.secrets.extend(given.into_iter().filter(|secret| !secret.is_empty()));
    }

    /// Others, who try to get at her account, and who have accounts of their own.
    async fn others(&mut self) {
        let mut stranger = Caller::at(&self.node, "192.0.2.66", "stranger-agent/1.0").await;
        stranger.login("ada", "wrong password of a stranger", "x").await.unwrap_err();
        self.node.register_verified("bob@example.com").await;
        let mut bob = Caller::at(&self.node, "203.0.113.77", "bob-agent/1.0").await;
        bob.sign_in("bob@example.com", PASSWORD, "Bob's phone").await;
        let hers = v1::ChangeEmailRequest { new_email: "ada@example.com".into() };
        bob.account().change_email(bob.ask(hers)).await.unwrap();
    }

    /// An app, another password, and changes that wait.
    async fn prove_and_change(&mut self) {
        let tokens = self.ada.sign_in("ada", PASSWORD, "Ada's desk").await;
        let enroll = self.ada.ask(v1::EnrollTotpRequest::default());
        let secret = self.ada.account().enroll_totp(enroll).await.unwrap().into_inner().secret;
        let code = factors_codes(&secret, &[machine_date().as_seconds()]).await.swap_remove(0);
        let confirm = self.ada.ask(v1::ConfirmTotpRequest { code });
        let codes = self.ada.account().confirm_totp(confirm).await.unwrap().into_inner().recovery_codes;
        self.secrets.extend(codes);
        self.secrets.push(secret);
        self.note(&tokens);
        let tokens = self.node.refresh(&tokens.refresh_token).await.unwrap();
        self.ada.token.clone_from(&tokens.access_token);
        self.session.clone_from(&tokens.session_id);
        self.note(&tokens);
        self.node.change_password(&self.ada.token, PASSWORD, NEW_PASSWORD).await.unwrap();
        self.secrets.push(NEW_PASSWORD.to_owned());

        let email = v1::ChangeEmailRequest { new_email: "Ada.New@example.com".into() };
        self.ada.account().change_email(self.ada.ask(email)).await.unwrap();
        let number = v1::ChangePhoneNumberRequest { phone_number: NUMBER.into() };
        let begun = self.ada.account().change_phone_number(self.ada.ask(number)).await.unwrap().into_inner();
        self.secrets.push(begun.verification_id);
        for to in ["ada@example.com", "ada.new@example.com", NUMBER] {
            self.secrets.push(outbox_code(&self.node.database, to).await);
        }
        let mut tablet = Caller::at(&self.node, "198.51.100.8", "tablet-agent/1.0").await;
        let Outcome::Challenge(waiting) = tablet.login("ada", NEW_PASSWORD, "Ada's tablet").await.unwrap() else {
            panic!("no second factor was asked for")
        };
        self.secrets.push(waiting.challenge_id);
        let id = self.node.database.id(&uuid::Uuid::from_u128(77));
        let registration = format!(
            "INSERT INTO registrations (id, email, email_key, username, display_name, locale, password_hash, create_time, \
             expire_time) VALUES ({id}, 'ADA@example.com', 'ada@example.com', 'ada-again', 'Ada again', 'de', \
             '$argon2id$v=19$hash', 5, 9000000000000000)"
        );
        assert_eq!(self.node.database.execute(&registration).await, 1);
    }

    /// What she does to others, as she may.
    async fn work(&mut self) {
        let dora = v1::CreateUserRequest {
            email: "dora@example.com".into(),
            request_id: OTHER_REQUEST.into(),
            ..v1::CreateUserRequest::default()
        };
        self.ada.users().create_user(self.ada.ask(dora)).await.unwrap();
        let options = v1::ImportOptions { import_id: IMPORT.into(), validate_only: false };
        let begin = v1::ImportUsersRequest { options: Some(options), ..v1::ImportUsersRequest::default() };
        let carl = v1::ImportUser { email: "carl@example.com".into(), ..v1::ImportUser::default() };
        let rows = v1::ImportUsersRequest { first_row: 1, users: vec![carl], ..v1::ImportUsersRequest::default() };
        let import = self.ada.ask(tokio_stream::iter([begin, rows]));
        assert_eq!(self.ada.users().import_users(import).await.unwrap().into_inner().imported, 1);
    }
}

/// Has an administrator create Ada, and give her what administrators give.
async fn employ(root: &Caller, node: &TestNode) -> v1::User {
    let role = v1::Role {
        name: "clerk".into(),
        description: "Brings people in".into(),
        permissions: vec!["users:import".into(), "users:write".into()],
        custom_claims: Some(object(r#"{"desk": "seven"}"#)),
        ..v1::Role::default()
    };
    let mut roles = RoleAdminServiceClient::new(node.shared().await);
    roles.create_role(root.ask(v1::CreateRoleRequest { role: Some(role) })).await.unwrap();
    let ada = v1::CreateUserRequest {
        email: "Ada@example.com".into(),
        username: "ada".into(),
        password: PASSWORD.into(),
        display_name: "Ada Lovelace".into(),
        email_verified: true,
        roles: vec!["clerk".into()],
        attributes: Some(object(r#"{"customer": "c-4711"}"#)),
        custom_claims: Some(object(r#"{"plan": "gold"}"#)),
        request_id: REQUEST.into(),
        ..v1::CreateUserRequest::default()
    };
    let user = root.users().create_user(root.ask(ada)).await.unwrap().into_inner().user.unwrap();
    let update = v1::User { id: user.id.clone(), locale: "de".into(), ..v1::User::default() };
    let update = v1::UpdateUserRequest {
        user: Some(update),
        update_mask: Some(prost_types::FieldMask { paths: vec!["locale".into()] }),
    };
    root.users().update_user(root.ask(update)).await.unwrap().into_inner().user.unwrap()
}

/// The records of one kind.
macro_rules! of_kind {
    ($records:expr, $kind:ident) => {
        $records
            .iter()
            .filter_map(|record| if let Record::$kind(record) = record { Some(record) } else { None })
            .collect::<Vec<_>>()
    };
}

async fn everything_that_is_kept_is_told_and_nothing_of_others(backend: Backend) {
    let life = Life::lived(backend).await;
    let exported = {
        let request = life.ada.ask(v1::ExportAccountRequest {});
        let stream = life.ada.account().export_account(request).await.unwrap().into_inner();
        all(stream, |message| message.records).await.unwrap()
    };
    let given = {
        let request = life.root.ask(v1::ExportUserRequest { user_id: life.user.id.clone() });
        let stream = life.root.users().export_user(request).await.unwrap().into_inner();
        all(stream, |message| message.records).await.unwrap()
    };
    for records in [&exported, &given] {
        account_and_sessions(&life, records);
        what_waits(&life, records);
        events(&life, records);
        let Some(Record::End(end)) = records.last() else { panic!("no end") };
        assert_eq!(usize::try_from(end.records).unwrap(), records.len() - 1);
        assert!(end.begin_time.is_some() && end.end_time.is_some());
        assert!(matches!(records[0], Record::Account(_)));
        nothing_of_others(&life, records);
    }
    let acts = |records: &[Record]| of_kind!(records, Event).iter().map(|event| event.act.clone()).collect::<Vec<_>>();
    // Before the first record was sent.
    assert_eq!(acts(&exported).iter().filter(|act| *act == "account.exported").count(), 1);
    assert_eq!(acts(&given).iter().filter(|act| *act == "user.exported").count(), 1);
    assert_eq!(given.len(), exported.len() + 1, "there is one event more");
    life.node.remove().await;
}

fn account_and_sessions(life: &Life, records: &[Record]) {
    let [account] = of_kind!(records, Account)[..] else { panic!("one account") };
    let user = account.user.as_ref().unwrap();
    assert_eq!((user.id.as_str(), user.email.as_str()), (life.user.id.as_str(), "Ada@example.com"));
    assert_eq!((user.username.as_str(), user.display_name.as_str()), ("ada", "Ada Lovelace"));
    assert_eq!((user.locale.as_str(), user.state()), ("de", v1::UserState::Active));
    assert_eq!(user.attributes, Some(object(r#"{"customer": "c-4711"}"#)));
    assert_eq!(user.custom_claims, Some(object(r#"{"plan": "gold"}"#)));
    assert!(user.has_password && user.totp_enrolled && account.email_verified_time.is_some());
    assert_eq!(account.password_scheme, "argon2id");
    let moment = |time: Option<prost_types::Timestamp>| time.map(|time| (time.seconds, time.nanos)).unwrap();
    assert!(moment(account.password_time) > moment(user.create_time) && account.epoch > 1);
    let [former] = &account.former_passwords[..] else { panic!("one former password") };
    assert_eq!((former.scheme.as_str(), former.replace_time), ("argon2id", account.password_time));
    let totp = account.totp.as_ref().unwrap();
    assert!(totp.create_time.is_some() && totp.confirm_time.is_some() && totp.last_code_time.is_some());
    assert_eq!(account.recovery_codes_left, 10);
    assert!(account.recovery_codes_time.is_some());

    let [role] = of_kind!(records, Role)[..] else { panic!("one role") };
    assert_eq!((role.name.as_str(), role.description.as_str()), ("clerk", "Brings people in"));
    assert_eq!(role.permissions, ["users:import", "users:write"]);
    assert_eq!(role.custom_claims, Some(object(r#"{"desk": "seven"}"#)));
    assert!(role.assign_time.is_some());

    let sessions = of_kind!(records, Session);
    let names: Vec<_> = sessions.iter().map(|session| session.device_name.as_str()).collect();
    assert_eq!(names, ["Ada's laptop", "Ada's desk"]);
    assert_eq!(sessions.iter().map(|session| session.live).collect::<Vec<_>>(), [false, true]);
    assert_eq!((sessions[0].end_reason.as_str(), sessions[0].end_time.is_some()), ("logout", true));
    for session in &sessions {
        assert_eq!(session.ip_address, "198.51.100.7");
        assert!(session.user_agent.starts_with("ada-agent/1.0"), "{}", session.user_agent);
        assert!(session.audience.contains(&"vouchsafe".to_owned()) && session.amr.contains(&"pwd".to_owned()));
        assert!(session.create_time.is_some() && session.auth_time.is_some() && session.refresh_time.is_some());
    }
    assert_eq!(sessions[1].id, life.session);
    assert_eq!(sessions[1].refreshes - sessions[0].refreshes, 1);
    let devices: Vec<_> = of_kind!(records, Device).iter().map(|device| device.id.clone()).collect();
    assert!(devices.contains(&sessions[1].device_id), "{devices:?}");
}

fn what_waits(life: &Life, records: &[Record]) {
    let changes = of_kind!(records, EmailChange);
    let [own] = changes.iter().filter(|change| !change.id.is_empty()).collect::<Vec<_>>()[..] else { panic!("one") };
    assert_eq!((own.old_email.as_str(), own.new_email.as_str()), ("ada@example.com", "Ada.New@example.com"));
    let [other] = changes.iter().filter(|change| change.id.is_empty()).collect::<Vec<_>>()[..] else { panic!("one") };
    assert_eq!((other.old_email.as_str(), other.new_email.as_str(), other.create_time.is_some()), ("", "", true));

    let [registration] = of_kind!(records, Registration)[..] else { panic!("one registration") };
    assert_eq!(registration.email, "ADA@example.com");
    assert_eq!(registration.create_time.map(|time| time.nanos), Some(5_000));

    let codes: Vec<_> =
        of_kind!(records, Code).iter().map(|code| (code.purpose.as_str(), code.email.as_str())).collect();
    for code in [("change_old", "ada@example.com"), ("change_new", "ada.new@example.com")] {
        assert!(codes.contains(&code), "{codes:?}");
    }
    let challenges = of_kind!(records, Challenge);
    let of = |kind: &str| *challenges.iter().find(|challenge| challenge.kind == kind).unwrap();
    assert_eq!(of("phone").phone_number, NUMBER);
    let waiting = of("second_factor");
    assert_eq!((waiting.device_name.as_str(), waiting.ip_address.as_str()), ("Ada's tablet", "198.51.100.8"));
    assert!(waiting.user_agent.starts_with("tablet-agent/1.0") && waiting.expire_time.is_some());

    let messages = of_kind!(records, Message);
    let told = |kind: &str| messages.iter().find(|message| message.kind == kind).unwrap();
    assert_eq!(told("leave_email").address, "Ada@example.com");
    assert_eq!(told("leave_email").content, Some(object(r#"{"new_email": "Ada.New@example.com"}"#)));
    assert_eq!((told("adopt_email").address.as_str(), &told("adopt_email").content), ("Ada.New@example.com", &None));
    assert!(messages.iter().all(|message| message.locale == "de"));
    assert!(messages.iter().any(|message| message.kind == "password_changed"));

    let [import] = of_kind!(records, Import)[..] else { panic!("one import") };
    assert_eq!((import.id.as_str(), import.imported), (IMPORT, 1));
    let mut requests: Vec<_> =
        of_kind!(records, Request).iter().map(|request| (request.request_id.as_str(), request.asked)).collect();
    requests.sort_unstable();
    assert_eq!(requests, [(OTHER_REQUEST, true), (REQUEST, false)]);
    let revocations = of_kind!(records, Revocation);
    assert!(revocations.iter().any(|entry| entry.session_id.is_empty() && entry.spared_session_id == life.session));
    assert!(revocations.iter().any(|entry| !entry.session_id.is_empty() && entry.session_id != life.session));
}

fn events(life: &Life, records: &[Record]) {
    let events = of_kind!(records, Event);
    let of = |act: &str| events.iter().filter(|event| event.act == act).collect::<Vec<_>>();
    for login in of("login.succeeded") {
        assert_eq!((login.subject_id.as_str(), login.ip_address.as_str()), (life.user.id.as_str(), "198.51.100.7"));
        assert!(login.user_agent.starts_with("ada-agent/1.0"));
    }
    let [failed] = of("login.failed")[..] else { panic!("one failure") };
    assert_eq!((failed.actor.as_str(), failed.ip_address.as_str()), ("anonymous", "192.0.2.66"));
    // By an administrator: that it was one, and neither who nor from where.
    for act in ["user.created", "user.updated"] {
        let about: Vec<_> = of(act).into_iter().filter(|event| event.subject_id == life.user.id).collect();
        let [event] = about[..] else { panic!("{act}") };
        assert_eq!((event.actor.as_str(), event.actor_id.as_str(), event.ip_address.as_str()), ("user", "", ""));
        assert_eq!(event.request_id, "");
    }
    // By her, about somebody else.
    for (act, times) in [("user.created", 1), ("user.imported", 1)] {
        let by: Vec<_> = of(act).into_iter().filter(|event| event.actor_id == life.user.id).collect();
        assert_eq!(by.len(), times, "{act}");
        assert!(by.iter().all(|event| event.subject_id.is_empty()));
    }
    assert!(!of("totp.enrolled").is_empty() && !of("password.changed").is_empty());
    assert!(events.iter().all(|event| event.link.is_none() && event.personal_sealed.is_empty()));
    let mut ids: Vec<_> = events.iter().map(|event| event.event_id.as_str()).collect();
    ids.sort_unstable();
    assert!(ids.windows(2).all(|pair| pair[0] != pair[1]), "each once");
}

/// No secret, and nothing that is somebody else's.
fn nothing_of_others(life: &Life, records: &[Record]) {
    let text = format!("{records:?}");
    let bytes: Vec<u8> =
        records.iter().flat_map(|record| v1::PersonalRecord { record: Some(record.clone()) }.encode_to_vec()).collect();
    assert!(text.len() > 5_000 && life.secrets.len() > 20 && life.secrets.iter().all(|secret| secret.len() > 5));
    // Who wants an account under her address says what they like of themselves.
    let again = ["ada-again", "Ada again"];
    let foreign = ["bob", "Bob", "root", "Root", "carl", "dora", "203.0.113", "$argon2", "wrong password"];
    let foreign = foreign.into_iter().chain(again);
    for there in life.secrets.iter().map(String::as_str).chain(foreign) {
        if there.bytes().all(|byte| byte.is_ascii_digit()) {
            // A part of some moment, perhaps.
            assert!(!text.contains(&format!("\"{there}\"")), "{there} is in the export");
            continue;
        }
        assert!(!text.contains(there), "{there} is in the export");
        let found = bytes.windows(there.len()).any(|window| window == there.as_bytes());
        assert!(!found, "{there} is in the export");
    }
}
