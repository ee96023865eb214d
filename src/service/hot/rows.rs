//! One reading of session rows for all refreshes that wait on this node.
//!
//! Each refresh must be decided by its row as it was after the request arrived. So a waiting request joins the next query, never
//! one under way. With the database away everybody is told so at once: whether it is back, the feed's follower finds out.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex as StdMutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    sync::{Mutex, mpsc, oneshot},
    time::timeout,
};

use crate::{
    crypto::monotonic_now,
    domain::{hot::FeedPosition, id::SessionId},
    service::{Feed, ServiceError},
    store::{
        StoreError,
        port::{SessionState, Store},
    },
};

/// Rows read by one query.
const BATCH: usize = 256;
/// Requests that may wait for a query. More than that are beyond what the node could answer in time.
const QUEUE: usize = 16_384;
/// Queries under way at once: while one is being answered the next is being asked.
pub(in crate::service) const READERS: usize = 2;
/// A query that takes longer is given up: the hot record may speak for the row.
const PATIENCE: Duration = Duration::from_secs(2);

/// A row as it was at a place of the feed. `None`: there is none.
pub(in crate::service) type Row = (FeedPosition, Option<SessionState>);

struct Want {
    session: SessionId,
    answer: oneshot::Sender<Result<Row, ReadFailure>>,
}

#[derive(Clone, Debug)]
enum ReadFailure {
    Away(String),
    Fault(String),
}

impl From<&StoreError> for ReadFailure {
    fn from(error: &StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) => Self::Away(error.to_string()),
            StoreError::Refused(_) | StoreError::Corrupt { .. } | StoreError::Schema(_) | StoreError::Internal(_) => {
                Self::Fault(error.to_string())
            }
        }
    }
}

impl From<ReadFailure> for ServiceError {
    fn from(failure: ReadFailure) -> Self {
        match failure {
            ReadFailure::Away(cause) => Self::Unavailable { cause },
            ReadFailure::Fault(cause) => Self::Internal { cause },
        }
    }
}

/// The shared reader.
pub(in crate::service) struct RowReader {
    store: Arc<dyn Store>,
    feed: Arc<Feed>,
    wanted: mpsc::Sender<Want>,
    waiting: Mutex<mpsc::Receiver<Want>>,
    /// When the database was last found to be away.
    away: StdMutex<Option<Instant>>,
}

impl RowReader {
    /// A reader that answers while [`RowReader::run`] runs.
    pub(in crate::service) fn new(store: Arc<dyn Store>, feed: Arc<Feed>) -> Self {
        let (wanted, waiting) = mpsc::channel(QUEUE);
        Self { store, feed, wanted, waiting: Mutex::new(waiting), away: StdMutex::default() }
    }

    /// The row of a session, read after now.
    pub(in crate::service) async fn read(&self, session: SessionId) -> Result<Row, ServiceError> {
        if self.is_away() {
            return Err(ServiceError::Unavailable { cause: "the database was away a moment ago".into() });
        }
        let (answer, answered) = oneshot::channel();
        let overloaded = || ServiceError::Unavailable { cause: "too many refreshes wait for the database".into() };
        self.wanted.try_send(Want { session, answer }).map_err(|_| overloaded())?;
        let gone = |_| ServiceError::Unavailable { cause: "the reader of session rows has stopped".into() };
        Ok(answered.await.map_err(gone)??)
    }

    /// Answers until it is dropped. Run several.
    pub(in crate::service) async fn run(&self) {
        loop {
            let mut batch = Vec::new();
            if self.waiting.lock().await.recv_many(&mut batch, BATCH).await == 0 {
                return;
            }
            // Whoever has gone away needs no row.
            batch.retain(|want| !want.answer.is_closed());
            if !batch.is_empty() {
                self.answer(batch).await;
            }
        }
    }

    async fn answer(&self, batch: Vec<Want>) {
        let mut sessions: Vec<_> = batch.iter().map(|want| want.session).collect();
        sessions.sort_unstable();
        sessions.dedup();
        let rows = match timeout(PATIENCE, self.store.read_sessions(sessions)).await {
            Ok(rows) => rows.map_err(|error| ReadFailure::from(&error)),
            Err(_) => Err(ReadFailure::Away("the database did not answer in time".into())),
        };
        self.note(rows.as_ref().err());
        let (seen, states) = match rows {
            Ok(rows) => (rows.seen, rows.sessions),
            Err(failure) => {
                for want in batch {
                    let _ = want.answer.send(Err(failure.clone()));
                }
                return;
            }
        };
        let states: HashMap<_, _> =
            states.into_iter().map(|(id, state)| (id, state.map_err(|error| ReadFailure::from(&error)))).collect();
        for Want { session, answer } in batch {
            let row = states.get(&session).cloned().transpose().map(|state| (seen, state));
            let _ = answer.send(row);
        }
    }

    fn note(&self, failure: Option<&ReadFailure>) {
        let mut away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        match failure {
            Some(ReadFailure::Away(cause)) => {
                if away.is_none() {
                    tracing::warn!(cause, "session rows not readable, the hot state speaks for them where it may");
                }
                *away = Some(monotonic_now());
            }
            Some(ReadFailure::Fault(_)) => {}
            None => {
                if away.take().is_some() {
                    tracing::info!("session rows readable again");
                }
            }
        }
    }

    /// Whether the database was found to be away and nothing has been read from it since.
    fn is_away(&self) -> bool {
        let away = *self.away.lock().unwrap_or_else(PoisonError::into_inner);
        away.is_some_and(|since| !self.feed.was_read_after(since))
    }
}
