//! Second factors, as their owners and administrators manage them.

use async_trait::async_trait;
use uuid::Uuid;

use super::{NewMessage, ThrottleKey, UserAct};
use crate::{
    crypto::KeyedHash,
    domain::{
        audit::AuditEvent,
        id::{SessionId, UserId},
        time::Timestamp,
    },
    store::StoreError,
};

/// An act of somebody on the own factors.
#[derive(Clone, Debug)]
pub struct FactorAct {
    /// Whose.
    pub user: UserId,
    /// The session it is asked from. It must be alive when the act is done.
    pub session: SessionId,
    /// What is recorded.
    pub event: AuditEvent,
    /// What its owner is told, if anything.
    pub news: Option<NewMessage>,
}

/// An authenticator app that is to be confirmed.
#[derive(Clone, Debug)]
pub struct NewTotp {
    /// The id of this enrolment.
    pub id: Uuid,
    /// The seed, sealed for it.
    pub seed_sealed: Vec<u8>,
}

/// An authenticator app, confirmed or not.
#[derive(Clone, Debug)]
pub struct TotpFactor {
    /// The id of its enrolment.
    pub id: Uuid,
    /// The seed, sealed for it.
    pub seed_sealed: Vec<u8>,
    /// When it was confirmed.
    pub confirm_time: Option<Timestamp>,
    /// The last time step of which a code was accepted.
    pub last_step: i64,
}

/// The first code of an app, and what comes with it.
#[derive(Clone, Debug)]
pub struct TotpConfirmation {
    /// The enrolment that the code belongs to.
    pub id: Uuid,
    /// Its time step, which is spent from then on.
    pub step: i64,
    /// The hashes of the account's recovery codes from then on.
    pub recovery_codes: Vec<KeyedHash>,
}

/// How a change of factors ended. Nothing was done unless it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FactorChange {
    /// It is done.
    Done,
    /// There is a confirmed app.
    Enrolled,
    /// There is none, or none of the kind.
    NotEnrolled,
    /// It was changed at the same moment.
    Overtaken,
    /// The session is not alive any more, or its user not active.
    SessionGone,
}

/// Second factors.
#[async_trait]
pub trait FactorStore: Send + Sync + 'static {
    /// Stores an app that is to be confirmed, in place of one that was not.
    async fn begin_totp(&self, act: FactorAct, new: NewTotp) -> Result<FactorChange, StoreError>;

    /// The user's app.
    async fn get_totp(&self, user: UserId) -> Result<Option<TotpFactor>, StoreError>;

    /// Confirms the app, if it is still that enrolment and the step not spent; replaces the recovery codes; ends the other
    /// sessions and forgets the other devices. The session of the act goes on as one that was begun with both factors; all access tokens from before are
    /// refused, its own too.
    async fn confirm_totp(&self, act: FactorAct, confirmation: TotpConfirmation) -> Result<FactorChange, StoreError>;

    /// Deletes the app, if it is `confirmed` or not, as it is said to be. With a confirmed one the recovery codes go and the other
    /// sessions end.
    async fn remove_totp(&self, act: FactorAct, confirmed: bool) -> Result<FactorChange, StoreError>;

    /// Replaces the recovery codes beside a confirmed app.
    async fn replace_recovery_codes(&self, act: FactorAct, codes: Vec<KeyedHash>) -> Result<FactorChange, StoreError>;

    /// How many recovery codes have not been used.
    async fn recovery_codes_left(&self, user: UserId) -> Result<u32, StoreError>;

    /// Deletes a user's app and recovery codes, ends all sessions and forgets the failures `forgiven`, as an administrator. Where there
    /// are no factors, nothing but the failures goes. The news are for the owner of an app that was confirmed.
    async fn remove_user_factors(
        &self,
        act: UserAct,
        forgiven: Vec<ThrottleKey>,
        news: Option<NewMessage>,
    ) -> Result<(), StoreError>;
}
