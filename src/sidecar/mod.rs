//! `vouchsafe sidecar`: verifies tokens beside a workload, for its proxy and for services in any language.
//!
//! One port serves `envoy.service.auth.v3.Authorization` (what Envoy and Istio call external authorization),
//! `vouchsafe.v1.AuthService/Verify` and `grpc.health.v1`; another one serves probes and metrics. What is demanded of which
//! request stands in a file ([`config`]), which may change while the sidecar runs ([`reload`]).
//!
//! What this room promises:
//! - A request is let through only if a rule of the file says so; everything else is denied, and never by an error.
//! - No spelling of a path is asked for less than the path itself ([`crate::verifier::route`], [`policy`]).
//! - A header that tells who calls was set here or is not there ([`headers`]).

mod answer;
mod check;
mod config;
mod file;
mod headers;
mod metrics;
mod policy;
mod reason;
