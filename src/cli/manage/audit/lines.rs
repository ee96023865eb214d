//! What the API says of the trail, as lines of an export.

use std::str::FromStr;

use prost_types::Timestamp as PbTimestamp;

use super::super::Failure;
use crate::{
    audit_export::{EventLine, Hex, LaneLine, Moment},
    crypto::audit_chain::UNREADABLE,
    domain::{audit::Personal, id::ServiceAccountId, time::Timestamp},
    pb::v1,
};

/// Where a lane begins and where it ends.
pub(super) fn lane(lane: v1::AuditLane) -> Result<(LaneLine, LaneLine), Failure> {
    let v1::AuditLane { base, head } = lane;
    Ok((lane_end(base.ok_or_else(strange)?)?, lane_end(head.ok_or_else(strange)?)?))
}

/// An end of a lane.
pub(super) fn lane_end(end: v1::AuditLaneEnd) -> Result<LaneLine, Failure> {
    let v1::AuditLaneEnd { link, mac } = end;
    let v1::AuditLink { lane, position, hash } = link.ok_or_else(strange)?;
    let mac = if mac.is_empty() { None } else { Some(Hex(bytes(mac)?)) };
    Ok(LaneLine { lane, position, hash: Hex(stored(hash)?), mac })
}

/// The same for a request.
pub(super) fn to_lane_end(end: &LaneLine) -> v1::AuditLaneEnd {
    let LaneLine { lane, position, hash: Hex(hash), mac } = *end;
    let link = v1::AuditLink { lane, position, hash: hash.to_vec() };
    v1::AuditLaneEnd { link: Some(link), mac: mac.map(|Hex(mac)| mac.to_vec()).unwrap_or_default() }
}

/// An event, with what is personal in it if that is wanted.
pub(super) fn event(event: v1::AuditEvent, personal: bool) -> Result<EventLine, Failure> {
    let v1::AuditEvent {
        event_id,
        time,
        act,
        succeeded,
        actor,
        actor_id,
        subject_id,
        session_id,
        request_id,
        ip_address,
        user_agent,
        detail: _,
        link,
        personal_sealed,
        detail_json,
    } = event;
    let v1::AuditLink { lane, position, hash } = link.ok_or_else(strange)?;
    let actor_id = match actor_id.parse::<ServiceAccountId>() {
        Ok(service) => Some(*service.as_uuid()),
        Err(_) => optional(&actor_id)?,
    };
    let is_personal = personal && !(ip_address.is_empty() && user_agent.is_empty());
    Ok(EventLine {
        id: parsed(&event_id)?,
        time: moment(time)?,
        act,
        succeeded,
        actor,
        actor_id,
        subject_id: optional(&subject_id)?,
        session_id: optional(&session_id)?,
        request_id,
        detail: serde_json::from_str(&detail_json)?,
        personal_sealed: (!personal_sealed.is_empty()).then_some(Hex(personal_sealed)),
        lane,
        position,
        hash: Hex(stored(hash)?),
        personal: is_personal.then_some(Personal { ip_address, user_agent }),
    })
}

/// A moment.
pub(super) fn moment(time: Option<PbTimestamp>) -> Result<Moment, Failure> {
    let PbTimestamp { seconds, nanos } = time.ok_or_else(strange)?;
    let micros = seconds.checked_mul(1_000_000).and_then(|micros| micros.checked_add(i64::from(nanos / 1_000)));
    Ok(Moment(Timestamp::from_micros(micros.ok_or_else(strange)?)))
}

fn optional<T: FromStr>(text: &str) -> Result<Option<T>, Failure> {
    if text.is_empty() { Ok(None) } else { parsed(text).map(Some) }
}

fn parsed<T: FromStr>(text: &str) -> Result<T, Failure> {
    text.parse().map_err(|_| strange())
}

/// A hash; none where somebody left none in the database.
fn stored(hash: Vec<u8>) -> Result<[u8; 32], Failure> {
    if hash.is_empty() { Ok(UNREADABLE) } else { bytes(hash) }
}

fn bytes(bytes: Vec<u8>) -> Result<[u8; 32], Failure> {
    bytes.try_into().map_err(|_| strange())
}

fn strange() -> Failure {
    Failure("the server's answer makes no sense: is it a Vouchsafe of this version?".to_owned())
}
