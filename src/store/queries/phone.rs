//! Phone numbers: changed with a short code, so guesses at it are counted in the row that they are made at.

use serde::{Deserialize, Serialize};
use sqlx::types::Json;
use subtle::ConstantTimeEq as _;

use super::Tx;
use crate::{
    domain::{
        audit::{Act, Origin},
        challenge::MAX_FAILURES,
        id::{SessionId, UserId},
        phone::PhoneNumber,
        time::Timestamp,
        user::User,
    },
    store::{
        StoreError,
        port::{Change, NewMessage, NewPhoneChange, PhoneOutcome, PhoneProof},
    },
};

/// The kind of its challenges.
const KIND: &str = "phone";

/// What goes on when the code comes back.
#[derive(Serialize, Deserialize)]
struct Pending {
    phone_number: String,
}

#[derive(sqlx::FromRow)]
struct PhoneRow {
    epoch: i64,
    code_hash: Option<Vec<u8>>,
    pending: Json<Pending>,
    failures: i64,
    expire_time: Timestamp,
}

impl Tx {
    pub(super) async fn begin_phone_change(&mut self, change: &NewPhoneChange) -> Result<Change, StoreError> {
        let NewPhoneChange { handle, user, session, number, code, message, expire_time, origin } = change;
        if !self.hold_unchanged(user, *session).await? {
            return Ok(Change::Conflict);
        }
        self.forget_phone_changes(user.id).await?;
        let now = self.now();
        sqlx::query(
            "INSERT INTO challenges (handle_hash, kind, user_id, epoch, code_hash, pending, failures, create_time, \
             expire_time) VALUES ($1, $2, $3, $4, $5, $6, 0, $7, $8)",
        )
        .bind(handle.as_slice())
        .bind(KIND)
        .bind(user.id)
        .bind(user.epoch)
        .bind(code.as_slice())
        .bind(Json(Pending { phone_number: number.as_str().to_owned() }))
        .bind(now)
        .bind(*expire_time)
        .execute(self.conn())
        .await?;
        self.enqueue(message).await?;
        self.audit_own(user.id, Act::PhoneNumberChangeRequested, origin).await?;
        Ok(Change::Done)
    }

    pub(super) async fn verify_phone(&mut self, proof: &PhoneProof) -> Result<PhoneOutcome, StoreError> {
        let PhoneProof { handle, user, session, code, news, origin } = proof;
        let user = self.hold_caller(*user, *session).await?;
        let query = concat!(
            "SELECT epoch, code_hash, pending, failures, expire_time FROM challenges \
             WHERE handle_hash = $1 AND kind = $2 AND user_id = $3",
            for_update!()
        );
        let row: Option<PhoneRow> =
            sqlx::query_as(query).bind(handle.as_slice()).bind(KIND).bind(user.id).fetch_optional(self.conn()).await?;
        let now = self.now();
        let live = |row: &PhoneRow| row.expire_time > now && row.epoch == user.epoch && row.failures < MAX_FAILURES;
        let Some(row) = row.filter(live) else {
            self.audit_own(user.id, Act::ChallengeFailed, origin).await?;
            return Ok(PhoneOutcome::Gone);
        };
        let right: bool = row.code_hash.unwrap_or_default().ct_eq(code.as_slice()).into();
        if !right {
            sqlx::query("UPDATE challenges SET failures = failures + 1 WHERE handle_hash = $1")
                .bind(handle.as_slice())
                .execute(self.conn())
                .await?;
            self.audit_own(user.id, Act::ChallengeFailed, origin).await?;
            return Ok(PhoneOutcome::WrongCode);
        }
        let number = PhoneNumber::stored(row.pending.0.phone_number);
        self.set_phone(&user, Some(&number), news.as_ref(), origin).await?;
        Ok(PhoneOutcome::Changed)
    }

    pub(super) async fn remove_phone(
        &mut self,
        user: UserId,
        session: SessionId,
        news: Option<&NewMessage>,
        origin: &Origin,
    ) -> Result<(), StoreError> {
        let user = self.hold_caller(user, session).await?;
        if user.phone_number.is_none() {
            return self.forget_phone_changes(user.id).await;
        }
        self.set_phone(&user, None, news, origin).await
    }

    async fn set_phone(
        &mut self,
        user: &User,
        number: Option<&PhoneNumber>,
        news: Option<&NewMessage>,
        origin: &Origin,
    ) -> Result<(), StoreError> {
        let now = self.now();
        sqlx::query("UPDATE users SET phone_number = $1, update_time = $2, revision = revision + 1 WHERE id = $3")
            .bind(number.map(PhoneNumber::as_str))
            .bind(now)
            .bind(user.id)
            .execute(self.conn())
            .await?;
        self.forget_phone_changes(user.id).await?;
        self.audit_own(user.id, Act::PhoneNumberChanged, origin).await?;
        match news {
            Some(news) => self.enqueue(news).await,
            None => Ok(()),
        }
    }

    async fn forget_phone_changes(&mut self, user: UserId) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM challenges WHERE user_id = $1 AND kind = $2")
            .bind(user)
            .bind(KIND)
            .execute(self.conn())
            .await?;
        Ok(())
    }
}
