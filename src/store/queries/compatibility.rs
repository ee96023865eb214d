//! Which programs may use the database.

use super::Tx;
use crate::store::StoreError;

impl Tx {
    /// From the commit on no program starts here that was made for a schema of before this version. Where that is so already, nothing is
    /// written and nothing locked.
    pub(super) async fn bar_programs_before(&mut self, version: i64) -> Result<(), StoreError> {
        sqlx::query("UPDATE schema_compatibility SET oldest_reader = $1 WHERE oldest_reader < $1")
            .bind(version)
            .execute(self.conn())
            .await?;
        Ok(())
    }
}
