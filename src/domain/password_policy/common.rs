//! Passwords that many people have. Where the list comes from stands beside it.

use zeroize::Zeroizing;

/// One a line, folded, in the order of bytes.
const LIST: &str = include_str!("blocklist/common-passwords.txt");

/// Whether a folded password is in the list, as it is or under its decorations: signs between its letters, signs and digits
/// before and after, or again and again. What is under them must be at least half of it: the rest could be a password by itself.
pub(super) fn is_common(folded: &str) -> bool {
    let condensed: Zeroizing<String> = Zeroizing::new(folded.chars().filter(|c| c.is_alphanumeric()).collect());
    let core = condensed.trim_matches(|c: char| !c.is_alphabetic());
    let is_most = |part: &str| part.chars().count() * 2 >= folded.chars().count();
    is_listed(folded) || [&condensed, core].into_iter().any(|part| is_most(part) && is_listed(once(part)))
}

/// The part that a text repeats from end to end; the whole text, if it repeats none.
fn once(text: &str) -> &str {
    let starts = text.char_indices().map(|(at, _)| at).filter(|at| *at > 0 && text.len().is_multiple_of(*at));
    // One that begins as it goes on from there on, and fits in evenly, does nothing else.
    let again = |at: &usize| text.as_bytes()[*at..] == text.as_bytes()[..text.len() - at];
    starts.take_while(|at| *at <= text.len() / 2).find(again).map_or(text, |at| &text[..at])
}

/// Looks a line up, by halves.
fn is_listed(word: &str) -> bool {
    let mut rest = LIST.as_bytes();
    while !rest.is_empty() {
        let middle = rest.len() / 2;
        let begin = rest[..middle].iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        let end = rest[middle..].iter().position(|b| *b == b'\n').map_or(rest.len(), |at| middle + at);
        match rest[begin..end].cmp(word.as_bytes()) {
            std::cmp::Ordering::Equal => return true,
            std::cmp::Ordering::Less => rest = rest.get(end + 1..).unwrap_or_default(),
            std::cmp::Ordering::Greater => rest = &rest[..begin],
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::password_policy::fold;

    #[test]
    fn the_list_is_sorted_folded_and_each_of_it_is_found() {
        let lines: Vec<&str> = LIST.lines().collect();
        assert!(lines.len() > 19_000 && LIST.ends_with('\n'));
        assert!(lines.is_sorted_by(|a, b| a.as_bytes() < b.as_bytes()));
        for line in lines {
            assert_eq!(fold(line).as_str(), line);
            assert!(is_listed(line), "{line}");
            assert!(is_common(line), "{line}");
        }
    }

    #[test]
    fn what_is_not_in_the_list_is_not_found() {
        for absent in ["", "\n", "password\n", "passwor", "zzzzzzzzzzzzz-not-there", "\u{10ffff}", "!", "0000 not"] {
            assert!(!is_listed(absent), "{absent:?}");
        }
    }

    #[test]
    fn repetitions_are_seen_whatever_they_are_of() {
        for (text, part) in [("abab", "ab"), ("aaa", "a"), ("äöäö", "äö"), ("ababa", "ababa"), ("", ""), ("a", "a")]
        {
            assert_eq!(once(text), part);
        }
    }

    #[test]
    fn decorations_do_not_help() {
        for common in [
            "password!!",
            "123password456",
            "p-a-s-s-w-o-r-d",
            "qwertyuiop",
            "!football1",
            "pass word",
            "password-PASSWORD",
            "Dragon dragon dragon 1",
        ] {
            assert!(is_common(&fold(common)), "{common}");
        }
        for other in ["password of a lake", "football correct horse", "love 2934850192384", "batteries staple"] {
            assert!(!is_common(other), "{other}");
        }
    }
}
