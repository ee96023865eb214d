//! Counters of failures, and budgets of messages.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::types::Json;

use super::{Database, Tx, imports::hex};
use crate::{
    domain::{
        throttle::{HARDLY_QUIET, LONGEST_WAIT, QUIET, Rate, Spent, Steps},
        time::{Timestamp, micros},
    },
    store::{
        StoreError,
        port::{Attempt, MessageBudgets, Spending, ThrottleKey, ThrottleStore},
    },
};

/// An attempt is tried again this often if what was in its way went meanwhile.
const TRIES: u32 = 3;
/// Rows deleted in one transaction, so that nobody waits long for SQLite's write lock.
const BATCH: i64 = 500;

/// No budget may be spent for longer ahead.
const FURTHEST_BUDGET: Duration = Duration::from_hours(1);

/// What became of the wish to spend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// It is spent.
    Spent,
    /// There is no room for it.
    None,
    /// There is none, by a moment that a wrong clock wrote. It is set right, if this transaction commits.
    Corrected,
}

/// The wait that goes with a row's failures, by the list `$3`; NULL beyond its end, where `$5` holds.
macro_rules! listed_wait {
    () => {
        "CAST($3 ->> CAST(throttles.failures AS INTEGER) AS BIGINT)"
    };
}

#[async_trait]
impl ThrottleStore for Database {
    async fn reserve_attempt(&self, key: ThrottleKey, steps: Steps) -> Result<Attempt, StoreError> {
        self.transaction("reserve_attempt", (key, steps), |tx, (key, steps)| Box::pin(tx.reserve_attempt(key, *steps)))
            .await
    }

    async fn give_back_attempt(&self, key: ThrottleKey) -> Result<(), StoreError> {
        self.transaction("give_back_attempt", key, |tx, key| {
            Box::pin(async move {
                // In this order: what the first statement has locked nobody changes before the second.
                for sql in [
                    "UPDATE throttles SET failures = failures - 1 WHERE key_hash = $1 AND failures > 0",
                    "DELETE FROM throttles WHERE key_hash = $1 AND failures <= 0",
                ] {
                    sqlx::query(sql).bind(&key[..]).execute(tx.conn()).await?;
                }
                Ok(())
            })
        })
        .await
    }

    async fn count_failure(&self, key: ThrottleKey) -> Result<(), StoreError> {
        self.transaction("count_failure", key, |tx, key| {
            Box::pin(async move {
                let now = tx.now();
                sqlx::query(
                    "INSERT INTO throttles (key_hash, failures, time) VALUES ($1, 1, $2) ON CONFLICT (key_hash) DO UPDATE \
                     SET failures = CASE WHEN $2 - throttles.time < $3 THEN throttles.failures + 1 ELSE 1 END, time = $2",
                )
                .bind(&key[..])
                .bind(now)
                .bind(micros(QUIET))
                .execute(tx.conn())
                .await?;
                Ok(())
            })
        })
        .await
    }

    async fn counted_wait(&self, key: ThrottleKey, steps: Steps) -> Result<Option<Duration>, StoreError> {
        let found = self.reading("counted_wait", &self.pools.read, key, |conn, key| {
            Box::pin(async move {
                let row: Option<(i64, Timestamp)> =
                    sqlx::query_as("SELECT failures, time FROM throttles WHERE key_hash = $1")
                        .bind(&key[..])
                        .fetch_optional(conn)
                        .await?;
                Ok(row)
            })
        });
        let now = self.around.clock.now();
        let wait = |(failures, last)| steps.retry_after(counted(failures), last, now).unwrap_or_default();
        Ok(found.await?.map(wait))
    }

    async fn forget_failures(&self, keys: Vec<ThrottleKey>) -> Result<(), StoreError> {
        self.transaction("forget_failures", keys, |tx, keys| Box::pin(tx.forget_failures(keys))).await
    }

    async fn spend_message(&self, budgets: MessageBudgets) -> Result<Spending, StoreError> {
        let spent = self.transaction("spend_message", budgets, |tx, budgets| Box::pin(tx.spend_message(budgets)));
        let (spending, to_correct) = spent.await?;
        if to_correct {
            // By itself, because what a refusal had written is undone. Until it is written down the wait would begin anew each time.
            self.transaction("correct_budgets", budgets, |tx, budgets| Box::pin(tx.correct_budgets(budgets))).await?;
        }
        Ok(spending)
    }

    async fn purge_throttles(&self) -> Result<u64, StoreError> {
        self.transaction("correct_throttles", (), |tx, ()| Box::pin(tx.correct_throttles())).await?;
        let mut purged = 0;
        loop {
            let batch = self.transaction("purge_throttles", (), |tx, ()| Box::pin(tx.purge_throttles()));
            match batch.await? {
                0 => return Ok(purged),
                batch => purged += batch,
            }
        }
    }
}

impl Tx {
    /// See the port.
    async fn reserve_attempt(&mut self, key: &ThrottleKey, steps: Steps) -> Result<Attempt, StoreError> {
        for _ in 0..TRIES {
            let now = self.now();
            // The statement holds no rule but that of time: which wait goes with how many failures, it is told.
            let reserved = sqlx::query(concat!(
                "INSERT INTO throttles (key_hash, failures, time) VALUES ($1, 1, $2) ON CONFLICT (key_hash) DO UPDATE \
                 SET failures = CASE WHEN $2 - throttles.time < $4 THEN throttles.failures + 1 ELSE 1 END, time = $2 WHERE ",
                listed_wait!(),
                " = 0 OR $2 - throttles.time >= COALESCE(",
                listed_wait!(),
                ", $5)"
            ))
            .bind(&key[..])
            .bind(now)
            .bind(Json(steps.waits()))
            .bind(micros(QUIET))
            .bind(micros(steps.wait(u32::MAX)))
            .execute(self.conn())
            .await?;
            if reserved.rows_affected() == 1 {
                return Ok(Attempt::Reserved);
            }
            if let Some(wait) = self.wait_in_the_way(key, steps, now).await? {
                return Ok(Attempt::Wait(wait));
            }
        }
        Err(StoreError::Unavailable("what was in the way of an attempt is gone, try again".into()))
    }

    /// How long an attempt has to wait. If the last one was made in what is the future by now, the wait begins now.
    async fn wait_in_the_way(
        &mut self,
        key: &ThrottleKey,
        steps: Steps,
        now: Timestamp,
    ) -> Result<Option<Duration>, StoreError> {
        let row: Option<(i64, Timestamp)> = sqlx::query_as("SELECT failures, time FROM throttles WHERE key_hash = $1")
            .bind(&key[..])
            .fetch_optional(self.conn())
            .await?;
        let Some((failures, last)) = row else { return Ok(None) };
        if last > now {
            sqlx::query("UPDATE throttles SET time = $2 WHERE key_hash = $1 AND time > $2")
                .bind(&key[..])
                .bind(now)
                .execute(self.conn())
                .await?;
        }
        Ok(steps.retry_after(counted(failures), last, now))
    }

    /// See the port.
    pub(super) async fn forget_failures(&mut self, keys: &[ThrottleKey]) -> Result<(), StoreError> {
        let keys: Vec<_> = keys.iter().map(|key| hex(key)).collect();
        sqlx::query(concat!("DELETE FROM throttles WHERE ", is_listed_hex!("key_hash", "$1")))
            .bind(Json(keys))
            .execute(self.conn())
            .await?;
        Ok(())
    }

    /// See the port. Everybody's comes last, because everybody waits for its row. With it, whether the budgets are to be corrected.
    async fn spend_message(&mut self, budgets: &MessageBudgets) -> Result<(Spending, bool), StoreError> {
        let MessageBudgets { asked_for, recipient, each, overall, all } = budgets;
        let now = self.now();
        let room = self.spend(asked_for, *each, now).await?;
        if room != Room::Spent {
            return Ok((self.wait_for_budget(asked_for, *each, now).await?, room == Room::Corrected));
        }
        let may_receive = self.spend(recipient, *each, now).await? == Room::Spent;
        let room = self.spend(overall, *all, now).await?;
        if room != Room::Spent {
            return Ok((self.wait_for_budget(overall, *all, now).await?, room == Room::Corrected));
        }
        Ok((if may_receive { Spending::Spent } else { Spending::RecipientSpent }, false))
    }

    /// Spends one of a rate, if there is room for it. The rule for what a clock spent that was ahead is that of the domain; a
    /// microsecond more tells it from what is spent to the last.
    pub(super) async fn spend(&mut self, key: &ThrottleKey, rate: Rate, now: Timestamp) -> Result<Room, StoreError> {
        let written: Option<(Timestamp,)> = sqlx::query_as(
            "INSERT INTO budgets (key_hash, spent_until) VALUES ($1, $2 + $3) ON CONFLICT (key_hash) DO UPDATE \
             SET spent_until = CASE WHEN budgets.spent_until > $5 THEN $2 + $4 + 1 \
             WHEN budgets.spent_until > $2 THEN budgets.spent_until + $3 ELSE $2 + $3 END \
             WHERE budgets.spent_until > $5 OR budgets.spent_until + $3 <= $2 + $4 RETURNING spent_until",
        )
        .bind(&key[..])
        .bind(now)
        .bind(rate.each())
        .bind(rate.ahead())
        .bind(rate.furthest(now))
        .fetch_optional(self.conn())
        .await?;
        Ok(match written {
            Some((until,)) if until.as_micros() <= now.as_micros() + rate.ahead() => Room::Spent,
            Some(_) => Room::Corrected,
            None => Room::None,
        })
    }

    /// What is spent for longer ahead than can be is spent to the last.
    async fn correct_budgets(&mut self, budgets: &MessageBudgets) -> Result<(), StoreError> {
        let MessageBudgets { asked_for, recipient, each, overall, all } = budgets;
        let now = self.now();
        for (key, rate) in [(asked_for, each), (recipient, each), (overall, all)] {
            sqlx::query("UPDATE budgets SET spent_until = $2 + $3 WHERE key_hash = $1 AND spent_until > $4")
                .bind(&key[..])
                .bind(now)
                .bind(rate.ahead())
                .bind(rate.furthest(now))
                .execute(self.conn())
                .await?;
        }
        Ok(())
    }

    async fn wait_for_budget(&mut self, key: &ThrottleKey, rate: Rate, now: Timestamp) -> Result<Spending, StoreError> {
        self.abandon();
        let row: Option<(Timestamp,)> = sqlx::query_as("SELECT spent_until FROM budgets WHERE key_hash = $1")
            .bind(&key[..])
            .fetch_optional(self.conn())
            .await?;
        let spent = Spent { until: row.map_or(now, |row| row.0) };
        Ok(Spending::Wait(rate.retry_after(spent, now).unwrap_or_default()))
    }

    async fn correct_throttles(&mut self) -> Result<(), StoreError> {
        let now = self.now();
        sqlx::query("UPDATE throttles SET time = $1 WHERE time > $1").bind(now).execute(self.conn()).await?;
        // As when they are spent; here the rate is not known, so it is that of the longest.
        sqlx::query("UPDATE budgets SET spent_until = $1 WHERE spent_until > $2")
            .bind(now.plus(FURTHEST_BUDGET))
            .bind(now.plus(FURTHEST_BUDGET + LONGEST_WAIT))
            .execute(self.conn())
            .await?;
        Ok(())
    }

    /// Deletes a few rows. What has changed since it was found stays.
    async fn purge_throttles(&mut self) -> Result<u64, StoreError> {
        let now = self.now();
        let failures = sqlx::query(
            "DELETE FROM throttles WHERE key_hash IN (SELECT key_hash FROM throttles \
             WHERE time < $1 OR (failures <= 1 AND time < $2) ORDER BY time LIMIT $3) \
             AND (time < $1 OR (failures <= 1 AND time < $2))",
        )
        .bind(now.minus(QUIET))
        .bind(now.minus(HARDLY_QUIET))
        .bind(BATCH)
        .execute(self.conn())
        .await?;
        let budgets = sqlx::query(
            "DELETE FROM budgets WHERE key_hash IN (SELECT key_hash FROM budgets WHERE spent_until < $1 \
             ORDER BY spent_until LIMIT $2) AND spent_until < $1",
        )
        .bind(now)
        .bind(BATCH)
        .execute(self.conn())
        .await?;
        Ok(failures.rows_affected() + budgets.rows_affected())
    }
}

fn counted(failures: i64) -> u32 {
    u32::try_from(failures).unwrap_or(u32::MAX)
}
