//! Somebody who watches what is revoked: everything that is of consequence first, or only what was missed, then what comes.

use std::{fmt, str::FromStr};

use tokio::sync::watch;
use uuid::Uuid;

use super::{
    Feed,
    ring::{Place, Sight},
};
use crate::{
    domain::{hot::FeedPosition, revocation::Revocation, time::Timestamp},
    verifier::revocation_set::DumpPlace,
};

/// Most entries of a piece, but for the keys; with one of a subject for two it is some 50 KiB.
const MOST: usize = 250;

/// What a watcher is to be told.
#[derive(Debug)]
pub struct Piece {
    /// What is revoked, with the moment when that may be forgotten; a key's never may.
    pub revocations: Vec<(Revocation, Timestamp)>,
    /// Where whoever has taken in all of it goes on, here or at another node. `None`: more is to be told at once.
    pub cursor: Option<String>,
}

/// A watcher's place.
#[derive(Debug)]
pub(in crate::service) struct Watcher {
    changed: watch::Receiver<()>,
    stage: Stage,
    /// Entries up to this number are known.
    known: i64,
}

#[derive(Debug)]
enum Stage {
    /// Everything is to be told, from the list; after that what has come since.
    Beginning {
        dump: Option<DumpPlace>,
        then: Place,
    },
    Following(Place),
}

/// A cursor, for whoever reads it only here.
struct Cursor(FeedPosition);

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FeedPosition { incarnation, number } = self.0;
        write!(f, "{}.{number}", incarnation.simple())
    }
}

impl FromStr for Cursor {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (incarnation, number) = text.split_once('.').ok_or(())?;
        let incarnation = Uuid::try_parse(incarnation).map_err(|_| ())?;
        Ok(Self(FeedPosition { incarnation, number: number.parse().map_err(|_| ())? }))
    }
}

impl Feed {
    /// Watches from after this cursor if that can be, and otherwise from the beginning.
    pub(in crate::service) fn watch(&self, cursor: &str) -> Watcher {
        let ring = self.observer.ring();
        let changed = ring.subscribe();
        let resumed = cursor.parse().ok().and_then(|Cursor(known)| Some((ring.find(known)?, known.number)));
        match resumed {
            Some((place, known)) => Watcher { changed, stage: Stage::Following(place), known },
            None => Watcher { changed, stage: self.beginning(), known: i64::MIN },
        }
    }

    /// The place is noted before the list is looked at: what comes meanwhile is told twice, or once.
    fn beginning(&self) -> Stage {
        Stage::Beginning { dump: None, then: self.observer.ring().end() }
    }

    /// What there is to tell now.
    pub(in crate::service) fn next_piece(&self, watcher: &mut Watcher) -> Piece {
        watcher.changed.mark_unchanged();
        let now = self.clock.now();
        loop {
            match &mut watcher.stage {
                Stage::Beginning { dump: dump @ None, .. } => {
                    *dump = Some(DumpPlace::default());
                    // Whatever was said of keys before is not in the list.
                    return Piece { revocations: vec![(Revocation::KeySetChanged, now)], cursor: None };
                }
                Stage::Beginning { dump: Some(dump), then } => {
                    if let Some(page) = self.revocations().dump(dump, MOST) {
                        return Piece { revocations: of_consequence(page, now), cursor: None };
                    }
                    (watcher.stage, watcher.known) = (Stage::Following(*then), i64::MIN);
                }
                Stage::Following(place) => match self.observer.ring().look(place, watcher.known, MOST) {
                    Some(Sight { entries, position }) => {
                        let entries = entries.iter().map(|entry| (entry.revocation.clone(), entry.expire_time));
                        let cursor = position.map(|position| Cursor(position).to_string());
                        return Piece { revocations: of_consequence(entries, now), cursor };
                    }
                    // Too slow, or the feed has another history.
                    None => watcher.stage = self.beginning(),
                },
            }
        }
    }
}

impl Watcher {
    /// Resolves when there is something that the last piece did not tell.
    pub(in crate::service) async fn changed(&mut self) {
        if self.changed.changed().await.is_err() {
            // The ring has gone, and with it whatever could come.
            std::future::pending::<()>().await;
        }
    }
}

/// Those that can still refuse a token.
fn of_consequence(
    revocations: impl IntoIterator<Item = (Revocation, Timestamp)>,
    now: Timestamp,
) -> Vec<(Revocation, Timestamp)> {
    let lasts = |(revocation, expire_time): &(Revocation, Timestamp)| match revocation {
        Revocation::Key { .. } | Revocation::KeySetChanged => true,
        Revocation::Role { .. } => false,
        Revocation::Session { .. }
        | Revocation::User { .. }
        | Revocation::ServiceAccount { .. }
        | Revocation::Token { .. } => *expire_time > now,
    };
    revocations.into_iter().filter(lasts).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_written_and_nothing_else_is_one() {
        let position = FeedPosition { incarnation: Uuid::from_u128(7), number: 42 };
        let text = Cursor(position).to_string();
        assert_eq!(text.parse::<Cursor>().ok().map(|Cursor(read)| read), Some(position));
        for bad in ["", ".", "42", "x.42", &text[1..], &format!("{text}x"), &text.replace('.', ":"), "é.1"] {
            assert!(bad.parse::<Cursor>().is_err(), "{bad}");
        }
    }
}
