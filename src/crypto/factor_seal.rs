//! Seeds of authenticator apps, sealed: whoever has one can make its codes.

use std::sync::Arc;

use uuid::Uuid;

use super::{MasterKey, SealContext, SealError, TotpSeed};
use crate::domain::secret::Entropy;

/// Seals and opens seeds under the master key, each bound to its enrolment.
#[derive(Clone)]
pub struct FactorSeal(Arc<MasterKey>);

impl FactorSeal {
    /// The seal that goes with `master`.
    pub const fn new(master: Arc<MasterKey>) -> Self {
        Self(master)
    }

    /// Encrypts the seed of the enrolment `id`.
    pub fn seal(&self, id: Uuid, seed: &TotpSeed, entropy: &dyn Entropy) -> Vec<u8> {
        self.0.seal(context(id.as_bytes()), seed.expose(), entropy)
    }

    /// Decrypts the seed of the enrolment `id`.
    ///
    /// # Errors
    /// If it was sealed under another master key, or for another enrolment.
    pub fn open(&self, id: Uuid, sealed: &[u8]) -> Result<TotpSeed, SealError> {
        let bytes = self.0.open(context(id.as_bytes()), sealed)?;
        TotpSeed::from_bytes(&bytes).ok_or(SealError::Corrupt)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{crypto::SystemEntropy, domain::secret::SecretKey};

    #[test]
    fn a_seed_opens_for_its_enrolment_only() {
        let seal = |key| FactorSeal::new(Arc::new(MasterKey::new(SecretKey::new([key; 32]))));
        let (mine, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let seed = TotpSeed::generate(&SystemEntropy);
        let sealed = seal(1).seal(mine, &seed, &SystemEntropy);
        assert_eq!(seal(1).open(mine, &sealed).unwrap().expose(), seed.expose());
        assert_eq!(seal(1).open(other, &sealed).unwrap_err(), SealError::Corrupt);
        assert!(matches!(seal(2).open(mine, &sealed), Err(SealError::WrongKey { .. })));
        assert!(!sealed.windows(20).any(|window| window == seed.expose()));
    }
}
