//! The life of an account: each verb is a transaction, and what it does stands in the file of its subject.

use async_trait::async_trait;

use super::{Database, Tx, sessions::is_live_session_of};
use crate::{
    domain::{
        audit::{Act, Actor, AuditEvent, Origin},
        email::Email,
        id::{SessionId, UserId},
        mailed_code::CodeHash,
        user::{User, UserState, Username},
        users::UserChange,
    },
    store::{
        Refused, StoreError,
        port::{
            Change, CreateUser, EmailOutcome, EmailProof, Erased, MailedCode, Mailing, NewEmailChange, NewMessage,
            NewPhoneChange, NewRegistration, NewUser, PasswordReset, PeopleStore, PhoneOutcome, PhoneProof,
            WaitingRegistration,
        },
    },
};

#[async_trait]
impl PeopleStore for Database {
    async fn register_user(
        &self,
        new: NewUser,
        mailing: Option<Mailing>,
        event: AuditEvent,
    ) -> Result<CreateUser, StoreError> {
        self.transaction("register_user", (new, mailing, event), |tx, (new, mailing, event)| {
            Box::pin(tx.register_user(new, mailing.as_ref(), event))
        })
        .await
    }

    async fn await_verification(&self, registration: NewRegistration) -> Result<CreateUser, StoreError> {
        self.transaction("await_verification", registration, |tx, registration| {
            Box::pin(tx.await_verification(registration))
        })
        .await
    }

    async fn is_username_taken(&self, name: Username) -> Result<bool, StoreError> {
        self.username_taken(name).await
    }

    async fn find_registration(&self, email: Email) -> Result<Option<WaitingRegistration>, StoreError> {
        self.waiting_registration(email).await
    }

    async fn send_code(&self, mailing: Mailing, event: AuditEvent) -> Result<(), StoreError> {
        self.transaction("send_code", (mailing, event), |tx, (mailing, event)| Box::pin(tx.send_code(mailing, event)))
            .await
    }

    async fn find_code(&self, code: CodeHash) -> Result<Option<MailedCode>, StoreError> {
        self.mailed_code(code).await
    }

    async fn verify_email(&self, proof: EmailProof) -> Result<EmailOutcome, StoreError> {
        self.transaction("verify_email", proof, |tx, proof| Box::pin(tx.verify_email(proof))).await
    }

    async fn reset_password(&self, reset: PasswordReset) -> Result<bool, StoreError> {
        self.transaction("reset_password", reset, |tx, reset| Box::pin(tx.reset_password(reset))).await
    }

    async fn begin_email_change(&self, change: NewEmailChange) -> Result<Change, StoreError> {
        self.transaction("begin_email_change", change, |tx, change| Box::pin(tx.begin_email_change(change))).await
    }

    async fn update_account(
        &self,
        user: UserId,
        session: SessionId,
        expected: Option<i64>,
        change: UserChange,
        origin: Origin,
    ) -> Result<User, StoreError> {
        let input = (user, session, expected, change, origin);
        self.transaction("update_account", input, |tx, (user, session, expected, change, origin)| {
            Box::pin(tx.update_account(*user, *session, *expected, change, origin))
        })
        .await
    }

    async fn delete_account(
        &self,
        user: UserId,
        session: SessionId,
        farewell: Option<NewMessage>,
        origin: Origin,
    ) -> Result<Erased, StoreError> {
        let input = (user, session, farewell, origin);
        self.transaction("delete_account", input, |tx, (user, session, farewell, origin)| {
            Box::pin(tx.delete_account(*user, *session, farewell.as_ref(), origin))
        })
        .await
    }

    async fn begin_phone_change(&self, change: NewPhoneChange) -> Result<Change, StoreError> {
        self.transaction("begin_phone_change", change, |tx, change| Box::pin(tx.begin_phone_change(change))).await
    }

    async fn verify_phone(&self, proof: PhoneProof) -> Result<PhoneOutcome, StoreError> {
        self.transaction("verify_phone", proof, |tx, proof| Box::pin(tx.verify_phone(proof))).await
    }

    async fn remove_phone(
        &self,
        user: UserId,
        session: SessionId,
        news: Option<NewMessage>,
        origin: Origin,
    ) -> Result<(), StoreError> {
        let input = (user, session, news, origin);
        self.transaction("remove_phone", input, |tx, (user, session, news, origin)| {
            Box::pin(tx.remove_phone(*user, *session, news.as_ref(), origin))
        })
        .await
    }

    async fn purge_people(&self) -> Result<u64, StoreError> {
        let mut purged = 0;
        loop {
            match self.transaction("purge_people", (), |tx, ()| Box::pin(tx.purge_people_batch())).await? {
                0 => return Ok(purged),
                batch => purged += batch,
            }
        }
    }
}

impl Tx {
    /// The user with this id, locked; `None` if there is none that is active.
    pub(super) async fn hold_active_user(&mut self, id: UserId) -> Result<Option<User>, StoreError> {
        // Locked first and read by a second statement: one that waits for the lock would see what lies beside the row as it
        // was before.
        let locked: Option<(UserId,)> =
            sqlx::query_as(concat!("SELECT u.id FROM users u WHERE u.id = $1", for_update!()))
                .bind(id)
                .fetch_optional(self.conn())
                .await?;
        if locked.is_none() {
            return Ok(None);
        }
        Ok(Some(self.user(id).await?).filter(|user| user.state == UserState::Active))
    }

    /// The same for one who acts on the own account in a session, which may have been ended since the access token was looked at.
    ///
    /// # Errors
    /// `NoUser`, `NoSession`.
    pub(super) async fn hold_caller(&mut self, id: UserId, session: SessionId) -> Result<User, StoreError> {
        let Some(user) = self.hold_active_user(id).await? else { return Err(Refused::NoUser.into()) };
        // All ends of sessions come by the user's row.
        if !is_live_session_of(self, session, id).await? {
            return Err(Refused::NoSession.into());
        }
        Ok(user)
    }

    /// The same, if the account has not changed since it was read in what sessions and codes depend on. Otherwise the whole
    /// transaction is abandoned.
    pub(super) async fn hold_unchanged(&mut self, read: &User, session: SessionId) -> Result<bool, StoreError> {
        let user = self.hold_caller(read.id, session).await?;
        let unchanged = user.epoch == read.epoch && user.email == read.email;
        if !unchanged {
            self.abandon();
        }
        Ok(unchanged)
    }

    /// Records what somebody did with the own account.
    pub(super) async fn audit_own(&mut self, user: UserId, act: Act, origin: &Origin) -> Result<(), StoreError> {
        let event = AuditEvent { actor: Actor::User(user), subject: Some(user.into()), act, origin: origin.clone() };
        self.audit(&event).await
    }

    /// So few at a time that nobody waits long for SQLite's write lock.
    async fn purge_people_batch(&mut self) -> Result<u64, StoreError> {
        let now = self.now();
        let mut purged = 0;
        for query in [
            "DELETE FROM registrations WHERE id IN \
             (SELECT id FROM registrations WHERE expire_time < $1 ORDER BY expire_time LIMIT 200)",
            "DELETE FROM email_changes WHERE id IN \
             (SELECT id FROM email_changes WHERE expire_time < $1 ORDER BY expire_time LIMIT 200)",
            "DELETE FROM challenges WHERE handle_hash IN \
             (SELECT handle_hash FROM challenges WHERE kind = 'phone' AND expire_time < $1 ORDER BY expire_time LIMIT 200)",
            "DELETE FROM mailed_codes WHERE code_hash IN \
             (SELECT code_hash FROM mailed_codes WHERE expire_time < $1 ORDER BY expire_time LIMIT 200)",
        ] {
            purged += sqlx::query(query).bind(now).execute(self.conn()).await?.rows_affected();
        }
        Ok(purged)
    }
}
