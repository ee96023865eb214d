//! `vouchsafe privacy`: who was deleted, and deleting them again after a restore. Directly on the store: a restored database is not
//! to be served before.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Write as _},
    path::Path,
    process::ExitCode,
};

use super::{
    Failure, ambient,
    args::{ListErasures, PrivacyCommand, ReapplyErasures},
    manage::{can_ask, confirm},
    print,
};
use crate::{
    config::Settings,
    domain::time::Timestamp,
    server::OpenStore,
    service::{ReappliedErasures, Service},
    store::port::{Erasure, Store},
};

mod list;

/// Erasures read at once.
const PAGE: u32 = 1000;

pub(super) async fn run(settings: Settings, command: PrivacyCommand) -> Result<ExitCode, Failure> {
    match command {
        PrivacyCommand::Erasures(ListErasures { since, settings: _ }) => {
            let since = since.map_or(Timestamp::from_micros(0), |since| {
                let micros = since.seconds.saturating_mul(1_000_000) + i64::from(since.nanos) / 1_000;
                Timestamp::from_micros(micros)
            });
            let opened = OpenStore::existing(&settings, &ambient()).await?;
            let printed = print_all(&*opened.store, since).await;
            opened.store.close().await;
            printed
        }
        PrivacyCommand::Reapply(ReapplyErasures { file, yes, settings: _ }) => {
            // All of it before anything is done.
            let erasures = read(&file)?;
            let service = OpenStore::existing(&settings, &ambient()).await?.into_service(&settings).await?;
            let done = reapply(&service, &erasures, yes).await;
            service.close().await;
            let ReappliedErasures { deleted, noted, known } = done?;
            print(&format!("{deleted} deleted again, {noted} noted, {known} known before"))
        }
    }
}

async fn print_all(store: &dyn Store, since: Timestamp) -> Result<ExitCode, Failure> {
    let mut last = None;
    let mut out = io::stdout().lock();
    loop {
        let page = store.erasures(since, last, PAGE).await?;
        for erasure in &page {
            writeln!(out, "{}", list::line(erasure)?)?;
        }
        last = page.last().copied().or(last);
        if page.is_empty() {
            out.flush()?;
            return Ok(ExitCode::SUCCESS);
        }
    }
}

fn read(file: &Path) -> Result<Vec<Erasure>, Failure> {
    let problem = |error: io::Error| Failure(format!("cannot read {}: {error}", file.display()));
    let input: Box<dyn BufRead> = if file.as_os_str() == "-" {
        Box::new(io::stdin().lock())
    } else {
        Box::new(BufReader::new(File::open(file).map_err(problem)?))
    };
    list::read(input).map_err(|cause| Failure(format!("nothing was done: {}, {cause}", file.display())))
}

async fn reapply(service: &Service, erasures: &[Erasure], yes: bool) -> Result<ReappliedErasures, Failure> {
    let back = service.who_came_back(erasures).await?;
    if back > 0 {
        can_ask(yes)?;
        let all = erasures.len();
        confirm(&format!("Of {all} users who were deleted {back} are there again. Delete them for good?"), yes)?;
    }
    Ok(service.reapply_erasures(erasures).await?)
}
