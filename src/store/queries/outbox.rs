//! Messages that wait to be sent.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::types::Json;
use uuid::Uuid;

use super::{Database, Db, Tx, throttle::Room};
use crate::{
    domain::time::Timestamp,
    store::{
        StoreError,
        port::{Claim, DeadMessage, DueMessage, MessageBudget, NewMessage, OutboxStore, PurgedMessages},
    },
};

/// Rows deleted in one transaction, so that nobody waits long for SQLite's write lock.
const BATCH: i64 = 500;

type DueRow = (Uuid, String, Vec<u8>, Timestamp, Timestamp, i64, Option<String>);
type DeadRow = (Uuid, String, Vec<u8>, Timestamp, Timestamp, Timestamp, i64, Option<String>);

#[async_trait]
impl OutboxStore for Database {
    async fn enqueue(&self, messages: Vec<NewMessage>) -> Result<(), StoreError> {
        self.transaction("enqueue_messages", messages, |tx, messages| {
            Box::pin(async move {
                for message in messages {
                    tx.enqueue(message).await?;
                }
                Ok(())
            })
        })
        .await
    }

    async fn due_messages(&self, channels: &'static [&'static str], limit: u32) -> Result<u32, StoreError> {
        let now = self.around.clock.now();
        self.reading("due_messages", &self.pools.read, (channels, limit, now), |conn, (channels, limit, now)| {
            Box::pin(async move {
                let (count,): (i64,) = sqlx::query_as(concat!(
                    "SELECT COUNT(*) FROM (SELECT 1 FROM outbox WHERE dead_time IS NULL AND due_time <= $1 \
                     AND expire_time > $1 AND ",
                    is_among!("channel", "$2"),
                    " LIMIT $3) AS due"
                ))
                .bind(*now)
                .bind(Json(*channels))
                .bind(i64::from(*limit))
                .fetch_one(conn)
                .await?;
                // Not above the limit.
                Ok(u32::try_from(count).unwrap_or(*limit))
            })
        })
        .await
    }

    async fn claim_messages(&self, claim: Claim) -> Result<Vec<DueMessage>, StoreError> {
        self.transaction("claim_messages", claim, |tx, claim| Box::pin(tx.take(claim))).await
    }

    async fn release_messages(&self, lease: Uuid) -> Result<u64, StoreError> {
        self.transaction("release_messages", lease, |tx, lease| {
            Box::pin(async move {
                let now = tx.now();
                let released = sqlx::query(
                    "UPDATE outbox SET due_time = $2, lease = NULL, attempts = attempts - 1 WHERE lease = $1 AND dead_time IS NULL",
                )
                .bind(*lease)
                .bind(now)
                .execute(tx.conn())
                .await?
                .rows_affected();
                if released > 0 {
                    tx.note_messages();
                }
                Ok(released)
            })
        })
        .await
    }

    async fn correct_messages(&self, lease: Duration, pause: Duration) -> Result<(), StoreError> {
        self.transaction("correct_messages", (lease, pause), |tx, (lease, pause)| {
            Box::pin(async move {
                let now = tx.now();
                // What somebody may have stays theirs for as long as they may have it from now on.
                for (sql, furthest, due_time) in [
                    (
                        "UPDATE outbox SET due_time = $2 WHERE due_time > $1 AND dead_time IS NULL AND lease IS NOT NULL",
                        now.plus(*lease),
                        now.plus(*lease),
                    ),
                    (
                        "UPDATE outbox SET due_time = $2 WHERE due_time > $1 AND dead_time IS NULL AND lease IS NULL",
                        now.plus(*pause),
                        now,
                    ),
                    (
                        "UPDATE outbox SET due_time = $2 WHERE due_time > $1 AND dead_time IS NULL AND lease IS NULL AND attempts = 0",
                        now,
                        now,
                    ),
                ] {
                    sqlx::query(sql).bind(furthest).bind(due_time).execute(tx.conn()).await?;
                }
                Ok(())
            })
        })
        .await
    }

    async fn finish_message(&self, id: Uuid, lease: Uuid) -> Result<bool, StoreError> {
        self.transaction("finish_message", (id, lease), |tx, (id, lease)| {
            Box::pin(async move {
                let deleted = sqlx::query("DELETE FROM outbox WHERE id = $1 AND lease = $2 AND dead_time IS NULL")
                    .bind(*id)
                    .bind(*lease)
                    .execute(tx.conn())
                    .await?;
                Ok(deleted.rows_affected() == 1)
            })
        })
        .await
    }

    async fn postpone_message(
        &self,
        id: Uuid,
        lease: Uuid,
        due_time: Timestamp,
        error: String,
    ) -> Result<bool, StoreError> {
        self.transaction("postpone_message", (id, lease, due_time, error), |tx, (id, lease, due_time, error)| {
            Box::pin(async move {
                let postponed = sqlx::query(
                    "UPDATE outbox SET due_time = $3, lease = NULL, last_error = $4 \
                     WHERE id = $1 AND lease = $2 AND dead_time IS NULL",
                )
                .bind(*id)
                .bind(*lease)
                .bind(*due_time)
                .bind(error)
                .execute(tx.conn())
                .await?;
                Ok(postponed.rows_affected() == 1)
            })
        })
        .await
    }

    async fn bury_message(&self, id: Uuid, lease: Uuid, error: String) -> Result<bool, StoreError> {
        self.transaction("bury_message", (id, lease, error), |tx, (id, lease, error)| {
            Box::pin(async move {
                let now = tx.now();
                let buried = sqlx::query(
                    "UPDATE outbox SET dead_time = $3, lease = NULL, last_error = $4 \
                     WHERE id = $1 AND lease = $2 AND dead_time IS NULL",
                )
                .bind(*id)
                .bind(*lease)
                .bind(now)
                .bind(error)
                .execute(tx.conn())
                .await?;
                Ok(buried.rows_affected() == 1)
            })
        })
        .await
    }

    async fn dead_messages(&self, after: Option<Uuid>, limit: u32) -> Result<Vec<DeadMessage>, StoreError> {
        // Ids begin with the time, so their order is that of the messages. None is all zeros.
        let after = after.unwrap_or(Uuid::nil());
        self.reading("dead_messages", &self.pools.read, (after, limit), |conn, (after, limit)| {
            Box::pin(async move {
                let rows: Vec<DeadRow> = sqlx::query_as(
                    "SELECT id, channel, message_sealed, create_time, expire_time, dead_time, attempts, last_error \
                     FROM outbox WHERE dead_time IS NOT NULL AND id > $1 ORDER BY id LIMIT $2",
                )
                .bind(*after)
                .bind(i64::from(*limit))
                .fetch_all(conn)
                .await?;
                Ok(rows.into_iter().map(dead).collect())
            })
        })
        .await
    }

    async fn retry_messages(&self, id: Option<Uuid>) -> Result<u64, StoreError> {
        self.transaction("retry_messages", id, |tx, id| {
            Box::pin(async move {
                let now = tx.now();
                let retried = sqlx::query(
                    "UPDATE outbox SET dead_time = NULL, due_time = $2, attempts = 0, last_error = NULL \
                     WHERE dead_time IS NOT NULL AND expire_time > $2 AND id = COALESCE($1, id)",
                )
                .bind(*id)
                .bind(now)
                .execute(tx.conn())
                .await?
                .rows_affected();
                if retried > 0 {
                    tx.note_messages();
                }
                Ok(retried)
            })
        })
        .await
    }

    async fn drop_messages(&self, id: Option<Uuid>) -> Result<u64, StoreError> {
        self.transaction("drop_messages", id, |tx, id| {
            Box::pin(async move {
                let dropped = sqlx::query("DELETE FROM outbox WHERE dead_time IS NOT NULL AND id = COALESCE($1, id)")
                    .bind(*id)
                    .execute(tx.conn())
                    .await?;
                Ok(dropped.rows_affected())
            })
        })
        .await
    }

    async fn purge_messages(&self, dead_before: Timestamp) -> Result<PurgedMessages, StoreError> {
        let mut all = PurgedMessages::default();
        loop {
            let batch = self.transaction("purge_messages", dead_before, |tx, dead_before| {
                Box::pin(tx.purge_messages(*dead_before))
            });
            let batch = batch.await?;
            if batch == PurgedMessages::default() {
                return Ok(all);
            }
            all.expired.extend(batch.expired);
            all.dead += batch.dead;
        }
    }
}

impl Tx {
    /// Puts a message into the outbox. It is sent if, and only if, this transaction commits; not if its budget is spent.
    pub(super) async fn enqueue(&mut self, message: &NewMessage) -> Result<(), StoreError> {
        let now = self.now();
        if let Some(MessageBudget { key, rate }) = &message.budget
            && self.spend(key, *rate, now).await? != Room::Spent
        {
            tracing::debug!("a message is left out: its recipient has had enough of its kind");
            return Ok(());
        }
        // Whom it is about need not be locked, and may have gone meanwhile.
        sqlx::query(
            "INSERT INTO outbox (id, channel, user_id, message_sealed, create_time, expire_time, attempts, due_time) \
             VALUES ($1, $2, (SELECT id FROM users WHERE id = $3), $4, $5, $6, 0, $5)",
        )
        .bind(message.id)
        .bind(message.channel)
        .bind(message.user)
        .bind(&message.sealed)
        .bind(now)
        .bind(message.expire_time)
        .execute(self.conn())
        .await?;
        self.note_messages();
        Ok(())
    }

    /// Deletes a few.
    async fn purge_messages(&mut self, dead_before: Timestamp) -> Result<PurgedMessages, StoreError> {
        let now = self.now();
        let expired: Vec<(String,)> = sqlx::query_as(
            "DELETE FROM outbox WHERE id IN (SELECT id FROM outbox WHERE dead_time IS NULL AND expire_time <= $1 LIMIT $2) \
             AND dead_time IS NULL RETURNING channel",
        )
        .bind(now)
        .bind(BATCH)
        .fetch_all(self.conn())
        .await?;
        let dead = sqlx::query(
            "DELETE FROM outbox WHERE id IN (SELECT id FROM outbox WHERE dead_time < $1 LIMIT $2) AND dead_time < $1",
        )
        .bind(dead_before)
        .bind(BATCH)
        .execute(self.conn())
        .await?;
        let expired = expired.into_iter().map(|(channel,)| channel).collect();
        Ok(PurgedMessages { expired, dead: dead.rows_affected() })
    }

    async fn take(&mut self, claim: &Claim) -> Result<Vec<DueMessage>, StoreError> {
        let now = self.now();
        let mut rows: Vec<DueRow> = sqlx::query_as::<Db, DueRow>(concat!(
            "UPDATE outbox SET lease = $1, attempts = attempts + 1, due_time = $2 WHERE ",
            is_among_taken!(
                "id",
                concat!(
                    "SELECT id FROM outbox WHERE dead_time IS NULL AND due_time <= $3 AND expire_time > $3 AND ",
                    is_among!("channel", "$4"),
                    // What was never tried comes before what failed: after an outage nobody waits for a code behind old ones.
                    " ORDER BY CASE WHEN attempts = 0 THEN 0 ELSE 1 END, due_time LIMIT $5"
                )
            ),
            " RETURNING id, channel, message_sealed, create_time, expire_time, attempts, last_error"
        ))
        .bind(claim.lease)
        .bind(claim.until)
        .bind(now)
        .bind(Json(claim.channels))
        .bind(i64::from(claim.limit))
        .fetch_all(self.conn())
        .await?;
        rows.sort_by_key(|(id, ..)| *id);
        Ok(rows.into_iter().map(due).collect())
    }
}

fn due((id, channel, sealed, create_time, expire_time, attempts, last_error): DueRow) -> DueMessage {
    let last_error = last_error.unwrap_or_default();
    DueMessage { id, channel, sealed, create_time, expire_time, attempts, last_error }
}

fn dead((id, channel, sealed, create_time, expire_time, dead_time, attempts, last_error): DeadRow) -> DeadMessage {
    let last_error = last_error.unwrap_or_default();
    DeadMessage { id, channel, sealed, create_time, expire_time, dead_time, attempts, last_error }
}
