//! What is sealed under the master key, for a change of it.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use uuid::Uuid;

use crate::{
    crypto::{KeyId, SealContext},
    domain::audit::AuditEvent,
    store::StoreError,
};

/// A column that is sealed under the master key. Every one: a test compares them with the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SealedColumn {
    /// Keys of hashes and seals.
    StoredSecrets,
    /// Keys of refresh tokens.
    RefreshKeys,
    /// Keys that sign access tokens.
    SigningKeys,
    /// Keys of personal data.
    DataKeys,
    /// Seeds of authenticator apps.
    TotpSeeds,
    /// Messages to be sent.
    Messages,
    /// Sign-ins that wait for a code.
    Challenges,
}

impl SealedColumn {
    /// Every one. What a server opens when it starts comes first.
    pub const ALL: [Self; 7] = [
        Self::StoredSecrets,
        Self::RefreshKeys,
        Self::SigningKeys,
        Self::DataKeys,
        Self::TotpSeeds,
        Self::Messages,
        Self::Challenges,
    ];

    /// The table and the column.
    pub const fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::StoredSecrets => ("stored_secrets", "secret_sealed"),
            Self::RefreshKeys => ("refresh_keys", "key_sealed"),
            Self::SigningKeys => ("signing_keys", "private_key_sealed"),
            Self::DataKeys => ("data_keys", "key_sealed"),
            Self::TotpSeeds => ("totp_factors", "seed_sealed"),
            Self::Messages => ("outbox", "message_sealed"),
            Self::Challenges => ("challenges", "pending"),
        }
    }

    /// The place that a row of it is sealed for.
    pub const fn context(self, row: &[u8]) -> SealContext<'_> {
        let (table, column) = self.names();
        SealContext { table, row, column }
    }
}

impl fmt::Display for SealedColumn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.names().0)
    }
}

/// What rows of a column are told apart by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RowKey {
    /// A name.
    Text(String),
    /// A number.
    Number(i64),
    /// An id.
    Id(Uuid),
    /// A hash.
    Bytes(Vec<u8>),
}

impl RowKey {
    /// The bytes that a seal is bound to.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Text(text) => text.as_bytes().to_vec(),
            Self::Number(number) => number.to_be_bytes().to_vec(),
            Self::Id(id) => id.as_bytes().to_vec(),
            Self::Bytes(bytes) => bytes.clone(),
        }
    }
}

impl fmt::Display for RowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Number(number) => number.fmt(f),
            Self::Id(id) => id.fmt(f),
            Self::Bytes(bytes) => bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}")),
        }
    }
}

/// Seals anew what was sealed for a row: `None` if it is to stay as it is, a text if it cannot be opened.
pub type Reseal = dyn Fn(&[u8], &[u8]) -> Result<Option<Vec<u8>>, String> + Send + Sync;

/// Some rows of a column.
#[derive(Clone)]
pub struct SealBatch {
    /// Which column.
    pub column: SealedColumn,
    /// From which row on; `None` from the first one.
    pub from: Option<RowKey>,
    /// Rows that this key sealed are passed over, where that can be seen without opening them.
    pub under: KeyId,
    /// What becomes of the others.
    pub reseal: Arc<Reseal>,
    /// Recorded with them if there are any.
    pub event: Option<AuditEvent>,
}

/// What became of some rows.
#[derive(Clone, Debug, Default)]
pub struct ResealedBatch {
    /// The row to go on from; `None` if there are no more.
    pub next: Option<RowKey>,
    /// How many were sealed anew.
    pub resealed: u64,
    /// How many somebody else has changed meanwhile.
    pub missed: u64,
    /// Those that cannot be opened, and why.
    pub unreadable: Vec<(RowKey, String)>,
}

/// What is sealed under the master key.
#[async_trait]
pub trait SealStore: Send + Sync + 'static {
    /// Seals some rows anew, in one transaction. Whoever reads or changes a row meanwhile does not wait for long, and what they
    /// write stays.
    async fn reseal(&self, batch: SealBatch) -> Result<ResealedBatch, StoreError>;
}
