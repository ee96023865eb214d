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
            recipe: Recipe::Argon2(self.today),
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
async fn a_hash_of_another_kind_matches_and_is_outdated() {
    let pool = pool(1, 1);
    for stored in [
        // Django 5.2.
        "pbkdf2_sha256$1000$4y6bI8o54hkr5bQUGC5lSc$SoCcSmR3+BTUGe0tl176YkhPj1GDp0Jf349ad1f+uoE=",
        "pbkdf2_sha1$1000$i23JHvw0KAAFNL75LxtKyH$j+bctP5speENcbpktGiNXuR5iBU=",
        "argon2$argon2id$v=19$m=1024,t=2,p=8$eExubFJWZGU3WFgxbTNuakNvSlpzcA$UpwhVh71nii3lHa6A5xcyR+O0u4cjzdaNcp1n5SrUN0",
        "bcrypt_sha256$$2b$04$Mt4UoeBNGX2a4xuGVUJ6Y.xbuKCq9C09Keus.iKXpauaLMfET407u",
        "bcrypt$$2b$04$gztg5haP3CllA3nqPkaZL.yPyrqPBQoFDEEa6iR4Lm9ScwapiPRnW",
        "scrypt$1024$YJdHltNZpfHWuoX7neLpyM$8$5$gi9YbHaW1mhzhMcVpK027/ad7NlMX/Yefa9S3fTy/Ut4sbmsmsH0WNICGiXc/SjQCqhHhE9Fm07S1ORbiLsM4g==",
        // Python's bcrypt, and crypt(3) of libxcrypt.
        "$2a$04$TTctKpy8LqHeuyR3wu7j3.gZOXwev4y74khDa.MbES1YODTNnwfi2",
        "$2b$04$5Ded.wUq7ub9soWdo1dKBOqnkdqdvcw4ZhcgfyRCreQDVjbUodxD6",
        "$2y$05$abcdefghijklmnopqrstuuFiPhXf1sVd3pCCRO.uVh34H/qI/ZsuS",
        // passlib 1.7.
        "$pbkdf2$1000$UwphTImx9p5zDmEMYQxhTA$5o7ktVb7AWoyrnFctlntCllLAQM",
        "$pbkdf2-sha256$1000$x7i3dk5JaY2xNub8f28NwQ$V/nIWOWmCSwX8U7C3Cn/9aa9z3flpzpXbZms9ivHzs0",
        "$pbkdf2-sha512$1000$ppRyjhECgJDSeo8xhnCOUQ$AtZ2Knq7vIykHD8PYRHyP74pQfAqYJkDLRVEWJxdvyt7yaRR6Bl9hx4THWTy/pJ0kIk2Up2Tk0gku3wrmHfa7A",
        "$scrypt$ln=10,r=8,p=1$kDLmHIMwplQKIYSQMsa4Nw$CYz0RVBETvPxK1xWZvMJ7E5GwjK67AH/zE000w00QwE",
        // RustCrypto.
        "$pbkdf2-sha256$i=1000,l=32$AAECAwQFBgcICQoLDA0ODw$ppsXnjrdPB4KryJ6DrOqKqhkWrhv7PbKAMF1Eml8cZ4",
        "$pbkdf2-sha256$i=1000,l=48$AAECAwQFBgcICQoLDA0ODw$ppsXnjrdPB4KryJ6DrOqKqhkWrhv7PbKAMF1Eml8cZ7TX23G+6QgERwdCrtdq7/I",
        "$pbkdf2-sha512$i=1000,l=64$AAECAwQFBgcICQoLDA0ODw$A6AmFIti7CKlYdoPiV9jf1d9llp37o27Wms8Zx8fwMJGCOigJzAthOW3Pg+XF5PnNiYnsQsIz1N5NtynrEm78w",
        "$scrypt$ln=10,r=8,p=2$AAECAwQFBgcICQoLDA0ODw$wk79EttC618m617oirShLZuxJkXcX6rXHrrS9rQQ/44",
    ] {
        let imported = import_hash(stored).unwrap();
        let right = pool.verify(password("correct horse battery staple"), Some(imported.clone()), later()).await;
        assert_eq!(right, Ok(Verdict::Match { outdated: true }), "{stored}");
        for wrong in ["correct horse battery stapler", "correct horse battery stapl", "correct horse battery staple\0"]
        {
            let wrong = pool.verify(password(wrong), Some(imported.clone()), later()).await;
            assert_eq!(wrong, Ok(Verdict::Mismatch), "{stored}");
        }
    }
}

#[tokio::test]
async fn bcrypt_sees_72_bytes_and_no_zero_byte() {
    let pool = pool(1, 1);
    let verify = async |text: &str, stored: &str| pool.verify(password(text), Some(phc(stored)), later()).await;
    // crypt(3) of libxcrypt and Python's bcrypt agree on this one.
    let of_100 = "$2b$04$abcdefghijklmnopqrstuubzadhGtS2zEF.gu0yd0opP6cVzb.e0i";
    assert_eq!(verify(&"x".repeat(100), of_100).await, Ok(Verdict::Match { outdated: true }));
    assert_eq!(verify(&"x".repeat(72), of_100).await, Ok(Verdict::Match { outdated: true }));
    assert_eq!(verify(&"x".repeat(71), of_100).await, Ok(Verdict::Mismatch));
    // On these they do not. The first is of "correct\0horse" and of "correct", the second of "correct\0horse battery".
    let in_c = "$2b$04$abcdefghijklmnopqrstuu2Vo3TWutZSHUfluiaHt5gekKPzGepHC";
    let in_python = "$2b$04$abcdefghijklmnopqrstuuSZShKtR2auqutcu4nDY7VoiP1SR/9C2";
    assert_eq!(verify("correct", in_c).await, Ok(Verdict::Match { outdated: true }));
    for (text, stored) in [
        ("correct\0horse", in_c),
        ("correct\0correct", in_c),
        ("correct\0", in_c),
        ("correct\0horse battery", in_python),
    ] {
        assert_eq!(verify(text, stored).await, Ok(Verdict::Mismatch), "{text:?}");
    }
}

#[tokio::test]
async fn a_password_is_tried_as_typed_too_whoever_it_is_said_to_be_of() {
    let pool = pool(1, 1);
    let (composed, decomposed) = ("caf\u{e9}", "cafe\u{301}");
    let ours = pool.hash(password(decomposed), SALT, later()).await.unwrap();
    let others = pool.hash(password(decomposed).as_typed().unwrap(), SALT, later()).await.unwrap();
    assert_ne!(ours, others);
    let hashed_by = async |text: &str, stored: Option<&PhcString>| {
        let before = pool.queue_stats().hashed;
        let verdict = pool.verify(password(text), stored.cloned(), later()).await.unwrap();
        (verdict, pool.queue_stats().hashed - before)
    };
    let matches = |outdated| Verdict::Match { outdated };
    assert_eq!(hashed_by(composed, Some(&ours)).await, (matches(false), 1));
    assert_eq!(hashed_by(decomposed, Some(&ours)).await, (matches(false), 2), "both, before one is looked at");
    assert_eq!(hashed_by(decomposed, Some(&others)).await, (matches(true), 2), "to be made ours");
    assert_eq!(hashed_by(composed, Some(&others)).await, (Verdict::Mismatch, 1), "as it would have been there");
    assert_eq!(hashed_by("cafe\u{301}s", Some(&ours)).await, (Verdict::Mismatch, 2));
    assert_eq!(hashed_by("cafe\u{301}s", None).await, (Verdict::Mismatch, 2), "nobody costs what somebody does");
}

#[tokio::test]
async fn one_wrong_bit_of_the_hash_is_a_mismatch() {
    let pool = pool(1, 1);
    let hash = pool.hash(password("password"), SALT, later()).await.unwrap();
    let stored = StoredHash::parse(&hash).unwrap();
    for bit in 0..stored.output.len() * 8 {
        let mut wrong = stored.clone();
        wrong.output[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(
            pool.verify(password("password"), Some(pool.today.to_phc(&wrong.salt, &wrong.output)), later()).await,
            Ok(Verdict::Mismatch)
        );
    }
}

#[tokio::test]
async fn a_bad_stored_hash_is_an_error_and_no_work() {
    let pool = pool(1, 1);
    for (stored, expected) in [
        ("", BadHash::Unknown),
        ("$2b$12$abcdefghijklmnopqrstuu", BadHash::Malformed("its salt or hash has a strange length")),
        (
            "$argon2id$v=19$m=4294967295,t=4294967295,p=1$AAECAwQFBgcICQoLDA0ODw$4cyI7gympc2Syh5lstRTFg",
            BadHash::TooCostly("argon2 has at most m=262144 (256 MiB), t=16 and p=8"),
        ),
    ] {
        assert_eq!(
            pool.verify(password("password"), Some(phc(stored)), later()).await,
            Err(HashError::Stored(expected)),
            "{stored}"
        );
    }
    assert_eq!(pool.queue_stats(), QueueStats::default());
}

#[tokio::test]
async fn nobody_costs_one_hash_with_todays_parameters() {
    let pool = pool(1, 1);
    assert_eq!(StoredHash::parse(&pool.nobody).unwrap().recipe, Recipe::Argon2(argon2::Recipe::today(CHEAP)));
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
        assert!(pool.keep_place(&password("password"), later()).is_ok(), "and given back at once");
        assert!(poll!(call).is_pending());
    }
    let shed = pool.verify(password("password"), None, later()).await;
    assert!(matches!(shed, Err(HashError::Overloaded { retry_after }) if retry_after >= Duration::from_secs(1)));
    assert_eq!((pool.queue_stats().queued, pool.queue_stats().shed), (2, 1));
    assert_eq!(
        pool.keep_place(&password("password"), later()).err(),
        shed.err(),
        "whoever asks first is told the same"
    );
    assert_eq!((pool.queue_stats().queued, pool.queue_stats().shed), (2, 2));

    drop(release);
    assert!(held.await.is_ok());
    assert!(join_all(waiting).await.iter().all(|verdict| *verdict == Ok(Verdict::Mismatch)));
}

#[tokio::test]
async fn whoever_keeps_a_place_is_not_sent_away_and_nobody_else_gets_it() {
    let pool = pool(1, 2);
    let (release, held) = pool.hold();
    let [mut first, second] = [(); 2].map(|()| pool.keep_place(&password("password"), later()).ok());
    assert!(pool.keep_place(&password("password"), later()).is_err(), "there is room for two");
    let shed = pool.verify(password("password"), None, later()).await;
    assert!(matches!(shed, Err(HashError::Overloaded { .. })), "{shed:?}");

    let mut verified = Box::pin(pool.verify_at(&mut first, password("password"), None, later()));
    assert!(poll!(&mut verified).is_pending(), "its place was kept");
    assert!(pool.keep_place(&password("password"), later()).is_err(), "taken is not free");
    drop(second);
    let mut another = Box::pin(pool.verify(password("password"), None, later()));
    assert!(poll!(&mut another).is_pending(), "what was given back is free");

    drop(release);
    assert!(held.await.is_ok());
    assert_eq!((verified.await, another.await), (Ok(Verdict::Mismatch), Ok(Verdict::Mismatch)));
    assert_eq!(pool.queue_stats().queued, 0);
    let mut stopped = pool.keep_place(&password("password"), later()).ok();
    pool.shutdown();
    assert_eq!(pool.verify_at(&mut stopped, password("password"), None, later()).await, Err(HashError::Stopped));
}

#[tokio::test]
async fn a_deadline_between_two_forms_tells_nothing_of_the_first() {
    let pool = pool(1, 4);
    // The Kelvin sign is K to us, and is tried as it was typed too.
    let (ours, typed) = (password("Kelvin's horse battery"), password("\u{212a}elvin's horse battery"));
    let stored = pool.hash(ours, SALT, later()).await.unwrap();
    assert_eq!(pool.verify(typed.clone(), Some(stored.clone()), later()).await, Ok(Verdict::Match { outdated: false }));
    let place = pool.keep_place(&typed, later()).unwrap();
    assert_eq!(place.kept.len(), 2, "a place for each form");
    drop(place);

    // The first form is hashed, and what comes behind it takes until after the deadline.
    let (release, held) = pool.hold();
    let soon = monotonic_now() + Duration::from_millis(200);
    let mut caught = Box::pin(pool.verify(typed, Some(stored), soon));
    assert!(poll!(&mut caught).is_pending());
    let (tell, told) = mpsc::channel::<()>();
    let mut behind = Box::pin(pool.probe(move || {
        let _ = told.recv();
    }));
    assert!(poll!(&mut behind).is_pending());
    drop(release);
    assert!(held.await.is_ok());
    let verdict = caught.await;
    assert!(matches!(verdict, Err(HashError::Overloaded { .. })), "{verdict:?}");
    drop(tell);
    assert!(behind.await.is_ok());
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
