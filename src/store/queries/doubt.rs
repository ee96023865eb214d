//! Commits that were sent and not answered: the connection broke, the server was stopped, the network said nothing. Whether
//! such a transaction was committed is asked of the database on another connection.
//!
//! The proof that it was is an audit event that it wrote. The number that the database gave the transaction only says
//! whether it is still under way, or over: after a crash that lost the end of its log, Postgres gives a number again, so
//! that "committed" may be said of somebody else's transaction.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::{Database, OUTCOME};
use crate::{
    domain::id::EventId,
    store::{StoreError, error::is_serialization_failure},
};

/// How long the database is asked. A server that was stopped may be back by then.
const LIMIT: Duration = Duration::from_secs(10);

/// Between two questions.
const PAUSE: Duration = Duration::from_millis(50);

/// What is known of a transaction by which its end can be found out.
#[derive(Clone, Debug, Default)]
pub(super) struct Doubt {
    /// Its number at the database. `None` where a commit is always answered.
    pub(super) transaction: Option<String>,
    /// An event that it wrote.
    pub(super) mark: Option<EventId>,
}

/// What became of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Committed,
    RolledBack,
    Unknown,
}

/// What the database says of its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Number {
    UnderWay,
    Committed,
    Aborted,
    Forgotten,
}

impl Doubt {
    /// Whether this failure of a commit leaves no doubt that it did not happen.
    pub(super) fn is_settled_by(&self, error: &StoreError) -> bool {
        self.transaction.is_none() || is_serialization_failure(error)
    }
}

impl Database {
    /// Finds out what became of a transaction whose commit failed with `error`. `Ok` if it was committed.
    ///
    /// # Errors
    /// `error`, if it was not, or if that cannot be found out.
    pub(super) async fn resolve(&self, doubt: Doubt, limit: Instant, error: StoreError) -> Result<(), StoreError> {
        let limit = limit.min(Instant::now() + LIMIT);
        let fate = timeout_at(limit, self.ask(&doubt)).await.unwrap_or(Fate::Unknown);
        tracing::warn!(?fate, %error, "a commit was not answered");
        if fate == Fate::Committed { Ok(()) } else { Err(error) }
    }

    /// Asks until the database knows.
    async fn ask(&self, doubt: &Doubt) -> Fate {
        loop {
            match self.fate(doubt).await {
                Ok(Some(fate)) => return fate,
                Ok(None) => {}
                Err(error) => tracing::debug!(%error, "cannot ask what became of a commit"),
            }
            sleep(PAUSE).await;
        }
    }

    /// What became of it; `None` while it is under way.
    async fn fate(&self, doubt: &Doubt) -> Result<Option<Fate>, StoreError> {
        let Some(transaction) = &doubt.transaction else { return Ok(Some(Fate::Unknown)) };
        // In this order: whoever is found to have committed left a mark that is there to be seen now.
        let number = self.number(transaction.clone()).await?;
        let proven = match doubt.mark {
            Some(mark) if number != Number::UnderWay => Some(self.is_marked(mark).await?),
            _ => None,
        };
        Ok(match (number, proven) {
            (Number::UnderWay, _) => None,
            (_, Some(true)) => Some(Fate::Committed),
            (Number::Aborted, _) | (Number::Committed, Some(false)) => Some(Fate::RolledBack),
            (Number::Committed, None) | (Number::Forgotten, _) => Some(Fate::Unknown),
        })
    }

    async fn number(&self, transaction: String) -> Result<Number, StoreError> {
        let answer = self.reading("transaction_status", &self.pools.write, transaction, |conn, transaction| {
            Box::pin(async move {
                let answer: (Option<String>,) =
                    sqlx::query_as(OUTCOME).bind(transaction.as_str()).fetch_one(conn).await?;
                Ok(answer.0)
            })
        });
        match answer.await {
            Ok(Some(word)) => Ok(match &*word {
                "in progress" => Number::UnderWay,
                "committed" => Number::Committed,
                "aborted" => Number::Aborted,
                _ => Number::Forgotten,
            }),
            // Long ago; or of the future, because this server never saw it.
            Ok(None) | Err(StoreError::Internal(_)) => Ok(Number::Forgotten),
            Err(error) => Err(error),
        }
    }

    async fn is_marked(&self, mark: EventId) -> Result<bool, StoreError> {
        self.reading("mark_of_commit", &self.pools.write, mark, |conn, mark| {
            Box::pin(async move {
                let count: (i64,) = sqlx::query_as("SELECT COUNT(*) FROM audit_events WHERE id = $1")
                    .bind(*mark)
                    .fetch_one(conn)
                    .await?;
                Ok(count.0 > 0)
            })
        })
        .await
    }
}
