//! The rules: pure states and decisions.
//!
//! Nothing in this room does IO, reads a clock or draws a random number; time and random bytes are arguments. That is
//! what makes every rule here testable with literals.

pub mod audience;
pub mod claims;
pub mod custom_claims;
#[cfg(feature = "sidecar")]
pub mod duration;
pub mod id;
mod json_text;
pub mod revocation;
pub mod role;
pub mod secret;
pub mod signing_key;
pub mod time;

#[cfg(feature = "server")]
pub mod audit;
#[cfg(feature = "server")]
pub mod challenge;
#[cfg(feature = "server")]
pub mod claim_rules;
#[cfg(feature = "server")]
pub mod email;
#[cfg(feature = "server")]
pub mod field;
#[cfg(feature = "server")]
pub mod hot;
#[cfg(feature = "server")]
pub mod locale;
#[cfg(feature = "server")]
pub mod mailed_code;
#[cfg(feature = "server")]
pub mod notice;
#[cfg(feature = "server")]
pub mod password;
#[cfg(feature = "server")]
pub mod password_policy;
#[cfg(feature = "server")]
pub mod percent;
#[cfg(feature = "server")]
pub mod phone;
#[cfg(feature = "server")]
pub mod refresh;
#[cfg(feature = "server")]
pub mod service_account;
#[cfg(feature = "server")]
pub mod session;
#[cfg(feature = "server")]
pub mod spiffe;
#[cfg(feature = "server")]
pub mod throttle;
#[cfg(feature = "server")]
pub mod trail;
#[cfg(feature = "server")]
pub mod user;
#[cfg(feature = "server")]
pub mod users;
#[cfg(feature = "server")]
pub mod warrant;
#[cfg(feature = "server")]
pub mod web_origin;
