//! The audit trail as chains of hashes.
//!
//! A transaction collects its events and appends them at its end, under the lock of one lane. Whoever comes to it while that
//! lane is held takes another one, so that writers wait for each other only where there are more of them than lanes; and
//! since nothing is locked after a lane, nobody who waits for one holds up whoever has it.
//!
//! The MAC of a head is checked before another one is made. A lane whose head is not vouched for goes on, and stays so: it is
//! better that the trail shows for ever that somebody wrote to it than that nobody can sign in; and no MAC of ours shall
//! ever stand over what somebody else wrote. The same holds for a lane that somebody put rows behind the head of, or whose hash
//! somebody made illegible: it goes on behind them.

use serde::Serialize;
use sqlx::types::Json;
use uuid::Uuid;

use super::{Database, LANES, Tx, imports::hex};
use crate::{
    crypto::audit_chain::{NOTHING, Place, head_statement, stored_hash},
    domain::{
        id::{EventId, SessionId},
        secret::random,
        time::Timestamp,
    },
    store::{
        StoreError,
        port::{ChainLink, RecordedEvent},
    },
};

/// From this many on, events are sent as a list.
const MANY: usize = 4;

/// So many events are sent in one statement.
const BATCH: usize = 500;

/// No lane that is written one event after another gets there. Whatever stands beyond is in nobody's way.
const CEILING: i64 = 1 << 62;

/// So many places a lane is never without.
const ROOM: i64 = 1 << 40;

/// The head `l` of a lane, and the last place behind it, below the ceiling, where a row stands that no transaction put there. To look for it
/// is one search of the index, which finds nothing. `l` is locked before, so that the search is made once and behind the head that counts.
macro_rules! head_of_lane {
    ($lane:expr) => {
        concat!(
            "SELECT l.id, l.position, l.hash, l.mac, (SELECT MAX(e.position) FROM audit_events e WHERE e.lane = l.id \
             AND e.position > l.position AND e.position < 4611686018427387904) FROM (",
            $lane,
            ") AS l"
        )
    };
}

/// The head of a lane that nobody else holds, if there is one. A lane that somebody added is none: it could be removed with all in it.
const FREE_LANE: &str = head_of_lane!(concat!(
    "SELECT id, position, hash, mac FROM audit_lanes WHERE id >= 0 AND id < $1 ORDER BY id LIMIT 1",
    for_update_of_free!()
));

/// The head of a lane; waits for whoever holds it.
const THAT_LANE: &str =
    head_of_lane!(concat!("SELECT id, position, hash, mac FROM audit_lanes WHERE id = $1", for_update!()));

/// A lane under lock: its id, position, hash, MAC, and the last place behind it that is taken.
type HeadRow = (i64, i64, Vec<u8>, Option<Vec<u8>>, Option<i64>);

/// The same without what is taken.
type BareRow = (i64, i64, Vec<u8>, Option<Vec<u8>>);

/// The end of a lane under lock.
pub(super) struct Head {
    link: ChainLink,
    mac: Option<Vec<u8>>,
    /// The last place behind it that is taken, which none should be.
    taken: Option<i64>,
}

impl Head {
    /// Where the lane goes on: behind its head, and behind whatever somebody put there. Where that leaves no room, or the head is
    /// nowhere, at a place that nobody could have foreseen.
    fn goes_on_behind(&self, drawn: u32) -> i64 {
        let Place { position, .. } = self.link.place;
        match self.taken {
            _ if position >= CEILING => CEILING / 2 + i64::from(drawn),
            None => position.max(0),
            Some(taken) if taken < CEILING - ROOM => taken.max(0),
            Some(_) => position.max(0) + 1 + i64::from(drawn),
        }
    }

    /// Puts an event behind it.
    pub(super) fn chain(&mut self, event: &mut RecordedEvent) {
        let place = Place { position: self.link.place.position + 1, ..self.link.place };
        self.link = ChainLink { place, hash: event.chained().hash(place, &self.link.hash) };
        event.link = Some(self.link);
    }
}

impl From<HeadRow> for Head {
    fn from((lane, position, hash, mac, taken): HeadRow) -> Self {
        Self { link: ChainLink { place: Place { lane, position }, hash: stored_hash(hash) }, mac, taken }
    }
}

/// An event as `listed_events!` reads it. Bytes are in hexadecimal digits.
#[derive(Serialize)]
struct ListedEvent<'a> {
    id: EventId,
    time: Timestamp,
    act: &'a str,
    succeeded: bool,
    actor: &'a str,
    actor_id: Option<Uuid>,
    subject_id: Option<Uuid>,
    session_id: Option<SessionId>,
    request_id: &'a str,
    detail: &'a serde_json::Value,
    personal_sealed: Option<String>,
    lane: Option<i64>,
    position: Option<i64>,
    hash: Option<String>,
}

impl<'a> From<&'a RecordedEvent> for ListedEvent<'a> {
    fn from(event: &'a RecordedEvent) -> Self {
        Self {
            id: event.id,
            time: event.time,
            act: &event.act,
            succeeded: event.succeeded,
            actor: &event.actor,
            actor_id: event.actor_id,
            subject_id: event.subject_id,
            session_id: event.session_id,
            request_id: &event.request_id,
            detail: &event.detail,
            personal_sealed: event.personal_sealed.as_deref().map(hex),
            lane: event.link.map(|link| link.place.lane),
            position: event.link.map(|link| link.place.position),
            hash: event.link.map(|link| hex(&link.hash)),
        }
    }
}

impl Tx {
    /// Puts an event at the end of this transaction.
    pub(super) fn note_event(&mut self, event: RecordedEvent) {
        self.events.push(event);
    }

    /// Appends the events of this transaction to a lane. The last thing before the commit.
    pub(super) async fn append_events(&mut self) -> Result<(), StoreError> {
        let mut events = std::mem::take(&mut self.events);
        if events.is_empty() {
            return Ok(());
        }
        let mut head = self.lock_lane().await?;
        let vouched = head.as_mut().is_some_and(|head| self.take_up(head));
        for event in &mut events {
            if let Some(head) = &mut head {
                head.chain(event);
            }
        }
        if events.len() < MANY {
            for event in &events {
                self.insert_event(event).await?;
            }
        } else {
            for events in events.chunks(BATCH) {
                self.insert_events(events).await?;
            }
        }
        match head {
            Some(head) => self.store_head(head, vouched).await,
            None => Ok(()),
        }
    }

    /// Goes to where the lane goes on. Whether nobody else has written this head, or a row behind it.
    pub(super) fn take_up(&self, head: &mut Head) -> bool {
        let Head { link: ChainLink { place, hash }, mac, taken } = &*head;
        let written = mac.as_deref() == Some(&self.around().vault.attest(&head_statement(*place, hash))[..]);
        if written && taken.is_none() {
            return true;
        }
        let Place { lane, position } = *place;
        let problem = if written { "somebody put rows behind the head of" } else { "nobody vouches for the head of" };
        tracing::error!(lane, position, ?taken, "{problem} a lane of the audit trail: verify the trail");
        let drawn = u32::from_le_bytes(random(&*self.around().entropy));
        head.link.place.position = head.goes_on_behind(drawn);
        false
    }

    /// Moves the end of a lane. One that was not vouched for is not now, and loses its MAC: with it somebody could set the end back to
    /// where it once was, and remove everything since.
    pub(super) async fn store_head(&mut self, head: Head, vouched: bool) -> Result<(), StoreError> {
        let ChainLink { place, hash } = head.link;
        let mac = vouched.then(|| self.around().vault.attest(&head_statement(place, &hash)).to_vec());
        sqlx::query("UPDATE audit_lanes SET position = $2, hash = $3, mac = $4 WHERE id = $1")
            .bind(place.lane)
            .bind(place.position)
            .bind(&hash[..])
            .bind(mac)
            .execute(self.conn())
            .await?;
        Ok(())
    }

    /// Locks a lane that nobody holds; if all are held, waits for any one. `None`: somebody removed them all, and what happens is
    /// recorded without a place rather than not at all.
    pub(super) async fn lock_lane(&mut self) -> Result<Option<Head>, StoreError> {
        let free: Option<HeadRow> = sqlx::query_as(FREE_LANE).bind(LANES).fetch_optional(self.conn()).await?;
        if let Some(head) = free {
            return Ok(Some(head.into()));
        }
        let lanes: Vec<(i64,)> = sqlx::query_as("SELECT id FROM audit_lanes WHERE id >= 0 AND id < $1 ORDER BY id")
            .bind(LANES)
            .fetch_all(self.conn())
            .await?;
        let [drawn] = random(&*self.around().entropy);
        let Some((lane,)) = lanes.get(usize::from(drawn) % lanes.len().max(1)) else {
            tracing::error!("the audit trail has no lane: verify the trail");
            return Ok(None);
        };
        let head: Option<HeadRow> = sqlx::query_as(THAT_LANE).bind(*lane).fetch_optional(self.conn()).await?;
        Ok(head.map(Head::from))
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

    async fn insert_events(&mut self, events: &[RecordedEvent]) -> Result<(), StoreError> {
        sqlx::query(concat!(
            "INSERT INTO audit_events (id, time, act, succeeded, actor, actor_id, subject_id, session_id, request_id, \
             detail, personal_sealed, lane, position, hash) SELECT w.id, w.time, w.act, w.succeeded, w.actor, \
             w.actor_id, w.subject_id, w.session_id, w.request_id, w.detail, ",
            from_hex!("w.personal_sealed"),
            ", w.lane, w.position, ",
            from_hex!("w.hash"),
            " FROM ",
            listed_events!("$1")
        ))
        .bind(Json(events.iter().map(ListedEvent::from).collect::<Vec<_>>()))
        .execute(self.conn())
        .await?;
        Ok(())
    }
}

impl Database {
    /// Vouches for the lanes of a trail that has not begun, so that from then on a lane that nothing vouches for is one that
    /// somebody wrote to or emptied, which each start tells. Of nodes that start at once, one does it.
    pub(in crate::store) async fn begin_trail(&self) -> Result<(), StoreError> {
        let unsigned = self.reading("unsigned_lanes", &self.pools.read, (), |conn, ()| {
            Box::pin(async move {
                let (count,): (i64,) =
                    sqlx::query_as("SELECT COUNT(*) FROM audit_lanes WHERE mac IS NULL").fetch_one(conn).await?;
                Ok(count)
            })
        });
        if unsigned.await? == 0 {
            return Ok(());
        }
        self.transaction("begin_trail", (), |tx, ()| Box::pin(tx.begin_trail())).await
    }
}

impl Tx {
    async fn begin_trail(&mut self) -> Result<(), StoreError> {
        let lanes: Vec<BareRow> =
            sqlx::query_as(concat!("SELECT id, position, hash, mac FROM audit_lanes ORDER BY id", for_update!()))
                .fetch_all(self.conn())
                .await?;
        // Another node may have done it in the meantime.
        if lanes.iter().all(|(.., mac)| mac.is_some()) {
            return Ok(());
        }
        let (placed,): (i64,) = sqlx::query_as(
            "SELECT COUNT(*) FROM (SELECT 1 FROM audit_events WHERE lane IS NOT NULL LIMIT 1) AS placed",
        )
        .fetch_one(self.conn())
        .await?;
        let untouched = |(_, position, hash, mac): &BareRow| *position == 0 && *hash == NOTHING && mac.is_none();
        if placed > 0 || !lanes.iter().all(untouched) {
            tracing::error!("a lane of the audit trail has no MAC, and the trail is not new: verify the trail");
            return Ok(());
        }
        self.check_key().await?;
        for (lane, position, hash, mac) in lanes {
            self.store_head((lane, position, hash, mac, None).into(), true).await?;
        }
        Ok(())
    }
}

impl Tx {
    /// Whether the master key is the one of this database, as far as anything tells: by no other shall a trail be begun, since
    /// nothing would ever fit it.
    async fn check_key(&mut self) -> Result<(), StoreError> {
        let some: Option<(Uuid, Vec<u8>)> =
            sqlx::query_as("SELECT owner_id, key_sealed FROM data_keys ORDER BY owner_id LIMIT 1")
                .fetch_optional(self.conn())
                .await?;
        let Some((owner, key)) = some else { return Ok(()) };
        match self.around().vault.seal(owner, &key, EventId::from_uuid(Uuid::nil()), &[]) {
            Ok(_) => Ok(()),
            Err(problem) => Err(StoreError::corrupt("data_keys", "key_sealed", problem)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head(position: i64, taken: Option<i64>) -> Head {
        Head { link: ChainLink { place: Place { lane: 0, position }, hash: NOTHING }, mac: None, taken }
    }

    #[test]
    fn a_lane_goes_on_behind_its_head_and_what_was_put_there() {
        assert_eq!(head(7, None).goes_on_behind(5), 7);
        assert_eq!(head(7, Some(12)).goes_on_behind(5), 12);
        assert_eq!(head(-3, None).goes_on_behind(5), 0);
        assert_eq!(head(-3, Some(-1)).goes_on_behind(5), 0);
        assert_eq!(head(7, Some(CEILING - 1)).goes_on_behind(5), 13, "there is no room behind it");
    }

    proptest! {
        /// Whatever somebody wrote: there is room behind, and nothing overflows.
        #[test]
        fn there_is_always_room(position in any::<i64>(), taken in prop::option::of(any::<i64>()), drawn in any::<u32>()) {
            let taken = taken.filter(|taken| *taken > position && *taken < CEILING);
            let next = head(position, taken).goes_on_behind(drawn);
            prop_assert!((0..=CEILING + ROOM).contains(&next), "{next}");
        }
    }
}
