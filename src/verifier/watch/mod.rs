//! The list of revocations, kept up to date: one `WatchRevocations` stream, resumed for ever where the last one ended.

mod back_off;
mod freshness;
mod taken;

use std::{
    fmt, mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::time::{sleep, timeout};
use tonic::{Status, Streaming};
use tracing::{debug, info, warn};

pub(super) use self::{back_off::BackOff, freshness::Freshness};
use self::{
    freshness::Anchor,
    taken::{Taken, timestamp},
};
use super::{
    ambient::{jitter, monotonic_now},
    embedded::Shared,
    issuer::Issuer,
};
use crate::pb::v1::WatchRevocationsResponse;

/// Longest that a stream may bring nothing new, with a heartbeat each second. The connection is dead then, or whoever is at its
/// other end is cut off; another may do better.
const IDLE: Duration = Duration::from_secs(5);
/// The same for a stream that said something nobody understood. It brings nothing new for certain.
const NOT_UNDERSTOOD: Duration = Duration::from_mins(1);
/// A stream that lasted so long was none in vain.
const LASTING: Duration = Duration::from_secs(5);

/// Where to go on.
#[derive(Default)]
pub(super) struct Place(Mutex<String>);

impl Place {
    pub(super) fn new(cursor: String) -> Self {
        Self(Mutex::new(cursor))
    }

    pub(super) fn cursor(&self) -> String {
        self.lock().clone()
    }

    fn set(&self, cursor: String) {
        *self.lock() = cursor;
    }

    fn lock(&self) -> MutexGuard<'_, String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a stream ended.
enum End {
    Refused(Status),
    Closed,
    Idle,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(status) => write!(f, "{}: {}", status.code(), status.message()),
            Self::Closed => f.write_str("the issuer ended the stream"),
            Self::Idle => f.write_str("nothing new for too long"),
        }
    }
}

/// Follows the list for as long as there is somebody who needs it.
pub(super) async fn follow(shared: Arc<Shared>, issuer: Arc<Issuer>) {
    let mut back_off = BackOff::default();
    let mut failing = false;
    loop {
        let began = monotonic_now();
        let (end, opened) = match issuer.watch(shared.place.cursor()).await {
            Ok((asked, stream)) => {
                shared.metrics.connected();
                let end = Stream::new(&shared, asked).take_in(stream).await;
                shared.metrics.disconnected();
                (end, true)
            }
            Err(status) => (End::Refused(status), false),
        };
        if let End::Refused(status) = &end {
            issuer.refused(status).await;
        }
        // Perhaps to another node; and after a silence the connection may be dead, which only its other end knows.
        issuer.reconnect();
        if monotonic_now().saturating_duration_since(began) >= LASTING && opened {
            back_off.reset();
        }
        if opened {
            info!(%end, "the stream of revocations is resumed");
        } else if !failing {
            warn!(%end, "revocations cannot be had from the issuer");
        } else {
            debug!(%end, "revocations cannot be had from the issuer");
        }
        failing = !opened;
        sleep(back_off.next(jitter)).await;
    }
}

/// One stream.
struct Stream<'a> {
    shared: &'a Shared,
    asked: Instant,
    anchor: Option<Anchor>,
    /// Whether everything it said was understood.
    trusted: bool,
    /// When it last brought something new.
    progress: Instant,
}

impl<'a> Stream<'a> {
    fn new(shared: &'a Shared, asked: Instant) -> Self {
        Self { shared, asked, anchor: None, trusted: true, progress: monotonic_now() }
    }

    async fn take_in(mut self, mut stream: Streaming<WatchRevocationsResponse>) -> End {
        loop {
            let limit = if self.trusted { IDLE } else { NOT_UNDERSTOOD };
            let left = limit.saturating_sub(monotonic_now().saturating_duration_since(self.progress));
            match timeout(left, stream.message()).await {
                Ok(Ok(Some(response))) => self.respond(response),
                Ok(Ok(None)) => return End::Closed,
                Ok(Err(status)) => return End::Refused(status),
                Err(_) => return End::Idle,
            }
        }
    }

    fn respond(&mut self, mut response: WatchRevocationsResponse) {
        let now = monotonic_now();
        let more = !response.revocations.is_empty();
        let Taken { entries, keys_changed, unknown } = taken::read(mem::take(&mut response.revocations));
        for entry in &entries {
            self.shared.revocations.apply(entry);
        }
        self.shared.metrics.received(entries.len(), unknown);
        if keys_changed {
            self.shared.keys.refresh();
        }
        if !entries.is_empty() {
            self.shared.announce();
        }
        if unknown > 0 && mem::replace(&mut self.trusted, false) {
            warn!(
                unknown,
                "the issuer revokes what this version does not understand: the list is not complete, update it"
            );
        }
        if self.trusted {
            self.vouch(response, more, now);
        }
    }

    /// Takes the response's word for where to go on and how complete the list is.
    fn vouch(&mut self, response: WatchRevocationsResponse, more: bool, now: Instant) {
        let WatchRevocationsResponse { revocations: _, cursor, complete_time, server_time } = response;
        let moment = server_time.map(timestamp).and_then(|server| {
            let anchor = self.anchor.get_or_insert(Anchor::new(self.asked, server));
            complete_time.map(timestamp).and_then(|complete| anchor.moment(server, complete, now))
        });
        if !cursor.is_empty() {
            self.shared.place.set(cursor);
        }
        let news = match moment {
            Some(moment) => self.shared.vouch(moment, now),
            // More of the beginning follows.
            None => more,
        };
        if news {
            self.progress = now;
        }
    }
}
