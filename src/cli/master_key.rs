//! `vouchsafe keys rotate-master`: a change of the master key.

use std::{io::Write as _, process::ExitCode};

use super::{Failure, ambient, print};
use crate::{
    config::{MasterKey, Settings},
    server::{MasterKeyChange, Sealed},
};

/// How many rows that cannot be opened are named.
const NAMED: usize = 20;

pub(super) async fn rotate(settings: Settings, check: bool) -> Result<ExitCode, Failure> {
    if check {
        return look(&settings).await;
    }
    let is_given = matches!(settings.keys.master_key, MasterKey::Given(_));
    if !is_given {
        readable(&settings).await?;
    }
    let change = MasterKeyChange::begin(&settings, &ambient()).await?;
    let (key, other) = change.keys();
    let told = |column, rows| {
        // Nothing is lost by it if standard error is closed.
        let _ = writeln!(std::io::stderr(), "vouchsafe: {column}: {rows} sealed under {key}");
    };
    let (found, kept) = change.finish(told).await?;
    complain(&found);
    let total = match found.other.values().sum::<u64>() {
        1 => "1 row".to_owned(),
        rows => format!("{rows} rows"),
    };
    if found.left > 0 {
        let other = other.as_deref().unwrap_or("another key");
        return Err(Failure(format!(
            "{total} sealed under {key}, but something goes on sealing under {other}: a server that does not have {key} as \
             its keys.master_key; see to that, then run this again"
        )));
    }
    print(&match (&kept, other) {
        (Some(kept), _) => format!(
            "{total} sealed under {key}, which is the master key now: back it up. The one before is kept in {}, for backups \
             that were made with it; delete it together with them",
            kept.display()
        ),
        (None, Some(other)) => format!(
            "{total} sealed under {key}, nothing is left under {other}. When every server has {key} as its keys.master_key, \
             run this once more; if it finds nothing then, keys.previous_master_key can be removed everywhere. Keep {other} for \
             as long as backups that were made with it"
        ),
        (None, None) if is_given => format!(
            "everything is sealed under {key}, and there is no other key: to change it, set keys.master_key to a new one and \
             keys.previous_master_key to this one"
        ),
        (None, None) => format!("everything is sealed under {key}"),
    })?;
    none_unreadable(&settings, &found)
}

/// Whether a generated key opens everything. Where it does not, no other one takes its place: each time it would be one more key away
/// from what opens the rest. A change that was begun is brought to its end, with the key that there is for it.
async fn readable(settings: &Settings) -> Result<(), Failure> {
    let change = MasterKeyChange::look(settings, &ambient()).await?;
    let found = match change.keys() {
        (_, None) => change.count().await,
        (_, Some(_)) => Ok(Sealed::default()),
    };
    change.close().await;
    let found = found?;
    complain(&found);
    none_unreadable(settings, &found).map(|_| ())
}

async fn look(settings: &Settings) -> Result<ExitCode, Failure> {
    let change = MasterKeyChange::look(settings, &ambient()).await?;
    let (key, _) = change.keys();
    let found = change.count().await;
    change.close().await;
    let found = found?;
    complain(&found);
    let mut lines = vec![format!("{:<16}  SEALED UNDER ANOTHER KEY THAN {key}", "TABLE")];
    lines.extend(found.other.iter().map(|(column, rows)| format!("{:<16}  {rows}", column.to_string())));
    print(&lines.join("\n"))?;
    none_unreadable(settings, &found)
}

/// What cannot be opened is no reason to leave the rest as it is, but none to be content either.
fn none_unreadable(settings: &Settings, found: &Sealed) -> Result<ExitCode, Failure> {
    if found.unreadable.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<_> = found.unreadable_rows().iter().map(|(column, rows)| format!("{column}: {rows}")).collect();
    let rows = rows.join(", ");
    Err(Failure(match &settings.keys.master_key {
        MasterKey::Given(_) => format!(
            "rows that cannot be opened with either key ({rows}): they were sealed under a third one, or are damaged. If an older \
             key is known, set keys.previous_master_key to it and run this again; otherwise what they hold is lost"
        ),
        MasterKey::Generated { data_dir } => format!(
            "rows that the master key does not open ({rows}): they were sealed under another one, or are damaged. If an older key is \
             known (a file {dir}/master.key.*, or one of a backup), run this once with VOUCHSAFE_KEYS__MASTER_KEY_FILE={dir}/master.key \
             and VOUCHSAFE_KEYS__PREVIOUS_MASTER_KEY_FILE naming the older one's file, and then again without both. Otherwise what \
             they hold is lost: as long as they are there, no new key is generated in place of the present one",
            dir = data_dir.display()
        ),
    }))
}

/// Names what cannot be opened.
fn complain(found: &Sealed) {
    for what in found.unreadable.iter().take(NAMED) {
        let _ = writeln!(std::io::stderr(), "vouchsafe: cannot be opened with either key: {what}");
    }
    if found.unreadable.len() > NAMED {
        let _ = writeln!(std::io::stderr(), "vouchsafe: and {} more", found.unreadable.len() - NAMED);
    }
}
