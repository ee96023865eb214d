//! The refresh decision: what to answer to a refresh token, given the family's counter.
//!
//! A refresh token is a pure function of (key, session, generation), so the whole state of a family is a small record,
//! and a lost answer can be given again bit for bit. The rules were model-checked; change one only with a history that
//! shows why.

use std::{cmp::Ordering, time::Duration};

use serde::{Deserialize, Serialize};

use super::time::Timestamp;

/// Late redeliveries at this many generations in a row are a replay: lost answers do not repeat like that, thieves do.
pub const LATE_LIMIT: u8 = 3;

/// How far the clocks of two nodes may be apart. A request that a node received this long after another made a generation
/// may well have been there before: two nodes, one 8 ms ahead, and a client with two calls under way are enough for a replay
/// that never was. It gives a thief nothing that the redelivery window does not.
pub const CLOCK_SKEW: Duration = Duration::from_millis(20);

/// The counter of a refresh-token family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Family {
    /// The newest generation, *c*. Sign-in hands out generation 0.
    pub generation: i64,
    /// When *c* was made.
    pub made_at: Timestamp,
    /// The HMAC key that *c* was made with, so that a redelivery is identical.
    pub key_id: i64,
    /// How many generations in a row, up to *c*, were redelivered late.
    pub late_streak: u8,
    /// Whether *c* itself was redelivered late; all tries at one *c* count once.
    pub late_now: bool,
}

impl Family {
    /// The family that a sign-in begins.
    pub const fn first(now: Timestamp, key_id: i64) -> Self {
        Self { generation: 0, made_at: now, key_id, late_streak: 0, late_now: false }
    }

    /// What two places that keep the counter know together. Either may have been left behind; the larger generation is the
    /// truth. It does not matter which is named first, nor how often they are merged.
    ///
    /// Two nodes of which one does not reach the hot state can make the same generation at two moments: the later one counts,
    /// so that nobody is taken for a thief.
    #[must_use]
    pub fn merged(self, other: Self) -> Self {
        match self.generation.cmp(&other.generation) {
            Ordering::Greater => self,
            Ordering::Less => other,
            Ordering::Equal => {
                let later = if (self.made_at, self.key_id) >= (other.made_at, other.key_id) { self } else { other };
                Self {
                    late_streak: self.late_streak.max(other.late_streak),
                    late_now: self.late_now || other.late_now,
                    ..later
                }
            }
        }
    }
}

/// What to do with a refresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Store this family and answer with its generation.
    Rotate {
        /// The family from now on.
        next: Family,
        /// The presented generation was newer than the record: state was lost. To be audited.
        state_lost: bool,
    },
    /// Answer with the current generation, as it was made. Nothing changes.
    Redeliver,
    /// Answer with the current generation and store this family, which remembers that the redelivery was late. To be audited.
    RedeliverLate {
        /// The family from now on.
        next: Family,
    },
    /// Several newer refreshes overtook this one while it was under way. Do nothing.
    Overtaken,
    /// A superseded token came back: end the session. To be audited.
    Replay,
}

/// How a refresh that is granted is answered, for those who count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// With a new generation.
    Rotated,
    /// The same, and state had been lost.
    RotatedStateLost,
    /// With the current generation again.
    Redelivered,
    /// The same, late.
    RedeliveredLate,
}

/// A refresh as it was presented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Presented {
    /// The generation *p* of the refresh token.
    pub generation: i64,
    /// When the request reached this node.
    pub arrived: Timestamp,
}

/// Decides. `now` is the moment of the decision and `key_id` the HMAC key that signs at that moment.
pub fn decide(family: &Family, presented: Presented, window: Duration, now: Timestamp, key_id: i64) -> Decision {
    let (current, p) = (family.generation, presented.generation);
    if p >= current {
        let state_lost = p > current;
        // A streak goes on only from generation to generation; what was lost with the state does not count against anybody.
        let late_streak = if family.late_now && !state_lost { family.late_streak } else { 0 };
        let next = Family { generation: p + 1, made_at: now, key_id, late_streak, late_now: false };
        return Decision::Rotate { next, state_lost };
    }
    if p == current - 1 {
        return if presented.arrived <= family.made_at.plus(window) || family.late_now {
            Decision::Redeliver
        } else if family.late_streak + 1 >= LATE_LIMIT {
            Decision::Replay
        } else {
            Decision::RedeliverLate { next: Family { late_streak: family.late_streak + 1, late_now: true, ..*family } }
        };
    }
    if presented.arrived >= family.made_at.plus(CLOCK_SKEW) {
        return Decision::Replay;
    }
    if p == current - 2 { Decision::Redeliver } else { Decision::Overtaken }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
