//! The issuer's keys, kept up to date: fetched at the start, every few minutes, when the issuer says that they have changed, and
//! when a token names one that is not known, which is rationed.

pub(crate) mod fetch;
mod gate;
mod source;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use tokio::{
    sync::{Notify, watch},
    time::{sleep, timeout},
};
use tracing::{debug, info, warn};

pub(super) use self::source::Source;
use self::{
    gate::{Gate, Look},
    source::SourceError,
};
use super::{
    ambient::{jitter, monotonic_now},
    check::Inactive,
    embedded::Shared,
    rule::Denied,
    watch::BackOff,
};
use crate::jose::KeySet;

/// They are fetched as often as this though nobody says that they have changed, and at random up to [`SPREAD`] later.
const REFRESH: Duration = Duration::from_mins(4);
const SPREAD: Duration = Duration::from_mins(2);
/// Random pause before a fetch because they have changed: every verifier hears of that at one moment.
const CROWD: Duration = Duration::from_millis(200);
/// So long after that fetch comes another, and at random up to as much later: the first one may have been answered by a node that
/// had not read the new keys yet.
const SECOND_LOOK: Duration = Duration::from_secs(1);
/// Longest that a caller waits for a fetch.
const PATIENCE: Duration = Duration::from_secs(2);
/// Longest that a fetch may take. Below the shortest cool-down that makes sense.
const LIMIT: Duration = Duration::from_secs(6);

/// The keys.
pub(super) struct Keys {
    /// Empty: they were never had.
    current: ArcSwap<KeySet>,
    /// `None`: they are what they are, and nobody fetches others.
    gate: Option<Mutex<Gate>>,
    wanted: Notify,
    /// Whether it was the issuer who said so.
    announced: AtomicBool,
    /// Goes up with every fetch that ends.
    fetches: watch::Sender<u64>,
}

impl Keys {
    /// Keys that are never fetched.
    pub(super) fn given(keys: KeySet) -> Self {
        Self {
            current: ArcSwap::from_pointee(keys),
            gate: None,
            wanted: Notify::new(),
            announced: AtomicBool::new(false),
            fetches: watch::Sender::new(0),
        }
    }

    /// Keys that are to be fetched, of which these are known already.
    pub(super) fn fetched(known: KeySet, cool_down: Duration) -> Self {
        Self { gate: Some(Mutex::new(Gate::new(cool_down))), ..Self::given(known) }
    }

    /// Those of now.
    pub(super) fn load(&self) -> arc_swap::Guard<Arc<KeySet>> {
        self.current.load()
    }

    /// Fetches them soon, because the issuer says that they have just changed.
    pub(super) fn refresh(&self) {
        if let Some(mut gate) = self.gate() {
            gate.change(monotonic_now());
        }
        self.confirm();
    }

    /// Fetches them soon, because they may have changed while nobody listened.
    pub(super) fn confirm(&self) {
        self.announced.store(true, Ordering::Release);
        self.wanted.notify_one();
    }

    /// Why a token is denied of which the key is not among those that were just fetched.
    pub(super) fn unknown(&self) -> Denied {
        let unsettled = self.gate().is_some_and(|gate| gate.is_unsettled(monotonic_now()));
        if unsettled { Denied::Unavailable } else { Denied::Inactive(Inactive::UnknownKey) }
    }

    fn gate(&self) -> Option<MutexGuard<'_, Gate>> {
        Some(self.gate.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Asks the gate, and listens for the end of the fetch that it speaks of.
    fn ask(&self, now: Instant) -> (Look, watch::Receiver<u64>) {
        let mut gate = self.gate();
        // Under the gate's lock, so that no fetch ends in between.
        let fetches = self.fetches.subscribe();
        let look = gate.as_mut().map_or(Look::Known, |gate| gate.ask(now));
        if look == Look::Begin {
            self.wanted.notify_one();
        }
        (look, fetches)
    }

    /// A token names a key that is not known. Once this returns `Ok`, it is worth looking again.
    pub(super) async fn look_up(&self) -> Result<(), Denied> {
        let (look, mut fetches) = self.ask(monotonic_now());
        match look {
            Look::Known => Err(Denied::Inactive(Inactive::UnknownKey)),
            Look::Failed => Err(Denied::Unavailable),
            Look::Wait | Look::Begin => {
                let ended = timeout(PATIENCE, fetches.changed()).await;
                let failed = self.gate().is_some_and(|gate| gate.failed());
                if ended.is_err() || failed { Err(Denied::Unavailable) } else { Ok(()) }
            }
        }
    }

    /// The same for who cannot wait: why they are denied.
    pub(super) fn begin_look_up(&self) -> Denied {
        match self.ask(monotonic_now()).0 {
            Look::Known => Denied::Inactive(Inactive::UnknownKey),
            Look::Failed | Look::Wait | Look::Begin => Denied::Unavailable,
        }
    }

    fn begin(&self, now: Instant) {
        if let Some(mut gate) = self.gate() {
            gate.begin(now);
        }
    }

    fn end(&self, failed: bool) {
        let mut gate = self.gate();
        if let Some(gate) = gate.as_mut() {
            gate.end(failed);
        }
        self.fetches.send_modify(|fetches| *fetches += 1);
    }

    /// Puts these in place. Whether they are others than before.
    fn replace(&self, keys: KeySet) -> bool {
        let changed = **self.current.load() != keys;
        if changed {
            self.current.store(Arc::new(keys));
        }
        changed
    }
}

/// Fetches the keys for as long as there is somebody who needs them.
pub(super) async fn keep(shared: Arc<Shared>, source: Arc<Source>) {
    let keys = &shared.keys;
    let mut back_off = BackOff::default();
    let mut failing = false;
    let mut second_look = None;
    loop {
        keys.begin(monotonic_now());
        let fetched = timeout(LIMIT, source.fetch()).await.unwrap_or(Err(SourceError::Late));
        shared.metrics.key_fetch(fetched.is_ok());
        let pause = match fetched {
            Ok(fetched) => {
                let count = fetched.len();
                if keys.replace(fetched) {
                    info!(keys = count, "the issuer's keys are up to date");
                    shared.announce();
                }
                keys.end(false);
                back_off.reset();
                failing = false;
                REFRESH + jitter(SPREAD)
            }
            Err(error) => {
                keys.end(true);
                if failing {
                    debug!(%error, "the issuer's keys cannot be fetched");
                } else {
                    warn!(%error, keys = keys.load().len(), "the issuer's keys cannot be fetched; those in use stay");
                }
                failing = true;
                back_off.next(jitter)
            }
        };
        let pause = second_look.take().map_or(pause, |look: Duration| look.min(pause));
        tokio::select! {
            () = keys.wanted.notified() => {
                let mut pause = keys.gate().map_or(Duration::ZERO, |gate| gate.pause(monotonic_now()));
                if keys.announced.swap(false, Ordering::AcqRel) {
                    pause = pause.max(jitter(CROWD));
                    second_look = Some(SECOND_LOOK + jitter(SECOND_LOOK));
                }
                sleep(pause).await;
            }
            () = sleep(pause) => {}
        }
    }
}
