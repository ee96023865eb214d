//! Generated from `proto/`: the messages, and clients for every service.

/// Package `vouchsafe.v1`.
#[allow(clippy::all, clippy::pedantic, missing_docs, unreachable_pub)]
pub mod v1 {
    tonic::include_proto!("vouchsafe.v1");
}

/// The encoded file descriptors of [`v1`] and of all they import, for reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
