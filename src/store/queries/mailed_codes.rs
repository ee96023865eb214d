//! Codes in mails: kept as keyed hashes, good once.

use uuid::Uuid;

use super::{
    Database, Db, Tx,
    rows::{UserRow, user_columns},
};
use crate::{
    domain::{
        audit::{Act, Actor, AuditEvent, Origin},
        id::UserId,
        mailed_code::{CodeHash, CodePurpose},
        time::Timestamp,
        user::User,
    },
    store::{
        StoreError,
        port::{MailedCode, Mailing, NewMailedCode, PasswordReset},
    },
};

/// How many codes for the same account and purpose are good at once: whoever asks again need not wait for the newest mail.
const OUTSTANDING: i64 = 3;

#[derive(sqlx::FromRow)]
struct CodeRow {
    purpose: String,
    user_id: Option<UserId>,
    registration_id: Option<UserId>,
    change_id: Option<Uuid>,
    epoch: i64,
    email_key: String,
    expire_time: Timestamp,
}

/// A code that has been used, and was good as far as it can be said without what it does.
pub(super) struct UsedCode {
    pub(super) purpose: CodePurpose,
    /// Whom it is for, locked: active, and of the epoch that the code is bound to.
    pub(super) user: Option<User>,
    pub(super) registration: Option<UserId>,
    pub(super) change: Option<Uuid>,
    pub(super) email_key: String,
}

macro_rules! select_code {
    () => {
        "SELECT purpose, user_id, registration_id, change_id, epoch, email_key, expire_time FROM mailed_codes \
         WHERE code_hash = $1"
    };
}

fn purpose(word: &str) -> Result<CodePurpose, StoreError> {
    CodePurpose::parse(word).ok_or_else(|| StoreError::corrupt("mailed_codes", "purpose", "unknown word"))
}

impl Database {
    /// Looks at a code without using it.
    pub(super) async fn mailed_code(&self, code: CodeHash) -> Result<Option<MailedCode>, StoreError> {
        self.reading("find_code", &self.pools.read, code, |conn, code| {
            Box::pin(async move {
                let row: Option<CodeRow> =
                    sqlx::query_as(select_code!()).bind(code.as_slice()).fetch_optional(&mut *conn).await?;
                let Some(row) = row else { return Ok(None) };
                let user: Option<UserRow> =
                    sqlx::query_as::<Db, _>(concat!("SELECT ", user_columns!(), " FROM users u WHERE u.id = $1"))
                        .bind(row.user_id)
                        .fetch_optional(conn)
                        .await?;
                Ok(Some(MailedCode {
                    purpose: purpose(&row.purpose)?,
                    user: user.map(User::try_from).transpose()?,
                    epoch: row.epoch,
                    email_key: row.email_key,
                    expire_time: row.expire_time,
                }))
            })
        })
        .await
    }
}

impl Tx {
    /// Keeps a code and queues the message that brings it.
    pub(super) async fn mail(&mut self, mailing: &Mailing) -> Result<(), StoreError> {
        let NewMailedCode { hash, purpose, user, registration, change, epoch, email_key, expire_time } = &mailing.code;
        let now = self.now();
        sqlx::query(
            "INSERT INTO mailed_codes (code_hash, purpose, user_id, registration_id, change_id, epoch, email_key, \
             create_time, expire_time) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        )
        .bind(hash.as_slice())
        .bind(purpose.as_str())
        .bind(*user)
        .bind(*registration)
        .bind(*change)
        .bind(*epoch)
        .bind(email_key)
        .bind(now)
        .bind(*expire_time)
        .execute(self.conn())
        .await?;
        self.enqueue(&mailing.message).await
    }

    /// Mails a code for an account or a registration, or for nobody: by the same statements. Whoever is gone by now gets none, and nothing
    /// is kept of an address that was to be forgotten.
    pub(super) async fn send_code(&mut self, mailing: &Mailing, event: &AuditEvent) -> Result<(), StoreError> {
        let NewMailedCode { purpose, user, registration, .. } = &mailing.code;
        let [user, registration] = [user, registration].map(|id| id.unwrap_or(UserId::from_uuid(Uuid::nil())));
        let registration: Option<(UserId,)> =
            sqlx::query_as(concat!("SELECT id FROM registrations WHERE id = $1", for_update!()))
                .bind(registration)
                .fetch_optional(self.conn())
                .await?;
        let user: Option<(UserId,)> = sqlx::query_as(concat!("SELECT id FROM users WHERE id = $1", for_update!()))
            .bind(user)
            .fetch_optional(self.conn())
            .await?;
        let (user, registration) = (user.map(|(id,)| id), registration.map(|(id,)| id));
        if user.or(registration).is_none() && mailing.code.user.or(mailing.code.registration).is_some() {
            return self.audit(event).await;
        }
        // The oldest make room for the new one.
        sqlx::query(
            "DELETE FROM mailed_codes WHERE purpose = $1 AND (user_id = $2 OR registration_id = $3) AND code_hash NOT IN \
             (SELECT code_hash FROM mailed_codes WHERE purpose = $1 AND (user_id = $2 OR registration_id = $3) \
             ORDER BY create_time DESC LIMIT $4)",
        )
        .bind(purpose.as_str())
        .bind(user)
        .bind(registration)
        .bind(OUTSTANDING - 1)
        .execute(self.conn())
        .await?;
        let code = NewMailedCode { user, registration, ..mailing.code.clone() };
        self.mail(&Mailing { code, message: mailing.message.clone() }).await?;
        self.audit(event).await
    }

    /// Uses a code for one of these purposes. `None`: there is none, or it is not good (any more). The rows that its effect is
    /// decided on are locked before it is deleted, so of parallel uses one finds it, after which there is no other.
    pub(super) async fn use_code(
        &mut self,
        hash: &CodeHash,
        purposes: &[CodePurpose],
        origin: &Origin,
    ) -> Result<Option<UsedCode>, StoreError> {
        let row: Option<CodeRow> =
            sqlx::query_as(select_code!()).bind(hash.as_slice()).fetch_optional(self.conn()).await?;
        let (used, owner) = match row {
            Some(row) => (self.use_row(hash, row.purpose.as_str(), &row, purposes).await?, row.user_id),
            None => (None, None),
        };
        if used.is_none() {
            self.refuse_code(owner, origin).await?;
        }
        Ok(used)
    }

    async fn use_row(
        &mut self,
        hash: &CodeHash,
        word: &str,
        row: &CodeRow,
        purposes: &[CodePurpose],
    ) -> Result<Option<UsedCode>, StoreError> {
        let purpose = purpose(word)?;
        if !purposes.contains(&purpose) {
            return Ok(None);
        }
        if purpose == CodePurpose::Register {
            // All for the address: the others are dropped with it.
            sqlx::query(concat!("SELECT id FROM registrations WHERE email_key = $1 ORDER BY id", for_update!()))
                .bind(&row.email_key)
                .execute(self.conn())
                .await?;
        }
        let user = match row.user_id {
            Some(id) => self.hold_active_user(id).await?,
            None => None,
        };
        let taken =
            sqlx::query("DELETE FROM mailed_codes WHERE code_hash = $1").bind(hash.as_slice()).execute(self.conn());
        let taken = taken.await?.rows_affected() == 1;
        let bound = row.user_id.is_none() || user.as_ref().is_some_and(|user| user.epoch == row.epoch);
        if !taken || !bound || row.expire_time <= self.now() {
            return Ok(None);
        }
        let (registration, change, email_key) = (row.registration_id, row.change_id, row.email_key.clone());
        Ok(Some(UsedCode { purpose, user, registration, change, email_key }))
    }

    /// Records that a code was not good.
    pub(super) async fn refuse_code(&mut self, owner: Option<UserId>, origin: &Origin) -> Result<(), StoreError> {
        let event = AuditEvent {
            actor: Actor::Anonymous,
            subject: owner.map(Into::into),
            act: Act::CodeRefused,
            origin: origin.clone(),
        };
        self.audit(&event).await
    }

    /// Nothing that was sent to this user so far is good any more.
    pub(super) async fn forget_sent(&mut self, user: UserId) -> Result<(), StoreError> {
        for query in [
            "DELETE FROM email_changes WHERE user_id = $1",
            // What is sent to the phone is not concerned; it is bound to the epoch as well.
            "DELETE FROM challenges WHERE user_id = $1 AND kind <> 'phone'",
            "DELETE FROM mailed_codes WHERE user_id = $1",
        ] {
            sqlx::query(query).bind(user).execute(self.conn()).await?;
        }
        Ok(())
    }

    /// Sets a new password with a code. Whether it was good.
    pub(super) async fn reset_password(&mut self, reset: &PasswordReset) -> Result<bool, StoreError> {
        let PasswordReset { code, password, forgiven, news, origin } = reset;
        let Some(found) = self.use_code(code, &[CodePurpose::Reset], origin).await? else { return Ok(false) };
        let owner = found.user.as_ref().map(|user| user.id);
        let Some(user) = found.user.filter(|user| user.email.key() == found.email_key) else {
            self.refuse_code(owner, origin).await?;
            return Ok(false);
        };
        self.replace_password(user.id, password).await?;
        let verified = self.mark_verified(&user).await?;
        self.forget_sent(user.id).await?;
        sqlx::query("DELETE FROM known_devices WHERE user_id = $1").bind(user.id).execute(self.conn()).await?;
        self.raise_epoch(user.id, None).await?;
        self.forget_failures(forgiven).await?;
        if verified {
            self.audit_own(user.id, Act::EmailVerified, origin).await?;
            // Whoever made the account may have been somebody else, and left a phone of theirs that codes would go to.
            let removed =
                sqlx::query("UPDATE users SET phone_number = NULL WHERE id = $1 AND phone_number IS NOT NULL")
                    .bind(user.id)
                    .execute(self.conn())
                    .await?;
            if removed.rows_affected() > 0 {
                self.audit_own(user.id, Act::PhoneNumberChanged, origin).await?;
            }
        }
        self.audit_own(user.id, Act::PasswordReset, origin).await?;
        if let Some(news) = news {
            self.enqueue(news).await?;
        }
        Ok(true)
    }

    /// Takes the address of a user, whose row is locked, as verified. Whether it was not before.
    pub(super) async fn mark_verified(&mut self, user: &User) -> Result<bool, StoreError> {
        let now = self.now();
        let marked = sqlx::query(
            "UPDATE users SET email_verified_time = $1, update_time = $1, revision = revision + 1 \
             WHERE id = $2 AND email_verified_time IS NULL",
        )
        .bind(now)
        .bind(user.id)
        .execute(self.conn())
        .await?;
        Ok(marked.rows_affected() == 1)
    }
}
