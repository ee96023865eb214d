//! The core that checks access tokens: for the `Verify` RPC, the command line, the sidecar and services that embed it.
//!
//! It keeps no clock and does no IO. Keys, revocations and the present moment are arguments, so that whoever holds them
//! decides how fresh they must be.

pub mod check;
pub mod claims;
pub mod revocation_set;
pub mod seen;

mod sharded;

pub use check::{AudiencePolicy, Authentic, Inactive, Leeway, PolicyError, REFRESH_TOKEN_PREFIX, TokenVerifier};
pub use claims::ClaimsError;
pub use revocation_set::RevocationSet;
pub use seen::RememberingVerifier;
