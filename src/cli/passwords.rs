//! `vouchsafe passwords`: what passwords are checked against, made without a server.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
    process::ExitCode,
};

use super::{Failure, args::BuildFilter, print};
use crate::breached::{Input, Limits, build};

/// Large reads, for large lists.
const BUFFER: usize = 256 * 1024;

pub(super) fn build_filter(args: &BuildFilter) -> Result<ExitCode, Failure> {
    let BuildFilter { input, output, plain, min_count } = args;
    let list: Box<dyn BufRead> = if input == Path::new("-") {
        Box::new(std::io::stdin().lock())
    } else {
        let file = File::open(input).map_err(|e| Failure(format!("cannot read {}: {e}", input.display())))?;
        Box::new(BufReader::with_capacity(BUFFER, file))
    };
    let lines = if *plain { Input::Plain } else { Input::Hashes };
    let built = build(list, output, lines, Limits { min_count: *min_count, ..Limits::default() })?;
    print(&format!("{} passwords of {} lines are in {}", built.records, built.lines, output.display()))
}
