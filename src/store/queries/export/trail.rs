//! Events about the person, and by the person. What is personal in an event is the acting user's, or where nobody had signed in,
//! or the server did it because of them, the one's whom it is about: only this person's is told.

use std::time::Duration;

use uuid::Uuid;

use super::{
    super::{
        Db,
        trail::{EventRow, listed},
    },
    Person, Reader,
};
use crate::{
    domain::{
        audit::{Personal, PersonalDataVault},
        time::Timestamp,
        trail::{ActorFilter, ActorKind, EventCursor, EventFilter, EventOrder},
    },
    store::{
        StoreError,
        port::{EventListing, ExportPage, ExportPlace, HeldRecord, ReadEvent, RecordedEvent},
    },
};

impl Reader<'_> {
    pub(super) async fn events_about(
        self,
        person: &Person,
        until: Timestamp,
        after: Option<EventCursor>,
        limit: i64,
        vault: &dyn PersonalDataVault,
    ) -> Result<ExportPage, StoreError> {
        let filter = EventFilter { subject: Some(person.id.into()), ..up_to(until) };
        let (events, last) = self.events(person, filter, after, limit, vault).await?;
        let next = last.map_or(ExportPlace::EventsBy(None), |last| ExportPlace::EventsAbout(Some(last)));
        Ok(ExportPage { records: events.into_iter().map(record).collect(), next: Some(next) })
    }

    pub(super) async fn events_by(
        self,
        person: &Person,
        until: Timestamp,
        after: Option<EventCursor>,
        limit: i64,
        vault: &dyn PersonalDataVault,
    ) -> Result<ExportPage, StoreError> {
        let filter = EventFilter { actor: Some(ActorFilter::Subject(person.id.into())), ..up_to(until) };
        let (events, last) = self.events(person, filter, after, limit, vault).await?;
        // Those about the same person were told.
        let others = events.into_iter().filter(|read| read.event.subject_id != Some(person.uuid()));
        let next = last.map(|last| ExportPlace::EventsBy(Some(last)));
        Ok(ExportPage { records: others.map(record).collect(), next })
    }

    /// A page, and behind which event the next one begins, if this one is full.
    async fn events(
        self,
        person: &Person,
        filter: EventFilter,
        behind: Option<EventCursor>,
        limit: i64,
        vault: &dyn PersonalDataVault,
    ) -> Result<(Vec<ReadEvent>, Option<EventCursor>), StoreError> {
        let Self(conn) = self;
        let limit = u32::try_from(limit).unwrap_or(u32::MAX);
        let listing = EventListing { filter, order: EventOrder::OldestFirst, behind, limit };
        let rows: Vec<EventRow> = listed(&listing).build_query_as().fetch_all(&mut *conn).await?;
        let key: Option<(Vec<u8>,)> = sqlx::query_as::<Db, _>("SELECT key_sealed FROM data_keys WHERE owner_id = $1")
            .bind(person.id)
            .fetch_optional(conn)
            .await?;
        let key = key.map(|(key,)| key);
        let is_full = u32::try_from(rows.len()).is_ok_and(|read| read >= limit);
        let events: Vec<RecordedEvent> = rows.into_iter().map(Into::into).collect();
        let last = events.last().filter(|_| is_full).map(|last| EventCursor { time: last.time, id: last.id });
        let opened = events.into_iter().map(|event| {
            let personal = key.as_ref().map(|key| own_part(vault, &event, person.uuid(), key)).unwrap_or_default();
            ReadEvent { event, personal }
        });
        Ok((opened.collect(), last))
    }
}

/// Events up to that moment, and of it.
fn up_to(until: Timestamp) -> EventFilter {
    EventFilter { before: Some(until.plus(Duration::from_micros(1))), ..EventFilter::default() }
}

fn record(read: ReadEvent) -> HeldRecord {
    HeldRecord::Event(Box::new(read))
}

/// What is personal in the event, if it is this person's: nothing that is under another's key.
fn own_part(vault: &dyn PersonalDataVault, event: &RecordedEvent, person: Uuid, key: &[u8]) -> Personal {
    let whose = match ActorKind::parse(&event.actor) {
        Some(ActorKind::User) => event.actor_id,
        Some(ActorKind::Anonymous | ActorKind::System) => event.subject_id,
        Some(ActorKind::Service | ActorKind::Operator) | None => None,
    };
    let Some(sealed) = event.personal_sealed.as_ref().filter(|_| whose == Some(person)) else {
        return Personal::default();
    };
    let opened = vault.open(person, key, event.id, sealed);
    opened.ok().and_then(|personal| serde_json::from_slice(&personal).ok()).unwrap_or_default()
}
