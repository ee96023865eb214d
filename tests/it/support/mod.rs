//! What the tests stand on: databases of their own, surroundings that can be set and asked, and whole nodes.

pub(crate) mod certificates;
mod collector;
mod database;
mod node;
pub(crate) mod notify;
mod people;
mod surroundings;
mod template;
pub(crate) mod wire;

pub(crate) use collector::{Collector, attribute, histogram, number};
pub(crate) use database::{Backend, TestDatabase};
pub(crate) use node::{
    MASTER_KEY, PASSWORD, TestNode, TestNodeBuilder, bearer, fields, login_request, reason, stolen_key, surely_later,
    until,
};
pub(crate) use people::role_of;
pub(crate) use surroundings::{ManualClock, RecordingObserver, RecordingVault, TestEntropy};
pub(crate) use template::OPTIONS;
