//! `VerifierService.WatchRevocations`: a task for each watcher, which never has more than one message waiting.

mod audit;
mod export;
mod outlet;

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep_until, timeout};
use tonic::{Code, Request, Response, Status};
use tracing::Instrument as _;

use self::outlet::{Inlet, Outlet, outlet};
use super::{
    Peer,
    call::{CallersToken, context},
    connections, convert, status,
};
use crate::{
    pb::v1::{self, ErrorReason, WatchRevocationsResponse},
    service::{RevocationWatch, Service, ServiceError},
    telemetry::WatchEnd,
};

/// How long a message may wait for its watcher to read those before.
const PATIENCE: Duration = Duration::from_secs(10);
/// When a watcher that was too slow should come again.
const SLOW_RETRY: Duration = Duration::from_secs(1);
/// How long a watch lasts: to go on by the cursor costs little, and finds other nodes and newer ones.
const AGE: Duration = Duration::from_mins(10);
/// Some last longer, so that those that began at one moment do not end at one.
const SPREAD: Duration = Duration::from_mins(4);
// One that began when its connection was told to go ends before that is cut.
const _: () = assert!(AGE.as_secs() + SPREAD.as_secs() < connections::GRACE.as_secs());

pub(super) use self::{
    audit::{Stream as AuditStream, watch_audit_events},
    export::{AccountStream, UserStream, export_account, export_user},
};

/// What a watcher receives.
pub(super) type Stream = Outlet<WatchRevocationsResponse>;

/// Begins a watch.
pub(super) fn watch_revocations(
    service: &Arc<Service>,
    request: Request<v1::WatchRevocationsRequest>,
) -> Result<Response<Stream>, Status> {
    let context = context(&request, service)?;
    let token = request.extensions().get::<CallersToken>().map(|CallersToken(token)| token.clone());
    // First those of the connection: who has too many must not take them from others even for a moment.
    let mut places = Vec::new();
    if let Some(peer) = request.extensions().get::<Peer>() {
        places.push(peer.watches().enter()?);
    }
    let v1::WatchRevocationsRequest { cursor } = request.into_inner();
    let (watch, place) = service.watch_revocations(&cursor, token)?;
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
async fn run(
    mut watch: RevocationWatch,
    messages: &Inlet<WatchRevocationsResponse>,
    deadline: Instant,
) -> Option<Status> {
    let age = Instant::now() + AGE + SPREAD * u32::from(watch.spread()) / u32::from(u16::MAX);
    let stopping = watch.stopping();
    let why = tokio::select! {
        () = messages.closed() => WatchEnd::Gone,
        () = stopping.cancelled() => WatchEnd::Stopping,
        () = sleep_until(deadline) => WatchEnd::Deadline,
        () = sleep_until(age) => WatchEnd::Age,
        why = tell(&mut watch, messages) => why,
    };
    watch.ended(why);
    tracing::debug!(?why, "a watch of revocations ended");
    last_word(why)
}

/// Tells what is revoked for as long as that can be.
async fn tell(watch: &mut RevocationWatch, messages: &Inlet<WatchRevocationsResponse>) -> WatchEnd {
    loop {
        let told = match watch.look() {
            Ok(told) => told,
            Err(why) => return why,
        };
        match timeout(PATIENCE, messages.send(convert::watch::response(told))).await {
            Ok(true) => watch.due().await,
            Ok(false) => return WatchEnd::Gone,
            Err(_) => return WatchEnd::Slow,
        }
    }
}

fn last_word(why: WatchEnd) -> Option<Status> {
    match why {
        WatchEnd::Gone | WatchEnd::Age => None,
        WatchEnd::Slow => {
            let text = "the revocations were not read for some seconds: watch again from the last cursor";
            Some(status::retry(Code::ResourceExhausted, ErrorReason::Overloaded, text, SLOW_RETRY))
        }
        WatchEnd::Stale => {
            let text = "this node may miss revocations itself: watch another, from the last cursor";
            Some(status::retry(Code::Unavailable, ErrorReason::StoreUnavailable, text, status::OUTAGE_RETRY))
        }
        WatchEnd::Stopping => {
            let text = "this node stops: watch another, from the last cursor";
            Some(status::retry(Code::Unavailable, ErrorReason::StoreUnavailable, text, status::OUTAGE_RETRY))
        }
        WatchEnd::Token => Some(ServiceError::AccessTokenInvalid.into()),
        WatchEnd::Deadline => Some(ServiceError::DeadlineExceeded.into()),
    }
}
