//! How hard a password is to guess, by zxcvbn, which knows words, names, dates, keyboards and their usual disguises.

use zeroize::Zeroizing;
use zxcvbn::feedback::{Suggestion, Warning};

use super::ContextWords;
use crate::domain::password::Password;

/// So many characters are looked at; the rest can only make a password stronger. The work grows faster than the length.
const MAX_CHARS: usize = 64;

/// Characters that zxcvbn tries as other letters: `4` as `a`, `$` as `s`.
const DISGUISES: &str = "4@8({[<3691!|70$5+%2";
/// So many different ones are left to it. It tries all their readings together, and each multiplies the work: with all of them
/// 64 characters took half a second of a core, with four at most 16 ms, and usual passwords one.
const MAX_DISGUISES: usize = 4;
/// What others become: characters that stand for nothing else, from here on, each its own. So far apart that they are no sequence.
const PLAIN: u32 = 0x2190;
const APART: u32 = 7;

/// What of a password goes into the estimate, so that no password makes much work.
pub struct Estimable {
    /// The password as it is up to its first few kinds of disguises, which sees through those; and, where that cuts any, with all its
    /// digits and no sign that is one, which sees dates, years and sequences.
    readings: Vec<Zeroizing<String>>,
    words: Vec<String>,
}

/// How hard a password is to guess.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// From 0, by the first hundred or so guesses, to 4, by none that anybody could afford.
    pub score: u8,
    /// What makes it easy and what would be better. Says nothing of the password itself.
    pub advice: String,
}

impl Estimable {
    /// Cuts a password.
    pub fn of(password: &Password, words: &ContextWords) -> Self {
        let mut disguises = [None; MAX_DISGUISES];
        let few = |c: char| {
            if !DISGUISES.contains(c) || disguises.contains(&Some(c)) {
                return c;
            }
            match disguises.iter_mut().find(|seen| seen.is_none()) {
                Some(free) => *free.insert(c),
                None => plain(c),
            }
        };
        let digits = |c: char| if c.is_ascii_digit() { c } else { plain(c) };
        let chars = || password.text().chars().take(MAX_CHARS);
        let whole: Zeroizing<String> = Zeroizing::new(chars().collect());
        let mut readings: Vec<Zeroizing<String>> = vec![Zeroizing::new(chars().map(few).collect())];
        if readings[0] != whole {
            readings.push(Zeroizing::new(chars().map(digits).collect()));
        }
        Self { readings, words: words.iter().map(str::to_owned).collect() }
    }

    /// Estimates it, by the reading that makes it easiest. Takes a millisecond, or, for one that was made to take long, some more.
    pub fn estimate(&self) -> Estimate {
        let words: Vec<&str> = self.words.iter().map(String::as_str).collect();
        let estimates = self.readings.iter().map(|text| estimate(text, &words));
        // There is always one.
        estimates.min_by_key(|estimate| estimate.score).unwrap_or(Estimate { score: 0, advice: String::new() })
    }
}

fn estimate(text: &str, words: &[&str]) -> Estimate {
    let entropy = zxcvbn::zxcvbn(text, words);
    let (warning, suggestions) =
        entropy.feedback().map_or((None, &[][..]), |feedback| (feedback.warning(), feedback.suggestions()));
    Estimate { score: entropy.score().into(), advice: advice(warning, suggestions) }
}

/// The character itself, or, of one that zxcvbn tries as a letter, one that it does not.
fn plain(c: char) -> char {
    let place = DISGUISES.chars().zip(0..).find(|(disguise, _)| *disguise == c);
    place.and_then(|(_, place)| char::from_u32(PLAIN + APART * place)).unwrap_or(c)
}

fn advice(warning: Option<Warning>, suggestions: &[Suggestion]) -> String {
    let mut text = warning.map_or("it is made of parts that are tried early", because).to_owned();
    text.push_str("; ");
    let mut parts: Vec<&str> = suggestions.iter().copied().filter_map(instead).collect();
    parts.dedup();
    if parts.is_empty() {
        parts.push("add another word or two, the less usual the better");
    }
    text.push_str(&parts.join(", "));
    text
}

const fn because(warning: Warning) -> &'static str {
    match warning {
        Warning::StraightRowsOfKeysAreEasyToGuess => "rows of keys are tried early",
        Warning::ShortKeyboardPatternsAreEasyToGuess => "patterns on the keyboard are tried early",
        Warning::RepeatsLikeAaaAreEasyToGuess => "one character again and again adds little",
        Warning::RepeatsLikeAbcAbcAreOnlySlightlyHarderToGuess => "the same again and again is hardly harder than once",
        Warning::ThisIsATop10Password | Warning::ThisIsATop100Password | Warning::ThisIsACommonPassword => {
            "many people have this password"
        }
        Warning::ThisIsSimilarToACommonlyUsedPassword => "it is much like a password that many people have",
        Warning::SequencesLikeAbcAreEasyToGuess => "sequences of letters or digits are tried early",
        Warning::RecentYearsAreEasyToGuess => "years are tried early",
        Warning::AWordByItselfIsEasyToGuess => "one word by itself is tried early",
        Warning::DatesAreOftenEasyToGuess => "dates are tried early",
        Warning::NamesAndSurnamesByThemselvesAreEasyToGuess => "a name by itself is tried early",
        Warning::CommonNamesAndSurnamesAreEasyToGuess => "names are tried early",
    }
}

const fn instead(suggestion: Suggestion) -> Option<&'static str> {
    Some(match suggestion {
        Suggestion::UseAFewWordsAvoidCommonPhrases => "use a few words that do not belong together",
        Suggestion::AddAnotherWordOrTwo => "add another word or two, the less usual the better",
        Suggestion::CapitalizationDoesntHelpVeryMuch | Suggestion::AllUppercaseIsAlmostAsEasyToGuessAsAllLowercase => {
            "capitals help little"
        }
        Suggestion::ReversedWordsArentMuchHarderToGuess => "words written backwards help little",
        Suggestion::PredictableSubstitutionsDontHelpVeryMuch => "signs and digits in place of letters help little",
        Suggestion::UseALongerKeyboardPatternWithMoreTurns => "use words instead of keys that lie together",
        Suggestion::AvoidRepeatedWordsAndCharacters => "avoid repetitions",
        Suggestion::AvoidSequences => "avoid sequences",
        Suggestion::AvoidRecentYears => "avoid years",
        Suggestion::AvoidYearsThatAreAssociatedWithYou | Suggestion::AvoidDatesAndYearsThatAreAssociatedWithYou => {
            "avoid dates and years that have to do with you"
        }
        Suggestion::NoNeedForSymbolsDigitsOrUppercaseLetters => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn fed(text: &str) -> String {
        Estimable::of(&Password::presented(text).unwrap(), &ContextWords::default()).readings[0].to_string()
    }

    fn estimate(text: &str) -> Estimate {
        Estimable::of(&Password::presented(text).unwrap(), &ContextWords::default()).estimate()
    }

    /// The letters that zxcvbn takes disguises for, each with its disguises.
    const LETTERS: [&str; 12] = ["4@", "8", "({[<", "3", "69", "1!|", "1|7", "0", "$5", "+7", "%", "2"];

    /// In how many ways zxcvbn reads a text, at most: one disguise for each letter, and what may be two letters as either. It looks each
    /// way up in all its lists, so that these and the length are its work.
    fn ways(text: &str) -> usize {
        let ways_of = |disguises: &str| {
            let present: Vec<char> = disguises.chars().filter(|c| text.contains(*c)).collect();
            let is_two = |c: &char| LETTERS.iter().filter(|others| others.contains(*c)).count() > 1;
            present.len() * if present.iter().any(is_two) { 2 } else { 1 }
        };
        LETTERS.into_iter().map(ways_of).filter(|ways| *ways > 0).product()
    }

    /// The work is bounded by what goes in, whatever a password is made of; and that is what is estimated.
    #[test]
    fn no_password_makes_much_work() {
        const MOST: usize = 96;
        assert_eq!(LETTERS.concat().chars().collect::<BTreeSet<_>>(), DISGUISES.chars().collect());
        assert!(ways(DISGUISES) > 40 * MOST, "{}", ways(DISGUISES));
        for (shape, score) in [
            (DISGUISES, 4),
            ("a", 0),
            ("🦀", 0),
            ("1928374650", 2),
            ("p@55w0rd1!7+$|", 4),
            ("kJ8#x!qP0zL$mW3@vT7&nB5^cR1*hF9(yD2)gS6_aE4+uI", 4),
            // The four that are read in the most ways.
            ("1|7+", 1),
        ] {
            let most = 1024 / shape.chars().map(char::len_utf8).max().unwrap();
            let text: String = shape.chars().cycle().take(most).collect();
            let estimable = Estimable::of(&Password::presented(&text).unwrap(), &ContextWords::default());
            assert!((1..=2).contains(&estimable.readings.len()), "{shape}");
            for reading in &estimable.readings {
                assert_eq!(reading.chars().count(), 64, "{shape}");
                assert!(ways(reading) <= MOST, "{shape}: {} of {}", ways(reading), **reading);
            }
            assert_eq!(estimable.estimate().score, score, "{shape}");
        }
    }

    #[test]
    fn what_is_usual_goes_in_as_it_is() {
        for usual in ["correct horse battery staple", "p@$$w0rd!", "Grüße aus Köln 🦀", "1843"] {
            assert_eq!(fed(usual), usual);
        }
        let cut: String = ["1234", "x1"].join(&"567".chars().map(plain).collect::<String>());
        assert_eq!(fed("1234567x1"), cut, "the fifth kind is no disguise any more");
    }

    /// With more kinds of digits than are left as disguises, a date is still one.
    #[test]
    fn digits_are_seen_as_what_they_are() {
        for guessable in ["23.05.198712345", "1234567890123456"] {
            let estimate = estimate(guessable);
            assert!(estimate.score < 3, "{guessable}: {estimate:?}");
        }
        // Signs side by side are not taken for one sign again and again.
        assert_eq!(estimate("+%|{$(7!<5[@0&8").score, 4);
    }

    #[test]
    fn guessable_passwords_are_known_with_advice() {
        for (text, part) in [
            ("aaaaaaaaaaaaaaaaaaaa", "again and again"),
            ("abcdefghijklmnopqrstuvwxyz", "sequences"),
            ("qwertyuiopqwertyuiop", "again and again"),
            ("passwordpassword", "again"),
        ] {
            let Estimate { score, advice } = estimate(text);
            assert!(score < 3 && advice.contains(part), "{text}: {score}, {advice}");
        }
        assert_eq!(estimate("correct horse battery staple").score, 4);
        assert_eq!(estimate("xK9#mQ2v").score, 2, "eight random characters, which do beside a second factor");
    }

    /// zxcvbn counts the turns of a way over the keyboard in numbers that are too small for this one.
    #[test]
    fn a_long_way_over_the_keyboard_is_no_panic() {
        assert!(estimate(&"qa".repeat(32)).score < 3);
        for walk in ["qaqwsedrftgyhujikolp", "zaq1xsw2cde3vfr4bgt5nhy6mju7", "1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik,9ol.0p;/"]
        {
            estimate(&walk.chars().cycle().take(64).collect::<String>());
        }
    }

    #[test]
    fn words_of_the_context_are_worth_little() {
        let password = Password::presented("lovelacecountess").unwrap();
        let words = ContextWords::of(["ada.lovelace@example.com", "countess"]);
        let with = Estimable::of(&password, &words).estimate().score;
        assert!(with < estimate("lovelacecountess").score, "{with}");
    }
}
