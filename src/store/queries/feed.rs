//! The numbered feed of revocations.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::types::Json;
use uuid::Uuid;

use super::{Database, Tx, audit::detail, rows::from_json, transaction::KEY_MARGIN_MICROS};
use crate::{
    domain::{
        audit::{Act, AuditEvent, Origin},
        id::{EventId, ServiceAccountId, SessionId, Subject},
        revocation::{FeedEntry, Revocation},
        time::Timestamp,
    },
    store::{
        StoreError,
        port::{FeedPage, FeedStore, TokenRevocation},
    },
};

#[derive(sqlx::FromRow)]
struct FeedRow {
    incarnation: Uuid,
    head: i64,
    database_time: Timestamp,
    number: Option<i64>,
    revocation: Option<Json<serde_json::Value>>,
    time: Option<Timestamp>,
    expire_time: Option<Timestamp>,
}

#[async_trait]
impl FeedStore for Database {
    async fn read_feed(&self, after: i64, limit: u32) -> Result<FeedPage, StoreError> {
        let rows = self.reading("read_feed", &self.pools.feed, (after, limit), |conn, (after, limit)| {
            Box::pin(async move {
                // One statement, one snapshot: the head is not older than the entries.
                let rows: Vec<FeedRow> = sqlx::query_as(concat!(
                    "SELECT h.incarnation, h.number AS head, ",
                    database_time!(),
                    " AS database_time, f.number, f.revocation, f.time, f.expire_time \
                     FROM feed_head h LEFT JOIN feed f ON f.number > $1 WHERE h.id = 1 ORDER BY f.number LIMIT $2"
                ))
                .bind(*after)
                .bind(i64::from(*limit))
                .fetch_all(conn)
                .await?;
                Ok(rows)
            })
        });
        let rows = rows.await?;
        let Some(first) = rows.first() else {
            return Err(StoreError::corrupt("feed_head", "id", "the row is missing"));
        };
        let (incarnation, head, database_time) = (first.incarnation, first.head, first.database_time);
        let entries = rows.into_iter().filter_map(FeedRow::entry).collect::<Result<_, _>>()?;
        Ok(FeedPage { incarnation, head, entries, database_time })
    }

    async fn revoke_token(&self, revocation: TokenRevocation, origin: Origin) -> Result<bool, StoreError> {
        self.transaction("revoke_token", (revocation, origin), |tx, (revocation, origin)| {
            Box::pin(revoke_token(tx, *revocation, origin))
        })
        .await
    }

    async fn purge_feed(&self) -> Result<u64, StoreError> {
        self.transaction("purge_feed", (), |tx, ()| {
            Box::pin(async move {
                let now = tx.now();
                let purged =
                    sqlx::query("DELETE FROM feed WHERE expire_time < $1").bind(now).execute(tx.conn()).await?;
                Ok(purged.rows_affected())
            })
        })
        .await
    }

    async fn announce_access_ttl(&self, ttl: Duration) -> Result<(), StoreError> {
        let ttl = i64::try_from(ttl.as_micros()).unwrap_or(i64::MAX / 4);
        self.transaction("announce_access_ttl", ttl, |tx, ttl| {
            Box::pin(async move {
                sqlx::query("UPDATE feed_head SET longest_access_ttl = $1 WHERE id = 1 AND longest_access_ttl < $1")
                    .bind(*ttl)
                    .execute(tx.conn())
                    .await?;
                // Keys about to retire will have signed tokens of the new length too.
                sqlx::query(
                    "UPDATE signing_keys SET remove_time = retire_time + $1 + $2 \
                     WHERE retire_time IS NOT NULL AND remove_time < retire_time + $1 + $2",
                )
                .bind(*ttl)
                .bind(KEY_MARGIN_MICROS)
                .execute(tx.conn())
                .await?;
                Ok(())
            })
        })
        .await
    }
}

/// How much later than it says a token may have been revoked by a clock that is behind.
const CLOCK_SKEW: Duration = Duration::from_mins(1);

async fn revoke_token(tx: &mut Tx, revocation: TokenRevocation, origin: &Origin) -> Result<bool, StoreError> {
    let TokenRevocation { token, session, subject, issue_time } = revocation;
    if is_dead(tx, subject, session).await? {
        return Ok(false);
    }
    let act = Act::TokenRevoked { session, token };
    // The event is there if and only if the entry was written, which may be gone by now.
    let before: Option<(EventId,)> = sqlx::query_as(
        "SELECT id FROM audit_events WHERE subject_id = $1 AND time > $2 AND act = $3 AND detail = $4 LIMIT 1",
    )
    .bind(*subject.as_uuid())
    .bind(issue_time.minus(CLOCK_SKEW))
    .bind(act.name())
    .bind(Json(detail(&act)))
    .fetch_optional(tx.conn())
    .await?;
    if before.is_some() {
        return Ok(false);
    }
    tx.revoke(Revocation::Token { token });
    tx.audit(&AuditEvent { actor: subject.into(), subject: Some(subject), act, origin: origin.clone() }).await?;
    Ok(true)
}

/// Whether the token's session has ended or its service account is gone, and all tokens with it. Either is held until the end,
/// so that of two who revoke one token the second sees what the first did.
async fn is_dead(tx: &mut Tx, subject: Subject, session: Option<SessionId>) -> Result<bool, StoreError> {
    match subject {
        Subject::User(_) => {
            let ended: Option<(Option<Timestamp>,)> =
                sqlx::query_as(concat!("SELECT end_time FROM sessions WHERE id = $1", for_update!()))
                    .bind(session)
                    .fetch_optional(tx.conn())
                    .await?;
            Ok(matches!(ended, Some((Some(_),))))
        }
        Subject::Service(account) => {
            let held: Option<(ServiceAccountId,)> =
                sqlx::query_as(concat!("SELECT id FROM service_accounts WHERE id = $1", for_update!()))
                    .bind(account)
                    .fetch_optional(tx.conn())
                    .await?;
            Ok(held.is_none())
        }
    }
}

impl FeedRow {
    /// The entry; `None` for the lone head of an empty stretch.
    fn entry(self) -> Option<Result<FeedEntry, StoreError>> {
        let (Some(number), Some(revocation), Some(time), Some(expire_time)) =
            (self.number, self.revocation, self.time, self.expire_time)
        else {
            return None;
        };
        Some(from_json(revocation.0, "feed", "revocation").map(|revocation| FeedEntry {
            number,
            revocation,
            time,
            expire_time,
        }))
    }
}
