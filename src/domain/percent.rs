//! Text as part of a URI.

use std::fmt::Write as _;

/// RFC 3986 section 2.1: percent-encoded but for the unreserved characters, which mean nothing in any part of a URI. A space is `%20`, not
/// the `+` of forms, which some readers would show.
pub fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unreserved_characters_stay() {
        assert_eq!(percent_encoded("aZ09-._~"), "aZ09-._~");
        assert_eq!(percent_encoded("a b&c=d/\u{e4}%+"), "a%20b%26c%3Dd%2F%C3%A4%25%2B");
    }
}
