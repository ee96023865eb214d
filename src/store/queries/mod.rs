//! The queries, one text for every database. This folder is compiled once under each database's module, which defines
//! `Db`, `Conn`, `BEGIN` and the few macros in which the databases differ.

use std::sync::Arc;

use sqlx::Pool;
use tokio_util::task::TaskTracker;

use self::transaction::Tx;
use super::{BEGIN, Conn, Db, NAME};
use crate::store::connect::Surroundings;

mod audit;
mod feed;
mod keys;
mod refresh;
mod rows;
mod sessions;
mod transaction;
mod users;

/// A store on one database. Cheap to clone.
#[derive(Clone, Debug)]
pub(in crate::store) struct Database {
    write: Pool<Db>,
    read: Pool<Db>,
    tasks: TaskTracker,
    around: Arc<Surroundings>,
}

impl Database {
    /// A store on open pools; both may be the same.
    pub(in crate::store) fn new(write: Pool<Db>, read: Pool<Db>, around: Surroundings) -> Self {
        Self { write, read, tasks: TaskTracker::new(), around: Arc::new(around) }
    }
}
