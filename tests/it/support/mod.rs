//! What the tests stand on: databases of their own, surroundings that can be set and asked, and whole nodes.

pub(crate) mod certificates;
mod collector;
mod database;
pub(crate) mod encryption;
mod factors;
mod node;
pub(crate) mod notify;
pub(crate) mod outbox;
mod people;
pub(crate) mod signin;
mod surroundings;
mod template;
mod throttle;
pub(crate) mod wire;

pub(crate) use collector::{Collector, attribute, histogram, number};
pub(crate) use database::{Backend, TestDatabase};
pub(crate) use factors::{factors_codes, factors_oathtool, factors_read};
pub(crate) use node::{
    MASTER_KEY, PASSWORD, TestNode, TestNodeBuilder, bearer, fields, login_request, patient, reason, stolen_key,
    surely_later, until,
};
pub(crate) use people::role_of;
pub(crate) use surroundings::{ManualClock, RecordingObserver, RecordingVault, TestEntropy};
pub(crate) use template::OPTIONS;
pub(crate) use throttle::{Guess, forwarded, guess_of};

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}
