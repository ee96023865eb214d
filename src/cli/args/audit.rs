//! `vouchsafe audit`.

use std::path::PathBuf;

use clap::{Subcommand, ValueHint};
use prost_types::Timestamp;

use super::{ListArgs, ManageArgs};
use crate::cli::manage::values::moment;

/// Read and check the audit trail.
#[derive(Clone, Subcommand)]
pub enum AuditCommand {
    /// List events, the latest first
    ///
    /// All conditions must hold. docs/AUDIT.md names the acts.
    List(ListEvents),
    /// Print events as they are recorded, at any server
    ///
    /// For ever: end it with Ctrl-C. With --cursor-file it goes on where it ended before, so that nothing is missed meanwhile.
    Watch(WatchEvents),
    /// Write the whole trail as JSON Lines, with all that it takes to check it
    ///
    /// Whoever has the file can check it by `vouchsafe audit verify FILE`, without the database.
    Export(ExportEvents),
    /// Check that no event was changed, taken out or put in
    ///
    /// Of the trail itself, or of an export. Keep a checkpoint (--save-checkpoint) where nobody who can write to the database
    /// can, and hand it in the next time: without one nobody can tell that an older state was put back as a whole. Exits with 0
    /// if everything fits, with 1 if something does not, and with 2 if that cannot be told.
    Verify(VerifyTrail),
}

impl AuditCommand {
    /// Where it acts and how it answers.
    pub(in crate::cli) fn common(&self) -> &ManageArgs {
        match self {
            Self::List(args) => &args.common,
            Self::Watch(args) => &args.common,
            Self::Export(args) => &args.common,
            Self::Verify(args) => &args.common,
        }
    }
}

/// Which events to list.
#[derive(Clone, clap::Args)]
pub struct ListEvents {
    /// Only this act, like login.failed, or all that begin so, like 'role.*'
    #[arg(long, value_name = "ACT")]
    pub act: Option<String>,
    /// Only what this user, service account (its client id) or kind did: anonymous, user, service, operator, system
    #[arg(long, value_name = "ID|KIND")]
    pub actor: Option<String>,
    /// Only what is about this user or service account, by id
    #[arg(long, value_name = "ID")]
    pub subject: Option<String>,
    /// Only what is about this session
    #[arg(long, value_name = "ID")]
    pub session: Option<String>,
    /// Only what succeeded
    #[arg(long, conflicts_with = "failed")]
    pub succeeded: bool,
    /// Only what failed
    #[arg(long)]
    pub failed: bool,
    /// Only from this moment on: 2026-11-22 or 2026-11-22T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub since: Option<Timestamp>,
    /// Only before this moment
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub before: Option<Timestamp>,
    /// Only what came of the call with this x-request-id
    #[arg(long, value_name = "ID")]
    pub request_id: Option<String>,
    /// The earliest first
    #[arg(long)]
    pub oldest_first: bool,
    /// How many.
    #[command(flatten)]
    pub list: ListArgs,
    /// Where.
    #[command(flatten)]
    pub common: ManageArgs,
}

/// Where to begin.
#[derive(Clone, clap::Args)]
pub struct WatchEvents {
    /// Begin with the first event there is, not now
    #[arg(long)]
    pub from_beginning: bool,
    /// Keep in this file how far was printed, and begin there if it is there
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub cursor_file: Option<PathBuf>,
    /// Where.
    #[command(flatten)]
    pub common: ManageArgs,
}

/// Where to write.
#[derive(Clone, clap::Args)]
pub struct ExportEvents {
    /// The file to write; - is standard output
    #[arg(value_name = "FILE", default_value = "-", value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// Write addresses and agents in plain as well, of users who were not deleted
    #[arg(long)]
    pub personal: bool,
    /// Where.
    #[command(flatten)]
    pub common: ManageArgs,
}

/// What to check.
#[derive(Clone, clap::Args)]
pub struct VerifyTrail {
    /// An export to check instead of the trail itself
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub file: Option<PathBuf>,
    /// Check an export without opening the database: its hashes, but not what vouches for its ends
    #[arg(long, requires = "file", conflicts_with = "url")]
    pub without_key: bool,
    /// A checkpoint that was kept: what it names must still be there; the status is 2 if it is older than events are kept
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub checkpoint: Option<PathBuf>,
    /// Write a checkpoint if everything fits
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub save_checkpoint: Option<PathBuf>,
    /// Where.
    #[command(flatten)]
    pub common: ManageArgs,
}

#[cfg(test)]
mod tests {
    use clap::{Parser as _, error::ErrorKind};

    use crate::cli::args::Args;

    #[test]
    fn the_trail_is_read_and_checked_one_way_at_a_time() {
        let parse = |line: &str| Args::try_parse_from(std::iter::once("vouchsafe").chain(line.split_whitespace()));
        for line in [
            "audit list --act role.* --actor system --failed --since 2026-11-22 --limit 5",
            "audit list --subject x --session y --succeeded --oldest-first --all --output json",
            "audit watch --from-beginning --cursor-file f --server http://h --token-file t",
            "audit export --set a=b",
            "audit export - --personal",
            "audit verify",
            "audit verify f --without-key --checkpoint c --save-checkpoint d",
        ] {
            assert!(parse(line).is_ok(), "{line}");
        }
        for (line, kind) in [
            ("audit", ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand),
            ("audit list --failed --succeeded", ErrorKind::ArgumentConflict),
            ("audit list --since yesterday", ErrorKind::ValueValidation),
            ("audit verify --without-key", ErrorKind::MissingRequiredArgument),
        ] {
            assert_eq!(parse(line).err().unwrap().kind(), kind, "{line}");
        }
    }
}
