//! Who may manage what, asked in the transaction of the act.

use async_trait::async_trait;
use sqlx::types::Json;

use super::{
    Conn, Database, Tx,
    rows::{HeldRoleRow, held_roles},
};
use crate::{
    domain::{
        audience::Scope,
        audit::Actor,
        id::{SessionId, Subject},
        role::{HeldRoles, Permissions},
        warrant::Warrant,
    },
    store::{Refused, StoreError, port::WarrantStore},
};

#[async_trait]
impl WarrantStore for Database {
    async fn held_roles(&self, subject: Subject) -> Result<Option<HeldRoles>, StoreError> {
        self.reading("held_roles", &self.pools.read, subject, |conn, subject| Box::pin(held_roles_of(conn, *subject)))
            .await
    }

    async fn session_scope(&self, session: SessionId) -> Result<Option<Scope>, StoreError> {
        self.reading("session_scope", &self.pools.read, session, |conn, session| {
            Box::pin(async move {
                let row: Option<(String,)> = sqlx::query_as("SELECT scope FROM sessions WHERE id = $1")
                    .bind(*session)
                    .fetch_optional(conn)
                    .await?;
                let scope = row.map(|(text,)| Scope::try_from(text)).transpose();
                scope.map_err(|problem| StoreError::corrupt("sessions", "scope", problem))
            })
        })
        .await
    }
}

impl Tx {
    /// What the bearer of the warrant may do at this moment, if it is enough.
    pub(super) async fn authorize(&mut self, warrant: &Warrant) -> Result<Permissions, StoreError> {
        let held = match warrant.actor {
            Actor::Operator | Actor::System => Permissions::all(),
            Actor::User(id) => self.held_by(id.into()).await?,
            Actor::Service(id) => self.held_by(id.into()).await?,
            Actor::Anonymous => Permissions::default(),
        };
        warrant.draw_on(&held).ok_or_else(|| Refused::NotPermitted.into())
    }

    /// Refuses if not everything is allowed any more that was before this transaction waited for a lock. Whoever waits must not
    /// come by what was taken away meanwhile. To be called before anything is changed that the permission could come from.
    pub(super) async fn still_allowed(&mut self, warrant: &Warrant, before: &Permissions) -> Result<(), StoreError> {
        if self.authorize(warrant).await?.cover(before) { Ok(()) } else { Err(Refused::NotPermitted.into()) }
    }

    async fn held_by(&mut self, subject: Subject) -> Result<Permissions, StoreError> {
        Ok(held_roles_of(self.conn(), subject).await?.unwrap_or_default().permissions)
    }
}

/// The roles of a user or service account; `None` if there is none that is active.
pub(super) async fn held_roles_of(conn: &mut Conn, subject: Subject) -> Result<Option<HeldRoles>, StoreError> {
    let query = match subject {
        Subject::User(id) => {
            sqlx::query_as(concat!("SELECT ", held_by_user!(), " FROM users u WHERE u.id = $1 AND u.state = 'active'"))
                .bind(*id.as_uuid())
        }
        Subject::Service(id) => {
            sqlx::query_as(concat!("SELECT ", held_by_service!(), " FROM service_accounts a WHERE a.id = $1"))
                .bind(*id.as_uuid())
        }
    };
    let row: Option<(Json<Vec<HeldRoleRow>>,)> = query.fetch_optional(conn).await?;
    Ok(row.map(|(held,)| held_roles(held)))
}
