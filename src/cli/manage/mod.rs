//! `vouchsafe user`, `role`, `service-account` and `audit`: clients of the administration's RPCs. Without `--server` the RPCs are
//! called in this process, on the database itself.

use std::{
    io::{BufRead as _, IsTerminal as _, Write as _},
    process::ExitCode,
    time::Duration,
};

use serde_json::Value;
use tokio::time::timeout;
use tonic::{Code, Response, Status};
use tonic_types::StatusExt as _;

use super::{
    Failure, args,
    args::{AuditCommand, ListArgs, ManageArgs, Output, RoleCommand, ServiceAccountCommand, UserCommand, VerifyTrail},
    text,
};
use crate::config::Settings;

mod audit;
mod import;
mod import_rows;
pub(super) mod keys;
mod link;
mod roles;
mod service_accounts;
mod show;
mod users;
pub(super) mod values;

use link::{Calls, Link};

/// Longest to wait for an answer.
const PATIENCE: Duration = Duration::from_mins(1);

/// What every command needs.
struct Desk {
    calls: Calls,
    output: Output,
}

/// `vouchsafe user`.
pub(super) async fn user(command: UserCommand, settings: impl Load) -> Result<ExitCode, Failure> {
    let common = command.common().clone();
    let makes = matches!(command, UserCommand::Create(_));
    at_desk(&common, makes, settings, async |desk| users::run(desk, command).await).await
}

/// `vouchsafe role`.
pub(super) async fn role(command: RoleCommand, settings: impl Load) -> Result<ExitCode, Failure> {
    let common = command.common().clone();
    let makes = matches!(command, RoleCommand::Create(_));
    at_desk(&common, makes, settings, async |desk| roles::run(desk, command).await).await
}

/// `vouchsafe service-account`.
pub(super) async fn service_account(command: ServiceAccountCommand, settings: impl Load) -> Result<ExitCode, Failure> {
    let common = command.common().clone();
    let makes = matches!(command, ServiceAccountCommand::Create(_));
    at_desk(&common, makes, settings, async |desk| service_accounts::run(desk, command).await).await
}

/// `vouchsafe audit`.
pub(super) async fn audit(command: AuditCommand, settings: impl Load) -> Result<ExitCode, Failure> {
    let common = command.common().clone();
    if let AuditCommand::Verify(args @ VerifyTrail { file: Some(file), .. }) = &command {
        return Ok(audit::with_status(audit::verify_file(file, args, settings).await));
    }
    let checks = matches!(command, AuditCommand::Verify(_));
    let mut code = ExitCode::SUCCESS;
    let run = async |desk: &Desk| {
        code = audit::run(desk, command).await?;
        Ok(())
    };
    let done = at_desk(&common, false, settings, run).await.map(|_| code);
    if checks { Ok(audit::with_status(done)) } else { done }
}

/// Loads the settings, if they are wanted.
pub(super) trait Load: FnOnce() -> Result<Settings, Failure> {}

impl<F: FnOnce() -> Result<Settings, Failure>> Load for F {}

/// Opens the way to the administration, runs a command, and closes it again. `makes`: whether the command may be the first that
/// an embedded database sees.
async fn at_desk(
    common: &ManageArgs,
    makes: bool,
    settings: impl Load,
    command: impl AsyncFnOnce(&Desk) -> Result<(), Failure>,
) -> Result<ExitCode, Failure> {
    let link = match &common.server.url {
        Some(url) => Link::remote(url, &common.server).await?,
        None => Link::direct(&settings()?, makes).await?,
    };
    let desk = Desk { calls: link.calls(), output: common.output };
    let done = command(&desk).await;
    link.close().await;
    done.map(|()| ExitCode::SUCCESS)
}

/// Waits for an answer.
async fn answer<T>(call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, Failure> {
    match timeout(PATIENCE, call).await {
        Ok(answered) => answered.map(Response::into_inner).map_err(|status| refusal(&status)),
        Err(_) => Err(Failure(format!(
            "no answer within {} s: what was asked for may have been done all the same",
            PATIENCE.as_secs()
        ))),
    }
}

/// A refusal in words, with the reason that the API names, by which scripts can tell.
fn refusal(status: &Status) -> Failure {
    let details = status.get_error_details();
    let reason = details.error_info().map_or_else(|| name_of(status.code()), |info| info.reason.clone());
    let message = match std::error::Error::source(status) {
        // The connection, not the server.
        Some(cause) => format!("{}: {}", status.message(), link::causes(cause)),
        // A server that knows no such RPC says nothing else.
        None if status.message().is_empty() => status.code().to_string(),
        None => status.message().to_owned(),
    };
    let request = match status.metadata().get("x-request-id").and_then(|id| id.to_str().ok()) {
        Some(id) if matches!(status.code(), Code::Internal | Code::Unknown) => format!(", x-request-id {id}"),
        _ => String::new(),
    };
    // All of it comes from whoever the server is.
    Failure(text::on_one_line(&format!("{message} ({reason}{request})")))
}

/// The code as gRPC spells it.
fn name_of(code: Code) -> String {
    let mut name = String::new();
    for c in format!("{code:?}").chars() {
        if c.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(c.to_ascii_uppercase());
    }
    name
}

/// Reads a list page by page and prints it as far as is wanted. `page` gets the size of the page, at most `largest`, and the
/// token of the page before; it returns the things and the next token.
async fn list(
    desk: &Desk,
    kind: &show::Kind,
    ListArgs { limit, all }: ListArgs,
    largest: u16,
    mut page: impl AsyncFnMut(i32, String) -> Result<(Vec<Value>, String), Failure>,
) -> Result<(), Failure> {
    let mut left = if all { u64::MAX } else { limit };
    let mut printed = show::List::new(kind, desk.output);
    let mut token = String::new();
    loop {
        let size = u16::try_from(left).unwrap_or(u16::MAX).min(largest);
        let (things, next) = page(size.into(), token).await?;
        for thing in things {
            printed.add(&thing)?;
            left = left.saturating_sub(1);
        }
        token = next;
        if token.is_empty() || left == 0 {
            break;
        }
    }
    printed.end()?;
    if !token.is_empty() {
        writeln!(std::io::stderr(), "vouchsafe: there are more: see --limit and --all")?;
    }
    Ok(())
}

/// Whether somebody can be asked, or need not be. To be known before anything is looked up.
pub(super) fn can_ask(yes: bool) -> Result<(), Failure> {
    if yes || std::io::stdin().is_terminal() {
        return Ok(());
    }
    Err(Failure("there is no terminal to ask at whether this shall be done: say so with --yes".to_owned()))
}

/// Asks whether to do what cannot be undone.
pub(super) fn confirm(question: &str, yes: bool) -> Result<(), Failure> {
    can_ask(yes)?;
    if yes {
        return Ok(());
    }
    let mut terminal = std::io::stderr();
    write!(terminal, "{} [y/N] ", text::on_one_line(question))?;
    terminal.flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Failure("nothing was done".to_owned())),
    }
}

/// Writes to standard output without ending the line.
fn write(text: &str) -> Result<(), Failure> {
    Ok(write!(std::io::stdout(), "{text}")?)
}

/// The part of an answer that the API promises.
fn promised<T>(part: Option<T>) -> Result<T, Failure> {
    part.ok_or_else(|| Failure("the server's answer is empty: is it a Vouchsafe of this version?".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_its_reason_and_does_nothing_to_the_terminal() {
        let bare = Status::new(Code::Unimplemented, "");
        assert!(refusal(&bare).0.ends_with(" (UNIMPLEMENTED)") && refusal(&bare).0.len() > 20, "{}", refusal(&bare).0);
        let hostile = Status::new(Code::DeadlineExceeded, "too\nlate\u{1b}[2J");
        assert_eq!(refusal(&hostile).0, "too\\u{a}late\\u{1b}[2J (DEADLINE_EXCEEDED)");
        let mut internal = Status::new(Code::Internal, "oops");
        internal.metadata_mut().insert("x-request-id", "42".parse().unwrap());
        assert_eq!(refusal(&internal).0, "oops (INTERNAL, x-request-id 42)");
    }
}
