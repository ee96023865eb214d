//! `Refresh`: exchanges a refresh token for a new pair.
//!
//! Without a hot state, or with it away, the locked row decides and is written. With it, the row is only read, by one query for
//! everybody who waits, and the counter moves in the hot record; the row follows. Whatever has to be audited goes to the locked
//! row in any case. With the database away the record may speak for the row, for a while and under conditions.

use std::sync::Arc;

use super::{
    IssuedTokens, RequestContext, Service, ServiceError, hot::Kept, hot::behind::WriteBehind, hot::rows::RowReader,
};
use crate::{
    domain::{
        hot::{FeedPosition, HotRecord},
        id::SessionId,
        refresh::{Decision, Delivery, Family, Presented, decide},
        secret::SecretString,
        session::{DeviceInfo, Session},
        time::Timestamp,
    },
    service::Hot,
    state::{HotError, HotKey},
    store::port::{Caller, LiveSession, RefreshAttempt, RefreshOutcome, SessionState},
    telemetry::{RefreshPath, RefreshRow},
};

/// A refresh that loses the race for its record this often is one of very many at once: the row lets them queue.
const TRIES: u32 = 8;

/// What refreshes need of the hot state.
pub(super) struct HotRefresh {
    pub(super) hot: Arc<Hot>,
    pub(super) rows: RowReader,
    pub(super) behind: WriteBehind,
}

/// What the hot record is to be replaced with, and what was there.
struct Move {
    found: Kept<HotRecord>,
    next: HotRecord,
}

impl Service {
    /// Rotates a refresh token, or gives a lost answer again. A replay is answered as such only after the session's end has
    /// been committed.
    pub async fn refresh(&self, token: &SecretString, context: &RequestContext) -> Result<IssuedTokens, ServiceError> {
        let claims = self.keys.read_refresh_token(&*self.store, token).await?;
        let (caller, _waiting) = Caller::waiting();
        let attempt = RefreshAttempt {
            session: claims.session,
            presented: Presented { generation: claims.generation, arrived: context.arrived },
            window: self.policy.redelivery_window,
            policy: self.policy.sessions,
            key_id: self.keys.refresh_key_in_force(self.clock.now())?,
            hot: None,
            caller,
            origin: context.origin.clone(),
        };
        let (outcome, path) = match &self.hot {
            Some(hot) => self.refresh_hot(hot, attempt).await?,
            None => (self.store.refresh(attempt).await?, RefreshPath::Row),
        };
        self.metrics.refresh(row_of(&outcome), path);
        match outcome {
            RefreshOutcome::Granted(live, _) => self.issue(&live).await,
            RefreshOutcome::Overtaken => Err(ServiceError::RefreshOvertaken),
            RefreshOutcome::Replayed => {
                tracing::warn!(session = %claims.session, "refresh token replayed, session ended");
                Err(ServiceError::RefreshTokenReused)
            }
            RefreshOutcome::Ended => Err(ServiceError::SessionRevoked),
            // A session is forgotten a while after its end: for its holder the same thing.
            RefreshOutcome::Expired | RefreshOutcome::Unknown => Err(ServiceError::RefreshTokenExpired),
        }
    }

    /// Reads row and record side by side, both after the request arrived.
    async fn refresh_hot(
        &self,
        parts: &HotRefresh,
        attempt: RefreshAttempt,
    ) -> Result<(RefreshOutcome, RefreshPath), ServiceError> {
        let session = attempt.session;
        let (row, found) = tokio::join!(parts.rows.read(session), parts.hot.get(HotKey::Session(session)));
        match (row, found) {
            (Ok((_, None)), _) => Ok((RefreshOutcome::Unknown, RefreshPath::Hot)),
            (Ok((_, Some(SessionState::Ended))), _) => Ok((RefreshOutcome::Ended, RefreshPath::Hot)),
            (Ok((seen, Some(SessionState::Live(live)))), Ok(found)) => {
                self.refresh_by_record(parts, attempt, seen, *live, found).await
            }
            (Ok((_, Some(SessionState::Live(_)))), Err(_)) => self.refresh_by_row(parts, attempt, None).await,
            (Err(away @ ServiceError::Unavailable { .. }), Ok(found)) => {
                self.refresh_in_outage(parts, attempt, found, away).await
            }
            (Err(error), _) => Err(error),
        }
    }

    /// The row says what the tokens say, the record counts.
    async fn refresh_by_record(
        &self,
        parts: &HotRefresh,
        attempt: RefreshAttempt,
        seen: FeedPosition,
        live: LiveSession,
        mut found: Kept<HotRecord>,
    ) -> Result<(RefreshOutcome, RefreshPath), ServiceError> {
        for _ in 0..TRIES {
            let hot = found.value.as_ref().map(|record| record.family);
            let now = self.clock.now();
            let session = match hot {
                Some(family) => live.session.clone().advanced_to(family),
                None => live.session.clone(),
            };
            if session.is_expired(&attempt.policy, now) {
                return Ok((RefreshOutcome::Expired, RefreshPath::Hot));
            }
            let granted = |session, delivery| {
                let live = LiveSession { session, roles: live.roles.clone() };
                Ok((RefreshOutcome::Granted(Box::new(live), delivery), RefreshPath::Hot))
            };
            match decide(&session.family, attempt.presented, attempt.window, now, attempt.key_id) {
                Decision::Rotate { next, state_lost: false } => {
                    let session = session.advanced_to(next);
                    let next = record_of(&session, &live.roles, seen);
                    match self.make_move(parts, session.id, Move { found, next }, now).await {
                        Ok(Ok(())) => return granted(session, Delivery::Rotated),
                        Ok(Err(now)) => found = now,
                        // It may have been stored or not. The row makes the same generation again.
                        Err(_) => return self.refresh_by_row(parts, attempt, hot).await,
                    }
                }
                Decision::Redeliver => return granted(session, Delivery::Redelivered),
                Decision::Overtaken => return Ok((RefreshOutcome::Overtaken, RefreshPath::Hot)),
                // To be audited.
                Decision::Rotate { state_lost: true, .. } | Decision::RedeliverLate { .. } | Decision::Replay => {
                    return self.refresh_by_row(parts, attempt, hot).await;
                }
            }
        }
        let hot = found.value.as_ref().map(|record| record.family);
        self.refresh_by_row(parts, attempt, hot).await
    }

    /// The locked row decides. The record follows it if it can.
    async fn refresh_by_row(
        &self,
        parts: &HotRefresh,
        attempt: RefreshAttempt,
        hot: Option<Family>,
    ) -> Result<(RefreshOutcome, RefreshPath), ServiceError> {
        let outcome = self.store.refresh(RefreshAttempt { hot, ..attempt }).await?;
        if let RefreshOutcome::Granted(live, delivery) = &outcome
            && *delivery != Delivery::Redelivered
            && self.bring_up_record(parts, live).await.is_err()
        {
            parts.hot.note_overtaken();
        }
        Ok((outcome, RefreshPath::Row))
    }

    /// Brings the record up to its row, so that it does not speak for an older one in an outage.
    async fn bring_up_record(&self, parts: &HotRefresh, live: &LiveSession) -> Result<(), HotError> {
        let id = live.session.id;
        let found: Kept<HotRecord> = parts.hot.get(HotKey::Session(id)).await?;
        let Some(record) = &found.value else { return Ok(()) };
        // What the row says was seen at a place of the feed that is not known here; the record's own is early enough.
        let family = record.family.merged(live.session.family);
        let next = HotRecord { family, ..record.clone() };
        let ttl = live.session.expire_time(&self.policy.sessions).since(self.clock.now());
        // Another refresh that was quicker has seen this row too.
        parts.hot.replace(HotKey::Session(id), found, &next, ttl).await.map(|_| ())
    }

    /// The record alone decides. Whatever would have to be audited cannot be done now, and burns nothing.
    async fn refresh_in_outage(
        &self,
        parts: &HotRefresh,
        attempt: RefreshAttempt,
        mut found: Kept<HotRecord>,
        away: ServiceError,
    ) -> Result<(RefreshOutcome, RefreshPath), ServiceError> {
        for _ in 0..TRIES {
            let Some(record) = &found.value else { return Err(away) };
            if let Err(reason) = self.feed.may_carry(attempt.session, record, self.policy.database_grace).await {
                tracing::debug!(session = %attempt.session, %reason, "hot record not used");
                return Err(away);
            }
            let now = self.clock.now();
            let session = session_of(attempt.session, record);
            if session.is_expired(&attempt.policy, now) {
                return Ok((RefreshOutcome::Expired, RefreshPath::Grace));
            }
            let live = |session| Box::new(LiveSession { session, roles: record.roles.clone() });
            match decide(&session.family, attempt.presented, attempt.window, now, attempt.key_id) {
                Decision::Rotate { next: family, state_lost: false } => {
                    let live = live(session.advanced_to(family));
                    let next = HotRecord { family, ..record.clone() };
                    match self.make_move(parts, attempt.session, Move { found, next }, now).await {
                        Ok(Ok(())) => {
                            return Ok((RefreshOutcome::Granted(live, Delivery::Rotated), RefreshPath::Grace));
                        }
                        Ok(Err(now)) => found = now,
                        Err(_) => return Err(away),
                    }
                }
                Decision::Redeliver => {
                    return Ok((RefreshOutcome::Granted(live(session), Delivery::Redelivered), RefreshPath::Grace));
                }
                Decision::Overtaken => return Ok((RefreshOutcome::Overtaken, RefreshPath::Grace)),
                Decision::Rotate { state_lost: true, .. } | Decision::RedeliverLate { .. } | Decision::Replay => {
                    return Err(away);
                }
            }
        }
        Err(ServiceError::RefreshOvertaken)
    }

    /// Replaces the record and lets the row follow. If another refresh was quicker, what it left.
    async fn make_move(
        &self,
        parts: &HotRefresh,
        session: SessionId,
        Move { found, next }: Move,
        now: Timestamp,
    ) -> Result<Result<(), Kept<HotRecord>>, HotError> {
        let ttl = session_of(session, &next).expire_time(&self.policy.sessions).since(now);
        let moved = parts.hot.replace(HotKey::Session(session), found, &next, ttl).await?;
        if moved.is_ok() {
            parts.behind.note(session, next.family);
        }
        Ok(moved)
    }
}

fn record_of(session: &Session, roles: &[String], seen: FeedPosition) -> HotRecord {
    HotRecord {
        family: session.family,
        grant: session.grant.clone(),
        roles: roles.to_vec(),
        create_time: session.create_time,
        absolute_expire_time: session.absolute_expire_time,
        seen,
    }
}

/// The session as its record has it: without its device, which is personal and in no token.
fn session_of(id: SessionId, record: &HotRecord) -> Session {
    Session {
        id,
        grant: record.grant.clone(),
        device: DeviceInfo::default(),
        create_time: record.create_time,
        last_used_time: record.family.made_at.max(record.create_time),
        absolute_expire_time: record.absolute_expire_time,
        family: record.family,
    }
}

fn row_of(outcome: &RefreshOutcome) -> RefreshRow {
    match outcome {
        RefreshOutcome::Granted(_, Delivery::Rotated) => RefreshRow::Rotate,
        RefreshOutcome::Granted(_, Delivery::RotatedStateLost) => RefreshRow::StateLost,
        RefreshOutcome::Granted(_, Delivery::Redelivered) => RefreshRow::Redeliver,
        RefreshOutcome::Granted(_, Delivery::RedeliveredLate) => RefreshRow::LateRedelivery,
        RefreshOutcome::Overtaken => RefreshRow::Overtaken,
        RefreshOutcome::Replayed => RefreshRow::Replay,
        RefreshOutcome::Ended => RefreshRow::Ended,
        RefreshOutcome::Expired => RefreshRow::Expired,
        RefreshOutcome::Unknown => RefreshRow::UnknownSession,
    }
}
