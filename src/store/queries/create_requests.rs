//! Creations that may be asked for again: who lost the answer gets what was made, instead of a second one.

use uuid::Uuid;

use super::{Database, Tx, audit::actor};
use crate::{
    domain::{audit::Actor, time::Timestamp},
    store::{Refused, StoreError, port::CreateRequest},
};

impl Tx {
    /// Takes a request id for what is to be created as `created`, or says what was created when it was first used. Two who
    /// use it at once come one after the other.
    pub(super) async fn claim(
        &mut self,
        request: &CreateRequest,
        by: Actor,
        created: Uuid,
    ) -> Result<Option<Uuid>, StoreError> {
        let CreateRequest { id, fingerprint, forgotten } = request;
        let by = match actor(by) {
            (word, Some(id)) => format!("{word}:{id}"),
            (word, None) => word.to_owned(),
        };
        sqlx::query("DELETE FROM create_requests WHERE request_id = $1 AND actor = $2 AND create_time < $3")
            .bind(*id)
            .bind(&by)
            .bind(*forgotten)
            .execute(self.conn())
            .await?;
        let now = self.now();
        let claimed = sqlx::query(
            "INSERT INTO create_requests (request_id, actor, fingerprint, created_id, create_time) \
             VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
        )
        .bind(*id)
        .bind(&by)
        .bind(fingerprint)
        .bind(created)
        .bind(now)
        .execute(self.conn())
        .await?;
        if claimed.rows_affected() == 1 {
            return Ok(None);
        }
        let found: Option<(Vec<u8>, Uuid)> =
            sqlx::query_as("SELECT fingerprint, created_id FROM create_requests WHERE request_id = $1 AND actor = $2")
                .bind(*id)
                .bind(&by)
                .fetch_optional(self.conn())
                .await?;
        match found {
            Some((known, made)) if known == *fingerprint => Ok(Some(made)),
            Some(_) => Err(Refused::RequestIdReused.into()),
            None => Err(StoreError::Unavailable("the request that was in the way is gone, try again".into())),
        }
    }
}

impl Database {
    /// Forgets creations before this moment, so few at a time that nobody waits long for SQLite's write lock.
    pub(super) async fn forget_create_requests(&self, before: Timestamp) -> Result<u64, StoreError> {
        let mut purged = 0;
        loop {
            let batch = self.transaction("purge_create_requests", before, |tx, before| {
                Box::pin(async move {
                    let deleted = sqlx::query(
                        "DELETE FROM create_requests WHERE (request_id, actor) IN (SELECT request_id, actor \
                         FROM create_requests WHERE create_time < $1 ORDER BY create_time LIMIT 500)",
                    )
                    .bind(*before)
                    .execute(tx.conn())
                    .await?;
                    Ok(deleted.rows_affected())
                })
            });
            match batch.await? {
                0 => return Ok(purged),
                batch => purged += batch,
            }
        }
    }
}
