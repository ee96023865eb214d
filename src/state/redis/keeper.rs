//! Keeps the connection: makes it, tries what is away until it answers, and says in the log when that changes.

use std::{
    hash::{BuildHasher as _, Hasher as _, RandomState},
    sync::Arc,
    time::Duration,
};

use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};
use tracing::{debug, info, warn};

use super::{Shared, breaker::Part, connect::Link, error::Trouble, script::CompareAndSet};

/// About how long between two tries.
const PAUSE: Duration = Duration::from_millis(250);
/// After how many tries a new connection to a cluster is made, in case this one's view of the cluster is old.
const TRIES_PER_CANDIDATE: u32 = 8;

/// Between 0.8 and 1.2 times the pause, so that nodes do not knock all at once.
pub(super) fn pause() -> Duration {
    let random = RandomState::new().build_hasher().finish() % 1_000;
    PAUSE.mul_f64(0.8 + 0.0004 * f64::from(u32::try_from(random).unwrap_or(0)))
}

/// Never ends; whoever holds `shared` for its calls ends it.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut known_to_be_up = None;
    loop {
        let (mut candidate, mut tries, mut surveyed) = (None, 0, 0);
        while !shared.breaker.is_whole() {
            // Calls found something away, perhaps all of a node: find out about the rest of it before they do.
            if shared.breaker.away().len() > surveyed {
                survey(&shared).await;
                surveyed = shared.breaker.away().len();
            }
            let attempt = attempt(&shared, &mut candidate).await;
            shared.tried.set(()).ok();
            let Err(trouble) = attempt else { continue };
            tries += 1;
            if !shared.breaker.is_cluster() || tries % TRIES_PER_CANDIDATE == 0 {
                candidate = None;
            }
            if known_to_be_up != Some(false) {
                warn!(address = %shared.address, cause = %trouble, "Redis is away: the database is asked instead");
                known_to_be_up = Some(false);
            }
            sleep(pause()).await;
        }
        if known_to_be_up == Some(true) {
            debug!(address = %shared.address, "Redis did not answer a call, but answers now");
        } else {
            info!(address = %shared.address, "Redis answers");
            known_to_be_up = Some(true);
        }
        shared.tripped.notified().await;
    }
}

/// Tries the parts of a cluster that are not known to be away.
async fn survey(shared: &Arc<Shared>) {
    let link = shared.link.load_full().filter(|_| shared.breaker.is_cluster());
    let Some(link) = link else { return };
    let begun = shared.breaker.begin();
    for (part, outcome) in probe_all(shared, &link, shared.breaker.present()).await {
        if outcome.is_err() {
            shared.breaker.trip(part, begun);
        }
    }
}

/// Tries what is away, over another connection than calls use: a cluster's client that looks for a lost node holds up
/// everything else. If something answers, the connection becomes the one for calls.
async fn attempt(shared: &Arc<Shared>, candidate: &mut Option<Link>) -> Result<(), Trouble> {
    let link = match candidate.take() {
        Some(link) => link,
        None => shared.connector.connect().await?,
    };
    let outcomes = probe_all(shared, &link, shared.breaker.away()).await;
    if outcomes.iter().any(|(_, outcome)| outcome.is_ok()) {
        // Before the parts are mended, whose calls need it.
        shared.link.store(Some(Arc::new(link)));
    } else {
        *candidate = Some(link);
    }
    let mut trouble = None;
    for (part, outcome) in outcomes {
        match outcome {
            Ok(()) => shared.breaker.mend(part),
            Err(error) => trouble = Some(error),
        }
    }
    trouble.map_or(Ok(()), Err)
}

async fn probe_all(shared: &Arc<Shared>, link: &Link, parts: Vec<Part>) -> Vec<(Part, Result<(), Trouble>)> {
    let mut probes = JoinSet::new();
    for part in parts {
        let (shared, link) = (Arc::clone(shared), link.clone());
        probes.spawn(async move { (part, probe(&shared, link, part).await) });
    }
    probes.join_all().await
}

/// Writes, because a replica would answer a read.
async fn probe(shared: &Shared, mut link: Link, part: Part) -> Result<(), Trouble> {
    let key = shared.breaker.key_in(part);
    let command = CompareAndSet { key: &key, expected: None, new: b"", ttl: Duration::from_millis(1) };
    match timeout(shared.patience, command.run(&mut link)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(Trouble::TooSlow),
    }
}
