//! `vouchsafe messages`: messages that could not be delivered, directly on the store. A running server sends what is to be tried
//! again within a second or two.

use std::{process::ExitCode, time::Duration};

use serde_json::json;
use uuid::Uuid;

use super::{
    Failure, ambient,
    args::{MessagesCommand, Output, SomeMessages},
    print,
};
use crate::{
    config::Settings,
    domain::time::Timestamp,
    server::{Ambient, DeadLetter, OpenStore},
};

pub(super) async fn run(settings: Settings, command: MessagesCommand) -> Result<ExitCode, Failure> {
    let ambient = ambient();
    let opened = OpenStore::existing(&settings, &ambient).await?;
    let said = match command {
        MessagesCommand::List { output, settings: _ } => list(&opened, &ambient, output).await,
        MessagesCommand::Retry(SomeMessages { id, .. }) => retry(&opened, &ambient, id).await,
        MessagesCommand::Drop(SomeMessages { id, .. }) => drop_some(&opened, id).await,
    };
    opened.store.close().await;
    print(&said?)
}

async fn list(opened: &OpenStore, ambient: &Ambient, output: Output) -> Result<String, Failure> {
    let letters = opened.dead_letters().await?;
    match output {
        Output::Table => Ok(table(&letters, ambient.clock.now())),
        Output::Json => json(&letters),
    }
}

async fn retry(opened: &OpenStore, ambient: &Ambient, id: Option<Uuid>) -> Result<String, Failure> {
    let letters = opened.dead_letters().await?;
    let now = ambient.clock.now();
    let is_meant = |letter: &&DeadLetter| id.is_none_or(|id| letter.message.id == id);
    let useless = letters.iter().filter(is_meant).filter(|letter| letter.message.expire_time <= now).count();
    match (opened.store.retry_messages(id).await?, id) {
        (0, Some(id)) if useless > 0 => Err(Failure(format!(
            "the message {id} is of no use any more: forget it with `vouchsafe messages drop {id}`"
        ))),
        (0, Some(id)) => Err(unknown(id)),
        (retried, _) if useless > 0 => Ok(format!(
            "{}; {useless} of no use any more: forget with `vouchsafe messages drop`",
            counted(retried, "to be tried again")
        )),
        (retried, _) => Ok(counted(retried, "to be tried again")),
    }
}

async fn drop_some(opened: &OpenStore, id: Option<Uuid>) -> Result<String, Failure> {
    match (opened.store.drop_messages(id).await?, id) {
        (0, Some(id)) => Err(unknown(id)),
        (dropped, _) => Ok(counted(dropped, "forgotten")),
    }
}

fn unknown(id: Uuid) -> Failure {
    Failure(format!("no message with the id {id} was given up: `vouchsafe messages list` shows those that were"))
}

fn counted(number: u64, what: &str) -> String {
    format!("{number} {} {what}", if number == 1 { "message" } else { "messages" })
}

fn table(letters: &[DeadLetter], now: Timestamp) -> String {
    let mut lines = vec![format!(
        "{:<36}  {:<7}  {:<23}  {:>4}  {:>8}  {}",
        "ID", "CHANNEL", "KIND", "AGE", "ATTEMPTS", "LAST ERROR"
    )];
    for DeadLetter { message, kind } in letters {
        lines.push(format!(
            "{:<36}  {:<7}  {:<23}  {:>4}  {:>8}  {}",
            message.id,
            message.channel,
            kind.unwrap_or("?"),
            age(now.since(message.create_time)),
            message.attempts,
            message.last_error
        ));
    }
    lines.join("\n")
}

/// In the largest unit that there is at least one of.
fn age(age: Duration) -> String {
    let seconds = age.as_secs();
    [(86_400, "d"), (3_600, "h"), (60, "m")]
        .into_iter()
        .find(|(unit, _)| seconds >= *unit)
        .map_or_else(|| format!("{seconds}s"), |(unit, name)| format!("{}{name}", seconds / unit))
}

fn json(letters: &[DeadLetter]) -> Result<String, Failure> {
    let letters: Vec<_> = letters
        .iter()
        .map(|DeadLetter { message, kind }| {
            json!({
                "id": message.id,
                "channel": message.channel,
                "kind": kind,
                "create_time": message.create_time.to_string(),
                "expire_time": message.expire_time.to_string(),
                "dead_time": message.dead_time.to_string(),
                "attempts": message.attempts,
                "last_error": message.last_error,
            })
        })
        .collect();
    Ok(serde_json::to_string_pretty(&letters)?)
}
