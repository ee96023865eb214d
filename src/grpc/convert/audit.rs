//! The audit trail: proto → domain and back.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use uuid::Uuid;

pub(in crate::grpc) use super::timestamp;
use super::user_lists::moment;
use crate::{
    crypto::audit_chain::{Place, UNREADABLE},
    domain::{
        field::{FieldViolation, FieldViolations},
        id::{ServiceAccountId, SessionId, Subject, UserId},
        trail::{ActFilter, ActorFilter, ActorKind, EventCursor, EventFilter, EventOrder},
    },
    pb::v1,
    service::{EventPageToken, TrailCursor, WatchFrom},
    store::port::{ChainCheck, ChainFault, ChainLink, ChainReport, FaultKind, Lane, LaneEnd, ReadEvent, RecordedEvent},
    verifier::wire,
};

/// The word for a service account that acted.
const SERVICE: &str = "service";
/// Longest `x-request-id` that is taken from a caller.
const MAX_REQUEST_ID: usize = 128;
/// How many faults are told at most.
const MAX_FAULTS: usize = 100;
/// The lanes of a checkpoint at most: more than there are.
const MAX_LANES: usize = 1_024;
/// A page token of a verification is a place and a hash.
const CHECK_TOKEN: usize = 8 + 8 + 32;

/// A page of events as it is asked for.
pub(in crate::grpc) struct EventPageRequest {
    pub(in crate::grpc) filter: EventFilter,
    pub(in crate::grpc) order: EventOrder,
    pub(in crate::grpc) behind: Option<EventCursor>,
    pub(in crate::grpc) limit: u32,
}

pub(in crate::grpc) fn list_events(request: v1::ListAuditEventsRequest) -> Result<EventPageRequest, FieldViolations> {
    let v1::ListAuditEventsRequest { page_size, page_token, filter, order } = request;
    let mut violations = FieldViolations::new();
    let limit = match u32::try_from(page_size) {
        Ok(0) => Some(20),
        Ok(size) => Some(size.min(1000)),
        Err(_) => violations.check("page_size", Err("is negative: use 1 to 1000, or 0 for 20")),
    };
    let order = match v1::AuditOrder::try_from(order) {
        Ok(v1::AuditOrder::Unspecified | v1::AuditOrder::NewestFirst) => Some(EventOrder::NewestFirst),
        Ok(v1::AuditOrder::OldestFirst) => Some(EventOrder::OldestFirst),
        Err(_) => violations.check("order", Err("is no order this server knows")),
    };
    let filter = event_filter(filter.unwrap_or_default(), &mut violations);
    let (Some(filter), Some(order), Some(limit)) = (filter, order, limit) else { return Err(violations) };
    let behind = if page_token.is_empty() {
        Some(None)
    } else {
        violations.check("page_token", EventPageToken::read(&page_token, &filter, order)).map(Some)
    };
    match behind {
        Some(behind) => Ok(EventPageRequest { filter, order, behind, limit }),
        None => Err(violations),
    }
}

fn event_filter(filter: v1::AuditEventFilter, violations: &mut FieldViolations) -> Option<EventFilter> {
    let v1::AuditEventFilter { act, actor, subject, session_id, succeeded, since, before, request_id } = filter;
    let given = |text: String| (!text.is_empty()).then_some(text);
    let act = violations.check("filter.act", given(act).map(|act| ActFilter::parse(&act)).transpose());
    let actor = violations.check("filter.actor", given(actor).map(|actor| parse_actor(&actor)).transpose());
    let subject = violations.check("filter.subject", given(subject).map(|subject| parse_subject(&subject)).transpose());
    let session = given(session_id).map(|id| id.parse::<SessionId>().map_err(|error| format!("is {error}")));
    let session = violations.check("filter.session_id", session.transpose());
    let since = violations.check("filter.since", since.map(moment).transpose());
    let before = violations.check("filter.before", before.map(moment).transpose());
    let request_id = violations.check("filter.request_id", given(request_id).map(parse_request_id).transpose());
    Some(EventFilter {
        act: act?,
        actor: actor?,
        subject: subject?,
        session: session?,
        succeeded,
        since: since?,
        before: before?,
        request_id: request_id?,
    })
}

fn parse_actor(text: &str) -> Result<ActorFilter, &'static str> {
    match ActorKind::parse(text) {
        Some(kind) => Ok(ActorFilter::Kind(kind)),
        None => parse_subject(text)
            .map(ActorFilter::Subject)
            .map_err(|_| "is no user's id, no client id, nor one of anonymous, user, service, operator, system"),
    }
}

fn parse_subject(text: &str) -> Result<Subject, &'static str> {
    let service = text.parse::<ServiceAccountId>().map(Subject::Service);
    service.or_else(|_| text.parse::<UserId>().map(Subject::User)).map_err(|_| "is no user's id and no client id")
}

/// No event has another; and a database does not choke on it.
fn parse_request_id(text: String) -> Result<String, &'static str> {
    let plain = text.len() <= MAX_REQUEST_ID && text.bytes().all(|b| b.is_ascii_graphic());
    if plain { Ok(text) } else { Err("is no x-request-id: those are up to 128 visible ASCII characters") }
}

/// An event as it is told.
pub(in crate::grpc) fn event(read: ReadEvent) -> v1::AuditEvent {
    let ReadEvent { event, personal } = read;
    let RecordedEvent {
        id,
        time,
        act,
        succeeded,
        actor,
        actor_id,
        subject_id,
        session_id,
        request_id,
        detail,
        personal_sealed,
        link,
    } = event;
    let actor_id = match actor_id {
        Some(id) if actor == SERVICE => ServiceAccountId::from_uuid(id).to_string(),
        id => bare(id),
    };
    v1::AuditEvent {
        event_id: id.to_string(),
        time: Some(timestamp(time)),
        act,
        succeeded,
        actor,
        actor_id,
        subject_id: bare(subject_id),
        session_id: session_id.map(|id| id.to_string()).unwrap_or_default(),
        request_id,
        ip_address: personal.ip_address,
        user_agent: personal.user_agent,
        detail_json: detail.to_string(),
        detail: match detail {
            serde_json::Value::Object(members) => Some(wire::structure(members)),
            _ => None,
        },
        link: link.map(chain_link),
        personal_sealed: personal_sealed.unwrap_or_default(),
    }
}

fn bare(id: Option<Uuid>) -> String {
    id.map(|id| id.hyphenated().to_string()).unwrap_or_default()
}

fn chain_link(ChainLink { place: Place { lane, position }, hash }: ChainLink) -> v1::AuditLink {
    let hash = if hash == UNREADABLE { Vec::new() } else { hash.to_vec() };
    v1::AuditLink { lane, position, hash }
}

fn lane_end(LaneEnd { link, mac }: LaneEnd) -> v1::AuditLaneEnd {
    v1::AuditLaneEnd { link: Some(chain_link(link)), mac: mac.map(|mac| mac.to_vec()).unwrap_or_default() }
}

pub(in crate::grpc) fn lane(Lane { base, head }: &Lane) -> v1::AuditLane {
    v1::AuditLane { base: Some(lane_end(*base)), head: Some(lane_end(*head)) }
}

pub(in crate::grpc) fn watch_from(request: v1::WatchAuditEventsRequest) -> Result<WatchFrom, FieldViolations> {
    let v1::WatchAuditEventsRequest { cursor, from_beginning } = request;
    match (cursor.is_empty(), from_beginning) {
        (true, true) => Ok(WatchFrom::Beginning),
        (true, false) => Ok(WatchFrom::Now),
        (false, true) => Err(FieldViolation::new("from_beginning", "goes without a cursor only").into()),
        (false, false) => match TrailCursor::read(&cursor) {
            Ok(cursor) => Ok(WatchFrom::Cursor(cursor)),
            Err(error) => Err(FieldViolation::new("cursor", error).into()),
        },
    }
}

pub(in crate::grpc) fn chain_check(request: v1::VerifyAuditChainRequest) -> Result<ChainCheck, FieldViolations> {
    let v1::VerifyAuditChainRequest { page_size, page_token, checkpoint } = request;
    let mut violations = FieldViolations::new();
    let events = match u64::try_from(page_size) {
        Ok(0) => Some(50_000),
        Ok(size) => Some(size.min(200_000)),
        Err(_) => violations.check("page_size", Err("is negative: use 1 to 200000, or 0 for 50000")),
    };
    let behind = if page_token.is_empty() {
        Some(None)
    } else {
        violations.check("page_token", check_behind(&page_token).map(Some))
    };
    let checkpoint = violations.check("checkpoint", parse_checkpoint(checkpoint));
    match (events, behind, checkpoint) {
        (Some(events), Some(behind), Some(checkpoint)) => {
            Ok(ChainCheck { behind, checkpoint, events, faults: MAX_FAULTS })
        }
        _ => Err(violations),
    }
}

fn parse_checkpoint(ends: Vec<v1::AuditLaneEnd>) -> Result<Vec<ChainLink>, &'static str> {
    let problem =
        "is no list of heads of an earlier answer: each has a link with a hash of 32 bytes, and a lane of its own";
    if ends.len() > MAX_LANES {
        return Err(problem);
    }
    let links = ends.into_iter().map(|end| {
        let v1::AuditLaneEnd { link, mac: _ } = end;
        let v1::AuditLink { lane, position, hash } = link.filter(|link| link.position >= 0).ok_or(problem)?;
        let hash = hash.try_into().map_err(|_| problem)?;
        Ok::<_, &'static str>(ChainLink { place: Place { lane, position }, hash })
    });
    let links: Vec<_> = links.collect::<Result<_, _>>()?;
    let mut lanes: Vec<_> = links.iter().map(|link| link.place.lane).collect();
    lanes.sort_unstable();
    if lanes.windows(2).any(|pair| pair[0] == pair[1]) { Err(problem) } else { Ok(links) }
}

/// A place and a hash, in 48 bytes. Whoever makes one up is told of faults that there are not.
fn check_token(link: &ChainLink) -> String {
    let ChainLink { place: Place { lane, position }, hash } = link;
    let bytes = [&lane.to_be_bytes()[..], &position.to_be_bytes(), hash].concat();
    URL_SAFE_NO_PAD.encode(bytes)
}

fn check_behind(token: &str) -> Result<ChainLink, &'static str> {
    let problem = "is not a next_page_token of an earlier answer";
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| problem)?;
    let bytes: [u8; CHECK_TOKEN] = bytes.try_into().map_err(|_| problem)?;
    let number = |at: usize| {
        let mut number = [0; 8];
        number.copy_from_slice(&bytes[at..at + 8]);
        i64::from_be_bytes(number)
    };
    let mut hash = [0; 32];
    hash.copy_from_slice(&bytes[16..]);
    let place = Place { lane: number(0), position: number(8) };
    if place.position < 0 { Err(problem) } else { Ok(ChainLink { place, hash }) }
}

pub(in crate::grpc) fn chain_report(report: &ChainReport) -> v1::VerifyAuditChainResponse {
    let ChainReport { events, heads, faults, more_faults, not_compared, unplaced, next } = report;
    let count = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    v1::VerifyAuditChainResponse {
        intact: faults.is_empty() && !more_faults,
        events: count(*events),
        faults: faults.iter().map(chain_fault).collect(),
        more_faults: *more_faults,
        unplaced_events: count(*unplaced),
        heads: heads.iter().copied().map(lane_end).collect(),
        next_page_token: next.as_ref().map(check_token).unwrap_or_default(),
        not_compared: not_compared.iter().copied().map(chain_link).collect(),
    }
}

fn chain_fault(fault: &ChainFault) -> v1::AuditChainFault {
    let ChainFault { kind, place: Place { lane, position }, event } = fault;
    let kind = match kind {
        FaultKind::Altered => v1::AuditChainFaultKind::Altered,
        FaultKind::Missing => v1::AuditChainFaultKind::Missing,
        FaultKind::Unexpected => v1::AuditChainFaultKind::Unexpected,
        FaultKind::Head => v1::AuditChainFaultKind::Head,
        FaultKind::HeadMac => v1::AuditChainFaultKind::HeadMac,
        FaultKind::BaseMac => v1::AuditChainFaultKind::BaseMac,
        FaultKind::Lane => v1::AuditChainFaultKind::Lane,
        FaultKind::Checkpoint => v1::AuditChainFaultKind::Checkpoint,
    };
    let event_id = event.map(|id| id.to_string()).unwrap_or_default();
    v1::AuditChainFault { kind: kind.into(), lane: *lane, position: *position, event_id }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::Timestamp;

    #[test]
    fn everything_wrong_with_a_request_is_named() {
        let request = v1::ListAuditEventsRequest {
            page_size: -1,
            order: 9,
            filter: Some(v1::AuditEventFilter {
                act: "A".into(),
                actor: "somebody".into(),
                subject: "somebody".into(),
                session_id: "x".into(),
                since: Some(prost_types::Timestamp { seconds: i64::MAX, nanos: 0 }),
                before: Some(prost_types::Timestamp { seconds: 0, nanos: -1 }),
                request_id: "a\0".into(),
                succeeded: None,
            }),
            page_token: String::new(),
        };
        let violations = list_events(request).err().unwrap().into_vec();
        let fields: Vec<_> = violations.iter().map(|violation| violation.field).collect();
        let filter = ["act", "actor", "subject", "session_id", "since", "before", "request_id"];
        let expected = ["page_size", "order"].map(str::to_owned).into_iter();
        let expected: Vec<_> = expected.chain(filter.map(|field| format!("filter.{field}"))).collect();
        assert_eq!(fields, expected);
    }

    #[test]
    fn a_filter_is_taken_as_it_was_meant() {
        let id = "018bcfe5-6800-7000-8000-000000000001";
        let filter = v1::AuditEventFilter {
            act: "role.*".into(),
            actor: format!("svc_{id}"),
            subject: id.into(),
            succeeded: Some(false),
            since: Some(prost_types::Timestamp { seconds: 1, nanos: 0 }),
            ..v1::AuditEventFilter::default()
        };
        let request = v1::ListAuditEventsRequest { filter: Some(filter), ..v1::ListAuditEventsRequest::default() };
        let asked = list_events(request).ok().unwrap();
        let uuid = Uuid::parse_str(id).unwrap();
        let expected = EventFilter {
            act: Some(ActFilter::Beginning("role.".into())),
            actor: Some(ActorFilter::Subject(Subject::Service(ServiceAccountId::from_uuid(uuid)))),
            subject: Some(Subject::User(UserId::from_uuid(uuid))),
            succeeded: Some(false),
            since: Some(Timestamp::from_seconds(1)),
            ..EventFilter::default()
        };
        assert_eq!((asked.filter, asked.order, asked.limit), (expected, EventOrder::NewestFirst, 20));
    }

    #[test]
    fn a_verification_goes_on_where_it_stopped() {
        let link = ChainLink { place: Place { lane: 63, position: 1 << 40 }, hash: [7; 32] };
        assert_eq!(check_behind(&check_token(&link)), Ok(link));
        for text in ["", "x", &check_token(&link)[1..], &URL_SAFE_NO_PAD.encode([255; CHECK_TOKEN])] {
            assert!(check_behind(text).is_err(), "{text}");
        }
        let end = |lane| {
            lane_end(LaneEnd { link: ChainLink { place: Place { lane, position: 1 }, hash: [1; 32] }, mac: None })
        };
        assert_eq!(parse_checkpoint(vec![end(1), end(0)]).unwrap().len(), 2);
        assert!(parse_checkpoint(vec![end(1), end(1)]).is_err());
        assert!(parse_checkpoint(vec![v1::AuditLaneEnd::default()]).is_err());
    }
}
