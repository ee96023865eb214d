//! Creations that may be asked for again: who lost the answer gets what was made, instead of a second one.

use std::time::Duration;

use uuid::Uuid;

use super::Tx;
use crate::{
    domain::{audit::Actor, time::Timestamp},
    store::{Refused, StoreError, port::CreateRequest},
};

/// For how long the same request is known again.
const KNOWN_FOR: Duration = Duration::from_hours(24);

impl Tx {
    /// What `actor` created by this request before.
    pub(super) async fn created_before(
        &mut self,
        request: &CreateRequest,
        actor: Actor,
    ) -> Result<Option<Uuid>, StoreError> {
        let since = self.now().minus(KNOWN_FOR);
        let found: Option<(Vec<u8>, Uuid)> = sqlx::query_as(
            "SELECT fingerprint, created_id FROM create_requests WHERE request_id = $1 AND actor = $2 AND create_time > $3",
        )
        .bind(request.id)
        .bind(word(actor))
        .bind(since)
        .fetch_optional(self.conn())
        .await?;
        match found {
            Some((fingerprint, _)) if fingerprint != request.fingerprint => Err(Refused::RequestIdReused.into()),
            Some((_, id)) => Ok(Some(id)),
            None => Ok(None),
        }
    }

    /// Notes what is about to be created by this request, unless somebody else did so at the same moment: then what that was.
    /// Nothing may have been written for it before.
    pub(super) async fn note_created(
        &mut self,
        request: &CreateRequest,
        actor: Actor,
        id: Uuid,
    ) -> Result<Option<Uuid>, StoreError> {
        let now = self.now();
        sqlx::query("DELETE FROM create_requests WHERE request_id = $1 AND actor = $2 AND create_time <= $3")
            .bind(request.id)
            .bind(word(actor))
            .bind(now.minus(KNOWN_FOR))
            .execute(self.conn())
            .await?;
        // Waits for whoever writes the same one.
        let noted = sqlx::query(
            "INSERT INTO create_requests (request_id, actor, fingerprint, created_id, create_time) \
             VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
        )
        .bind(request.id)
        .bind(word(actor))
        .bind(&request.fingerprint[..])
        .bind(id)
        .bind(now)
        .execute(self.conn())
        .await?;
        if noted.rows_affected() == 1 {
            return Ok(None);
        }
        match self.created_before(request, actor).await? {
            Some(other) => Ok(Some(other)),
            None => Err(StoreError::Unavailable("what was in the way of the request is gone, try again".into())),
        }
    }

    /// Forgets what is known no longer. How many.
    pub(super) async fn purge_create_requests(&mut self, now: Timestamp) -> Result<u64, StoreError> {
        let purged = sqlx::query("DELETE FROM create_requests WHERE create_time <= $1")
            .bind(now.minus(KNOWN_FOR))
            .execute(self.conn())
            .await?;
        Ok(purged.rows_affected())
    }
}

/// Whose requests they are: two callers may choose the same number.
fn word(actor: Actor) -> String {
    match actor {
        Actor::User(id) => id.to_string(),
        Actor::Service(id) => id.to_string(),
        Actor::Operator => "operator".to_owned(),
        Actor::System => "system".to_owned(),
        Actor::Anonymous => "anonymous".to_owned(),
    }
}
