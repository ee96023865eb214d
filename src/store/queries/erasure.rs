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
        port::{Erased, Erasure, PrivacyStore, Reapplied},
    },
};

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

    async fn erase_again(&self, erasure: Erasure) -> Result<Reapplied, StoreError> {
        self.transaction("erase_again", erasure, |tx, erasure| Box::pin(tx.erase_again(*erasure))).await
    }

    async fn known_erasures(&self, users: Vec<UserId>) -> Result<Vec<UserId>, StoreError> {
        self.reading("known_erasures", &self.pools.read, users, |conn, users| {
            Box::pin(async move {
                let rows: Vec<(UserId,)> = sqlx::query_as(concat!(
                    "SELECT e.user_id FROM erasures e WHERE ",
                    is_listed!("e.user_id", "$1"),
                    " AND NOT EXISTS (SELECT 1 FROM users u WHERE u.id = e.user_id) \
                     AND NOT EXISTS (SELECT 1 FROM registrations r WHERE r.id = e.user_id) \
                     AND NOT EXISTS (SELECT 1 FROM data_keys k WHERE k.owner_id = e.user_id)"
                ))
                .bind(Json(users))
                .fetch_all(conn)
                .await?;
                Ok(rows.into_iter().map(|(user,)| user).collect())
            })
        })
        .await
    }

    async fn adopt_erasures(&self, since: Timestamp) -> Result<u64, StoreError> {
        self.transaction("adopt_erasures", since, |tx, since| {
            Box::pin(async move {
                // Whoever is there was not deleted, whatever the trail says.
                let adopted = sqlx::query(
                    "INSERT INTO erasures (user_id, time) SELECT e.subject_id, MIN(e.time) FROM audit_events e \
                     WHERE e.act IN ('user.deleted', 'account.deleted') AND e.time >= $1 AND e.subject_id IS NOT NULL \
                     AND NOT EXISTS (SELECT 1 FROM erasures x WHERE x.user_id = e.subject_id) \
                     AND NOT EXISTS (SELECT 1 FROM users u WHERE u.id = e.subject_id) \
                     GROUP BY e.subject_id ON CONFLICT DO NOTHING",
                )
                .bind(*since)
                .execute(tx.conn())
                .await?;
                Ok(adopted.rows_affected())
            })
        })
        .await
    }

    async fn recorded_sessions(
        &self,
        user: UserId,
        since: Timestamp,
        limit: u32,
    ) -> Result<Vec<SessionId>, StoreError> {
        self.reading("recorded_sessions", &self.pools.read, (user, since, limit), |conn, (user, since, limit)| {
            Box::pin(async move {
                let rows: Vec<(SessionId,)> = sqlx::query_as(
                    "SELECT session_id FROM audit_events WHERE subject_id = $1 AND time >= $2 \
                     AND act = 'login.succeeded' AND session_id IS NOT NULL ORDER BY time DESC LIMIT $3",
                )
                .bind(*user)
                .bind(*since)
                .bind(i64::from(*limit))
                .fetch_all(conn)
                .await?;
                Ok(rows.into_iter().map(|(session,)| session).collect())
            })
        })
        .await
    }

    async fn sealed_messages(
        &self,
        before: Timestamp,
        after: Uuid,
        limit: u32,
    ) -> Result<Vec<(Uuid, Vec<u8>)>, StoreError> {
        self.reading("sealed_messages", &self.pools.read, (before, after, limit), |conn, (before, after, limit)| {
            Box::pin(async move {
                let rows = sqlx::query_as(
                    "SELECT id, message_sealed FROM outbox WHERE user_id IS NULL AND create_time < $1 AND id > $2 \
                     ORDER BY id LIMIT $3",
                )
                .bind(*before)
                .bind(*after)
                .bind(i64::from(*limit))
                .fetch_all(conn)
                .await?;
                Ok(rows)
            })
        })
        .await
    }

    async fn forget_left(
        &self,
        email: Option<Email>,
        messages: Vec<Uuid>,
        before: Timestamp,
    ) -> Result<(), StoreError> {
        self.transaction("forget_left", (email, messages, before), |tx, (email, messages, before)| {
            Box::pin(async move {
                if let Some(email) = email {
                    tx.forget_address(email, *before).await?;
                }
                // Again: only a message that is about nobody is anybody's to take.
                sqlx::query(concat!(
                    "DELETE FROM outbox WHERE user_id IS NULL AND create_time < $2 AND ",
                    is_listed!("id", "$1")
                ))
                .bind(Json(messages))
                .bind(*before)
                .execute(tx.conn())
                .await?;
                Ok(())
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
    /// Deletes a user with everything that is kept of the user under the user's id. What the audit trail has that is personal
    /// cannot be read any more. The user's row is locked.
    pub(super) async fn erase(&mut self, user: &User) -> Result<Erased, StoreError> {
        self.lock_sessions_of(user.id).await?;
        let sessions: Vec<(SessionId,)> =
            sqlx::query_as("SELECT id FROM sessions WHERE user_id = $1").bind(user.id).fetch_all(self.conn()).await?;
        self.revoke(Revocation::User { user: user.id, epoch: user.epoch + 1, spared: None });
        sqlx::query("DELETE FROM users WHERE id = $1").bind(user.id).execute(self.conn()).await?;
        let erasure = Erasure { user: user.id, time: self.now() };
        self.note_erasure(erasure).await?;
        Ok(Erased {
            erasure,
            sessions: sessions.into_iter().map(|(session,)| session).collect(),
            email: user.email_verified_time.map(|_| user.email.clone()),
            phone_number: user.phone_number.clone(),
        })
    }

    async fn erase_again(&mut self, erasure: Erasure) -> Result<Reapplied, StoreError> {
        let Erasure { user: id, time: _ } = erasure;
        // Who was deleted may have been waiting for a code when the backup was made.
        sqlx::query("DELETE FROM registrations WHERE id = $1").bind(id).execute(self.conn()).await?;
        let user = self.hold_user(id).await?;
        // As it was noted the first time, if the backup did not know.
        let is_news = self.note_erasure(erasure).await?;
        let Some(user) = user else {
            return Ok(if is_news { Reapplied::Noted } else { Reapplied::Known });
        };
        let erased = self.erase(&user).await?;
        let act = Act::UserDeleted;
        let event = AuditEvent { actor: Actor::Operator, subject: Some(id.into()), act, origin: Origin::default() };
        self.audit(&event).await?;
        Ok(Reapplied::Deleted(erased))
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

    /// Deletes what names an address but belongs to no account, or to somebody else's, and was there before that moment: since then the
    /// address may be another account's. Whoever waits to change to it is locked, as for any change of theirs.
    async fn forget_address(&mut self, email: &Email, before: Timestamp) -> Result<(), StoreError> {
        for sql in [
            concat!(
                "SELECT id FROM registrations WHERE email_key = $1 AND create_time < $2 ORDER BY id",
                for_update!()
            ),
            concat!(
                "SELECT u.id FROM users u WHERE u.id IN (SELECT c.user_id FROM email_changes c WHERE c.new_email_key = $1 \
                 AND c.create_time < $2) ORDER BY u.id",
                for_update!()
            ),
            "DELETE FROM registrations WHERE email_key = $1 AND create_time < $2",
            "DELETE FROM email_changes WHERE new_email_key = $1 AND create_time < $2",
            "DELETE FROM mailed_codes WHERE email_key = $1 AND create_time < $2 AND user_id IS NULL",
        ] {
            sqlx::query(sql).bind(email.key()).bind(before).execute(self.conn()).await?;
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
