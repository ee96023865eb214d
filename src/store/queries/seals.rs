//! What is sealed under the master key, sealed under another one: page by page in the order of the primary key, in short
//! transactions, also where there is nothing left to do. A row that was changed since it was read stays as it is; the next walk over the
//! column finds it.

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use sqlx::{Row as _, types::Json};
use uuid::Uuid;

use super::{Database, Db, Tx};
use crate::store::{
    StoreError,
    connect::FIRST_WITH_STORED_SECRETS,
    port::{ResealedBatch, RowKey, SealBatch, SealStore, SealedColumn},
};

/// How many rows are looked at in one transaction, and sealed anew where that is needed.
const BATCH: u32 = 200;

/// The statements of a column. `$1` of the first is the row to begin with, `$2` the key whose seals are not read.
struct Statements {
    select: &'static str,
    update: &'static str,
}

/// The statements of a column of bytes: its table, its primary key, what a seal is bound to, itself.
macro_rules! statements {
    ($table:literal, $key:literal, $bound_to:literal, $column:literal) => {
        Statements {
            // The second to fifth byte of a seal name its key.
            select: concat!(
                "SELECT ",
                $key,
                ", ",
                $bound_to,
                ", CASE WHEN substr(",
                $column,
                ", 2, 4) <> $2 THEN ",
                $column,
                " END FROM ",
                $table,
                " WHERE ",
                $key,
                " >= $1 ORDER BY ",
                $key,
                " LIMIT $3"
            ),
            update: concat!("UPDATE ", $table, " SET ", $column, " = $3 WHERE ", $key, " = $1 AND ", $column, " = $2"),
        }
    };
}

const fn statements(column: SealedColumn) -> Statements {
    match column {
        SealedColumn::StoredSecrets => statements!("stored_secrets", "name", "name", "secret_sealed"),
        SealedColumn::RefreshKeys => statements!("refresh_keys", "id", "id", "key_sealed"),
        SealedColumn::SigningKeys => statements!("signing_keys", "kid", "kid", "private_key_sealed"),
        SealedColumn::DataKeys => statements!("data_keys", "owner_id", "owner_id", "key_sealed"),
        SealedColumn::TotpSeeds => statements!("totp_factors", "user_id", "id", "seed_sealed"),
        SealedColumn::Messages => statements!("outbox", "id", "id", "message_sealed"),
        // Text: which key sealed it cannot be seen. There are never many.
        SealedColumn::Challenges => Statements {
            select: "SELECT handle_hash, handle_hash, pending FROM challenges WHERE handle_hash >= $1 AND length($2) > 0 \
                     ORDER BY handle_hash LIMIT $3",
            update: "UPDATE challenges SET pending = $3 WHERE handle_hash = $1 AND pending = $2",
        },
    }
}

/// Before every row of a column.
fn first(column: SealedColumn) -> RowKey {
    match column {
        SealedColumn::StoredSecrets | SealedColumn::SigningKeys => RowKey::Text(String::new()),
        SealedColumn::RefreshKeys => RowKey::Number(i64::MIN),
        SealedColumn::DataKeys | SealedColumn::TotpSeeds | SealedColumn::Messages => RowKey::Id(Uuid::nil()),
        SealedColumn::Challenges => RowKey::Bytes(Vec::new()),
    }
}

#[async_trait]
impl SealStore for Database {
    async fn reseal(&self, batch: SealBatch) -> Result<ResealedBatch, StoreError> {
        self.transaction("reseal", batch, |tx, batch| Box::pin(reseal(tx, batch))).await
    }
}

async fn reseal(tx: &mut Tx, batch: &SealBatch) -> Result<ResealedBatch, StoreError> {
    let SealBatch { column, from, under, reseal, event } = batch;
    let rows = tx.sealed_rows(*column, from.clone().unwrap_or_else(|| first(*column)), under).await?;
    let mut done = ResealedBatch::default();
    if u32::try_from(rows.len()) == Ok(BATCH) {
        // It is read again: nothing tells the one after it.
        done.next = rows.last().map(|row| row.key.clone());
    }
    let mut anew = Vec::new();
    for SealedRow { key, bound_to, sealed } in rows {
        let Some(sealed) = sealed else { continue };
        match reseal(&bound_to.to_bytes(), &sealed) {
            Ok(None) => {}
            Ok(Some(new)) => anew.push((key, sealed, new)),
            Err(problem) => done.unreadable.push((key, problem)),
        }
    }
    if !anew.is_empty() {
        // One of before stored keys would derive others from the new master key, and take everything made with them for wrong.
        tx.bar_programs_before(FIRST_WITH_STORED_SECRETS).await?;
    }
    for (key, old, new) in anew {
        if tx.replace_seal(*column, &key, &old, &new).await? {
            done.resealed += 1;
        } else {
            done.missed += 1;
        }
    }
    if let Some(event) = event.as_ref().filter(|_| done.resealed > 0) {
        tx.audit(event).await?;
    }
    Ok(done)
}

struct SealedRow {
    key: RowKey,
    bound_to: RowKey,
    /// `None` where it can be seen that it is sealed as it should be.
    sealed: Option<Vec<u8>>,
}

type Query = sqlx::query::Query<'static, Db, <Db as sqlx::Database>::Arguments>;

fn bind(query: Query, key: &RowKey) -> Query {
    match key {
        RowKey::Text(text) => query.bind(text.clone()),
        RowKey::Number(number) => query.bind(*number),
        RowKey::Id(id) => query.bind(*id),
        RowKey::Bytes(bytes) => query.bind(bytes.clone()),
    }
}

impl Tx {
    async fn sealed_rows(
        &mut self,
        column: SealedColumn,
        from: RowKey,
        under: &[u8],
    ) -> Result<Vec<SealedRow>, StoreError> {
        let query = bind(sqlx::query(statements(column).select), &from).bind(under.to_vec()).bind(i64::from(BATCH));
        let rows = query.fetch_all(self.conn()).await?;
        let key = |row: &<Db as sqlx::Database>::Row, place: usize| -> Result<RowKey, sqlx::Error> {
            Ok(match from {
                RowKey::Text(_) => RowKey::Text(row.try_get(place)?),
                RowKey::Number(_) => RowKey::Number(row.try_get(place)?),
                RowKey::Id(_) => RowKey::Id(row.try_get(place)?),
                RowKey::Bytes(_) => RowKey::Bytes(row.try_get(place)?),
            })
        };
        let sealed = |row: &<Db as sqlx::Database>::Row| -> Result<Option<Vec<u8>>, sqlx::Error> {
            if column != SealedColumn::Challenges {
                return row.try_get(2);
            }
            let Json(text): Json<String> = row.try_get(2)?;
            // What is no base64 is no seal either, and found out when it is opened.
            Ok(Some(STANDARD.decode(text).unwrap_or_default()))
        };
        let rows: Result<_, sqlx::Error> = rows
            .iter()
            .map(|row| Ok(SealedRow { key: key(row, 0)?, bound_to: key(row, 1)?, sealed: sealed(row)? }))
            .collect();
        Ok(rows?)
    }

    /// Whether it was still what it is said to be.
    async fn replace_seal(
        &mut self,
        column: SealedColumn,
        key: &RowKey,
        old: &[u8],
        new: &[u8],
    ) -> Result<bool, StoreError> {
        let query = bind(sqlx::query(statements(column).update), key);
        let query = if column == SealedColumn::Challenges {
            query.bind(Json(STANDARD.encode(old))).bind(Json(STANDARD.encode(new)))
        } else {
            query.bind(old.to_vec()).bind(new.to_vec())
        };
        Ok(query.execute(self.conn()).await?.rows_affected() == 1)
    }
}
