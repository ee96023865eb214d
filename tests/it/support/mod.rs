//! What the tests stand on: databases of their own, and surroundings that can be set and asked.

mod database;
mod surroundings;
mod template;

pub(crate) use database::{Backend, TestDatabase};
pub(crate) use surroundings::{ManualClock, RecordingObserver, RecordingVault, TestEntropy};
pub(crate) use template::OPTIONS;
