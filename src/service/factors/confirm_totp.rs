//! `ConfirmTotp`: a first code shows that the app has the secret, and from then on every sign-in needs one.

use std::sync::Arc;

use super::{NewCodes, own_factor_act, refused};
use crate::{
    domain::{audit::Act, notice::Notice, secret::SecretString},
    service::{Principal, RequestContext, Service, ServiceError, sessions::own_act, throttle::Target},
    store::port::TotpConfirmation,
};

impl Service {
    /// Turns the second factor on, ends the other sessions, and answers with the first recovery codes.
    pub async fn confirm_totp(
        self: &Arc<Self>,
        caller: Principal,
        code: &SecretString,
        context: &RequestContext,
    ) -> Result<Vec<SecretString>, ServiceError> {
        let user = self.recently_proved_owner(caller).await?;
        let factor = self.store.get_totp(user.id).await?.ok_or(ServiceError::TotpNotEnrolled)?;
        if factor.confirm_time.is_some() {
            return Err(ServiceError::TotpEnrolled);
        }
        // Whoever enrolled the app was shown what it is made of: these are no guesses at the account.
        let target = Target::Session(caller.session);
        self.admit(target, context).await?;
        let attempt = self.undecided(target);
        let Some(step) = self.totp_step(&factor, code)? else {
            attempt.decided();
            self.note_failure(target, context).await?;
            self.record_failure(own_act(caller, Act::ChallengeFailed, context)).await?;
            return Err(ServiceError::CodeInvalid);
        };
        let NewCodes { shown, stored } = self.new_recovery_codes(user.id);
        let mut act = own_factor_act(caller, Act::TotpEnrolled, context);
        act.news = self.news(&user, Notice::TotpEnrolled);
        let confirmation = TotpConfirmation { id: factor.id, step, recovery_codes: stored };
        refused(self.store.confirm_totp(act, confirmation).await?)?;
        // The codes are shown this once, whatever else goes wrong. The failures of before stay: it was no complete sign-in.
        attempt.forgive().await;
        Ok(shown)
    }
}
