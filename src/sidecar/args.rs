//! The flags of `vouchsafe sidecar` and of the program `vouchsafe-sidecar`.

use std::path::PathBuf;

use clap::{ValueEnum, ValueHint};

/// How the sidecar runs.
#[derive(Clone, Debug, clap::Args)]
pub struct SidecarArgs {
    /// TOML file that says whom to trust, where to listen, and what to demand of which request
    ///
    /// docs/SIDECAR.md describes it. Changes of routes and headers take effect while the sidecar runs.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub config: PathBuf,
    /// Check the file, print its routes and what is probably not meant so, and exit
    #[arg(long)]
    pub check: bool,
    /// How to write the log, on standard error
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = LogFormat::Json)]
    pub log_format: LogFormat,
    /// How much to write: at debug also each denied request, without what it carried
    #[arg(long, value_enum, value_name = "LEVEL", default_value_t = LogLevel::Info)]
    pub log_level: LogLevel,
}

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// A JSON object a line
    Json,
    /// For people
    Pretty,
}

/// How much is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    /// What does not work
    Error,
    /// And what may not go on working
    Warn,
    /// And what happens rarely
    Info,
    /// And what happens often
    Debug,
}
