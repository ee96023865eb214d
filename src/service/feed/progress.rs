//! Up to where this node knows the feed, and what it remembers of it.

use std::collections::BTreeSet;

use uuid::Uuid;

use crate::domain::{
    hot::{FeedHead, FeedPosition, RecentChanges},
    revocation::FeedEntry,
    time::Timestamp,
};

/// A node's knowledge of one history of the feed. Entries come from its own commits, from the stream and from the database, in
/// any order and any number of times.
#[derive(Debug, Default)]
pub(super) struct Progress {
    incarnation: Option<Uuid>,
    /// Every entry up to this number is known.
    through: i64,
    /// Entries beyond that are known too.
    ahead: BTreeSet<i64>,
    changes: RecentChanges,
    /// The latest head that was seen in the hot state, or written there.
    pub(super) last_head: Option<FeedHead>,
}

impl Progress {
    /// Whether the feed has another history than before; then everything is forgotten.
    pub(super) fn belongs_to(&mut self, incarnation: Uuid) -> bool {
        let changed = self.incarnation.is_some_and(|known| known != incarnation);
        if changed {
            *self = Self::default();
        }
        self.incarnation = Some(incarnation);
        changed
    }

    /// Starts over in the same history, which has become shorter.
    pub(super) fn start_over(&mut self) {
        *self = Self { incarnation: self.incarnation, ..Self::default() };
    }

    /// Takes note of an entry. Whether it is news.
    pub(super) fn note(&mut self, entry: &FeedEntry) -> bool {
        if entry.number <= self.through || !self.ahead.insert(entry.number) {
            return false;
        }
        self.changes.note(entry);
        self.close_gaps();
        true
    }

    /// The database has no entry from `after` to before `number`: they have expired.
    pub(super) fn skip(&mut self, after: i64, number: i64) {
        if number > after + 1 {
            self.changes.forget_up_to(number - 1);
        }
        if after <= self.through && self.through < number - 1 {
            self.through = number - 1;
            self.ahead = self.ahead.split_off(&number);
            self.close_gaps();
        }
    }

    fn close_gaps(&mut self) {
        while self.ahead.first() == Some(&(self.through + 1)) {
            self.ahead.pop_first();
            self.through += 1;
        }
    }

    /// Whether entries are missing between those that are known.
    pub(super) fn has_gap(&self) -> bool {
        !self.ahead.is_empty()
    }

    /// Up to where everything is known.
    pub(super) fn position(&self) -> Option<FeedPosition> {
        self.incarnation.map(|incarnation| FeedPosition { incarnation, number: self.through })
    }

    /// Whom the latest entries were about.
    pub(super) fn changes(&self) -> &RecentChanges {
        &self.changes
    }

    /// Forgets whom entries were about that expired before `moment`.
    pub(super) fn forget_before(&mut self, moment: Timestamp) {
        self.changes.forget_before(moment);
    }

    /// Takes note of a head. The latest of each part is what a later one must not fall behind.
    pub(super) fn saw(&mut self, head: FeedHead) {
        self.last_head = Some(match self.last_head {
            None => head,
            Some(last) => FeedHead {
                number: last.number.max(head.number),
                time: last.time.max(head.time),
                records_since: last.records_since.max(head.records_since),
                beat: last.beat.max(head.beat),
            },
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::revocation::Revocation;

    fn entry(number: i64) -> FeedEntry {
        let (time, expire_time) = (Timestamp::from_seconds(1), Timestamp::from_seconds(2));
        FeedEntry { number, revocation: Revocation::KeySetChanged, time, expire_time }
    }

    fn noted(numbers: &[i64]) -> Progress {
        let mut progress = Progress::default();
        progress.belongs_to(Uuid::from_u128(1));
        for number in numbers {
            progress.note(&entry(*number));
        }
        progress
    }

    #[test]
    fn what_is_known_without_a_gap_is_known_in_any_order() {
        for numbers in [&[1, 2, 3][..], &[3, 1, 2], &[2, 3, 3, 1, 2]] {
            let progress = noted(numbers);
            assert_eq!(progress.position().unwrap().number, 3, "{numbers:?}");
            assert!(!progress.has_gap());
        }
        let gap = noted(&[1, 3]);
        assert_eq!(gap.position().unwrap().number, 1);
        assert!(gap.has_gap());
    }

    #[test]
    fn an_entry_is_news_once() {
        let mut progress = noted(&[1, 3]);
        assert!(!progress.note(&entry(1)));
        assert!(!progress.note(&entry(3)));
        assert!(progress.note(&entry(2)));
    }

    #[test]
    fn entries_that_expired_close_their_gap_and_move_the_horizon() {
        let mut progress = noted(&[1, 7]);
        progress.skip(1, 5);
        assert_eq!(progress.position().unwrap().number, 4);
        assert!(!progress.changes().reach_back_to(3));
        assert!(progress.changes().reach_back_to(4));
        progress.skip(4, 7);
        assert_eq!(progress.position().unwrap().number, 7);
        assert!(!progress.has_gap());
    }

    #[test]
    fn what_is_not_known_is_not_skipped() {
        let mut progress = noted(&[1]);
        progress.skip(3, 6);
        assert_eq!(progress.position().unwrap().number, 1, "2 and 3 were never read");
    }

    #[test]
    fn another_history_forgets_everything() {
        let mut progress = noted(&[1, 2]);
        assert!(!progress.belongs_to(Uuid::from_u128(1)));
        assert!(progress.belongs_to(Uuid::from_u128(2)));
        assert_eq!(progress.position().unwrap().number, 0);
    }
}
