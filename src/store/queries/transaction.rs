//! Transactions: named, retried when the database could not order them, and out of reach of a caller who goes away.

use std::{pin::Pin, sync::Arc, time::Duration};

use sqlx::{Pool, pool::PoolConnection};
use tokio::time::timeout;
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

/// Longest a transaction may take before its connection is given up. Beyond every limit the server sets itself, so it strikes
/// only when the server is not heard from.
const TRANSACTION_LIMIT: Duration = Duration::from_secs(35);

/// The same for a read.
const READ_LIMIT: Duration = Duration::from_secs(10);

/// The same for a rollback.
const ROLLBACK_LIMIT: Duration = Duration::from_secs(5);

const COMMIT: &str = "COMMIT";
const ROLLBACK: &str = "ROLLBACK";

/// The body of a transaction.
pub(super) type Body<'t, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 't>>;

/// A transaction under way, on a connection of its own. Dropped before its end, it takes the connection with it: whatever
/// state that is in, nobody else shall have it.
pub(super) struct Tx {
    connection: PoolConnection<Db>,
    settled: bool,
    revocations: Vec<Revocation>,
    abandoned: bool,
    around: Arc<Surroundings>,
}

impl Drop for Tx {
    fn drop(&mut self) {
        if !self.settled {
            self.connection.close_on_drop();
        }
    }
}

impl Tx {
    /// Where the statements go.
    pub(super) fn conn(&mut self) -> &mut Conn {
        &mut self.connection
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

    /// Begins, runs `body`, and commits unless it was abandoned. The feed entries are numbered last, so that the head row is
    /// held for as short as can be.
    async fn run<A, T, F>(&mut self, args: &A, body: &F) -> Result<(T, Vec<FeedEntry>), StoreError>
    where
        F: for<'t> Fn(&'t mut Self, &'t A) -> Body<'t, T>,
    {
        self.command(BEGIN).await?;
        let value = body(self, args).await?;
        let entries = if self.abandoned { Vec::new() } else { self.append_feed().await? };
        self.command(if self.abandoned { ROLLBACK } else { COMMIT }).await?;
        self.settled = true;
        Ok((value, entries))
    }

    /// Rolls back after a failure, so that the connection can be used again. If that fails too, it is closed: SQLite, for
    /// one, rolls back by itself when the disk is full and then refuses to do it again.
    async fn leave(&mut self) {
        let rolled_back = timeout(ROLLBACK_LIMIT, self.command(ROLLBACK)).await;
        self.settled = matches!(rolled_back, Ok(Ok(())));
    }

    /// A statement that begins or ends a transaction.
    async fn command(&mut self, sql: &'static str) -> Result<(), StoreError> {
        sqlx::raw_sql(sql).execute(self.conn()).await?;
        Ok(())
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
        // Within the caller's span, which is there also where this one is not.
        let span = tracing::debug_span!("transaction", db.system.name = NAME, db.query.summary = name);
        let task =
            self.tasks.spawn(async move { this.run(name, &args, body).await }.instrument(span).in_current_span());
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
        let mut tx = Tx {
            connection: self.pools.write.acquire().await?,
            settled: false,
            revocations: Vec::new(),
            abandoned: false,
            around: Arc::clone(&self.around),
        };
        match timeout(TRANSACTION_LIMIT, tx.run(args, body)).await {
            Ok(Ok((value, entries))) => {
                // Given back before anybody is told, so that whoever acts on it finds a connection.
                drop(tx);
                if !entries.is_empty() {
                    self.around.observer.committed(&entries);
                }
                Ok(value)
            }
            Ok(Err(error)) => {
                tx.leave().await;
                Err(error)
            }
            Err(_) => Err(too_slow()),
        }
    }

    /// Runs `body` on a connection for reading, in a task of its own: a statement that its caller gave up on is finished, and
    /// one that takes too long is given up together with its connection.
    pub(super) async fn reading<A, T, F>(
        &self,
        name: &'static str,
        pool: &Pool<Db>,
        args: A,
        body: F,
    ) -> Result<T, StoreError>
    where
        A: Send + Sync + 'static,
        T: Send + 'static,
        F: for<'t> Fn(&'t mut Conn, &'t A) -> Body<'t, T> + Send + Sync + 'static,
    {
        let pool = pool.clone();
        let read = async move {
            let mut connection = pool.acquire().await?;
            if let Ok(read) = timeout(READ_LIMIT, body(&mut connection, &args)).await {
                return read;
            }
            connection.close_on_drop();
            Err(too_slow())
        };
        let span = tracing::debug_span!("read", db.system.name = NAME, db.query.summary = name);
        match self.tasks.spawn(read.instrument(span).in_current_span()).await {
            Ok(result) => result,
            Err(gone) => Err(StoreError::Internal(gone.into())),
        }
    }
}

fn too_slow() -> StoreError {
    StoreError::Unavailable("it did not answer in time".into())
}
