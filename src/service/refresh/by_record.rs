//! Refresh where there is a hot state.
//!
//! Runs in a task that outlives its caller: a record that was moved must be noted for its row, and a row that went past its
//! record for the head, whoever has gone away meanwhile.

use std::sync::Arc;

use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::{
    domain::{
        claim_rules::OwnClaims,
        hot::{FeedPosition, HotRecord},
        id::SessionId,
        refresh::{Decision, Delivery, Family, decide},
        role::HeldRoles,
        session::{DeviceInfo, Session},
        time::Timestamp,
    },
    service::{
        Hot, Service, ServiceError,
        hot::{Kept, behind::WriteBehind, rows::RowReader},
    },
    state::{HotError, HotKey},
    store::port::{LiveSession, RefreshAttempt, RefreshOutcome, SessionState},
    telemetry::RefreshPath,
};

/// A refresh that loses the race for its record this often is one of very many at once: the row lets them queue.
const TRIES: u32 = 8;

/// What refreshes need of the hot state.
pub(in crate::service) struct HotRefresh {
    pub(in crate::service) hot: Arc<Hot>,
    pub(in crate::service) rows: RowReader,
    pub(in crate::service) behind: WriteBehind,
    pub(in crate::service) tasks: TaskTracker,
}

type Decided = Result<(RefreshOutcome, RefreshPath), ServiceError>;

/// What the hot record is to be replaced with, and what was there.
struct Move {
    found: Kept<HotRecord>,
    next: HotRecord,
}

impl Service {
    pub(super) async fn refresh_with_record(self: &Arc<Self>, attempt: RefreshAttempt) -> Decided {
        let Some(parts) = &self.hot else { return Err(ServiceError::internal("there is no hot state")) };
        let service = Arc::clone(self);
        let refresh = async move {
            match &service.hot {
                Some(parts) => service.refresh_by_both(parts, attempt).await,
                None => Err(ServiceError::internal("there is no hot state")),
            }
        };
        let task = parts.tasks.spawn(refresh.in_current_span());
        task.await.unwrap_or_else(|gone| Err(ServiceError::internal(gone)))
    }

    /// Reads row and record side by side, both after the request arrived.
    async fn refresh_by_both(&self, parts: &HotRefresh, attempt: RefreshAttempt) -> Decided {
        let session = attempt.session;
        let (row, found) = tokio::join!(parts.rows.read(session), parts.hot.get(HotKey::Session(session)));
        match (row, found) {
            (Ok((_, None)), _) => Ok((RefreshOutcome::Unknown, RefreshPath::Hot)),
            (Ok((_, Some(SessionState::Ended))), _) => Ok((RefreshOutcome::Ended, RefreshPath::Hot)),
            (Ok((seen, Some(SessionState::Live(live)))), Ok(found)) => {
                self.refresh_by_record(parts, attempt, seen, *live, found).await
            }
            (Ok((seen, Some(SessionState::Live(_)))), Err(_)) => {
                self.refresh_by_row(parts, attempt, seen, Record::OutOfReach(None)).await
            }
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
    ) -> Decided {
        for _ in 0..TRIES {
            let hot = found.value.as_ref().map(|record| record.family);
            let session = match hot {
                Some(family) => live.session.clone().advanced_to(family),
                None => live.session.clone(),
            };
            if session.family.generation > live.session.family.generation {
                // Whoever made it may have died before the row was written.
                parts.behind.note(attempt.session, session.family);
            }
            let now = self.clock.now();
            if session.is_expired(&attempt.policy, now) {
                return Ok((RefreshOutcome::Expired, RefreshPath::Hot));
            }
            let granted = |session, delivery| {
                let live = LiveSession { session, held: live.held.clone(), own: live.own.clone() };
                Ok((RefreshOutcome::Granted(Box::new(live), delivery), RefreshPath::Hot))
            };
            match decide(&session.family, attempt.presented, attempt.window, now, attempt.key_id) {
                Decision::Rotate { next, state_lost: false } => {
                    let session = session.advanced_to(next);
                    let next = self.record_of(&session, &live.held, &live.own, seen);
                    match self.make_move(parts, session.id, Move { found, next }, now).await {
                        Ok(Ok(())) => return granted(session, Delivery::Rotated),
                        Ok(Err(now)) => found = now,
                        // It may have been stored or not. The row makes the same generation again.
                        Err(_) => return self.refresh_by_row(parts, attempt, seen, Record::OutOfReach(hot)).await,
                    }
                }
                Decision::Redeliver => return granted(session, Delivery::Redelivered),
                Decision::Overtaken => return Ok((RefreshOutcome::Overtaken, RefreshPath::Hot)),
                // To be audited, and a generation that the record may not hear of.
                Decision::Rotate { state_lost: true, .. } => {
                    return self.refresh_by_row(parts, attempt, seen, Record::OutOfReach(hot)).await;
                }
                // To be audited.
                Decision::RedeliverLate { .. } | Decision::Replay => {
                    return self.refresh_by_row(parts, attempt, seen, Record::Found(hot)).await;
                }
            }
        }
        let hot = found.value.map(|record| record.family);
        self.refresh_by_row(parts, attempt, seen, Record::OutOfReach(hot)).await
    }

    /// The locked row decides, and the record follows it.
    async fn refresh_by_row(
        &self,
        parts: &HotRefresh,
        attempt: RefreshAttempt,
        seen: FeedPosition,
        record: Record,
    ) -> Decided {
        let (Record::Found(hot) | Record::OutOfReach(hot)) = record;
        let outcome = self.store.refresh(RefreshAttempt { hot, ..attempt }).await;
        match &outcome {
            Ok(RefreshOutcome::Granted(live, delivery)) if *delivery != Delivery::Redelivered => {
                self.bring_up_record(parts, live, seen).await;
            }
            // It may have been committed all the same, and nobody knows what.
            Err(_) if matches!(record, Record::OutOfReach(_)) => parts.hot.note_overtaken(),
            Ok(_) | Err(_) => {}
        }
        Ok((outcome?, RefreshPath::Row))
    }

    /// Brings the record up to its row, which was locked after the feed was `seen`, so that it does not speak for an older one
    /// in an outage. It is made if there is none: a slower refresh could make one that is behind. What cannot be done now is
    /// done when it can be.
    async fn bring_up_record(&self, parts: &HotRefresh, live: &LiveSession, seen: FeedPosition) {
        let LiveSession { session, held, own } = live;
        let expire_time = session.expire_time(&self.policy.sessions);
        let wanted = self.record_of(session, held, own, seen);
        let raised = parts.hot.raise(session.id, &wanted, expire_time.since(self.clock.now())).await;
        if raised.is_err() {
            parts.hot.note_unfollowed(session.id, wanted, expire_time);
        }
    }

    /// The record alone decides. Whatever would have to be audited cannot be done now, and burns nothing.
    async fn refresh_in_outage(
        &self,
        parts: &HotRefresh,
        attempt: RefreshAttempt,
        mut found: Kept<HotRecord>,
        away: ServiceError,
    ) -> Decided {
        for _ in 0..TRIES {
            let Some(record) = &found.value else { return Err(away) };
            // This node knows of a later one, which the hot state has forgotten or was never told.
            if parts.behind.is_past(attempt.session, record.family.generation)
                || parts.hot.is_unfollowed(attempt.session)
            {
                return Err(away);
            }
            let here = (self.policy.database_grace, self.policy.said_mark);
            if let Err(reason) = self.feed.may_carry(attempt.session, record, here).await {
                tracing::debug!(session = %attempt.session, %reason, "hot record not used");
                return Err(away);
            }
            let now = self.clock.now();
            let session = session_of(attempt.session, record);
            if session.is_expired(&attempt.policy, now) {
                return Ok((RefreshOutcome::Expired, RefreshPath::Grace));
            }
            let live = |session| Box::new(LiveSession { session, held: record.held.clone(), own: record.own.clone() });
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
                    let outcome = RefreshOutcome::Granted(live(session), Delivery::Redelivered);
                    return Ok((outcome, RefreshPath::Grace));
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

    /// What the hot state is to keep of a session. Of the user's attributes what tokens say, which is nothing unless it was configured.
    fn record_of(&self, session: &Session, held: &HeldRoles, own: &OwnClaims, seen: FeedPosition) -> HotRecord {
        let OwnClaims { attributes, claims } = own;
        HotRecord {
            family: session.family,
            grant: session.grant.clone(),
            held: held.clone(),
            own: OwnClaims { attributes: attributes.only(&self.policy.said_attributes), claims: claims.clone() },
            said: self.policy.said_mark,
            create_time: session.create_time,
            absolute_expire_time: session.absolute_expire_time,
            seen,
        }
    }
}

/// What is known of the hot record when the row decides.
#[derive(Clone, Copy, Debug)]
enum Record {
    /// Its counter, if there is a record. The row makes no generation that it would not know of.
    Found(Option<Family>),
    /// It could not be read or written, or the row may make a generation that it does not know of.
    OutOfReach(Option<Family>),
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
