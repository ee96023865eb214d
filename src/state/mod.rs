//! The hot state: what Redis keeps between two writes of a row, and the stream that revocations are pushed through.
//!
//! Nothing here is trusted beyond that. Every value is opaque to the adapter and sealed by the service, and every call may fail
//! or tell an old story: the database is the truth.

pub mod packed;
pub mod port;
pub mod redis;

pub use port::{HotError, HotKey, HotState, StreamEntry, StreamPlace, Swap};
