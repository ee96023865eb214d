//! Password hashing on a few threads of its own: argon2id (RFC 9106), and checks of hashes that others made.
//!
//! Hashing is the one thing here that costs much, and anybody can ask for it by trying to sign in. So it is bounded in
//! every direction:
//! - **Work at a time**: a fixed number of threads, each with memory of its own that it uses again and again. They yield
//!   to the threads that serve everything else.
//! - **Work ahead**: a bounded queue. Whoever would not be answered by their deadline is sent away at once
//!   ([`HashError::Overloaded`]) instead of waiting for nothing; a job whose caller has gone is never begun.
//! - **Work per hash**: a stored hash that asks for too much is refused uncomputed ([`BadHash::TooCostly`]).
//!
//! An unknown user costs the very same work as a known one, on the same path, so that time tells nobody which accounts
//! exist. (A stored hash made with other parameters, or by another function, takes another time, until its owner signs in
//! and it is renewed: see [`Verdict::Match`].)

mod backlog;
mod queue;
mod stored;
mod worker;

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use subtle::ConstantTimeEq;
use tokio::{sync::oneshot, time::timeout_at};

pub use self::{
    backlog::QueueStats,
    stored::{ACCEPTED_HASHES, BadHash, import_hash, password_scheme},
};
use self::{
    backlog::{Backlog, KeptPlace},
    queue::Queue,
    stored::{
        MAX_MEMORY_KIB, Output, Recipe, StoredHash,
        argon2::{self, MAX_ITERATIONS, MAX_PARALLELISM},
    },
    worker::{Job, Trail},
};
use crate::domain::{password::Password, user::PhcString};

/// What a hash costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Argon2Params {
    /// Memory in KiB, from 8 per lane to 256 MiB.
    pub memory_kib: u32,
    /// Passes over the memory, 1 to 16.
    pub iterations: u32,
    /// Lanes, 1 to 8. They are computed one after the other.
    pub parallelism: u32,
}

impl Default for Argon2Params {
    /// 19 MiB, 2 passes, 1 lane: the least that OWASP's Password Storage Cheat Sheet recommends.
    fn default() -> Self {
        Self { memory_kib: 19 * 1024, iterations: 2, parallelism: 1 }
    }
}

impl Argon2Params {
    /// Checks the bounds, so that a configuration can be refused before anything starts.
    pub fn check(&self) -> Result<(), PoolError> {
        let Self { memory_kib, iterations, parallelism } = *self;
        let fits = !self.exceed_bounds() && iterations > 0 && parallelism > 0 && memory_kib >= 8 * parallelism;
        if fits { Ok(()) } else { Err(PoolError::Params(*self)) }
    }

    const fn exceed_bounds(&self) -> bool {
        self.memory_kib > MAX_MEMORY_KIB || self.iterations > MAX_ITERATIONS || self.parallelism > MAX_PARALLELISM
    }
}

/// How the pool is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolConfig {
    /// Hashing threads, at least 1; one less than the machine has cores is a good number.
    pub threads: usize,
    /// Hashes that may wait beyond those that the threads can take up at once, at least 1.
    pub queue: usize,
    /// The Unix niceness of the threads, 0 to 19, higher yielding more: 5 lets everything else go first, 19 starves logins.
    /// Only on Linux, where a thread can have one of its own.
    pub niceness: i32,
    /// What new hashes cost.
    pub params: Argon2Params,
}

/// Why the pool did not start.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// No threads, or no queue.
    #[error("password hashing needs at least one thread and room for one in the queue")]
    Empty,
    /// Parameters that argon2 does not allow or that the pool would refuse in a stored hash.
    #[error(
        "argon2 parameters out of bounds: {0:?}; memory is 8 KiB per lane to {MAX_MEMORY_KIB} KiB, \
         iterations 1 to {MAX_ITERATIONS}, parallelism 1 to {MAX_PARALLELISM}"
    )]
    Params(Argon2Params),
    /// The system gave no thread.
    #[error("cannot start a hashing thread")]
    Thread(#[from] io::Error),
}

/// Why there is no hash or no verdict. Never says anything about the password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// Too many hashes are asked for: this one was not begun, or not done by its deadline.
    #[error("too many passwords to hash; try again in {retry_after:?}")]
    Overloaded {
        /// When the present backlog will be done, between 1 s and 30 s.
        retry_after: Duration,
    },
    /// The stored string is no hash that can be checked.
    #[error("the stored password hash {0}")]
    Stored(#[from] BadHash),
    /// Hashing failed for want of memory or by a defect, which the log tells.
    #[error("hashing failed")]
    Failed,
    /// The pool was shut down.
    #[error("password hashing has been shut down")]
    Stopped,
}

/// What a presented password is to a stored hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is the one.
    Match {
        /// The hash was not made as today's are (function, parameters, version, length, spelling of the password): hash the
        /// password anew and store that.
        outdated: bool,
    },
    /// It is not, or there is no stored hash.
    Mismatch,
}

/// Hears how the threads do, on the threads themselves.
pub trait HashObserver: Send + Sync {
    /// A hash was begun after it had waited for this long.
    fn begun(&self, waited: Duration);
    /// A hash was computed in this time.
    fn hashed(&self, took: Duration);
}

/// Hears nothing.
struct Unobserved;

impl HashObserver for Unobserved {
    fn begun(&self, _waited: Duration) {}
    fn hashed(&self, _took: Duration) {}
}

/// Places in the queue for a password, see [`PasswordPool::keep_place`].
pub struct Place {
    queue: Arc<Queue<Job>>,
    /// One for each of its forms that is not yet taken.
    kept: Vec<KeptPlace>,
}

impl Drop for Place {
    fn drop(&mut self) {
        for place in self.kept.drain(..) {
            self.queue.give_back(place);
        }
    }
}

/// The hashing threads and the queue in front of them. Dropping it ends them, see [`PasswordPool::shutdown`].
pub struct PasswordPool {
    queue: Arc<Queue<Job>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    today: argon2::Recipe,
    /// What is checked for a user that does not exist.
    nobody: PhcString,
}

impl PasswordPool {
    /// Starts the threads. They take their memory when they first hash.
    pub fn start(config: PoolConfig) -> Result<Self, PoolError> {
        Self::start_observed(config, &(Arc::new(Unobserved) as Arc<_>))
    }

    /// The same, and tells `observer` of every hash.
    pub fn start_observed(config: PoolConfig, observer: &Arc<dyn HashObserver>) -> Result<Self, PoolError> {
        let PoolConfig { threads, queue, niceness, params } = config;
        params.check()?;
        if threads == 0 || queue == 0 {
            return Err(PoolError::Empty);
        }
        let today = argon2::Recipe::today(params);
        let usual_blocks = today.params().map_err(|_| PoolError::Params(params))?.block_count();
        let nobody = today.to_phc(&[0; 16], &vec![0; today.output_len]);
        let pool = Self {
            queue: Arc::new(Queue::new(Backlog::new(threads, queue))),
            threads: Mutex::default(),
            today,
            nobody,
        };
        for number in 0..threads {
            let (queue, observer) = (Arc::clone(&pool.queue), Arc::clone(observer));
            // On failure the pool is dropped, which ends the threads that did start.
            let thread = thread::Builder::new()
                .name(format!("vouchsafe-hash-{number}"))
                .spawn(move || worker::run(&queue, &*observer, niceness, usual_blocks))?;
            pool.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        }
        Ok(pool)
    }

    /// Hashes a new password with today's parameters. `salt` must be fresh random bytes.
    pub async fn hash(&self, password: Password, salt: [u8; 16], deadline: Instant) -> Result<PhcString, HashError> {
        self.hash_at(&mut None, password, salt, deadline).await
    }

    /// The same at a place that was kept, if one was.
    pub async fn hash_at(
        &self,
        place: &mut Option<Place>,
        password: Password,
        salt: [u8; 16],
        deadline: Instant,
    ) -> Result<PhcString, HashError> {
        let output = self.compute(place, password, salt.to_vec(), Recipe::Argon2(self.today), deadline).await?;
        Ok(self.today.to_phc(&salt, &output))
    }

    /// Checks a password against a stored hash, in constant time. `None` (no such user, or one without a password) costs the
    /// same and is a [`Verdict::Mismatch`].
    ///
    /// A password that NFC changes is also tried as it was typed: others hash what they are sent. That goes for
    /// every hash and for nobody's, for nothing tells an imported argon2 hash from one of ours.
    pub async fn verify(
        &self,
        password: Password,
        stored: Option<PhcString>,
        deadline: Instant,
    ) -> Result<Verdict, HashError> {
        self.verify_at(&mut None, password, stored, deadline).await
    }

    /// The same at a place that was kept, if one was.
    pub async fn verify_at(
        &self,
        place: &mut Option<Place>,
        password: Password,
        stored: Option<PhcString>,
        deadline: Instant,
    ) -> Result<Verdict, HashError> {
        let StoredHash { recipe, salt, output: expected } = StoredHash::parse(stored.as_ref().unwrap_or(&self.nobody))?;
        let as_typed = password.as_typed().map(|typed| (typed, true));
        let forms = [(password, recipe != Recipe::Argon2(self.today))].into_iter().chain(as_typed);
        let mut outputs = Vec::new();
        for (form, outdated) in forms {
            outputs.push((self.compute(place, form, salt.clone(), recipe, deadline).await?, outdated));
        }
        // All are computed before one is looked at. Whoever could have the second end in an error, by a deadline between the two, would
        // learn from the first whether it was right, by a guess that nobody counts.
        for (output, outdated) in outputs {
            // No password hashes to what is checked for nobody, but that shall not be what keeps an attacker out.
            if bool::from(output.ct_eq(expected.as_slice())) && stored.is_some() {
                return Ok(Verdict::Match { outdated });
            }
        }
        Ok(Verdict::Mismatch)
    }

    /// Keeps a place in the queue for whoever has other things to do before this password is hashed or checked: a storm then costs those
    /// things only for as many as can be hashed. Dropping it gives it back, and so does the deadline.
    ///
    /// # Errors
    /// [`HashError::Overloaded`] if a hash with today's parameters that is asked for now would not be begun or not be done by
    /// its deadline.
    pub fn keep_place(&self, password: &Password, deadline: Instant) -> Result<Place, HashError> {
        let mut place = Place { queue: Arc::clone(&self.queue), kept: Vec::new() };
        let forms = if password.as_typed().is_some() { 2 } else { 1 };
        for _ in 0..forms {
            let kept = self.queue.keep(self.today.cost(), deadline);
            place.kept.push(kept.map_err(|retry_after| HashError::Overloaded { retry_after })?);
        }
        Ok(place)
    }

    /// What the pool is doing, for metrics.
    pub fn queue_stats(&self) -> QueueStats {
        self.queue.stats(self.today.cost())
    }

    /// Ends the pool: whoever waits gets [`HashError::Stopped`], hashes being computed are finished, which this waits for
    /// (20 ms or so), and the threads are gone when it returns. Calling it again does nothing.
    pub fn shutdown(&self) {
        self.queue.close();
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            // A thread that panicked has said so; it is gone all the same.
            let _ = thread.join();
        }
    }

    async fn compute(
        &self,
        place: &mut Option<Place>,
        password: Password,
        salt: Vec<u8>,
        recipe: Recipe,
        deadline: Instant,
    ) -> Result<Output, HashError> {
        let (answer, answered) = oneshot::channel();
        let job = Job {
            password,
            salt,
            recipe,
            deadline,
            answer,
            trail: Trail::begin(),
            #[cfg(test)]
            probe: None,
        };
        match place.as_mut().and_then(|place| place.kept.pop()) {
            Some(kept) => self.queue.put_kept(job, kept),
            None => self.queue.put(job),
        }
        self.wait(answered, deadline).await
    }

    async fn wait(
        &self,
        answered: oneshot::Receiver<Result<Output, HashError>>,
        deadline: Instant,
    ) -> Result<Output, HashError> {
        match timeout_at(deadline.into(), answered).await {
            Ok(Ok(result)) => result,
            // The job was dropped without a word: by a shutdown, or a thread is gone, which should not happen.
            Ok(Err(_)) => Err(if self.queue.is_closed() { HashError::Stopped } else { HashError::Failed }),
            Err(_) => Err(HashError::Overloaded { retry_after: self.queue.retry_after() }),
        }
    }
}

impl Drop for PasswordPool {
    fn drop(&mut self) {
        self.shutdown();
    }
}

#[cfg(test)]
mod tests;
