//! Messages in the outbox, sealed: they hold addresses and codes.

use std::sync::Arc;

use uuid::Uuid;
use zeroize::Zeroizing;

use super::{MasterKey, SealContext, SealError};
use crate::domain::secret::Entropy;

/// Seals and opens messages under the master key, each bound to its row.
#[derive(Clone)]
pub struct MessageSeal(Arc<MasterKey>);

impl MessageSeal {
    /// The seal that goes with `master`.
    pub const fn new(master: Arc<MasterKey>) -> Self {
        Self(master)
    }

    /// Encrypts a message for the row `id`.
    pub fn seal(&self, id: Uuid, message: &[u8], entropy: &dyn Entropy) -> Vec<u8> {
        self.0.seal(context(id.as_bytes()), message, entropy)
    }

    /// Decrypts the message of the row `id`.
    ///
    /// # Errors
    /// If it was sealed under another master key, or for another row.
    pub fn open(&self, id: Uuid, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        self.0.open(context(id.as_bytes()), sealed)
    }
}

impl std::fmt::Debug for MessageSeal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MessageSeal")
    }
}

const fn context(row: &[u8]) -> SealContext<'_> {
    SealContext { table: "outbox", row, column: "message_sealed" }
}
