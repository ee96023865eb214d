//! Users, as administrators manage them.

use async_trait::async_trait;
use sqlx::types::Json;

use super::{
    Database, Db, Tx,
    passwords::password_hashes,
    rows::{UserRow, claims_column, user_columns},
    user_listing::listed,
};
use crate::{
    domain::{
        audit::{Act, AuditEvent},
        claim_rules::check_size,
        id::{SessionId, UserId},
        locale::Locale,
        phone::PhoneNumber,
        session::EndReason,
        time::Timestamp,
        user::{Identifier, PhcString, User, UserState, Username},
        users::UserChange,
    },
    store::{
        Refused, StoreError,
        port::{Erased, NewMessage, ThrottleKey, UserAct, UserAddition, UserAdminStore, UserListing},
    },
};

#[async_trait]
impl UserAdminStore for Database {
    async fn add_user(&self, addition: UserAddition) -> Result<User, StoreError> {
        self.transaction("add_user", addition, |tx, addition| Box::pin(tx.add_user(addition))).await
    }

    async fn find_user(&self, identifier: Identifier) -> Result<Option<User>, StoreError> {
        self.reading("find_user", &self.pools.read, identifier, |conn, identifier| {
            Box::pin(async move {
                let query = match identifier {
                    Identifier::Email(email) => {
                        sqlx::query_as(concat!("SELECT ", user_columns!(), " FROM users u WHERE u.email_key = $1"))
                            .bind(email.key())
                    }
                    Identifier::Username(name) => {
                        sqlx::query_as(concat!("SELECT ", user_columns!(), " FROM users u WHERE u.username = $1"))
                            .bind(name.as_str())
                    }
                };
                let row: Option<UserRow> = query.fetch_optional(conn).await?;
                row.map(User::try_from).transpose()
            })
        })
        .await
    }

    async fn list_users(&self, listing: UserListing) -> Result<Vec<User>, StoreError> {
        self.reading("list_users", &self.pools.read, listing, |conn, listing| {
            Box::pin(async move {
                let rows: Vec<UserRow> = listed(listing).build_query_as().fetch_all(conn).await?;
                rows.into_iter().map(User::try_from).collect()
            })
        })
        .await
    }

    async fn update_user(&self, act: UserAct, expected: Option<i64>, change: UserChange) -> Result<User, StoreError> {
        self.transaction("update_user", (act, expected, change), |tx, (act, expected, change)| {
            Box::pin(async move {
                let (user, _) = tx.user_to_act_on(act).await?;
                check_revision(&user, *expected)?;
                let before = tx.said_of(user.id).await?;
                let fields = tx.write_change(&user, change).await?;
                if change.changes_claims(&user) {
                    let after = tx.said_of(user.id).await?;
                    // Where it is too much already, nobody is kept from taking away.
                    if check_size(&after).is_err() && after.bytes() > before.bytes() {
                        return Err(Refused::ClaimsTooLarge.into());
                    }
                    tx.refuse_tokens(user.id).await?;
                }
                if !fields.is_empty() {
                    tx.audit_act(act, Act::UserUpdated { fields }).await?;
                }
                tx.user(user.id).await
            })
        })
        .await
    }

    async fn delete_user(&self, act: UserAct, expected: Option<i64>) -> Result<Erased, StoreError> {
        self.transaction("delete_user", (act, expected), |tx, (act, expected)| {
            Box::pin(async move {
                let (user, allowed) = tx.user_to_act_on(act).await?;
                check_revision(&user, *expected)?;
                tx.keep_an_administrator(&user).await?;
                tx.still_allowed(&act.warrant, &allowed).await?;
                let erased = tx.erase(&user).await?;
                tx.audit_act(act, Act::UserDeleted).await?;
                Ok(erased)
            })
        })
        .await
    }

    async fn set_user_state(&self, act: UserAct, state: UserState) -> Result<User, StoreError> {
        self.transaction("set_user_state", (act, state), |tx, (act, state)| {
            Box::pin(async move {
                let (user, allowed) = tx.user_to_act_on(act).await?;
                if user.state == *state {
                    return Ok(user);
                }
                match state {
                    UserState::Suspended => {
                        tx.keep_an_administrator(&user).await?;
                        tx.still_allowed(&act.warrant, &allowed).await?;
                        tx.set_state(&user, *state).await?;
                        tx.raise_epoch(user.id, None).await?;
                        tx.audit_act(act, Act::UserSuspended).await?;
                    }
                    UserState::Active => {
                        tx.set_state(&user, *state).await?;
                        tx.audit_act(act, Act::UserReactivated).await?;
                    }
                }
                tx.user(user.id).await
            })
        })
        .await
    }

    async fn passwords_to_act_on(&self, act: UserAct, history: u32) -> Result<(User, Vec<PhcString>), StoreError> {
        self.transaction("passwords_to_act_on", (act, history), |tx, (act, history)| {
            Box::pin(async move {
                let (user, _) = tx.user_to_act_on(act).await?;
                let hashes = password_hashes(tx.conn(), user.id, *history).await?;
                Ok((user, hashes))
            })
        })
        .await
    }

    async fn set_user_password(
        &self,
        act: UserAct,
        hash: PhcString,
        forgiven: Vec<ThrottleKey>,
        news: Option<NewMessage>,
    ) -> Result<(), StoreError> {
        self.transaction("set_user_password", (act, hash, forgiven, news), |tx, (act, hash, forgiven, news)| {
            Box::pin(async move {
                let (user, _) = tx.user_to_act_on(act).await?;
                tx.replace_password(user.id, hash).await?;
                tx.forget_devices(user.id, None).await?;
                tx.raise_epoch(user.id, None).await?;
                tx.forget_failures(forgiven).await?;
                if let Some(news) = news {
                    tx.enqueue(news).await?;
                }
                tx.audit_act(act, Act::PasswordSet).await
            })
        })
        .await
    }

    async fn end_user_sessions(&self, act: UserAct, session: Option<SessionId>) -> Result<(), StoreError> {
        self.transaction("end_user_sessions", (act, session), |tx, (act, session)| {
            Box::pin(async move {
                let (user, _) = tx.user_to_act_on(act).await?;
                let Some(session) = *session else {
                    tx.raise_epoch(user.id, None).await?;
                    return tx.audit_act(act, Act::SessionsEnded).await;
                };
                let reason = EndReason::Revoked;
                // The user's row is locked: no other epoch comes between the two.
                if !super::sessions::is_live_session_of(tx, session, user.id).await?
                    || tx.end_session(session, reason).await?.is_none()
                {
                    return Err(Refused::NoSession.into());
                }
                tx.audit_act(act, Act::SessionEnded { session, reason }).await
            })
        })
        .await
    }

    async fn assign_role(&self, act: UserAct, role: String) -> Result<User, StoreError> {
        self.transaction("assign_role", (act, role), |tx, (act, role)| Box::pin(tx.assign_role(act, role))).await
    }

    async fn unassign_role(&self, act: UserAct, role: String) -> Result<User, StoreError> {
        self.transaction("unassign_role", (act, role), |tx, (act, role)| Box::pin(tx.unassign_role(act, role))).await
    }

    async fn purge_create_requests(&self, before: Timestamp) -> Result<u64, StoreError> {
        self.forget_create_requests(before).await
    }
}

/// Refuses if the user has changed since its revision was read.
pub(super) fn check_revision(user: &User, expected: Option<i64>) -> Result<(), StoreError> {
    match expected {
        Some(revision) if revision != user.revision => Err(Refused::EtagMismatch.into()),
        Some(_) | None => Ok(()),
    }
}

impl Tx {
    /// Records an act on a user.
    pub(super) async fn audit_act(&mut self, act: &UserAct, what: Act) -> Result<(), StoreError> {
        let UserAct { warrant, user, origin } = act;
        let event =
            AuditEvent { actor: warrant.actor, subject: Some((*user).into()), act: what, origin: origin.clone() };
        self.audit(&event).await
    }

    /// A user who is there.
    pub(super) async fn user(&mut self, id: UserId) -> Result<User, StoreError> {
        let row: Option<UserRow> =
            sqlx::query_as::<Db, _>(concat!("SELECT ", user_columns!(), " FROM users u WHERE u.id = $1"))
                .bind(id)
                .fetch_optional(self.conn())
                .await?;
        row.map(User::try_from).transpose()?.ok_or_else(|| Refused::NoUser.into())
    }

    /// Writes what differs. The names of the fields that do.
    pub(super) async fn write_change(&mut self, user: &User, change: &UserChange) -> Result<Vec<String>, StoreError> {
        let now = self.now();
        let (changed, fields) = change.apply(user, now);
        if fields.is_empty() {
            return Ok(Vec::new());
        }
        let update = sqlx::query(
            "UPDATE users SET email = $1, email_key = $2, email_verified_time = $3, username = $4, display_name = $5, \
             attributes = $6, update_time = $7, revision = revision + 1, phone_number = $9, locale = $10, \
             custom_claims = $11 WHERE id = $8",
        )
        .bind(changed.email.as_typed())
        .bind(changed.email.key())
        .bind(changed.email_verified_time)
        .bind(changed.username.as_ref().map(Username::as_str))
        .bind(changed.display_name.as_str())
        .bind((!changed.attributes.is_empty()).then_some(Json(&changed.attributes)))
        .bind(now)
        .bind(user.id)
        .bind(changed.phone_number.as_ref().map(PhoneNumber::as_str))
        .bind(changed.locale.as_ref().map(Locale::as_str))
        .bind(claims_column(&changed.custom_claims));
        update.execute(self.conn()).await.map_err(what_is_taken)?;
        if changed.username != user.username && self.is_reserved(changed.username.as_ref()).await? {
            return Err(Refused::UsernameTaken.into());
        }
        Ok(fields.into_iter().map(str::to_owned).collect())
    }

    async fn set_state(&mut self, user: &User, state: UserState) -> Result<(), StoreError> {
        let now = self.now();
        sqlx::query("UPDATE users SET state = $1, update_time = $2, revision = revision + 1 WHERE id = $3")
            .bind(state.as_str())
            .bind(now)
            .bind(user.id)
            .execute(self.conn())
            .await?;
        Ok(())
    }
}

/// Which unique key is in the way, if that is what went wrong. Postgres names the constraint, SQLite the column.
pub(super) fn what_is_taken(error: sqlx::Error) -> StoreError {
    match error.as_database_error() {
        Some(cause) if cause.is_unique_violation() => {
            let key = cause.constraint().unwrap_or(cause.message());
            if key.contains("username") { Refused::UsernameTaken } else { Refused::EmailTaken }.into()
        }
        _ => error.into(),
    }
}
