//! What is sealed under the master key, sealed anew: every column, each row once, and nothing that somebody else has written
//! meanwhile is lost.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::{Arc, Mutex},
};

use uuid::Uuid;
use vouchsafe::store::port::{Reseal, ResealedBatch, RowKey, SealBatch, SealedColumn, Store};

use super::world::{World, at_once};

/// What a seal under the old key begins with, and one under the new key.
const OLD: [u8; 5] = [1, 0xaa, 0, 0xaa, 0xff];
const NEW: [u8; 5] = [1, 0xbb, 0, 0xbb, 0xff];
const NEW_ID: [u8; 4] = [0xbb, 0, 0xbb, 0xff];

/// Columns that hold bytes and are not sealed under the master key, and why.
const NOT_SEALED: [(&str, &str); 16] = [
    ("audit_events.personal_sealed", "under the key of its owner, which is in data_keys"),
    ("audit_events.hash", "a hash"),
    ("audit_lanes.hash", "a hash"),
    ("audit_lanes.mac", "under a key in stored_secrets"),
    ("audit_lanes.base_hash", "a hash"),
    ("audit_lanes.base_mac", "under a key in stored_secrets"),
    ("service_account_secrets.hash", "a hash"),
    ("create_requests.fingerprint", "under a key in stored_secrets"),
    ("mailed_codes.code_hash", "under a key in stored_secrets"),
    ("challenges.handle_hash", "under a key in stored_secrets"),
    ("challenges.code_hash", "under a key in stored_secrets"),
    ("recovery_codes.code_hash", "under a key in stored_secrets"),
    ("known_devices.secret_hash", "under a key in stored_secrets"),
    ("throttles.key_hash", "under a key in stored_secrets"),
    ("budgets.key_hash", "under a key in stored_secrets"),
    ("_sqlx_migrations.checksum", "sqlx's own"),
];

/// A new column of bytes is in one of the two lists, or this fails.
pub(super) async fn every_column_that_may_be_sealed_is_known(w: Arc<World>) {
    let (is_sealed, sql) = if w.database.postgres_pool().is_some() {
        let sql = "SELECT table_name || '.' || column_name FROM information_schema.columns \
                   WHERE table_schema = 'public' AND data_type = 'bytea'";
        (None, sql)
    } else {
        // Ids are bytes there as well; the other database tells them apart.
        let sql =
            "SELECT t.name || '.' || c.name FROM sqlite_master t, pragma_table_info(t.name) c WHERE t.type = 'table'";
        (Some("_sealed"), sql)
    };
    let is_asked_for = |name: &str| is_sealed.is_none_or(|end| name.ends_with(end));
    let found: BTreeSet<String> = w.database.texts(sql).await.into_iter().filter(|name| is_asked_for(name)).collect();
    let sealed = SealedColumn::ALL.map(|column| {
        let (table, column) = column.names();
        format!("{table}.{column}")
    });
    let mut known: BTreeSet<String> = sealed.into_iter().filter(|name| name != "challenges.pending").collect();
    known.extend(NOT_SEALED.iter().map(|(name, _)| (*name).to_owned()));
    known.retain(|name| is_asked_for(name));
    assert_eq!(found, known);
}

/// A seal is bound to a place, and the place is written down where it is made: none is missing from the list of columns.
pub(super) async fn every_place_that_is_sealed_for_is_known(_: Arc<World>) {
    fn walk(folder: &Path, found: &mut BTreeSet<(String, String)>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|end| end == "rs") && !path.ends_with("seal/tests.rs") {
                let text = fs::read_to_string(&path).unwrap();
                for place in text.split("SealContext {").skip(1).filter_map(|rest| rest.split_once('}')) {
                    let part = |name: &str| {
                        let (_, rest) = place.0.split_once(&format!("{name}: \""))?;
                        Some(rest.split_once('"')?.0.to_owned())
                    };
                    found.extend(part("table").zip(part("column")));
                }
            }
        }
    }
    let mut found = BTreeSet::new();
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    let mut known: BTreeSet<_> =
        SealedColumn::ALL.map(SealedColumn::names).map(|(table, column)| (table.to_owned(), column.to_owned())).into();
    known.insert(("audit_events".to_owned(), "personal_sealed".to_owned()));
    assert_eq!(found, known);
}

/// How often each row was asked for.
type Asked = Arc<Mutex<BTreeMap<Vec<u8>, u32>>>;

/// What was passed to the closure, and what it does: a seal under the old key becomes one under the new.
fn resealing() -> (Asked, Arc<Reseal>) {
    let asked = Arc::new(Mutex::new(BTreeMap::new()));
    let noted = Arc::clone(&asked);
    let reseal = move |row: &[u8], sealed: &[u8]| {
        *noted.lock().unwrap().entry(row.to_vec()).or_insert(0) += 1;
        match sealed.strip_prefix(&OLD) {
            Some(rest) => Ok(Some([&NEW[..], rest].concat())),
            None if sealed.starts_with(&NEW) => Ok(None),
            None => Err("it is damaged".to_owned()),
        }
    };
    (asked, Arc::new(reseal))
}

/// Walks over a column; what became of it all, and in how many batches.
async fn walk(store: &dyn Store, column: SealedColumn, reseal: &Arc<Reseal>) -> (ResealedBatch, u32) {
    let (mut all, mut batches, mut from) = (ResealedBatch::default(), 0, None);
    loop {
        let batch = SealBatch { column, from, under: NEW_ID, reseal: Arc::clone(reseal), event: None };
        let ResealedBatch { next, resealed, missed, unreadable } = store.reseal(batch).await.unwrap();
        batches += 1;
        all.resealed += resealed;
        all.missed += missed;
        all.unreadable.extend(unreadable);
        if next.is_none() {
            return (all, batches);
        }
        from = next;
    }
}

/// Data keys whose seals begin so.
async fn fill(w: &World, prefix: [u8; 5], ids: std::ops::Range<u128>) {
    let rows: Vec<_> = ids
        .map(|n| {
            let sealed = crate::support::hex(&[&prefix[..], &n.to_be_bytes()].concat());
            format!("({}, {}, 0)", w.database.id(&Uuid::from_u128(n)), w.database.bytes(&sealed))
        })
        .collect();
    w.database
        .execute(&format!("INSERT INTO data_keys (owner_id, key_sealed, create_time) VALUES {}", rows.join(",")))
        .await;
}

async fn under(w: &World, prefix: [u8; 5]) -> i64 {
    let prefix = w.database.bytes(&crate::support::hex(&prefix));
    w.database.integer(&format!("SELECT count(*) FROM data_keys WHERE substr(key_sealed, 1, 5) = {prefix}")).await
}

pub(super) async fn rows_are_sealed_anew_batch_by_batch(w: Arc<World>) {
    // The nil key is the first of all.
    fill(&w, OLD, 0..450).await;
    fill(&w, NEW, 450..500).await;
    fill(&w, [1, 9, 9, 9, 9], 500..502).await;
    let (asked, reseal) = resealing();
    let (done, batches) = walk(&*w.store, SealedColumn::DataKeys, &reseal).await;
    assert_eq!((done.resealed, done.missed, batches), (450, 0, 3));
    let damaged: Vec<_> = done.unreadable.iter().map(|(key, problem)| (key.clone(), problem.as_str())).collect();
    let key = |n| RowKey::Id(Uuid::from_u128(n));
    assert_eq!(damaged, [(key(500), "it is damaged"), (key(501), "it is damaged")]);
    let asked = std::mem::take(&mut *asked.lock().unwrap());
    assert!(asked.iter().all(|(_, times)| *times == 1), "each row once");
    let rows: Vec<_> = asked.into_keys().collect();
    let expected: Vec<_> = (0..450).chain(500..502).map(|n: u128| n.to_be_bytes().to_vec()).collect();
    assert_eq!(rows, expected, "what is so already is not looked at");
    assert_eq!((under(&w, OLD).await, under(&w, NEW).await), (0, 500));

    // Where there is nothing left to do, too, no transaction looks at more than so many rows.
    let (again, batches) = walk(&*w.store, SealedColumn::DataKeys, &reseal).await;
    assert_eq!((again.resealed, again.unreadable.len(), batches), (0, 2, 3), "there is nothing left to do");
}

/// A program of before stored keys would derive others from the new master key.
pub(super) async fn once_a_row_is_sealed_anew_no_program_of_before_starts(w: Arc<World>) {
    let oldest = async || w.database.integer("SELECT oldest_reader FROM schema_compatibility").await;
    fill(&w, NEW, 0..3).await;
    fill(&w, [1, 9, 9, 9, 9], 3..4).await;
    let (_, reseal) = resealing();
    walk(&*w.store, SealedColumn::DataKeys, &reseal).await;
    assert_eq!(oldest().await, 1, "nothing was sealed anew");
    fill(&w, OLD, 4..5).await;
    walk(&*w.store, SealedColumn::DataKeys, &reseal).await;
    assert_eq!(oldest().await, 5, "the first that read those keys");
    // What is barred already stays so.
    w.database.execute("UPDATE schema_compatibility SET oldest_reader = 6").await;
    fill(&w, OLD, 5..6).await;
    walk(&*w.store, SealedColumn::DataKeys, &reseal).await;
    assert_eq!(oldest().await, 6);
}

pub(super) async fn of_walks_at_once_each_row_is_sealed_anew_by_one(w: Arc<World>) {
    fill(&w, OLD, 0..900).await;
    let (_, reseal) = resealing();
    let walks = at_once(4, |_| {
        let (store, reseal) = (Arc::clone(&w.store), Arc::clone(&reseal));
        async move { walk(&*store, SealedColumn::DataKeys, &reseal).await.0 }
    });
    let walks = walks.await;
    assert_eq!(walks.iter().map(|walk| walk.resealed).sum::<u64>(), 900);
    assert_eq!((under(&w, OLD).await, under(&w, NEW).await), (0, 900));
}

pub(super) async fn a_row_that_was_changed_meanwhile_stays_as_it_is(w: Arc<World>) {
    let Some(pool) = w.database.postgres_pool().cloned() else {
        // A transaction holds the write lock of the whole database there.
        return;
    };
    fill(&w, OLD, 0..3).await;
    // Somebody writes between the reading of the rows and their change.
    let (runtime, done) = (tokio::runtime::Handle::current(), Mutex::new(false));
    let reseal = move |_: &[u8], sealed: &[u8]| {
        if !std::mem::replace(&mut *done.lock().unwrap(), true) {
            let write = sqlx::query("UPDATE data_keys SET key_sealed = '\\x01aa00aaff77' WHERE owner_id = $1");
            let write = write.bind(Uuid::from_u128(1)).execute(&pool);
            tokio::task::block_in_place(|| runtime.block_on(write)).unwrap();
        }
        Ok(Some([&NEW[..], &sealed[5..]].concat()))
    };
    let (first, _) = walk(&*w.store, SealedColumn::DataKeys, &(Arc::new(reseal) as Arc<Reseal>)).await;
    assert_eq!((first.resealed, first.missed), (2, 1));
    assert_eq!(w.database.integer("SELECT count(*) FROM data_keys WHERE key_sealed = '\\x01aa00aaff77'").await, 1);
    let (_, reseal) = resealing();
    let (second, _) = walk(&*w.store, SealedColumn::DataKeys, &reseal).await;
    assert_eq!((second.resealed, second.missed), (1, 0), "the next walk finds it");
}

/// The statements of every other column, each with what a seal in it is bound to.
pub(super) async fn each_column_is_sealed_anew_for_its_own_rows(w: Arc<World>) {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let user = w.user("ada").await;
    let (owner, factor, message) = (w.database.id(user.as_uuid()), Uuid::from_u128(7), Uuid::from_u128(8));
    let sealed = |n: u8| [&OLD[..], &[n]].concat();
    let bytes = |n: u8| w.database.bytes(&crate::support::hex(&sealed(n)));
    let pending = serde_json::Value::from(STANDARD.encode(sealed(7)));
    for statement in [
        format!("INSERT INTO stored_secrets (name, secret_sealed, create_time) VALUES ('a name', {}, 0)", bytes(1)),
        format!(
            "INSERT INTO refresh_keys (id, key_sealed, publish_time, activate_time) VALUES (258, {}, 0, 0)",
            bytes(2)
        ),
        format!(
            "INSERT INTO signing_keys (kid, algorithm, public_jwk, private_key_sealed, publish_time, activate_time) \
             VALUES ('kid', 'ES256', '{{}}', {}, 0, 0)",
            bytes(3)
        ),
        format!("UPDATE data_keys SET key_sealed = {} WHERE owner_id = {owner}", bytes(4)),
        format!(
            "INSERT INTO totp_factors (user_id, id, seed_sealed, create_time, last_step) VALUES ({owner}, {}, {}, 0, 0)",
            w.database.id(&factor),
            bytes(5)
        ),
        format!(
            "INSERT INTO outbox (id, channel, message_sealed, create_time, expire_time, attempts, due_time) \
             VALUES ({}, 'email', {}, 0, 0, 0, 0)",
            w.database.id(&message),
            bytes(6)
        ),
        format!(
            "INSERT INTO challenges (handle_hash, kind, epoch, pending, failures, create_time, expire_time) \
             VALUES ({}, 'second_factor', 0, '{pending}', 0, 0, 0)",
            w.database.bytes("0102")
        ),
    ] {
        assert_eq!(w.database.execute(&statement).await, 1, "{statement}");
    }
    let bound_to: [&[u8]; 7] = [
        b"a name",
        &[0, 0, 0, 0, 0, 0, 1, 2],
        b"kid",
        user.as_uuid().as_bytes(),
        factor.as_bytes(),
        message.as_bytes(),
        &[1, 2],
    ];
    for (column, row) in SealedColumn::ALL.into_iter().zip(bound_to) {
        let (asked, reseal) = resealing();
        let (done, _) = walk(&*w.store, column, &reseal).await;
        assert_eq!((done.resealed, done.missed, done.unreadable.len()), (1, 0, 0), "{column}");
        assert_eq!(asked.lock().unwrap().keys().collect::<Vec<_>>(), [row], "{column}");
        let (again, _) = walk(&*w.store, column, &reseal).await;
        assert_eq!((again.resealed, again.unreadable.len()), (0, 0), "{column}");
    }
}
