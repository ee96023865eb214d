//! The newest entries in the order in which this node heard of them, shared by all who watch: each of them holds only a place.
//!
//! Entries come out of the order of their numbers and are passed on at once, so a place counts arrivals. The cursor that a
//! watcher takes to another node is a number of the feed: everything up to it is known to whoever holds it.

use std::{
    collections::VecDeque,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use tokio::sync::watch;

use crate::domain::{
    hot::FeedPosition,
    revocation::{FeedEntry, Revocation},
};

/// Entries that are kept: some 3 MB. Who was away for more of them starts from the whole list.
pub(super) const CAPACITY: usize = 16_384;

/// In place of a number: known from elsewhere than the feed, and told to everybody.
pub(super) const UNNUMBERED: i64 = i64::MAX;

/// The ring.
pub(super) struct Ring {
    state: RwLock<State>,
    /// Woken whenever there is something to see.
    changed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct State {
    /// Up to where everything is known, and was in the ring.
    position: Option<FeedPosition>,
    /// Whoever knows everything up to a smaller number cannot go on from here: entries after it have left, or were never here.
    floor: i64,
    /// The greatest number that was ever here.
    greatest: i64,
    /// Arrivals are counted anew when the feed has another history.
    era: u64,
    /// How many arrived before the first of `entries`.
    left: u64,
    entries: VecDeque<Arc<FeedEntry>>,
}

/// How far somebody has looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    era: u64,
    arrival: u64,
}

/// What somebody sees who looks.
#[derive(Debug)]
pub(super) struct Sight {
    /// What has come, as far as it was wanted.
    pub(super) entries: Vec<Arc<FeedEntry>>,
    /// Up to where everything is known to whoever has seen all of it. `None`: there is more to see.
    pub(super) position: Option<FeedPosition>,
}

impl Default for Ring {
    fn default() -> Self {
        Self { state: RwLock::default(), changed: watch::Sender::new(()) }
    }
}

impl Ring {
    /// An entry has come that nobody here had heard of.
    pub(super) fn put(&self, entry: &FeedEntry) {
        let mut state = self.write();
        if entry.number != UNNUMBERED {
            state.greatest = state.greatest.max(entry.number);
        }
        // Nothing that a token says is revoked by it.
        if let Revocation::Role { .. } = entry.revocation {
            return;
        }
        if state.entries.len() == CAPACITY
            && let Some(oldest) = state.entries.pop_front()
        {
            state.left += 1;
            if oldest.number != UNNUMBERED {
                state.floor = state.floor.max(oldest.number);
            }
        }
        state.entries.push_back(Arc::new(entry.clone()));
    }

    /// Entries up to this number have expired before this node heard of them.
    pub(super) fn skip_to(&self, number: i64) {
        let mut state = self.write();
        state.floor = state.floor.max(number);
        state.greatest = state.greatest.max(number);
    }

    /// The feed has another history. The same entries may come again, and others under the same numbers.
    pub(super) fn start_over(&self, same_incarnation: bool) {
        let mut state = self.write();
        // A cursor of the longer history must not be taken for one of what comes now.
        let floor = if same_incarnation { state.greatest.max(state.floor) + 1 } else { 0 };
        *state = State { floor, era: state.era + 1, ..State::default() };
    }

    /// Everything up to here is known, and was put here. Wakes whoever waits.
    pub(super) fn reached(&self, position: Option<FeedPosition>) {
        let mut state = self.write();
        state.position = position;
        drop(state);
        self.changed.send_replace(());
    }

    /// Tells of changes from now on.
    pub(super) fn subscribe(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// The place after everything that has come.
    pub(super) fn end(&self) -> Place {
        let state = self.read();
        Place { era: state.era, arrival: state.left + state.entries.len() as u64 }
    }

    /// The place from which somebody goes on who knows everything up to `known`. `None`: not everything after it is here.
    pub(super) fn find(&self, known: FeedPosition) -> Option<Place> {
        let state = self.read();
        let position = state.position?;
        let is_here =
            known.incarnation == position.incarnation && (state.floor..=position.number).contains(&known.number);
        is_here.then_some(Place { era: state.era, arrival: state.left })
    }

    /// What has come after `place`, at most `most` entries, without those up to the number `known`; moves the place after
    /// them. `None`: not everything after it is here any more.
    pub(super) fn look(&self, place: &mut Place, known: i64, most: usize) -> Option<Sight> {
        let state = self.read();
        if place.era != state.era {
            return None;
        }
        let passed = usize::try_from(place.arrival.checked_sub(state.left)?).ok()?;
        let mut entries = Vec::new();
        let mut seen = passed;
        for entry in state.entries.range(passed.min(state.entries.len())..) {
            if entry.number > known {
                if entries.len() == most {
                    break;
                }
                entries.push(Arc::clone(entry));
            }
            seen += 1;
        }
        place.arrival = state.left + seen as u64;
        let position = state.position.filter(|_| seen == state.entries.len());
        Some(Sight { entries, position })
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::domain::time::Timestamp;

    const HISTORY: Uuid = Uuid::from_u128(1);

    fn at(number: i64) -> FeedPosition {
        FeedPosition { incarnation: HISTORY, number }
    }

    fn put(ring: &Ring, numbers: impl IntoIterator<Item = i64>) {
        let (time, expire_time) = (Timestamp::from_seconds(1), Timestamp::from_seconds(2));
        for number in numbers {
            ring.put(&FeedEntry { number, revocation: Revocation::KeySetChanged, time, expire_time });
        }
    }

    fn holding(numbers: impl IntoIterator<Item = i64>, reached: i64) -> Ring {
        let ring = Ring::default();
        put(&ring, numbers);
        ring.reached(Some(at(reached)));
        ring
    }

    fn numbers(sight: &Sight) -> Vec<i64> {
        sight.entries.iter().map(|entry| entry.number).collect()
    }

    /// What somebody sees who goes on from a cursor.
    fn resumed(ring: &Ring, known: i64) -> Option<Vec<i64>> {
        let mut place = ring.find(at(known))?;
        let sight = ring.look(&mut place, known, usize::MAX).unwrap();
        Some(numbers(&sight))
    }

    #[test]
    fn entries_are_seen_as_they_come_even_before_a_gap() {
        let ring = holding([1, 2], 2);
        let mut place = ring.end();
        put(&ring, [5]);
        let sight = ring.look(&mut place, 2, 10).unwrap();
        assert_eq!((numbers(&sight), sight.position), (vec![5], Some(at(2))));
        put(&ring, [3, 4]);
        ring.reached(Some(at(5)));
        let sight = ring.look(&mut place, 2, 10).unwrap();
        assert_eq!((numbers(&sight), sight.position), (vec![3, 4], Some(at(5))));
    }

    #[test]
    fn whoever_goes_on_sees_all_that_came_out_of_order_and_nothing_that_is_known() {
        let ring = holding([1, 5, 2, 4, 3], 5);
        assert_eq!(resumed(&ring, 2), Some(vec![5, 4, 3]));
        assert_eq!(resumed(&ring, 5), Some(vec![]));
        assert_eq!(resumed(&ring, 0), Some(vec![1, 5, 2, 4, 3]));
    }

    #[test]
    fn a_position_is_only_told_with_the_last_of_it() {
        let ring = holding(1..=5, 5);
        let mut place = ring.find(at(1)).unwrap();
        let sight = ring.look(&mut place, 1, 3).unwrap();
        assert_eq!((numbers(&sight), sight.position), (vec![2, 3, 4], None));
        let sight = ring.look(&mut place, 1, 3).unwrap();
        assert_eq!((numbers(&sight), sight.position), (vec![5], Some(at(5))));
    }

    #[test]
    fn nobody_goes_on_from_what_is_not_here() {
        let ring = holding(1..=5, 5);
        assert_eq!(resumed(&ring, 6), None, "too new");
        assert!(ring.find(FeedPosition { incarnation: Uuid::nil(), number: 3 }).is_none());
        ring.skip_to(3);
        assert_eq!(resumed(&ring, 2), None, "3 was never here, for all it knows");
        assert_eq!(resumed(&ring, 3), Some(vec![4, 5]));
        assert!(Ring::default().find(at(0)).is_none(), "nothing was read yet");
    }

    #[test]
    fn what_has_left_is_missed() {
        let ring = holding([2, 1], 2);
        let mut first = ring.find(at(0)).unwrap();
        let capacity = i64::try_from(CAPACITY).unwrap();
        put(&ring, 3..=capacity + 1);
        ring.reached(Some(at(capacity + 1)));
        // The entry 2 came first and has left.
        assert!(ring.look(&mut first, 0, 10).is_none());
        assert_eq!(resumed(&ring, 1), None);
        assert_eq!(resumed(&ring, 2).unwrap().len(), CAPACITY - 1);
    }

    #[test]
    fn a_change_of_a_role_moves_the_cursor_and_is_not_seen() {
        let ring = holding([1], 1);
        let mut place = ring.end();
        let time = Timestamp::from_seconds(1);
        let revocation = Revocation::Role { role: "clerk".into() };
        ring.put(&FeedEntry { number: 2, revocation, time, expire_time: time });
        ring.reached(Some(at(2)));
        let sight = ring.look(&mut place, 1, 10).unwrap();
        assert_eq!((numbers(&sight), sight.position), (vec![], Some(at(2))));
    }

    #[test]
    fn another_history_is_looked_at_anew() {
        let ring = holding(1..=5, 5);
        let mut place = ring.end();
        ring.start_over(true);
        assert!(ring.look(&mut place, 0, 10).is_none());
        // A backup up to 3, and another 4, 5 and 6.
        put(&ring, 1..=6);
        ring.reached(Some(at(6)));
        for old in 0..=5 {
            assert_eq!(resumed(&ring, old), None, "{old} is of the other history, perhaps");
        }
        assert_eq!(resumed(&ring, 6), Some(vec![]));
        ring.start_over(false);
        put(&ring, [1]);
        ring.reached(Some(at(1)));
        assert_eq!(resumed(&ring, 0), Some(vec![1]));
    }
}
