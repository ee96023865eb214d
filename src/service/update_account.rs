//! `UpdateAccount` and `DeleteAccount`.

use std::sync::Arc;

use super::{Principal, RequestContext, Service, ServiceError, recent::caller_gone};
use crate::{
    domain::{notice::Notice, user::User, users::UserChange},
    store::port::NewMessage,
};

impl Service {
    /// Changes what is known of the caller, if the account's revision is the one expected.
    pub async fn update_account(
        &self,
        caller: Principal,
        expected: Option<i64>,
        change: UserChange,
        context: &RequestContext,
    ) -> Result<User, ServiceError> {
        let Principal { user, session, .. } = caller;
        let updated = self.store.update_account(user, session, expected, change, context.origin.clone()).await;
        updated.map_err(caller_gone)
    }

    /// Deletes the caller's account for good.
    pub async fn delete_account(&self, caller: Principal, context: &RequestContext) -> Result<(), ServiceError> {
        let user = self.recently_proved(caller).await?;
        // About nobody: it would go with the account.
        let farewell = self.news(&user, Notice::AccountDeleted).map(|news| NewMessage { user: None, ..news });
        let (store, origin) = (Arc::clone(&self.store), context.origin.clone());
        let delete = async move { store.delete_account(user.id, caller.session, farewell, origin).await };
        self.erase(delete).await.map_err(caller_gone)
    }
}
