//! Keeps the connection: makes it, tries what is away until it answers, and says in the log when that changes.

use std::{
    hash::{BuildHasher as _, Hasher as _, RandomState},
    sync::Arc,
    time::Duration,
};

use tokio::{task::JoinSet, time::sleep};
use tracing::{debug, info, warn};

use super::{Shared, breaker::Part, connect::Link, error::Trouble, script::CompareAndSet};

/// About how long between two tries.
const PAUSE: Duration = Duration::from_millis(250);
/// After how many tries in vain a connection that works in part is replaced, in case its view of the cluster is old.
const TRIES_PER_LINK: u32 = 8;

/// Between 0.8 and 1.2 times the pause, so that nodes do not knock all at once.
pub(super) fn pause() -> Duration {
    let random = RandomState::new().build_hasher().finish() % 1_000;
    PAUSE.mul_f64(0.8 + 0.0004 * f64::from(u32::try_from(random).unwrap_or(0)))
}

/// Never ends; whoever holds `shared` for its calls ends it.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut known_to_be_up = None;
    loop {
        let mut tries = 0;
        let mut trouble = None;
        while !shared.breaker.is_whole() {
            let had_link = shared.link.load().is_some();
            trouble = round(&shared, tries % TRIES_PER_LINK == TRIES_PER_LINK - 1).await;
            shared.tried.set(()).ok();
            tries += 1;
            if trouble.is_none() {
                continue;
            }
            // What did not answer over an old connection may over a new one.
            if had_link && shared.link.load().is_none() {
                continue;
            }
            if known_to_be_up != Some(false) {
                let cause = trouble.as_ref().map(tracing::field::display);
                warn!(address = %shared.address, cause, "Redis is away: the database is asked instead");
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
        drop(trouble);
        shared.tripped.notified().await;
    }
}

/// Tries everything that is away, over a new connection if there is none. What the matter is with what still is away.
async fn round(shared: &Arc<Shared>, renew: bool) -> Option<Trouble> {
    let present = shared.link.load_full().filter(|_| !renew);
    let link = match present {
        Some(link) => link,
        None => match shared.connector.connect().await {
            Ok(link) => {
                let link = Arc::new(link);
                shared.link.store(Some(Arc::clone(&link)));
                link
            }
            Err(error) => return Some(error.into()),
        },
    };
    let mut probes = JoinSet::new();
    for part in shared.breaker.away() {
        probes.spawn(probe(Arc::clone(shared), Link::clone(&link), part));
    }
    let (mut any, mut trouble) = (false, None);
    while let Some(outcome) = probes.join_next().await {
        match outcome {
            Ok(Ok(part)) => {
                any = true;
                shared.breaker.mend(part);
            }
            Ok(Err(error)) => trouble = Some(error),
            // Cannot happen: it is not aborted and does not panic.
            Err(_) => {}
        }
    }
    if !any {
        shared.link.store(None);
    }
    trouble
}

/// Writes, because a replica would answer a read.
async fn probe(shared: Arc<Shared>, mut link: Link, part: Part) -> Result<Part, Trouble> {
    let key = shared.breaker.key_in(part);
    let command = CompareAndSet { key: &key, expected: None, new: b"", ttl: Duration::from_millis(1) };
    match tokio::time::timeout(shared.patience, command.run(&mut link)).await {
        Ok(Ok(_)) => Ok(part),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(Trouble::TooSlow),
    }
}
