//! Taking events of older versions into the chains, and removing what is too old to be kept.

use serde::Serialize;
use sqlx::types::Json;

use super::{
    Database, Tx,
    imports::hex,
    trail::{EventRow, event_columns},
};
use crate::{
    crypto::audit_chain::{ChainHash, NOTHING, Place, base_statement, head_statement},
    domain::{
        audit::{Act, Actor, AuditEvent, Origin},
        id::EventId,
        time::Timestamp,
    },
    store::{
        StoreError,
        chain_walk::{Faults, Step, Walk},
        port::{ChainLink, PrunedEvents, RecordedEvent},
    },
};

/// So many events are taken in or removed in one transaction.
const BATCH: i64 = 1_000;

/// A place, as `listed_places!` reads it.
#[derive(Serialize)]
struct ListedPlace {
    id: EventId,
    lane: i64,
    position: i64,
    hash: String,
}

/// What became of one batch of a lane.
enum Batch {
    /// So many are gone.
    Removed(u64),
    /// Something in it is not as it was written. What shows it stays.
    Damaged,
}

impl Database {
    /// See the port.
    pub(super) async fn adopt(&self) -> Result<u64, StoreError> {
        let mut adopted = 0;
        loop {
            match self.transaction("adopt_events", (), |tx, ()| Box::pin(tx.adopt())).await? {
                0 => return Ok(adopted),
                count => adopted += count,
            }
        }
    }

    /// See the port.
    pub(super) async fn prune(&self, before: Timestamp) -> Result<PrunedEvents, StoreError> {
        let mut pruned = PrunedEvents::default();
        for lane in self.lanes_with_events_before(before).await? {
            loop {
                let batch = self.transaction("prune_events", (lane, before), |tx, (lane, before)| {
                    Box::pin(tx.prune(*lane, *before))
                });
                match batch.await? {
                    Batch::Removed(0) => break,
                    Batch::Removed(count) => pruned.removed += count,
                    Batch::Damaged => {
                        tracing::error!(
                            lane,
                            "what is too old in a lane of the audit trail is not as it was written: it stays"
                        );
                        pruned.damaged_lanes += 1;
                        break;
                    }
                }
            }
        }
        Ok(pruned)
    }

    /// The lanes whose first event is of before that moment.
    async fn lanes_with_events_before(&self, before: Timestamp) -> Result<Vec<i64>, StoreError> {
        self.reading("lanes_to_prune", &self.pools.read, before, |conn, before| {
            Box::pin(async move {
                let lanes: Vec<(i64,)> = sqlx::query_as(
                    "SELECT l.id FROM audit_lanes l JOIN audit_events e ON e.lane = l.id \
                     AND e.position = l.base_position + 1 WHERE e.time < $1 ORDER BY l.id",
                )
                .bind(*before)
                .fetch_all(conn)
                .await?;
                Ok(lanes.into_iter().map(|(lane,)| lane).collect())
            })
        })
        .await
    }
}

/// The position, the hash and the MAC of one end of a lane.
type LaneEndRow = (i64, Vec<u8>, Option<Vec<u8>>);

impl Tx {
    /// Takes in a batch. How many.
    async fn adopt(&mut self) -> Result<u64, StoreError> {
        let rows: Vec<EventRow> = sqlx::query_as(concat!(
            "SELECT ",
            event_columns!(),
            " FROM audit_events WHERE lane IS NULL ORDER BY id LIMIT $1",
            for_update!()
        ))
        .bind(BATCH)
        .fetch_all(self.conn())
        .await?;
        if rows.is_empty() {
            return Ok(0);
        }
        let Some(mut head) = self.lock_lane().await? else { return Ok(0) };
        let vouched = self.take_up(&mut head);
        let mut places = Vec::with_capacity(rows.len());
        for row in rows {
            // Whatever it says of a position or a hash beside a lane that it does not name.
            let mut event = RecordedEvent::from(row);
            head.chain(&mut event);
            if let Some(ChainLink { place: Place { lane, position }, hash }) = event.link {
                places.push(ListedPlace { id: event.id, lane, position, hash: hex(&hash) });
            }
        }
        sqlx::query(concat!(
            "UPDATE audit_events SET lane = w.lane, position = w.position, hash = ",
            from_hex!("w.hash"),
            " FROM ",
            listed_places!("$1"),
            " WHERE audit_events.id = w.id"
        ))
        .bind(Json(&places))
        .execute(self.conn())
        .await?;
        self.store_head(head, vouched).await?;
        let count = u64::try_from(places.len()).unwrap_or(u64::MAX);
        self.audit(&by_itself(Act::EventsAdopted { count })).await?;
        Ok(count)
    }

    /// Removes the events at the beginning of a lane that are of before that moment, at most a batch of them.
    async fn prune(&mut self, lane: i64, before: Timestamp) -> Result<Batch, StoreError> {
        let ends = self.lock_ends(lane).await?;
        let Some(((position, hash, mac), head)) = ends else { return Ok(Batch::Removed(0)) };
        let base = self.vouched_base(Place { lane, position }, hash, mac.as_deref());
        // Without a head that is vouched for, whoever can write rows could have theirs removed, and with a base of ours.
        let (Some(base), Some(head)) = (base, self.vouched_head(lane, head)) else { return Ok(Batch::Damaged) };
        let rows: Vec<EventRow> = sqlx::query_as(concat!(
            "SELECT ",
            event_columns!(),
            " FROM audit_events WHERE lane = $1 AND position > $2 ORDER BY position LIMIT $3"
        ))
        .bind(lane)
        .bind(position)
        .bind(BATCH)
        .fetch_all(self.conn())
        .await?;
        let (mut walk, mut faults) = (Walk::behind(base), Faults::up_to(0));
        for row in rows {
            let event = RecordedEvent::from(row);
            if event.time >= before {
                break;
            }
            let Some(ChainLink { place, hash }) = event.link else { return Ok(Batch::Damaged) };
            if place.position > head.place.position || (place.position == head.place.position && hash != head.hash) {
                return Ok(Batch::Damaged);
            }
            walk.pass(Step { position: place.position, hash: Some(hash), says: Some(event.chained()) }, &mut faults);
        }
        if !faults.is_empty() {
            return Ok(Batch::Damaged);
        }
        if walk.last() == base {
            return Ok(Batch::Removed(0));
        }
        self.remove(base, walk.last()).await
    }

    /// Removes the events of a lane behind one and up to another, which is the base from now on.
    async fn remove(&mut self, base: ChainLink, last: ChainLink) -> Result<Batch, StoreError> {
        let ChainLink { place: Place { lane, position }, hash } = last;
        let gone = sqlx::query("DELETE FROM audit_events WHERE lane = $1 AND position > $2 AND position <= $3")
            .bind(lane)
            .bind(base.place.position)
            .bind(position)
            .execute(self.conn())
            .await?;
        let mac = self.around().vault.attest(&base_statement(last.place, &hash));
        sqlx::query("UPDATE audit_lanes SET base_position = $2, base_hash = $3, base_mac = $4 WHERE id = $1")
            .bind(lane)
            .bind(position)
            .bind(&hash[..])
            .bind(&mac[..])
            .execute(self.conn())
            .await?;
        let first = base.place.position + 1;
        self.audit(&by_itself(Act::EventsPruned { lane, first, last: position })).await?;
        Ok(Batch::Removed(gone.rows_affected()))
    }

    /// Locks a lane. Its base and its head: each one's position, hash and MAC.
    async fn lock_ends(&mut self, lane: i64) -> Result<Option<(LaneEndRow, LaneEndRow)>, StoreError> {
        type Row = (i64, Vec<u8>, Option<Vec<u8>>, i64, Vec<u8>, Option<Vec<u8>>);
        let row: Option<Row> = sqlx::query_as(concat!(
            "SELECT base_position, base_hash, base_mac, position, hash, mac FROM audit_lanes WHERE id = $1",
            for_update!()
        ))
        .bind(lane)
        .fetch_optional(self.conn())
        .await?;
        Ok(row.map(|(base, base_hash, base_mac, head, hash, mac)| ((base, base_hash, base_mac), (head, hash, mac))))
    }

    /// The head of a lane, unless somebody else wrote it.
    fn vouched_head(&self, lane: i64, (position, hash, mac): LaneEndRow) -> Option<ChainLink> {
        let (place, hash) = (Place { lane, position }, ChainHash::try_from(hash).ok()?);
        let vouched = mac.as_deref() == Some(&self.around().vault.attest(&head_statement(place, &hash))[..]);
        vouched.then_some(ChainLink { place, hash })
    }

    /// The base of a lane, unless somebody else wrote it.
    fn vouched_base(&self, place: Place, hash: Vec<u8>, mac: Option<&[u8]>) -> Option<ChainLink> {
        let hash: ChainHash = hash.try_into().ok()?;
        let new = place.position == 0 && hash == NOTHING;
        let vouched = mac == Some(&self.around().vault.attest(&base_statement(place, &hash))[..]);
        (new || vouched).then_some(ChainLink { place, hash })
    }
}

const fn by_itself(act: Act) -> AuditEvent {
    AuditEvent {
        actor: Actor::System,
        subject: None,
        act,
        origin: Origin { request_id: String::new(), ip_address: String::new(), user_agent: String::new() },
    }
}
