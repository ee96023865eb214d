//! A thread for work that takes milliseconds or reads a file: beside the threads that serve calls, so that it holds up none of
//! them, and only one, so that choosing passwords never takes more than a core.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::mpsc::{SyncSender, TrySendError, sync_channel},
    thread,
    time::{Duration, Instant},
};

use tokio::{sync::oneshot, time::timeout_at};

use crate::service::ServiceError;

/// So many may wait. At the millisecond or two that a usual password takes that is a fraction of a second; of passwords that were made to
/// take long, both of whose readings do, it is four. Whoever has no time for that hears so at their deadline.
const WAITING: usize = 128;
/// When to come again if there is no room.
const RETRY_AFTER: Duration = Duration::from_secs(1);

type Job = Box<dyn FnOnce() + Send>;

/// The thread. It ends when this is dropped, and not before: a job that panics is answered with an error, and the next one is done.
pub(super) struct Aside {
    jobs: SyncSender<Job>,
}

impl Aside {
    /// Starts it.
    pub(super) fn start() -> io::Result<Self> {
        let (jobs, waiting) = sync_channel::<Job>(WAITING);
        thread::Builder::new()
            .name("vouchsafe-rules".to_owned())
            .spawn(move || waiting.into_iter().for_each(|job| job()))?;
        Ok(Self { jobs })
    }

    /// Does this there. What nobody waits for any more is not begun.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        deadline: Instant,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ServiceError> {
        let (answer, answered) = oneshot::channel();
        let job = move || {
            if !answer.is_closed() {
                // What `work` left behind in pieces is dropped with it: it has nothing that outlives it but what it only reads.
                let done = catch_unwind(AssertUnwindSafe(work)).map_err(|_| {
                    tracing::error!("judging a password panicked");
                });
                // Whoever has gone meanwhile needs no answer.
                let _ = answer.send(done);
            }
        };
        self.jobs.try_send(Box::new(job)).map_err(|error| match error {
            TrySendError::Full(_) => ServiceError::Overloaded { retry_after: RETRY_AFTER },
            TrySendError::Disconnected(_) => ServiceError::internal("the thread of the password rules is gone"),
        })?;
        match timeout_at(deadline.into(), answered).await {
            Ok(Ok(Ok(done))) => Ok(done),
            Ok(Ok(Err(())) | Err(_)) => Err(ServiceError::internal("a password could not be judged")),
            Err(_) => Err(ServiceError::Overloaded { retry_after: RETRY_AFTER }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;
    use crate::crypto::monotonic_now;

    fn later() -> Instant {
        monotonic_now() + Duration::from_mins(1)
    }

    #[tokio::test]
    async fn what_does_not_fit_is_sent_away_and_what_nobody_waits_for_is_not_begun() {
        let aside = Aside::start().unwrap();
        assert_eq!(aside.run(later(), || 7).await.unwrap(), 7);

        let (release, held) = channel::<()>();
        let (begun, has_begun) = channel::<()>();
        let holding = aside.run(later(), move || {
            begun.send(()).unwrap();
            held.recv().unwrap();
        });
        let (ran, runs) = channel();
        let filling = async {
            has_begun.recv().unwrap();
            for _ in 0..WAITING {
                let ran = ran.clone();
                let past = aside.run(monotonic_now(), move || ran.send(()).unwrap()).await;
                assert!(matches!(past, Err(ServiceError::Overloaded { .. })), "its deadline has passed");
            }
            let full = aside.run(later(), || ()).await;
            assert!(matches!(full, Err(ServiceError::Overloaded { .. })), "there is no room");
            release.send(()).unwrap();
        };
        let (held, ()) = tokio::join!(holding, filling);
        held.unwrap();
        drop(ran);
        // The thread drops each job as it comes to it.
        assert_eq!(tokio::task::spawn_blocking(move || runs.recv()).await.unwrap(), Err(std::sync::mpsc::RecvError));
    }

    #[tokio::test]
    async fn a_panic_is_an_error_and_the_thread_goes_on() {
        let aside = Aside::start().unwrap();
        let caught = aside.run(later(), || panic!("on purpose")).await;
        assert!(matches!(caught, Err::<(), _>(ServiceError::Internal { .. })));
        assert_eq!(aside.run(later(), || 7).await.unwrap(), 7);
    }
}
