//! What people change of their own accounts, down to deleting them.

use super::{Tx, user_admin::check_revision};
use crate::{
    domain::{
        audit::{Act, Origin},
        id::{SessionId, UserId},
        user::User,
        users::UserChange,
    },
    store::{
        StoreError,
        port::{Erased, NewMessage},
    },
};

impl Tx {
    pub(super) async fn update_account(
        &mut self,
        id: UserId,
        session: SessionId,
        expected: Option<i64>,
        change: &UserChange,
        origin: &Origin,
    ) -> Result<User, StoreError> {
        let user = self.hold_caller(id, session).await?;
        check_revision(&user, expected)?;
        let fields = self.write_change(&user, change).await?;
        if fields.is_empty() {
            return Ok(user);
        }
        self.audit_own(id, Act::AccountUpdated { fields }, origin).await?;
        self.user(id).await
    }

    pub(super) async fn delete_account(
        &mut self,
        id: UserId,
        session: SessionId,
        farewell: Option<&NewMessage>,
        origin: &Origin,
    ) -> Result<Erased, StoreError> {
        let user = self.hold_caller(id, session).await?;
        self.keep_an_administrator(&user).await?;
        let erased = self.erase(&user).await?;
        if let Some(farewell) = farewell {
            self.enqueue(farewell).await?;
        }
        self.audit_own(id, Act::AccountDeleted, origin).await?;
        Ok(erased)
    }
}
