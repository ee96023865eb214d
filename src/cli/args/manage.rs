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
    /// URL of a server's gRPC port, for instance https://id.example.com:50051
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
