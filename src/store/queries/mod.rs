//! The queries, one text for every database. This folder is compiled once under each database's module, which defines
//! `Db`, `OUTCOME` and the few macros in which the databases differ.

use std::sync::Arc;

use sqlx::Pool;
use tokio_util::task::TaskTracker;

use self::transaction::Tx;
use super::{Db, FREE_LANE, LANES, NAME, OUTCOME, READS_APART, SCRUB};
use crate::store::{
    connect::Surroundings,
    held::Hold,
    link::{Link, Manner},
};

mod audit;
mod audit_chain;
mod audit_keeping;
mod audit_verify;
mod challenges;
mod create_requests;
mod devices;
mod doubt;
mod email_changes;
mod erasure;
mod factors;
mod families;
mod feed;
mod imports;
mod keys;
mod mailed_codes;
mod outbox;
mod own_account;
mod passwords;
mod people;
mod phone;
mod reading;
mod refresh;
mod registrations;
mod roles;
mod rows;
mod seals;
mod service_accounts;
mod service_tokens;
mod sessions;
mod throttle;
mod trail;
mod transaction;
mod user_admin;
mod user_creation;
mod user_listing;
mod user_roles;
mod users;
mod warrants;

/// Where statements go.
type Conn = Link<Db>;

/// The connections of a store.
#[derive(Clone, Debug)]
pub(in crate::store) struct Pools {
    /// For transactions.
    pub(in crate::store) write: Pool<Db>,
    /// For what only reads. May be the same.
    pub(in crate::store) read: Pool<Db>,
    /// For following the feed, of its own: calls that hold every other connection must not make a node blind.
    pub(in crate::store) feed: Pool<Db>,
    /// How they are used.
    pub(in crate::store) manner: Manner,
}

/// A store on one database. Cheap to clone.
#[derive(Clone, Debug)]
pub(in crate::store) struct Database {
    pools: Pools,
    /// For the rows that refreshes wait for.
    held: Arc<Hold<Db>>,
    tasks: TaskTracker,
    around: Arc<Surroundings>,
}

impl Database {
    /// A store on open pools.
    pub(in crate::store) fn new(pools: Pools, around: Surroundings) -> Self {
        let held = Arc::new(Hold::new(pools.read.clone(), pools.manner));
        Self { pools, held, tasks: TaskTracker::new(), around: Arc::new(around) }
    }
}
