//! Text of others on somebody's terminal: names and tokens can hold what would do something to it, or to the order of letters.

use serde::Serialize;

use super::Failure;

/// With everything but letters, digits, ASCII and line ends escaped.
pub(super) fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c == '\n' { "\n".to_owned() } else { escaped(c, |c| c.escape_unicode().to_string()) })
        .collect()
}

/// The same on one line.
pub(super) fn on_one_line(text: &str) -> String {
    text.chars().map(|c| escaped(c, |c| c.escape_unicode().to_string())).collect()
}

/// JSON for people and programs, which is the same JSON with those characters escaped as JSON does.
pub(super) fn json(value: &impl Serialize) -> Result<String, Failure> {
    Ok(escaped_json(&serde_json::to_string_pretty(value)?))
}

/// The same on one line.
pub(super) fn json_line(value: &impl Serialize) -> Result<String, Failure> {
    Ok(escaped_json(&serde_json::to_string(value)?))
}

fn escaped_json(text: &str) -> String {
    // Outside of strings JSON has ASCII only.
    let unit = |c: char| {
        let units: Vec<_> = c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect();
        units.concat()
    };
    text.chars().map(|c| if c == '\n' { "\n".to_owned() } else { escaped(c, unit) }).collect()
}

fn escaped(c: char, escape: impl Fn(char) -> String) -> String {
    if matches!(c, ' '..='~') || c.is_alphanumeric() { c.to_string() } else { escape(c) }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json as value};

    use super::*;

    const HOSTILE: &str = "a\u{1b}[31m\u{9b}\u{202e}\r\u{7f}ä中\u{1f600}";

    #[test]
    fn nothing_reaches_the_terminal_raw() {
        assert_eq!(plain(HOSTILE), "a\\u{1b}[31m\\u{9b}\\u{202e}\\u{d}\\u{7f}ä中\\u{1f600}");
        assert_eq!((plain("a\nb"), on_one_line("a\nb")), ("a\nb".to_owned(), "a\\u{a}b".to_owned()));
    }

    #[test]
    fn json_stays_json_and_means_the_same() {
        let hostile = value!({ "name": HOSTILE, HOSTILE: ["\n"] });
        let text = json(&hostile).unwrap();
        assert!(text.chars().all(|c| c == '\n' || matches!(c, ' '..='~') || c.is_alphanumeric()), "{text:?}");
        assert!(text.contains("\\ud83d\\ude00"), "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), hostile);
    }
}
