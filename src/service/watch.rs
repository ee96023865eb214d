//! `WatchRevocations`: what a verifier is told, and when this node must not tell it anything any more.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Service, ServiceError,
    feed::{Piece, Watcher},
};
use crate::{
    domain::{
        audience::{Audience, OWN_AUDIENCE},
        secret::SecretString,
        time::Timestamp,
    },
    telemetry::{OpenWatch, WatchEnd},
};

/// Most watches at once at a node; at some 20 KiB each, connections included, they are bounded before the memory is.
const WATCHES: usize = 10_000;
/// When to look again for a place.
const FULL: Duration = Duration::from_secs(10);
/// The longest that a watcher hears nothing.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// The shortest time between two pieces with news, so that a storm of revocations comes in few messages.
const PACE: Duration = Duration::from_millis(5);

/// All watches at a node.
#[derive(Debug)]
pub(super) struct Watches {
    places: Arc<Semaphore>,
    stopping: CancellationToken,
}

impl Default for Watches {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(WATCHES)), stopping: CancellationToken::new() }
    }
}

/// Somebody who watches what is revoked.
#[derive(Debug)]
pub struct RevocationWatch {
    service: Arc<Service>,
    watcher: Watcher,
    /// With which the watcher was admitted. Kept by the caller's word only for as long as it is good.
    token: Option<SecretString>,
    /// What the last piece was: whether there is more, and whether it had news.
    more: bool,
    news: bool,
    counted: OpenWatch,
    _place: OwnedSemaphorePermit,
}

/// What a watcher is to be told at one moment.
#[derive(Debug)]
pub struct Told {
    /// What is revoked, and where to go on.
    pub piece: Piece,
    /// Up to when nothing is missing, once this was taken in. To be told with a cursor only.
    pub complete: Timestamp,
    /// When this was made, by the same clock.
    pub now: Timestamp,
}

impl Service {
    /// Watches from after this cursor if that can be, and otherwise from the beginning; for as long as `token` is good, if there
    /// is one.
    ///
    /// # Errors
    /// `Unavailable` if this node may miss revocations itself or is about to stop, `Busy` if there are too many watches.
    pub fn watch_revocations(
        self: &Arc<Self>,
        cursor: &str,
        token: Option<SecretString>,
    ) -> Result<RevocationWatch, ServiceError> {
        if self.watches.stopping.is_cancelled() {
            return Err(ServiceError::Unavailable { cause: "this node is stopping".into() });
        }
        self.check_list()?;
        let place = Arc::clone(&self.watches.places).try_acquire_owned();
        let place = place.map_err(|_| ServiceError::Busy { retry_after: FULL })?;
        Ok(RevocationWatch {
            service: Arc::clone(self),
            watcher: self.feed.watch(cursor),
            token,
            more: true,
            news: false,
            counted: self.metrics.watch(),
            _place: place,
        })
    }

    /// Ends every watch, and refuses new ones: they would hold up the drain.
    pub fn stop_watches(&self) {
        self.watches.stopping.cancel();
    }

    /// Whether the token that a watcher was admitted with is still good. Asks nobody but this node's memory, and counts as no
    /// verification: nobody asked for one.
    fn is_still_good(&self, token: &SecretString) -> bool {
        let Ok(own) = Audience::try_from(OWN_AUDIENCE.to_owned()) else { return false };
        self.check_here(token, &[own]).is_ok()
    }
}

impl RevocationWatch {
    /// What there is to tell now. Nothing new is a heartbeat.
    ///
    /// # Errors
    /// Why the watch must end.
    pub fn look(&mut self) -> Result<Told, WatchEnd> {
        let service = &self.service;
        if self.token.as_ref().is_some_and(|token| !service.is_still_good(token)) {
            return Err(WatchEnd::Token);
        }
        service.check_list().map_err(|_| WatchEnd::Stale)?;
        // Before the list is looked at, so that no more is claimed than is told.
        let now = service.clock.now();
        let complete = now.minus(service.feed.staleness());
        let piece = service.feed.next_piece(&mut self.watcher);
        (self.more, self.news) = (piece.cursor.is_none(), !piece.revocations.is_empty());
        self.counted.told(piece.revocations.len());
        Ok(Told { piece, complete, now })
    }

    /// Resolves when the next look is due.
    pub async fn due(&mut self) {
        if self.more {
            return;
        }
        if self.news {
            sleep(PACE).await;
        }
        // Heartbeats are due without news as well.
        let _ = timeout(HEARTBEAT, self.watcher.changed()).await;
    }

    /// What is cancelled when the node stops.
    pub fn stopping(&self) -> CancellationToken {
        self.service.watches.stopping.clone()
    }

    /// Random bytes, to spread what would happen at one moment.
    pub fn spread(&self) -> u16 {
        u16::from_le_bytes(self.service.random())
    }

    /// The watch has ended.
    pub fn ended(self, why: WatchEnd) {
        self.counted.ended(why);
    }
}
