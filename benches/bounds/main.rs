//! `make bench`: the bounds that Vouchsafe is measured against, as ratios within one run on one machine.
//!
//! How each figure comes about, and how to read it, is in `docs/BENCHMARKS.md`. `BENCH` names the parts to run (default: all);
//! `BENCH_SECONDS` is about how long each comparison lasts.

#![allow(clippy::unwrap_used, clippy::expect_used)] // whatever fails ends the run
#![allow(clippy::disallowed_methods)] // time is what is measured here

mod audit;
mod constant;
mod embedded;
mod enumeration;
mod load;
mod logins;
mod proc;
mod process;
mod redis;
mod report;
mod revocation;
mod rpc;
mod sidecar;
mod stats;
mod storm;
mod users;

use std::{env, path::Path, time::Duration};

use report::{Bound, Report};

/// What can be asked for.
const PARTS: [&str; 12] = [
    "embedded",
    "verify",
    "refresh",
    "sqlite",
    "login",
    "storm",
    "memory",
    "sidecar",
    "revocation",
    "enumeration",
    "users",
    "audit",
];

fn main() {
    let args: Vec<String> = env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("constant") => constant::run(),
        Some("storm") => storm::run(&args[1..]),
        _ => bench(),
    }
}

/// Which parts to run, and for how long.
pub(crate) struct Plan {
    parts: Vec<String>,
    pub(crate) budget: Duration,
}

impl Plan {
    fn from_env() -> Self {
        let wanted = env::var("BENCH").unwrap_or_default();
        let parts: Vec<String> = match wanted.trim() {
            "" => PARTS.map(str::to_owned).to_vec(),
            some => some.split([',', ' ']).map(str::to_owned).collect(),
        };
        if let Some(unknown) = parts.iter().find(|part| !PARTS.contains(&part.as_str())) {
            panic!("BENCH={unknown}: there are {}", PARTS.join(", "));
        }
        let seconds = env::var("BENCH_SECONDS").map_or(12, |text| text.parse().expect("BENCH_SECONDS is a number"));
        Self { parts, budget: Duration::from_secs(seconds) }
    }

    pub(crate) fn has(&self, part: &str) -> bool {
        self.parts.iter().any(|wanted| wanted == part)
    }
}

fn bench() {
    let plan = Plan::from_env();
    let mut report = Report::default();
    report.note(proc::machine());
    if plan.has("embedded") {
        embedded::run(plan.budget, &mut report);
    }
    if PARTS[1..].iter().any(|part| plan.has(part)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            rpc::run(&plan, &mut report).await;
            if plan.has("sidecar") {
                sidecar::run(&plan, &mut report).await;
            }
            if plan.has("revocation") {
                revocation::run(&plan, &mut report).await;
            }
            if plan.has("enumeration") {
                enumeration::run(&mut report).await;
            }
            if plan.has("users") {
                users::run(&plan, &mut report).await;
            }
            if plan.has("audit") {
                audit::run(&plan, &mut report).await;
            }
        });
    }
    report.write(&Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("bench.md"));
}
