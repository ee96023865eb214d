//! What a node does besides answering: follow the feed, rotate keys, forget what has expired.

use std::{sync::Arc, time::Duration};

use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use super::{
    Service, failures,
    hot::{behind, rows::READERS},
    imports::IMPORT_RETENTION,
    users::REQUEST_RETENTION,
};
use crate::{
    domain::{id::SessionId, time::Timestamp, warrant::Authority},
    store::StoreError,
};

/// How often the feed is read without being asked.
const FEED_INTERVAL: Duration = Duration::from_secs(1);
/// How often nodes tell each other how far the feed goes. Often enough that the second that is promised to nodes without the
/// database holds with a reading of the feed before it.
const HEAD_INTERVAL: Duration = Duration::from_millis(500);
/// Pause before a task that failed is started again.
const RESTART_PAUSE: Duration = Duration::from_secs(1);
/// How often the key schedule is looked at.
const KEYS_INTERVAL: Duration = Duration::from_secs(30);
/// How soon other nodes hear of failures.
const FAILURES_INTERVAL: Duration = Duration::from_millis(100);
/// How often it is asked whether hot records of users who were deleted are to be looked at.
const RECORDS_TICK: Duration = Duration::from_secs(1);
/// How often they are.
const RECORDS_INTERVAL: Duration = Duration::from_mins(1);
/// Who was deleted within this time may have records again: a refresh that had read its row before may write one, an erasure may
/// have been committed without anybody hearing of it.
const RECORDS_WINDOW: Duration = Duration::from_mins(10);
/// How long a node that starts may have been away.
const AWAY: Duration = Duration::from_hours(1);
/// Nodes of older versions, which do not note whom they delete, may still be running for this long.
const OLDER_VERSIONS: Duration = Duration::from_hours(24);
/// How often what has expired is deleted.
const PURGE_INTERVAL: Duration = Duration::from_mins(10);
/// How long a session that ended is remembered, so that its holder is told so rather than that it is unknown.
const SESSION_RETENTION: Duration = Duration::from_hours(7 * 24);

/// Before the first session.
const NO_SESSION: SessionId = SessionId::from_uuid(Uuid::nil());
/// How many pages of sessions are looked through each time for those that nobody uses any more: a hundred thousand sessions.
const SWEPT_PAGES: usize = 20;

/// The trail is cut by days.
const DAY: Duration = Duration::from_hours(24);

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
        background.spawn("feed", service, Service::follow_feed);
        background.spawn("keys", service, Service::follow_keys);
        background.spawn("purge", service, Service::purge);
        background.spawn("failures", service, Service::aggregate_failures);
        background.spawn("e-mail", service, Service::send_email);
        background.spawn("SMS", service, Service::send_sms);
        background.spawn("scrub", service, Service::scrub_after_erasures);
        if service.hot.is_some() {
            for _ in 0..READERS {
                background.spawn("rows", service, Service::read_rows);
            }
            background.spawn("write-behind", service, Service::write_behind);
            background.spawn("head", service, Service::exchange_heads);
            background.spawn("erasures", service, Service::remove_records);
            background.spawn("push", service, Service::push_revocations);
            background.spawn("stream", service, Service::follow_stream);
            background.spawn("throttle", service, Service::share_failures);
        }
        background
    }

    /// Stops them and waits until they have.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Runs a task until it is stopped, and starts it again should it panic: without it the node would go blind.
    fn spawn<F>(&self, name: &'static str, service: &Arc<Service>, task: fn(Arc<Service>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (stop, service) = (self.stop.clone(), Arc::clone(service));
        self.tasks.spawn(async move {
            loop {
                // Dropped between two steps: what a step changes, it changes in a transaction of its own task.
                let run = tokio::spawn(stop.clone().run_until_cancelled_owned(task(Arc::clone(&service))));
                match run.await {
                    Ok(_) => return,
                    Err(panic) => tracing::error!(%panic, name, "background task failed, starting it again"),
                }
                sleep(RESTART_PAUSE).await;
            }
        });
    }
}

impl Service {
    async fn follow_feed(self: Arc<Self>) {
        let mut ticks = interval(FEED_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failing = false;
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.feed.wanted() => {}
            }
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

    async fn read_rows(self: Arc<Self>) {
        if let Some(hot) = &self.hot {
            hot.rows.run().await;
        }
    }

    async fn write_behind(self: Arc<Self>) {
        let Some(hot) = &self.hot else { return };
        let mut ticks = interval(behind::INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Err(error) = hot.behind.flush(&*self.store).await {
                tracing::debug!(%error, sessions = hot.behind.len(), "rows stay behind for now");
            }
        }
    }

    async fn exchange_heads(self: Arc<Self>) {
        let mut ticks = interval(HEAD_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Err(error) = self.feed.exchange_head().await {
                tracing::trace!(%error, "head of the feed not exchanged");
            }
        }
    }

    async fn remove_records(self: Arc<Self>) {
        let mut ticks = interval(RECORDS_TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut due = self.clock.now();
        let mut done = due.minus(AWAY);
        loop {
            ticks.tick().await;
            // By the clock that erasures are timed with.
            let now = self.clock.now();
            if now < due {
                continue;
            }
            match self.eraser.remove_records(done.minus(RECORDS_WINDOW)).await {
                Ok(()) => (due, done) = (now.plus(RECORDS_INTERVAL), now),
                Err(error) => tracing::debug!(%error, "hot records of users who were deleted stay for now"),
            }
        }
    }

    async fn scrub_after_erasures(self: Arc<Self>) {
        self.eraser.scrub_when_wanted().await;
    }

    async fn push_revocations(self: Arc<Self>) {
        self.feed.push_committed().await;
    }

    async fn follow_stream(self: Arc<Self>) {
        self.feed.follow_stream().await;
    }

    async fn share_failures(self: Arc<Self>) {
        let Some(parts) = &self.hot else { return };
        loop {
            if self.buckets.is_over() {
                self.buckets.counted().await;
            }
            if let Err(error) = self.buckets.share(&parts.hot, self.clock.now()).await {
                tracing::trace!(%error, "failures not shared");
            }
            sleep(FAILURES_INTERVAL).await;
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
                self.keys.rotate_if_due(&*self.store, &self.policy, Authority::system()).await
            };
            if let Err(error) = followed.await {
                tracing::warn!(%error, "keys not reloaded, those in use stay");
            }
        }
    }

    async fn aggregate_failures(self: Arc<Self>) {
        let mut ticks = interval(failures::PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.write_failures().await;
        }
    }

    async fn purge(self: Arc<Self>) {
        let mut ticks = interval(PURGE_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut swept = NO_SESSION;
        let mut adopted = Timestamp::from_micros(0);
        loop {
            ticks.tick().await;
            self.feed.forget_expired(self.policy.database_grace);
            let forgotten = self.clock.now().minus(SESSION_RETENTION);
            // Each by itself: one that fails keeps no other from its work.
            let now = self.clock.now();
            note_purge("entries of the feed", self.store.purge_feed().await);
            note_purge("keys", self.store.purge_keys().await);
            note_purge("sessions", self.store.purge_sessions(forgotten).await);
            note_purge("sessions that nobody uses any more", self.sweep_sessions(&mut swept, now).await);
            note_purge("requests to create", self.store.purge_create_requests(now.minus(REQUEST_RETENTION)).await);
            note_purge("secrets of service accounts", self.store.purge_service_accounts().await);
            note_purge("imports", self.store.purge_imports(now.minus(IMPORT_RETENTION)).await);
            note_purge("challenges", self.store.purge_challenges(now).await);
            note_purge("registrations, changes and codes", self.store.purge_people().await);
            note_purge("messages", self.purge_messages().await);
            note_purge("counters", self.store.purge_throttles().await);
            self.keep_trail(now).await;
            let adopt = self.store.adopt_erasures(adopted).await;
            if adopt.is_ok() {
                adopted = now.minus(OLDER_VERSIONS);
            }
            note_adopted(adopt);
            // Last, so that what was deleted now is gone from the files too.
            self.eraser.scrub().await;
        }
    }
}

impl Service {
    /// Goes on looking for sessions that nobody uses any more, and begins again after the last one. How many were deleted.
    async fn sweep_sessions(&self, after: &mut SessionId, now: Timestamp) -> Result<u64, StoreError> {
        let dead_since = now.minus(SESSION_RETENTION);
        let unused_since = dead_since.minus(self.policy.sessions.idle);
        let mut deleted = 0;
        for _ in 0..SWEPT_PAGES {
            let (some, next) = self.store.sweep_sessions(*after, unused_since, dead_since).await?;
            deleted += some;
            *after = next.unwrap_or(NO_SESSION);
            if next.is_none() {
                break;
            }
        }
        Ok(deleted)
    }

    /// Takes in events of older versions, and removes those that are too old.
    async fn keep_trail(&self, now: Timestamp) {
        match self.store.adopt_events().await {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "events of an older version are in the chains of the audit trail now"),
            Err(error) => {
                tracing::warn!(%error, "events of an older version are not yet in the chains of the audit trail");
            }
        }
        // By whole days, so that each chain is cut once a day and not at every look.
        if let Some(retention) = self.policy.audit_retention {
            let before = now.minus(retention).rounded_down(DAY);
            note_purge("audit events", self.store.prune_events(before).await);
        }
    }
}

/// What became of a purge.
fn note_purge(rows: &'static str, purged: Result<impl std::fmt::Debug, StoreError>) {
    match purged {
        Ok(number) => tracing::debug!(rows, ?number, "what has expired is deleted"),
        Err(error) => tracing::warn!(%error, rows, "what has expired is not deleted this time"),
    }
}

/// What became of looking for erasures that older versions did not note.
fn note_adopted(adopted: Result<u64, StoreError>) {
    match adopted {
        Ok(0) => {}
        Ok(count) => tracing::info!(count, "who was deleted by an older version is in the list of erasures now"),
        Err(error) => tracing::warn!(%error, "who was deleted by an older version is not yet in the list of erasures"),
    }
}
