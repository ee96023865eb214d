//! What the tests stand on: databases of their own, surroundings that can be set and asked, and whole nodes.

mod database;
mod node;
mod surroundings;
mod template;

pub(crate) use database::{Backend, TestDatabase};
pub(crate) use node::{PASSWORD, TestNode, bearer, login_request, reason};
pub(crate) use surroundings::{ManualClock, RecordingObserver, RecordingVault, TestEntropy};
pub(crate) use template::OPTIONS;
