//! Messages that wait to be sent.

use super::Tx;
use crate::store::{StoreError, port::NewMessage};

impl Tx {
    /// Puts a message into the outbox. It is sent if, and only if, this transaction commits.
    pub(super) async fn enqueue(&mut self, message: &NewMessage) -> Result<(), StoreError> {
        let now = self.now();
        sqlx::query(
            "INSERT INTO outbox (id, channel, user_id, message_sealed, create_time, expire_time, attempts, due_time) \
             VALUES ($1, $2, $3, $4, $5, $6, 0, $5)",
        )
        .bind(message.id)
        .bind(message.channel)
        .bind(message.user)
        .bind(&message.sealed)
        .bind(now)
        .bind(message.expire_time)
        .execute(self.conn())
        .await?;
        Ok(())
    }
}
