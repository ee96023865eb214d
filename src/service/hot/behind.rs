//! The write behind the refreshes: what the hot records say of the counters, brought to the rows in batches.
//!
//! A row that is behind harms nobody while its record is there. The faster it follows, the less is forgotten with the record:
//! a token superseded more than a second before all of the hot state was lost is still known to be old.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::Mutex as AsyncMutex;

use crate::{
    domain::{id::SessionId, refresh::Family},
    store::{StoreError, port::Store},
};

/// How often the queue is written. Below the second that is promised, because writing takes its time too.
pub(in crate::service) const INTERVAL: Duration = Duration::from_millis(500);
/// Rows written by one statement.
const BATCH: usize = 500;
/// Sessions that may wait while the database is away. Those beyond are in their hot records alone.
const CAPACITY: usize = 500_000;

/// The queue.
#[derive(Debug, Default)]
pub(in crate::service) struct WriteBehind {
    waiting: Mutex<HashMap<SessionId, Family>>,
    /// One writer at a time, so that a flush that returns has written all there was.
    writing: AsyncMutex<()>,
}

impl WriteBehind {
    /// Takes note of a session's newest generation.
    pub(in crate::service) fn note(&self, session: SessionId, family: Family) {
        let mut waiting = self.waiting();
        if waiting.len() < CAPACITY || waiting.contains_key(&session) {
            waiting.entry(session).and_modify(|known| *known = known.merged(family)).or_insert(family);
        }
    }

    /// Whether a later generation of the session than this one waits.
    pub(in crate::service) fn is_past(&self, session: SessionId, generation: i64) -> bool {
        self.waiting().get(&session).is_some_and(|family| family.generation > generation)
    }

    /// How many sessions wait.
    pub(in crate::service) fn len(&self) -> usize {
        self.waiting().len()
    }

    /// Writes all that waits. What is being written still waits: until it is in its row, the row is behind.
    ///
    /// # Errors
    /// The store's; what was not written waits on.
    pub(in crate::service) async fn flush(&self, store: &dyn Store) -> Result<(), StoreError> {
        let _writing = self.writing.lock().await;
        let all: Vec<_> = self.waiting().iter().map(|(session, family)| (*session, *family)).collect();
        for batch in all.chunks(BATCH) {
            store.advance_families(batch.to_vec()).await?;
            let mut waiting = self.waiting();
            for (session, written) in batch {
                if waiting.get(session) == Some(written) {
                    waiting.remove(session);
                }
            }
        }
        Ok(())
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<SessionId, Family>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
