//! Secrets at work: password hashing, encryption at rest, refresh tokens, and the edge where time and randomness enter.
//!
//! What this room promises:
//! - A password costs the same work whether or not its account exists, and no caller, stored hash or storm of logins can
//!   make the service spend more memory, threads or time on hashing than it was given ([`PasswordPool`]).
//! - What is sealed can be opened only with the right key and only in the place it was sealed for ([`MasterKey`],
//!   [`DataKey`], [`SealContext`]).
//! - A master key can be changed without any token, code or hash ceasing to be good ([`DerivedKeys`]).
//! - A refresh token is a pure function of key, session and generation, and nothing in it can be read as true before its
//!   authenticator was checked ([`refresh_token`]).
//! - A service account's secret is a function of its id and one key, so that a lost answer can be given again though
//!   only a hash of it is stored ([`ServiceSecrets`]).
//! - No secret shows in `Debug` or in an error, and comparisons of secrets take constant time.
//!
//! Nothing here knows a database or a wire.

pub mod audit_chain;
pub mod challenge_seal;
pub mod clock;
pub mod derived;
pub mod entropy;
pub mod factor_seal;
pub mod hot_seal;
pub mod keyed;
pub mod message_seal;
pub mod password_pool;
pub mod recovery_code;
pub mod refresh_token;
pub mod seal;
pub mod service_secret;
pub mod totp;

mod base32;
mod hkdf;
mod vault;

pub use challenge_seal::ChallengeSeal;
pub use clock::{machine_date, monotonic_now};
pub use derived::{DerivedKey, DerivedKeys};
pub use entropy::SystemEntropy;
pub use factor_seal::FactorSeal;
pub use hot_seal::{Foreign, HotSeal};
pub use keyed::{KeyedHash, KeyedHasher, Purpose};
pub use message_seal::MessageSeal;
pub use password_pool::{
    ACCEPTED_HASHES, Argon2Params, BadHash, HashError, HashObserver, PasswordPool, Place, PoolConfig, PoolError,
    QueueStats, Verdict, import_hash, password_scheme,
};
pub use refresh_token::{
    KeyIdOutOfRange, MalformedRefreshToken, ParsedRefreshToken, RefreshClaims, RefreshTokenError, RefreshTokenKey,
};
pub use seal::{DataKey, KeyId, MasterKey, MasterKeyError, SealContext, SealError};
pub use service_secret::ServiceSecrets;
pub use totp::TotpSeed;
pub use vault::Vault;
