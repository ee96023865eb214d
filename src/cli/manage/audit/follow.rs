//! Reading the trail as it is written, over streams that end and begin again.

use std::time::Duration;

use tokio::time::{sleep, timeout};
use tonic::{Code, Status};

use super::super::{Desk, Failure, refusal};
use crate::pb::v1;

/// Longest without a heartbeat, which comes each second.
const SILENCE: Duration = Duration::from_secs(30);
/// Before a stream is begun again.
const PAUSE: Duration = Duration::from_secs(1);

/// Hands every message to `take` until that says `false`. A stream that ended is begun again behind the last message.
pub(super) async fn follow(
    desk: &Desk,
    mut request: v1::WatchAuditEventsRequest,
    mut take: impl FnMut(v1::WatchAuditEventsResponse) -> Result<bool, Failure>,
) -> Result<(), Failure> {
    let mut has_begun = false;
    loop {
        let ended = match begin(desk, &request).await {
            Ok(mut messages) => loop {
                match timeout(SILENCE, messages.message()).await {
                    Ok(Ok(Some(message))) => {
                        (request.cursor, request.from_beginning) = (message.cursor.clone(), false);
                        has_begun = true;
                        if !take(message)? {
                            return Ok(());
                        }
                    }
                    Ok(Ok(None)) => break None,
                    Ok(Err(status)) => break Some(status),
                    Err(_) => break Some(Status::unavailable("nothing was heard for some time")),
                }
            },
            Err(status) => Some(status),
        };
        match ended {
            // It lasted for long enough.
            None => {}
            Some(status) if has_begun && passes(&status) => {
                eprintln!("vouchsafe: {}: going on", refusal(&status).0);
            }
            Some(status) => return Err(refusal(&status)),
        }
        sleep(PAUSE).await;
    }
}

async fn begin(
    desk: &Desk,
    request: &v1::WatchAuditEventsRequest,
) -> Result<tonic::Streaming<v1::WatchAuditEventsResponse>, Status> {
    let mut client = desk.audit();
    let begun = timeout(SILENCE, client.watch_audit_events(request.clone())).await;
    Ok(begun.map_err(|_| Status::unavailable("no answer for some time"))??.into_inner())
}

/// Whether it may be better in a moment.
fn passes(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::ResourceExhausted | Code::Unknown | Code::Cancelled)
}
