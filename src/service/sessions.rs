//! `ListSessions`, `RevokeSession`, `RevokeOtherSessions`: the caller's own sessions.

use super::{Principal, RequestContext, Service, ServiceError};
use crate::{
    domain::{
        audit::{Act, Actor, AuditEvent},
        id::{SessionId, UserId},
        session::{EndReason, Session},
    },
    store::port::{Change, SessionPage},
};

/// A page of live sessions.
#[derive(Clone, Debug)]
pub struct SessionList {
    /// The sessions, newest first.
    pub sessions: Vec<Session>,
    /// Where the next page begins; `None` on the last one.
    pub next: Option<SessionId>,
}

impl Service {
    /// A page of the caller's live sessions: up to `limit`, begun before `before`.
    pub async fn list_sessions(
        &self,
        caller: Principal,
        before: Option<SessionId>,
        limit: u32,
    ) -> Result<SessionList, ServiceError> {
        self.sessions_of(caller.user, before, limit).await
    }

    /// The same of any user.
    pub(super) async fn sessions_of(
        &self,
        user: UserId,
        before: Option<SessionId>,
        limit: u32,
    ) -> Result<SessionList, ServiceError> {
        // One more than asked for tells whether there is another page.
        let page = SessionPage { user, before, limit: limit + 1, policy: self.policy.sessions };
        let mut sessions = self.store.list_sessions(page).await?;
        let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = sessions.len() > wanted;
        sessions.truncate(wanted);
        let next = if more { sessions.last().map(|s| s.id) } else { None };
        Ok(SessionList { sessions, next })
    }

    /// Ends one of the caller's live sessions.
    pub async fn revoke_session(
        &self,
        caller: Principal,
        session: SessionId,
        context: &RequestContext,
    ) -> Result<(), ServiceError> {
        let origin = context.origin.clone();
        if self.store.end_session(session, Some(caller.user), EndReason::Revoked, origin).await? {
            Ok(())
        } else {
            Err(ServiceError::SessionNotFound)
        }
    }

    /// Ends all of the caller's sessions but the current one.
    pub async fn revoke_other_sessions(&self, caller: Principal, context: &RequestContext) -> Result<(), ServiceError> {
        let event = own_act(caller, Act::OtherSessionsEnded { spared: Some(caller.session) }, context);
        match self.store.end_other_sessions(caller.user, caller.session, event).await? {
            Change::Done => Ok(()),
            // Only a live session can be spared: this one has been ended meanwhile.
            Change::Conflict => Err(ServiceError::AccessTokenInvalid),
        }
    }
}

/// An act of the caller on the own account.
pub(super) fn own_act(caller: Principal, act: Act, context: &RequestContext) -> AuditEvent {
    AuditEvent {
        actor: Actor::User(caller.user),
        subject: Some(caller.user.into()),
        act,
        origin: context.origin.clone(),
    }
}
