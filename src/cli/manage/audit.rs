//! `vouchsafe audit`.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use serde_json::Value;

use super::{
    Desk, Failure, answer,
    args::{AuditCommand, ListEvents, Output, WatchEvents},
    link::Calls,
    list, show, text, values,
};
use crate::{
    cli::print,
    pb::v1::{self, audit_service_client::AuditServiceClient},
};

mod export;
mod follow;
mod lines;
mod verify;

pub(super) use verify::{file as verify_file, with_status};

/// The largest page.
const EVENTS: u16 = 1000;

pub(super) async fn run(desk: &Desk, command: AuditCommand) -> Result<ExitCode, Failure> {
    match command {
        AuditCommand::List(args) => list_events(desk, args).await?,
        AuditCommand::Watch(args) => watch(desk, args).await?,
        AuditCommand::Export(args) => export::run(desk, args).await?,
        AuditCommand::Verify(args) => return verify::trail(desk, args).await,
    }
    Ok(ExitCode::SUCCESS)
}

impl Desk {
    fn audit(&self) -> AuditServiceClient<Calls> {
        AuditServiceClient::new(self.calls.clone())
    }
}

async fn list_events(desk: &Desk, args: ListEvents) -> Result<(), Failure> {
    let ListEvents {
        act,
        actor,
        subject,
        session,
        succeeded,
        failed,
        since,
        before,
        request_id,
        oldest_first,
        list: which,
        common: _,
    } = args;
    let filter = v1::AuditEventFilter {
        act: act.unwrap_or_default(),
        actor: actor.unwrap_or_default(),
        subject: subject.unwrap_or_default(),
        session_id: session.unwrap_or_default(),
        succeeded: (succeeded || failed).then_some(succeeded),
        since,
        before,
        request_id: request_id.unwrap_or_default(),
    };
    let order = if oldest_first { v1::AuditOrder::OldestFirst } else { v1::AuditOrder::NewestFirst };
    let page = async |page_size, page_token| {
        let filter = Some(filter.clone());
        let request = v1::ListAuditEventsRequest { page_size, page_token, filter, order: order.into() };
        let v1::ListAuditEventsResponse { events, next_page_token } =
            answer(desk.audit().list_audit_events(request)).await?;
        Ok((events.into_iter().map(values::audit_event).collect::<Vec<Value>>(), next_page_token))
    };
    list(desk, &show::AUDIT_EVENT, which, EVENTS, page).await
}

async fn watch(desk: &Desk, args: WatchEvents) -> Result<(), Failure> {
    let WatchEvents { from_beginning, cursor_file, common: _ } = args;
    let cursor = match &cursor_file {
        Some(file) if file.exists() => read(file)?.trim().to_owned(),
        _ => String::new(),
    };
    let from_beginning = from_beginning && cursor.is_empty();
    let mut kept = cursor.clone();
    let request = v1::WatchAuditEventsRequest { cursor, from_beginning };
    follow::follow(desk, request, |message| {
        let v1::WatchAuditEventsResponse { events, cursor, server_time: _, lanes: _ } = message;
        for event in events {
            let event = values::audit_event(event);
            print(&match desk.output {
                Output::Table => show::line(&show::AUDIT_EVENT, &event),
                // One line each: whoever reads them need not wait for the end.
                Output::Json => text::json_line(&event)?,
            })?;
        }
        if let Some(file) = &cursor_file
            && cursor != kept
        {
            write_whole(file, &format!("{cursor}\n"))?;
            kept = cursor;
        }
        Ok(true)
    })
    .await
}

fn read(file: &Path) -> Result<String, Failure> {
    fs::read_to_string(file).map_err(|error| Failure(format!("cannot read {}: {error}", file.display())))
}

/// Writes a file that is there as a whole or not at all.
fn write_whole(file: &Path, content: &str) -> Result<(), Failure> {
    let problem = |error: std::io::Error| Failure(format!("cannot write {}: {error}", file.display()));
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let beside = beside(folder, file);
    let mut written = fs::File::create(&beside).map_err(problem)?;
    let done = written.write_all(content.as_bytes()).and_then(|()| written.sync_all());
    let done = done.and_then(|()| fs::rename(&beside, file));
    if done.is_err() {
        // Nothing more can be done about what is left of it.
        let _ = fs::remove_file(&beside);
    }
    done.map_err(problem)
}

/// A name beside a file, of this process alone.
fn beside(folder: &Path, file: &Path) -> PathBuf {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    folder.join(format!(".{name}.{}", std::process::id()))
}
