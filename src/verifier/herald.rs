//! Tells everybody who waits for the end of a token that something has changed, and forgets what has expired.

use std::{sync::Arc, time::Duration};

use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};
use tracing::{error, info, warn};

use super::{ambient::monotonic_now, embedded::Shared};

/// How often at most. Everybody who waits looks again then, at about a microsecond each: with 10 000 who wait and revocations all
/// the time this is half a core. The first change after a rest is told at once.
const PAUSE: Duration = Duration::from_millis(20);
/// The pause before a task that has panicked is started again.
const RESTART: Duration = Duration::from_secs(1);
/// How often the list's age is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How often expired revocations are forgotten.
const PURGE: Duration = Duration::from_mins(1);

/// Does this again, a little later, if it ends by a panic: without it what is known would grow old, and nobody would know why.
pub(super) async fn supervise<F>(what: &'static str, work: impl Fn() -> F + Send)
where
    F: Future<Output = ()> + Send + 'static,
{
    loop {
        // A set, so that the work ends with whoever supervises it.
        let mut one = JoinSet::new();
        one.spawn(work());
        match one.join_next().await {
            Some(Err(error)) if error.is_panic() => {
                error!(what, "a task in the background has panicked and is started again");
                sleep(RESTART).await;
            }
            // It is over, or the runtime is.
            _ => return,
        }
    }
}

/// Tells of changes for as long as there is somebody to tell.
pub(super) async fn tell(shared: Arc<Shared>) {
    let mut was_stale = None;
    loop {
        shared.changes.send_modify(|changes| *changes += 1);
        let is_stale = shared.freshness.is_stale(shared.now());
        if was_stale.replace(is_stale).is_some_and(|was_stale| was_stale != is_stale) {
            if is_stale {
                warn!("the list of revocations is too old: what denies then denies now");
            } else {
                info!("the list of revocations is up to date");
            }
        }
        sleep(PAUSE).await;
        until_news(&shared, is_stale).await;
    }
}

/// Resolves when something has changed, or the list is no longer as stale or good as everybody was told.
async fn until_news(shared: &Shared, told_stale: bool) {
    // Also if it became so since they were told.
    while shared.freshness.is_stale(shared.now()) == told_stale {
        tokio::select! {
            () = shared.news.notified() => return,
            // If it is good for ever, or not at all, only news can change that.
            () = elapse(shared.freshness.good_for(shared.now())) => {}
        }
    }
}

async fn elapse(left: Option<Duration>) {
    match left {
        // Past its last good moment. Clocks can be set, and machines sleep: look again from time to time.
        Some(left) => sleep(left.saturating_add(Duration::from_millis(1)).min(LOOK)).await,
        None => std::future::pending().await,
    }
}

/// Forgets what has expired, from time to time.
pub(super) async fn purge(shared: Arc<Shared>) {
    let mut next = Instant::from_std(monotonic_now());
    loop {
        next += PURGE;
        sleep_until(next).await;
        let shared = Arc::clone(&shared);
        // A million entries take some milliseconds. An entry outlives the last token it could refuse by more than any leeway.
        let purged = tokio::task::spawn_blocking(move || shared.purge());
        // It fails only if the runtime ends.
        let _ = purged.await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_is_started_again() {
        let runs = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&runs);
        supervise("a test", move || {
            let run = counted.fetch_add(1, SeqCst);
            async move { assert!(run > 0, "the first time") }
        })
        .await;
        assert_eq!(runs.load(SeqCst), 2);
    }
}
