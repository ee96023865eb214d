//! `vouchsafe privacy`.

use std::path::PathBuf;

use clap::{Subcommand, ValueHint};
use prost_types::Timestamp;

use super::SettingsArgs;
use crate::cli::manage::values::moment;

/// Keep users deleted who were deleted.
#[derive(Clone, Subcommand)]
pub enum PrivacyCommand {
    /// Print who was deleted and when, one JSON object a line
    ///
    /// Ids and times, nothing personal. Keep what it prints where a restore of the database does not reach.
    Erasures(ListErasures),
    /// Delete users again that a restored backup has brought back
    ///
    /// Reads what `vouchsafe privacy erasures` printed, or a file of `vouchsafe audit export`; a line that is neither is named,
    /// and nothing is done then. Deletes whoever of them is there, and remembers the others, so that the list is whole again.
    /// Can be repeated. Asks first if there is anybody to delete; nothing brings them back.
    Reapply(ReapplyErasures),
}

/// Which of them.
#[derive(Clone, clap::Args)]
pub struct ListErasures {
    /// Only who was deleted from this moment on: 2026-11-22 or 2026-11-22T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub since: Option<Timestamp>,
    /// Settings flags after the command.
    #[command(flatten)]
    pub settings: SettingsArgs,
}

/// Who is to be deleted again.
#[derive(Clone, clap::Args)]
pub struct ReapplyErasures {
    /// The list; - reads it from standard input
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
    /// Settings flags after the command.
    #[command(flatten)]
    pub settings: SettingsArgs,
}
