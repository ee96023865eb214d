//! Transactions: named, retried when the database could not order them, and out of reach of a caller who goes away.

use std::{pin::Pin, sync::Arc, time::Duration};

use sqlx::Row as _;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::Instrument as _;

use super::{Conn, Database, NAME, doubt::Doubt};
use crate::{
    domain::{
        audit::Failure,
        id::EventId,
        revocation::{FeedEntry, Revocation},
        secret::random,
        time::Timestamp,
    },
    store::{
        StoreError,
        connect::Surroundings,
        error::{is_place_taken, is_serialization_failure},
        port::RecordedEvent,
    },
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

/// How long a COMMIT may take to be answered before it counts as unanswered. A server that waits for its standby may take
/// seconds.
const COMMIT_LIMIT: Duration = Duration::from_secs(15);

/// The same for a read.
pub(super) const READ_LIMIT: Duration = Duration::from_secs(10);

/// The same for a rollback.
const ROLLBACK_LIMIT: Duration = Duration::from_secs(5);

const COMMIT: &str = "COMMIT";
pub(super) const ROLLBACK: &str = "ROLLBACK";

/// The body of a transaction.
pub(super) type Body<'t, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 't>>;

/// A transaction under way, on a connection of its own. Dropped before its end, it takes the connection with it.
pub(super) struct Tx {
    connection: Conn,
    doubt: Doubt,
    ended: bool,
    revocations: Vec<Revocation>,
    pub(super) events: Vec<RecordedEvent>,
    /// What somebody tried in vain, and whether it is among the events or only to be counted.
    failures: Vec<(Failure, bool)>,
    /// How many events were appended.
    recorded: usize,
    abandoned: bool,
    enqueued: bool,
    around: Arc<Surroundings>,
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

    /// An event that is in the audit trail if, and only if, this transaction was committed.
    pub(super) fn leave_mark(&mut self, event: EventId) {
        self.doubt.mark = Some(event);
    }

    /// Tokens must stop saying this once the transaction commits.
    pub(super) fn revoke(&mut self, revocation: Revocation) {
        self.revocations.push(revocation);
    }

    /// Somebody tried something in vain. Whether that is to be an event; otherwise it counts once the transaction commits.
    pub(super) fn note_failure(&mut self, failure: Failure) -> bool {
        let is_event = self.around.observer.is_event(&failure, self.now());
        self.failures.push((failure, is_event));
        is_event
    }

    /// There will be messages to send once the transaction commits.
    pub(super) fn note_messages(&mut self) {
        self.enqueued = true;
    }

    /// Nothing of this transaction happens, whatever it has written so far and however its body goes on. For an answer that
    /// is no error but says that nothing was done.
    pub(super) fn abandon(&mut self) {
        self.abandoned = true;
    }

    /// Begins and runs `body`; what remains is to commit, unless it was abandoned. The feed entries are numbered last, so
    /// that the head row is held for as short as can be; and after them the events chained, under a lock that most do not
    /// have to wait for.
    async fn run<A, T, F>(&mut self, args: &A, body: &F) -> Result<(T, Vec<FeedEntry>), StoreError>
    where
        F: for<'t> Fn(&'t mut Self, &'t A) -> Body<'t, T>,
    {
        // The last row that a beginning answers, if it answers any, is the transaction's id.
        let answer = sqlx::raw_sql(self.connection.manner().begin).fetch_all(self.conn()).await?;
        self.doubt.transaction = answer.last().map(|row| row.try_get(0)).transpose()?;
        let value = body(self, args).await?;
        if self.abandoned {
            self.command(ROLLBACK).await?;
            self.end();
            return Ok((value, Vec::new()));
        }
        let entries = self.append_feed().await?;
        self.recorded = self.events.len();
        self.append_events().await?;
        Ok((value, entries))
    }

    /// Commits. After a failure nobody can tell yet whether it was committed, unless the database could not order it.
    async fn commit(&mut self) -> Result<(), StoreError> {
        timeout(COMMIT_LIMIT, self.command(COMMIT)).await.map_err(|_| too_slow())??;
        self.end();
        Ok(())
    }

    /// Rolls back after a failure, so that the connection can be used again. If that fails too, it is closed: SQLite, for
    /// one, rolls back by itself when the disk is full and then refuses to do it again.
    async fn leave(&mut self) {
        if let Ok(Ok(())) = timeout(ROLLBACK_LIMIT, self.command(ROLLBACK)).await {
            self.end();
        }
    }

    const fn end(&mut self) {
        self.ended = true;
        self.connection.settle();
    }

    /// A statement that ends a transaction.
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
                Err(error) if tries < TRIES && (is_serialization_failure(&error) || is_place_taken(&error)) => {
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
        let limit = Instant::now() + TRANSACTION_LIMIT;
        let mut tx = Tx {
            connection: Conn::acquire(&self.pools.write, self.pools.manner).await?,
            doubt: Doubt::default(),
            ended: false,
            revocations: Vec::new(),
            events: Vec::new(),
            failures: Vec::new(),
            recorded: 0,
            abandoned: false,
            enqueued: false,
            around: Arc::clone(&self.around),
        };
        let (value, entries) = match timeout_at(limit, tx.run(args, body)).await {
            Ok(Ok(done)) => done,
            Ok(Err(error)) => {
                tx.leave().await;
                return Err(error);
            }
            Err(_) => return Err(too_slow()),
        };
        let (enqueued, recorded) = (tx.enqueued && !tx.abandoned, tx.recorded);
        let failures = if tx.abandoned { Vec::new() } else { std::mem::take(&mut tx.failures) };
        if !tx.ended
            && let Err(error) = tx.commit().await
        {
            let doubt = std::mem::take(&mut tx.doubt);
            if doubt.is_settled_by(&error) {
                tx.leave().await;
                return Err(error);
            }
            drop(tx);
            self.resolve(doubt, limit, error).await?;
        } else {
            // Given back before anybody is told, so that whoever acts on it finds a connection.
            drop(tx);
        }
        if !entries.is_empty() {
            self.around.observer.committed(&entries);
        }
        if enqueued {
            self.around.observer.enqueued();
        }
        for (failure, is_event) in failures {
            self.around.observer.failed(failure, is_event, self.around.clock.now());
        }
        if recorded > 0 {
            self.around.observer.recorded();
        }
        Ok(value)
    }
}

pub(super) fn too_slow() -> StoreError {
    StoreError::Unavailable("it did not answer in time".into())
}
