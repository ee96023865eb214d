//! What checks access tokens: for the `Verify` RPC, the command line, the sidecar and services that embed it.
//!
//! The core ([`TokenVerifier`], [`RememberingVerifier`], [`RevocationSet`]) keeps no clock and does no IO. Keys, revocations and
//! the present moment are arguments, so that whoever holds them decides how fresh they must be.
//!
//! A service embeds [`Verifier`]: the same core, with keys that it fetches and revocations that the issuer pushes to it. There
//! are three ways to use it: [`Verifier::verify`] and its siblings, [`VerifierInterceptor`] for a tonic service, and
//! [`VerifierLayer`] for anything that tower serves.
//!
//! ```no_run
//! use std::time::Duration;
//! use vouchsafe::verifier::{Rule, Verifier};
//!
//! # async fn example(token: &str) -> Result<(), Box<dyn std::error::Error>> {
//! let verifier = Verifier::builder("https://id.example.com", ["orders"])
//!     .service_url("https://id.example.com:50051")?
//!     // Where the service's port is not bound to loopback.
//!     .service_account("svc_…", std::env::var("ORDERS_SECRET")?)
//!     // To deny rather than to overlook a revocation, when the service has been away for so long.
//!     .max_staleness(Duration::from_secs(30))
//!     // To start while the service is away.
//!     .persist_in("/var/lib/orders/vouchsafe")
//!     .start()
//!     .await?;
//!
//! let principal = verifier.verify(token, &Rule::required().scope("orders:write")).await?;
//! println!("{} may write", principal.subject());
//! # Ok(())
//! # }
//! ```
//!
//! What is known comes by itself: keys are fetched at the start, each few minutes, when the issuer says that they have changed, and
//! when a token names one that is not known, which is rationed; revocations come over a stream that is resumed for ever. How
//! old the list of revocations is at most, [`Verifier::staleness`] says. When that is more than `max_staleness` a [`Rule`] says
//! whether to deny. Age is measured by the
//! machine's monotonic clock and by its date, and the larger counts: the one may stand still while the machine sleeps.

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
pub(crate) mod wrapping;

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
pub use wrapping::{EncryptedAudiences, KeyFileError, Wrapping, read_decryption_keys};
