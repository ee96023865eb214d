//! Users whom an administrator creates, and creations that are asked for again.

use uuid::Uuid;

use super::{
    Database, Tx,
    audit::actor,
    users::{insert_user, which_is_taken},
};
use crate::{
    domain::{
        audit::{Act, Actor},
        id::UserId,
        time::Timestamp,
        user::User,
    },
    store::{
        Refused, StoreError,
        port::{CreateRequest, CreateUser, UserAct, UserAddition},
    },
};

/// What it takes beside the permission of the call to create a user who has a role from the first.
const ASSIGN: &str = "roles:assign";
/// The same for a password.
const SET_PASSWORD: &str = "users:set_password";

impl Tx {
    pub(super) async fn add_user(&mut self, addition: &UserAddition) -> Result<User, StoreError> {
        let UserAddition { warrant, new, request, origin } = addition;
        let user = &new.user;
        let allowed = self.authorize(warrant).await?;
        let lacks = |wanted: bool, permission| wanted && !allowed.allow(permission);
        if lacks(!user.roles.is_empty(), ASSIGN) || lacks(new.password_hash.is_some(), SET_PASSWORD) {
            return Err(Refused::NotPermitted.into());
        }
        if let Some(request) = request
            && let Some(made) = self.claim(request, warrant.actor, *user.id.as_uuid()).await?
        {
            return self.user(UserId::from_uuid(made)).await;
        }
        if !insert_user(self, new).await? {
            return Err(match which_is_taken(self, user).await? {
                CreateUser::UsernameTaken => Refused::UsernameTaken.into(),
                CreateUser::EmailTaken | CreateUser::Created => Refused::EmailTaken.into(),
            });
        }
        // Sorted: whoever locks several roles locks them in this order.
        for role in &user.roles {
            if !allowed.cover(&self.lock_role(role).await?) {
                return Err(Refused::ExceedsOwn.into());
            }
            self.give_role(user.id, role).await?;
        }
        self.create_data_key(*user.id.as_uuid()).await?;
        let act = UserAct { warrant: warrant.clone(), user: user.id, origin: origin.clone() };
        self.audit_act(&act, Act::UserCreated).await?;
        for role in &user.roles {
            self.audit_act(&act, Act::RoleAssigned { role: role.clone() }).await?;
        }
        self.user(user.id).await
    }

    /// Takes a request id for what is to be created as `created`, or says what was created when it was first used. Two who
    /// use it at once come one after the other.
    pub(super) async fn claim(
        &mut self,
        request: &CreateRequest,
        by: Actor,
        created: Uuid,
    ) -> Result<Option<Uuid>, StoreError> {
        let CreateRequest { id, fingerprint, forgotten } = request;
        let by = match actor(by) {
            (word, Some(id)) => format!("{word}:{id}"),
            (word, None) => word.to_owned(),
        };
        sqlx::query("DELETE FROM create_requests WHERE request_id = $1 AND actor = $2 AND create_time < $3")
            .bind(*id)
            .bind(&by)
            .bind(*forgotten)
            .execute(self.conn())
            .await?;
        let now = self.now();
        let claimed = sqlx::query(
            "INSERT INTO create_requests (request_id, actor, fingerprint, created_id, create_time) \
             VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
        )
        .bind(*id)
        .bind(&by)
        .bind(fingerprint)
        .bind(created)
        .bind(now)
        .execute(self.conn())
        .await?;
        if claimed.rows_affected() == 1 {
            return Ok(None);
        }
        let found: Option<(Vec<u8>, Uuid)> =
            sqlx::query_as("SELECT fingerprint, created_id FROM create_requests WHERE request_id = $1 AND actor = $2")
                .bind(*id)
                .bind(&by)
                .fetch_optional(self.conn())
                .await?;
        match found {
            Some((known, made)) if known == *fingerprint => Ok(Some(made)),
            Some(_) => Err(Refused::RequestIdReused.into()),
            None => Err(StoreError::Unavailable("the request that was in the way is gone, try again".into())),
        }
    }
}

impl Database {
    /// Forgets creations before this moment, so few at a time that nobody waits long for SQLite's write lock.
    pub(super) async fn forget_create_requests(&self, before: Timestamp) -> Result<u64, StoreError> {
        let mut purged = 0;
        loop {
            let batch = self.transaction("purge_create_requests", before, |tx, before| {
                Box::pin(async move {
                    let deleted = sqlx::query(
                        "DELETE FROM create_requests WHERE (request_id, actor) IN (SELECT request_id, actor \
                         FROM create_requests WHERE create_time < $1 ORDER BY create_time LIMIT 500)",
                    )
                    .bind(*before)
                    .execute(tx.conn())
                    .await?;
                    Ok(deleted.rows_affected())
                })
            });
            match batch.await? {
                0 => return Ok(purged),
                batch => purged += batch,
            }
        }
    }
}
