//! Every integration test, in one binary that links once.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod docs;
mod faults;
mod hostile;
mod mesh;
mod process;
mod rpc;
mod shells;
mod sidecar;
mod state;
mod store;
mod support;
mod verifier;
