//! The list of revocations, kept up to date: one `WatchRevocations` stream, resumed for ever where the last one ended.

mod back_off;
mod freshness;
mod issuer_time;
mod taken;

use std::{
    error::Error as _,
    fmt, mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::time::{sleep, timeout};
use tonic::{Code, Status, Streaming};
use tracing::{debug, info, warn};

pub(super) use self::{
    back_off::BackOff,
    freshness::{Freshness, Now},
    issuer_time::IssuerTime,
};
use self::{
    freshness::Anchor,
    issuer_time::Heard,
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
/// A stream that brought news for so long was none in vain.
const LASTING: Duration = Duration::from_secs(5);
/// Longest pause after one that lasted and that the issuer itself ended: it restarts, and everybody is to look for another node.
const POLITE: Duration = Duration::from_secs(1);
/// A connection that brings nothing but refusals is kept for so many of them. Then another one may find another node.
const REFUSALS: u32 = 3;
/// By how much the date may go on more than the monotonic clock between two responses. What lay in a buffer while the machine
/// slept must not vouch for the list.
const LEAP: Duration = Duration::from_secs(2);

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
#[derive(Debug)]
enum End {
    Refused(Status),
    Closed,
    Idle,
    Leapt,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(status) => write!(f, "{}: {}", status.code(), status.message()),
            Self::Closed => f.write_str("the issuer ended the stream"),
            Self::Idle => f.write_str("nothing new for too long"),
            Self::Leapt => f.write_str("the date has leapt: the list is asked for anew"),
        }
    }
}

impl End {
    /// Whether the issuer itself has said so, over a connection that works.
    fn is_polite(&self) -> bool {
        match self {
            // What the transport makes of its own troubles has a cause; and nobody said anything within the deadline.
            Self::Refused(status) => status.source().is_none() && status.code() != Code::DeadlineExceeded,
            Self::Closed | Self::Leapt => true,
            Self::Idle => false,
        }
    }
}

/// What is done after a stream, by how the ones before it went.
#[derive(Debug, Default)]
struct Course {
    back_off: BackOff,
    /// Refusals in a row, over one connection.
    refusals: u32,
}

impl Course {
    /// Whether the next one wants a connection of its own, and the pause before it.
    ///
    /// `lasted`: it brought news for a while. `is_young`: the list will not be stale soon.
    fn after(
        &mut self,
        end: &End,
        lasted: bool,
        is_young: bool,
        jitter: impl Fn(Duration) -> Duration,
    ) -> (bool, Duration) {
        if lasted {
            self.back_off.reset();
            self.refusals = 0;
        }
        self.refusals += 1;
        // A silence may be a dead connection's, which only its other end knows.
        let reconnects = !end.is_polite() || self.refusals > REFUSALS;
        if reconnects {
            self.refusals = 0;
        }
        let pause = self.back_off.next(&jitter);
        let in_no_hurry = lasted && is_young && matches!(end, End::Refused(_) | End::Closed) && end.is_polite();
        (reconnects, if in_no_hurry { pause.max(jitter(POLITE)) } else { pause })
    }
}

/// Follows the list for as long as there is somebody who needs it.
pub(super) async fn follow(shared: Arc<Shared>, issuer: Arc<Issuer>) {
    let mut course = Course::default();
    let mut failing = false;
    loop {
        let began = shared.now();
        let (end, opened, lasted) = match issuer.watch(shared.place.cursor()).await {
            Ok((asked, stream)) => {
                shared.metrics.connected();
                let (end, lasted) = Stream::new(&shared, began, asked).take_in(stream).await;
                shared.metrics.disconnected();
                (end, true, lasted)
            }
            Err(status) => (End::Refused(status), false, false),
        };
        if let End::Refused(status) = &end {
            issuer.refused(status).await;
        }
        let (reconnects, pause) = course.after(&end, lasted, shared.freshness.is_young(shared.now()), jitter);
        if reconnects {
            issuer.reconnect();
        }
        if opened {
            info!(%end, "the stream of revocations is resumed");
        } else if !failing {
            warn!(%end, "revocations cannot be had from the issuer");
        } else {
            debug!(%end, "revocations cannot be had from the issuer");
        }
        failing = !opened;
        sleep(pause).await;
    }
}

/// One stream.
struct Stream<'a> {
    shared: &'a Shared,
    /// When it was asked for, and when its first response may have been made.
    began: Now,
    asked: Instant,
    anchor: Option<Anchor>,
    heard: Heard,
    /// When the latest response came.
    latest: Now,
    /// Whether everything it said was understood.
    trusted: bool,
    /// When it last brought something new.
    progress: Instant,
}

impl<'a> Stream<'a> {
    fn new(shared: &'a Shared, began: Now, asked: Instant) -> Self {
        let progress = monotonic_now();
        Self { shared, began, asked, anchor: None, heard: Heard::default(), latest: began, trusted: true, progress }
    }

    /// How it ended, and whether it brought news for a while.
    async fn take_in(mut self, mut stream: Streaming<WatchRevocationsResponse>) -> (End, bool) {
        let end = loop {
            let limit = if self.trusted { IDLE } else { NOT_UNDERSTOOD };
            let left = limit.saturating_sub(monotonic_now().saturating_duration_since(self.progress));
            match timeout(left, stream.message()).await {
                Ok(Ok(Some(response))) => {
                    if !self.respond(response) {
                        break End::Leapt;
                    }
                }
                Ok(Ok(None)) => break End::Closed,
                Ok(Err(status)) => break End::Refused(status),
                Err(_) => break End::Idle,
            }
        };
        (end, self.progress.saturating_duration_since(self.began.monotonic) >= LASTING)
    }

    /// Takes in a response. Whether the next one may be waited for.
    fn respond(&mut self, mut response: WatchRevocationsResponse) -> bool {
        let now = self.shared.now();
        // Before anything is judged by it.
        if let Some(server) = response.server_time {
            self.shared.issuer_time.hear(&mut self.heard, timestamp(server), now.monotonic);
        }
        let more = !response.revocations.is_empty();
        let Taken { entries, keys_changed, unknown } = taken::read(mem::take(&mut response.revocations));
        for entry in &entries {
            self.shared.revocations.apply(entry);
        }
        self.shared.metrics.received(entries.len(), unknown);
        match (keys_changed, response.complete_time) {
            (true, Some(_)) => self.shared.keys.refresh(),
            // Said at the beginning of every list.
            (true, None) => self.shared.keys.confirm(),
            (false, _) => {}
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
        if now.leapt(&mem::replace(&mut self.latest, now), LEAP) {
            return false;
        }
        if self.trusted {
            self.vouch(response, more, now);
        }
        true
    }

    /// Takes the response's word for where to go on and how complete the list is.
    fn vouch(&mut self, response: WatchRevocationsResponse, more: bool, now: Now) {
        let WatchRevocationsResponse { revocations: _, cursor, complete_time, server_time } = response;
        let moment = server_time.map(timestamp).and_then(|server| {
            let anchor = self.anchor.get_or_insert(Anchor::new(self.asked, server));
            complete_time.map(timestamp).and_then(|complete| anchor.moment(server, complete, now.monotonic))
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
            self.progress = now.monotonic;
        }
    }
}

#[cfg(test)]
mod tests;
