//! `UserAdminService.ImportUsers`: takes a stream of rows, one message after the other.

use std::time::Duration;

use tokio::time::timeout;
use tonic::{Request, Response, Status, Streaming};

use super::{
    Handlers,
    call::{CallersToken, context, warrant},
    convert,
};
use crate::{
    domain::field::{FieldViolation, FieldViolations},
    pb::v1,
    service::{Import, ImportRow, Imported, MAX_ROWS, ServiceError},
    store::port::{ImportProgress, RowError},
};

/// Largest message of an import.
pub(super) const MAX_MESSAGE: usize = 1024 * 1024;

/// The place of a row can be no larger.
const LAST_ROW: i64 = 1 << 48;

/// Longest that the next message may take: whoever sends nothing for so long has gone.
const PATIENCE: Duration = Duration::from_mins(1);

/// Reads the stream to its end.
pub(super) async fn import_users(
    handlers: &Handlers,
    request: Request<Streaming<v1::ImportUsersRequest>>,
) -> Result<Response<v1::ImportUsersResponse>, Status> {
    let (service, warrant) = (&handlers.service, warrant(&request)?);
    let context = context(&request, service)?;
    let token = request.extensions().get::<CallersToken>().cloned();
    // A call may last longer than its token, and its session.
    let still_good = async || match &token {
        Some(CallersToken(token)) => service.check_own(token).await,
        None => Ok(()),
    };
    let _place = service.begin_import()?;
    let mut stream = request.into_inner();
    let Some(first) = next(&mut stream).await? else {
        return Err(
            ServiceError::from(FieldViolation::new("options", "is missing: send it in the first message")).into()
        );
    };
    let mut import = None;
    let mut message = Some(first);
    while let Some(v1::ImportUsersRequest { options, first_row, users }) = message {
        let import = match (&mut import, options) {
            (Some(import), None) => import,
            (none @ None, Some(options)) => {
                let (id, validate_only) = parse_options(&options).map_err(ServiceError::from)?;
                none.insert(Import::new(warrant.clone(), id, validate_only))
            }
            (None, None) => return Err(invalid("options", "is missing: send it in the first message")),
            (Some(_), Some(_)) => return Err(invalid("options", "came before: send it in the first message only")),
        };
        if !users.is_empty() {
            if !(1..=LAST_ROW).contains(&first_row) || users.len() > MAX_ROWS {
                return Err(invalid(
                    "users",
                    "must be at most 1000 in a message, and first_row the place of the first, from 1",
                ));
            }
            still_good().await?;
            let rows = users.into_iter().map(row).collect();
            service.import_rows(import, first_row, rows, &context).await?;
        }
        message = next(&mut stream).await?;
    }
    let Some(import) = import else { return Err(invalid("options", "is missing: send it in the first message")) };
    still_good().await?;
    let Imported { progress, errors } = service.finish_import(import).await?;
    let ImportProgress { next_row, imported, failed } = progress;
    let errors =
        errors.into_iter().map(|RowError { row, field, description }| v1::ImportError { row, field, description });
    Ok(Response::new(v1::ImportUsersResponse { imported, failed, next_row, errors: errors.collect() }))
}

async fn next(stream: &mut Streaming<v1::ImportUsersRequest>) -> Result<Option<v1::ImportUsersRequest>, Status> {
    timeout(PATIENCE, stream.message()).await.map_err(|_| ServiceError::DeadlineExceeded)?
}

fn invalid(field: &'static str, description: &str) -> Status {
    ServiceError::from(FieldViolation::new(field, description)).into()
}

fn parse_options(options: &v1::ImportOptions) -> Result<(uuid::Uuid, bool), FieldViolations> {
    let v1::ImportOptions { import_id, validate_only } = options;
    match uuid::Uuid::try_parse(import_id) {
        Ok(id) if !id.is_nil() => Ok((id, *validate_only)),
        _ => Err(FieldViolation::new("options.import_id", "is not a UUID: make one, and keep it for going on").into()),
    }
}

fn row(user: v1::ImportUser) -> ImportRow {
    let v1::ImportUser {
        email,
        username,
        display_name,
        email_verified,
        password_hash,
        roles,
        suspended,
        attributes,
        create_time,
        custom_claims,
    } = user;
    ImportRow {
        email,
        username,
        display_name,
        email_verified,
        password_hash,
        roles,
        suspended,
        attributes: convert::attributes(attributes.unwrap_or_default()),
        custom_claims: convert::custom_claims(custom_claims.unwrap_or_default()),
        create_time: create_time.map(convert::user_lists::moment).transpose(),
    }
}
