//! `ConfirmTotp`: a first code shows that the app has the secret, and from then on every sign-in needs one.

use super::{NewCodes, own_factor_act, refused};
use crate::{
    domain::{audit::Act, notice::Notice, secret::SecretString},
    service::{Principal, RequestContext, Service, ServiceError, sessions::own_act, throttle::Target},
    store::port::{TotpConfirmation, TotpFactor},
};

impl Service {
    /// Turns the second factor on, ends the other sessions, and answers with the first recovery codes.
    pub async fn confirm_totp(
        &self,
        caller: Principal,
        code: &SecretString,
        context: &RequestContext,
    ) -> Result<Vec<SecretString>, ServiceError> {
        let user = self.recently_proved_owner(caller).await?;
        let factor = self.store.get_totp(user.id).await?.ok_or(ServiceError::TotpNotEnrolled)?;
        if factor.confirm_time.is_some() {
            return Err(ServiceError::TotpEnrolled);
        }
        let target = Target::Account(user.id);
        self.admit(target, context).await?;
        let Some(step) = self.matching_totp_step(&factor, code)? else {
            self.note_failure(target, context).await?;
            self.store.record(own_act(caller, Act::ChallengeFailed, context)).await?;
            return Err(ServiceError::CodeInvalid);
        };
        let NewCodes { shown, stored } = self.new_recovery_codes(user.id);
        let mut act = own_factor_act(caller, Act::TotpEnrolled, context);
        act.news = self.news(&user, Notice::TotpEnrolled);
        let confirmation = TotpConfirmation { id: factor.id, step, recovery_codes: stored };
        refused(self.store.confirm_totp(act, confirmation).await?)?;
        // The codes are shown this once, whatever else goes wrong. The failures of before stay: it was no complete sign-in.
        self.forgive_quietly(target).await;
        Ok(shown)
    }

    fn matching_totp_step(&self, factor: &TotpFactor, code: &SecretString) -> Result<Option<i64>, ServiceError> {
        let seed = self.factor_seal.open(factor.id, &factor.seed_sealed).map_err(ServiceError::internal)?;
        Ok(seed.matching_step(code.expose(), self.clock.now(), factor.last_step))
    }
}
