//! A change of the master key, as users meet it: not at all.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tonic::Request;
use vouchsafe::{
    crypto::{MasterKey, SystemEntropy, machine_date, seal::hex},
    domain::time::Timestamp,
    pb::v1::{self, auth_service_client::AuthServiceClient},
    server::{Ambient, DatabaseClock, MasterKeyChange, Sealed},
    store::port::SealedColumn,
};

use super::on_forms;
use crate::support::{
    Backend, MASTER_KEY, PASSWORD, TestDatabase, TestNode, TestNodeBuilder, bearer, login_request,
    outbox::{outbox_code, outbox_keep},
    signin::{signin_app, signin_recovery, signin_totp},
};

on_forms!([sqlite Sqlite postgres Postgres pgbouncer PgBouncer redis Redis] [
    everything_made_under_the_old_key_is_good_under_the_new_one
    nodes_that_start_at_once_have_the_same_keys
]);

/// Base64 of 32 other bytes.
const NEXT: &str = "dGhlIG5leHQgbWFzdGVyIGtleSBmb3IgdGhlIHRlc3Q=";

/// Nodes in the order in which an operator gives them the new key.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Stage {
    /// The one key, as ever.
    Old,
    /// The new one is known, and nothing is sealed under it yet.
    Prepared,
    /// What is new is sealed under the new one.
    Changing,
    /// The old one is gone.
    New,
}

fn node(database: &Arc<TestDatabase>, stage: Stage) -> TestNodeBuilder {
    let builder = TestNode::on(Arc::clone(database))
        .set("notify.email=log")
        .set("database.max_connections=4")
        .set("database.acquire_timeout=30s");
    let (key, previous) = match stage {
        Stage::Old => return builder,
        Stage::Prepared => (MASTER_KEY, NEXT),
        Stage::Changing => (NEXT, MASTER_KEY),
        Stage::New => (NEXT, ""),
    };
    builder.set(&format!("keys.master_key={key}")).set(&format!("keys.previous_master_key={previous}"))
}

fn ambient() -> Ambient {
    Ambient { clock: Arc::new(DatabaseClock::new(machine_date())), entropy: Arc::new(SystemEntropy) }
}

/// What `vouchsafe keys rotate-master` does.
async fn reseal(database: &Arc<TestDatabase>) -> Sealed {
    let data_dir = tempfile::tempdir().unwrap();
    let settings = node(database, Stage::Changing).settings(&data_dir);
    let change = MasterKeyChange::begin(&settings, &ambient()).await.unwrap();
    let (sealed, kept) = change.finish(|_, _| ()).await.unwrap();
    assert_eq!((sealed.left, sealed.unreadable.len(), kept), (0, 0, None), "{sealed:?}");
    sealed
}

/// The names of the keys that the rows of a column are sealed under.
async fn sealed_under(database: &TestDatabase, column: SealedColumn) -> BTreeSet<String> {
    let (table, name) = column.names();
    let sql = match (column, database.postgres_pool().is_some()) {
        (SealedColumn::Challenges, true) => {
            format!("SELECT encode(substr(decode({name} #>> '{{}}', 'base64'), 2, 4), 'hex') FROM {table}")
        }
        (SealedColumn::Challenges, false) => format!("SELECT {name} FROM {table}"),
        (_, true) => format!("SELECT encode(substr({name}, 2, 4), 'hex') FROM {table}"),
        (_, false) => format!("SELECT lower(hex(substr({name}, 2, 4))) FROM {table}"),
    };
    let rows = database.texts(&sql).await;
    if column == SealedColumn::Challenges && database.postgres_pool().is_none() {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        let id = |text: String| {
            let sealed = STANDARD.decode(text.trim_matches('"')).unwrap();
            hex(sealed[1..5].try_into().unwrap())
        };
        return rows.into_iter().map(id).collect();
    }
    rows.into_iter().collect()
}

/// What was made under the old key and has not been used yet.
struct Legacy {
    database: Arc<TestDatabase>,
    tokens: v1::TokenPair,
    device: String,
    app: vouchsafe::crypto::TotpSeed,
    recovery: Vec<String>,
    /// A challenge of the second factor that waits for its answer, perhaps from another node.
    challenge: String,
    /// Codes in mails, each for another account.
    resets: Vec<String>,
    client: (String, String),
    /// Whether the app has been used.
    app_used: bool,
}

const ADA: &str = "ada@example.com";
const BOB: &str = "bob@example.com";

fn on_device(secret: &str) -> v1::LoginRequest {
    let device = v1::Device { name: "engine".into(), known_device_secret: secret.into() };
    v1::LoginRequest { device: Some(device), ..login_request(ADA, PASSWORD) }
}

impl Legacy {
    async fn make(database: &Arc<TestDatabase>, node: &TestNode, uses: usize) -> Self {
        outbox_keep(database).await;
        node.register_verified(ADA).await;
        let tokens = node.try_login(on_device("")).await.unwrap();
        assert!(!tokens.known_device_secret.is_empty());
        let bob = node.register_verified(BOB).await;
        let recovery: Vec<String> = (0..uses).map(|n| format!("{n:04}-abcd-efgh-jkmn")).collect();
        let app = node.signin_give_totp(&bob, &recovery.iter().map(String::as_str).collect::<Vec<_>>()).await;
        let challenge = node.signin_challenge(BOB).await.challenge_id;
        let mut resets = Vec::new();
        for n in 0..uses {
            let email = format!("reset{n}@example.com");
            node.register_verified(&email).await;
            let asked = v1::RequestPasswordResetRequest { identifier: email.clone() };
            node.auth().await.request_password_reset(asked).await.unwrap();
            resets.push(outbox_code(database, &email).await);
        }
        let admin = node.join("root", &["admin"], "").await.access_token;
        let wanted = v1::CreateServiceAccountRequest { display_name: "Orders".into(), ..Default::default() };
        let made = service_accounts(node).await.create_service_account(bearer(&admin, wanted)).await.unwrap();
        let made = made.into_inner();
        let client = (made.service_account.unwrap().client_id, made.client_secret);
        let (database, device) = (Arc::clone(database), tokens.known_device_secret.clone());
        Self { database, tokens, device, app, recovery, challenge, resets, client, app_used: false }
    }

    /// One of each is used at this node, and is good.
    async fn use_some(&mut self, node: &TestNode) {
        let claims = node.verify(&self.tokens.access_token).await;
        assert!(claims.active, "{claims:?}");
        self.tokens = node.refresh(&self.tokens.refresh_token).await.unwrap();
        let again = node.try_login(on_device(&self.device)).await.unwrap();
        assert_eq!(again.known_device_secret, self.device, "the device is known");
        let (client_id, client_secret) = self.client.clone();
        let asked = v1::IssueServiceTokenRequest { client_id, client_secret, ..Default::default() };
        node.auth().await.issue_service_token(asked).await.unwrap();

        // The app first: each of its codes is good once.
        let response = if self.app_used {
            signin_recovery(&self.recovery.pop().unwrap())
        } else {
            signin_totp(signin_app(&self.app, Timestamp::from_seconds(self.now().await)))
        };
        self.app_used = true;
        node.signin_finish(&self.challenge, response).await.unwrap();
        self.challenge = node.signin_challenge(BOB).await.challenge_id;

        let reset = v1::ResetPasswordRequest {
            code: self.resets.pop().unwrap(),
            new_password: "another horse, another battery".into(),
        };
        node.auth().await.reset_password(reset).await.unwrap();
    }

    async fn now(&self) -> i64 {
        let sql = if self.database.postgres_pool().is_some() {
            "SELECT extract(epoch FROM clock_timestamp())::BIGINT"
        } else {
            "SELECT unixepoch()"
        };
        self.database.integer(sql).await
    }
}

async fn service_accounts(
    node: &TestNode,
) -> v1::service_account_admin_service_client::ServiceAccountAdminServiceClient<tonic::transport::Channel> {
    v1::service_account_admin_service_client::ServiceAccountAdminServiceClient::new(node.shared().await)
}

/// Signs somebody up, in, and refreshes, until it is over. How often.
async fn work(node: Arc<TestNode>, number: usize, over: Arc<AtomicBool>) -> usize {
    let mut rounds = 0;
    let mut auth = AuthServiceClient::new(node.channel().await);
    while !over.load(Ordering::SeqCst) || rounds == 0 {
        let email = format!("worker{number}.{rounds}.{}@example.com", node.grpc.port());
        node.register(&email).await;
        let mut held = node.login(&email).await;
        for _ in 0..3 {
            let request = Request::new(v1::RefreshRequest { refresh_token: held.refresh_token });
            held = auth.refresh(request).await.unwrap().into_inner().tokens.unwrap();
            assert!(node.verify(&held.access_token).await.active);
        }
        rounds += 1;
    }
    rounds
}

async fn everything_made_under_the_old_key_is_good_under_the_new_one(backend: Backend) {
    let database = Arc::new(TestDatabase::migrated(backend).await);
    let shared = backend != Backend::Sqlite;
    let old = node(&database, Stage::Old).start().await;
    let mut legacy = Legacy::make(&database, &old, 8).await;
    legacy.use_some(&old).await;

    // Where there can be two, the next ones serve beside those of the stage before, and each reads what the other wrote.
    let mut before = Some(old);
    for stage in [Stage::Prepared, Stage::Changing] {
        if !shared {
            before.take().unwrap().stop().await;
        }
        if stage == Stage::Changing {
            // A database of a version that stored none of these: which of the two keys they come from, what is sealed there tells.
            let number = vouchsafe::crypto::DerivedKey::ALL.len() as u64;
            assert_eq!(database.execute("DELETE FROM stored_secrets").await, number);
        }
        let next = node(&database, stage).start().await;
        legacy.use_some(&next).await;
        if let Some(before) = before.take() {
            legacy.use_some(&before).await;
            before.stop().await;
        }
        before = Some(next);
    }
    let changing = Arc::new(before.unwrap());

    // Under way, nothing is noticed.
    let over = Arc::new(AtomicBool::new(false));
    let workers: Vec<_> = (0..2).map(|n| tokio::spawn(work(Arc::clone(&changing), n, Arc::clone(&over)))).collect();
    let sealed = reseal(&database).await;
    over.store(true, Ordering::SeqCst);
    for worker in workers {
        assert!(worker.await.unwrap() > 0);
    }
    for column in [SealedColumn::RefreshKeys, SealedColumn::SigningKeys] {
        assert!(sealed.other[&column] > 0, "{column}: {sealed:?}");
    }
    // Stored by a node of the last stage; where nodes serve side by side, the last challenge is of the one before.
    assert_eq!(sealed.other[&SealedColumn::StoredSecrets], 0, "{sealed:?}");
    assert_eq!(sealed.other[&SealedColumn::Challenges], u64::from(shared), "{sealed:?}");
    assert!(sealed.other[&SealedColumn::DataKeys] >= 10 && sealed.other[&SealedColumn::TotpSeeds] == 1, "{sealed:?}");
    let next = hex(MasterKey::parse(NEXT).unwrap().id());
    for column in SealedColumn::ALL {
        let names = sealed_under(&database, column).await;
        assert!(names.iter().all(|name| *name == next), "{column}: {names:?}");
    }
    assert_eq!(changing.events("act = 'master_key.changed'").await, 1);
    assert_eq!(reseal(&database).await.other.values().sum::<u64>(), 0, "there is nothing left to do");
    legacy.use_some(&changing).await;
    Arc::into_inner(changing).unwrap().stop().await;

    let new = node(&database, Stage::New).start().await;
    legacy.use_some(&new).await;
    new.remove().await;
}

/// The first start of all writes the keys down that are derived from the master key: whichever node is first.
async fn nodes_that_start_at_once_have_the_same_keys(backend: Backend) {
    if backend == Backend::Sqlite {
        // One at a time there, and again.
        let database = Arc::new(TestDatabase::migrated(backend).await);
        let dump = async || database.texts("SELECT hex(secret_sealed) FROM stored_secrets ORDER BY name").await;
        node(&database, Stage::Old).start().await.stop().await;
        let (first, number) = (dump().await, vouchsafe::crypto::DerivedKey::ALL.len());
        assert_eq!(first.len(), number);
        node(&database, Stage::Old).start().await.remove().await;
        return;
    }
    let database = Arc::new(TestDatabase::migrated(backend).await);
    // With either key in force: what one of them stores, the other one opens.
    let starts = (0..4).map(|n| {
        let stage = if n % 2 == 0 { Stage::Prepared } else { Stage::Changing };
        node(&database, stage).set("database.max_connections=2").start()
    });
    let nodes = futures_util::future::join_all(starts).await;
    nodes[0].register_verified(ADA).await;
    let known = nodes[0].try_login(on_device("")).await.unwrap().known_device_secret;
    for node in &nodes {
        let again = node.try_login(on_device(&known)).await.unwrap();
        assert_eq!(again.known_device_secret, known, "each node knows the device");
        assert!(node.verify(&again.access_token).await.active);
    }
    for node in nodes {
        node.stop().await;
    }
    Arc::into_inner(database).unwrap().remove().await;
}
