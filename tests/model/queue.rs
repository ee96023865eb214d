//! What happens when: a binary heap. Written out, because without optimisation the one of the standard library takes most of
//! the model's time.

use crate::world::Event;

/// Events in the order of their time, and of their coming where that is the same.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// The moment, above the place of the event.
    keys: Vec<u64>,
    events: Vec<Event>,
}

const PLACE: u32 = 32;

impl Queue {
    /// `moment` is counted from the beginning.
    pub(crate) fn push(&mut self, moment: u64, event: Event) {
        let key = moment << PLACE | self.events.len() as u64;
        self.events.push(event);
        self.keys.push(key);
        let keys = &mut self.keys[..];
        let mut at = keys.len() - 1;
        while at > 0 {
            let above = (at - 1) / 2;
            if keys[above] <= key {
                break;
            }
            keys[at] = keys[above];
            at = above;
        }
        keys[at] = key;
    }

    pub(crate) fn pop(&mut self) -> Option<(u64, Event)> {
        let last = self.keys.pop()?;
        let keys = &mut self.keys[..];
        let mut first = last;
        if !keys.is_empty() {
            first = keys[0];
            let (mut at, mut below) = (0, 1);
            while below < keys.len() {
                if below + 1 < keys.len() && keys[below + 1] < keys[below] {
                    below += 1;
                }
                if last <= keys[below] {
                    break;
                }
                keys[at] = keys[below];
                (at, below) = (below, 2 * below + 1);
            }
            keys[at] = last;
        }
        let place = usize::try_from(first & ((1 << PLACE) - 1)).unwrap_or(usize::MAX);
        Some((first >> PLACE, self.events[place]))
    }
}
