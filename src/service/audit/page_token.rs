//! Where a page of events begins, as callers carry it. Whoever makes one up gets another page of what they may see anyway.

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::{
    domain::trail::{EventCursor, EventFilter, EventOrder},
    service::users::PageTokenError,
    store::port::RecordedEvent,
};

/// Bytes kept of a filter's digest: enough to notice a mistake.
const KEPT: usize = 8;
/// Longer than any token that is made here.
const MAX_LEN: usize = 256;

/// The place where a page of events begins.
#[derive(Clone, Copy, Debug)]
pub struct EventPageToken;

impl EventPageToken {
    /// The token for the page behind `last`.
    pub fn behind(last: &RecordedEvent, filter: &EventFilter, order: EventOrder) -> String {
        let cursor = EventCursor { time: last.time, id: last.id };
        // Writing to memory cannot fail; an empty token would say that nothing follows.
        let packed = postcard::to_allocvec(&(fingerprint(filter, order), cursor)).unwrap_or_default();
        URL_SAFE_NO_PAD.encode(packed)
    }

    /// Where the page begins.
    ///
    /// # Errors
    /// If the token is malformed, or of another filter.
    pub fn read(token: &str, filter: &EventFilter, order: EventOrder) -> Result<EventCursor, PageTokenError> {
        if token.len() > MAX_LEN {
            return Err(PageTokenError);
        }
        let packed = URL_SAFE_NO_PAD.decode(token).map_err(|_| PageTokenError)?;
        let (made_for, cursor): ([u8; KEPT], EventCursor) =
            postcard::from_bytes(&packed).map_err(|_| PageTokenError)?;
        if made_for == fingerprint(filter, order) { Ok(cursor) } else { Err(PageTokenError) }
    }
}

/// Of everything that says which events there are, and in which order.
fn fingerprint(filter: &EventFilter, order: EventOrder) -> [u8; KEPT] {
    let hash = digest(&SHA256, format!("{order:?} {filter:?}").as_bytes());
    let mut kept = [0; KEPT];
    kept.copy_from_slice(&hash.as_ref()[..KEPT]);
    kept
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use uuid::Uuid;

    use super::*;
    use crate::domain::{
        id::{EventId, SessionId, Subject, UserId},
        time::Timestamp,
        trail::{ActFilter, ActorFilter, ActorKind},
    };

    #[test]
    fn a_token_is_good_for_its_filter_and_order_alone() {
        let (any, id) = (EventFilter::default(), Uuid::from_u128(1));
        let moment = Some(Timestamp::from_seconds(1));
        let user = Subject::User(UserId::from_uuid(id));
        let filters = [
            any.clone(),
            EventFilter { act: Some(ActFilter::Named("a".into())), ..any.clone() },
            EventFilter { act: Some(ActFilter::Beginning("a".into())), ..any.clone() },
            EventFilter { actor: Some(ActorFilter::Kind(ActorKind::User)), ..any.clone() },
            EventFilter { actor: Some(ActorFilter::Subject(user)), ..any.clone() },
            EventFilter { subject: Some(user), ..any.clone() },
            EventFilter { session: Some(SessionId::from_uuid(id)), ..any.clone() },
            EventFilter { succeeded: Some(true), ..any.clone() },
            EventFilter { succeeded: Some(false), ..any.clone() },
            EventFilter { since: moment, ..any.clone() },
            EventFilter { before: moment, ..any.clone() },
            EventFilter { request_id: Some("r".into()), ..any },
        ];
        let asked: Vec<_> = [EventOrder::NewestFirst, EventOrder::OldestFirst]
            .into_iter()
            .flat_map(|order| filters.iter().map(move |filter| (filter, order)))
            .collect();
        let event = RecordedEvent {
            id: EventId::from_uuid(id),
            time: Timestamp::from_seconds(5),
            act: "a".into(),
            succeeded: true,
            actor: "system".into(),
            actor_id: None,
            subject_id: None,
            session_id: None,
            request_id: String::new(),
            detail: json!({}),
            personal_sealed: None,
            link: None,
        };
        let cursor = EventCursor { time: event.time, id: event.id };
        for (n, (filter, order)) in asked.iter().enumerate() {
            let token = EventPageToken::behind(&event, filter, *order);
            for (m, (other, other_order)) in asked.iter().enumerate() {
                let read = EventPageToken::read(&token, other, *other_order);
                assert_eq!(read, if n == m { Ok(cursor) } else { Err(PageTokenError) }, "{filter:?} {other:?}");
            }
        }
        for text in ["", "x", "!", &"A".repeat(2_000)] {
            assert_eq!(EventPageToken::read(text, asked[0].0, asked[0].1), Err(PageTokenError), "{text}");
        }
    }
}
