//! Second factors, as their owners and administrators manage them.

use async_trait::async_trait;
use sqlx::types::Json;
use uuid::Uuid;

use super::{Database, Tx};
use crate::{
    crypto::KeyedHash,
    domain::{
        audit::Act,
        id::{SessionId, UserId},
        time::Timestamp,
    },
    store::{
        StoreError,
        port::{
            FactorAct, FactorChange, FactorStore, NewMessage, NewTotp, ThrottleKey, TotpConfirmation, TotpFactor,
            UserAct,
        },
    },
};

/// The version of the schema whose programs ask for second factors, and all later ones.
const FIRST_WITH_FACTORS: i64 = 4;

#[async_trait]
impl FactorStore for Database {
    async fn begin_totp(&self, act: FactorAct, new: NewTotp) -> Result<FactorChange, StoreError> {
        self.transaction("begin_totp", (act, new), |tx, (act, new)| Box::pin(tx.begin_totp(act, new))).await
    }

    async fn get_totp(&self, user: UserId) -> Result<Option<TotpFactor>, StoreError> {
        self.reading("get_totp", &self.pools.read, user, |conn, user| {
            Box::pin(async move {
                let row: Option<(Uuid, Vec<u8>, Option<Timestamp>, i64)> = sqlx::query_as(
                    "SELECT id, seed_sealed, confirm_time, last_step FROM totp_factors WHERE user_id = $1",
                )
                .bind(*user)
                .fetch_optional(conn)
                .await?;
                Ok(row.map(|(id, seed_sealed, confirm_time, last_step)| TotpFactor {
                    id,
                    seed_sealed,
                    confirm_time,
                    last_step,
                }))
            })
        })
        .await
    }

    async fn confirm_totp(&self, act: FactorAct, confirmation: TotpConfirmation) -> Result<FactorChange, StoreError> {
        self.transaction("confirm_totp", (act, confirmation), |tx, (act, confirmation)| {
            Box::pin(tx.confirm_totp(act, confirmation))
        })
        .await
    }

    async fn remove_totp(&self, act: FactorAct, confirmed: bool) -> Result<FactorChange, StoreError> {
        self.transaction("remove_totp", (act, confirmed), |tx, (act, confirmed)| {
            Box::pin(tx.remove_totp(act, *confirmed))
        })
        .await
    }

    async fn replace_recovery_codes(&self, act: FactorAct, codes: Vec<KeyedHash>) -> Result<FactorChange, StoreError> {
        self.transaction("replace_recovery_codes", (act, codes), |tx, (act, codes)| {
            Box::pin(async move {
                match tx.enrolment_for(act).await? {
                    Enrolment::Confirmed => {
                        tx.replace_recovery_codes(act.user, codes).await?;
                        tx.close_factor_act(act).await
                    }
                    other => Ok(other.unlike_confirmed()),
                }
            })
        })
        .await
    }

    async fn recovery_codes_left(&self, user: UserId) -> Result<u32, StoreError> {
        self.reading("recovery_codes_left", &self.pools.read, user, |conn, user| {
            Box::pin(async move {
                let (left,): (i64,) = sqlx::query_as("SELECT COUNT(*) FROM recovery_codes WHERE user_id = $1")
                    .bind(*user)
                    .fetch_one(conn)
                    .await?;
                Ok(u32::try_from(left).unwrap_or(u32::MAX))
            })
        })
        .await
    }

    async fn remove_user_factors(
        &self,
        act: UserAct,
        forgiven: Vec<ThrottleKey>,
        news: Option<NewMessage>,
    ) -> Result<(), StoreError> {
        self.transaction("remove_user_factors", (act, forgiven, news), |tx, (act, forgiven, news)| {
            Box::pin(async move {
                let (user, _) = tx.user_to_act_on(act).await?;
                if !tx.delete_factors(user.id).await? {
                    // Whoever asks for help with a sign-in may have been locked out without a factor, too.
                    return tx.forget_failures(forgiven).await;
                }
                tx.raise_epoch(user.id, None).await?;
                tx.forget_failures(forgiven).await?;
                if let Some(news) = news.as_ref().filter(|_| user.totp_enrolled) {
                    tx.enqueue(news).await?;
                }
                tx.audit_act(act, Act::FactorsRemoved).await
            })
        })
        .await
    }
}

/// What an act on the own factors finds.
enum Enrolment {
    /// No session to act from.
    SessionGone,
    None,
    Pending(Uuid),
    Confirmed,
}

impl Enrolment {
    /// What an act is answered that needs a confirmed app and found none.
    const fn unlike_confirmed(&self) -> FactorChange {
        match self {
            Self::SessionGone => FactorChange::SessionGone,
            Self::None | Self::Pending(_) => FactorChange::NotEnrolled,
            Self::Confirmed => FactorChange::Enrolled,
        }
    }
}

impl Tx {
    /// Locks the user's row, which all acts on factors and all ends of sessions come by, and looks what there is.
    async fn enrolment_for(&mut self, act: &FactorAct) -> Result<Enrolment, StoreError> {
        let state: Option<(String,)> =
            sqlx::query_as(concat!("SELECT u.state FROM users u WHERE u.id = $1", for_update!()))
                .bind(act.user)
                .fetch_optional(self.conn())
                .await?;
        let active = state.is_some_and(|(state,)| state == "active");
        if !active || !super::sessions::is_live_session_of(self, act.session, act.user).await? {
            return Ok(Enrolment::SessionGone);
        }
        let row: Option<(Uuid, Option<Timestamp>)> =
            sqlx::query_as("SELECT id, confirm_time FROM totp_factors WHERE user_id = $1")
                .bind(act.user)
                .fetch_optional(self.conn())
                .await?;
        Ok(match row {
            None => Enrolment::None,
            Some((id, None)) => Enrolment::Pending(id),
            Some((_, Some(_))) => Enrolment::Confirmed,
        })
    }

    async fn begin_totp(&mut self, act: &FactorAct, new: &NewTotp) -> Result<FactorChange, StoreError> {
        match self.enrolment_for(act).await? {
            Enrolment::SessionGone => return Ok(FactorChange::SessionGone),
            Enrolment::Confirmed => return Ok(FactorChange::Enrolled),
            Enrolment::None | Enrolment::Pending(_) => {}
        }
        let now = self.now();
        sqlx::query(
            "INSERT INTO totp_factors (user_id, id, seed_sealed, create_time, last_step) VALUES ($1, $2, $3, $4, 0) \
             ON CONFLICT (user_id) DO UPDATE SET id = excluded.id, seed_sealed = excluded.seed_sealed, \
             create_time = excluded.create_time, last_step = 0",
        )
        .bind(act.user)
        .bind(new.id)
        .bind(&new.seed_sealed)
        .bind(now)
        .execute(self.conn())
        .await?;
        self.close_factor_act(act).await
    }

    async fn confirm_totp(
        &mut self,
        act: &FactorAct,
        confirmation: &TotpConfirmation,
    ) -> Result<FactorChange, StoreError> {
        let TotpConfirmation { id, step, recovery_codes } = confirmation;
        match self.enrolment_for(act).await? {
            Enrolment::Pending(pending) if pending == *id => {}
            Enrolment::Pending(_) => return Ok(FactorChange::Overtaken),
            other => return Ok(other.unlike_confirmed()),
        }
        let now = self.now();
        let confirmed = sqlx::query(
            "UPDATE totp_factors SET confirm_time = $1, last_step = $2 \
             WHERE user_id = $3 AND id = $4 AND confirm_time IS NULL AND last_step < $2",
        )
        .bind(now)
        .bind(*step)
        .bind(act.user)
        .bind(*id)
        .execute(self.conn())
        .await?;
        if confirmed.rows_affected() == 0 {
            return Ok(FactorChange::Overtaken);
        }
        self.replace_recovery_codes(act.user, recovery_codes).await?;
        // Those from before took the password alone: they shall give nobody who has it guesses at the app besides.
        self.forget_devices(act.user, Some(act.session)).await?;
        // One of before second factors would let in whoever has the password.
        self.bar_programs_before(FIRST_WITH_FACTORS).await?;
        if !self.raise_epoch_and_refuse_all(act.user, act.session).await? {
            return Ok(FactorChange::SessionGone);
        }
        self.add_second_factor(act.session).await?;
        self.close_factor_act(act).await
    }

    async fn remove_totp(&mut self, act: &FactorAct, confirmed: bool) -> Result<FactorChange, StoreError> {
        match (self.enrolment_for(act).await?, confirmed) {
            (Enrolment::SessionGone, _) => return Ok(FactorChange::SessionGone),
            (Enrolment::None, _) => return Ok(FactorChange::NotEnrolled),
            // Whoever asked has shown what it takes for the other.
            (Enrolment::Pending(_), true) | (Enrolment::Confirmed, false) => return Ok(FactorChange::Overtaken),
            (Enrolment::Pending(_), false) | (Enrolment::Confirmed, true) => {}
        }
        self.delete_factors(act.user).await?;
        // The rest of the account never depended on one that was not confirmed.
        if confirmed && !self.raise_epoch(act.user, Some(act.session)).await? {
            return Ok(FactorChange::SessionGone);
        }
        self.close_factor_act(act).await
    }

    /// Deletes app and recovery codes. Whether there were any. The user's row must be locked.
    async fn delete_factors(&mut self, user: UserId) -> Result<bool, StoreError> {
        let mut deleted = 0;
        for query in ["DELETE FROM totp_factors WHERE user_id = $1", "DELETE FROM recovery_codes WHERE user_id = $1"] {
            deleted += sqlx::query(query).bind(user).execute(self.conn()).await?.rows_affected();
        }
        Ok(deleted > 0)
    }

    async fn replace_recovery_codes(&mut self, user: UserId, codes: &[KeyedHash]) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM recovery_codes WHERE user_id = $1").bind(user).execute(self.conn()).await?;
        let now = self.now();
        for code in codes {
            sqlx::query("INSERT INTO recovery_codes (user_id, code_hash, create_time) VALUES ($1, $2, $3)")
                .bind(user)
                .bind(code.as_slice())
                .bind(now)
                .execute(self.conn())
                .await?;
        }
        Ok(())
    }

    /// The session counts as one that was begun with an app's code beside what it was begun with. Two proofs of possession make
    /// no higher assurance: that takes something known.
    async fn add_second_factor(&mut self, session: SessionId) -> Result<(), StoreError> {
        let (Json(mut amr), mut acr): (Json<Vec<String>>, String) =
            sqlx::query_as("SELECT amr, acr FROM sessions WHERE id = $1").bind(session).fetch_one(self.conn()).await?;
        if amr.iter().any(|method| method == "pwd") {
            "aal2".clone_into(&mut acr);
        }
        for method in ["otp", "mfa"] {
            if !amr.iter().any(|known| known == method) {
                amr.push(method.to_owned());
            }
        }
        sqlx::query("UPDATE sessions SET amr = $1, acr = $2 WHERE id = $3")
            .bind(Json(amr))
            .bind(acr)
            .bind(session)
            .execute(self.conn())
            .await?;
        Ok(())
    }

    /// What ends every act on the own factors.
    async fn close_factor_act(&mut self, act: &FactorAct) -> Result<FactorChange, StoreError> {
        if let Some(news) = &act.news {
            self.enqueue(news).await?;
        }
        self.audit(&act.event).await?;
        Ok(FactorChange::Done)
    }
}
