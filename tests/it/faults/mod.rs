//! Two nodes on one Postgres and one Redis, and what happens to either (FAULTS 1 to 4 and 9 to 11, promises R1 to R6).
//!
//! Real processes: each node has a way of its own to Redis and to the database, which can be cut or frozen, and the Redis is the
//! test's own, to be killed, emptied and frozen. Nothing of ours is restarted unless its death is the test.

mod load;
mod world;

mod anything;
mod both_away;
mod claims;
mod database_away;
mod failover;
mod memory_lost;
mod nodes_killed;
mod races;
mod redis_silent;
mod revocation;
mod roles;

/// How many rounds a test makes that counts them: so many, or what `VOUCHSAFE_TEST_ROUNDS` says.
fn rounds(usual: usize) -> usize {
    match std::env::var("VOUCHSAFE_TEST_ROUNDS") {
        Ok(wanted) => wanted.parse().expect("VOUCHSAFE_TEST_ROUNDS is a number"),
        Err(_) => usual,
    }
}
