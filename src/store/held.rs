//! Connections that one statement, which is sent all the time, holds on to between two uses.
//!
//! A pool asks the server whether a connection is still good before it gives it away and again when it comes back: three round
//! trips for one. Whoever holds a connection finds out by using it, and where it was not, uses a fresh one.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sqlx::{Database, pool::Pool};
use tokio::time::Instant;

use super::{
    StoreError,
    link::{Link, Manner},
};

/// How long a connection is held. Not for ever, so that a node finds the server that its address names by now.
const LONGEST: Duration = Duration::from_mins(1);

/// A connection, and since when it has been held.
#[derive(Debug)]
pub(super) struct Held<D: Database> {
    pub(super) link: Link<D>,
    since: Instant,
}

/// The connections that are held and not in use.
#[derive(Debug)]
pub(super) struct Hold<D: Database> {
    pool: Pool<D>,
    manner: Manner,
    spare: Mutex<Vec<Held<D>>>,
}

impl<D: Database> Hold<D> {
    /// Holds connections of a pool, beyond those that the pool may have.
    pub(super) const fn new(pool: Pool<D>, manner: Manner) -> Self {
        Self { pool, manner, spare: Mutex::new(Vec::new()) }
    }

    /// One that was used before, if there is one.
    pub(super) fn used(&self) -> Option<Held<D>> {
        let mut spare = self.spare();
        if self.pool.is_closed() {
            spare.clear();
        }
        spare.pop().filter(|held| held.since.elapsed() < LONGEST)
    }

    /// One that was found to be good just now.
    pub(super) async fn fresh(&self) -> Result<Held<D>, StoreError> {
        Ok(Held { link: Link::detach(&self.pool, self.manner).await?, since: Instant::now() })
    }

    /// Takes one back, unless something may still be under way on it.
    pub(super) fn put(&self, mut held: Held<D>) {
        if held.link.unsettle() {
            self.spare().push(held);
        }
    }

    /// How many are held and not in use.
    pub(super) fn len(&self) -> usize {
        self.spare().len()
    }

    /// Lets go of them all.
    pub(super) fn clear(&self) {
        self.spare().clear();
    }

    fn spare(&self) -> MutexGuard<'_, Vec<Held<D>>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
