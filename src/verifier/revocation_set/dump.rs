//! The set page by page, for whoever is to know the same.

use super::{Cut, RevocationSet, Sharded, Spread, Subject};
use crate::domain::{
    id::{SessionId, TokenId},
    revocation::Revocation,
    time::Timestamp,
};

/// How far a [dump](RevocationSet::dump) is.
#[derive(Clone, Debug, Default)]
pub struct DumpPlace(Part);

#[derive(Clone, Debug, Default)]
enum Part {
    /// All of them at once: they are a handful.
    #[default]
    Keys,
    Sessions(Walk<SessionId>),
    Tokens(Walk<TokenId>),
    Subjects(Walk<Subject>),
    End,
}

/// How far a map is gone through.
#[derive(Clone, Debug)]
struct Walk<K> {
    shard: usize,
    after: Option<K>,
}

impl<K> Default for Walk<K> {
    fn default() -> Self {
        Self { shard: 0, after: None }
    }
}

impl<K: Spread + Ord + Copy> Walk<K> {
    /// The next at most `most` entries. `false`: there are no more.
    fn next<V: Copy>(&mut self, map: &Sharded<K, V>, most: usize, page: &mut Vec<(K, V)>) -> bool {
        while page.len() < most {
            let room = most - page.len();
            let Some(next) = map.page(self.shard, self.after.as_ref(), room) else { return false };
            if next.len() < room {
                *self = Self { shard: self.shard + 1, after: None };
            } else {
                self.after = next.last().map(|(key, _)| *key);
            }
            page.extend(next);
        }
        true
    }
}

impl RevocationSet {
    /// The next entries of the set, with their expiry: those of about `most` subjects, sessions or tokens, of each subject up to
    /// two. A key's expiry means nothing. `None`: that was all.
    ///
    /// What was in the set when the dump began, and did not expire meanwhile, is in one of the pages. What was added meanwhile may
    /// be. To be applied in any order: whoever has applied all of them refuses what this set does. No lock is held between two
    /// pages, nor for longer than it takes to look through a 256th of the set.
    pub fn dump(&self, place: &mut DumpPlace, most: usize) -> Option<Vec<(Revocation, Timestamp)>> {
        let mut page = Vec::new();
        while page.len() < most {
            let room = most - page.len();
            place.0 = match std::mem::take(&mut place.0) {
                Part::Keys => {
                    let kids = self.keys.load();
                    page.extend(
                        kids.iter().map(|kid| (Revocation::Key { kid: kid.clone() }, Timestamp::from_micros(0))),
                    );
                    Part::Sessions(Walk::default())
                }
                Part::Sessions(mut walk) => {
                    let mut next = Vec::new();
                    let goes_on = walk.next(&self.sessions, room, &mut next);
                    page.extend(next.into_iter().map(|(session, expiry)| (Revocation::Session { session }, expiry)));
                    if goes_on { Part::Sessions(walk) } else { Part::Tokens(Walk::default()) }
                }
                Part::Tokens(mut walk) => {
                    let mut next = Vec::new();
                    let goes_on = walk.next(&self.tokens, room, &mut next);
                    page.extend(next.into_iter().map(|(token, expiry)| (Revocation::Token { token }, expiry)));
                    if goes_on { Part::Tokens(walk) } else { Part::Subjects(Walk::default()) }
                }
                Part::Subjects(mut walk) => {
                    let mut next = Vec::new();
                    let goes_on = walk.next(&self.subjects, room, &mut next);
                    page.extend(next.into_iter().flat_map(|(subject, cut)| cut.entries(subject)));
                    if goes_on { Part::Subjects(walk) } else { Part::End }
                }
                Part::End => {
                    place.0 = Part::End;
                    break;
                }
            };
        }
        (!page.is_empty()).then_some(page)
    }
}

impl Cut {
    /// Entries that amount to this, in any order.
    fn entries(self, subject: Subject) -> impl Iterator<Item = (Revocation, Timestamp)> {
        let Self { epoch, spared, spared_epoch, expire_time } = self;
        let entry = move |epoch, spared| match subject {
            Subject::User(user) => Revocation::User { user, epoch, spared },
            // Nothing of a service account is ever spared.
            Subject::Service(account) => Revocation::ServiceAccount { account, epoch },
        };
        // What the spared session is refused by too, if anything.
        let whole = (spared.is_some() && spared_epoch > i64::MIN).then(|| entry(spared_epoch, None));
        [Some(entry(epoch, spared)), whole].into_iter().flatten().map(move |revocation| (revocation, expire_time))
    }
}
