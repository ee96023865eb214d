//! Who is deleted is gone: from the database's own copy of itself, from SQLite's files, from Redis, as raw bytes. What the trail says of
//! others stays, and so does the trail.

use std::{collections::BTreeSet, path::Path, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use prost_types::{Struct, Value as PbValue, value::Kind};
use tokio::process::Command;
use tonic::transport::{Channel, Endpoint};
use uuid::Uuid;
use vouchsafe::{
    crypto::{MasterKey, MessageSeal, machine_date},
    domain::notice::{Message, Recipient},
    pb::v1::{
        self, account_service_client::AccountServiceClient, audit_service_client::AuditServiceClient,
        auth_service_client::AuthServiceClient,
    },
    service::open_message,
    store::Location,
};

use super::{Admin, give, role};
use crate::{
    rpc::on_forms,
    state::own::OwnRedis,
    support::{
        Backend, MASTER_KEY, ManualClock, PASSWORD, TestDatabase, TestNode, TestNodeBuilder, bearer, forwarded, hex,
        login_request,
        notify::store_on,
        outbox::{outbox_code, outbox_keep},
        until,
    },
};

on_forms!([sqlite Sqlite postgres Postgres redis Redis] [who_was_deleted_is_nowhere]);
on_forms!([sqlite_file Sqlite postgres_alone Postgres] [an_address_and_an_agent_go_with_whoever_they_are_of what_has_expired_is_deleted what_others_left_goes_with_a_proved_address_only]);
on_forms!([redis_away Redis] [records_go_when_redis_is_back]);

/// Somebody with everything there is to be known about a person.
struct Person {
    user: v1::User,
    tokens: v1::TokenPair,
    /// What is known, and what it is.
    marks: Vec<(&'static str, String)>,
    channel: Channel,
    address: &'static str,
}

fn said(name: &str, text: &str) -> Struct {
    let value = PbValue { kind: Some(Kind::StringValue(text.to_owned())) };
    Struct { fields: [(name.to_owned(), value)].into_iter().collect() }
}

impl Person {
    /// Nobody's way to the database is gone but the node's: what others write there, SQLite would not overwrite.
    async fn join(node: &TestNode, admin: &Admin, tag: &str, number: &str, address: &'static str) -> Self {
        let email = format!("{tag}.mail@example.com");
        let request = v1::CreateUserRequest {
            email: email.clone(),
            email_verified: true,
            username: format!("{tag}-name"),
            password: PASSWORD.into(),
            display_name: format!("{tag} shown"),
            attributes: Some(said("note", &format!("{tag}-attribute"))),
            custom_claims: Some(said("https://example.com/note", &format!("{tag}-claim"))),
            ..Default::default()
        };
        let user = admin.create(request).await.unwrap();
        give(node, &user.id, "keeper").await;
        let endpoint = Endpoint::from_shared(format!("http://{}", node.grpc)).unwrap();
        let channel = endpoint.user_agent(format!("{tag}-agent")).unwrap().connect().await.unwrap();
        let mut auth = AuthServiceClient::new(channel.clone());
        auth.login(forwarded(address, login_request(&email, "wrong"))).await.unwrap_err();
        let device = Some(v1::Device { name: format!("{tag} laptop"), ..Default::default() });
        let login = v1::LoginRequest { device, ..login_request(&email, PASSWORD) };
        let answer = auth.login(forwarded(address, login)).await.unwrap().into_inner();
        let Some(v1::login_response::Outcome::Tokens(tokens)) = answer.outcome else { panic!("a challenge") };
        let marks = vec![
            ("e-mail address", email),
            ("user name", user.username.clone()),
            ("display name", user.display_name.clone()),
            ("attribute", format!("{tag}-attribute")),
            ("custom claim", format!("{tag}-claim")),
            ("device", format!("{tag} laptop")),
            ("agent", format!("{tag}-agent")),
            ("address", address.to_owned()),
            ("phone number", number.to_owned()),
            ("e-mail address to be", format!("{tag}.new@example.com")),
        ];
        let person = Self { user, tokens, marks, channel, address };
        person.go_on(node, number).await;
        person
    }

    fn account(&self) -> AccountServiceClient<Channel> {
        AccountServiceClient::new(self.channel.clone())
    }

    fn ask<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = bearer(&self.tokens.access_token, message);
        request.metadata_mut().insert("x-forwarded-for", self.address.parse().unwrap());
        request
    }

    /// A phone number, a change of address that waits, a code that waits, a counter in Redis.
    async fn go_on(&self, node: &TestNode, number: &str) {
        let change = v1::ChangePhoneNumberRequest { phone_number: number.into() };
        let begun = self.account().change_phone_number(self.ask(change)).await.unwrap().into_inner();
        let code = outbox_code(&node.database, number).await;
        let verify = v1::VerifyPhoneNumberRequest { verification_id: begun.verification_id, code };
        self.account().verify_phone_number(self.ask(verify)).await.unwrap();
        let change = v1::ChangeEmailRequest { new_email: self.mark("e-mail address to be").into() };
        self.account().change_email(self.ask(change)).await.unwrap();
        let reset = v1::RequestPasswordResetRequest { identifier: self.user.email.clone() };
        node.auth().await.request_password_reset(reset).await.unwrap();
        node.refresh(&self.tokens.refresh_token).await.unwrap();
    }

    fn mark(&self, what: &str) -> &str {
        &self.marks.iter().find(|(name, _)| *name == what).unwrap().1
    }

    /// What is known of the person in these bytes, as text, in hexadecimal or in base64.
    fn found_in(&self, bytes: &[u8]) -> BTreeSet<&'static str> {
        // Every mark is ASCII, which this leaves as it is.
        let text = String::from_utf8_lossy(bytes);
        let in_base64 = |mark: &str| {
            (0..3).any(|shift| {
                let encoded = STANDARD_NO_PAD.encode([&vec![0; shift][..], mark.as_bytes()].concat());
                // Without what the bytes around it have a part in.
                text.contains(&encoded[(shift * 4).div_ceil(3)..encoded.len() - 2])
            })
        };
        let found = self
            .marks
            .iter()
            .filter(|(_, mark)| text.contains(mark) || text.contains(&hex(mark.as_bytes())) || in_base64(mark));
        found.map(|(name, _)| *name).collect()
    }
}

/// Where a node keeps things, as raw bytes.
struct Kept<'n> {
    node: &'n TestNode,
    redis: Option<&'n OwnRedis>,
}

impl Kept<'_> {
    async fn database(&self) -> Vec<u8> {
        match self.node.database.schema_location() {
            Location::Sqlite(path) => {
                let mut bytes = std::fs::read(&path).unwrap();
                for beside in ["-wal", "-shm", "-journal"] {
                    let mut name = path.clone().into_os_string();
                    name.push(beside);
                    // Not all of them are there.
                    bytes.extend(std::fs::read(name).unwrap_or_default());
                }
                bytes
            }
            Location::Postgres(url) | Location::PgBouncer(url) => {
                let bin = std::env::var("VOUCHSAFE_TEST_PG_BIN").expect("VOUCHSAFE_TEST_PG_BIN: run by `make test`");
                let mut dump = Command::new(Path::new(&bin).join("pg_dump"));
                let done = dump.args(["--format=plain", "--dbname", url.expose()]).output().await.unwrap();
                assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
                done.stdout
            }
        }
    }

    async fn hot_state(&self) -> Vec<u8> {
        let Some(redis) = self.redis else { return Vec::new() };
        let mut bytes = Vec::new();
        for key in redis.ask::<Vec<String>>(&["KEYS", "*"]).await.unwrap() {
            bytes.extend(key.as_bytes());
            match redis.ask::<String>(&["TYPE", &key]).await.unwrap().as_str() {
                // It may have expired by now.
                "string" => {
                    bytes.extend(redis.ask::<Option<Vec<u8>>>(&["GET", &key]).await.unwrap().unwrap_or_default());
                }
                "stream" => {
                    let entries: ::redis::Value = redis.ask(&["XRANGE", &key, "-", "+"]).await.unwrap();
                    flatten(&entries, &mut bytes);
                }
                "none" => {}
                other => panic!("a {other} in Redis, which nobody looks into"),
            }
        }
        bytes
    }
}

fn flatten(value: &::redis::Value, bytes: &mut Vec<u8>) {
    match value {
        ::redis::Value::Array(values) => values.iter().for_each(|value| flatten(value, bytes)),
        ::redis::Value::BulkString(text) => bytes.extend(text),
        other => panic!("{other:?}"),
    }
}

/// What waits in the outbox.
async fn waiting(database: &TestDatabase) -> Vec<Message> {
    let sql = match database.postgres_pool() {
        Some(_) => "SELECT replace(id::text, '-', '') || ' ' || encode(message_sealed, 'hex') FROM outbox",
        None => "SELECT hex(id) || ' ' || hex(message_sealed) FROM outbox",
    };
    let seal = MessageSeal::new(Arc::new(MasterKey::parse(MASTER_KEY).unwrap()));
    let rows = database.texts(sql).await;
    let opened = rows.iter().map(|row| {
        let (id, sealed) = row.split_once(' ').unwrap();
        let sealed: Vec<u8> =
            (0..sealed.len()).step_by(2).map(|i| u8::from_str_radix(&sealed[i..i + 2], 16).unwrap()).collect();
        open_message(&seal, Uuid::try_parse(id).unwrap(), &sealed).unwrap()
    });
    opened.collect()
}

fn goes_to(message: &Message, person: &Person) -> bool {
    match &message.to {
        Recipient::Email(email) => person.marks.iter().any(|(_, mark)| email.key() == mark),
        Recipient::Sms(number) => person.marks.iter().any(|(_, mark)| number.as_str() == mark),
        Recipient::Nobody => false,
    }
}

/// A node whose mails all wait, because nobody takes them.
async fn node(backend: Backend, redis: Option<&OwnRedis>) -> TestNodeBuilder {
    let database = Arc::new(TestDatabase::migrated(if redis.is_some() { Backend::Postgres } else { backend }).await);
    outbox_keep(&database).await;
    let mut node = TestNode::on(database)
        .set("notify.email=smtp")
        .set("notify.from=noreply@example.com")
        .set("notify.smtp_url=smtp://127.0.0.1:9?tls=none")
        .set("notify.sms=log")
        .set("grpc.trusted_proxies=127.0.0.0/8");
    if let Some(redis) = redis {
        node = node.set(&format!("redis.url={}", redis.url()));
    }
    node
}

async fn who_was_deleted_is_nowhere(backend: Backend) {
    let redis = if backend == Backend::Redis { Some(OwnRedis::start(&[]).await) } else { None };
    let node = node(backend, redis.as_ref()).await.start().await;
    let admin = Admin::of(&node).await;
    role(&node, "keeper", &["users:read"]).await;
    let ada = Person::join(&node, &admin, "lady-ada", "+491701234567", "2001:db8::ada").await;
    let grace = Person::join(&node, &admin, "amazing-grace", "+491707654321", "2001:db8::9ace").await;
    // Somebody else's change names the address of one of them, and somebody asks for a code there.
    let change = v1::ChangeEmailRequest { new_email: grace.user.email.clone() };
    node.account().await.change_email(admin.ask(change)).await.unwrap();

    // The search finds what is there.
    let kept = Kept { node: &node, redis: redis.as_ref() };
    let all = |person: &Person| person.marks.iter().map(|(name, _)| *name).collect::<BTreeSet<_>>();
    let database = kept.database().await;
    for person in [&ada, &grace] {
        assert_eq!(person.found_in(&database), all(person));
        assert_eq!(person.found_in(hex(&database[..]).as_bytes()), all(person), "also encoded");
        assert_eq!(person.found_in(STANDARD_NO_PAD.encode(&database).as_bytes()), all(person), "also encoded");
        if redis.is_some() {
            // A refresh that Redis was too slow for leaves its record a moment later.
            until("a record", || async { person.found_in(&kept.hot_state().await) == ["custom claim"].into() }).await;
        }
        assert!(waiting(&node.database).await.iter().any(|message| goes_to(message, person)));
    }

    ada.account().delete_account(ada.ask(v1::DeleteAccountRequest {})).await.unwrap();
    until("one of them is nowhere", || async {
        ada.found_in(&kept.database().await).is_empty() && ada.found_in(&kept.hot_state().await).is_empty()
    })
    .await;
    assert_eq!(grace.found_in(&kept.database().await), all(&grace), "the other one is");
    let farewell = waiting(&node.database).await.into_iter().filter(|message| goes_to(message, &ada)).count();
    assert_eq!(farewell, 1);
    admin.delete(&grace.user.id, "").await.unwrap();
    until("nor is the other", || async {
        grace.found_in(&kept.database().await).is_empty() && grace.found_in(&kept.hot_state().await).is_empty()
    })
    .await;
    assert!(!waiting(&node.database).await.iter().any(|message| goes_to(message, &grace)));
    for person in [&ada, &grace] {
        let id = node.database.id(&person.user.id.parse().unwrap());
        let noted = format!("SELECT COUNT(*) FROM erasures WHERE user_id = {id}");
        assert_eq!(node.database.integer(&noted).await, 1);
        assert_eq!(node.database.integer(&format!("SELECT COUNT(*) FROM data_keys WHERE owner_id = {id}")).await, 0);
    }

    let mut audit = AuditServiceClient::new(admin.channel.clone());
    let verified = audit.verify_audit_chain(admin.ask(v1::VerifyAuditChainRequest::default())).await.unwrap();
    assert!(verified.get_ref().intact, "{verified:?}");
    node.remove().await;
}

/// Every event about or by somebody, oldest first.
async fn events(admin: &Admin, filter: v1::AuditEventFilter) -> Vec<v1::AuditEvent> {
    let order = v1::AuditOrder::OldestFirst.into();
    let request = v1::ListAuditEventsRequest { page_size: 1000, filter: Some(filter), order, ..Default::default() };
    let mut client = AuditServiceClient::new(admin.channel.clone());
    client.list_audit_events(admin.ask(request)).await.unwrap().into_inner().events
}

async fn an_address_and_an_agent_go_with_whoever_they_are_of(backend: Backend) {
    let node = node(backend, None).await.set("sessions.max_per_user=1").start().await;
    let admin = Admin::of(&node).await;
    role(&node, "keeper", &["users:read", "users:write"]).await;
    let mut ada = Person::join(&node, &admin, "lady-ada", "+491701234567", "2001:db8::ada").await;
    // The server ends her first session for the second one: its event has her address.
    let again = forwarded(ada.address, login_request(&ada.user.email, PASSWORD));
    let again = AuthServiceClient::new(ada.channel.clone()).login(again).await.unwrap().into_inner();
    let Some(v1::login_response::Outcome::Tokens(tokens)) = again.outcome else { panic!("a challenge") };
    ada.tokens = tokens;
    let ended = v1::AuditEventFilter { act: "session.ended".into(), actor: "system".into(), ..Default::default() };
    let ended = events(&admin, ended).await;
    assert_eq!((ended.len(), ended[0].ip_address.as_str()), (1, ada.address));
    let bob = admin.user("bob@example.com").await;
    let suspend = v1::SuspendUserRequest { user_id: bob.id.clone() };
    v1::user_admin_service_client::UserAdminServiceClient::new(ada.channel.clone())
        .suspend_user(ada.ask(suspend))
        .await
        .unwrap();
    admin.reactivate(&bob.id).await.unwrap();
    let about_bob = async || {
        let all = events(&admin, v1::AuditEventFilter { subject: bob.id.clone(), ..Default::default() }).await;
        all.into_iter().map(|event| (event.act, event.ip_address)).collect::<Vec<_>>()
    };
    let row = |act: &str, address: &str| (act.to_owned(), address.to_owned());
    let by_admin = [row("user.created", "127.0.0.1"), row("user.reactivated", "127.0.0.1")];
    let [created, reactivated] = by_admin;
    let told = [created.clone(), row("user.suspended", "2001:db8::ada"), reactivated.clone()];
    assert_eq!(about_bob().await, told);

    ada.account().delete_account(ada.ask(v1::DeleteAccountRequest {})).await.unwrap();
    let gone = [created.clone(), row("user.suspended", ""), reactivated.clone()];
    assert_eq!(about_bob().await, gone, "Bob is there, what Ada left in the trail is not");
    let by_ada = events(&admin, v1::AuditEventFilter { actor: ada.user.id.clone(), ..Default::default() }).await;
    assert!(!by_ada.is_empty() && by_ada.iter().all(|event| event.ip_address.is_empty()));
    let about_ada = events(&admin, v1::AuditEventFilter { subject: ada.user.id.clone(), ..Default::default() }).await;
    for event in &about_ada {
        let expected = if event.actor_id == admin.id { "127.0.0.1" } else { "" };
        assert_eq!((event.act.as_str(), event.ip_address.as_str()), (event.act.as_str(), expected));
    }
    assert!(about_ada.iter().any(|event| event.act == "user.created"), "what the administrator did is there");
    assert!(about_ada.iter().any(|event| event.act == "login.failed"), "so is what happened at the door");

    admin.delete(&bob.id, "").await.unwrap();
    let mut left = about_bob().await;
    assert_eq!(left.pop(), Some(row("user.deleted", "127.0.0.1")));
    assert_eq!(left, gone, "whoever deletes is still to be held to it");
    node.remove().await;
}

/// Others wait to change to an address, somebody waits to register it. Then it is an account's, which is deleted.
async fn what_others_left_goes_with_a_proved_address_only(backend: Backend) {
    let node = node(backend, None).await.start().await;
    let admin = Admin::of(&node).await;
    for proved in [false, true] {
        let address = format!("proved-{proved}@example.com");
        let mut others = Vec::new();
        for name in ["bob", "carl"] {
            let other = Admin::with_role(&node, &format!("{name}-{proved}@example.com"), "admin").await;
            let change = v1::ChangeEmailRequest { new_email: address.clone() };
            node.account().await.change_email(other.ask(change)).await.unwrap();
            others.push(node.database.id(&other.id.parse().unwrap()));
        }
        // What Carl asked for is about nobody.
        let (bob, carl) = (&others[0], &others[1]);
        let nobodys = format!("UPDATE outbox SET user_id = NULL WHERE user_id = {carl} AND channel = 'email'");
        assert!(node.database.execute(&nobodys).await > 0);
        let registration = node.database.id(&Uuid::from_u128(u128::from(proved) + 1));
        let registration = format!(
            "INSERT INTO registrations (id, email, email_key, display_name, create_time, expire_time) \
             VALUES ({registration}, '{address}', '{address}', 'Owner', 1, 9000000000000000)"
        );
        assert_eq!(node.database.execute(&registration).await, 1);
        let request = v1::CreateUserRequest { email: address.clone(), email_verified: proved, ..Default::default() };
        let user = admin.create(request).await.unwrap();

        let left = async || {
            let count = async |sql: String| node.database.integer(&sql).await;
            let changes = count(format!("SELECT COUNT(*) FROM email_changes WHERE new_email_key = '{address}'")).await;
            let registered = count(format!("SELECT COUNT(*) FROM registrations WHERE email_key = '{address}'")).await;
            let bobs = count(format!("SELECT COUNT(*) FROM outbox WHERE user_id = {bob}")).await;
            let to = waiting(&node.database).await;
            let to = to.iter().filter(|message| matches!(&message.to, Recipient::Email(to) if to.key() == address));
            (changes, registered, bobs > 0, to.count())
        };
        assert_eq!(left().await, (2, 1, true, 2));
        admin.delete(&user.id, "").await.unwrap();
        let expected = if proved { (0, 0, true, 1) } else { (2, 1, true, 2) };
        assert_eq!(left().await, expected, "the address was proved: {proved}");
        let bobs = format!("SELECT COUNT(*) FROM users WHERE id IN ({bob}, {carl})");
        assert_eq!(node.database.integer(&bobs).await, 2);
    }
    node.remove().await;
}

async fn what_has_expired_is_deleted(backend: Backend) {
    let node = node(backend, None).await.set("registration.require_verified_email=true").start().await;
    let register =
        v1::RegisterRequest { email: "ada@example.com".into(), password: PASSWORD.into(), ..Default::default() };
    node.auth().await.register(register).await.unwrap();
    let reset = v1::RequestPasswordResetRequest { identifier: "nobody@example.com".into() };
    node.auth().await.request_password_reset(reset).await.unwrap();
    let rows = async |table: &str| node.database.integer(&format!("SELECT COUNT(*) FROM {table}")).await;
    assert!(rows("registrations").await == 1 && rows("mailed_codes").await >= 1);
    let clock = Arc::new(ManualClock::new());
    for (hours, left) in [(23, 1), (25, 0)] {
        clock.set(machine_date().plus(Duration::from_hours(hours)));
        let store = store_on(&node.database, clock.clone()).await;
        store.purge_people().await.unwrap();
        store.close().await;
        assert_eq!(rows("registrations").await, left, "after {hours} hours");
    }
    assert_eq!(rows("mailed_codes").await, 0);
    node.remove().await;
}

async fn records_go_when_redis_is_back(backend: Backend) {
    let (redis, clock) = (OwnRedis::start(&[]).await, Arc::new(ManualClock::new()));
    let node = node(backend, Some(&redis)).await.clock(clock.clone()).start().await;
    let admin = Admin::of(&node).await;
    role(&node, "keeper", &["users:read"]).await;
    let ada = Person::join(&node, &admin, "lady-ada", "+491701234567", "2001:db8::ada").await;
    let kept = Kept { node: &node, redis: Some(&redis) };
    until("a record", || async { !ada.found_in(&kept.hot_state().await).is_empty() }).await;
    let other = node.login("root@example.com").await;
    redis.freeze();
    // The node finds out that Redis is away, so that the removal fails at once.
    node.refresh(&other.refresh_token).await.unwrap();
    admin.delete(&ada.user.id, "").await.unwrap();
    redis.thaw();
    assert!(!ada.found_in(&kept.hot_state().await).is_empty(), "nobody could remove it");
    clock.advance(Duration::from_mins(2));
    until("it is removed", || async { ada.found_in(&kept.hot_state().await).is_empty() }).await;
    node.remove().await;
}
