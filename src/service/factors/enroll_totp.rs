//! `EnrollTotp`: makes the secret of an authenticator app. It counts only once the app has shown that it has it.

use super::{otpauth, own_factor_act, refused};
use crate::{
    crypto::TotpSeed,
    domain::{audit::Act, email::Email, id::UserId, secret::SecretString},
    service::{Principal, RequestContext, Service, ServiceError},
    store::port::NewTotp,
};

/// What an app needs. Whoever sees it can make codes.
#[derive(Clone, Debug)]
pub struct TotpEnrolment {
    /// The `otpauth://` URI.
    pub uri: SecretString,
    /// The secret in it, in base32.
    pub secret: SecretString,
}

impl Service {
    /// Makes a secret in place of one that was not confirmed.
    pub async fn enroll_totp(
        &self,
        caller: Principal,
        context: &RequestContext,
    ) -> Result<TotpEnrolment, ServiceError> {
        let user = self.recently_proved_owner(caller).await?;
        if user.totp_enrolled {
            return Err(ServiceError::TotpEnrolled);
        }
        let seed = TotpSeed::generate(&*self.entropy);
        let id = *UserId::new(self.clock.now(), &self.random()).as_uuid();
        let new = NewTotp { id, seed_sealed: self.factor_seal.seal(id, &seed, &*self.entropy) };
        let act = own_factor_act(caller, Act::TotpEnrolmentBegun, context);
        refused(self.store.begin_totp(act, new).await?)?;
        let secret = seed.base32();
        let uri = otpauth::uri(&self.policy.totp_issuer, account_name(&user.email), &secret);
        Ok(TotpEnrolment { uri, secret })
    }
}

/// The address as its owner writes it; as it is looked up by, if it is so long that no QR code would hold it percent-encoded.
fn account_name(email: &Email) -> &str {
    if email.as_typed().len() <= 254 { email.as_typed() } else { email.key() }
}
