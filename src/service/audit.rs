//! Reading and checking the audit trail.

use super::{Service, ServiceError};
use crate::{
    domain::trail::{EventCursor, EventFilter, EventOrder},
    store::port::{ChainCheck, ChainReport, EventListing, ReadEvent},
};

mod cursor;
mod page_token;
mod watch;

pub use cursor::{CursorError, TrailCursor};
pub use page_token::EventPageToken;
pub(super) use watch::AUDIT_WATCHES;
pub use watch::{AuditWatch, WatchFrom};

/// A page of events.
#[derive(Clone, Debug)]
pub struct EventPage {
    /// The events, in the order asked for.
    pub events: Vec<ReadEvent>,
    /// Whether more come after them.
    pub more: bool,
}

impl Service {
    /// Up to `limit` events behind one.
    pub async fn list_audit_events(
        &self,
        filter: EventFilter,
        order: EventOrder,
        behind: Option<EventCursor>,
        limit: u32,
    ) -> Result<EventPage, ServiceError> {
        // One more than asked for tells whether there is another page.
        let listing = EventListing { filter, order, behind, limit: limit + 1 };
        let mut events = self.store.list_events(listing).await?;
        let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = events.len() > wanted;
        events.truncate(wanted);
        Ok(EventPage { events, more })
    }

    /// Walks the trail and tells what is wrong with it.
    pub async fn verify_audit_chain(&self, check: ChainCheck) -> Result<ChainReport, ServiceError> {
        let report = self.store.verify_audit_chain(check).await?;
        if !report.faults.is_empty() {
            let first = &report.faults[0];
            let (kind, lane, position) = (first.kind, first.place.lane, first.place.position);
            tracing::error!(faults = report.faults.len(), ?kind, lane, position, "the audit trail does not fit");
        }
        Ok(report)
    }
}
