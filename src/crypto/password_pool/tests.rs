use std::sync::{
    Barrier,
    atomic::{AtomicUsize, Ordering},
    mpsc,
};

use futures_util::{future::join_all, poll};

use super::*;
use crate::crypto::monotonic_now;

const CHEAP: Argon2Params = Argon2Params { memory_kib: 64, iterations: 2, parallelism: 1 };
const SALT: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

fn pool(threads: usize, queue: usize) -> PasswordPool {
    PasswordPool::start(PoolConfig { threads, queue, niceness: 5, params: CHEAP }).unwrap()
}

fn password(text: &str) -> Password {
    Password::presented(text).unwrap()
}

fn phc(text: &str) -> PhcString {
    PhcString::new(text.to_owned())
}

/// Far enough away never to matter, near enough for a test that would hang to fail instead.
fn later() -> Instant {
    monotonic_now() + Duration::from_mins(1)
}

impl PasswordPool {
    /// Runs `probe` on a hashing thread, as part of a hash.
    fn probe(&self, probe: impl FnOnce() + Send + 'static) -> impl Future<Output = Result<Output, HashError>> {
        let (answer, answered) = oneshot::channel();
        self.queue.put(Job {
            password: password("probe"),
            salt: SALT.to_vec(),
            recipe: self.today,
            deadline: later(),
            answer,
            trail: Trail::begin(),
            probe: Some(Box::new(probe)),
        });
        self.wait(answered, later())
    }

    /// Holds one thread up until the sender is dropped; returns when the thread is held.
    fn hold(&self) -> (mpsc::Sender<()>, impl Future<Output = Result<Output, HashError>>) {
        let (release, released) = mpsc::channel::<()>();
        let (tell, told) = mpsc::channel();
        let job = self.probe(move || {
            tell.send(()).unwrap();
            let _ = released.recv();
        });
        told.recv().unwrap();
        (release, job)
    }
}

#[tokio::test]
async fn hashes_are_what_the_reference_implementation_makes() {
    // Made with argon2-cffi, which wraps the reference implementation in C.
    for (params, expected) in [
        (
            Argon2Params::default(),
            "$argon2id$v=19$m=19456,t=2,p=1$AAECAwQFBgcICQoLDA0ODw$gYJZtjEAJqjg26xdLmknq8/bB7MiWPrE9hsYuA+SkIU",
        ),
        (CHEAP, "$argon2id$v=19$m=64,t=2,p=1$AAECAwQFBgcICQoLDA0ODw$LfR+3mNY7Repl21PztuJehADbUMqSs7xfSY7/Ji9IKw"),
        (
            Argon2Params { memory_kib: 128, iterations: 3, parallelism: 4 },
            "$argon2id$v=19$m=128,t=3,p=4$AAECAwQFBgcICQoLDA0ODw$H+irYzERw/FIaXzBL6FxdBg7CHWOD+cchPhYkrJIhvE",
        ),
    ] {
        let pool = PasswordPool::start(PoolConfig { threads: 1, queue: 1, niceness: 5, params }).unwrap();
        let hash = pool.hash(password("correct horse battery staple"), SALT, later()).await.unwrap();
        assert_eq!(hash.expose(), expected);
        let verdict = pool.verify(password("correct horse battery staple"), Some(hash), later()).await;
        assert_eq!(verdict, Ok(Verdict::Match { outdated: false }));
    }
}

#[tokio::test]
async fn a_hash_made_otherwise_matches_and_is_outdated() {
    let pool = pool(1, 1);
    for stored in [
        "$argon2id$v=19$m=128,t=3,p=4$AAECAwQFBgcICQoLDA0ODw$H+irYzERw/FIaXzBL6FxdBg7CHWOD+cchPhYkrJIhvE",
        "$argon2id$v=19$m=64,t=1,p=1$OCBieXRlcyE$4w9M0hsKnzt4xXAle+foWPPlCKKOd4nutCzvZHzmLGOQStnZmofTPYXHkls4zL+AYuULIv4YYnkACmVOm6dh2w",
        "$argon2i$v=19$m=64,t=2,p=1$AAECAwQFBgcICQoLDA0ODw$LhHRz4t6ELVYGt19AvAYa7aN/3sMrww/m0fJJIW52fY",
        "$argon2d$v=19$m=64,t=2,p=1$AAECAwQFBgcICQoLDA0ODw$dghoiRPSRKBbaaCRimSJwR//QWj12/Ib4j98W2I/aGM",
        "$argon2id$v=16$m=64,t=2,p=1$AAECAwQFBgcICQoLDA0ODw$4cyI7gympc2Syh5lstRTFg",
        "$argon2id$m=64,t=2,p=1$AAECAwQFBgcICQoLDA0ODw$4cyI7gympc2Syh5lstRTFg",
    ] {
        let right = pool.verify(password("correct horse battery staple"), Some(phc(stored)), later()).await;
        assert_eq!(right, Ok(Verdict::Match { outdated: true }), "{stored}");
        let wrong = pool.verify(password("correct horse battery stapler"), Some(phc(stored)), later()).await;
        assert_eq!(wrong, Ok(Verdict::Mismatch), "{stored}");
    }
}

#[tokio::test]
async fn one_wrong_bit_of_the_hash_is_a_mismatch() {
    let pool = pool(1, 1);
    let hash = pool.hash(password("password"), SALT, later()).await.unwrap();
    let stored = StoredHash::parse(&hash).unwrap();
    for bit in 0..stored.output.len() * 8 {
        let mut wrong = stored.clone();
        wrong.output[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(pool.verify(password("password"), Some(wrong.to_phc()), later()).await, Ok(Verdict::Mismatch));
    }
}

#[tokio::test]
async fn a_bad_stored_hash_is_an_error_and_no_work() {
    let pool = pool(1, 1);
    for (stored, expected) in [
        ("", HashError::Malformed("it does not begin with $")),
        ("$2b$12$abcdefghijklmnopqrstuu", HashError::Malformed("it is not argon2")),
        (
            "$argon2id$v=19$m=4294967295,t=4294967295,p=1$AAECAwQFBgcICQoLDA0ODw$4cyI7gympc2Syh5lstRTFg",
            HashError::TooCostly,
        ),
    ] {
        assert_eq!(pool.verify(password("password"), Some(phc(stored)), later()).await, Err(expected), "{stored}");
    }
    assert_eq!(pool.queue_stats(), QueueStats::default());
}

#[tokio::test]
async fn nobody_costs_one_hash_with_todays_parameters() {
    let pool = pool(1, 1);
    assert_eq!(StoredHash::parse(&pool.nobody).unwrap().recipe, Recipe::today(CHEAP));
    assert_eq!(pool.verify(password("password"), None, later()).await, Ok(Verdict::Mismatch));
    assert_eq!(pool.queue_stats().hashed, 1);
    let hash = pool.hash(password("password"), SALT, later()).await.unwrap();
    assert_eq!(pool.verify(password("wrong"), Some(hash), later()).await, Ok(Verdict::Mismatch));
    assert_eq!(pool.queue_stats().hashed, 3);
}

#[tokio::test]
async fn even_the_password_of_nobody_does_not_match() {
    let mut pool = pool(1, 1);
    pool.nobody = pool.hash(password("password"), SALT, later()).await.unwrap();
    assert_eq!(pool.verify(password("password"), None, later()).await, Ok(Verdict::Mismatch));
}

#[tokio::test]
async fn as_many_hashes_run_at_once_as_there_are_threads_and_no_more() {
    let pool = pool(3, 100);
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    // Nobody leaves before three have met.
    let meeting = Arc::new(Barrier::new(3));
    let jobs = (0..30).map(|_| {
        let (running, most, meeting) = (Arc::clone(&running), Arc::clone(&most), Arc::clone(&meeting));
        pool.probe(move || {
            most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            meeting.wait();
            running.fetch_sub(1, Ordering::SeqCst);
        })
    });
    assert!(join_all(jobs).await.iter().all(Result::is_ok));
    assert_eq!(most.load(Ordering::SeqCst), 3);
    let stats = pool.queue_stats();
    assert_eq!((stats.queued, stats.running, stats.hashed), (0, 0, 30));
    assert!(stats.mean > Duration::ZERO);
}

#[tokio::test]
async fn a_full_queue_sheds_at_once() {
    let pool = pool(1, 2);
    let (release, held) = pool.hold();
    let mut waiting: Vec<_> = (0..2).map(|_| Box::pin(pool.verify(password("password"), None, later()))).collect();
    for call in &mut waiting {
        assert_eq!(pool.check_room(later()), Ok(()));
        assert!(poll!(call).is_pending());
    }
    let shed = pool.verify(password("password"), None, later()).await;
    assert!(matches!(shed, Err(HashError::Overloaded { retry_after }) if retry_after >= Duration::from_secs(1)));
    assert_eq!((pool.queue_stats().queued, pool.queue_stats().shed), (2, 1));
    assert_eq!(pool.check_room(later()), shed.map(|_| ()), "whoever asks first is told the same");
    assert_eq!((pool.queue_stats().queued, pool.queue_stats().shed), (2, 2));

    drop(release);
    assert!(held.await.is_ok());
    assert!(join_all(waiting).await.iter().all(|verdict| *verdict == Ok(Verdict::Mismatch)));
}

#[tokio::test]
async fn a_cancelled_call_is_not_hashed_and_makes_room() {
    let pool = pool(1, 1);
    let (release, held) = pool.hold();
    let mut cancelled = Box::pin(pool.verify(password("password"), None, later()));
    assert!(poll!(&mut cancelled).is_pending());
    drop(cancelled);
    let mut patient = Box::pin(pool.verify(password("password"), None, later()));
    assert!(poll!(&mut patient).is_pending(), "the queue has room for one: that of the cancelled call");

    drop(release);
    assert!(held.await.is_ok());
    assert_eq!(patient.await, Ok(Verdict::Mismatch));
    let stats = pool.queue_stats();
    assert_eq!((stats.hashed, stats.skipped, stats.shed), (2, 1, 0));
}

#[tokio::test]
async fn a_call_ends_at_its_deadline_and_is_not_hashed_afterwards() {
    let pool = pool(1, 2);
    let (release, held) = pool.hold();
    let soon = monotonic_now() + Duration::from_millis(100);
    let late = pool.verify(password("password"), None, soon).await;
    assert!(matches!(late, Err(HashError::Overloaded { .. })), "{late:?}");
    let overdue = monotonic_now().duration_since(soon);
    assert!(overdue < Duration::from_secs(3), "answered {overdue:?} after the deadline");
    assert_eq!(pool.queue_stats().queued, 1, "still in the queue");

    drop(release);
    assert!(held.await.is_ok());
    assert_eq!(pool.verify(password("password"), None, later()).await, Ok(Verdict::Mismatch));
    let stats = pool.queue_stats();
    assert_eq!((stats.hashed, stats.skipped), (2, 1));
}

#[tokio::test]
async fn a_panic_costs_one_caller_one_error() {
    let pool = pool(1, 4);
    for _ in 0..3 {
        assert_eq!(pool.probe(|| panic!("on purpose")).await, Err(HashError::Failed));
    }
    assert_eq!(pool.verify(password("password"), None, later()).await, Ok(Verdict::Mismatch));
    assert_eq!(pool.queue_stats().running, 0);
}

#[tokio::test]
async fn a_shutdown_answers_all_who_wait() {
    let pool = Arc::new(pool(1, 4));
    let (release, held) = pool.hold();
    let mut waiting = Box::pin(pool.verify(password("password"), None, later()));
    assert!(poll!(&mut waiting).is_pending());

    let ending = Arc::clone(&pool);
    let shutdown = tokio::task::spawn_blocking(move || ending.shutdown());
    assert_eq!(waiting.await, Err(HashError::Stopped), "before the hash that is under way has ended");
    drop(release);
    assert!(held.await.is_ok(), "what had begun is finished");
    shutdown.await.unwrap();

    assert!(pool.threads.lock().unwrap().is_empty());
    assert_eq!(pool.hash(password("password"), SALT, later()).await, Err(HashError::Stopped));
    pool.shutdown();
}

#[tokio::test]
async fn dropping_the_pool_ends_its_threads() {
    let pool = pool(3, 4);
    let queue = Arc::downgrade(&pool.queue);
    drop(pool);
    assert!(queue.upgrade().is_none(), "every thread had a share in it");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_threads_alone_are_nice() {
    let nice = || rustix::process::getpriority_process(None).unwrap();
    let before = nice();
    let pool = pool(1, 1);
    let (tell, told) = mpsc::channel();
    let job = pool.probe(move || tell.send((nice(), thread::current().name().map(str::to_owned))).unwrap());
    assert!(job.await.is_ok());
    assert_eq!(told.recv().unwrap(), (before.max(5), Some("vouchsafe-hash-0".to_owned())));
    assert_eq!(nice(), before, "the thread that started the pool keeps its priority");
}

#[test]
fn a_pool_that_could_not_work_does_not_start() {
    let start = |config| PasswordPool::start(config).err();
    let good = PoolConfig { threads: 1, queue: 1, niceness: 5, params: CHEAP };
    assert!(matches!(start(PoolConfig { threads: 0, ..good }), Some(PoolError::Empty)));
    assert!(matches!(start(PoolConfig { queue: 0, ..good }), Some(PoolError::Empty)));
    for (memory_kib, iterations, parallelism) in [
        (7, 1, 1),
        (15, 1, 2),
        (64, 0, 1),
        (64, 1, 0),
        (262_145, 1, 1),
        (64, 17, 1),
        (256, 1, 9),
        (u32::MAX, 1, u32::MAX),
    ] {
        let params = Argon2Params { memory_kib, iterations, parallelism };
        assert!(matches!(start(PoolConfig { params, ..good }), Some(PoolError::Params(_))), "{params:?}");
    }
    assert_eq!(start(good).map(|error| error.to_string()), None);
}
