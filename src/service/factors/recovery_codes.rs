//! `GenerateRecoveryCodes`, and how many are left.

use super::{NewCodes, own_factor_act, refused};
use crate::{
    domain::{audit::Act, notice::Notice, secret::SecretString},
    service::{Principal, RequestContext, Service, ServiceError},
};

impl Service {
    /// New recovery codes in place of those there are. Only beside an authenticator app.
    pub async fn generate_recovery_codes(
        &self,
        caller: Principal,
        context: &RequestContext,
    ) -> Result<Vec<SecretString>, ServiceError> {
        let user = self.recently_proved(caller).await?;
        if !user.totp_enrolled {
            return Err(ServiceError::TotpNotEnrolled);
        }
        let NewCodes { shown, stored } = self.new_recovery_codes(user.id);
        let mut act = own_factor_act(caller, Act::RecoveryCodesGenerated, context);
        act.news = self.budgeted_news(&user, Notice::RecoveryCodesReplaced);
        refused(self.store.replace_recovery_codes(act, stored).await?)?;
        Ok(shown)
    }

    /// How many of the caller's recovery codes have not been used.
    pub async fn recovery_codes_left(&self, caller: Principal) -> Result<u32, ServiceError> {
        Ok(self.store.recovery_codes_left(caller.user).await?)
    }
}
