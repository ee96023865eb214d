//! A map split into many, each behind its own lock, so that readers on many cores rarely meet.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use uuid::Uuid;

/// One per value of an id's last byte, which is random in a UUID of version 7. A million entries make 4 000 a shard, so a
/// purge holds up the readers of a shard for some tens of microseconds.
const SHARDS: usize = 256;

/// Keys that are spread by a UUID.
pub(super) trait Spread: Eq + Hash {
    /// The UUID.
    fn uuid(&self) -> &Uuid;
}

/// The map.
pub(super) struct Sharded<K, V>(Box<[RwLock<HashMap<K, V>>]>);

impl<K: Spread, V> Sharded<K, V> {
    fn shard(&self, key: &K) -> &RwLock<HashMap<K, V>> {
        &self.0[usize::from(key.uuid().as_bytes()[15])]
    }

    /// Applies `test` to the value of `key`; `false` where there is none.
    pub(super) fn is(&self, key: &K, test: impl FnOnce(&V) -> bool) -> bool {
        read(self.shard(key)).get(key).is_some_and(test)
    }

    /// Puts `value` there, or lets `merge` put it into what is there.
    pub(super) fn merge(&self, key: K, value: V, merge: impl FnOnce(&mut V, V)) {
        let mut shard = write(self.shard(&key));
        match shard.get_mut(&key) {
            Some(present) => merge(present, value),
            None => {
                shard.insert(key, value);
            }
        }
    }

    /// Drops the entries that `keep` refuses.
    pub(super) fn retain(&self, keep: impl Fn(&V) -> bool) {
        for shard in &self.0 {
            let mut shard = write(shard);
            shard.retain(|_, value| keep(value));
            // Memory back after a wave of revocations, but not at every ebb.
            if shard.capacity() > 64 && shard.len() < shard.capacity() / 4 {
                let len = shard.len();
                shard.shrink_to(len * 2);
            }
        }
    }

    /// Takes over the entries of `other`, shard by shard: a key in both is there all the time.
    pub(super) fn replace(&self, other: Self) {
        for (shard, new) in self.0.iter().zip(other.0) {
            *write(shard) = new.into_inner().unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The entries of the shard with this number that come after the key `after`, in the order of their keys, at most `most`.
    /// `None`: there is no such shard.
    ///
    /// Whoever goes through a shard so meets every key that is there all the time, whatever else comes and goes between two
    /// pages. Each page looks at the whole shard, and holds its lock for that long.
    pub(super) fn page(&self, shard: usize, after: Option<&K>, most: usize) -> Option<Vec<(K, V)>>
    where
        K: Ord + Copy,
        V: Copy,
    {
        let shard = read(self.0.get(shard)?);
        let is_left = |(key, _): &(&K, &V)| after.is_none_or(|after| *key > after);
        let mut page: Vec<_> = shard.iter().filter(is_left).map(|(key, value)| (*key, *value)).collect();
        drop(shard);
        if page.len() > most {
            page.select_nth_unstable_by_key(most, |(key, _)| *key);
            page.truncate(most);
        }
        page.sort_unstable_by_key(|(key, _)| *key);
        Some(page)
    }

    /// How many entries there are.
    pub(super) fn len(&self) -> usize {
        self.0.iter().map(|shard| read(shard).len()).sum()
    }
}

impl<K, V> Default for Sharded<K, V> {
    fn default() -> Self {
        Self((0..SHARDS).map(|_| RwLock::default()).collect())
    }
}

/// A poisoned lock is none here: no panic can leave a map half changed.
fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
