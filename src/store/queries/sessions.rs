//! Sessions: begin, end, list, forget.

use async_trait::async_trait;
use sqlx::types::Json;

use super::{
    Database, Db, Tx,
    rows::{HeldRoleRow, SessionRow, held_roles, session_columns},
};
use crate::{
    domain::{
        audit::{Act, Actor, AuditEvent, Origin},
        id::{SessionId, UserId},
        refresh::Family,
        revocation::Revocation,
        session::{EndReason, Grant, Session, SessionPolicy},
        time::Timestamp,
    },
    store::{
        StoreError,
        port::{
            Change, LiveSession, NewSession, RefreshAttempt, RefreshOutcome, SessionPage, SessionRows, SessionStore,
        },
    },
};

#[async_trait]
impl SessionStore for Database {
    async fn create_session(
        &self,
        new: NewSession,
        policy: SessionPolicy,
        event: AuditEvent,
    ) -> Result<Option<LiveSession>, StoreError> {
        self.transaction("create_session", (new, policy, event), |tx, (new, policy, event)| {
            Box::pin(async move {
                // A change of password or roles that is under way comes before or after this sign-in, never between its
                // steps. Locked first and read by a second statement: one that waits for the lock would go on with the new
                // epoch beside the roles as they were before.
                sqlx::query(concat!("SELECT u.id FROM users u WHERE u.id = $1", for_update!()))
                    .bind(new.grant.user)
                    .execute(tx.conn())
                    .await?;
                let user: Option<(String, i64, Option<String>, Json<Vec<HeldRoleRow>>)> = sqlx::query_as(concat!(
                    "SELECT u.state, u.epoch, u.password_hash, ",
                    held_by_user!(),
                    " FROM users u WHERE u.id = $1"
                ))
                .bind(new.grant.user)
                .fetch_optional(tx.conn())
                .await?;
                let Some((state, epoch, hash, held)) = user else { return Ok(None) };
                if state != "active" || hash.as_deref() != Some(new.checked_hash.expose()) {
                    return Ok(None);
                }
                let session = begun(new, epoch, policy, tx.now());
                insert(tx, &session).await?;
                tx.audit(event).await?;
                Ok(Some(LiveSession { session, held: held_roles(held) }))
            })
        })
        .await
    }

    async fn refresh(&self, attempt: RefreshAttempt) -> Result<RefreshOutcome, StoreError> {
        self.transaction("refresh", attempt, |tx, attempt| Box::pin(tx.refresh(attempt))).await
    }

    async fn read_sessions(&self, sessions: Vec<SessionId>) -> Result<SessionRows, StoreError> {
        self.sessions_by_id(sessions).await
    }

    async fn advance_families(&self, families: Vec<(SessionId, Family)>) -> Result<(), StoreError> {
        self.write_families(families).await
    }

    async fn end_session(
        &self,
        session: SessionId,
        owner: Option<UserId>,
        reason: EndReason,
        origin: Origin,
    ) -> Result<bool, StoreError> {
        self.transaction("end_session", (session, owner, reason, origin), |tx, (session, owner, reason, origin)| {
            Box::pin(async move {
                if let Some(owner) = owner
                    && !is_live_session_of(tx, *session, *owner).await?
                {
                    return Ok(false);
                }
                let Some(user) = tx.end_session(*session, *reason).await? else { return Ok(false) };
                let act = Act::SessionEnded { session: *session, reason: *reason };
                let event =
                    AuditEvent { actor: Actor::User(user), subject: Some(user.into()), act, origin: origin.clone() };
                tx.audit(&event).await?;
                Ok(true)
            })
        })
        .await
    }

    async fn end_other_sessions(
        &self,
        user: UserId,
        spared: SessionId,
        event: AuditEvent,
    ) -> Result<Change, StoreError> {
        self.transaction("end_other_sessions", (user, spared, event), |tx, (user, spared, event)| {
            Box::pin(async move {
                if !tx.raise_epoch(*user, Some(*spared)).await? {
                    return Ok(Change::Conflict);
                }
                tx.audit(event).await?;
                Ok(Change::Done)
            })
        })
        .await
    }

    async fn list_sessions(&self, page: SessionPage) -> Result<Vec<Session>, StoreError> {
        let now = self.around.clock.now();
        self.reading("list_sessions", &self.pools.read, (page, now), |conn, (page, now)| {
            Box::pin(async move {
                sqlx::query_as::<Db, SessionRow>(concat!(
                    "SELECT ",
                    session_columns!(),
                    " FROM sessions s JOIN users u ON u.id = s.user_id AND u.epoch = s.epoch AND u.state = 'active' \
                     WHERE s.user_id = $1 AND s.id < $2 AND s.end_time IS NULL AND s.last_used_time > $3 \
                     AND s.absolute_expire_time > $4 ORDER BY s.id DESC LIMIT $5"
                ))
                .bind(page.user)
                .bind(page.before.unwrap_or(SessionId::from_uuid(uuid::Uuid::max())))
                .bind(now.minus(page.policy.idle))
                .bind(*now)
                .bind(i64::from(page.limit))
                .fetch_all(conn)
                .await?
                .into_iter()
                .map(Session::try_from)
                .collect()
            })
        })
        .await
    }

    async fn purge_sessions(&self, before: Timestamp) -> Result<u64, StoreError> {
        let mut purged = 0;
        loop {
            let batch =
                self.transaction("purge_sessions", before, |tx, before| Box::pin(purge_batch(tx, *before))).await?;
            purged += batch;
            if batch == 0 {
                return Ok(purged);
            }
        }
    }
}

/// Deletes some sessions that ended or ran out before `before`: so few that nobody waits long for the rows, or on SQLite for
/// the write lock.
async fn purge_batch(tx: &mut Tx, before: Timestamp) -> Result<u64, StoreError> {
    let mut purged = 0;
    for query in [
        "DELETE FROM sessions WHERE id IN \
         (SELECT id FROM sessions WHERE absolute_expire_time < $1 ORDER BY absolute_expire_time LIMIT 500)",
        "DELETE FROM sessions WHERE id IN (SELECT id FROM sessions WHERE end_time < $1 ORDER BY end_time LIMIT 500)",
    ] {
        purged += sqlx::query(query).bind(before).execute(tx.conn()).await?.rows_affected();
    }
    Ok(purged)
}

impl Tx {
    /// Ends a session that has not ended yet and revokes its tokens. Whose it was, if it did.
    pub(super) async fn end_session(
        &mut self,
        session: SessionId,
        reason: EndReason,
    ) -> Result<Option<UserId>, StoreError> {
        let now = self.now();
        let ended: Option<(UserId,)> = sqlx::query_as(
            "UPDATE sessions SET end_time = $1, end_reason = $2 WHERE id = $3 AND end_time IS NULL RETURNING user_id",
        )
        .bind(now)
        .bind(reason.as_str())
        .bind(session)
        .fetch_optional(self.conn())
        .await?;
        let Some((user,)) = ended else { return Ok(None) };
        self.revoke(Revocation::Session { session });
        Ok(Some(user))
    }
}

fn begun(new: &NewSession, epoch: i64, policy: &SessionPolicy, now: Timestamp) -> Session {
    Session {
        id: new.id,
        grant: Grant { epoch, ..new.grant.clone() },
        device: new.device.clone(),
        create_time: now,
        last_used_time: now,
        absolute_expire_time: now.plus(policy.absolute),
        family: Family::first(now, new.key_id),
    }
}

async fn insert(tx: &mut Tx, session: &Session) -> Result<(), StoreError> {
    let Session { id, grant, device, create_time, last_used_time, absolute_expire_time, family } = session;
    sqlx::query(
        "INSERT INTO sessions (id, user_id, epoch, client_id, audience, scope, auth_time, amr, acr, device_name, \
         user_agent, ip_address, create_time, last_used_time, absolute_expire_time, generation, generation_time, \
         refresh_key, late_streak, late_now) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)",
    )
    .bind(*id)
    .bind(grant.user)
    .bind(grant.epoch)
    .bind(&grant.client_id)
    .bind(Json(&grant.audience))
    .bind(grant.scope.to_string())
    .bind(grant.auth_time)
    .bind(Json(&grant.amr))
    .bind(&grant.acr)
    .bind(device.name.as_str())
    .bind(device.user_agent.as_str())
    .bind(device.ip_address.as_str())
    .bind(*create_time)
    .bind(*last_used_time)
    .bind(*absolute_expire_time)
    .bind(family.generation)
    .bind(family.made_at)
    .bind(family.key_id)
    .bind(i64::from(family.late_streak))
    .bind(family.late_now)
    .execute(tx.conn())
    .await?;
    Ok(())
}

pub(super) async fn is_live_session_of(tx: &mut Tx, session: SessionId, owner: UserId) -> Result<bool, StoreError> {
    let found: Option<(SessionId,)> = sqlx::query_as(
        "SELECT s.id FROM sessions s JOIN users u ON u.id = s.user_id AND u.epoch = s.epoch \
         WHERE s.id = $1 AND s.user_id = $2 AND s.end_time IS NULL",
    )
    .bind(session)
    .bind(owner)
    .fetch_optional(tx.conn())
    .await?;
    Ok(found.is_some())
}
