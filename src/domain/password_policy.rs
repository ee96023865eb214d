//! Which passwords may be chosen (NIST SP 800-63B-4 §3.1.1.2): long enough, not common, not made of what is known of their
//! owner, and not easy to guess. No rule asks for kinds of characters, and none makes anybody change a good password.
//!
//! What is said of a refused password never repeats any of it.

use zeroize::Zeroizing;

use super::password::{MIN_CHARS, Password};

mod common;
mod context;
mod strength;

pub use self::{
    context::ContextWords,
    strength::{Estimable, Estimate},
};

/// The fewest characters of a password beside which a second factor stands.
pub const MIN_CHARS_WITH_SECOND_FACTOR: usize = 8;

/// The highest demand on strength there is.
pub const MAX_STRENGTH: u8 = 4;

/// The most former passwords of a user that are kept.
pub const MAX_HISTORY: u32 = 24;

/// Why a password must not be chosen. The text is for whoever chose it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Weakness {
    /// Fewer characters than are needed.
    #[error("is too short: use at least {least} characters, for instance {}", if *.least < MIN_CHARS { "three unrelated words" } else { "four unrelated words" })]
    TooShort {
        /// How many are needed.
        least: usize,
    },
    /// Many people have it.
    #[error(
        "is one of the passwords that everybody tries first, or little more than that: use another, for instance four unrelated words"
    )]
    Common,
    /// It is made of what others know of its owner, or of the name of the service.
    #[error(
        "is made of your address, your name or the name of this service: use words that have nothing to do with you or with it"
    )]
    Personal,
    /// It is easy to guess.
    #[error("is too easy to guess: {advice}")]
    Guessable {
        /// What makes it so, and what would be better.
        advice: String,
    },
    /// It is in a list of passwords that got out somewhere.
    #[error(
        "is in a list of passwords that were stolen from some service, which is where guessing begins: use another, and change it wherever else you use it"
    )]
    Breached,
    /// The account has it, or had it not long ago.
    #[error("is the one in force or one of those before it: use one that this account did not have yet")]
    Known,
}

/// How many characters a password needs.
pub const fn least_chars(second_factor: bool) -> usize {
    if second_factor { MIN_CHARS_WITH_SECOND_FACTOR } else { MIN_CHARS }
}

/// The strength that is asked for where `wanted` is. Beside a second factor one step less: eight random characters, which must
/// do there, are of the second.
pub const fn least_strength(wanted: u8, second_factor: bool) -> u8 {
    if second_factor { wanted.saturating_sub(1) } else { wanted }
}

/// The rules that cost next to nothing: length, common passwords, context. The first that is broken.
///
/// # Errors
/// Which it is.
pub fn check(password: &Password, words: &ContextWords, second_factor: bool) -> Result<(), Weakness> {
    let least = least_chars(second_factor);
    let chars = password.text().chars().count();
    if chars < least {
        return Err(Weakness::TooShort { least });
    }
    let folded = fold(password.text());
    if common::is_common(&folded) {
        return Err(Weakness::Common);
    }
    if words.make_up(&folded, least) { Err(Weakness::Personal) } else { Ok(()) }
}

/// A text with upper and lower case made one. It is in NFC already.
fn fold(text: &str) -> Zeroizing<String> {
    Zeroizing::new(text.to_lowercase())
}

#[cfg(test)]
mod tests;
