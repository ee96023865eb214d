//! `Login` beside argon2id alone, on as many threads as the server hashes on.

use std::{
    thread,
    time::{Duration, Instant},
};

use argon2::{Algorithm, Argon2, Block, Params, Version};

use crate::{
    load::{Side, per_second},
    process::Process,
    report::{Bound, Report},
    stats::{Paired, median},
};

/// As the server's default.
const NICENESS: i32 = 5;
/// Long against a hash, so that the ends of a batch count for little.
const BATCH: Duration = Duration::from_secs(1);
/// Logins under way at once: more than threads, so that these never wait for a caller.
const CALLERS: usize = 4;

/// As the server decides by default.
fn threads() -> usize {
    thread::available_parallelism().map_or(1, usize::from).saturating_sub(1).max(1)
}

/// Hashes for a while on every thread. Hashes per second.
fn raw(length: Duration) -> f64 {
    let begun = Instant::now();
    let threads: Vec<_> = (0..threads()).map(|_| thread::spawn(move || hash_until(begun, length))).collect();
    let hashes = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    per_second(hashes, begun.elapsed())
}

fn hash_until(begun: Instant, length: Duration) -> u64 {
    // On Linux this is the thread's alone.
    rustix::process::setpriority_process(None, NICENESS).unwrap();
    let params = Params::new(19 * 1024, 2, 1, Some(32)).unwrap();
    let mut memory = vec![Block::default(); params.block_count()];
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let (mut hashes, mut out) = (0, [0; 32]);
    while begun.elapsed() < length {
        argon2
            .hash_password_into_with_memory(b"correct horse battery staple", &[7; 16], &mut out, &mut memory)
            .unwrap();
        hashes += 1;
    }
    hashes
}

async fn raw_batch() -> f64 {
    tokio::task::spawn_blocking(|| raw(BATCH)).await.unwrap()
}

/// Logins against hashes, and logins while `verify` saturates the rest against logins alone.
pub(crate) async fn run(server: &Process, users: usize, verify: &mut Side, budget: Duration, report: &mut Report) {
    let mut logins = Side::login(server, users, CALLERS).await;
    logins.batch(BATCH).await;
    raw_batch().await;
    let (mut floor, mut paired, mut saturated) = (Paired::default(), Paired::default(), Paired::default());
    let begun = Instant::now();
    while begun.elapsed() < budget || paired.a.len() < 4 {
        let of_logins = logins.batch(BATCH).await;
        let of_raw = raw_batch().await;
        paired.push(of_logins, of_raw);
        let again = raw_batch().await;
        floor.push(again, of_raw);
        paired.push(logins.batch(BATCH).await, again);
    }
    let begun = Instant::now();
    let mut verifications = Vec::new();
    while begun.elapsed() < budget / 2 || saturated.a.len() < 4 {
        let alone = logins.batch(BATCH).await;
        let (beside, verified) = tokio::join!(logins.batch(BATCH), verify.batch(BATCH));
        saturated.push(beside, alone);
        verifications.push(verified);
    }
    let detail = format!("{:.1} and {:.1} per second on {} thread(s)", median(&paired.a), median(&paired.b), threads());
    report.ratio("`Login` : argon2id alone", paired.ratios(), Some(floor.ratios()), Bound::AtLeast(0.95), &detail);
    let detail =
        format!("{:.1} logins beside {:.0} verifications per second", median(&saturated.a), median(&verifications));
    report.ratio("`Login` while `Verify` saturates : `Login`", saturated.ratios(), None, Bound::None, &detail);
}
