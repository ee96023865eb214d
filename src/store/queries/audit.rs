//! Audit events, written in the transaction of their effect.

use async_trait::async_trait;
use serde_json::json;
use uuid::Uuid;

use super::{Database, Pools, READS_APART, Tx};
use crate::{
    domain::{
        audit::{Act, Actor, AuditEvent, Failure, Origin},
        id::{EventId, SessionId, Subject, UserId},
        secret::random,
        time::Timestamp,
    },
    store::{
        StoreError,
        port::{AuditStore, DatabaseConnections, PrunedEvents, RecordedEvent},
    },
};

#[async_trait]
impl AuditStore for Database {
    async fn record(&self, event: AuditEvent) -> Result<(), StoreError> {
        self.transaction("record", event, |tx, event| Box::pin(tx.audit(event))).await
    }

    async fn adopt_events(&self) -> Result<u64, StoreError> {
        self.adopt().await
    }

    async fn prune_events(&self, before: Timestamp) -> Result<PrunedEvents, StoreError> {
        self.prune(before).await
    }

    fn connections(&self) -> DatabaseConnections {
        let Pools { write, read, feed, manner: _ } = &self.pools;
        let apart = READS_APART.then_some(read);
        let mut total = DatabaseConnections { idle: self.held.len(), ..DatabaseConnections::default() };
        for pool in [write, feed].into_iter().chain(apart) {
            let (open, idle) = (usize::try_from(pool.size()).unwrap_or(usize::MAX), pool.num_idle());
            total.in_use += open.saturating_sub(idle);
            total.idle += idle;
        }
        total
    }

    async fn close(&self) {
        self.tasks.close();
        self.tasks.wait().await;
        let Pools { write, read, feed, manner: _ } = &self.pools;
        self.held.clear();
        feed.close().await;
        read.close().await;
        write.close().await;
    }
}

impl Tx {
    /// Records an event, at the end of this transaction; one of too many failures is only counted.
    pub(super) async fn audit(&mut self, event: &AuditEvent) -> Result<(), StoreError> {
        if let Some(failure) = Failure::of(event)
            && !self.note_failure(failure)
        {
            return Ok(());
        }
        let around = self.around();
        let now = self.now();
        let id = EventId::new(now, &random(&*around.entropy));
        let personal = self.seal_personal(id, event).await?;
        let (actor, actor_id) = actor(event.actor);
        self.note_event(RecordedEvent {
            id,
            time: now,
            act: event.act.name().to_owned(),
            succeeded: event.act.succeeded(),
            actor: actor.to_owned(),
            actor_id,
            subject_id: event.subject.map(|subject| *subject.as_uuid()),
            session_id: session(&event.act),
            request_id: event.origin.request_id.clone(),
            detail: detail(&event.act),
            personal_sealed: personal,
            link: None,
        });
        self.leave_mark(id);
        Ok(())
    }

    /// Makes the data key of `owner`, if there is none.
    pub(super) async fn create_data_key(&mut self, owner: Uuid) -> Result<(), StoreError> {
        let key = self.around().vault.new_key(owner);
        let now = self.now();
        sqlx::query(
            "INSERT INTO data_keys (owner_id, key_sealed, create_time) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        )
        .bind(owner)
        .bind(key)
        .bind(now)
        .execute(self.conn())
        .await?;
        Ok(())
    }

    async fn seal_personal(&mut self, id: EventId, event: &AuditEvent) -> Result<Option<Vec<u8>>, StoreError> {
        let Origin { request_id: _, ip_address, user_agent } = &event.origin;
        if ip_address.is_empty() && user_agent.is_empty() {
            return Ok(None);
        }
        let owner = owner(event).map_or(Uuid::nil(), |user| *user.as_uuid());
        let Some(key) = self.data_key(owner).await? else { return Ok(None) };
        let personal = json!({ "ip_address": ip_address, "user_agent": user_agent }).to_string();
        let sealed = self.around().vault.seal(owner, &key, id, personal.as_bytes());
        sealed.map(Some).map_err(|problem| StoreError::corrupt("data_keys", "key_sealed", problem))
    }

    /// The sealed data key of `owner`. A user without one has been erased: nothing personal is kept any more. The nil key of
    /// those who are no user is made when it is first needed.
    async fn data_key(&mut self, owner: Uuid) -> Result<Option<Vec<u8>>, StoreError> {
        let found = self.find_data_key(owner).await?;
        if found.is_some() || !owner.is_nil() {
            return Ok(found);
        }
        self.create_data_key(owner).await?;
        self.find_data_key(owner).await
    }

    async fn find_data_key(&mut self, owner: Uuid) -> Result<Option<Vec<u8>>, StoreError> {
        let key: Option<(Vec<u8>,)> = sqlx::query_as("SELECT key_sealed FROM data_keys WHERE owner_id = $1")
            .bind(owner)
            .fetch_optional(self.conn())
            .await?;
        Ok(key.map(|(key,)| key))
    }
}

/// Whose address and agent an event has: the user's who acts. Those of somebody not signed in are taken for the user's whom it is about,
/// so that they go with that user at the latest, and so are those of what the server does because of a user's call, like ending the oldest
/// session. Nobody else's are any user's.
fn owner(event: &AuditEvent) -> Option<UserId> {
    match event.actor {
        Actor::User(user) => Some(user),
        Actor::Anonymous | Actor::System => event.subject.and_then(Subject::user),
        Actor::Service(_) | Actor::Operator => None,
    }
}

/// The word for who acted, and their id.
pub(super) fn actor(actor: Actor) -> (&'static str, Option<Uuid>) {
    match actor {
        Actor::Anonymous => ("anonymous", None),
        Actor::User(id) => ("user", Some(*id.as_uuid())),
        Actor::Service(id) => ("service", Some(*id.as_uuid())),
        Actor::Operator => ("operator", None),
        Actor::System => ("system", None),
    }
}

fn session(act: &Act) -> Option<SessionId> {
    match act {
        Act::LoggedIn { session }
        | Act::SessionEnded { session, .. }
        | Act::LateRedelivery { session, .. }
        | Act::RefreshStateLost { session, .. } => Some(*session),
        Act::OtherSessionsEnded { spared: session } | Act::TokenRevoked { session, .. } => *session,
        Act::Registered
        | Act::EmailVerified
        | Act::EmailChangeRequested
        | Act::EmailChanged
        | Act::PhoneNumberChangeRequested
        | Act::PhoneNumberChanged
        | Act::PasswordResetRequested
        | Act::PasswordReset
        | Act::LoginCodeRequested
        | Act::EmailVerificationRequested
        | Act::ChallengeIssued
        | Act::ChallengeFailed
        | Act::CodeRefused
        | Act::AccountExported
        | Act::AccountDeleted
        | Act::TotpEnrolmentBegun
        | Act::TotpEnrolled
        | Act::TotpRemoved
        | Act::RecoveryCodesGenerated
        | Act::RecoveryCodeUsed
        | Act::FactorsRemoved
        | Act::AccountUpdated { .. }
        | Act::LoginFailed { .. }
        | Act::ReauthenticationFailed
        | Act::PasswordChanged
        | Act::PasswordRehashed
        | Act::PasswordSet
        | Act::SessionsEnded
        | Act::RoleAssigned { .. }
        | Act::RoleUnassigned { .. }
        | Act::RoleCreated { .. }
        | Act::RoleUpdated { .. }
        | Act::RoleDeleted { .. }
        | Act::UserCreated
        | Act::UserImported { .. }
        | Act::UserUpdated { .. }
        | Act::UserSuspended
        | Act::UserReactivated
        | Act::UserExported
        | Act::UserDeleted
        | Act::ServiceAccountCreated
        | Act::ServiceAccountUpdated { .. }
        | Act::ServiceAccountSecretRotated { .. }
        | Act::ServiceAccountDeleted
        | Act::ServiceTokenIssued { .. }
        | Act::ServiceTokenRefused
        | Act::KeyRevoked { .. }
        | Act::KeyPublished { .. }
        | Act::LoginFailuresAggregated { .. }
        | Act::FailuresAggregated { .. }
        | Act::EventsAdopted { .. }
        | Act::EventsPruned { .. }
        | Act::MasterKeyChangeBegun { .. }
        | Act::MasterKeyChanged { .. } => None,
    }
}

pub(super) fn detail(act: &Act) -> serde_json::Value {
    match act {
        Act::LoginFailed { cause, identifier_hash } => json!({ "cause": cause, "identifier_hash": identifier_hash }),
        Act::LoginFailuresAggregated { cause, count, first, last } => json!({
            "cause": cause, "count": count, "first_time": first.to_string(), "last_time": last.to_string(),
        }),
        Act::FailuresAggregated { act, count, first, last } => json!({
            "act": act, "count": count, "first_time": first.to_string(), "last_time": last.to_string(),
        }),
        Act::EventsAdopted { count } => json!({ "count": count }),
        Act::EventsPruned { lane, first, last } => {
            json!({ "lane": lane, "first_position": first, "last_position": last, "count": last - first + 1 })
        }
        Act::SessionEnded { session: _, reason } => json!({ "reason": reason.as_str() }),
        Act::LateRedelivery { session: _, generation } | Act::RefreshStateLost { session: _, generation } => {
            json!({ "generation": generation })
        }
        Act::RoleAssigned { role } | Act::RoleUnassigned { role } | Act::RoleDeleted { role } => {
            json!({ "role": role })
        }
        Act::RoleCreated { role, permissions, custom_claims }
        | Act::RoleUpdated { role, permissions, custom_claims } => {
            if custom_claims.is_empty() {
                json!({ "role": role, "permissions": permissions })
            } else {
                json!({ "role": role, "permissions": permissions, "custom_claims": custom_claims })
            }
        }
        Act::UserImported { import } => json!({ "import": import }),
        Act::UserUpdated { fields } | Act::AccountUpdated { fields } | Act::ServiceAccountUpdated { fields } => {
            json!({ "fields": fields })
        }
        Act::ServiceAccountSecretRotated { secret } => json!({ "secret": secret }),
        Act::ServiceTokenIssued { token } | Act::TokenRevoked { session: _, token } => json!({ "token": token }),
        Act::KeyPublished { key } | Act::KeyRevoked { key } | Act::MasterKeyChangeBegun { key } => {
            json!({ "key": key })
        }
        Act::MasterKeyChanged { key, rows } => json!({ "key": key, "rows": rows }),
        Act::Registered
        | Act::EmailVerified
        | Act::EmailChangeRequested
        | Act::EmailChanged
        | Act::PhoneNumberChangeRequested
        | Act::PhoneNumberChanged
        | Act::PasswordResetRequested
        | Act::PasswordReset
        | Act::LoginCodeRequested
        | Act::EmailVerificationRequested
        | Act::ChallengeIssued
        | Act::ChallengeFailed
        | Act::CodeRefused
        | Act::AccountExported
        | Act::AccountDeleted
        | Act::TotpEnrolmentBegun
        | Act::TotpEnrolled
        | Act::TotpRemoved
        | Act::RecoveryCodesGenerated
        | Act::RecoveryCodeUsed
        | Act::FactorsRemoved
        | Act::LoggedIn { .. }
        | Act::ReauthenticationFailed
        | Act::PasswordChanged
        | Act::PasswordRehashed
        | Act::PasswordSet
        | Act::OtherSessionsEnded { .. }
        | Act::SessionsEnded
        | Act::UserCreated
        | Act::UserSuspended
        | Act::UserReactivated
        | Act::UserExported
        | Act::UserDeleted
        | Act::ServiceAccountCreated
        | Act::ServiceAccountDeleted
        | Act::ServiceTokenRefused => json!({}),
    }
}
