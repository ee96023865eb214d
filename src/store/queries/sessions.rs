//! Sessions: begin, end, list, forget.

use async_trait::async_trait;
use sqlx::types::Json;
use uuid::Uuid;

use super::{
    Database, Db, Tx,
    devices::Known,
    rows::{HeldRoleRow, OwnClaimsRow, SessionRow, held_roles, own_claims_columns, session_columns},
};
use crate::{
    domain::{
        audit::{Act, Actor, AuditEvent, Origin},
        id::{SessionId, UserId},
        refresh::Family,
        revocation::Revocation,
        session::{AtLimit, EndReason, Grant, Session, SessionLimit, SessionPolicy},
        time::Timestamp,
        user::PhcString,
    },
    store::{
        Refused, StoreError,
        port::{
            BegunSession, Change, LiveSession, NewSession, RefreshAttempt, RefreshOutcome, SessionPage, SessionRows,
            SessionStore,
        },
    },
};

/// How many sessions make room for one at most: where the limit was lowered, the rest give way to the next.
const MAX_EVICTIONS: i64 = 100;

/// How many sessions are looked through in one transaction, so that nobody waits long for SQLite's write lock.
const SWEPT: i64 = 5_000;

#[async_trait]
impl SessionStore for Database {
    async fn create_session(
        &self,
        new: NewSession,
        policy: SessionPolicy,
        event: AuditEvent,
    ) -> Result<Option<BegunSession>, StoreError> {
        self.transaction("create_session", (new, policy, event), |tx, (new, policy, event)| {
            Box::pin(async move {
                let Some(user) = tx.lock_signing_in(Some(new.grant.user)).await? else { return Ok(None) };
                let checked = new.checked_hash.as_ref().map(PhcString::expose);
                if !user.is_active || checked.is_none() || user.password_hash.as_deref() != checked {
                    return Ok(None);
                }
                if user.totp_enrolled && !new.second_factor {
                    return Ok(None);
                }
                let begun = tx.begin_session(new, user, policy, &event.origin).await?;
                tx.audit(event).await?;
                Ok(Some(begun))
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

    async fn sweep_sessions(
        &self,
        after: SessionId,
        unused_since: Timestamp,
        dead_since: Timestamp,
    ) -> Result<(u64, Option<SessionId>), StoreError> {
        self.transaction("sweep_sessions", (after, unused_since, dead_since), |tx, (after, unused, dead)| {
            Box::pin(sweep(tx, *after, *unused, *dead))
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
/// No index helps, because none may change at a refresh: so by and by, along the ids.
async fn sweep(
    tx: &mut Tx,
    after: SessionId,
    unused_since: Timestamp,
    dead_since: Timestamp,
) -> Result<(u64, Option<SessionId>), StoreError> {
    let last: Option<(SessionId,)> =
        sqlx::query_as("SELECT id FROM sessions WHERE id > $1 ORDER BY id LIMIT 1 OFFSET $2")
            .bind(after)
            .bind(SWEPT - 1)
            .fetch_optional(tx.conn())
            .await?;
    let last = last.map(|(last,)| last);
    let swept = sqlx::query(
        "DELETE FROM sessions WHERE id > $1 AND id <= $2 AND (last_used_time < $3 OR (last_used_time < $4 \
         AND epoch < (SELECT u.epoch FROM users u WHERE u.id = sessions.user_id)))",
    )
    .bind(after)
    .bind(last.unwrap_or(SessionId::from_uuid(Uuid::max())))
    .bind(unused_since)
    .bind(dead_since)
    .execute(tx.conn())
    .await?;
    Ok((swept.rows_affected(), last))
}

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

/// The account that somebody signs in to, locked.
#[derive(sqlx::FromRow)]
pub(super) struct SigningIn {
    state: String,
    #[sqlx(skip)]
    pub(super) is_active: bool,
    pub(super) epoch: i64,
    pub(super) email_key: String,
    pub(super) email_verified: bool,
    pub(super) phone_number: Option<String>,
    pub(super) password_hash: Option<String>,
    pub(super) totp_enrolled: bool,
    held: Json<Vec<HeldRoleRow>>,
    #[sqlx(flatten)]
    own: OwnClaimsRow,
}

impl Tx {
    /// Locks the account that somebody signs in to. A change of password or roles that is under way comes before or after this
    /// sign-in, never between its steps. Locked first and read by a second statement: one that waits for the lock would go on
    /// with the new epoch beside the roles as they were before. For nobody the same is done, and nobody is found.
    pub(super) async fn lock_signing_in(&mut self, user: Option<UserId>) -> Result<Option<SigningIn>, StoreError> {
        sqlx::query(concat!("SELECT u.id FROM users u WHERE u.id = $1", for_update!()))
            .bind(user)
            .execute(self.conn())
            .await?;
        let found: Option<SigningIn> = sqlx::query_as(concat!(
            "SELECT u.state, u.epoch, u.email_key, u.email_verified_time IS NOT NULL AS email_verified, u.phone_number, \
             u.password_hash, \
             EXISTS (SELECT 1 FROM totp_factors t WHERE t.user_id = u.id AND t.confirm_time IS NOT NULL) AS totp_enrolled, ",
            own_claims_columns!(),
            ", ",
            held_by_user!(),
            " AS held FROM users u WHERE u.id = $1"
        ))
        .bind(user)
        .fetch_optional(self.conn())
        .await?;
        Ok(found.map(|user| SigningIn { is_active: user.state == "active", ..user }))
    }

    /// Begins a session of the account that is locked: its device is known from now on, its owner is told of one that was not,
    /// and others end where there would be too many.
    pub(super) async fn begin_session(
        &mut self,
        new: &NewSession,
        user: SigningIn,
        policy: &SessionPolicy,
        origin: &Origin,
    ) -> Result<BegunSession, StoreError> {
        let owner = new.grant.user;
        let session = begun(new, user.epoch, policy, self.now());
        let live = LiveSession { session, held: held_roles(user.held), own: user.own.into() };
        new.check.check(&live)?;
        let touched = match new.known_device {
            Some(device) => self.touch_device(owner, device).await?,
            None => None,
        };
        let (device, known) = match touched {
            Some(device) => (device, Known::Already),
            None => (new.new_device.id, self.add_device(owner, &new.new_device).await?),
        };
        self.make_room(owner, user.epoch, new.limit, policy, origin).await?;
        insert(self, &live.session, device).await?;
        if let (Known::New, Some(news)) = (known, &new.news) {
            self.enqueue(news).await?;
        }
        self.forget_failures(&new.forgiven).await?;
        Ok(BegunSession { live, device_known: known == Known::Already })
    }

    /// Sees to it that another session of the user, whose row is locked, is not one too many.
    async fn make_room(
        &mut self,
        user: UserId,
        epoch: i64,
        limit: SessionLimit,
        policy: &SessionPolicy,
        origin: &Origin,
    ) -> Result<(), StoreError> {
        let (idle, now) = (self.now().minus(policy.idle), self.now());
        let (live,): (i64,) = sqlx::query_as(
            "SELECT COUNT(*) FROM sessions WHERE user_id = $1 AND epoch = $2 AND end_time IS NULL \
             AND last_used_time > $3 AND absolute_expire_time > $4",
        )
        .bind(user)
        .bind(epoch)
        .bind(idle)
        .bind(now)
        .fetch_one(self.conn())
        .await?;
        let excess = live + 1 - i64::from(limit.most);
        if excess <= 0 {
            return Ok(());
        }
        if limit.at_limit == AtLimit::Refuse {
            return Err(Refused::TooManySessions.into());
        }
        let mut oldest: Vec<(SessionId,)> = sqlx::query_as(
            "SELECT id FROM sessions WHERE user_id = $1 AND epoch = $2 AND end_time IS NULL \
             AND last_used_time > $3 AND absolute_expire_time > $4 ORDER BY last_used_time, id LIMIT $5",
        )
        .bind(user)
        .bind(epoch)
        .bind(idle)
        .bind(now)
        .bind(excess.min(MAX_EVICTIONS))
        .fetch_all(self.conn())
        .await?;
        // In the order in which the write-behind locks them.
        oldest.sort_unstable();
        for (session,) in oldest {
            let reason = EndReason::Evicted;
            if self.end_session(session, reason).await?.is_some() {
                let act = Act::SessionEnded { session, reason };
                let subject = Some(user.into());
                self.audit(&AuditEvent { actor: Actor::System, subject, act, origin: origin.clone() }).await?;
            }
        }
        Ok(())
    }

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

async fn insert(tx: &mut Tx, session: &Session, device_id: Uuid) -> Result<(), StoreError> {
    let Session { id, grant, device, create_time, last_used_time, absolute_expire_time, family } = session;
    sqlx::query(
        "INSERT INTO sessions (id, user_id, epoch, client_id, audience, scope, auth_time, amr, acr, device_name, \
         user_agent, ip_address, create_time, last_used_time, absolute_expire_time, generation, generation_time, \
         refresh_key, late_streak, late_now, device_id) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21)",
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
    .bind(device_id)
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
