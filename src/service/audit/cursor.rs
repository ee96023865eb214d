//! How far somebody has read the trail, as callers carry it. Whoever makes one up gets other events that they may see anyway.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::{crypto::audit_chain::Place, store::port::Lane};

/// Another form of cursor gets another number.
const FORM: u8 = 1;
/// Longer than any cursor of some hundred lanes.
const MAX_LEN: usize = 8 * 1024;

/// The place in every lane up to which somebody has read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrailCursor(BTreeMap<i64, i64>);

/// Why a cursor cannot be gone on from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CursorError {
    /// Nobody made it here.
    #[error("is no cursor of an earlier message: send one unchanged, or begin anew without it")]
    Malformed,
    /// What comes next is not there any more.
    #[error("is too old: events behind it were removed because of their age; begin anew with from_beginning")]
    Removed,
    /// The trail was another one.
    #[error("is ahead of the trail: an older state of the database was restored; begin anew with from_beginning")]
    Ahead,
}

impl TrailCursor {
    /// Before the first event that there is.
    pub fn beginning(lanes: &[Lane]) -> Self {
        Self(lanes.iter().map(|lane| (lane.base.link.place.lane, lane.base.link.place.position)).collect())
    }

    /// Behind the last event that there is.
    pub fn end(lanes: &[Lane]) -> Self {
        Self(lanes.iter().map(|lane| (lane.head.link.place.lane, lane.head.link.place.position)).collect())
    }

    /// As a text.
    pub fn write(&self) -> String {
        let places: Vec<(i64, i64)> = self.0.iter().map(|(lane, position)| (*lane, *position)).collect();
        // Writing to memory cannot fail; an empty cursor would be none.
        URL_SAFE_NO_PAD.encode(postcard::to_allocvec(&(FORM, places)).unwrap_or_default())
    }

    /// From its text.
    ///
    /// # Errors
    /// `Malformed`.
    pub fn read(text: &str) -> Result<Self, CursorError> {
        if text.len() > MAX_LEN {
            return Err(CursorError::Malformed);
        }
        let packed = URL_SAFE_NO_PAD.decode(text).map_err(|_| CursorError::Malformed)?;
        let (form, places): (u8, Vec<(i64, i64)>) =
            postcard::from_bytes(&packed).map_err(|_| CursorError::Malformed)?;
        let cursor = Self(places.iter().copied().collect());
        let sound = form == FORM && cursor.0.len() == places.len() && places.iter().all(|(_, position)| *position >= 0);
        if sound { Ok(cursor) } else { Err(CursorError::Malformed) }
    }

    /// Where reading goes on in the lanes that have more.
    ///
    /// # Errors
    /// If this is not a place in this trail.
    pub fn behind(&self, lanes: &[Lane]) -> Result<Vec<Place>, CursorError> {
        if self.0.keys().any(|lane| lanes.iter().all(|known| known.head.link.place.lane != *lane)) {
            return Err(CursorError::Ahead);
        }
        let mut places = Vec::new();
        for Lane { base, head } in lanes {
            let (lane, base, head) = (head.link.place.lane, base.link.place.position, head.link.place.position);
            // A lane that was none when the cursor was made is read from its beginning.
            let position = self.0.get(&lane).copied().unwrap_or(0);
            if position > head {
                return Err(CursorError::Ahead);
            }
            if position < base {
                return Err(CursorError::Removed);
            }
            if position < head {
                places.push(Place { lane, position });
            }
        }
        Ok(places)
    }

    /// The event there was read.
    pub fn advance(&mut self, place: Place) {
        self.0.insert(place.lane, place.position);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        crypto::audit_chain::NOTHING,
        store::port::{ChainLink, LaneEnd},
    };

    fn lane(lane: i64, base: i64, head: i64) -> Lane {
        let end = |position| LaneEnd { link: ChainLink { place: Place { lane, position }, hash: NOTHING }, mac: None };
        Lane { base: end(base), head: end(head) }
    }

    #[test]
    fn reading_goes_on_where_there_is_more() {
        let lanes = [lane(0, 0, 0), lane(1, 2, 5), lane(2, 0, 3)];
        let mut cursor = TrailCursor::beginning(&lanes);
        let place = |lane, position| Place { lane, position };
        assert_eq!(cursor.behind(&lanes), Ok(vec![place(1, 2), place(2, 0)]));
        cursor.advance(place(1, 5));
        assert_eq!(TrailCursor::read(&cursor.write()), Ok(cursor.clone()));
        assert_eq!(cursor.behind(&lanes), Ok(vec![place(2, 0)]));
        let end = TrailCursor::end(&lanes);
        assert_eq!(end.behind(&lanes), Ok(vec![]));
        let more = [lane(0, 0, 0), lane(1, 2, 5), lane(2, 0, 3), lane(3, 0, 1)];
        assert_eq!(end.behind(&more), Ok(vec![place(3, 0)]), "a lane that is new");
    }

    #[test]
    fn a_cursor_of_another_trail_is_refused() {
        let cursor = TrailCursor::end(&[lane(0, 0, 4), lane(1, 0, 4)]);
        assert_eq!(cursor.behind(&[lane(0, 0, 3), lane(1, 0, 9)]), Err(CursorError::Ahead));
        assert_eq!(cursor.behind(&[lane(0, 0, 4)]), Err(CursorError::Ahead));
        assert_eq!(cursor.behind(&[lane(0, 5, 9), lane(1, 0, 9)]), Err(CursorError::Removed));
    }

    #[test]
    fn what_somebody_made_up_is_no_cursor() {
        let packed = |value: &(u8, Vec<(i64, i64)>)| URL_SAFE_NO_PAD.encode(postcard::to_allocvec(value).unwrap());
        for text in [
            String::new(),
            "x".into(),
            "!".into(),
            "A".repeat(10_000),
            packed(&(2, vec![(0, 1)])),
            packed(&(1, vec![(0, 1), (0, 2)])),
            packed(&(1, vec![(0, -1)])),
        ] {
            assert_eq!(TrailCursor::read(&text), Err(CursorError::Malformed), "{text}");
        }
    }
}
