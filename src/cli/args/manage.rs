//! Flags that the commands share which manage users, roles and service accounts.

use std::path::PathBuf;

use clap::ValueHint;

use super::{Output, SettingsArgs};

/// Where a command acts and how it answers.
#[derive(Clone, clap::Args)]
pub struct ManageArgs {
    /// How to print the answer
    #[arg(long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
    /// The server to ask.
    #[command(flatten)]
    pub server: ServerArgs,
    /// Settings flags after the command.
    #[command(flatten)]
    pub settings: SettingsArgs,
}

/// The server to ask, instead of the database that the settings name.
#[derive(Clone, clap::Args)]
#[command(next_help_heading = "Server")]
pub struct ServerArgs {
    /// URL of a server's gRPC port, for instance `https://id.example.com:50051`
    ///
    /// Without it the command works on the database that the settings name, in the operator's name, also while servers run.
    /// With it no setting is read, and an access token says who acts.
    #[arg(long = "server", value_name = "URL", value_hint = ValueHint::Url)]
    pub url: Option<String>,
    /// Read the access token from a file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, requires = "url", conflicts_with = "token_stdin")]
    pub token_file: Option<PathBuf>,
    /// Read the access token from standard input
    #[arg(long, requires = "url")]
    pub token_stdin: bool,
    /// File with the certificates (PEM) to trust instead of the system's
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, requires = "url")]
    pub ca_file: Option<PathBuf>,
    /// Certificate (PEM) to show to a server that demands one
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, requires_all = ["url", "client_key"])]
    pub client_cert: Option<PathBuf>,
    /// Private key (PEM) of --client-cert
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, requires = "client_cert")]
    pub client_key: Option<PathBuf>,
    /// Call another machine without TLS as well: whoever is in between can then read the token and act with it
    #[arg(long, requires = "url")]
    pub allow_plaintext: bool,
}

/// How much of a list.
#[derive(Clone, Copy, clap::Args)]
pub struct ListArgs {
    /// Print at most so many
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: u64,
    /// Print all there are
    #[arg(long, conflicts_with = "limit")]
    pub all: bool,
}

/// Whether to ask before something cannot be undone.
#[derive(Clone, Copy, clap::Args)]
pub struct ConfirmArgs {
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
}

/// Only if nobody was faster.
#[derive(Clone, clap::Args)]
pub struct EtagArgs {
    /// Refuse if it has changed since it had this etag, as --output json prints it
    #[arg(long, value_name = "ETAG")]
    pub etag: Option<String>,
}

#[cfg(test)]
mod tests {
    use clap::{Parser as _, error::ErrorKind};

    use crate::cli::args::{Args, Command, RoleCommand, ServiceAccountCommand, UserCommand};

    fn parse(line: &str) -> Result<Command, clap::Error> {
        Args::try_parse_from(std::iter::once("vouchsafe").chain(line.split_whitespace())).map(|args| args.command)
    }

    #[track_caller]
    fn refused(line: &str, kind: ErrorKind) {
        assert_eq!(parse(line).err().unwrap_or_else(|| panic!("{line} is taken")).kind(), kind, "{line}");
    }

    #[test]
    fn a_server_is_asked_with_a_token_that_is_not_on_the_command_line() {
        for line in [
            "user list --server http://h --token-file f",
            "role get x --server https://h --token-stdin --ca-file c --client-cert a --client-key b",
            "service-account list --server http://h --token-stdin --allow-plaintext --output json",
        ] {
            assert!(parse(line).is_ok(), "{line}");
        }
        for flags in ["--token-file f", "--token-stdin", "--ca-file c", "--allow-plaintext"] {
            refused(&format!("user list {flags}"), ErrorKind::MissingRequiredArgument);
        }
        refused("user list --server http://h --client-cert c", ErrorKind::MissingRequiredArgument);
        refused("user list --server http://h --token t", ErrorKind::UnknownArgument);
        refused("user list --server http://h --token-file f --token-stdin", ErrorKind::ArgumentConflict);
        // Standard input holds one of the two.
        let both = "user set-password ada --password-stdin --server http://h --token-stdin";
        refused(both, ErrorKind::ArgumentConflict);
    }

    #[test]
    fn settings_flags_stand_anywhere() {
        for line in [
            "--set a=1 user --set b=2 list --set c=3",
            "--set a=1 role --set b=2 get x --set c=3",
            "--set a=1 service-account --set b=2 delete svc_x --yes --set c=3",
        ] {
            let args = Args::try_parse_from(std::iter::once("vouchsafe").chain(line.split_whitespace()));
            assert_eq!(args.unwrap_or_else(|e| panic!("{line}: {e}")).settings().sets, ["a=1", "b=2", "c=3"], "{line}");
        }
    }

    #[test]
    fn a_change_changes_something_and_one_thing_one_way() {
        for line in ["user update ada", "role update x", "service-account update svc_x"] {
            refused(line, ErrorKind::MissingRequiredArgument);
        }
        for line in [
            "role update x --permission a:b --add-permission c:d",
            "role update x --no-permissions --remove-permission c:d",
            "service-account update svc_x --role r --no-roles",
            "user create --email a@b.example --no-password --password-stdin",
            "user create --email a@b.example --password-hash-file f --password-file f",
            "user list --limit 5 --all",
        ] {
            refused(line, ErrorKind::ArgumentConflict);
        }
        refused("service-account create --display-name n --no-secret", ErrorKind::MissingRequiredArgument);
        refused("user list --limit 0", ErrorKind::ValueValidation);
        let UserCommand::Update(update) = user("user update ada --email-verified=false --username=") else {
            panic!("another command");
        };
        assert_eq!((update.changes.email_verified, update.changes.username.as_deref()), (Some(false), Some("")));
        let Command::Role { command: RoleCommand::Update(update), .. } =
            parse("role update x --add-permission a:b --add-permission c:d --remove-permission e:f").unwrap()
        else {
            panic!("another command");
        };
        assert_eq!((update.changes.added.len(), update.changes.removed.len()), (2, 1));
        let Command::ServiceAccount { command: ServiceAccountCommand::RotateSecret(rotate), .. } =
            parse("service-account rotate-secret svc_x").unwrap()
        else {
            panic!("another command");
        };
        assert_eq!(rotate.keep_previous, std::time::Duration::from_hours(24));
    }

    fn user(line: &str) -> UserCommand {
        match parse(line).unwrap() {
            Command::User { command, .. } => command,
            _ => panic!("another command"),
        }
    }
}
