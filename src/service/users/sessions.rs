//! `ListUserSessions`, `RevokeUserSessions`.

use super::act;
use crate::{
    domain::{
        id::{SessionId, UserId},
        warrant::Warrant,
    },
    service::{RequestContext, Service, ServiceError, SessionList},
    store::Refused,
};

impl Service {
    /// A page of a user's live sessions: up to `limit`, begun before `before`.
    pub async fn list_user_sessions(
        &self,
        user: UserId,
        before: Option<SessionId>,
        limit: u32,
    ) -> Result<SessionList, ServiceError> {
        if self.store.get_user(user).await?.is_none() {
            return Err(Refused::NoUser.into());
        }
        self.sessions_of(user, before, limit).await
    }

    /// Ends a live session of a user, or all of them.
    pub async fn revoke_user_sessions(
        &self,
        warrant: Warrant,
        user: UserId,
        session: Option<SessionId>,
        context: &RequestContext,
    ) -> Result<(), ServiceError> {
        Ok(self.store.end_user_sessions(act(warrant, user, context), session).await?)
    }
}
