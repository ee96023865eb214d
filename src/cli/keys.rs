//! `vouchsafe keys`: the keys that sign access tokens, directly on the store or through a server. On the store a running server
//! takes a change over within a second or two.

use std::{
    io::{BufRead as _, IsTerminal as _, Write as _},
    process::ExitCode,
};

use serde_json::json;

use super::{
    Failure, ambient,
    args::{Output, RevokeKeyArgs, ServerArgs},
    manage::{
        Load,
        keys::{KeyCall, call},
    },
    print,
};
use crate::{domain::time::Timestamp, server::OpenStore, service::PublishedKey, store::port::RevokeKey};

pub(super) async fn list(server: &ServerArgs, settings: impl Load, output: Output) -> Result<ExitCode, Failure> {
    let keys = if let Some(url) = &server.url {
        call(url, server, KeyCall::List).await?
    } else {
        let opened = OpenStore::existing(&settings()?, &ambient()).await?;
        let keys = opened.keys().await?;
        opened.store.close().await;
        keys
    };
    print(&match output {
        Output::Table => table(&keys),
        Output::Json => json(&keys)?,
    })
}

pub(super) async fn rotate(server: &ServerArgs, settings: impl Load) -> Result<ExitCode, Failure> {
    if let Some(url) = &server.url {
        // The new one alone: to see the others takes another permission.
        return print(&table(&call(url, server, KeyCall::Rotate).await?));
    }
    let opened = OpenStore::existing(&settings()?, &ambient()).await?;
    opened.rotate_keys().await?;
    let keys = opened.keys().await?;
    opened.store.close().await;
    print(&table(&keys))
}

pub(super) async fn revoke(settings: impl Load, args: RevokeKeyArgs) -> Result<ExitCode, Failure> {
    let RevokeKeyArgs { kid, yes, server, settings: _ } = args;
    if let Some(url) = &server.url {
        if !yes {
            let keys = call(url, &server, KeyCall::List).await?;
            let Some(key) = keys.iter().find(|key| key.kid == kid) else { return Err(unknown(&kid, &keys)) };
            if !confirmed(key)? {
                return Err(Failure("nothing was revoked".to_owned()));
            }
        }
        return print(&table(&call(url, &server, KeyCall::Revoke(&kid)).await?));
    }
    let opened = OpenStore::existing(&settings()?, &ambient()).await?;
    let keys = opened.keys().await?;
    let Some(key) = keys.iter().find(|key| key.kid == kid) else { return Err(unknown(&kid, &keys)) };
    if !yes && !confirmed(key)? {
        opened.store.close().await;
        return Err(Failure("nothing was revoked".to_owned()));
    }
    let outcome = opened.revoke_key(&kid).await?;
    let keys = opened.keys().await?;
    opened.store.close().await;
    match outcome {
        RevokeKey::Revoked => print(&table(&keys)),
        RevokeKey::Unknown => Err(unknown(&kid, &keys)),
    }
}

fn confirmed(key: &PublishedKey) -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure("no terminal to ask whether the key shall be revoked: say so with --yes".to_owned()));
    }
    let PublishedKey { kid, algorithm, state, jwk: _, life: _ } = key;
    let mut terminal = std::io::stderr();
    writeln!(terminal, "{kid} ({algorithm}, {}): every access token it signed will be refused.", state.as_str())?;
    write!(terminal, "Revoke it? Type yes: ")?;
    terminal.flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim() == "yes")
}

fn unknown(kid: &str, keys: &[PublishedKey]) -> Failure {
    let kids: Vec<_> = keys.iter().map(|key| key.kid.as_str()).collect();
    let known = if kids.is_empty() { "there are none".to_owned() } else { format!("there are {}", kids.join(", ")) };
    Failure(format!("no key has the kid {kid:?}: {known}"))
}

fn table(keys: &[PublishedKey]) -> String {
    let mut lines =
        vec![format!("{:<43}  {:<9}  {:<9}  {:<20}  {}", "KID", "ALGORITHM", "STATE", "SIGNS FROM", "SIGNS UNTIL")];
    for PublishedKey { kid, algorithm, state, jwk: _, life } in keys {
        let (algorithm, from) = (algorithm.as_str(), life.activate_time.to_string());
        lines.push(format!(
            "{kid:<43}  {algorithm:<9}  {:<9}  {from:<20}  {}",
            state.as_str(),
            moment(life.retire_time)
        ));
    }
    lines.join("\n")
}

fn moment(time: Option<Timestamp>) -> String {
    time.map_or_else(|| "-".to_owned(), |t| t.to_string())
}

fn json(keys: &[PublishedKey]) -> Result<String, Failure> {
    let keys: Vec<_> = keys
        .iter()
        .map(|PublishedKey { kid, algorithm, state, jwk, life }| {
            json!({
                "kid": kid,
                "algorithm": algorithm,
                "state": state,
                "jwk": jwk,
                "publish_time": life.publish_time.to_string(),
                "activate_time": life.activate_time.to_string(),
                "retire_time": life.retire_time.map(|t| t.to_string()),
                "remove_time": life.remove_time.map(|t| t.to_string()),
            })
        })
        .collect();
    Ok(serde_json::to_string_pretty(&keys)?)
}
