//! `vouchsafe completions`: scripts with which a shell completes commands and flags.

use std::{io::Write as _, process::ExitCode};

use clap::CommandFactory as _;
use clap_complete::{Shell, generate};

use super::{Failure, args::Args};

pub(super) fn write(shell: Shell) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    generate(shell, &mut Args::command(), "vouchsafe", &mut script);
    std::io::stdout().write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}
