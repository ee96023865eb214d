//! JWS, JWE and JWK (RFC 7515 to 7518, 8037): one strict implementation for server, verifier and sidecar.
//!
//! What is promised:
//! - The algorithm comes from the key. A token's header may only agree with it (RFC 8725 §3.1).
//! - A token has one spelling: compact serialisation, canonical unpadded base64url, no member named twice.
//! - A payload is out of reach until its signature has been checked.
//! - A ciphertext is opened by a key that is held for that very way, and every failure is the same failure.
//! - Nothing a header points to is ever used or fetched: `kid` is a look-up string and nothing else.

mod base64url;
pub mod jwe;
pub mod jwk;
pub mod jws;
pub mod key_set;
mod rsa;
pub mod signer;
mod small_order;

pub(crate) mod json;

pub use jwe::{DecryptionKeys, JweKey};
pub use jwk::{BadSignature, JwkError, PublicKey};
pub use key_set::{KeySet, KeySetError};
pub use signer::{KeyPairError, SignError, SigningKeyPair};
