//! Readings of the keys: one after the other, so that what an older one found never takes the place of what a newer one did;
//! and for whoever met an unknown key, few.

use std::time::{Duration, Instant};

use tokio::{sync::Mutex, time::sleep_until};

use crate::crypto::monotonic_now;

/// Unknown keys are looked up at most this often, for all callers together: forged tokens name any. Whoever comes in between
/// waits for the next look-up, because the key may have been published after the last one.
const LOOKUP_INTERVAL: Duration = Duration::from_millis(200);

/// For how long nobody tries again what failed to keep up, counted from its beginning: longer than anybody waits for it.
const FAILED_PAUSE: Duration = Duration::from_secs(5);

/// The readings.
pub(super) struct Readings<E> {
    last: Mutex<Last<E>>,
}

/// The reading that began last.
struct Last<E> {
    began: Option<Instant>,
    /// How it ended. None while it is under way, and for ever if whoever did it went away.
    outcome: Option<Result<(), E>>,
    /// When somebody began to read what had changed, and failed.
    fell_behind: Option<Instant>,
}

impl<E> Default for Readings<E> {
    fn default() -> Self {
        Self { last: Mutex::new(Last { began: None, outcome: None, fell_behind: None }) }
    }
}

impl<E: Clone> Readings<E> {
    /// Reads when those before have ended.
    pub(super) async fn read<F>(&self, reading: impl Future<Output = Result<(), F>>) -> Result<(), F>
    where
        E: for<'f> From<&'f F>,
    {
        let mut last = self.last.lock().await;
        last.begin();
        let outcome = reading.await;
        last.outcome = Some(outcome.as_ref().copied().map_err(E::from));
        outcome
    }

    /// Reads what has changed, unless that was done meanwhile. Whoever comes after a reading that failed lets it be for a moment.
    pub(super) async fn keep_up(&self, is_current: impl Fn() -> bool, reading: impl Future<Output = Result<(), E>>) {
        let mut last = self.last.lock().await;
        if is_current() {
            return;
        }
        if last.fell_behind.is_some_and(|tried| monotonic_now().saturating_duration_since(tried) < FAILED_PAUSE) {
            return;
        }
        last.begin();
        // Stays if it takes longer than its caller waits.
        last.fell_behind = last.began;
        let outcome = reading.await;
        if outcome.is_ok() {
            last.fell_behind = None;
        }
        last.outcome = Some(outcome);
    }

    /// Reads, or shares a reading that began after this was called, so that at most one begins in each interval.
    pub(super) async fn look_up(&self, reading: impl Future<Output = Result<(), E>>) -> Result<(), E> {
        let came = monotonic_now();
        let mut last = self.last.lock().await;
        if let Some(began) = last.began {
            if let Some(outcome) = last.outcome.as_ref().filter(|_| began > came) {
                return outcome.clone();
            }
            sleep_until((began + LOOKUP_INTERVAL).into()).await;
        }
        last.begin();
        let outcome = reading.await;
        last.outcome = Some(outcome.clone());
        outcome
    }
}

impl<E> Last<E> {
    fn begin(&mut self) {
        (self.began, self.outcome) = (Some(monotonic_now()), None);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use tokio::{sync::oneshot, task::JoinSet};

    use super::*;

    /// SECURITY, TOKENS: a flood of unknown `kid`s costs at most one fetch per interval.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_flood_of_unknown_keys_shares_its_look_ups() {
        let (readings, count) = (Arc::new(Readings::<()>::default()), Arc::new(AtomicUsize::new(0)));
        let began = monotonic_now();
        for _ in 0..3 {
            let mut callers = JoinSet::new();
            for _ in 0..1_000 {
                let (readings, count) = (Arc::clone(&readings), Arc::clone(&count));
                callers.spawn(async move {
                    readings
                        .look_up(async {
                            count.fetch_add(1, Ordering::SeqCst);
                            Ok(())
                        })
                        .await
                });
            }
            assert!(callers.join_all().await.into_iter().all(|outcome| outcome == Ok(())));
        }
        let intervals = began.elapsed().as_millis() / LOOKUP_INTERVAL.as_millis();
        let count = count.load(Ordering::SeqCst);
        assert!((3..=usize::try_from(intervals).unwrap() + 1).contains(&count), "{count} in {intervals} intervals");
    }

    #[tokio::test]
    async fn a_failure_is_shared_and_not_repeated_by_everybody_who_waits() {
        let readings = Arc::new(Readings::<&str>::default());
        let (release, held) = oneshot::channel::<()>();
        let (entered, inside) = oneshot::channel();
        let first = {
            let readings = Arc::clone(&readings);
            tokio::spawn(async move {
                readings
                    .look_up(async {
                        entered.send(()).unwrap();
                        held.await.unwrap();
                        Err("first")
                    })
                    .await
            })
        };
        inside.await.unwrap();
        let second = readings.look_up(async { Err("second") });
        let third = readings.look_up(async { panic!("a reading of its own") });
        release.send(()).unwrap();
        // Those who came while the first reading was under way cannot use it: the key may have come after it began.
        let (second, third) = tokio::join!(second, third);
        assert_eq!((first.await.unwrap(), second, third), (Err("first"), Err("second"), Err("second")));
    }

    #[tokio::test]
    async fn what_has_changed_is_read_once_and_after_a_failure_not_at_once_again() {
        let (readings, current) = (Readings::<()>::default(), std::sync::atomic::AtomicBool::new(false));
        let is_current = || current.load(Ordering::SeqCst);
        let read = async || {
            let mut began = false;
            let reading = async {
                began = true;
                current.store(true, Ordering::SeqCst);
                Ok(())
            };
            readings.keep_up(is_current, reading).await;
            began
        };
        // A look-up that failed says nothing of it.
        readings.look_up(async { Err(()) }).await.unwrap_err();
        assert!(read().await);
        assert!(!read().await, "it is current");
        current.store(false, Ordering::SeqCst);
        assert!(read().await, "it has changed again");
        current.store(false, Ordering::SeqCst);
        readings.keep_up(is_current, async { Err(()) }).await;
        assert!(!read().await, "the database is away");
        let abandoned = readings.keep_up(is_current, std::future::pending());
        assert!(tokio::time::timeout(Duration::ZERO, abandoned).await.is_ok(), "nobody waits for it");
    }

    #[tokio::test]
    async fn a_reading_whose_caller_goes_away_is_no_outcome() {
        let readings = Readings::<()>::default();
        let abandoned = tokio::time::timeout(Duration::ZERO, readings.look_up(std::future::pending())).await;
        assert!(abandoned.is_err());
        assert_eq!(readings.look_up(async { Ok(()) }).await, Ok(()));
    }

    /// The newer reading is stored last, however long the older one takes.
    #[tokio::test]
    async fn readings_do_not_overtake_each_other() {
        struct Failure;
        impl From<&()> for Failure {
            fn from((): &()) -> Self {
                Self
            }
        }
        impl Clone for Failure {
            fn clone(&self) -> Self {
                Self
            }
        }
        let (readings, order) = (Readings::<Failure>::default(), std::sync::Mutex::new(Vec::new()));
        let slow = readings.read(async {
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            order.lock().unwrap().push("older");
            Ok::<(), ()>(())
        });
        let quick = readings.read(async {
            order.lock().unwrap().push("newer");
            Ok::<(), ()>(())
        });
        tokio::join!(slow, quick).1.unwrap();
        assert_eq!(*order.lock().unwrap(), ["older", "newer"]);
    }
}
