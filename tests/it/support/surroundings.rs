//! A clock that is set, entropy that repeats, a vault and an observer that remember.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering, Ordering::SeqCst},
    },
    time::Duration,
};

use uuid::Uuid;
use vouchsafe::{
    domain::{
        audit::Failure,
        id::EventId,
        revocation::FeedEntry,
        secret::Entropy,
        time::{Clock, Timestamp},
    },
    store::port::{CommitObserver, PersonalDataVault},
};

/// Stands still until it is told otherwise.
#[derive(Debug)]
pub(crate) struct ManualClock(AtomicI64);

impl ManualClock {
    /// A clock that shows a moment in 2027.
    pub(crate) fn new() -> Self {
        Self(AtomicI64::new(Timestamp::from_seconds(1_800_000_000).as_micros()))
    }

    /// Moves on.
    pub(crate) fn advance(&self, by: Duration) {
        self.set(self.now().plus(by));
    }

    /// Shows `to` from now on.
    pub(crate) fn set(&self, to: Timestamp) {
        self.0.store(to.as_micros(), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::SeqCst))
    }
}

/// The same bytes in every run (SplitMix64 over a counter), never the same twice in one.
#[derive(Debug, Default)]
pub(crate) struct TestEntropy(AtomicU64);

impl TestEntropy {
    /// A number below `bound`.
    pub(crate) fn below(&self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn next(&self) -> u64 {
        let mut z = self.0.fetch_add(1, Ordering::SeqCst).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

impl Entropy for TestEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]);
        }
    }
}

/// A sealing that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sealing {
    /// Under whose key.
    pub(crate) owner: Uuid,
    /// For which event.
    pub(crate) event: EventId,
    /// The plain text.
    pub(crate) personal: String,
}

/// Replaces what it seals by a marker and keeps the plain text to itself, so that a test can tell what reached the
/// database and what did not.
#[derive(Debug, Default)]
pub(crate) struct RecordingVault(Mutex<Vec<Sealing>>);

impl RecordingVault {
    /// Every sealing so far; of a transaction that was tried again, one for each try.
    pub(crate) fn sealings(&self) -> Vec<Sealing> {
        self.0.lock().unwrap().clone()
    }
}

impl PersonalDataVault for RecordingVault {
    fn new_key(&self, owner: Uuid) -> Vec<u8> {
        [b"key of ", owner.as_bytes().as_slice()].concat()
    }

    fn seal(&self, owner: Uuid, sealed_key: &[u8], event: EventId, personal: &[u8]) -> Result<Vec<u8>, String> {
        if sealed_key != self.new_key(owner) {
            return Err("the key does not open".into());
        }
        let personal = String::from_utf8(personal.to_vec()).map_err(|e| e.to_string())?;
        self.0.lock().unwrap().push(Sealing { owner, event, personal });
        Ok([b"sealed ", event.as_uuid().as_bytes().as_slice()].concat())
    }

    fn open(&self, owner: Uuid, sealed_key: &[u8], event: EventId, sealed: &[u8]) -> Result<Vec<u8>, String> {
        if sealed_key != self.new_key(owner) || sealed != [b"sealed ", event.as_uuid().as_bytes().as_slice()].concat() {
            return Err("it does not open".into());
        }
        let sealings = self.0.lock().unwrap();
        let sealing = sealings.iter().rfind(|sealing| sealing.owner == owner && sealing.event == event);
        sealing.map(|sealing| sealing.personal.clone().into_bytes()).ok_or_else(|| "never sealed".into())
    }

    fn attest(&self, statement: &[u8]) -> [u8; 32] {
        let mut mac = [0; 32];
        mac.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, statement).as_ref());
        mac
    }
}

/// Remembers what was committed.
#[derive(Debug, Default)]
pub(crate) struct RecordingObserver {
    entries: Mutex<Vec<FeedEntry>>,
    recorded: AtomicU64,
    /// Whether no failure is an event of its own.
    pub(crate) only_counts: AtomicBool,
    failures: Mutex<Vec<(Failure, bool)>>,
}

impl RecordingObserver {
    /// Every entry so far, by number.
    pub(crate) fn entries(&self) -> Vec<FeedEntry> {
        let mut entries = self.entries.lock().unwrap().clone();
        entries.sort_by_key(|entry| entry.number);
        entries
    }

    /// How often events were recorded.
    pub(crate) fn recorded(&self) -> u64 {
        self.recorded.load(SeqCst)
    }

    /// Every failure so far, and whether it is an event of its own.
    pub(crate) fn failures(&self) -> Vec<(Failure, bool)> {
        self.failures.lock().unwrap().clone()
    }
}

impl CommitObserver for RecordingObserver {
    fn committed(&self, entries: &[FeedEntry]) {
        self.entries.lock().unwrap().extend_from_slice(entries);
    }

    fn recorded(&self) {
        self.recorded.fetch_add(1, SeqCst);
    }

    fn is_event(&self, _: &Failure, _: Timestamp) -> bool {
        !self.only_counts.load(SeqCst)
    }

    fn failed(&self, failure: Failure, is_event: bool, _: Timestamp) {
        self.failures.lock().unwrap().push((failure, is_event));
    }
}
