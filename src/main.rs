//! The `vouchsafe` program: the edge where arguments, environment, time and randomness enter.

use std::{env, process::ExitCode};

use clap::Parser as _;
use vouchsafe::cli::{self, args::Args};

fn main() -> ExitCode {
    // A variable that is not Unicode cannot be one of ours.
    let env = env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    cli::run(Args::parse(), env.collect())
}
