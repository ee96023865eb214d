//! `vouchsafe passwords`.

use std::path::PathBuf;

use clap::{Subcommand, ValueHint};

/// Prepare what passwords are checked against.
#[derive(Clone, Subcommand)]
pub enum PasswordsCommand {
    /// Make a filter of passwords that were stolen somewhere
    ///
    /// Reads a list and writes the file that the setting passwords.breached_filter names. The list is that of Have I Been Pwned,
    /// SHA1:COUNT in each line, or, with --plain, a password in each line. Sorted or not; takes at most about 130 MiB of memory,
    /// and for a list that is not sorted twice the filter's size on disk.
    BuildFilter(BuildFilter),
}

/// The filter to make.
#[derive(Clone, clap::Args)]
pub struct BuildFilter {
    /// The list; - reads it from standard input
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub input: PathBuf,
    /// The filter to write. What is there is replaced when the new one is complete
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub output: PathBuf,
    /// The lines of the list are passwords
    #[arg(long)]
    pub plain: bool,
    /// Leave out passwords that were seen less often
    #[arg(long, value_name = "N", default_value_t = 0, conflicts_with = "plain")]
    pub min_count: u64,
}
