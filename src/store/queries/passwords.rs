//! How a password is replaced, whoever does it, and what is kept of those before.

use super::{Conn, Tx};
use crate::{
    domain::{
        id::{SessionId, UserId},
        user::PhcString,
    },
    store::StoreError,
};

impl Tx {
    /// Gives a user another password, and keeps what it replaces with as many before it as are to be kept. Whether there is such
    /// a user; the row is locked from then on. Sessions are the caller's to end.
    pub(super) async fn replace_password(&mut self, user: UserId, hash: &PhcString) -> Result<bool, StoreError> {
        let now = self.now();
        // Locked before it is read, so that of two at once the second keeps what the first has set.
        let locked: Option<(Option<String>, i64)> =
            sqlx::query_as(concat!("SELECT u.password_hash, u.revision FROM users u WHERE u.id = $1", for_update!()))
                .bind(user)
                .fetch_optional(self.conn())
                .await?;
        let Some((old, revision)) = locked else { return Ok(false) };
        if let Some(old) = old {
            sqlx::query(
                "INSERT INTO password_history (user_id, revision, password_hash, replace_time) VALUES ($1, $2, $3, $4)",
            )
            .bind(user)
            .bind(revision)
            .bind(old)
            .bind(now)
            .execute(self.conn())
            .await?;
        }
        sqlx::query(
            "UPDATE users SET password_hash = $1, password_time = $2, update_time = $2, revision = revision + 1 WHERE id = $3",
        )
        .bind(hash.expose())
        .bind(now)
        .bind(user)
        .execute(self.conn())
        .await?;
        self.trim_history(user).await?;
        Ok(true)
    }

    /// Forgets the passwords before those that are kept.
    async fn trim_history(&mut self, user: UserId) -> Result<(), StoreError> {
        let kept = i64::from(self.around().kept_passwords);
        let first_gone: Option<(i64,)> = sqlx::query_as(
            "SELECT revision FROM password_history WHERE user_id = $1 ORDER BY revision DESC LIMIT 1 OFFSET $2",
        )
        .bind(user)
        .bind(kept)
        .fetch_optional(self.conn())
        .await?;
        if let Some((first_gone,)) = first_gone {
            sqlx::query("DELETE FROM password_history WHERE user_id = $1 AND revision <= $2")
                .bind(user)
                .bind(first_gone)
                .execute(self.conn())
                .await?;
        }
        Ok(())
    }

    /// Forgets the devices that a user is known on, except that of one session.
    pub(super) async fn forget_devices(&mut self, user: UserId, spared: Option<SessionId>) -> Result<(), StoreError> {
        // Without the last condition a session on no known device would put a NULL among them, and then NOT IN is true of none.
        sqlx::query(
            "DELETE FROM known_devices WHERE user_id = $1 AND id NOT IN \
             (SELECT s.device_id FROM sessions s WHERE s.id = $2 AND s.device_id IS NOT NULL)",
        )
        .bind(user)
        .bind(spared)
        .execute(self.conn())
        .await?;
        Ok(())
    }
}

/// The hash of the present password, if there is one, and of the last `history` before it.
pub(super) async fn password_hashes(conn: &mut Conn, user: UserId, history: u32) -> Result<Vec<PhcString>, StoreError> {
    let present: Option<(Option<String>,)> =
        sqlx::query_as("SELECT password_hash FROM users WHERE id = $1").bind(user).fetch_optional(&mut *conn).await?;
    let former: Vec<(String,)> =
        sqlx::query_as("SELECT password_hash FROM password_history WHERE user_id = $1 ORDER BY revision DESC LIMIT $2")
            .bind(user)
            .bind(i64::from(history))
            .fetch_all(conn)
            .await?;
    let present = present.and_then(|(hash,)| hash);
    Ok(present.into_iter().chain(former.into_iter().map(|(hash,)| hash)).map(PhcString::new).collect())
}
