//! Reading the audit trail: page by page, or along its lanes.

use std::collections::HashMap;

use async_trait::async_trait;
use sqlx::{QueryBuilder, types::Json};
use uuid::Uuid;

use super::{Conn, Database, Db, LANES};
use crate::{
    crypto::audit_chain::{Place, UNREADABLE, stored_hash},
    domain::{
        audit::{Personal, PersonalDataVault},
        id::{EventId, SessionId},
        time::Timestamp,
        trail::{ActFilter, ActorFilter, ActorKind, EventCursor, EventFilter, EventOrder},
    },
    store::{
        StoreError,
        port::{ChainCheck, ChainLink, ChainReport, EventListing, Lane, LaneEnd, ReadEvent, RecordedEvent, TrailStore},
    },
};

/// The columns of an event, read by name.
macro_rules! event_columns {
    () => {
        "id, time, act, succeeded, actor, actor_id, subject_id, session_id, request_id, detail, personal_sealed, \
         lane, position, hash"
    };
}
pub(super) use event_columns;

#[derive(sqlx::FromRow)]
pub(super) struct EventRow {
    id: EventId,
    time: Timestamp,
    act: String,
    succeeded: bool,
    actor: String,
    actor_id: Option<Uuid>,
    subject_id: Option<Uuid>,
    session_id: Option<SessionId>,
    request_id: String,
    detail: Json<serde_json::Value>,
    personal_sealed: Option<Vec<u8>>,
    lane: Option<i64>,
    position: Option<i64>,
    hash: Option<Vec<u8>>,
}

impl From<EventRow> for RecordedEvent {
    /// Whatever its row says of its place: who tampers with that shall not hide it, or others beside it.
    fn from(row: EventRow) -> Self {
        let hash = row.hash.map_or(UNREADABLE, stored_hash);
        let link = match (row.lane, row.position) {
            (Some(lane), Some(position)) => Some(ChainLink { place: Place { lane, position }, hash }),
            _ => None,
        };
        Self {
            id: row.id,
            time: row.time,
            act: row.act,
            succeeded: row.succeeded,
            actor: row.actor,
            actor_id: row.actor_id,
            subject_id: row.subject_id,
            session_id: row.session_id,
            request_id: row.request_id,
            detail: row.detail.0,
            personal_sealed: row.personal_sealed,
            link,
        }
    }
}

#[derive(sqlx::FromRow)]
struct LaneRow {
    id: i64,
    position: i64,
    hash: Vec<u8>,
    mac: Option<Vec<u8>>,
    base_position: i64,
    base_hash: Vec<u8>,
    base_mac: Option<Vec<u8>>,
}

impl From<LaneRow> for Lane {
    /// An end that cannot be read is one that nothing vouches for.
    fn from(row: LaneRow) -> Self {
        let LaneRow { id: lane, position, hash, mac, base_position, base_hash, base_mac } = row;
        let end = |position, hash, mac: Option<Vec<u8>>| LaneEnd {
            link: ChainLink { place: Place { lane, position }, hash: stored_hash(hash) },
            mac: mac.and_then(|mac| mac.try_into().ok()),
        };
        Self { base: end(base_position, base_hash, base_mac), head: end(position, hash, mac) }
    }
}

#[async_trait]
impl TrailStore for Database {
    async fn list_events(&self, listing: EventListing) -> Result<Vec<ReadEvent>, StoreError> {
        let read = self.reading("list_events", &self.pools.read, listing, |conn, listing| {
            Box::pin(async move {
                let rows: Vec<EventRow> = listed(listing).build_query_as().fetch_all(&mut *conn).await?;
                with_keys(conn, rows).await
            })
        });
        let (events, keys) = read.await?;
        Ok(self.opened(events, &keys))
    }

    async fn lanes(&self) -> Result<Vec<Lane>, StoreError> {
        let read = self.reading("audit_lanes", &self.pools.read, (), |conn, ()| {
            Box::pin(async move {
                let rows: Vec<LaneRow> = sqlx::query_as(
                    "SELECT id, position, hash, mac, base_position, base_hash, base_mac FROM audit_lanes ORDER BY id",
                )
                .fetch_all(conn)
                .await?;
                Ok(rows)
            })
        });
        Ok(read.await?.into_iter().map(Lane::from).collect())
    }

    async fn read_lane(&self, after: Place, limit: u32) -> Result<Vec<ReadEvent>, StoreError> {
        let read = self.reading("read_lane", &self.pools.read, (after, limit), |conn, (after, limit)| {
            Box::pin(async move {
                let rows: Vec<EventRow> = sqlx::query_as(concat!(
                    "SELECT ",
                    event_columns!(),
                    " FROM audit_events WHERE lane = $1 AND position > $2 ORDER BY position LIMIT $3"
                ))
                .bind(after.lane)
                .bind(after.position)
                .bind(i64::from(*limit))
                .fetch_all(&mut *conn)
                .await?;
                with_keys(conn, rows).await
            })
        });
        let (events, keys) = read.await?;
        Ok(self.opened(events, &keys))
    }

    fn attest(&self, statement: &[u8]) -> [u8; 32] {
        self.around.vault.attest(statement)
    }

    fn lane_count(&self) -> i64 {
        LANES
    }

    async fn verify_audit_chain(&self, check: ChainCheck) -> Result<ChainReport, StoreError> {
        self.verify_chain(check).await
    }
}

/// Sealed data keys by owner.
type Keys = HashMap<Uuid, Vec<u8>>;

/// The events and the keys that what is personal in them may open with.
async fn with_keys(conn: &mut Conn, rows: Vec<EventRow>) -> Result<(Vec<RecordedEvent>, Keys), StoreError> {
    let events: Vec<RecordedEvent> = rows.into_iter().map(RecordedEvent::from).collect();
    let sealed = events.iter().filter(|event| event.personal_sealed.is_some());
    let mut owners: Vec<Uuid> = sealed.flat_map(owners).collect();
    owners.sort_unstable();
    owners.dedup();
    let keys: Vec<(Uuid, Vec<u8>)> =
        sqlx::query_as(concat!("SELECT owner_id, key_sealed FROM data_keys WHERE ", is_listed!("owner_id", "$1")))
            .bind(Json(owners))
            .fetch_all(conn)
            .await?;
    Ok((events, keys.into_iter().collect()))
}

impl Database {
    fn opened(&self, events: Vec<RecordedEvent>, keys: &Keys) -> Vec<ReadEvent> {
        let vault = &*self.around.vault;
        let opened = events.into_iter().map(|event| ReadEvent { personal: open(vault, &event, keys), event });
        opened.collect()
    }
}

/// Whose key what is personal in the event may be under, the likeliest first: the user's who acted; the subject's, as it is where
/// nobody had signed in, and was in all events once; nobody's.
fn owners(event: &RecordedEvent) -> impl Iterator<Item = Uuid> + use<> {
    [actor_key(event), event.subject_id, Some(Uuid::nil())].into_iter().flatten()
}

fn actor_key(event: &RecordedEvent) -> Option<Uuid> {
    event.actor_id.filter(|_| event.actor == ActorKind::User.as_str())
}

/// What is personal in the event; nothing if its key is gone. A user who acted and was erased stays so, also in events that
/// are under another's key. With a subject's key missing, which may be a service account, nobody's is tried: it does not open what was
/// an erased user's.
fn open(vault: &dyn PersonalDataVault, event: &RecordedEvent, keys: &Keys) -> Personal {
    let Some(sealed) = &event.personal_sealed else { return Personal::default() };
    if actor_key(event).is_some_and(|actor| !keys.contains_key(&actor)) {
        return Personal::default();
    }
    let mut problem = None;
    for owner in owners(event) {
        let Some(key) = keys.get(&owner) else { continue };
        match vault.open(owner, key, event.id, sealed) {
            Ok(personal) => return serde_json::from_slice(&personal).unwrap_or_default(),
            Err(another) => problem = Some(another),
        }
    }
    if let Some(problem) = problem
        && event.subject_id.is_none_or(|subject| keys.contains_key(&subject))
    {
        tracing::warn!(event = %event.id, %problem, "what is personal in an audit event does not open");
    }
    Personal::default()
}

/// A page of events, read along an index in their order as far as the filter allows.
pub(super) fn listed(listing: &EventListing) -> QueryBuilder<Db> {
    let EventListing { filter, order, behind, limit } = listing;
    let EventFilter { act, actor, subject, session, succeeded, since, before, request_id } = filter;
    let mut sql = QueryBuilder::new(concat!("SELECT ", event_columns!(), " FROM audit_events WHERE TRUE"));
    match act {
        Some(ActFilter::Named(name)) => {
            sql.push(" AND act = ").push_bind(name.clone());
        }
        Some(ActFilter::Beginning(beginning)) => {
            // Names have no character beyond 'z'.
            sql.push(concat!(" AND act", in_byte_order!(), " >= ")).push_bind(beginning.clone());
            sql.push(concat!(" AND act", in_byte_order!(), " < ")).push_bind(format!("{beginning}\u{7f}"));
        }
        None => {}
    }
    match actor {
        Some(ActorFilter::Kind(kind)) => {
            sql.push(" AND actor = ").push_bind(kind.as_str());
        }
        Some(ActorFilter::Subject(subject)) => {
            sql.push(" AND actor_id = ").push_bind(*subject.as_uuid());
        }
        None => {}
    }
    if let Some(subject) = subject {
        sql.push(" AND subject_id = ").push_bind(*subject.as_uuid());
    }
    if let Some(session) = session {
        sql.push(" AND session_id = ").push_bind(*session);
    }
    if let Some(succeeded) = succeeded {
        sql.push(" AND succeeded = ").push_bind(*succeeded);
    }
    if let Some(id) = request_id {
        sql.push(" AND request_id = ").push_bind(id.clone());
    }
    if let Some(since) = since {
        sql.push(" AND time >= ").push_bind(*since);
    }
    if let Some(before) = before {
        sql.push(" AND time < ").push_bind(*before);
    }
    if let Some(EventCursor { time, id }) = behind {
        let beyond = match order {
            EventOrder::NewestFirst => " AND (time, id) < (",
            EventOrder::OldestFirst => " AND (time, id) > (",
        };
        sql.push(beyond).push_bind(*time).push(", ").push_bind(*id).push(")");
    }
    sql.push(match order {
        EventOrder::NewestFirst => " ORDER BY time DESC, id DESC",
        EventOrder::OldestFirst => " ORDER BY time, id",
    });
    sql.push(" LIMIT ").push_bind(i64::from(*limit));
    sql
}
