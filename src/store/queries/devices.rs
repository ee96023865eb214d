//! Devices that were signed in on.

use uuid::Uuid;

use super::{Database, Tx};
use crate::{
    crypto::KeyedHash,
    domain::id::UserId,
    store::{StoreError, port::NewDevice},
};

/// How many devices of a user are known at most; the one not used for the longest time is forgotten first.
const MAX_DEVICES: i64 = 20;

/// What is known of the device that somebody signs in on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// It was signed in on before.
    Already,
    /// It was not, though the user did on others.
    New,
    /// The user never signed in anywhere.
    First,
}

impl Database {
    /// The device of this user with this hash of its secret.
    pub(super) async fn known_device(&self, user: UserId, secret: KeyedHash) -> Result<Option<Uuid>, StoreError> {
        self.reading("find_known_device", &self.pools.read, (user, secret), |conn, (user, secret)| {
            Box::pin(async move {
                let found: Option<(Uuid,)> =
                    sqlx::query_as("SELECT id FROM known_devices WHERE user_id = $1 AND secret_hash = $2")
                        .bind(*user)
                        .bind(secret.as_slice())
                        .fetch_optional(conn)
                        .await?;
                Ok(found.map(|(id,)| id))
            })
        })
        .await
    }
}

impl Tx {
    /// Notes that a device is used. `None`: the user has no such device.
    pub(super) async fn touch_device(&mut self, user: UserId, device: Uuid) -> Result<Option<Uuid>, StoreError> {
        let now = self.now();
        let touched = sqlx::query("UPDATE known_devices SET last_used_time = $1 WHERE id = $2 AND user_id = $3")
            .bind(now)
            .bind(device)
            .bind(user)
            .execute(self.conn())
            .await?;
        Ok((touched.rows_affected() == 1).then_some(device))
    }

    /// Makes a device of the user, whose row is locked, known. Whether it is the first that the user signs in on.
    pub(super) async fn add_device(&mut self, user: UserId, new: &NewDevice) -> Result<Known, StoreError> {
        let (known, signed_in): (i64, bool) = sqlx::query_as(
            "SELECT (SELECT COUNT(*) FROM known_devices WHERE user_id = $1), \
             EXISTS (SELECT 1 FROM sessions WHERE user_id = $1)",
        )
        .bind(user)
        .fetch_one(self.conn())
        .await?;
        if known >= MAX_DEVICES {
            sqlx::query(
                "DELETE FROM known_devices WHERE user_id = $1 AND id NOT IN \
                 (SELECT id FROM known_devices WHERE user_id = $1 ORDER BY last_used_time DESC, id DESC LIMIT $2)",
            )
            .bind(user)
            .bind(MAX_DEVICES - 1)
            .execute(self.conn())
            .await?;
        }
        let now = self.now();
        sqlx::query(
            "INSERT INTO known_devices (id, user_id, secret_hash, create_time, last_used_time) VALUES ($1, $2, $3, $4, $4)",
        )
        .bind(new.id)
        .bind(user)
        .bind(new.secret.as_slice())
        .bind(now)
        .execute(self.conn())
        .await?;
        Ok(if known > 0 || signed_in { Known::New } else { Known::First })
    }
}
