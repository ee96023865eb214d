//! What checks access tokens: for the `Verify` RPC, the command line, the sidecar and services that embed it.
//!
//! The core ([`TokenVerifier`], [`RememberingVerifier`], [`RevocationSet`]) keeps no clock and does no IO. Keys, revocations and
//! the present moment are arguments, so that whoever holds them decides how fresh they must be.
//!
//! A service embeds [`Verifier`]: the same core, with keys that it fetches and revocations that the issuer pushes to it. There
//! are three ways to use it: [`Verifier::verify`] and its siblings, [`VerifierInterceptor`] for a tonic service, and
//! [`VerifierLayer`] for anything that tower serves.

pub mod bearer;
pub mod check;
pub mod claims;
pub mod revocation_set;
pub mod route;
pub mod seen;

mod ambient;
mod builder;
mod embedded;
mod herald;
mod interceptor;
pub(crate) mod issuer;
pub(crate) mod keys;
mod layer;
mod metrics;
mod persist;
mod principal;
mod respond;
mod rule;
mod sharded;
#[cfg(test)]
mod testing;
mod watch;
#[cfg(feature = "sidecar")]
pub(crate) mod wire;

pub use ambient::SystemClock;
pub use builder::{BuildError, Builder};
pub use check::{AudiencePolicy, Authentic, Inactive, Leeway, PolicyError, REFRESH_TOKEN_PREFIX, TokenVerifier};
pub use claims::ClaimsError;
pub use embedded::Verifier;
pub use interceptor::VerifierInterceptor;
pub use layer::{Guard, Guarded, Policy, VerifierLayer};
pub use metrics::Metrics;
pub use principal::Principal;
pub use revocation_set::RevocationSet;
pub use rule::{Access, Denied, Rule, WhenStale};
pub use seen::RememberingVerifier;
