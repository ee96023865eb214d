//! Transactions: named, retried when the database could not order them, and out of reach of a caller who goes away.

use std::{pin::Pin, sync::Arc, time::Duration};

use sqlx::Transaction;
use tracing::Instrument as _;

use super::{BEGIN, Conn, Database, Db, NAME};
use crate::{
    domain::{
        revocation::{FeedEntry, Revocation},
        secret::random,
        time::Timestamp,
    },
    store::{StoreError, connect::Surroundings, error::is_serialization_failure},
};

/// Serialization failures are tried again this often; each try waits a little longer.
const TRIES: u32 = 6;

/// Beyond the life of the longest access token, for leeway, lag and skew.
const FEED_MARGIN: Duration = Duration::from_mins(2);

/// How long a signing key outlives the last token it signed, for the same reasons.
pub(super) const KEY_MARGIN_MICROS: i64 = 120_000_000;

/// The body of a transaction.
pub(super) type Body<'t, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 't>>;

/// A transaction under way.
pub(super) struct Tx {
    transaction: Transaction<'static, Db>,
    revocations: Vec<Revocation>,
    abandoned: bool,
    around: Arc<Surroundings>,
}

impl Tx {
    /// Where the statements go.
    pub(super) fn conn(&mut self) -> &mut Conn {
        &mut self.transaction
    }

    /// The present moment.
    pub(super) fn now(&self) -> Timestamp {
        self.around.clock.now()
    }

    /// Everything from outside.
    pub(super) fn around(&self) -> Arc<Surroundings> {
        Arc::clone(&self.around)
    }

    /// Tokens must stop saying this once the transaction commits.
    pub(super) fn revoke(&mut self, revocation: Revocation) {
        self.revocations.push(revocation);
    }

    /// Nothing of this transaction happens, whatever it has written so far and however its body goes on. For an answer that
    /// is no error but says that nothing was done.
    pub(super) fn abandon(&mut self) {
        self.abandoned = true;
    }

    /// Rolls back if the transaction was abandoned; otherwise numbers the feed entries and commits. The head row is taken last, so that it is held for as short as can be.
    async fn finish(mut self) -> Result<Vec<FeedEntry>, StoreError> {
        if self.abandoned {
            self.transaction.rollback().await?;
            return Ok(Vec::new());
        }
        let entries = self.append_feed().await?;
        self.transaction.commit().await?;
        Ok(entries)
    }

    async fn append_feed(&mut self) -> Result<Vec<FeedEntry>, StoreError> {
        let revocations = std::mem::take(&mut self.revocations);
        let Ok(count) = i64::try_from(revocations.len()) else { return Ok(Vec::new()) };
        if count == 0 {
            return Ok(Vec::new());
        }
        let (last, ttl): (i64, i64) = sqlx::query_as(
            "UPDATE feed_head SET number = number + $1 WHERE id = 1 RETURNING number, longest_access_ttl",
        )
        .bind(count)
        .fetch_one(self.conn())
        .await?;
        let time = self.now();
        let expire_time = time.plus(Duration::from_micros(u64::try_from(ttl).unwrap_or(0)) + FEED_MARGIN);
        let mut entries = Vec::with_capacity(revocations.len());
        for (number, revocation) in (last - count + 1..).zip(revocations) {
            sqlx::query("INSERT INTO feed (number, revocation, time, expire_time) VALUES ($1, $2, $3, $4)")
                .bind(number)
                .bind(sqlx::types::Json(&revocation))
                .bind(time)
                .bind(expire_time)
                .execute(self.conn())
                .await?;
            entries.push(FeedEntry { number, revocation, time, expire_time });
        }
        Ok(entries)
    }
}

impl Database {
    /// Runs `body` in a transaction of its own task, commits unless it was abandoned, and tells the observer what was revoked.
    pub(super) async fn transaction<A, T, F>(&self, name: &'static str, args: A, body: F) -> Result<T, StoreError>
    where
        A: Send + Sync + 'static,
        T: Send + 'static,
        F: for<'t> Fn(&'t mut Tx, &'t A) -> Body<'t, T> + Send + Sync + 'static,
    {
        let this = self.clone();
        let span = tracing::debug_span!("transaction", db.system = NAME, name);
        let task = self.tasks.spawn(async move { this.run(name, &args, body).await }.instrument(span));
        match task.await {
            Ok(result) => result,
            Err(gone) => Err(StoreError::Internal(gone.into())),
        }
    }

    async fn run<A, T, F>(&self, name: &'static str, args: &A, body: F) -> Result<T, StoreError>
    where
        A: Send + Sync + 'static,
        F: for<'t> Fn(&'t mut Tx, &'t A) -> Body<'t, T> + Send + Sync,
    {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.attempt(args, &body).await {
                Err(error) if tries < TRIES && is_serialization_failure(&error) => {
                    tracing::debug!(name, tries, "transaction could not be ordered, trying again");
                    let jitter = u64::from(u16::from_le_bytes(random(&*self.around.entropy)));
                    tokio::time::sleep(Duration::from_micros((jitter / 8) << tries)).await;
                }
                result => return result,
            }
        }
    }

    async fn attempt<A, T, F>(&self, args: &A, body: &F) -> Result<T, StoreError>
    where
        F: for<'t> Fn(&'t mut Tx, &'t A) -> Body<'t, T>,
    {
        let transaction = self.write.begin_with(BEGIN).await?;
        let mut tx = Tx { transaction, revocations: Vec::new(), abandoned: false, around: Arc::clone(&self.around) };
        let value = body(&mut tx, args).await?;
        let entries = tx.finish().await?;
        if !entries.is_empty() {
            self.around.observer.committed(&entries);
        }
        Ok(value)
    }
}
