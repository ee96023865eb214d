//! Seeds of authenticator apps, sealed.

use std::sync::Arc;

use uuid::Uuid;
use zeroize::Zeroizing;

use super::{MasterKey, SealContext, SealError};
use crate::domain::secret::Entropy;

/// Seals and opens seeds under the master key, each bound to its row.
#[derive(Clone)]
pub struct FactorSeal(Arc<MasterKey>);

impl FactorSeal {
    /// The seal that goes with `master`.
    pub const fn new(master: Arc<MasterKey>) -> Self {
        Self(master)
    }

    /// Encrypts a seed for the row `id`.
    pub fn seal(&self, id: Uuid, seed: &[u8], entropy: &dyn Entropy) -> Vec<u8> {
        self.0.seal(context(id.as_bytes()), seed, entropy)
    }

    /// Decrypts the seed of the row `id`.
    ///
    /// # Errors
    /// If it was sealed under another master key, or for another row.
    pub fn open(&self, id: Uuid, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        self.0.open(context(id.as_bytes()), sealed)
    }
}

impl std::fmt::Debug for FactorSeal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FactorSeal")
    }
}

const fn context(row: &[u8]) -> SealContext<'_> {
    SealContext { table: "totp_factors", row, column: "seed_sealed" }
}
