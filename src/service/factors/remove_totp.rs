//! `RemoveTotp` and `RemoveUserFactors`: without a second factor again, by its owner or for one who has lost it.

use super::{own_factor_act, refused};
use crate::{
    domain::{audit::Act, id::UserId, notice::Notice, warrant::Warrant},
    service::{Principal, RequestContext, Service, ServiceError, users::act},
};

impl Service {
    /// Turns the caller's second factor off, or forgets one that was not confirmed.
    ///
    /// A password that was short enough only beside a second factor stays as it is: how long it is cannot be told from its hash.
    /// The next change asks for a longer one.
    pub async fn remove_totp(&self, caller: Principal, context: &RequestContext) -> Result<(), ServiceError> {
        let user = self.recently_proved(caller).await?;
        let mut act = own_factor_act(caller, Act::TotpRemoved, context);
        act.news = user.totp_enrolled.then(|| self.news(&user, Notice::TotpRemoved)).flatten();
        refused(self.store.remove_totp(act, user.totp_enrolled).await?)
    }

    /// Takes a user's factors away and ends all sessions. Failures at what is left are forgotten: the owner has been helped.
    pub async fn remove_user_factors(
        &self,
        warrant: Warrant,
        user: UserId,
        context: &RequestContext,
    ) -> Result<(), ServiceError> {
        // Whether there is such a user, and may be acted on, is the store's to say.
        let (forgiven, news) = match self.store.get_user(user).await? {
            Some(user) => (self.owner_keys(&user), self.news(&user, Notice::TotpRemoved)),
            None => (Vec::new(), None),
        };
        Ok(self.store.remove_user_factors(act(warrant, user, context), forgiven, news).await?)
    }
}
