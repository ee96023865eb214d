//! `WatchAuditEvents`: every event exactly once, whatever order transactions commit in.
//!
//! Events of a lane become visible in the order of their positions, because whoever writes to it holds its lock until the
//! commit is through. So what was read of the trail is one position for each lane, and nothing can appear before it later.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::TrailCursor;
use crate::{
    domain::{field::FieldViolation, secret::SecretString, time::Timestamp},
    service::{Service, ServiceError, WatchPlace},
    store::port::{Lane, ReadEvent},
    telemetry::OpenAuditWatch,
};

/// Most watches of the trail at once at a node. Each asks the database once a second, and sooner of what this node recorded.
pub(in crate::service) const AUDIT_WATCHES: usize = 64;
/// The permission that it takes, for as long as it lasts.
const PERMISSION: &str = "audit:read";
/// How often the trail is looked at, and the longest that a watcher hears nothing.
const PERIOD: Duration = Duration::from_secs(1);
/// The shortest time between two looks, for each watch there is: however many there are, together they look some twenty times a
/// second, or each once.
const PACE: Duration = Duration::from_millis(50);
/// At most about this many events in a look.
const LOOK: usize = 512;

/// Where a watch begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchFrom {
    /// Behind the last event there is.
    Now,
    /// Before the first event there is.
    Beginning,
    /// Behind what was read before.
    Cursor(TrailCursor),
}

/// Somebody who watches the trail.
#[derive(Debug)]
pub struct AuditWatch {
    service: Arc<Service>,
    cursor: TrailCursor,
    /// With which the watcher was admitted; none for the operator.
    token: Option<SecretString>,
    /// The lanes as they were at the beginning.
    lanes: Vec<Lane>,
    /// Of what this node recorded.
    news: watch::Receiver<u64>,
    #[expect(dead_code, reason = "what counts is when it is dropped")]
    counted: OpenAuditWatch,
}

impl Service {
    /// Watches the trail, for as long as `token` is good and its bearer may, if there is one.
    ///
    /// # Errors
    /// If the cursor is of another trail; `Busy` if there are too many watches; `Unavailable`.
    pub async fn watch_audit_events(
        self: &Arc<Self>,
        from: WatchFrom,
        token: Option<SecretString>,
    ) -> Result<(AuditWatch, WatchPlace), ServiceError> {
        if self.stopping().is_cancelled() {
            return Err(ServiceError::Unavailable { cause: "this node is stopping".into() });
        }
        let place = self.audit_watches.enter()?;
        let lanes = self.store.lanes().await?;
        let cursor = match from {
            WatchFrom::Now => TrailCursor::end(&lanes),
            WatchFrom::Beginning => TrailCursor::beginning(&lanes),
            WatchFrom::Cursor(cursor) => cursor,
        };
        cursor.behind(&lanes).map_err(|error| FieldViolation::new("cursor", error))?;
        let (news, counted) = (self.feed.observer().recordings(), self.metrics.audit_watch());
        Ok((AuditWatch { service: Arc::clone(self), cursor, token, lanes, news, counted }, place))
    }
}

impl AuditWatch {
    /// The lanes as they were when the watch began.
    pub fn lanes(&self) -> &[Lane] {
        &self.lanes
    }

    /// Where the watch begins.
    pub fn cursor(&self) -> TrailCursor {
        self.cursor.clone()
    }

    /// What was recorded since the last look, those of one lane in their order; and whether there is more of it already.
    ///
    /// # Errors
    /// Why the watch must end.
    pub async fn look(&mut self) -> Result<(Vec<ReadEvent>, bool), ServiceError> {
        if let Some(token) = &self.token {
            self.service.warrant(token, PERMISSION).await?;
        }
        let store = &self.service.store;
        // Before the look: what is recorded during it is for the next one.
        self.news.mark_unchanged();
        let lanes = store.lanes().await?;
        let heads: HashMap<i64, i64> =
            lanes.iter().map(|lane| (lane.head.link.place.lane, lane.head.link.place.position)).collect();
        let behind = self.cursor.behind(&lanes).map_err(|error| FieldViolation::new("cursor", error))?;
        // Of each lane as much as of the others, so that none waits for them.
        let share = (LOOK / behind.len().max(1)).max(1);
        let mut found = Vec::new();
        let mut more = false;
        for place in behind {
            let mut events = store.read_lane(place, u32::try_from(share).unwrap_or(u32::MAX)).await?;
            // Whatever somebody put behind the head is no event yet, and for a check to tell of; and nobody goes on from there.
            let head = heads.get(&place.lane).copied().unwrap_or_default();
            events.retain(|read| read.event.link.is_some_and(|link| link.place.position <= head));
            // Not of what is behind the head, or it would be looked at again and again.
            more |= events.len() >= share;
            let first = events.first().and_then(|first| first.event.link).map(|link| link.place.position);
            if first.is_some_and(|first| first != place.position + 1) {
                // Removed for age since the lanes were looked at? Any other gap is for a check to tell of.
                let lanes = store.lanes().await?;
                self.cursor.behind(&lanes).map_err(|error| FieldViolation::new("cursor", error))?;
            }
            if let Some(link) = events.last().and_then(|last| last.event.link) {
                self.cursor.advance(link.place);
            }
            found.extend(by_time(events));
        }
        found.sort_by_key(|(time, _)| *time);
        Ok((found.into_iter().map(|(_, event)| event).collect(), more))
    }

    /// Resolves when the next look is due.
    pub async fn due(&mut self) {
        let pace = PERIOD.min(PACE * u32::try_from(self.service.audit_watches.taken()).unwrap_or(u32::MAX));
        due(&mut self.news, pace, PERIOD).await;
    }

    /// What is cancelled when the node stops.
    pub fn stopping(&self) -> CancellationToken {
        self.service.stopping()
    }

    /// Random bytes, to spread what would happen at one moment.
    pub fn spread(&self) -> u16 {
        u16::from_le_bytes(self.service.random())
    }

    /// The time here.
    pub fn now(&self) -> Timestamp {
        self.service.clock.now()
    }
}

/// Resolves after a `pace`, once something was recorded or the period is over.
async fn due(news: &mut watch::Receiver<u64>, pace: Duration, period: Duration) {
    sleep(pace).await;
    // Nobody records anything any more once the sender is gone, and then a node stops.
    let _ = timeout(period.saturating_sub(pace), news.changed()).await;
}

/// The events of one lane with times by which they can be put among those of others and keep their order: clocks of nodes differ.
fn by_time(events: Vec<ReadEvent>) -> impl Iterator<Item = (Timestamp, ReadEvent)> {
    events.into_iter().scan(Timestamp::from_micros(i64::MIN), |latest, event| {
        *latest = event.event.time.max(*latest);
        Some((*latest, event))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nothing here takes that long.
    const BOUND: Duration = Duration::from_mins(1);
    const LONG: Duration = Duration::from_hours(24);

    #[tokio::test]
    async fn a_look_is_due_as_soon_as_something_was_recorded() {
        let (recorded, mut news) = watch::channel(0);
        let waiting = tokio::spawn(async move {
            due(&mut news, Duration::ZERO, LONG).await;
            news
        });
        recorded.send_modify(|times| *times += 1);
        let mut news = timeout(BOUND, waiting).await.unwrap().unwrap();
        // What came during the last look is not forgotten.
        news.mark_unchanged();
        recorded.send_modify(|times| *times += 1);
        timeout(BOUND, due(&mut news, Duration::ZERO, LONG)).await.unwrap();
        // And with no news it is due in the end.
        timeout(BOUND, due(&mut news, Duration::ZERO, Duration::from_millis(1))).await.unwrap();
    }
}
