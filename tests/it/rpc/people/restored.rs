//! A database that was restored from a backup, by the words of docs/OPERATIONS.md: what was used or forgotten since is not good again.

use std::{path::Path, sync::Arc, time::Duration};

use tokio::process::Command;
use vouchsafe::{
    crypto::machine_date,
    domain::{notice::Notice, time::Clock as _},
    pb::v1::{ChallengeFactor, Device, LoginRequest},
    store::Location,
};

use crate::{
    rpc::on_forms,
    support::{
        Backend, ManualClock, PASSWORD, TestDatabase, TestNode, login_request,
        notify::{mail, store_on},
        reason,
        signin::{signin_app, signin_recovery, signin_totp},
    },
};

on_forms!([postgres Postgres] [nothing_that_was_used_since_the_backup_is_good_again]);

const CODE: &str = "AAAA-AAAA-AAAA-AAAA";

/// What the manual has its reader run after a restore.
fn documented() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/OPERATIONS.md");
    let manual = std::fs::read_to_string(path).unwrap();
    let section = manual.split("## Backup and restore").nth(1).unwrap();
    section.split("```sql").nth(1).unwrap().split("```").next().unwrap().to_owned()
}

/// Runs one of Postgres's own programs.
async fn run(program: &str, args: &[&str]) {
    let bin = std::env::var("VOUCHSAFE_TEST_PG_BIN").expect("VOUCHSAFE_TEST_PG_BIN: run the tests by `make test`");
    let done = Command::new(Path::new(&bin).join(program)).args(args).output().await.unwrap();
    assert!(done.status.success(), "{program}: {}", String::from_utf8_lossy(&done.stderr));
}

fn url(database: &TestDatabase) -> String {
    let Location::Postgres(url) = database.schema_location() else { panic!("a Postgres") };
    url.expose().to_owned()
}

async fn nothing_that_was_used_since_the_backup_is_good_again(backend: Backend) {
    let clock = Arc::new(ManualClock::new());
    let node = TestNode::builder(backend).await.clock(clock.clone()).start().await;
    let ada = node.register_verified("ada@example.com").await;
    let tokens = node.login("ada@example.com").await;
    let seed = node.signin_give_totp(&ada, &[CODE]).await;
    // Nobody sends here, so it waits.
    let store = store_on(&node.database, clock.clone()).await;
    let expire_time = clock.now().max(machine_date()).plus(Duration::from_hours(1));
    store.enqueue(vec![mail("ada@example.com", None, &Notice::PasswordChanged, expire_time)]).await.unwrap();
    store.close().await;
    let folder = tempfile::tempdir().unwrap();
    let backup = folder.path().join("backup").display().to_string();
    run("pg_dump", &["--format=custom", "--file", &backup, "--dbname", &url(&node.database)]).await;
    // Since then the message was sent, the code used and the device forgotten.
    let challenge = node.signin_challenge("ada@example.com").await.challenge_id;
    node.signin_finish(&challenge, signin_recovery(CODE)).await.unwrap();
    for table in ["outbox", "known_devices"] {
        assert!(node.database.execute(&format!("DELETE FROM {table}")).await > 0);
    }
    node.remove().await;

    let restored = Arc::new(TestDatabase::empty(backend).await);
    run("pg_restore", &["--no-owner", "--exit-on-error", "--dbname", &url(&restored), &backup]).await;
    for table in ["outbox", "known_devices", "recovery_codes"] {
        assert_eq!(restored.integer(&format!("SELECT COUNT(*) FROM {table}")).await, 1, "{table} has it again");
    }
    let incarnation = "SELECT CAST(incarnation AS TEXT) FROM feed_head";
    let before = restored.texts(incarnation).await;
    sqlx::raw_sql(sqlx::AssertSqlSafe(documented())).execute(restored.postgres_pool().unwrap()).await.unwrap();
    assert_ne!(restored.texts(incarnation).await, before);

    let node = TestNode::on(restored).clock(clock.clone()).start().await;
    assert_eq!(reason(&node.refresh(&tokens.refresh_token).await.unwrap_err()), "SESSION_REVOKED");
    assert_eq!(node.database.messages().await, 0);
    clock.advance(Duration::from_secs(30));
    node.catch_up().await;
    let device = Device { name: "laptop".into(), known_device_secret: tokens.known_device_secret.clone() };
    let login = LoginRequest { device: Some(device), ..login_request("ada@example.com", PASSWORD) };
    let challenge = node.signin_challenge_of(login).await;
    assert_eq!(challenge.factors, [i32::from(ChallengeFactor::Totp)]);
    let refused = node.signin_answer(&challenge.challenge_id, signin_recovery(CODE)).await.unwrap_err();
    assert_eq!(reason(&refused), "CODE_INVALID", "it was used");
    let app = signin_totp(signin_app(&seed, clock.now()));
    let signed_in = node.signin_finish(&challenge.challenge_id, app).await.unwrap();
    assert_ne!(signed_in.known_device_secret, tokens.known_device_secret, "it was forgotten");
    node.remove().await;
}
