//! `vouchsafe sidecar` as a program of its own, without the service.

use std::process::ExitCode;

use clap::Parser;
use vouchsafe::sidecar::{self, args::SidecarArgs};

/// Verifies access tokens beside a workload: external authorization for Envoy, and Verify for everybody else
#[derive(Parser)]
#[command(name = "vouchsafe-sidecar", version)]
struct Args {
    #[command(flatten)]
    sidecar: SidecarArgs,
}

fn main() -> ExitCode {
    sidecar::main(&Args::parse().sidecar)
}
