//! How many connections there may be.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::greeting::Greeting;

/// Places for connections that are served.
///
/// Pages have half of them: a program has one connection for all of its calls, a page has several, and many of those must not keep
/// the others away.
#[derive(Clone)]
pub(super) struct Places {
    all: Arc<Semaphore>,
    pages: Arc<Semaphore>,
}

/// What is held while a connection is served.
pub(super) struct Place {
    _of_all: OwnedSemaphorePermit,
    _of_pages: Option<OwnedSemaphorePermit>,
}

impl Places {
    /// So many.
    pub(super) fn new(most: usize) -> Self {
        Self { all: Arc::new(Semaphore::new(most)), pages: Arc::new(Semaphore::new(most.div_ceil(2))) }
    }

    /// Waits for a place. Pages that wait for one of theirs take none of the others.
    pub(super) async fn take(self, greeting: &Greeting) -> Option<Place> {
        let of_pages = match greeting {
            Greeting::Http2(_) => None,
            Greeting::Http1(_) => Some(take(self.pages).await?),
        };
        Some(Place { _of_all: take(self.all).await?, _of_pages: of_pages })
    }
}

async fn take(places: Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    if places.available_permits() == 0 {
        tracing::debug!("every place for a connection is taken: one waits");
    }
    places.acquire_owned().await.ok()
}
