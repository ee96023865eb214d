//! Second factors: an authenticator app (TOTP, RFC 6238) and the recovery codes that go with it. How they are enrolled and
//! managed; what they are asked for at a sign-in is not here.
//!
//! What a use case here promises: whoever acts has proved who they are lately ([`Service::recently_proved`]), and for a new factor that the
//! address is theirs ([`Service::recently_proved_owner`]), the session that
//! asks is alive when it happens, and a factor that others begin to need, or cease to, ends all other sessions.

use super::{Principal, RequestContext, Service, ServiceError, challenge::bare, sessions::own_act};
use crate::{
    crypto::{KeyedHash, recovery_code},
    domain::{audit::Act, id::UserId, secret::SecretString},
    store::port::{FactorAct, FactorChange, TotpFactor},
};

mod confirm_totp;
mod enroll_totp;
mod otpauth;
mod recovery_codes;
mod remove_totp;

pub use self::enroll_totp::TotpEnrolment;

/// New recovery codes: what is shown once, and what is stored.
struct NewCodes {
    shown: Vec<SecretString>,
    stored: Vec<KeyedHash>,
}

impl Service {
    fn new_recovery_codes(&self, user: UserId) -> NewCodes {
        let shown = recovery_code::mint(&*self.entropy);
        let stored = shown.iter().map(|code| recovery_code::hash(&self.hasher, user, code.expose())).collect();
        NewCodes { shown: shown.into(), stored }
    }

    /// The step whose code this is, if it is one that the app may show now and that was not used.
    pub(super) fn totp_step(&self, factor: &TotpFactor, code: &SecretString) -> Result<Option<i64>, ServiceError> {
        let seed = self.factor_seal.open(factor.id, &factor.seed_sealed).map_err(ServiceError::internal)?;
        Ok(seed.matching_step(&bare(code), self.clock.now(), factor.last_step))
    }
}

/// An act of the caller on the own factors.
fn own_factor_act(caller: Principal, act: Act, context: &RequestContext) -> FactorAct {
    FactorAct { user: caller.user, session: caller.session, event: own_act(caller, act, context), news: None }
}

/// What a change that was not made is answered with.
fn refused(change: FactorChange) -> Result<(), ServiceError> {
    match change {
        FactorChange::Done => Ok(()),
        FactorChange::Enrolled => Err(ServiceError::TotpEnrolled),
        FactorChange::NotEnrolled => Err(ServiceError::TotpNotEnrolled),
        FactorChange::Overtaken => Err(ServiceError::Conflict),
        // The session has been ended meanwhile.
        FactorChange::SessionGone => Err(ServiceError::AccessTokenInvalid),
    }
}
