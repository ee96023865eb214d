//! The audit trail as chains of hashes.
//!
//! A transaction collects its events and appends them at its end, under the lock of one lane. Whoever comes to it while that
//! lane is held takes another one, so that writers wait for each other only where there are more of them than lanes; and
//! since nothing is locked after a lane, nobody who waits for one holds up whoever has it.

use sqlx::types::Json;

use super::{FREE_LANE, Tx};
use crate::{
    crypto::audit_chain::{ChainHash, Place},
    domain::secret::random,
    store::{
        StoreError,
        port::{ChainLink, RecordedEvent},
    },
};

/// How many lanes there are on a database that several can write to at once.
const LANES: i64 = 64;

/// A lane under lock: its id, position, hash.
type Head = (i64, i64, Vec<u8>);

impl Tx {
    /// Puts an event at the end of this transaction.
    pub(super) fn note_event(&mut self, event: RecordedEvent) {
        self.events.push(event);
    }

    /// Appends the events of this transaction to a lane. The last thing before the commit.
    pub(super) async fn append_events(&mut self) -> Result<(), StoreError> {
        let events = std::mem::take(&mut self.events);
        if events.is_empty() {
            return Ok(());
        }
        let (lane, mut position, hash) = self.lock_lane().await?;
        let mut hash = chain_hash(&hash)?;
        for mut event in events {
            position += 1;
            let place = Place { lane, position };
            hash = event.chained().hash(place, &hash);
            event.link = Some(ChainLink { place, hash });
            self.insert_event(&event).await?;
        }
        let mac = self.around().vault.attest(&head_statement(lane, position, &hash));
        sqlx::query("UPDATE audit_lanes SET position = $2, hash = $3, mac = $4 WHERE id = $1")
            .bind(lane)
            .bind(position)
            .bind(&hash[..])
            .bind(&mac[..])
            .execute(self.conn())
            .await?;
        Ok(())
    }

    /// Locks a lane that nobody holds; if all are held, waits for any one.
    async fn lock_lane(&mut self) -> Result<Head, StoreError> {
        let free: Option<Head> = sqlx::query_as(FREE_LANE).fetch_optional(self.conn()).await?;
        if let Some(head) = free {
            return Ok(head);
        }
        let [drawn] = random(&*self.around().entropy);
        let head = sqlx::query_as(concat!("SELECT id, position, hash FROM audit_lanes WHERE id = $1", for_update!()))
            .bind(i64::from(drawn) % LANES)
            .fetch_one(self.conn())
            .await?;
        Ok(head)
    }

    async fn insert_event(&mut self, event: &RecordedEvent) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO audit_events (id, time, act, succeeded, actor, actor_id, subject_id, session_id, request_id, \
             detail, personal_sealed, lane, position, hash) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
        )
        .bind(event.id)
        .bind(event.time)
        .bind(&event.act)
        .bind(event.succeeded)
        .bind(&event.actor)
        .bind(event.actor_id)
        .bind(event.subject_id)
        .bind(event.session_id)
        .bind(&event.request_id)
        .bind(Json(&event.detail))
        .bind(&event.personal_sealed)
        .bind(event.link.map(|link| link.place.lane))
        .bind(event.link.map(|link| link.place.position))
        .bind(event.link.as_ref().map(|link| &link.hash[..]))
        .execute(self.conn())
        .await?;
        Ok(())
    }
}

/// What is vouched for of the end of a lane.
pub(super) fn head_statement(lane: i64, position: i64, hash: &ChainHash) -> Vec<u8> {
    [b"audit lane head v1".as_slice(), &lane.to_be_bytes(), &position.to_be_bytes(), hash].concat()
}

fn chain_hash(bytes: &[u8]) -> Result<ChainHash, StoreError> {
    bytes.try_into().map_err(|_| StoreError::corrupt("audit_lanes", "hash", "not 32 bytes".to_owned()))
}
