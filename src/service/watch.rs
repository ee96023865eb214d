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

/// Most watches at once at a node. One that is read takes some 20 KiB, its connection included. One that is not takes up to some
/// 100 KiB more for the piece that waits, until it is ended, and some 60 KiB for the one that the connection has taken, for as long
/// as its stream is open: so for as long it keeps its place.
const WATCHES: usize = 10_000;
/// When to look again for a place.
const FULL: Duration = Duration::from_secs(10);
/// The longest that a watcher hears nothing.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// The shortest time between two pieces with news, so that a storm of revocations comes in few messages.
const PACE: Duration = Duration::from_millis(5);
/// So much longer for each watch: however many there are, together they take no more than a share of the processors.
const PACE_EACH: Duration = Duration::from_micros(10);

/// Places for watches. Cheap to clone: the same places.
#[derive(Clone, Debug)]
pub struct WatchPlaces {
    free: Arc<Semaphore>,
    all: usize,
}

/// A place, taken for as long as this is kept.
#[derive(Debug)]
pub struct WatchPlace(#[expect(dead_code, reason = "what counts is when it is dropped")] OwnedSemaphorePermit);

impl WatchPlaces {
    /// So many.
    pub fn new(all: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(all)), all }
    }

    /// Takes one.
    ///
    /// # Errors
    /// `Busy` if there is none.
    pub fn enter(&self) -> Result<WatchPlace, ServiceError> {
        let place = Arc::clone(&self.free).try_acquire_owned();
        place.map(WatchPlace).map_err(|_| ServiceError::Busy { retry_after: FULL })
    }

    /// How many are taken.
    pub(super) fn taken(&self) -> usize {
        self.all.saturating_sub(self.free.available_permits())
    }
}

/// All watches at a node.
#[derive(Debug)]
pub(super) struct Watches {
    places: WatchPlaces,
    stopping: CancellationToken,
}

impl Default for Watches {
    fn default() -> Self {
        Self { places: WatchPlaces::new(WATCHES), stopping: CancellationToken::new() }
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
    /// is one. The place is to be kept for as long as anything of the watch is in memory, which may be longer than it is told of
    /// anything.
    ///
    /// # Errors
    /// `Unavailable` if this node may miss revocations itself or is about to stop, `Busy` if there are too many watches.
    pub fn watch_revocations(
        self: &Arc<Self>,
        cursor: &str,
        token: Option<SecretString>,
    ) -> Result<(RevocationWatch, WatchPlace), ServiceError> {
        if self.watches.stopping.is_cancelled() {
            return Err(ServiceError::Unavailable { cause: "this node is stopping".into() });
        }
        self.check_list()?;
        let place = self.watches.places.enter()?;
        let watch = RevocationWatch {
            service: Arc::clone(self),
            watcher: self.feed.watch(cursor),
            token,
            more: true,
            news: false,
            counted: self.metrics.watch(),
        };
        Ok((watch, place))
    }

    /// Ends every watch, and refuses new ones: they would hold up the drain.
    pub fn stop_watches(&self) {
        self.watches.stopping.cancel();
    }

    /// What is cancelled when the node stops.
    pub(super) fn stopping(&self) -> CancellationToken {
        self.watches.stopping.clone()
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
            sleep(pace(self.service.watches.places.taken())).await;
        }
        // Heartbeats are due without news as well.
        let _ = timeout(HEARTBEAT, self.watcher.changed()).await;
    }

    /// What is cancelled when the node stops.
    pub fn stopping(&self) -> CancellationToken {
        self.service.stopping()
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

/// The shortest time between two pieces with news, among so many watches.
fn pace(watches: usize) -> Duration {
    PACE + PACE_EACH * u32::try_from(watches).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_watch_the_rarer_is_news() {
        assert_eq!(pace(0), Duration::from_millis(5));
        assert_eq!(pace(1_000), Duration::from_millis(15));
        assert_eq!(pace(WATCHES), Duration::from_millis(105));
    }

    #[test]
    fn a_place_is_free_again_when_it_is_dropped() {
        let places = WatchPlaces::new(2);
        let (first, second) = (places.enter().unwrap(), places.clone().enter().unwrap());
        assert!(matches!(places.enter(), Err(ServiceError::Busy { .. })));
        assert_eq!(places.taken(), 2);
        drop(first);
        let third = places.enter().unwrap();
        assert!(places.enter().is_err());
        drop((second, third));
        assert_eq!(places.taken(), 0);
    }
}
