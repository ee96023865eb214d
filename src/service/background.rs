//! What a node does besides answering: follow the feed, rotate keys, forget what has expired.

use std::{sync::Arc, time::Duration};

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::Service;
use crate::domain::audit::Actor;

/// How often the feed is read without being asked.
const FEED_INTERVAL: Duration = Duration::from_secs(1);
/// How often the key schedule is looked at.
const KEYS_INTERVAL: Duration = Duration::from_secs(30);
/// How often what has expired is deleted.
const PURGE_INTERVAL: Duration = Duration::from_mins(10);
/// How long a session that ended is remembered, so that its holder is told so rather than that it is unknown.
const SESSION_RETENTION: Duration = Duration::from_hours(7 * 24);

/// The background tasks of a service.
#[derive(Debug)]
pub struct Background {
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Background {
    /// Starts them.
    pub fn start(service: &Arc<Service>) -> Self {
        let background = Self { stop: CancellationToken::new(), tasks: TaskTracker::new() };
        background.spawn(Arc::clone(service).follow_feed());
        background.spawn(Arc::clone(service).follow_keys());
        background.spawn(Arc::clone(service).purge());
        background
    }

    /// Stops them and waits until they have.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        // Dropped between two steps: what a step changes, it changes in a transaction of its own task.
        self.tasks.spawn(async move { stop.run_until_cancelled(task).await });
    }
}

impl Service {
    async fn follow_feed(self: Arc<Self>) {
        let mut ticks = interval(FEED_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failing = false;
        loop {
            ticks.tick().await;
            match self.feed.catch_up().await {
                Ok(()) if failing => {
                    failing = false;
                    tracing::info!("revocation feed readable again");
                }
                Ok(()) => {}
                Err(error) if !failing => {
                    failing = true;
                    tracing::warn!(%error, "revocation feed not readable");
                }
                Err(error) => tracing::debug!(%error, "revocation feed not readable"),
            }
        }
    }

    async fn follow_keys(self: Arc<Self>) {
        let mut ticks = interval(KEYS_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.feed.keys_changed() => {}
            }
            let followed = async {
                self.keys.reload(&*self.store).await?;
                self.keys.rotate_if_due(&*self.store, &self.policy, Actor::System).await
            };
            if let Err(error) = followed.await {
                tracing::warn!(%error, "keys not reloaded, those in use stay");
            }
        }
    }

    async fn purge(self: Arc<Self>) {
        let mut ticks = interval(PURGE_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.feed.forget_expired();
            let forgotten = self.clock.now().minus(SESSION_RETENTION);
            let purged = async {
                let entries = self.store.purge_feed().await?;
                let keys = self.store.purge_keys().await?;
                let sessions = self.store.purge_sessions(forgotten).await?;
                Ok::<_, crate::store::StoreError>((entries, keys, sessions))
            };
            match purged.await {
                Ok((entries, keys, sessions)) => tracing::debug!(entries, keys, sessions, "expired rows deleted"),
                Err(error) => tracing::warn!(%error, "expired rows not deleted this time"),
            }
        }
    }
}
