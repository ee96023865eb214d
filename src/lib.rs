//! Vouchsafe: a standalone identity microservice that speaks gRPC, and the verifier that other services embed.
//!
//! The default feature `server` is the service. With `default-features = false, features = ["verifier"]` this crate is
//! what a service embeds to check access tokens locally.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod domain;
pub mod jose;
pub mod pb;
pub mod verifier;

#[cfg(feature = "server")]
pub mod audit_export;
#[cfg(feature = "server")]
pub mod breached;
#[cfg(feature = "server")]
pub mod cli;
#[cfg(feature = "server")]
pub mod config;
#[cfg(feature = "server")]
pub mod crypto;
#[cfg(feature = "server")]
pub mod grpc;
#[cfg(feature = "server")]
pub mod http;
#[cfg(feature = "server")]
pub mod notify;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "server")]
pub mod service;
#[cfg(feature = "sidecar")]
pub mod sidecar;
#[cfg(feature = "server")]
pub mod state;
#[cfg(feature = "server")]
pub mod store;
#[cfg(feature = "server")]
pub mod telemetry;
#[cfg(feature = "server")]
pub mod tls;
