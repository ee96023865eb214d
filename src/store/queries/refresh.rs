//! A refresh on the locked row: read, decide by the pure rule, store the outcome.

use super::{
    Db, Tx,
    families::state,
    rows::{SessionAndUserRow, own_claims_columns, session_columns},
};
use crate::{
    domain::{
        audit::{Act, Actor, AuditEvent},
        id::SessionId,
        refresh::{Decision, Delivery, Family, decide},
        session::{EndReason, Session},
        time::Timestamp,
    },
    store::{
        StoreError,
        port::{LiveSession, RefreshAttempt, RefreshOutcome, SessionState},
    },
};

impl Tx {
    /// Decides `attempt` and stores the outcome.
    pub(super) async fn refresh(&mut self, attempt: &RefreshAttempt) -> Result<RefreshOutcome, StoreError> {
        // Locked first and read by a second statement: one that waits for the lock would go on with the session row as it
        // is now beside the user's row as it was before, and take a spared session for an ended one.
        let locked: Option<(SessionId,)> =
            sqlx::query_as(concat!("SELECT s.id FROM sessions s WHERE s.id = $1", for_update!()))
                .bind(attempt.session)
                .fetch_optional(self.conn())
                .await?;
        if locked.is_none() {
            return Ok(RefreshOutcome::Unknown);
        }
        let row: Option<SessionAndUserRow> = sqlx::query_as::<Db, _>(concat!(
            "SELECT ",
            session_columns!(),
            ", u.state AS user_state, u.epoch AS user_epoch, ",
            own_claims_columns!(),
            ", ",
            held_by_user!(),
            " AS held FROM sessions s JOIN users u ON u.id = s.user_id WHERE s.id = $1"
        ))
        .bind(attempt.session)
        .fetch_optional(self.conn())
        .await?;
        let Some(row) = row else { return Ok(RefreshOutcome::Unknown) };
        // Read after the lock was granted: the moment of the decision.
        let now = self.now();
        let SessionState::Live(live) = state(row)? else { return Ok(RefreshOutcome::Ended) };
        let LiveSession { session, held, own } = *live;
        let session = match attempt.hot {
            Some(family) => session.advanced_to(family),
            None => session,
        };
        if session.is_expired(&attempt.policy, now) {
            return Ok(RefreshOutcome::Expired);
        }
        self.carry_out(attempt, LiveSession { session, held, own }, now).await
    }

    async fn carry_out(
        &mut self,
        attempt: &RefreshAttempt,
        mut live: LiveSession,
        now: Timestamp,
    ) -> Result<RefreshOutcome, StoreError> {
        let session = live.session.id;
        let delivery = match decide(&live.session.family, attempt.presented, attempt.window, now, attempt.key_id) {
            Decision::Rotate { next, state_lost } => {
                live.session.family = next;
                live.session.last_used_time = now;
                self.store_family(&live.session).await?;
                if state_lost {
                    let generation = attempt.presented.generation;
                    self.audit_refresh(attempt, &live, Act::RefreshStateLost { session, generation }).await?;
                    Delivery::RotatedStateLost
                } else {
                    Delivery::Rotated
                }
            }
            Decision::Redeliver => Delivery::Redelivered,
            Decision::RedeliverLate { next } => {
                live.session.family = next;
                self.store_family(&live.session).await?;
                self.audit_refresh(attempt, &live, Act::LateRedelivery { session, generation: next.generation })
                    .await?;
                if attempt.caller.is_gone() {
                    // It would count against the owner, who never saw the answer.
                    self.abandon();
                    return Ok(RefreshOutcome::Overtaken);
                }
                Delivery::RedeliveredLate
            }
            Decision::Overtaken => return Ok(RefreshOutcome::Overtaken),
            Decision::Replay => {
                self.end_session(session, EndReason::Replay).await?;
                let act = Act::SessionEnded { session, reason: EndReason::Replay };
                self.audit_refresh(attempt, &live, act).await?;
                if attempt.caller.is_gone() {
                    // Nobody hears the verdict, so there is none.
                    self.abandon();
                    return Ok(RefreshOutcome::Overtaken);
                }
                return Ok(RefreshOutcome::Replayed);
            }
        };
        Ok(RefreshOutcome::Granted(Box::new(live), delivery))
    }

    async fn store_family(&mut self, session: &Session) -> Result<(), StoreError> {
        let Family { generation, made_at, key_id, late_streak, late_now } = session.family;
        sqlx::query(
            "UPDATE sessions SET generation = $1, generation_time = $2, refresh_key = $3, late_streak = $4, late_now = $5, \
             last_used_time = $6 WHERE id = $7",
        )
        .bind(generation)
        .bind(made_at)
        .bind(key_id)
        .bind(i64::from(late_streak))
        .bind(late_now)
        .bind(session.last_used_time)
        .bind(session.id)
        .execute(self.conn())
        .await?;
        Ok(())
    }

    async fn audit_refresh(
        &mut self,
        attempt: &RefreshAttempt,
        live: &LiveSession,
        act: Act,
    ) -> Result<(), StoreError> {
        let subject = Some(live.session.grant.user.into());
        let event = AuditEvent { actor: Actor::Anonymous, subject, act, origin: attempt.origin.clone() };
        self.audit(&event).await
    }
}
