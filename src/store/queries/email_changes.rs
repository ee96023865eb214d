//! Addresses: verified, and changed once both the old and the new one have agreed.

use uuid::Uuid;

use super::{Tx, mailed_codes::UsedCode, user_admin::what_is_taken};
use crate::{
    domain::{
        audit::{Act, Origin},
        mailed_code::CodePurpose,
        time::Timestamp,
        user::User,
    },
    store::{
        StoreError,
        port::{Change, EmailOutcome, EmailProof, Mailing, NewEmailChange},
    },
};

#[derive(sqlx::FromRow)]
struct ChangeRow {
    epoch: i64,
    old_email_key: String,
    new_email: String,
    new_email_key: String,
    old_confirmed: bool,
    new_confirmed: bool,
    expire_time: Timestamp,
}

impl Tx {
    pub(super) async fn begin_email_change(&mut self, change: &NewEmailChange) -> Result<Change, StoreError> {
        let NewEmailChange { id, user, session, new_email, old, new, expire_time, event } = change;
        if !self.hold_unchanged(user, *session).await? {
            return Ok(Change::Conflict);
        }
        // With their codes.
        sqlx::query("DELETE FROM email_changes WHERE user_id = $1").bind(user.id).execute(self.conn()).await?;
        let now = self.now();
        sqlx::query(
            "INSERT INTO email_changes (id, user_id, epoch, old_email_key, new_email, new_email_key, old_confirmed, \
             new_confirmed, create_time, expire_time) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        )
        .bind(*id)
        .bind(user.id)
        .bind(user.epoch)
        .bind(user.email.key())
        .bind(new_email.as_typed())
        .bind(new_email.key())
        .bind(old.is_none())
        .bind(false)
        .bind(now)
        .bind(*expire_time)
        .execute(self.conn())
        .await?;
        let mailings: Vec<&Mailing> = old.iter().chain([new]).collect();
        for mailing in mailings {
            self.mail(mailing).await?;
        }
        self.audit(event).await?;
        Ok(Change::Done)
    }

    pub(super) async fn verify_email(&mut self, proof: &EmailProof) -> Result<EmailOutcome, StoreError> {
        use CodePurpose::{ChangeNew, ChangeOld, Register, Verify};
        let EmailProof { code, news: _, origin } = proof;
        let Some(found) = self.use_code(code, &[Verify, Register, ChangeOld, ChangeNew], origin).await? else {
            return Ok(EmailOutcome::Refused);
        };
        let owner = found.user.as_ref().map(|user| user.id);
        let done = match found {
            UsedCode { purpose: Register, registration: Some(id), .. } => {
                return self.complete_registration(id, origin).await;
            }
            UsedCode { purpose: Verify, user: Some(user), email_key, .. } => {
                self.verify_address(&user, &email_key, origin).await?
            }
            UsedCode { purpose: way @ (ChangeOld | ChangeNew), user: Some(user), change: Some(change), .. } => {
                self.confirm_change(&user, change, way == ChangeNew, proof).await?
            }
            // It was for nobody.
            UsedCode { .. } => None,
        };
        let Some(outcome) = done else {
            self.refuse_code(owner, origin).await?;
            return Ok(EmailOutcome::Refused);
        };
        Ok(outcome)
    }

    async fn verify_address(
        &mut self,
        user: &User,
        email_key: &str,
        origin: &Origin,
    ) -> Result<Option<EmailOutcome>, StoreError> {
        if user.email.key() != email_key || !self.mark_verified(user).await? {
            return Ok(None);
        }
        // Begun before, it asked for the consent of the new address alone. With its codes.
        sqlx::query("DELETE FROM email_changes WHERE user_id = $1").bind(user.id).execute(self.conn()).await?;
        sqlx::query("DELETE FROM mailed_codes WHERE user_id = $1 AND purpose = $2")
            .bind(user.id)
            .bind(CodePurpose::Verify.as_str())
            .execute(self.conn())
            .await?;
        self.audit_own(user.id, Act::EmailVerified, origin).await?;
        Ok(Some(EmailOutcome::Verified))
    }

    /// Notes that one of two addresses agrees, and makes the change if it was the last one.
    async fn confirm_change(
        &mut self,
        user: &User,
        id: Uuid,
        by_new: bool,
        proof: &EmailProof,
    ) -> Result<Option<EmailOutcome>, StoreError> {
        let query = concat!(
            "SELECT epoch, old_email_key, new_email, new_email_key, old_confirmed, new_confirmed, expire_time \
             FROM email_changes WHERE id = $1 AND user_id = $2",
            for_update!()
        );
        let row: Option<ChangeRow> = sqlx::query_as(query).bind(id).bind(user.id).fetch_optional(self.conn()).await?;
        let now = self.now();
        let row =
            row.filter(|row| row.expire_time > now && row.epoch == user.epoch && row.old_email_key == user.email.key());
        let Some(row) = row else { return Ok(None) };
        let (old_confirmed, new_confirmed) = (row.old_confirmed || !by_new, row.new_confirmed || by_new);
        if !old_confirmed || !new_confirmed {
            sqlx::query("UPDATE email_changes SET old_confirmed = $1, new_confirmed = $2 WHERE id = $3")
                .bind(old_confirmed)
                .bind(new_confirmed)
                .bind(id)
                .execute(self.conn())
                .await?;
            return Ok(Some(EmailOutcome::AwaitingOther));
        }
        self.change_address(user, &row, proof).await?;
        Ok(Some(EmailOutcome::Changed))
    }

    async fn change_address(&mut self, user: &User, row: &ChangeRow, proof: &EmailProof) -> Result<(), StoreError> {
        let now = self.now();
        sqlx::query(
            "UPDATE users SET email = $1, email_key = $2, email_verified_time = $3, update_time = $3, \
             revision = revision + 1 WHERE id = $4",
        )
        .bind(&row.new_email)
        .bind(&row.new_email_key)
        .bind(now)
        .bind(user.id)
        .execute(self.conn())
        .await
        .map_err(what_is_taken)?;
        self.forget_sent(user.id).await?;
        self.audit_own(user.id, Act::EmailChanged, &proof.origin).await?;
        match &proof.news {
            Some(news) => self.enqueue(news).await,
            None => Ok(()),
        }
    }
}
