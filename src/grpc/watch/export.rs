//! `AccountService.ExportAccount`, `UserAdminService.ExportUser`: a task for each, which never has more than one message waiting.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep_until, timeout};
use tonic::{Code, Request, Response, Status};
use tracing::Instrument as _;

use super::{
    PATIENCE, SLOW_RETRY,
    audit::in_messages,
    outlet::{Inlet, Outlet, outlet},
};
use crate::{
    domain::secret::SecretString,
    grpc::{
        Peer,
        call::{CallersToken, context, principal, warrant},
        convert::{export as convert, users},
        status,
    },
    pb::v1::{self, ErrorReason, PersonalRecord},
    service::{Export, Service, ServiceError, WatchPlace},
};

/// Longest that an export takes. Nobody has so much that it takes a tenth of it.
const LONGEST: Duration = Duration::from_mins(10);

/// What an owner receives.
pub(in crate::grpc) type AccountStream = Outlet<v1::ExportAccountResponse>;
/// What an administrator receives.
pub(in crate::grpc) type UserStream = Outlet<v1::ExportUserResponse>;

/// Begins an export of the caller's own account.
pub(in crate::grpc) async fn export_account(
    service: &Arc<Service>,
    request: Request<v1::ExportAccountRequest>,
) -> Result<Response<AccountStream>, Status> {
    let (caller, context) = (principal(&request)?, context(&request, service)?);
    let token = token(&request).ok_or(ServiceError::AccessTokenMissing)?;
    let mut places = connection_place(&request)?;
    let v1::ExportAccountRequest {} = request.into_inner();
    let (export, place) = service.export_account(caller, token, &context).await?;
    places.push(place);
    let message = |records| v1::ExportAccountResponse { records };
    Ok(begin(export, places, context.deadline.into(), message))
}

/// Begins an export of any user.
pub(in crate::grpc) async fn export_user(
    service: &Arc<Service>,
    request: Request<v1::ExportUserRequest>,
) -> Result<Response<UserStream>, Status> {
    let (warrant, context) = (warrant(&request)?, context(&request, service)?);
    let (token, mut places) = (token(&request), connection_place(&request)?);
    let v1::ExportUserRequest { user_id } = request.into_inner();
    let user = users::user_id(&user_id).map_err(ServiceError::from)?;
    let (export, place) = service.export_user(warrant, token, user, &context).await?;
    places.push(place);
    let message = |records| v1::ExportUserResponse { records };
    Ok(begin(export, places, context.deadline.into(), message))
}

fn token<T>(request: &Request<T>) -> Option<SecretString> {
    request.extensions().get::<CallersToken>().map(|CallersToken(token)| token.clone())
}

/// First those of the connection: who has too many must not take them from others even for a moment.
fn connection_place<T>(request: &Request<T>) -> Result<Vec<WatchPlace>, ServiceError> {
    request.extensions().get::<Peer>().map(|peer| peer.watches().enter()).into_iter().collect()
}

fn begin<M: Send + 'static>(
    export: Export,
    places: Vec<WatchPlace>,
    deadline: Instant,
    message: fn(Vec<PersonalRecord>) -> M,
) -> Response<Outlet<M>> {
    let (messages, stream) = outlet(places);
    let task = async move {
        let last = run(export, &messages, deadline, message).await;
        messages.end(last);
    };
    tokio::spawn(task.in_current_span());
    Response::new(stream)
}

/// Runs an export to its end. What the caller is told of that: nothing if everything was told.
async fn run<M>(
    mut export: Export,
    messages: &Inlet<M>,
    deadline: Instant,
    message: fn(Vec<PersonalRecord>) -> M,
) -> Option<Status> {
    let stopping = export.stopping();
    tokio::select! {
        () = messages.closed() => None,
        () = stopping.cancelled() => {
            let text = "this node stops: export again, from another";
            Some(status::retry(Code::Unavailable, ErrorReason::StoreUnavailable, text, status::OUTAGE_RETRY))
        }
        () = sleep_until(deadline.min(Instant::now() + LONGEST)) => Some(ServiceError::DeadlineExceeded.into()),
        why = tell(&mut export, messages, message) => why,
    }
}

async fn tell<M>(export: &mut Export, messages: &Inlet<M>, message: fn(Vec<PersonalRecord>) -> M) -> Option<Status> {
    loop {
        let (records, is_end) = match export.next().await {
            Ok(Some(records)) => (records.into_iter().map(|record| convert::record(record, export)).collect(), false),
            Ok(None) => (vec![convert::end(export.end())], true),
            Err(error) => return Some(error.into()),
        };
        for records in in_messages(records) {
            match timeout(PATIENCE, messages.send(message(records))).await {
                Ok(true) => {}
                Ok(false) => return None,
                Err(_) => return Some(slow()),
            }
        }
        if is_end {
            // What is not taken when the stream ends is not told.
            return timeout(PATIENCE, messages.taken()).await.err().map(|_| slow());
        }
    }
}

fn slow() -> Status {
    let text = "the records were not read for some seconds: export again";
    status::retry(Code::ResourceExhausted, ErrorReason::Overloaded, text, SLOW_RETRY)
}
