//! How a password is replaced, whoever does it.

use super::Tx;
use crate::{
    domain::{id::UserId, user::PhcString},
    store::StoreError,
};

impl Tx {
    /// Gives a user another password. Whether there is such a user; the row is locked from then on. Sessions are the caller's
    /// to end.
    pub(super) async fn replace_password(&mut self, user: UserId, hash: &PhcString) -> Result<bool, StoreError> {
        let now = self.now();
        let replaced = sqlx::query(
            "UPDATE users SET password_hash = $1, password_time = $2, update_time = $2, revision = revision + 1 WHERE id = $3",
        )
        .bind(hash.expose())
        .bind(now)
        .bind(user)
        .execute(self.conn())
        .await?;
        Ok(replaced.rows_affected() == 1)
    }
}
