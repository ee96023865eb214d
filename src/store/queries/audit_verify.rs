//! Checking the chains of the audit trail, while others go on writing to it.
//!
//! The heads are read first and each lane followed up to its own, page by page, so that no snapshot is held for long. What
//! is removed for its age meanwhile moves the base of its lane; that is read after each page, so that whatever a page lacks
//! because of it is known to be gone.

use std::collections::BTreeSet;

use sqlx::{FromRow as _, Row as _};

use super::{Conn, Database, Db, trail::EventRow};
use crate::{
    crypto::audit_chain::{ChainHash, NOTHING, Place, base_statement, head_statement, stored_hash},
    domain::id::EventId,
    store::{
        StoreError,
        chain_walk::{Faults, Step, Walk},
        port::{ChainCheck, ChainLink, ChainReport, FaultKind, Lane, LaneEnd, RecordedEvent, TrailStore as _},
    },
};

/// So many events are looked at at a time.
const PAGE: i64 = 500;

/// What an event says, and beside it where it claims to stand, which may be nonsense. Qualified: an output column that is called
/// like one of the table would be what is sorted by.
const PAGE_OF_LANE: &str = "SELECT e.id, e.time, e.act, e.succeeded, e.actor, e.actor_id, e.subject_id, e.session_id, \
     e.request_id, e.detail, e.personal_sealed, CAST(NULL AS BIGINT) AS lane, CAST(NULL AS BIGINT) AS position, \
     CAST(NULL AS BYTEA) AS hash, e.position AS place, e.hash AS stored FROM audit_events e \
     WHERE e.lane = $1 AND e.position >= $2 AND (e.position > $2 OR e.id > $3) AND e.position <= $4 \
     ORDER BY e.position, e.id LIMIT $5";

/// How far each lane goes by its row and by its events, of one moment, in which nobody is half done. Each end is looked up in the
/// index, however long the trail is.
const EXTENTS: &str = "SELECT l.id, l.base_position, l.position, \
     (SELECT MIN(e.position) FROM audit_events e WHERE e.lane = l.id), \
     (SELECT MAX(e.position) FROM audit_events e WHERE e.lane = l.id), \
     EXISTS (SELECT 1 FROM audit_events e WHERE e.lane = l.id AND e.position IS NULL) FROM audit_lanes l ORDER BY l.id";

/// The events of a lane that are where none can be.
const STRAY: &str = "SELECT lane, position, id FROM audit_events WHERE lane = $1 \
     AND (position IS NULL OR position <= $2 OR position > $3 AND position <= $4) ORDER BY position LIMIT $5";

/// A row of [`EXTENTS`].
type Extent = (i64, i64, i64, Option<i64>, Option<i64>, bool);

/// A row of a lane.
struct Found {
    position: i64,
    id: Option<EventId>,
    hash: Option<ChainHash>,
    /// None if it cannot be read.
    says: Option<RecordedEvent>,
}

/// How far a check has come.
struct Check {
    wanted: ChainCheck,
    faults: Faults,
    report: ChainReport,
}

impl Database {
    /// See the port.
    pub(super) async fn verify_chain(&self, wanted: ChainCheck) -> Result<ChainReport, StoreError> {
        let lanes = self.lanes().await?;
        let unplaced = self.unplaced().await?;
        let report = ChainReport { unplaced, ..ChainReport::default() };
        let mut check = Check { faults: Faults::up_to(wanted.faults), wanted, report };
        if check.wanted.behind.is_none() {
            self.check_outline(&lanes, &mut check).await?;
        }
        let begin = check.wanted.behind.map_or(i64::MIN, |link| link.place.lane);
        for lane in lanes.iter().filter(|lane| lane.head.link.place.lane >= begin) {
            let own = check.wanted.behind.filter(|link| link.place.lane == lane.head.link.place.lane);
            let walk = own.map_or_else(|| Walk::of(lane.head.link.place.lane), Walk::behind);
            if let Some(stopped) = self.check_lane(lane, walk, &mut check).await? {
                check.report.next = Some(stopped);
                break;
            }
        }
        let (faults, more_faults) = check.faults.into_parts();
        Ok(ChainReport { faults, more_faults, ..check.report })
    }

    /// Follows a lane to its head. Where it stopped, if that was before.
    async fn check_lane(
        &self,
        lane: &Lane,
        mut walk: Walk,
        check: &mut Check,
    ) -> Result<Option<ChainLink>, StoreError> {
        let head = lane.head;
        let id = head.link.place.lane;
        let (mut behind, mut base) = (EventId::from_uuid(uuid::Uuid::max()), None);
        loop {
            if check.report.events >= check.wanted.events {
                return Ok(Some(walk.last()));
            }
            let after = (walk.last().place, behind, head.link.place.position);
            let (found, now) = self.page_of_lane(after).await?;
            let Some(now) = now else {
                check.faults.push(FaultKind::Lane, Place { lane: id, position: 0 }, None);
                return Ok(None);
            };
            if base != Some(now) {
                self.check_base(&now, check);
                base = Some(now);
            }
            let removed = now.link.place.position;
            let since = walk.last().place.position;
            if removed > since {
                walk = Walk::behind(now.link);
                check.report.not_compared.extend(walk.removed(since, &check.wanted.checkpoint));
                walk.compare(removed - 1, &check.wanted.checkpoint, &mut check.faults);
            }
            let whole = i64::try_from(found.len()).unwrap_or(i64::MAX) < PAGE;
            behind = found.last().and_then(|found| found.id).unwrap_or(behind);
            for found in found.iter().filter(|found| found.position > removed) {
                check.report.events += 1;
                let since = walk.last().place.position;
                walk.pass(found.step(), &mut check.faults);
                walk.compare(since, &check.wanted.checkpoint, &mut check.faults);
            }
            if whole {
                walk.end(head.link, &mut check.faults);
                walk.misses(&check.wanted.checkpoint, &mut check.faults);
                self.check_head(&head, check);
                check.report.heads.push(head);
                return Ok(None);
            }
        }
    }

    /// A removed event is vouched for; before the first removal there is nothing to vouch for.
    fn check_base(&self, base: &LaneEnd, check: &mut Check) {
        let ChainLink { place, hash } = base.link;
        let nothing = place.position == 0 && hash == NOTHING;
        if !nothing && base.mac != Some(self.around.vault.attest(&base_statement(place, &hash))) {
            check.faults.push(FaultKind::BaseMac, place, None);
        }
    }

    fn check_head(&self, head: &LaneEnd, check: &mut Check) {
        let ChainLink { place, hash } = head.link;
        if head.mac != Some(self.around.vault.attest(&head_statement(place, &hash))) {
            check.faults.push(FaultKind::HeadMac, place, None);
        }
    }

    /// What shows without following any lane: lanes that are gone, events where none can be.
    async fn check_outline(&self, lanes: &[Lane], check: &mut Check) -> Result<(), StoreError> {
        let known: BTreeSet<i64> = lanes.iter().map(|lane| lane.head.link.place.lane).collect();
        for lane in (0..super::LANES).filter(|lane| !known.contains(lane)) {
            check.faults.push(FaultKind::Lane, Place { lane, position: 0 }, None);
        }
        for seen in check.wanted.checkpoint.iter().filter(|seen| !known.contains(&seen.place.lane)) {
            check.faults.push(FaultKind::Checkpoint, seen.place, None);
        }
        let limit = i64::try_from(check.wanted.faults.saturating_add(1)).unwrap_or(i64::MAX);
        let mut stray = self.stray(limit).await?;
        stray.extend(self.in_no_lane(known, limit).await?);
        for (place, event) in stray {
            check.faults.push(FaultKind::Unexpected, place, event);
        }
        Ok(())
    }

    async fn unplaced(&self) -> Result<u64, StoreError> {
        self.reading("unplaced_events", &self.pools.read, (), |conn, ()| {
            Box::pin(async move {
                let (count,): (i64,) =
                    sqlx::query_as("SELECT COUNT(*) FROM audit_events WHERE lane IS NULL").fetch_one(conn).await?;
                Ok(u64::try_from(count).unwrap_or(0))
            })
        })
        .await
    }

    /// Events behind the head of their lane, before its base, or without a position.
    async fn stray(&self, limit: i64) -> Result<Vec<(Place, Option<EventId>)>, StoreError> {
        self.reading("stray_events", &self.pools.read, limit, |conn, limit| {
            Box::pin(async move {
                let lanes: Vec<Extent> = sqlx::query_as(EXTENTS).fetch_all(&mut *conn).await?;
                let mut stray = Vec::new();
                for (lane, base, head, first, last, homeless) in lanes {
                    if base > head {
                        // Nothing is ever removed that was never appended.
                        stray.push((Place { lane, position: base }, None));
                    }
                    if !homeless && first.is_none_or(|first| first > base) && last.is_none_or(|last| last <= head) {
                        continue;
                    }
                    let rows = sqlx::query(STRAY)
                        .bind(lane)
                        .bind(base)
                        .bind(head)
                        .bind(last.unwrap_or(head))
                        .bind(*limit)
                        .fetch_all(&mut *conn)
                        .await?;
                    stray.extend(rows.iter().map(place_of));
                }
                Ok(stray)
            })
        })
        .await
    }

    /// Events in lanes that there are not. From lane to lane along the index.
    async fn in_no_lane(&self, known: BTreeSet<i64>, limit: i64) -> Result<Vec<(Place, Option<EventId>)>, StoreError> {
        self.reading("events_in_no_lane", &self.pools.read, (known, limit), |conn, (known, limit)| {
            Box::pin(async move {
                let (mut found, mut after) = (Vec::new(), i64::MIN);
                while let Some(lane) = next_lane(conn, after).await? {
                    after = lane;
                    if known.contains(&lane) {
                        continue;
                    }
                    let rows = sqlx::query("SELECT lane, position, id FROM audit_events WHERE lane = $1 LIMIT $2")
                        .bind(lane)
                        .bind(*limit)
                        .fetch_all(&mut *conn)
                        .await?;
                    found.extend(rows.iter().map(place_of));
                    if i64::try_from(found.len()).unwrap_or(i64::MAX) >= *limit {
                        break;
                    }
                }
                Ok(found)
            })
        })
        .await
    }

    /// The events of a lane behind one, up to a position, and after that the lane's base; None if there is no lane.
    async fn page_of_lane(&self, after: (Place, EventId, i64)) -> Result<(Vec<Found>, Option<LaneEnd>), StoreError> {
        let lane = after.0.lane;
        let read = self.reading("page_of_lane", &self.pools.read, after, |conn, (place, id, last)| {
            Box::pin(async move {
                let rows = sqlx::query(PAGE_OF_LANE)
                    .bind(place.lane)
                    .bind(place.position)
                    .bind(*id)
                    .bind(*last)
                    .bind(PAGE)
                    .fetch_all(&mut *conn)
                    .await?;
                let found = rows.iter().map(Found::read).collect::<Result<Vec<_>, StoreError>>()?;
                let base: Option<(i64, Vec<u8>, Option<Vec<u8>>)> =
                    sqlx::query_as("SELECT base_position, base_hash, base_mac FROM audit_lanes WHERE id = $1")
                        .bind(place.lane)
                        .fetch_optional(&mut *conn)
                        .await?;
                Ok((found, base))
            })
        });
        let (found, base) = read.await?;
        let base = base.map(|(position, hash, mac)| LaneEnd {
            link: ChainLink { place: Place { lane, position }, hash: stored_hash(hash) },
            mac: mac.and_then(|mac| mac.try_into().ok()),
        });
        Ok((found, base))
    }
}

impl Found {
    /// Everything as far as it can be read: a row that somebody made illegible shall not hide the others.
    fn read(row: &<Db as sqlx::Database>::Row) -> Result<Self, StoreError> {
        Ok(Self {
            position: row.try_get("place")?,
            id: row.try_get("id").ok(),
            hash: row.try_get::<Vec<u8>, _>("stored").ok().and_then(|hash| hash.try_into().ok()),
            says: EventRow::from_row(row).ok().map(RecordedEvent::from),
        })
    }

    fn step(&self) -> Step<'_> {
        Step { position: self.position, hash: self.hash, says: self.says.as_ref().map(RecordedEvent::chained) }
    }
}

fn place_of(row: &<Db as sqlx::Database>::Row) -> (Place, Option<EventId>) {
    let place =
        Place { lane: row.try_get("lane").unwrap_or_default(), position: row.try_get("position").unwrap_or_default() };
    (place, row.try_get("id").ok())
}

async fn next_lane(conn: &mut Conn, after: i64) -> Result<Option<i64>, StoreError> {
    let (lane,): (Option<i64>,) =
        sqlx::query_as("SELECT MIN(lane) FROM audit_events WHERE lane > $1").bind(after).fetch_one(conn).await?;
    Ok(lane)
}
