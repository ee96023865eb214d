//! Registrations: those that are accounts at once, and those that wait for their address to be verified.

use super::{
    Database, Db, Tx,
    users::{insert_user, which_is_taken},
};
use crate::{
    domain::{
        audit::{Act, Actor, AuditEvent, Origin},
        custom_claims::CustomClaims,
        email::Email,
        id::UserId,
        locale::Locale,
        time::Timestamp,
        user::{Attributes, Label, PhcString, User, UserState, Username},
    },
    store::{
        StoreError,
        port::{CreateUser, EmailOutcome, Mailing, NewRegistration, NewUser, WaitingRegistration},
    },
};

#[derive(sqlx::FromRow)]
struct RegistrationRow {
    id: UserId,
    email: String,
    email_key: String,
    username: Option<String>,
    display_name: String,
    locale: Option<String>,
    password_hash: Option<String>,
    expire_time: Timestamp,
}

/// The columns of a registration, read by name.
macro_rules! select_registration {
    () => {
        "SELECT id, email, email_key, username, display_name, locale, password_hash, expire_time FROM registrations "
    };
}

impl RegistrationRow {
    /// The account that it becomes now that its address is verified.
    fn into_new_user(self, now: Timestamp) -> NewUser {
        let user = User {
            id: self.id,
            email: Email::stored(self.email, self.email_key),
            email_verified_time: Some(now),
            username: self.username.map(Username::stored),
            display_name: Label::stored(self.display_name),
            phone_number: None,
            locale: self.locale.map(Locale::stored),
            has_password: self.password_hash.is_some(),
            totp_enrolled: false,
            state: UserState::Active,
            epoch: 1,
            roles: Vec::new(),
            attributes: Attributes::default(),
            custom_claims: CustomClaims::default(),
            revision: 1,
            create_time: now,
            update_time: now,
        };
        NewUser { user, password_hash: self.password_hash.map(PhcString::new) }
    }
}

impl Database {
    /// Whether somebody has this user name, or has it reserved.
    pub(super) async fn username_taken(&self, name: Username) -> Result<bool, StoreError> {
        let now = self.around.clock.now();
        self.reading("is_username_taken", &self.pools.read, (name, now), |conn, (name, now)| {
            Box::pin(async move {
                let (taken,): (bool,) = sqlx::query_as(
                    "SELECT EXISTS (SELECT 1 FROM users WHERE username = $1) \
                     OR EXISTS (SELECT 1 FROM registrations WHERE username = $1 AND expire_time > $2)",
                )
                .bind(name.as_str())
                .bind(*now)
                .fetch_one(conn)
                .await?;
                Ok(taken)
            })
        })
        .await
    }

    /// The newest registration that waits for an address.
    pub(super) async fn waiting_registration(&self, email: Email) -> Result<Option<WaitingRegistration>, StoreError> {
        let now = self.around.clock.now();
        self.reading("find_registration", &self.pools.read, (email, now), |conn, (email, now)| {
            Box::pin(async move {
                let row: Option<RegistrationRow> = sqlx::query_as::<Db, _>(concat!(
                    select_registration!(),
                    "WHERE email_key = $1 AND expire_time > $2 ORDER BY create_time DESC, id DESC LIMIT 1"
                ))
                .bind(email.key())
                .bind(*now)
                .fetch_optional(conn)
                .await?;
                Ok(row.map(|row| WaitingRegistration {
                    id: row.id,
                    email: Email::stored(row.email, row.email_key),
                    locale: row.locale.map(Locale::stored),
                }))
            })
        })
        .await
    }
}

impl Tx {
    pub(super) async fn register_user(
        &mut self,
        new: &NewUser,
        mailing: Option<&Mailing>,
        event: &AuditEvent,
    ) -> Result<CreateUser, StoreError> {
        if !insert_user(self, new).await? {
            return which_is_taken(self, &new.user).await;
        }
        if self.is_reserved(new.user.username.as_ref()).await? {
            self.abandon();
            return Ok(CreateUser::UsernameTaken);
        }
        if let Some(mailing) = mailing {
            self.mail(mailing).await?;
        }
        self.create_data_key(*new.user.id.as_uuid()).await?;
        self.audit(event).await?;
        Ok(CreateUser::Created)
    }

    /// Whether a registration that waits has this user name.
    pub(super) async fn is_reserved(&mut self, name: Option<&Username>) -> Result<bool, StoreError> {
        let Some(name) = name else { return Ok(false) };
        let now = self.now();
        let found: Option<(UserId,)> =
            sqlx::query_as("SELECT id FROM registrations WHERE username = $1 AND expire_time > $2")
                .bind(name.as_str())
                .bind(now)
                .fetch_optional(self.conn())
                .await?;
        Ok(found.is_some())
    }

    /// The same statements whether or not the address has an account.
    pub(super) async fn await_verification(&mut self, wanted: &NewRegistration) -> Result<CreateUser, StoreError> {
        let NewRegistration { new: NewUser { user, password_hash }, expire_time, mailing, event } = wanted;
        let (now, name) = (self.now(), user.username.as_ref().map(Username::as_str));
        // A name is reserved until then, also if nobody has cleaned up yet.
        sqlx::query("DELETE FROM registrations WHERE username = $1 AND expire_time <= $2")
            .bind(name)
            .bind(now)
            .execute(self.conn())
            .await?;
        let inserted = sqlx::query(
            "INSERT INTO registrations (id, email, email_key, username, display_name, locale, password_hash, create_time, \
             expire_time) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING",
        )
        .bind(user.id)
        .bind(user.email.as_typed())
        .bind(user.email.key())
        .bind(name)
        .bind(user.display_name.as_str())
        .bind(user.locale.as_ref().map(Locale::as_str))
        .bind(password_hash.as_ref().map(PhcString::expose))
        .bind(now)
        .bind(*expire_time)
        .execute(self.conn())
        .await?;
        let other: Option<(UserId,)> =
            sqlx::query_as("SELECT id FROM users WHERE username = $1").bind(name).fetch_optional(self.conn()).await?;
        if inserted.rows_affected() == 0 || other.is_some() {
            self.abandon();
            return Ok(CreateUser::UsernameTaken);
        }
        self.forget_doubtful_passwords(&user.email).await?;
        self.mail(mailing).await?;
        self.audit(event).await?;
        Ok(CreateUser::Created)
    }

    /// Where more than one registration waits for an address, nobody can tell which of them is its owner's: whoever reads the mail may
    /// confirm the code of either. So none of them brings a password. When they are made, so that it stays so if one of them expires; and
    /// when one is confirmed, with all rows locked, because two that are made at once do not see each other.
    async fn forget_doubtful_passwords(&mut self, email: &Email) -> Result<(), StoreError> {
        let now = self.now();
        sqlx::query(
            "UPDATE registrations SET password_hash = NULL WHERE email_key = $1 AND password_hash IS NOT NULL \
             AND (SELECT COUNT(*) FROM registrations r WHERE r.email_key = $1 AND r.expire_time > $2) > 1",
        )
        .bind(email.key())
        .bind(now)
        .execute(self.conn())
        .await?;
        Ok(())
    }

    /// Makes a registration an account, without a password if it was not the only one. The rows of all registrations for its address
    /// are locked. Whatever comes of it, they end: their address is an account's.
    pub(super) async fn complete_registration(
        &mut self,
        id: UserId,
        origin: &Origin,
    ) -> Result<EmailOutcome, StoreError> {
        let read = concat!(select_registration!(), "WHERE id = $1");
        let row: Option<RegistrationRow> = sqlx::query_as::<Db, _>(read).bind(id).fetch_optional(self.conn()).await?;
        if let Some(row) = &row {
            let email = Email::stored(row.email.clone(), row.email_key.clone());
            self.forget_doubtful_passwords(&email).await?;
        }
        let row: Option<RegistrationRow> = sqlx::query_as::<Db, _>(read).bind(id).fetch_optional(self.conn()).await?;
        let now = self.now();
        let Some(row) = row.filter(|row| row.expire_time > now) else {
            self.refuse_code(None, origin).await?;
            return Ok(EmailOutcome::Refused);
        };
        let new = row.into_new_user(now);
        if !insert_user(self, &new).await? {
            return match which_is_taken(self, &new.user).await? {
                CreateUser::UsernameTaken => {
                    // The others for the address may have better names.
                    sqlx::query("DELETE FROM registrations WHERE id = $1").bind(id).execute(self.conn()).await?;
                    Ok(EmailOutcome::UsernameTaken)
                }
                CreateUser::EmailTaken | CreateUser::Created => {
                    self.drop_registrations(&new.user.email).await?;
                    Ok(EmailOutcome::EmailTaken)
                }
            };
        }
        self.drop_registrations(&new.user.email).await?;
        self.create_data_key(*id.as_uuid()).await?;
        for act in [Act::Registered, Act::EmailVerified] {
            let event = AuditEvent { actor: Actor::Anonymous, subject: Some(id.into()), act, origin: origin.clone() };
            self.audit(&event).await?;
        }
        Ok(EmailOutcome::Registered)
    }

    async fn drop_registrations(&mut self, email: &Email) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM registrations WHERE email_key = $1").bind(email.key()).execute(self.conn()).await?;
        Ok(())
    }
}
