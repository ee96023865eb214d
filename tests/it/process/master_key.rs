//! `vouchsafe keys rotate-master`: the command, beside servers under load, killed in the middle, and without any setting.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt as _,
    process::Stdio,
    sync::atomic::{AtomicBool, Ordering},
};

use futures_util::future::join_all;
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::watch;
use uuid::Uuid;
use vouchsafe::{
    crypto::{DerivedKey, MasterKey, MessageSeal, SystemEntropy, seal::hex},
    domain::secret::SecretKey,
};

use super::{
    client::Client,
    harness::{Place, Server, until},
    lines::Lines,
    rolling::{Cluster, WORKERS, work},
};
use crate::{
    rpc::on_both_databases,
    support::{Backend, MASTER_KEY, TestDatabase},
};

on_both_databases!(
    a_command_that_is_killed_is_begun_again,
    each_state_of_the_settings_is_answered_with_what_to_do,
    a_new_database_has_keys_that_nobody_can_derive,
    a_database_of_before_keeps_the_keys_it_has,
    a_key_that_went_missing_is_not_replaced,
);

/// Base64 of 32 other bytes each.
const NEXT: &str = "dGhlIG5leHQgbWFzdGVyIGtleSBmb3IgdGhlIHRlc3Q=";
const THIRD: &str = "YSB0aGlyZCBtYXN0ZXIga2V5IGZvciB0aGUgdGVzdHM=";

const ROTATE: [&str; 2] = ["keys", "rotate-master"];

fn name(key: &str) -> String {
    hex(MasterKey::parse(key).unwrap().id())
}

/// The flags of a process that has these keys.
fn having(key: &str, previous: &str) -> [String; 4] {
    let set = |name: &str, value: &str| format!("keys.{name}={value}");
    ["--set".into(), set("master_key", key), "--set".into(), set("previous_master_key", previous)]
}

fn with<'a>(command: &[&'a str], keys: &'a [String; 4]) -> Vec<&'a str> {
    command.iter().copied().chain(keys.iter().map(String::as_str)).collect()
}

async fn serve(place: &Place, key: &str, previous: &str) -> Server {
    let flags = having(key, previous);
    place.serve_with(&flags.each_ref().map(String::as_str)).await
}

/// The names of the keys that everything sealed in the database is sealed under, but for challenges.
async fn sealed_under(place: &Place) -> BTreeSet<String> {
    let digits = |column: &str| {
        if place.database.postgres_pool().is_some() {
            format!("encode(substr({column}, 2, 4), 'hex')")
        } else {
            format!("lower(hex(substr({column}, 2, 4)))")
        }
    };
    let mut names = BTreeSet::new();
    for (table, column) in [
        ("stored_secrets", "secret_sealed"),
        ("refresh_keys", "key_sealed"),
        ("signing_keys", "private_key_sealed"),
        ("data_keys", "key_sealed"),
        ("totp_factors", "seed_sealed"),
        ("outbox", "message_sealed"),
    ] {
        names.extend(place.database.texts(&format!("SELECT {} FROM {table}", digits(column))).await);
    }
    names
}

/// Messages that wait to be tried again for longer than any test, sealed under a key.
async fn fill(place: &Place, key: &str, ids: std::ops::Range<u128>) {
    let seal = MessageSeal::new(std::sync::Arc::new(MasterKey::parse(key).unwrap()));
    let never = 9_000_000_000_000_000_i64;
    let row = |n: u128| {
        let id = Uuid::from_u128(n);
        let sealed = crate::support::hex(&seal.seal(id, b"a message", &SystemEntropy));
        let (id, sealed) = (place.database.id(&id), place.database.bytes(&sealed));
        format!("({id}, 'email', {sealed}, 0, {never}, 1, {never})")
    };
    let columns = "id, channel, message_sealed, create_time, expire_time, attempts, due_time";
    for part in ids.collect::<Vec<_>>().chunks(500) {
        let rows: Vec<_> = part.iter().map(|n| row(*n)).collect();
        place.database.execute(&format!("INSERT INTO outbox ({columns}) VALUES {}", rows.join(","))).await;
    }
}

async fn messages_under(place: &Place, key: &str) -> i64 {
    let id = place.database.bytes(&name(key));
    place.database.integer(&format!("SELECT count(*) FROM outbox WHERE substr(message_sealed, 2, 4) = {id}")).await
}

/// Two nodes go from one key to the other, one after the other, as docs/OPERATIONS.md says; sign-ins and refreshes go on, and
/// not one is refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_the_master_key_under_load_fails_no_call() {
    let place = Place::new(Backend::Postgres).await.set("database.max_connections", "8");
    let mut servers = [place.serve().await, place.serve().await];
    let cluster = Cluster {
        nodes: watch::Sender::new([servers[0].grpc, servers[1].grpc]),
        calls: watch::Sender::new(0),
        over: AtomicBool::new(false),
    };
    let going_on = async || {
        let seen = *cluster.calls.borrow();
        cluster.calls.subscribe().wait_for(|calls| *calls >= seen + 40).await.unwrap();
    };
    let change = async {
        for (key, previous) in [(MASTER_KEY, NEXT), (NEXT, MASTER_KEY), (NEXT, "")] {
            if previous.is_empty() {
                fill(&place, MASTER_KEY, 0..2_000).await;
                let flags = having(NEXT, MASTER_KEY);
                let said = place.run(&with(&ROTATE, &flags)).await.ok();
                assert!(said.contains(&format!("nothing is left under {}", name(MASTER_KEY))), "{said}");
                assert_eq!(sealed_under(&place).await, [name(NEXT)].into());
                let said = place.run(&with(&ROTATE, &flags)).await.ok();
                assert!(said.starts_with("0 rows sealed"), "{said}");
                going_on().await;
            }
            for node in 0..2 {
                let next = serve(&place, key, previous).await;
                cluster.nodes.send_modify(|nodes| nodes[node] = next.grpc);
                std::mem::replace(&mut servers[node], next).stop().await;
                going_on().await;
            }
        }
        // A key that is made now is sealed under the new one alone.
        place.run(&with(&["keys", "rotate"], &having(NEXT, ""))).await.ok();
        going_on().await;
        cluster.over.store(true, Ordering::SeqCst);
    };
    let workers = join_all((0..WORKERS).map(|number| work(&cluster, number)));
    tokio::join!(workers, change);
    assert_eq!(sealed_under(&place).await, [name(NEXT)].into());
    assert_eq!(place.database.integer("SELECT count(*) FROM sessions WHERE end_time IS NOT NULL").await, 0);
    let said = place.run(&["serve"]).await.refused();
    assert!(said.contains("master key does not open") && said.contains("keys.master_key"), "{said}");
    for server in servers {
        server.stop().await;
    }
    place.remove().await;
}

/// The middle is wherever the command is when it is killed: some rows are under one key, some under the other, and servers that
/// have both serve on.
async fn a_command_that_is_killed_is_begun_again(backend: Backend) {
    const ROWS: i64 = 6_000;
    let place = Place::new(backend).await.set("keys.master_key", MASTER_KEY);
    let first = place.serve().await;
    let mut tokens = Client::of(&first).await.join("ada@example.com").await;
    first.stop().await;
    fill(&place, MASTER_KEY, 0..6_000).await;
    let server = serve(&place, NEXT, MASTER_KEY).await;
    let client = Client::of(&server).await;
    let flags = having(NEXT, MASTER_KEY);
    let (mut halves, mut changes) = (0, 0);
    // Killed again and again, a little later each time, until it gets to its end.
    for part in 1..=5 {
        let before = messages_under(&place, NEXT).await;
        let mut command = place.command(&with(&ROTATE, &flags));
        let mut child = command.kill_on_drop(true).stdout(std::process::Stdio::null()).spawn().unwrap();
        let wanted = ROWS * part / 6;
        until("it is at work", async || {
            (messages_under(&place, NEXT).await >= wanted || child.try_wait().unwrap().is_some()).then_some(())
        })
        .await;
        // It may have come to its end.
        let _ = child.kill().await;
        let under = (messages_under(&place, MASTER_KEY).await, messages_under(&place, NEXT).await);
        assert_eq!(under.0 + under.1, ROWS, "no row is lost, and none has a third form");
        halves += i32::from(under.0 > 0 && under.1 > 0);
        // One may be killed before it gets to a row.
        changes += i64::from(under.1 > before);
        tokens = client.refresh(&tokens.refresh_token).await.unwrap();
        client.login("ada@example.com").await.unwrap();
        client.claims(&tokens.access_token).await;
    }
    assert!(halves > 0, "it was never killed in the middle");
    let begun = "SELECT count(*) FROM audit_events WHERE act = 'master_key.change_begun' AND actor = 'operator'";
    assert!(place.database.integer(begun).await >= changes, "what was changed by then is in the trail");
    place.run(&with(&ROTATE, &flags)).await.ok();
    assert_eq!((messages_under(&place, MASTER_KEY).await, messages_under(&place, NEXT).await), (0, ROWS));
    assert_eq!(sealed_under(&place).await, [name(NEXT)].into());
    server.stop().await;
    let server = serve(&place, NEXT, "").await;
    let client = Client::of(&server).await;
    client.refresh(&tokens.refresh_token).await.unwrap();
    client.login("ada@example.com").await.unwrap();
    server.stop().await;
    place.remove().await;
}

async fn each_state_of_the_settings_is_answered_with_what_to_do(backend: Backend) {
    let place = Place::new(backend).await.set("keys.master_key", MASTER_KEY);
    let server = place.serve().await;
    Client::of(&server).await.join("ada@example.com").await;
    let told = |said: &str, words: &[&str]| {
        for word in words {
            assert!(said.contains(word), "{word}: {said}");
        }
        for key in [MASTER_KEY, NEXT, THIRD] {
            assert!(!said.contains(key), "{said}");
        }
    };
    let run =
        async |command: &[&str], key: &str, previous: &str| place.run(&with(command, &having(key, previous))).await;
    let (old, next) = (name(MASTER_KEY), name(NEXT));
    told(&place.run(&ROTATE).await.ok(), &["there is no other key", "keys.previous_master_key", &old]);
    told(&run(&ROTATE, NEXT, "").await.refused(), &["master key does not open", "keys.previous_master_key"]);
    told(&run(&ROTATE, NEXT, THIRD).await.refused(), &["master key does not open"]);
    told(&run(&ROTATE, MASTER_KEY, MASTER_KEY).await.refused(), &["keys.previous_master_key is not usable", "same"]);
    told(&run(&["config", "check"], MASTER_KEY, "x").await.refused(), &["keys.previous_master_key is not usable"]);
    assert_eq!(sealed_under(&place).await, std::slice::from_ref(&old).iter().cloned().collect());

    // To look changes nothing.
    let oldest = async || place.database.integer("SELECT oldest_reader FROM schema_compatibility").await;
    let before = oldest().await;
    let check = ["keys", "rotate-master", "--check"];
    // Of the keys, and that a database was founded with them.
    let stored = if backend == Backend::Sqlite { "stored_secrets    5" } else { "stored_secrets    4" };
    told(&run(&check, NEXT, MASTER_KEY).await.ok(), &[stored, "refresh_keys      1", &next]);
    assert_eq!((sealed_under(&place).await, oldest().await), ([old.clone()].into(), before));
    told(&run(&ROTATE, NEXT, MASTER_KEY).await.ok(), &["rows sealed under", &next, &old, "can be removed"]);
    // A program of before stored keys would derive others from the new one.
    assert_eq!(oldest().await, 5);
    told(&run(&check, NEXT, MASTER_KEY).await.ok(), &["stored_secrets    0", "data_keys         0"]);

    // What neither key opens is named, and holds up nothing else.
    fill(&place, THIRD, 7..8).await;
    fill(&place, MASTER_KEY, 8..9).await;
    let ended = run(&ROTATE, NEXT, MASTER_KEY).await;
    told(&ended.stderr, &["cannot be opened with either key: outbox", &name(THIRD), &Uuid::from_u128(7).to_string()]);
    told(&ended.stdout, &["1 row sealed under"]);
    let count = "rows that cannot be opened with either key (outbox: 1)";
    told(&ended.stderr, &[count, "keys.previous_master_key"]);
    assert_eq!(ended.status.code(), Some(1), "nobody takes it for done");
    let looked = run(&check, NEXT, MASTER_KEY).await;
    told(&looked.stdout, &["outbox            0"]);
    told(&looked.stderr, &[count]);
    assert_eq!(looked.status.code(), Some(1));
    // The key is found, and nothing is lost.
    told(&run(&ROTATE, NEXT, THIRD).await.ok(), &["1 row sealed under"]);
    // And back.
    told(&run(&ROTATE, MASTER_KEY, NEXT).await.ok(), &["rows sealed under", &old]);
    let condition = "SELECT count(*) FROM audit_events WHERE act = 'master_key.changed' AND actor = 'operator'";
    assert_eq!(place.database.integer(condition).await, 4);
    server.stop().await;
    place.remove().await;
}

/// The embedded default has no settings: the key is a file, and so is its successor.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_generated_master_key_is_changed_without_any_setting() {
    let place = Place::new(Backend::Sqlite).await;
    let key = place.data_dir().join("master.key");
    let read = || fs::read_to_string(&key).unwrap().trim().to_owned();
    let server = place.serve().await;
    let tokens = Client::of(&server).await.join("ada@example.com").await;
    let old = read();
    let said = place.run(&ROTATE).await.refused();
    assert!(said.contains("another vouchsafe server uses the database"), "{said}");
    assert_eq!((read(), sealed_under(&place).await), (old.clone(), [name(&old)].into()), "nothing has begun");
    server.stop().await;

    let said = place.run(&ROTATE).await.ok();
    let new = read();
    assert_ne!(new, old);
    assert!(said.contains("is the master key now") && said.contains(&name(&new)) && !said.contains(&new), "{said}");
    assert_eq!(sealed_under(&place).await, [name(&new)].into());
    let kept = place.data_dir().join(format!("master.key.{}", name(&old)));
    assert_eq!(fs::read_to_string(&kept).unwrap().trim(), old);
    for file in [&key, &kept] {
        assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    }
    assert!(!place.data_dir().join("master.key.next").exists());

    let server = place.serve().await;
    let client = Client::of(&server).await;
    client.claims(&tokens.access_token).await;
    client.refresh(&tokens.refresh_token).await.unwrap();
    client.login("ada@example.com").await.unwrap();
    server.stop().await;
    // The old key is of no use any more, and says so.
    fs::remove_file(&key).unwrap();
    fs::copy(&kept, &key).unwrap();
    let said = place.run(&["serve"]).await.refused();
    assert!(said.contains("master key does not open"), "{said}");
    place.remove().await;
}

/// Each further key would be one more away from what opens the rest.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_generated_master_key_that_does_not_open_everything_stays_until_it_does() {
    let place = Place::new(Backend::Sqlite).await;
    make_account(&place).await;
    let (key, next) = (place.data_dir().join("master.key"), place.data_dir().join("master.key.next"));
    let first = fs::read_to_string(&key).unwrap();
    fill(&place, THIRD, 7..8).await;
    for _ in 0..2 {
        let ended = place.run(&ROTATE).await;
        assert_eq!(ended.status.code(), Some(1));
        for word in ["outbox: 1", &Uuid::from_u128(7).to_string(), "VOUCHSAFE_KEYS__PREVIOUS_MASTER_KEY_FILE"] {
            assert!(ended.stderr.contains(word), "{word}: {}", ended.stderr);
        }
        assert!(!next.exists() && fs::read_to_string(&key).unwrap() == first, "nothing has begun");
    }
    // What it advises.
    let older = place.file("older.key", format!("{THIRD}\n"));
    let files = [
        ("VOUCHSAFE_KEYS__MASTER_KEY_FILE", key.display().to_string()),
        ("VOUCHSAFE_KEYS__PREVIOUS_MASTER_KEY_FILE", older),
    ];
    let ended = place.command(&ROTATE).envs(files).output().await.unwrap();
    let said = String::from_utf8(ended.stdout).unwrap();
    assert!(said.contains("1 row sealed under"), "{said} {:?}", ended.stderr);
    place.run(&ROTATE).await.ok();
    let last = fs::read_to_string(&key).unwrap();
    assert_ne!(last, first);
    assert_eq!(sealed_under(&place).await, [name(last.trim())].into());
    place.remove().await;
}

/// Killed at one moment after the other, the change can be gone on with, and until then a server serves what there is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_a_generated_master_key_survives_kill_again_and_again() {
    const ROWS: i64 = 3_000;
    let place = Place::new(Backend::Sqlite).await;
    let server = place.serve().await;
    let mut tokens = Client::of(&server).await.join("ada@example.com").await;
    server.stop().await;
    let (key, next) = (place.data_dir().join("master.key"), place.data_dir().join("master.key.next"));
    let read = || fs::read_to_string(&key).unwrap().trim().to_owned();
    let first = read();
    fill(&place, &first, 0..3_000).await;
    let mut halves = 0;
    for part in 0..=5 {
        let mut child = place.command(&ROTATE).kill_on_drop(true).stdout(std::process::Stdio::null()).spawn().unwrap();
        let wanted = ROWS * part / 6;
        until("it is at work", async || {
            let done = ROWS - messages_under(&place, &first).await;
            let is_there = next.exists() && done >= wanted;
            (is_there || child.try_wait().unwrap().is_some()).then_some(())
        })
        .await;
        // It may have come to its end.
        let _ = child.kill().await;
        let is_begun = next.exists();
        assert_eq!(
            is_begun,
            read() == first,
            "the key is in force from the moment that nothing needs the other any more"
        );
        halves += i32::from(is_begun);
        let server = place.serve().await;
        if is_begun {
            server.log.wait(|line| line.contains("not brought to its end")).await;
        }
        let client = Client::of(&server).await;
        tokens = client.refresh(&tokens.refresh_token).await.unwrap();
        client.login("ada@example.com").await.unwrap();
        server.stop().await;
        if !is_begun {
            break;
        }
    }
    assert!(halves > 0, "it was never killed in the middle");
    if next.exists() {
        place.run(&ROTATE).await.ok();
    }
    let last = read();
    assert_ne!(last, first);
    assert_eq!(sealed_under(&place).await, [name(&last)].into());
    assert!(!next.exists());
    let server = place.serve().await;
    Client::of(&server).await.refresh(&tokens.refresh_token).await.unwrap();
    server.stop().await;
    place.remove().await;
}

/// The stored keys by their names, opened with a master key.
async fn stored_keys(place: &Place, key: &str) -> Vec<(DerivedKey, SecretKey<32>)> {
    let master = MasterKey::parse(key).unwrap();
    let mut keys = Vec::new();
    for kind in DerivedKey::ALL {
        let hex = if place.database.postgres_pool().is_some() {
            "encode(secret_sealed, 'hex')"
        } else {
            "hex(secret_sealed)"
        };
        let sql = format!("SELECT {hex} FROM stored_secrets WHERE name = '{}'", kind.name());
        let texts = place.database.texts(&sql).await;
        let [text] = &texts[..] else { panic!("{kind:?}: {texts:?}") };
        let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
        let sealed: Vec<u8> = (0..text.len()).step_by(2).map(byte).collect();
        keys.push((kind, kind.open(&master, &sealed).unwrap()));
    }
    keys
}

/// Whoever comes first founds it, however many come at once; and what is founded is not derived from the master key, so that whoever
/// learns one of before a change can make nothing with it.
async fn a_new_database_has_keys_that_nobody_can_derive(backend: Backend) {
    let place = Place::on(TestDatabase::empty(backend).await).set("keys.master_key", MASTER_KEY);
    for ended in join_all((0..4).map(|_| place.run(&["migrate"]))).await {
        ended.ok();
    }
    let (keys, master) = (stored_keys(&place, MASTER_KEY).await, MasterKey::parse(MASTER_KEY).unwrap());
    for (kind, key) in &keys {
        assert_ne!(*key, master.derive(kind.name()), "{kind:?}");
        assert_eq!(keys.iter().filter(|(_, other)| other == key).count(), 1, "{kind:?}");
    }
    assert_eq!(place.database.integer("SELECT count(*) FROM stored_secrets").await, 5);
    // A program that would derive them does not start.
    assert_eq!(place.database.integer("SELECT oldest_reader FROM schema_compatibility").await, 5);
    // They are in use, and what is made with them is found again.
    make_account(&place).await;
    let server = place.serve().await;
    let client = Client::of(&server).await;
    let tokens = client.join("ada@example.com").await;
    server.stop().await;
    place.run(&["migrate"]).await.ok();
    let server = place.serve().await;
    Client::of(&server).await.refresh(&tokens.refresh_token).await.unwrap();
    server.stop().await;
    place.run(&["audit", "verify"]).await.ok();
    assert_eq!(stored_keys(&place, MASTER_KEY).await, keys);
    place.remove().await;
}

/// Nothing is put in the place of a key that nobody can derive: it would be another one, and every seal of the trail wrong for good.
async fn a_key_that_went_missing_is_not_replaced(backend: Backend) {
    let place = Place::on(TestDatabase::empty(backend).await).set("keys.master_key", MASTER_KEY);
    place.run(&["migrate"]).await.ok();
    make_account(&place).await;
    let refused = async |missing: &str| {
        let rows = place.database.integer("SELECT count(*) FROM stored_secrets").await;
        for command in [&["serve"][..], &["audit", "verify"], &["keys", "list"]] {
            let said = place.run(command).await.stderr;
            assert!(said.contains("went missing") && said.contains("backup") && said.contains(missing), "{said}");
        }
        assert_eq!(place.database.integer("SELECT count(*) FROM stored_secrets").await, rows, "nothing is written");
    };
    place.database.execute("CREATE TABLE kept AS SELECT * FROM stored_secrets").await;
    let put_back = "INSERT INTO stored_secrets SELECT * FROM kept WHERE true ON CONFLICT DO NOTHING";
    // One, all but what says that it was founded, and all.
    for gone in ["name = 'audit trail v1'", "name <> 'founded v1'", "true"] {
        assert_ne!(place.database.execute(&format!("DELETE FROM stored_secrets WHERE {gone}")).await, 0);
        refused("audit trail v1").await;
        assert_ne!(place.database.execute(put_back).await, 0);
        place.run(&["audit", "verify"]).await.ok();
    }
    // Also when it is not to be seen from the programs that are let in.
    place.database.execute("UPDATE schema_compatibility SET oldest_reader = 1").await;
    place.database.execute("DELETE FROM stored_secrets WHERE name = 'hot state v1'").await;
    refused("hot state v1").await;
    place.remove().await;
}

/// A command may be the first that uses a database.
async fn make_account(place: &Place) {
    let created = ["admin", "create", "--email", "root@example.com", "--password-stdin"];
    place.run_with_input(&created, "correct horse battery staple\n").await.ok();
}

/// One that a version of before made, and perhaps used: everything that was made with its keys stays good.
async fn a_database_of_before_keeps_the_keys_it_has(backend: Backend) {
    let place = Place::on(TestDatabase::migrated(backend).await).set("keys.master_key", MASTER_KEY);
    let oldest = place.database.integer("SELECT oldest_reader FROM schema_compatibility").await;
    make_account(&place).await;
    for _ in 0..2 {
        place.run(&["migrate"]).await.ok();
        place.serve().await.stop().await;
        let master = MasterKey::parse(MASTER_KEY).unwrap();
        for (kind, key) in stored_keys(&place, MASTER_KEY).await {
            assert_eq!(key, master.derive(kind.name()), "{kind:?}");
        }
    }
    assert_eq!(place.database.integer("SELECT oldest_reader FROM schema_compatibility").await, oldest);
    place.run(&["audit", "verify"]).await.ok();
    place.remove().await;
}

/// A generated key is changed while nobody uses it, and used while nobody changes it: what a command sealed meanwhile would be lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_generated_master_key_is_not_changed_while_a_command_uses_it() {
    let place = Place::new(Backend::Sqlite).await;
    make_account(&place).await;
    let key = place.data_dir().join("master.key");
    let (first, next) = (fs::read(&key).unwrap(), place.data_dir().join("master.key.next"));

    // A command that goes on for as long as it is let.
    let mut watching = place.command(&["audit", "watch", "--from-beginning"]);
    watching.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut watching = watching.spawn().unwrap();
    let lines = Lines::follow(watching.stdout.take().unwrap());
    lines.wait(|line| line.contains("user.registered")).await;
    let said = place.run(&ROTATE).await.refused();
    assert!(said.contains("another vouchsafe command uses the master key"), "{said}");
    assert!(!next.exists() && fs::read(&key).unwrap() == first, "nothing has begun");
    watching.kill().await.unwrap();

    // Stopped in the middle: that takes longer than it takes to see that it has begun.
    fill(&place, String::from_utf8(first.clone()).unwrap().trim(), 0..6_000).await;
    let mut changing = place.command(&ROTATE);
    changing.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
    let mut changing = changing.spawn().unwrap();
    until("it is at work", async || next.exists().then_some(())).await;
    let pid = Pid::from_raw(i32::try_from(changing.id().unwrap()).unwrap()).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    assert!(next.exists() && fs::read(&key).unwrap() == first, "it is in the middle");
    let create = ["user", "create", "--email", "ada@example.com", "--password-stdin"];
    for command in
        [&create[..], &["keys", "list"], &["keys", "rotate"], &["keys", "rotate-master", "--check"], &["migrate"]]
    {
        let said = place.run_with_input(command, "correct horse battery staple\n").await.refused();
        assert!(said.contains("is being changed") && said.contains("run this command again"), "{command:?}: {said}");
    }
    kill_process(pid, Signal::CONT).unwrap();
    assert!(changing.wait().await.unwrap().success());
    let last = fs::read_to_string(&key).unwrap();
    assert_ne!(last.as_bytes(), first);
    place.run_with_input(&create, "correct horse battery staple\n").await.ok();
    assert_eq!(sealed_under(&place).await, [name(last.trim())].into());
    place.remove().await;
}
