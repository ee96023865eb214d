//! Accounts and their passwords.

use async_trait::async_trait;
use sqlx::types::Json;

use super::{
    Database, Db, Tx,
    passwords::password_hashes,
    rows::{CredentialsRow, UserRow, claims_column, credentials_columns, user_columns},
};
use crate::{
    domain::{
        audit::AuditEvent,
        id::{SessionId, UserId},
        locale::Locale,
        phone::PhoneNumber,
        revocation::Revocation,
        user::{Credentials, Identifier, PhcString, User, Username},
    },
    store::{
        StoreError,
        port::{Change, CreateUser, NewUser, PasswordChange, UserStore},
    },
};

#[async_trait]
impl UserStore for Database {
    async fn create_user(&self, new: NewUser, events: Vec<AuditEvent>) -> Result<CreateUser, StoreError> {
        self.transaction("create_user", (new, events), |tx, (new, events)| {
            Box::pin(async move {
                if !insert_user(tx, new).await? {
                    return which_is_taken(tx, &new.user).await;
                }
                for role in &new.user.roles {
                    sqlx::query("INSERT INTO user_roles (user_id, role, assign_time) VALUES ($1, $2, $3)")
                        .bind(new.user.id)
                        .bind(role)
                        .bind(new.user.create_time)
                        .execute(tx.conn())
                        .await?;
                }
                tx.create_data_key(*new.user.id.as_uuid()).await?;
                for event in events {
                    tx.audit(event).await?;
                }
                Ok(CreateUser::Created)
            })
        })
        .await
    }

    async fn get_user(&self, id: UserId) -> Result<Option<User>, StoreError> {
        self.reading("get_user", &self.pools.read, id, |conn, id| {
            Box::pin(async move {
                sqlx::query_as::<Db, UserRow>(concat!("SELECT ", user_columns!(), " FROM users u WHERE u.id = $1"))
                    .bind(*id)
                    .fetch_optional(conn)
                    .await?
                    .map(User::try_from)
                    .transpose()
            })
        })
        .await
    }

    async fn find_credentials(&self, identifier: Identifier) -> Result<Option<Credentials>, StoreError> {
        self.reading("find_credentials", &self.pools.read, identifier, |conn, identifier| {
            Box::pin(async move {
                let query = match identifier {
                    Identifier::Email(email) => sqlx::query_as(concat!(
                        "SELECT ",
                        credentials_columns!(),
                        " FROM users u WHERE u.email_key = $1"
                    ))
                    .bind(email.key()),
                    Identifier::Username(name) => sqlx::query_as(concat!(
                        "SELECT ",
                        credentials_columns!(),
                        " FROM users u WHERE u.username = $1"
                    ))
                    .bind(name.as_str()),
                };
                credentials(query.fetch_optional(conn).await?)
            })
        })
        .await
    }

    async fn get_credentials(&self, id: UserId) -> Result<Option<Credentials>, StoreError> {
        self.reading("get_credentials", &self.pools.read, id, |conn, id| {
            Box::pin(async move {
                let query = sqlx::query_as(concat!("SELECT ", credentials_columns!(), " FROM users u WHERE u.id = $1"))
                    .bind(*id);
                credentials(query.fetch_optional(conn).await?)
            })
        })
        .await
    }

    async fn password_hashes(&self, user: UserId, history: u32) -> Result<Vec<PhcString>, StoreError> {
        self.reading("password_hashes", &self.pools.read, (user, history), |conn, (user, history)| {
            Box::pin(password_hashes(conn, *user, *history))
        })
        .await
    }

    async fn change_password(&self, change: PasswordChange) -> Result<Change, StoreError> {
        self.transaction("change_password", change, |tx, change| Box::pin(tx.change_password(change))).await
    }

    async fn rehash_password(
        &self,
        user: UserId,
        old: PhcString,
        new: PhcString,
        event: AuditEvent,
    ) -> Result<Change, StoreError> {
        self.transaction("rehash_password", (user, old, new, event), |tx, (user, old, new, event)| {
            Box::pin(async move {
                let changed = sqlx::query("UPDATE users SET password_hash = $1 WHERE id = $2 AND password_hash = $3")
                    .bind(new.expose())
                    .bind(*user)
                    .bind(old.expose())
                    .execute(tx.conn())
                    .await?;
                if changed.rows_affected() == 0 {
                    return Ok(Change::Conflict);
                }
                tx.audit(event).await?;
                Ok(Change::Done)
            })
        })
        .await
    }
}

impl Tx {
    async fn change_password(&mut self, change: &PasswordChange) -> Result<Change, StoreError> {
        let PasswordChange { user, epoch, hash, spared, event, news } = change;
        let checked: Option<(UserId,)> = sqlx::query_as(concat!(
            "SELECT u.id FROM users u WHERE u.id = $1 AND u.epoch = $2 AND u.state = 'active'",
            for_update!()
        ))
        .bind(*user)
        .bind(*epoch)
        .fetch_optional(self.conn())
        .await?;
        if checked.is_none() {
            return Ok(Change::Conflict);
        }
        self.replace_password(*user, hash).await?;
        self.forget_devices(*user, Some(*spared)).await?;
        if !self.raise_epoch(*user, Some(*spared)).await? {
            return Ok(Change::Conflict);
        }
        if let Some(news) = news {
            self.enqueue(news).await?;
        }
        self.audit(event).await?;
        Ok(Change::Done)
    }

    /// Raises the user's epoch: every session and token with a smaller one is dead, except those of `spared`, whose row
    /// moves along. `false`: the user or the spared session is not alive, and the whole transaction is abandoned.
    pub(super) async fn raise_epoch(&mut self, user: UserId, spared: Option<SessionId>) -> Result<bool, StoreError> {
        let Some(epoch) = self.move_epoch(user, spared).await? else { return Ok(false) };
        self.revoke(Revocation::User { user, epoch, spared });
        Ok(true)
    }

    /// The same, but the access tokens of the session that goes on are refused too: it is to get others, which say more.
    pub(super) async fn raise_epoch_and_refuse_all(
        &mut self,
        user: UserId,
        goes_on: SessionId,
    ) -> Result<bool, StoreError> {
        let Some(epoch) = self.move_epoch(user, Some(goes_on)).await? else { return Ok(false) };
        self.revoke(Revocation::User { user, epoch, spared: None });
        Ok(true)
    }

    /// The new epoch, in the rows of the user and of the spared session.
    async fn move_epoch(&mut self, user: UserId, spared: Option<SessionId>) -> Result<Option<i64>, StoreError> {
        let raised: Option<(i64,)> = sqlx::query_as("UPDATE users SET epoch = epoch + 1 WHERE id = $1 RETURNING epoch")
            .bind(user)
            .fetch_optional(self.conn())
            .await?;
        let Some((epoch,)) = raised else {
            self.abandon();
            return Ok(None);
        };
        if let Some(session) = spared {
            let moved = sqlx::query(
                "UPDATE sessions SET epoch = $1 WHERE id = $2 AND user_id = $3 AND epoch = $1 - 1 AND end_time IS NULL",
            )
            .bind(epoch)
            .bind(session)
            .bind(user)
            .execute(self.conn())
            .await?;
            if moved.rows_affected() == 0 {
                self.abandon();
                return Ok(None);
            }
        }
        Ok(Some(epoch))
    }
}

impl Tx {
    /// Raises the user's epoch and takes the live sessions along: they go on, while every access token from before is refused.
    /// For a change of what tokens say. The user must exist.
    pub(super) async fn refuse_tokens(&mut self, user: UserId) -> Result<(), StoreError> {
        let (epoch,): (i64,) = sqlx::query_as("UPDATE users SET epoch = epoch + 1 WHERE id = $1 RETURNING epoch")
            .bind(user)
            .fetch_one(self.conn())
            .await?;
        self.lock_sessions_of(user).await?;
        sqlx::query("UPDATE sessions SET epoch = $2 WHERE user_id = $1 AND epoch = $2 - 1 AND end_time IS NULL")
            .bind(user)
            .bind(epoch)
            .execute(self.conn())
            .await?;
        self.revoke(Revocation::User { user, epoch, spared: None });
        Ok(())
    }

    /// Locks the user's sessions, in the order in which the write-behind locks them.
    pub(super) async fn lock_sessions_of(&mut self, user: UserId) -> Result<(), StoreError> {
        sqlx::query(concat!(
            "SELECT id FROM sessions WHERE user_id = $1 AND end_time IS NULL ORDER BY id",
            for_update!()
        ))
        .bind(user)
        .execute(self.conn())
        .await?;
        Ok(())
    }
}

fn credentials(row: Option<CredentialsRow>) -> Result<Option<Credentials>, StoreError> {
    row.map(Credentials::try_from).transpose()
}

/// Whether the row went in; not if a unique key is taken.
pub(super) async fn insert_user(tx: &mut Tx, new: &NewUser) -> Result<bool, StoreError> {
    let NewUser { user, password_hash } = new;
    let inserted = sqlx::query(
        "INSERT INTO users (id, email, email_key, email_verified_time, username, display_name, password_hash, \
         password_time, state, epoch, attributes, create_time, update_time, phone_number, locale, custom_claims) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $8, $8, $12, $13, $14) ON CONFLICT DO NOTHING",
    )
    .bind(user.id)
    .bind(user.email.as_typed())
    .bind(user.email.key())
    .bind(user.email_verified_time)
    .bind(user.username.as_ref().map(Username::as_str))
    .bind(user.display_name.as_str())
    .bind(password_hash.as_ref().map(PhcString::expose))
    .bind(user.create_time)
    .bind(user.state.as_str())
    .bind(user.epoch)
    .bind((!user.attributes.is_empty()).then_some(Json(&user.attributes)))
    .bind(user.phone_number.as_ref().map(PhoneNumber::as_str))
    .bind(user.locale.as_ref().map(Locale::as_str))
    .bind(claims_column(&user.custom_claims))
    .execute(tx.conn())
    .await?;
    Ok(inserted.rows_affected() == 1)
}

/// Which unique key was in the way.
pub(super) async fn which_is_taken(tx: &mut Tx, user: &User) -> Result<CreateUser, StoreError> {
    let email: Option<(UserId,)> = sqlx::query_as("SELECT id FROM users WHERE email_key = $1")
        .bind(user.email.key())
        .fetch_optional(tx.conn())
        .await?;
    if email.is_some() {
        return Ok(CreateUser::EmailTaken);
    }
    let name: Option<(UserId,)> = sqlx::query_as("SELECT id FROM users WHERE username = $1")
        .bind(user.username.as_ref().map(Username::as_str))
        .fetch_optional(tx.conn())
        .await?;
    match name {
        Some(_) => Ok(CreateUser::UsernameTaken),
        None => Err(StoreError::Unavailable("the account that was in the way is gone, try again".into())),
    }
}
