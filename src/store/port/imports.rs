//! What an import of many users asks of the store.

use async_trait::async_trait;
use uuid::Uuid;

use super::NewUser;
use crate::{
    domain::{audit::Origin, time::Timestamp, warrant::Warrant},
    store::StoreError,
};

/// How far an import is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImportProgress {
    /// The row that it goes on with, from 1.
    pub next_row: i64,
    /// Rows that are users now.
    pub imported: i64,
    /// Rows that were refused.
    pub failed: i64,
}

impl ImportProgress {
    /// Of an import that has not begun.
    pub const START: Self = Self { next_row: 1, imported: 0, failed: 0 };
}

/// Why a row is no user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowError {
    /// Its place in the import, from 1.
    pub row: i64,
    /// The field that is at fault.
    pub field: String,
    /// What is wrong with it; nothing of the row itself.
    pub description: String,
}

/// Consecutive rows of an import.
#[derive(Clone, Debug)]
pub struct ImportBatch {
    /// The import.
    pub import: Uuid,
    /// The place of the first row.
    pub first_row: i64,
    /// How many rows there are, good and bad.
    pub rows: i64,
    /// The good ones with their places, in order. Roles are names that may not exist.
    pub users: Vec<(i64, NewUser)>,
    /// What is wrong with the others.
    pub errors: Vec<RowError>,
    /// Whether only to find out what would happen.
    pub validate_only: bool,
}

/// What became of a batch.
#[derive(Clone, Debug)]
pub struct ImportedBatch {
    /// How far the import is now. Of a batch that was only checked: how far it would be.
    pub progress: ImportProgress,
    /// Rows of this batch that were refused, in order.
    pub errors: Vec<RowError>,
}

/// Imports. An import belongs to whoever began it.
#[async_trait]
pub trait ImportStore: Send + Sync + 'static {
    /// How far the import is that the warrant's bearer began, if any did.
    async fn import_progress(&self, warrant: Warrant, import: Uuid) -> Result<ImportProgress, StoreError>;

    /// Stores rows, each with its roles, its data key and its event, and how far the import is: all or nothing. Rows that were
    /// handled before are passed over. Refused where rows before these are missing.
    async fn import_users(
        &self,
        warrant: Warrant,
        batch: ImportBatch,
        origin: Origin,
    ) -> Result<ImportedBatch, StoreError>;

    /// The first rows of an import that were refused, in order.
    async fn import_errors(&self, import: Uuid, limit: u32) -> Result<Vec<RowError>, StoreError>;

    /// Forgets how far imports were that nobody has gone on with since `before`. How many.
    async fn purge_imports(&self, before: Timestamp) -> Result<u64, StoreError>;
}
