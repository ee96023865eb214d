//! A bounded number of callers who have still to show what they want. Whoever comes last is always let in.

use std::{collections::VecDeque, sync::Arc};

use tokio::{sync::Semaphore, task::AbortHandle};

/// Tasks of which only so many run at once: one more ends the oldest.
///
/// A caller who means it needs its place for milliseconds, one who says nothing keeps it until a timeout. So silent callers,
/// however many, push out each other, and never keep anybody away: not by filling the places, and not by making others wait.
/// There is no share per address, as behind a balancer or a node's NAT everybody has the same one.
pub(crate) struct Newcomers {
    most: usize,
    places: Arc<Semaphore>,
    /// Oldest first. Some of them may have ended.
    admitted: VecDeque<AbortHandle>,
}

impl Newcomers {
    /// At most so many at once; at least one.
    pub(crate) fn new(most: usize) -> Self {
        let most = most.max(1);
        Self { most, places: Arc::new(Semaphore::new(most)), admitted: VecDeque::new() }
    }

    /// Starts a task as soon as there is a place, which this makes if there is none.
    pub(crate) async fn admit(&mut self, work: impl Future<Output = ()> + Send + 'static) {
        let place = if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            place
        } else {
            self.end_oldest();
            // What the oldest held is free when this is: the bound holds for file descriptors too.
            let Ok(place) = Arc::clone(&self.places).acquire_owned().await else { return };
            place
        };
        let task = tokio::spawn(async move {
            work.await;
            drop(place);
        });
        if self.admitted.len() >= 2 * self.most {
            self.admitted.retain(|task| !task.is_finished());
        }
        self.admitted.push_back(task.abort_handle());
    }

    fn end_oldest(&mut self) {
        while let Some(oldest) = self.admitted.pop_front() {
            if !oldest.is_finished() {
                oldest.abort();
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::sync::oneshot;

    use super::*;

    /// Work that never ends by itself, and what tells that it was ended.
    fn endless() -> (impl Future<Output = ()> + Send + 'static, oneshot::Receiver<()>) {
        let (alive, ended) = oneshot::channel::<()>();
        let work = async move {
            pending::<()>().await;
            drop(alive);
        };
        (work, ended)
    }

    #[tokio::test]
    async fn the_oldest_makes_room_and_the_newest_stay() {
        let mut newcomers = Newcomers::new(3);
        let mut ended = Vec::new();
        for _ in 0..20 {
            let (work, end) = endless();
            newcomers.admit(work).await;
            ended.push(end);
        }
        for (number, mut end) in ended.into_iter().enumerate() {
            let alive = end.try_recv() == Err(oneshot::error::TryRecvError::Empty);
            assert_eq!(alive, number >= 17, "{number}");
        }
    }

    #[tokio::test]
    async fn those_who_finish_give_their_place_to_others() {
        let mut newcomers = Newcomers::new(2);
        let (work, mut first) = endless();
        newcomers.admit(work).await;
        for _ in 0..50 {
            let (finish, finished) = oneshot::channel();
            newcomers.admit(async move { finish.send(()).unwrap() }).await;
            finished.await.unwrap();
            // The place is free only when the task has gone.
            while newcomers.places.available_permits() == 0 {
                tokio::task::yield_now().await;
            }
            assert!(newcomers.admitted.len() <= 4);
        }
        assert_eq!(first.try_recv(), Err(oneshot::error::TryRecvError::Empty));
    }
}
