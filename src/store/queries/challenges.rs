//! Sign-ins that wait for a code. What decides is read under the lock of the user's row and of the challenge's.

use async_trait::async_trait;
use sqlx::types::Json;
use subtle::ConstantTimeEq;
use uuid::Uuid;

use super::{Database, Tx, sessions::SigningIn};
use crate::{
    crypto::KeyedHash,
    domain::{
        audit::{Act, Actor, AuditEvent, LoginFailure, Origin},
        challenge::MAX_FAILURES,
        id::UserId,
        time::Timestamp,
        user::PhcString,
    },
    store::{
        StoreError,
        port::{
            Answer, Answered, ChallengeKind, ChallengeStore, FoundChallenge, NewChallenge, NewMessage, OpenChallenge,
            Proof, TotpFactor,
        },
    },
};

/// How many second factors can be asked of a user at once from one place; the oldest gives way. Each of these took the right password:
/// whoever has it must not make those of the owner give way, who asks from elsewhere.
const MAX_OPEN: i64 = 10;

#[async_trait]
impl ChallengeStore for Database {
    async fn find_known_device(&self, user: UserId, secret: KeyedHash) -> Result<Option<Uuid>, StoreError> {
        self.known_device(user, secret).await
    }

    async fn open_challenge(
        &self,
        new: NewChallenge,
        message: Option<NewMessage>,
        event: AuditEvent,
    ) -> Result<Option<OpenChallenge>, StoreError> {
        self.transaction("open_challenge", (new, message, event), |tx, (new, message, event)| {
            Box::pin(async move {
                let user = tx.lock_signing_in(new.user).await?;
                if new.user.is_some() && !user.as_ref().is_some_and(|user| may_open(user, new)) {
                    return Ok(None);
                }
                let open = tx.insert_challenge(new, user.map_or(0, |user| user.epoch)).await?;
                if let Some(message) = message {
                    tx.enqueue(message).await?;
                }
                tx.audit(event).await?;
                Ok(Some(open))
            })
        })
        .await
    }

    async fn find_challenge(&self, handle: KeyedHash) -> Result<Option<FoundChallenge>, StoreError> {
        let now = self.around.clock.now();
        self.reading("find_challenge", &self.pools.read, (handle, now), |conn, (handle, now)| {
            Box::pin(async move {
                let found: Option<FoundRow> = sqlx::query_as(
                    "SELECT c.kind, c.user_id, c.pending, t.id, t.seed_sealed, t.confirm_time, t.last_step FROM challenges c \
                     LEFT JOIN totp_factors t ON t.user_id = c.user_id AND t.confirm_time IS NOT NULL \
                     WHERE c.handle_hash = $1 AND c.expire_time > $2 AND c.failures < $3 \
                     AND c.kind IN ('second_factor', 'login_code')",
                )
                .bind(handle.as_slice())
                .bind(*now)
                .bind(MAX_FAILURES)
                .fetch_optional(conn)
                .await?;
                Ok(found.and_then(found_challenge))
            })
        })
        .await
    }

    async fn answer_challenge(&self, answer: Answer) -> Result<Answered, StoreError> {
        self.transaction("answer_challenge", answer, |tx, answer| Box::pin(tx.answer(answer))).await
    }

    async fn purge_challenges(&self, before: Timestamp) -> Result<u64, StoreError> {
        let mut purged = 0;
        loop {
            let batch = self.transaction("purge_challenges", before, |tx, before| {
                Box::pin(async move {
                    // So few that nobody waits long for the rows, or on SQLite for the write lock.
                    let deleted = sqlx::query(
                        "DELETE FROM challenges WHERE handle_hash IN \
                         (SELECT handle_hash FROM challenges WHERE expire_time < $1 ORDER BY expire_time LIMIT 500)",
                    )
                    .bind(*before)
                    .execute(tx.conn())
                    .await?;
                    Ok(deleted.rows_affected())
                })
            });
            let batch = batch.await?;
            purged += batch;
            if batch == 0 {
                return Ok(purged);
            }
        }
    }
}

type FoundRow = (String, Option<UserId>, Json<String>, Option<Uuid>, Option<Vec<u8>>, Option<Timestamp>, Option<i64>);

fn found_challenge(row: FoundRow) -> Option<FoundChallenge> {
    let (kind, user, Json(pending), id, seed, confirm_time, last_step) = row;
    let totp = match (id, seed, last_step) {
        (Some(id), Some(seed_sealed), Some(last_step)) => Some(TotpFactor { id, seed_sealed, confirm_time, last_step }),
        _ => None,
    };
    Some(FoundChallenge { kind: ChallengeKind::parse(&kind)?, user, pending, totp })
}

/// Whether the account is still as it was when the first proof was checked.
fn may_open(user: &SigningIn, new: &NewChallenge) -> bool {
    let checked = new.checked_hash.as_ref().map(PhcString::expose);
    user.is_active && (checked.is_none() || user.password_hash.as_deref() == checked)
}

/// A challenge whose row is locked.
#[derive(sqlx::FromRow)]
struct LockedRow {
    kind: String,
    user_id: Option<UserId>,
    epoch: i64,
    /// Of a second factor, where it was asked for from.
    code_hash: Option<Vec<u8>>,
    failures: i64,
    expire_time: Timestamp,
}

impl Tx {
    /// Makes room for another challenge of a second factor. One of a code that is sent makes nothing give way: whoever asks for codes
    /// by one name would see those that were asked for by another one die, and know that both are one account's. How many there are of
    /// these the budgets of messages say.
    async fn evict_challenges(&mut self, new: &NewChallenge) -> Result<(), StoreError> {
        if new.kind != ChallengeKind::SecondFactor {
            return Ok(());
        }
        sqlx::query(
            "DELETE FROM challenges WHERE user_id = $1 AND kind = $2 AND code_hash = $3 AND handle_hash NOT IN (SELECT handle_hash \
             FROM challenges WHERE user_id = $1 AND kind = $2 AND code_hash = $3 ORDER BY create_time DESC LIMIT $4)",
        )
        .bind(new.user)
        .bind(new.kind.as_str())
        .bind(new.code_or_place.as_slice())
        .bind(MAX_OPEN - 1)
        .execute(self.conn())
        .await?;
        Ok(())
    }

    /// Writes a challenge; the same for nobody as for somebody.
    async fn insert_challenge(&mut self, new: &NewChallenge, epoch: i64) -> Result<OpenChallenge, StoreError> {
        let now = self.now();
        self.evict_challenges(new).await?;
        sqlx::query(
            "INSERT INTO challenges (handle_hash, kind, user_id, epoch, code_hash, pending, failures, create_time, expire_time) \
             VALUES ($1, $2, $3, $4, $5, $6, 0, $7, $8)",
        )
        .bind(new.handle.as_slice())
        .bind(new.kind.as_str())
        .bind(new.user)
        .bind(epoch)
        .bind(new.code_or_place.as_slice())
        .bind(Json(&new.pending))
        .bind(now)
        .bind(new.expire_time)
        .execute(self.conn())
        .await?;
        Ok(OpenChallenge { recovery_codes: self.recovery_codes_left(new.user).await? > 0 })
    }

    async fn recovery_codes_left(&mut self, user: Option<UserId>) -> Result<i64, StoreError> {
        let (left,): (i64,) = sqlx::query_as("SELECT COUNT(*) FROM recovery_codes WHERE user_id = $1")
            .bind(user)
            .fetch_one(self.conn())
            .await?;
        Ok(left)
    }

    /// See [`ChallengeStore::answer_challenge`].
    async fn answer(&mut self, answer: &Answer) -> Result<Answered, StoreError> {
        let user = self.lock_signing_in(answer.user).await?;
        let locked: Option<LockedRow> = sqlx::query_as(concat!(
            "SELECT kind, user_id, epoch, code_hash, failures, expire_time FROM challenges WHERE handle_hash = $1",
            for_update!()
        ))
        .bind(answer.handle.as_slice())
        .fetch_optional(self.conn())
        .await?;
        let Some(challenge) = locked.filter(|row| self.is_open(row, answer, user.as_ref())) else {
            return Ok(Answered::Invalid);
        };
        if !self.proves(&challenge, answer).await? {
            sqlx::query("UPDATE challenges SET failures = failures + 1 WHERE handle_hash = $1")
                .bind(answer.handle.as_slice())
                .execute(self.conn())
                .await?;
            self.audit_of(answer.user, Actor::Anonymous, Act::ChallengeFailed, &answer.origin).await?;
            return Ok(Answered::Wrong);
        }
        // Only somebody's challenge can be answered rightly.
        let (Some(id), Some(user)) = (answer.user, user) else { return Ok(Answered::Invalid) };
        sqlx::query("DELETE FROM challenges WHERE handle_hash = $1")
            .bind(answer.handle.as_slice())
            .execute(self.conn())
            .await?;
        self.go_on(id, user, &challenge, answer).await
    }

    /// Whether a challenge can be answered at this moment. One of nobody's can, though never rightly.
    fn is_open(&self, challenge: &LockedRow, answer: &Answer, user: Option<&SigningIn>) -> bool {
        let still_theirs = match (answer.user, user) {
            (None, _) => true,
            (Some(_), Some(user)) => {
                user.is_active
                    && user.epoch == challenge.epoch
                    && answer.mailed_to.as_ref().is_none_or(|address| *address == user.email_key)
                    && (answer.texted_to.is_none() || answer.texted_to == user.phone_number)
            }
            (Some(_), None) => false,
        };
        still_theirs
            && challenge.user_id == answer.user
            && challenge.failures < MAX_FAILURES
            && challenge.expire_time > self.now()
    }

    /// Whether the answer is right. What is good once is used up.
    async fn proves(&mut self, challenge: &LockedRow, answer: &Answer) -> Result<bool, StoreError> {
        let kind = ChallengeKind::parse(&challenge.kind);
        Ok(match (answer.proof, kind) {
            (Proof::Totp { factor, step }, Some(ChallengeKind::SecondFactor)) => {
                let spent = sqlx::query(
                    "UPDATE totp_factors SET last_step = $1 \
                     WHERE user_id = $2 AND id = $3 AND confirm_time IS NOT NULL AND last_step < $1",
                )
                .bind(step)
                .bind(answer.user)
                .bind(factor)
                .execute(self.conn())
                .await?;
                spent.rows_affected() == 1
            }
            (Proof::RecoveryCode(hash), Some(ChallengeKind::SecondFactor)) => {
                let used = sqlx::query("DELETE FROM recovery_codes WHERE user_id = $1 AND code_hash = $2")
                    .bind(answer.user)
                    .bind(hash.as_slice())
                    .execute(self.conn())
                    .await?;
                used.rows_affected() == 1
            }
            (Proof::OneTimeCode(hash), Some(ChallengeKind::LoginCode)) => {
                let sent = challenge.code_hash.as_deref().unwrap_or_default();
                bool::from(sent.ct_eq(&hash)) && challenge.user_id.is_some()
            }
            _ => false,
        })
    }

    /// What follows a right answer.
    async fn go_on(
        &mut self,
        id: UserId,
        mut user: SigningIn,
        challenge: &LockedRow,
        answer: &Answer,
    ) -> Result<Answered, StoreError> {
        let origin = &answer.origin;
        // An account with a second factor is not taken over by whoever reads its mail alone.
        if answer.mailed_to.is_some() && !user.email_verified && !user.totp_enrolled {
            user = match self.take_over(id, user, origin).await? {
                Some(user) => user,
                None => return Ok(Answered::Invalid),
            };
        }
        if answer.require_verified_email && !user.email_verified {
            let act = Act::LoginFailed { cause: LoginFailure::EmailNotVerified, identifier_hash: None };
            self.audit_of(Some(id), Actor::Anonymous, act, origin).await?;
            return Ok(Answered::EmailNotVerified);
        }
        if challenge.kind == ChallengeKind::LoginCode.as_str() && user.totp_enrolled {
            let further = NewChallenge { user: Some(id), ..answer.further.clone() };
            let open = self.insert_challenge(&further, user.epoch).await?;
            self.audit_of(Some(id), Actor::Anonymous, Act::ChallengeIssued, origin).await?;
            return Ok(Answered::Further(open));
        }
        if let Proof::RecoveryCode(_) = answer.proof {
            let left = self.recovery_codes_left(Some(id)).await?;
            if let Some(news) = (answer.recovery_news)(u32::try_from(left).unwrap_or(u32::MAX)) {
                self.enqueue(&news).await?;
            }
            self.audit_of(Some(id), Actor::User(id), Act::RecoveryCodeUsed, origin).await?;
        }
        let begun = self.begin_session(&answer.session, user, &answer.policy, origin).await?;
        let act = Act::LoggedIn { session: begun.live.session.id };
        self.audit_of(Some(id), Actor::User(id), act, origin).await?;
        Ok(Answered::Begun(Box::new(begun)))
    }

    /// Whoever reads the mail of an address that nobody has proved to be theirs takes the account over. Whoever made the account
    /// may have been somebody else, who waits for this moment: with its password, with a session, with an app that is not confirmed
    /// yet, a device or a phone of theirs. So all of these end if there is a password; without one there was no other way in.
    async fn take_over(
        &mut self,
        id: UserId,
        user: SigningIn,
        origin: &Origin,
    ) -> Result<Option<SigningIn>, StoreError> {
        let now = self.now();
        sqlx::query(
            "UPDATE users SET email_verified_time = $1, update_time = $1, revision = revision + 1, \
             phone_number = CASE WHEN password_hash IS NULL THEN phone_number END, password_hash = NULL WHERE id = $2",
        )
        .bind(now)
        .bind(id)
        .execute(self.conn())
        .await?;
        self.audit_of(Some(id), Actor::User(id), Act::EmailVerified, origin).await?;
        if user.password_hash.is_some() {
            let mut removed = 0;
            for query in [
                "DELETE FROM totp_factors WHERE user_id = $1",
                "DELETE FROM recovery_codes WHERE user_id = $1",
                "DELETE FROM known_devices WHERE user_id = $1",
            ] {
                removed += sqlx::query(query).bind(id).execute(self.conn()).await?.rows_affected();
            }
            tracing::debug!(removed, "an account was taken over by the owner of its address");
            if user.phone_number.is_some() {
                self.audit_of(Some(id), Actor::User(id), Act::PhoneNumberChanged, origin).await?;
            }
            self.raise_epoch(id, None).await?;
            self.audit_of(Some(id), Actor::User(id), Act::OtherSessionsEnded { spared: None }, origin).await?;
        }
        // As it is now.
        self.lock_signing_in(Some(id)).await
    }

    async fn audit_of(
        &mut self,
        user: Option<UserId>,
        actor: Actor,
        act: Act,
        origin: &Origin,
    ) -> Result<(), StoreError> {
        self.audit(&AuditEvent { actor, subject: user.map(Into::into), act, origin: origin.clone() }).await
    }
}
