//! Failures per address and altogether: in the memory of this node, and in that of the others through the hot state.
//!
//! A failure counts here at once, and [`Buckets::share`] adds what was counted to the hot state's a moment later, in the background and many at a
//! time: so no call waits for the hot state, and one that is away costs nothing but that each node counts for itself. A node
//! hears what the others count as long as what it counted itself is not over; a burst may thus be had once at each node, the rate only once.
//! What the hot state loses here is what an address may do in a quarter of an hour. Guesses at accounts are counted in the database.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;
use uuid::Uuid;

use crate::{
    domain::{
        throttle::{Rate, Spent},
        time::Timestamp,
    },
    service::hot::{Hot, Kept},
    state::{HotError, HotKey},
    telemetry::Throttled,
};

/// Addresses remembered at once, some 10 MB. Each that failed once is forgotten after seconds, so only an attack without a limit
/// overall, from as many addresses, could fill it; further addresses then count only overall.
const MOST: usize = 100_000;
/// Nodes that share the same bucket at one moment come after each other.
const TRIES: u32 = 8;
/// Buckets of which is heard at a time what others count, besides those that something is added to.
const LISTENED: u32 = 64;

/// What is limited.
#[derive(Clone, Copy, Debug)]
pub(in crate::service) struct Failures {
    /// A keyed hash of it.
    pub(in crate::service) key: Uuid,
    /// How many there may be.
    pub(in crate::service) rate: Rate,
    /// What it is.
    pub(in crate::service) what: Throttled,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    spent: Spent,
    rate: Rate,
    /// How many were counted here since this was last shared.
    unshared: u32,
}

/// See the module.
#[derive(Debug, Default)]
pub(in crate::service) struct Buckets {
    local: Mutex<HashMap<Uuid, Bucket>>,
    counted: Notify,
}

impl Buckets {
    /// When there may be another failure; `None`: now.
    pub(in crate::service) fn retry_after(&self, failures: Failures, now: Timestamp) -> Option<Duration> {
        let spent = self.local().get(&failures.key)?.spent;
        failures.rate.retry_after(spent, now)
    }

    /// Counts a failure.
    pub(in crate::service) fn spend(&self, failures: Failures, now: Timestamp) {
        let mut local = self.local();
        if local.len() >= MOST {
            local.retain(|_, bucket| bucket.spent.until > now);
        }
        let full = local.len() >= MOST;
        let bucket = match local.entry(failures.key) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(_) if full => return,
            Entry::Vacant(place) => place.insert(Bucket { spent: Spent::default(), rate: failures.rate, unshared: 0 }),
        };
        bucket.spent = failures.rate.spend(bucket.spent, 1, now);
        bucket.unshared = bucket.unshared.saturating_add(1);
        drop(local);
        self.counted.notify_one();
    }

    /// Waits until something was counted.
    pub(in crate::service) async fn counted(&self) {
        self.counted.notified().await;
    }

    /// Whether all that was counted is over, and nothing is to be shared until something is counted.
    pub(in crate::service) fn is_over(&self) -> bool {
        self.local().is_empty()
    }

    /// Adds what was counted here to what was counted elsewhere, and takes over the sum. What could not be added waits for the next time, if it
    /// still means something then.
    pub(in crate::service) async fn share(&self, hot: &Hot, now: Timestamp) -> Result<(), HotError> {
        let mut buckets: Vec<(Uuid, Bucket)> = {
            let mut local = self.local();
            local.retain(|_, bucket| bucket.spent.until > now);
            local.iter().map(|(key, bucket)| (*key, *bucket)).collect()
        };
        // First those that have something to say, the fullest before the others: these are the ones that limit.
        buckets.sort_unstable_by_key(|(_, bucket)| std::cmp::Reverse((bucket.unshared > 0, bucket.spent)));
        let mut listened = 0;
        for (key, bucket) in buckets {
            let sum = if bucket.unshared > 0 {
                add(hot, key, bucket, now).await?
            } else {
                listened += 1;
                if listened > LISTENED {
                    break;
                }
                hot.get(HotKey::Spent(key)).await?.value
            };
            let Some(sum) = sum else { continue };
            if let Some(known) = self.local().get_mut(&key) {
                known.unshared = known.unshared.saturating_sub(bucket.unshared);
                known.spent = known.rate.spend(sum, known.unshared, now).max(known.spent);
            }
        }
        Ok(())
    }

    fn local(&self) -> MutexGuard<'_, HashMap<Uuid, Bucket>> {
        self.local.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Spends in the hot state what was spent here. The sum; `None` if others were quicker each time.
async fn add(hot: &Hot, key: Uuid, bucket: Bucket, now: Timestamp) -> Result<Option<Spent>, HotError> {
    let key = HotKey::Spent(key);
    let mut found: Kept<Spent> = hot.get(key).await?;
    for _ in 0..TRIES {
        let sum = bucket.rate.spend(found.value.unwrap_or_default(), bucket.unshared, now);
        match hot.replace(key, found, &sum, sum.until.since(now).max(Duration::from_secs(1))).await? {
            Ok(()) => return Ok(Some(sum)),
            Err(changed) => found = changed,
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    fn failures(key: u128) -> Failures {
        Failures { key: Uuid::from_u128(key), rate: Rate::per_minute(30).unwrap(), what: Throttled::Address }
    }

    #[test]
    fn an_address_that_failed_too_often_waits_and_others_do_not() {
        let buckets = Buckets::default();
        for _ in 0..30 {
            assert_eq!(buckets.retry_after(failures(1), at(0)), None);
            buckets.spend(failures(1), at(0));
        }
        assert_eq!(buckets.retry_after(failures(1), at(0)), Some(Duration::from_secs(2)));
        assert_eq!(buckets.retry_after(failures(1), at(2)), None);
        assert_eq!(buckets.retry_after(failures(2), at(0)), None);
    }

    #[test]
    fn more_addresses_than_are_remembered_push_out_those_that_are_over_and_no_other() {
        let buckets = Buckets::default();
        for _ in 0..31 {
            buckets.spend(failures(0), at(100));
        }
        for key in 1..=MOST as u128 {
            buckets.spend(failures(key), at(100));
        }
        assert_eq!(buckets.local().len(), MOST);
        assert!(buckets.retry_after(failures(0), at(100)).is_some(), "it is still limited");
        buckets.spend(failures(u128::MAX), at(110));
        assert_eq!(buckets.local().len(), 2, "all that failed once are over after two seconds");
        assert!(buckets.local().contains_key(&Uuid::from_u128(0)));
    }
}
