//! A hashing thread: takes jobs from the queue and computes them, argon2 in memory of its own.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

use ::argon2::{Argon2, Block};
use tokio::sync::oneshot;
use tracing::Span;
use zeroize::Zeroizing;

use super::{
    HashError, HashObserver,
    backlog::Entry,
    queue::Queue,
    stored::{Output, Recipe, argon2},
};
use crate::{crypto::monotonic_now, domain::password::Password};

/// A hash to compute.
pub(super) struct Job {
    pub(super) password: Password,
    pub(super) salt: Vec<u8>,
    pub(super) recipe: Recipe,
    pub(super) deadline: Instant,
    pub(super) answer: oneshot::Sender<Result<Output, HashError>>,
    pub(super) trail: Trail,
    /// Runs on the thread before the hash, so that a test can hold it up or make it panic.
    #[cfg(test)]
    pub(super) probe: Option<Box<dyn FnOnce() + Send>>,
}

/// What is told about a hash: since when it waits, and for whose call.
pub(super) struct Trail {
    queued: Instant,
    caller: Span,
    /// Lasts as long as the job waits, also if it is never begun.
    waiting: Span,
}

impl Trail {
    /// The job goes into the queue now, for the call that is under way here.
    pub(super) fn begin() -> Self {
        Self { queued: monotonic_now(), caller: Span::current(), waiting: tracing::debug_span!("password_hash_wait") }
    }

    /// A thread takes the job up at `now`. The span of the call that it is for.
    fn take_up(self, now: Instant, observer: &dyn HashObserver) -> Span {
        let Self { queued, caller, waiting } = self;
        drop(waiting);
        observer.begun(now.saturating_duration_since(queued));
        caller
    }
}

impl Entry for Job {
    fn cost(&self) -> u64 {
        self.recipe.cost()
    }

    fn deadline(&self) -> Instant {
        self.deadline
    }

    fn is_abandoned(&self) -> bool {
        self.answer.is_closed()
    }

    fn send_away(self, retry_after: Duration) {
        // Nobody there to be told is no loss.
        let _ = self.answer.send(Err(HashError::Overloaded { retry_after }));
    }
}

/// The life of a hashing thread.
pub(super) fn run(queue: &Queue<Job>, observer: &dyn HashObserver, niceness: i32, usual_blocks: usize) {
    be_nice(niceness);
    let mut memory = Memory { blocks: Vec::new(), usual: usual_blocks };
    while let Some(job) = queue.take() {
        let (cost, started) = (job.cost(), monotonic_now());
        let (answer, result) = compute(job, started, observer, &mut memory);
        let took = monotonic_now().saturating_duration_since(started);
        // The books first: whoever has their answer finds the thread free.
        queue.done(cost, took);
        observer.hashed(took);
        // A caller who has gone meanwhile is no loss.
        let _ = answer.send(result);
    }
}

type Answer = oneshot::Sender<Result<Output, HashError>>;

/// Computes a job. The password is wiped before this returns, also if hashing panics.
fn compute(
    job: Job,
    started: Instant,
    observer: &dyn HashObserver,
    memory: &mut Memory,
) -> (Answer, Result<Output, HashError>) {
    let Job { password, salt, recipe, answer, trail, .. } = job;
    let _in_call = trail.take_up(started, observer).entered();
    let _in_hash = tracing::debug_span!("password_hash").entered();
    #[cfg(test)]
    let probe = job.probe;
    let hashed = catch_unwind(AssertUnwindSafe(|| {
        #[cfg(test)]
        if let Some(probe) = probe {
            probe();
        }
        memory.hash(&password, &salt, &recipe)
    }));
    let result = hashed.unwrap_or_else(|_| {
        // Whatever state the blocks are in, they are not used again.
        memory.release();
        tracing::error!("hashing a password panicked");
        Err(HashError::Failed)
    });
    (answer, result)
}

/// The memory that a thread hashes in. Kept between hashes: to get it from the system anew each time costs up to a fifth
/// of the whole hash. It is not wiped between hashes, which would cost nearly as much: whoever can read the memory of this
/// process finds the master key there, and passwords as they arrive.
struct Memory {
    blocks: Vec<Block>,
    /// Blocks that a hash with today's parameters needs.
    usual: usize,
}

impl Memory {
    fn hash(&mut self, password: &Password, salt: &[u8], recipe: &Recipe) -> Result<Output, HashError> {
        let text = password.expose();
        let mut output = match recipe {
            Recipe::Argon2(recipe) => return self.argon2(password, salt, recipe),
            Recipe::Bcrypt(recipe) => recipe.compute(text, salt)?,
            Recipe::Pbkdf2(recipe) => recipe.compute(text, salt),
            Recipe::Scrypt(recipe) => recipe.compute(text, salt)?,
        };
        // To all but argon2 a zero byte can be as good as the end: in bcrypt by some implementations and not by others, in
        // HMAC, on which the rest is built, where only zeros follow. The whole password counts, so such a one is that of no
        // hash. It takes as long to compute as any other.
        if text.contains(&0) {
            output.clear();
        }
        Ok(output)
    }

    fn argon2(&mut self, password: &Password, salt: &[u8], recipe: &argon2::Recipe) -> Result<Output, HashError> {
        let params = recipe.params()?;
        let needed = params.block_count();
        self.reserve(needed)?;
        let mut output = Zeroizing::new(vec![0; recipe.output_len]);
        let result = Argon2::new(recipe.algorithm, recipe.version, params)
            .hash_password_into_with_memory(password.expose(), salt, &mut output, &mut self.blocks[..needed])
            .map_err(|error| {
                tracing::error!(%error, "argon2 refused to hash");
                HashError::Failed
            });
        if self.blocks.len() > self.usual {
            self.release();
        }
        result.map(|()| output)
    }

    /// Makes sure of `blocks` blocks. Memory that the system does not have is an error, not the end of the process.
    fn reserve(&mut self, blocks: usize) -> Result<(), HashError> {
        if self.blocks.len() < blocks {
            // Anew rather than grown: the old content is of no use, and both together would be more than is needed.
            self.release();
            let blocks = blocks.max(self.usual);
            self.blocks.try_reserve_exact(blocks).map_err(|error| {
                tracing::error!(%error, blocks, "no memory to hash a password");
                HashError::Failed
            })?;
            self.blocks.resize(blocks, Block::new());
        }
        Ok(())
    }

    fn release(&mut self) {
        self.blocks = Vec::new();
    }
}

/// Lets the threads that serve `Verify` and `Refresh` go first. Never raises the priority above what the process has.
#[cfg(target_os = "linux")]
fn be_nice(niceness: i32) {
    use rustix::process::{getpriority_process, setpriority_process};
    // On Linux "the calling process" is the calling thread.
    let result = getpriority_process(None).and_then(|now| setpriority_process(None, now.max(niceness)));
    if let Err(error) = result {
        tracing::warn!(%error, niceness, "hashing threads keep the priority of the process");
    }
}

/// Elsewhere the call would slow the whole process.
#[cfg(not(target_os = "linux"))]
fn be_nice(_niceness: i32) {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::password_pool::Argon2Params;

    fn hash(memory: &mut Memory, memory_kib: u32) -> Output {
        let recipe = Recipe::Argon2(argon2::Recipe::today(Argon2Params { memory_kib, iterations: 1, parallelism: 1 }));
        memory.hash(&Password::presented("password").unwrap(), b"somesalt", &recipe).unwrap()
    }

    #[test]
    fn memory_is_kept_between_hashes_and_given_back_after_an_outsized_one() {
        let mut memory = Memory { blocks: Vec::new(), usual: 64 };
        let first = hash(&mut memory, 64);
        let place = memory.blocks.as_ptr();
        hash(&mut memory, 32);
        assert_eq!(hash(&mut memory, 64), first, "what an earlier hash left behind makes no difference");
        assert_eq!((memory.blocks.as_ptr(), memory.blocks.len()), (place, 64));
        hash(&mut memory, 1_024);
        assert_eq!(memory.blocks.capacity(), 0);
        assert_eq!(hash(&mut memory, 64), first);
        assert_eq!(memory.blocks.capacity(), 64);
    }

    #[test]
    fn memory_that_is_not_to_be_had_is_an_error() {
        let mut memory = Memory { blocks: Vec::new(), usual: 0 };
        assert_eq!(memory.reserve(usize::MAX / 2048), Err(HashError::Failed));
        assert_eq!(memory.reserve(8), Ok(()));
    }
}
