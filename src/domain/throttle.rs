//! How guessing is slowed.
//!
//! Two kinds of arithmetic. [`Steps`] counts what was guessed at one target in a row: a few guesses are free, then each waits twice
//! as long as the one before, and from a cap on no guess is looked at before a long time without any, unless the owner proves who
//! they are in another way. [`Rate`] spreads what comes from one place evenly (GCRA, the virtual scheduling of ITU-T I.371): all that is
//! remembered is the moment up to which it is spent.
//!
//! A clock that is set back gives no guess and makes nobody wait for what it was wrong by: what was counted stays counted, and a moment
//! that lies ahead counts as now.

use std::{net::IpAddr, time::Duration};

use serde::{Deserialize, Serialize};

use super::time::{Timestamp, micros};

/// Without a guess for so long, a target is as if nobody had ever guessed.
pub const QUIET: Duration = Duration::from_hours(30 * 24);
/// Targets at which but one guess went wrong are forgotten sooner: whoever tries one password with everybody shall not fill the
/// database for a month. It gives away one guess a day, no more than the cap does in its month.
pub const HARDLY_QUIET: Duration = Duration::from_hours(24);
/// The longest that anybody is told to wait.
pub const LONGEST_WAIT: Duration = Duration::from_mins(15);

/// NIST SP 800-63B-4 §3.2.2: no more than 100 failed attempts in a row on one account, by passwords and second factors.
const MOST_PER_ACCOUNT: u32 = 100;
/// Names by which one account is signed in to, each counted for itself: its e-mail address and its user name. Were they counted
/// together, it would show that they belong together.
const NAMES: u32 = 2;
/// Guesses that nobody waits for.
const FREE: u32 = 5;
/// The first wait.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// How the waits at one target grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steps {
    free: u32,
    longest: Duration,
    cap: Option<u32>,
}

impl Steps {
    /// The least and the most that [`Steps::identifier`] takes. With the most, 45 by the address, 45 by the user name and 10 by second
    /// factors make the 100 that an account may have.
    pub const CAPS: std::ops::RangeInclusive<u32> = 5..=45;

    /// At a known device, for passwords, second factors and codes that were sent together. Only its holder can guess there, who once
    /// signed in with every factor, so these come on top of what strangers may: those have their 100, and what they do at a second
    /// factor they do at [`Steps::account`]. At its cap a device counts as a stranger's, and adds nothing to these either.
    ///
    /// The same at a session, for what its holder proves once more.
    pub const DEVICE: Self = Self::capped(10);

    /// At a service account's secret. Its 256 bits are not to be guessed: the waits are for whoever calls again and again with a
    /// wrong one, and a cap would only let strangers shut a service out.
    pub const CLIENT: Self = Self { free: 20, longest: Duration::from_mins(1), cap: None };

    /// At codes that were sent to sign in with, for an identifier as it was typed. No cap: strangers can ask for codes and guess at them,
    /// and the owner, whom wrong passwords have locked out, must still come in by one. A code stands five guesses and ten minutes, has
    /// eight digits, and as many are sent in an hour as the budget of messages has, so that of all guesses that there can be in a year
    /// one in hundreds of accounts is right, in whose mailbox there are ninety thousand codes by then. The waits are short, because it is
    /// the owner who waits for what strangers guess. And at recovery codes, whose 80 bits are not to be guessed (NIST SP 800-63B-4 asks for
    /// a limit below 64): whoever has the password and guesses at the app must not keep the owner from the way out that is left.
    pub const CODE: Self = Self { free: FREE, longest: Duration::from_secs(10), cap: None };

    /// At an identifier as it was typed.
    pub const fn identifier(cap: u32) -> Self {
        Self::capped(cap)
    }

    /// At codes and passwords of an account that was got into with the first of them: as many as `cap`, and no more than the account's
    /// two names leave of the 100.
    pub const fn account(cap: u32) -> Self {
        let left = MOST_PER_ACCOUNT.saturating_sub(NAMES * cap);
        Self::capped(if cap < left { cap } else { left })
    }

    const fn capped(cap: u32) -> Self {
        let free = if cap < FREE { cap } else { FREE };
        Self { free, longest: LONGEST_WAIT, cap: Some(cap) }
    }

    /// How long after the last of so many failures no other guess is looked at.
    pub fn wait(&self, failures: u32) -> Duration {
        if self.cap.is_some_and(|cap| failures >= cap) {
            return QUIET;
        }
        match failures.checked_sub(self.free) {
            None => Duration::ZERO,
            // Beyond 20 doublings every longest wait is shorter.
            Some(doublings) => (FIRST_WAIT * (1 << doublings.min(20))).min(self.longest),
        }
    }

    /// Whether a wait that somebody was told is that of the cap: longer than any before it. Of a month at the cap only the last moments
    /// look like another wait.
    pub fn is_of_cap(&self, wait: Duration) -> bool {
        self.cap.is_some_and(|cap| wait > self.wait(cap.saturating_sub(1)))
    }

    /// All the waits in microseconds, by the number of failures, up to where they grow no more; what is beyond waits as the last one.
    pub fn waits(&self) -> Vec<i64> {
        // Without a cap the longest is reached after at most 20 doublings.
        (0..=self.cap.unwrap_or(self.free + 20)).map(|failures| micros(self.wait(failures))).collect()
    }

    /// When another guess may be made after so many failures, the last of them at `last`; `None`: now.
    pub fn retry_after(&self, failures: u32, last: Timestamp, now: Timestamp) -> Option<Duration> {
        let left = self.wait(failures).checked_sub(now.since(last))?;
        (!left.is_zero()).then_some(left.min(LONGEST_WAIT))
    }
}

/// So many in a time, evenly, and some of them at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// What one of them takes, in microseconds.
    each: i64,
    /// How far ahead may be spent, in microseconds.
    ahead: i64,
}

impl Rate {
    /// So many a minute, as many at once; `None` for none, which says that there is no limit.
    pub fn per_minute(number: u32) -> Option<Self> {
        (number > 0).then(|| Self::of(Duration::from_mins(1), number, number))
    }

    /// So many an hour, and `burst` of them at once.
    pub fn per_hour(number: u32, burst: u32) -> Self {
        Self::of(Duration::from_hours(1), number.max(1), burst.clamp(1, number.max(1)))
    }

    fn of(period: Duration, number: u32, burst: u32) -> Self {
        let each = (micros(period) / i64::from(number)).max(1);
        Self { each, ahead: each * i64::from(burst) }
    }

    /// What one takes, in microseconds.
    pub const fn each(self) -> i64 {
        self.each
    }

    /// How far ahead of now may be spent, in microseconds.
    pub const fn ahead(self) -> i64 {
        self.ahead
    }

    /// When another one has room, if it is spent up to `spent`; `None`: now.
    pub fn retry_after(self, spent: Spent, now: Timestamp) -> Option<Duration> {
        let over = self.base(spent, now) + self.each - self.ahead - now.as_micros();
        u64::try_from(over).ok().filter(|over| *over > 0).map(Duration::from_micros)
    }

    /// Spends `number` more, also where there is no room for them: they have happened. Nobody has to make up for more than
    /// [`LONGEST_WAIT`].
    #[must_use]
    pub fn spend(self, spent: Spent, number: u32, now: Timestamp) -> Spent {
        let wanted = self.base(spent, now).saturating_add(self.each.saturating_mul(i64::from(number)));
        Spent { until: Timestamp::from_micros(wanted.min(self.furthest(now).as_micros())) }
    }

    /// From where on is spent. More than can have been says that the clock was set back: then everything is, and no more.
    fn base(self, spent: Spent, now: Timestamp) -> i64 {
        let (until, now_micros) = (spent.until.as_micros(), now.as_micros());
        if spent.until > self.furthest(now) { now_micros + self.ahead } else { until.max(now_micros) }
    }

    /// The furthest that can have been spent by a clock that is right. What is beyond counts as [`Rate::ahead`].
    pub fn furthest(self, now: Timestamp) -> Timestamp {
        Timestamp::from_micros(now.as_micros() + self.ahead + micros(LONGEST_WAIT))
    }
}

/// How far something is spent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Spent {
    /// Up to this moment. One that is over says that nothing is.
    pub until: Timestamp,
}

/// What the operator allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThrottleLimits {
    /// At an identifier as it was typed.
    pub identifier: Steps,
    /// At what an account has besides its first password.
    pub account: Steps,
    /// Failures of one address. `None`: as many as there are.
    pub address: Option<Rate>,
    /// Failures altogether. `None`: as many as there are.
    pub overall: Option<Rate>,
    /// Messages to one recipient, and for one who is asked for.
    pub recipient: Rate,
    /// Messages altogether.
    pub messages: Rate,
}

/// What counts as one address: an IPv4 address, or the 64 bits in front of an IPv6 address, of which a household or a machine has all the
/// rest to choose from.
pub fn network_of(address: IpAddr) -> [u8; 9] {
    let mut network = [0; 9];
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            network[0] = 4;
            network[1..5].copy_from_slice(&v4.octets());
        }
        IpAddr::V6(v6) => {
            network[0] = 6;
            network[1..].copy_from_slice(&v6.octets()[..8]);
        }
    }
    network
}

#[cfg(test)]
mod tests;
