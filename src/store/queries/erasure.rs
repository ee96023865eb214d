//! Erasure: a user goes with all that is kept of them, by one path, whoever asks for it.

use async_trait::async_trait;
use sqlx::{Row as _, types::Json};
use uuid::Uuid;

use super::{Conn, Database, SCRUB, Tx};
use crate::{
    domain::{
        audit::{Act, Actor, AuditEvent, Origin},
        email::Email,
        id::{SessionId, UserId},
        revocation::Revocation,
        time::Timestamp,
        user::User,
    },
    store::{
        StoreError,
        port::{Erasure, PrivacyStore, Reapplied},
    },
};

/// Sessions of a user that are looked for in the hot state, at most.
const MAX_SESSIONS: i64 = 10_000;

#[async_trait]
impl PrivacyStore for Database {
    async fn erasures(&self, since: Timestamp, after: Option<Erasure>, limit: u32) -> Result<Vec<Erasure>, StoreError> {
        // No user's id is all zeros.
        let after = after.map_or((since, UserId::from_uuid(Uuid::nil())), |Erasure { user, time }| (time, user));
        self.reading("erasures", &self.pools.read, (after, limit), |conn, ((time, user), limit)| {
            Box::pin(async move {
                let rows: Vec<(UserId, Timestamp)> = sqlx::query_as(
                    "SELECT user_id, time FROM erasures WHERE (time, user_id) > ($1, $2) ORDER BY time, user_id LIMIT $3",
                )
                .bind(*time)
                .bind(*user)
                .bind(i64::from(*limit))
                .fetch_all(conn)
                .await?;
                Ok(rows.into_iter().map(|(user, time)| Erasure { user, time }).collect())
            })
        })
        .await
    }

    async fn erase_again(&self, erasure: Erasure, messages: Vec<Uuid>) -> Result<Reapplied, StoreError> {
        self.transaction("erase_again", (erasure, messages), |tx, (erasure, messages)| {
            Box::pin(tx.erase_again(*erasure, messages))
        })
        .await
    }

    async fn sealed_messages(&self, after: Uuid, limit: u32) -> Result<Vec<(Uuid, Vec<u8>)>, StoreError> {
        self.reading("sealed_messages", &self.pools.read, (after, limit), |conn, (after, limit)| {
            Box::pin(async move {
                let rows = sqlx::query_as("SELECT id, message_sealed FROM outbox WHERE id > $1 ORDER BY id LIMIT $2")
                    .bind(*after)
                    .bind(i64::from(*limit))
                    .fetch_all(conn)
                    .await?;
                Ok(rows)
            })
        })
        .await
    }

    async fn scrub(&self) -> Result<bool, StoreError> {
        let mut connection = Conn::acquire(&self.pools.write, self.pools.manner).await?;
        let rows = sqlx::raw_sql(SCRUB).fetch_all(&mut connection).await?;
        connection.settle();
        // Where there is anything to do, the answer is a row of three numbers; the first says whether somebody was in the way.
        let answer = rows.iter().find(|row| row.len() == 3);
        Ok(answer.is_none_or(|row| row.try_get::<i64, _>(0).is_ok_and(|busy| busy == 0)))
    }
}

impl Tx {
    /// Deletes a user with everything that is kept of the user, and these messages. What the audit trail has that is personal
    /// cannot be read any more. The user's row is locked. The sessions that there may be hot records of.
    pub(super) async fn erase(&mut self, user: &User, messages: &[Uuid]) -> Result<Vec<SessionId>, StoreError> {
        self.lock_sessions_of(user.id).await?;
        let sessions = self.sessions_ever_of(user.id).await?;
        self.revoke(Revocation::User { user: user.id, epoch: user.epoch + 1, spared: None });
        sqlx::query("DELETE FROM users WHERE id = $1").bind(user.id).execute(self.conn()).await?;
        self.forget_address(&user.email).await?;
        sqlx::query(concat!("DELETE FROM outbox WHERE ", is_listed!("id", "$1")))
            .bind(Json(messages))
            .execute(self.conn())
            .await?;
        let time = self.now();
        self.note_erasure(Erasure { user: user.id, time }).await?;
        Ok(sessions)
    }

    async fn erase_again(&mut self, erasure: Erasure, messages: &[Uuid]) -> Result<Reapplied, StoreError> {
        let Erasure { user: id, time: _ } = erasure;
        // Who was deleted may have been waiting for a code when the backup was made.
        sqlx::query("DELETE FROM registrations WHERE id = $1").bind(id).execute(self.conn()).await?;
        // As it was noted the first time, if the backup did not know.
        let is_news = self.note_erasure(erasure).await?;
        let Some(user) = self.hold_user(id).await? else {
            return Ok(if is_news { Reapplied::Noted } else { Reapplied::Known });
        };
        let sessions = self.erase(&user, messages).await?;
        let act = Act::UserDeleted;
        let event = AuditEvent { actor: Actor::Operator, subject: Some(id.into()), act, origin: Origin::default() };
        self.audit(&event).await?;
        Ok(Reapplied::Deleted(sessions))
    }

    /// A user, locked, in whatever state.
    async fn hold_user(&mut self, id: UserId) -> Result<Option<User>, StoreError> {
        let locked: Option<(UserId,)> =
            sqlx::query_as(concat!("SELECT u.id FROM users u WHERE u.id = $1", for_update!()))
                .bind(id)
                .fetch_optional(self.conn())
                .await?;
        if locked.is_none() {
            return Ok(None);
        }
        self.user(id).await.map(Some)
    }

    /// The user's sessions, also those whose rows are gone but whose hot records may not be: the trail remembers them for longer.
    async fn sessions_ever_of(&mut self, user: UserId) -> Result<Vec<SessionId>, StoreError> {
        let sessions: Vec<(SessionId,)> = sqlx::query_as(
            "SELECT id FROM sessions WHERE user_id = $1 UNION SELECT session_id FROM audit_events \
             WHERE subject_id = $1 AND act = 'login.succeeded' AND session_id IS NOT NULL ORDER BY 1 DESC LIMIT $2",
        )
        .bind(user)
        .bind(MAX_SESSIONS)
        .fetch_all(self.conn())
        .await?;
        Ok(sessions.into_iter().map(|(session,)| session).collect())
    }

    /// Deletes what names an address but belongs to no account, or to somebody else's: registrations that wait, changes to it, and
    /// codes that were sent there or only look like it.
    async fn forget_address(&mut self, email: &Email) -> Result<(), StoreError> {
        for sql in [
            "DELETE FROM registrations WHERE email_key = $1",
            "DELETE FROM email_changes WHERE new_email_key = $1",
            "DELETE FROM mailed_codes WHERE email_key = $1",
        ] {
            sqlx::query(sql).bind(email.key()).execute(self.conn()).await?;
        }
        Ok(())
    }

    /// Destroys the user's data key and remembers that the user was deleted. Whether that was news.
    async fn note_erasure(&mut self, Erasure { user, time }: Erasure) -> Result<bool, StoreError> {
        sqlx::query("DELETE FROM data_keys WHERE owner_id = $1").bind(user).execute(self.conn()).await?;
        let noted = sqlx::query("INSERT INTO erasures (user_id, time) VALUES ($1, $2) ON CONFLICT DO NOTHING")
            .bind(user)
            .bind(time)
            .execute(self.conn())
            .await?;
        Ok(noted.rows_affected() == 1)
    }
}
