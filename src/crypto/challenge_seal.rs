//! Sign-ins that wait for a code, sealed: they hold what was typed, which may be a password, and the secret of a device.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::{KeyedHash, MasterKey, SealContext, SealError};
use crate::domain::secret::Entropy;

/// Seals and opens pending sign-ins under the master key, each bound to its challenge.
#[derive(Clone)]
pub struct ChallengeSeal(Arc<MasterKey>);

impl ChallengeSeal {
    /// The seal that goes with `master`.
    pub const fn new(master: Arc<MasterKey>) -> Self {
        Self(master)
    }

    /// Encrypts what is pending for the challenge whose handle has this hash.
    pub fn seal(&self, handle: &KeyedHash, pending: &[u8], entropy: &dyn Entropy) -> Vec<u8> {
        self.0.seal(context(handle), pending, entropy)
    }

    /// Decrypts it.
    ///
    /// # Errors
    /// If it was sealed under another master key, or for another challenge.
    pub fn open(&self, handle: &KeyedHash, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        self.0.open(context(handle), sealed)
    }
}

impl std::fmt::Debug for ChallengeSeal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ChallengeSeal")
    }
}

const fn context(row: &[u8]) -> SealContext<'_> {
    SealContext { table: "challenges", row, column: "pending" }
}
