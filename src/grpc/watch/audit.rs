//! `AuditService.WatchAuditEvents`: a task for each watcher, which never has more than one message waiting.

use std::sync::Arc;

use tokio::time::{Instant, sleep_until, timeout};
use tonic::{Code, Request, Response, Status};
use tracing::Instrument as _;

use super::{
    AGE, PATIENCE, SLOW_RETRY, SPREAD,
    outlet::{Inlet, Outlet, outlet},
};
use crate::{
    crypto::audit_chain::Place,
    grpc::{
        Peer,
        call::{CallersToken, context},
        convert::audit as convert,
        status,
    },
    pb::v1::{self, ErrorReason, WatchAuditEventsResponse},
    service::{AuditWatch, Service, ServiceError, TrailCursor},
};

/// About how large a message gets. Clients take up to 4 MiB.
const MESSAGE: usize = 1024 * 1024;

/// What a watcher receives.
pub(in crate::grpc) type Stream = Outlet<WatchAuditEventsResponse>;

/// Begins a watch.
pub(in crate::grpc) async fn watch_audit_events(
    service: &Arc<Service>,
    request: Request<v1::WatchAuditEventsRequest>,
) -> Result<Response<Stream>, Status> {
    let context = context(&request, service)?;
    let token = request.extensions().get::<CallersToken>().map(|CallersToken(token)| token.clone());
    let mut places = Vec::new();
    if let Some(peer) = request.extensions().get::<Peer>() {
        places.push(peer.watches().enter()?);
    }
    let from = convert::watch_from(request.into_inner()).map_err(ServiceError::from)?;
    let (watch, place) = service.watch_audit_events(from, token).await?;
    places.push(place);
    let (messages, stream) = outlet(places);
    let task = async move {
        let last = run(watch, &messages, context.deadline.into()).await;
        messages.end(last);
    };
    tokio::spawn(task.in_current_span());
    Ok(Response::new(stream))
}

/// Runs a watch to its end. What the watcher is told of it: nothing if it has merely lasted for long enough.
async fn run(mut watch: AuditWatch, messages: &Inlet<WatchAuditEventsResponse>, deadline: Instant) -> Option<Status> {
    let age = Instant::now() + AGE + SPREAD * u32::from(watch.spread()) / u32::from(u16::MAX);
    let stopping = watch.stopping();
    tokio::select! {
        () = messages.closed() => None,
        () = stopping.cancelled() => {
            let text = "this node stops: watch another, from the last cursor";
            Some(status::retry(Code::Unavailable, ErrorReason::StoreUnavailable, text, status::OUTAGE_RETRY))
        }
        () = sleep_until(deadline) => Some(ServiceError::DeadlineExceeded.into()),
        () = sleep_until(age) => None,
        why = tell(&mut watch, messages) => why,
    }
}

/// Tells what is recorded for as long as that can be, and then why not any more.
async fn tell(watch: &mut AuditWatch, messages: &Inlet<WatchAuditEventsResponse>) -> Option<Status> {
    let mut cursor = watch.cursor();
    let lanes = watch.lanes().iter().map(convert::lane).collect();
    // Before the first event, so that the watcher has a cursor to go on from in any case.
    if let Err(why) = send(messages, message(Vec::new(), &cursor, lanes, watch)).await {
        return why;
    }
    loop {
        let (events, more) = match watch.look().await {
            Ok(found) => found,
            Err(error) => return Some(error.into()),
        };
        for events in in_messages(events.into_iter().map(convert::event).collect()) {
            for link in events.iter().filter_map(|event| event.link.as_ref()) {
                cursor.advance(Place { lane: link.lane, position: link.position });
            }
            if let Err(why) = send(messages, message(events, &cursor, Vec::new(), watch)).await {
                return why;
            }
        }
        if !more {
            watch.due().await;
        }
    }
}

/// Hands over a message, or tells why the watch ends.
async fn send(
    messages: &Inlet<WatchAuditEventsResponse>,
    message: WatchAuditEventsResponse,
) -> Result<(), Option<Status>> {
    match timeout(PATIENCE, messages.send(message)).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(None),
        Err(_) => {
            let text = "the events were not read for some seconds: watch again from the last cursor";
            Err(Some(status::retry(Code::ResourceExhausted, ErrorReason::Overloaded, text, SLOW_RETRY)))
        }
    }
}

/// The events, or whatever it is, in messages that are not too large; none make a heartbeat.
pub(super) fn in_messages<M: prost::Message>(events: Vec<M>) -> Vec<Vec<M>> {
    let mut messages = vec![Vec::new()];
    let mut bytes = 0;
    for event in events {
        let size = event.encoded_len();
        if bytes > 0 && bytes + size > MESSAGE {
            messages.push(Vec::new());
            bytes = 0;
        }
        bytes += size;
        // There is one at least.
        if let Some(message) = messages.last_mut() {
            message.push(event);
        }
    }
    messages
}

fn message(
    events: Vec<v1::AuditEvent>,
    cursor: &TrailCursor,
    lanes: Vec<v1::AuditLane>,
    watch: &AuditWatch,
) -> WatchAuditEventsResponse {
    let server_time = Some(convert::timestamp(watch.now()));
    WatchAuditEventsResponse { events, cursor: cursor.write(), server_time, lanes }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_a_bound_and_a_heartbeat_is_one() {
        let event = |bytes| v1::AuditEvent { personal_sealed: vec![0; bytes], ..v1::AuditEvent::default() };
        let sizes = |events: Vec<v1::AuditEvent>| in_messages(events).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(sizes(vec![]), [0]);
        assert_eq!(sizes(vec![event(1), event(1)]), [2]);
        assert_eq!(sizes(vec![event(MESSAGE / 2), event(MESSAGE / 2), event(1)]), [1, 2]);
        assert_eq!(sizes(vec![event(2 * MESSAGE), event(1)]), [1, 1]);
    }
}
