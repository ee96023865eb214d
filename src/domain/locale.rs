//! The language that messages are written in.

/// Why a text names no language.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not a language tag: use one such as de or pt-BR")]
pub struct LocaleError;

/// A BCP 47 tag: subtags of letters and digits with dashes between, at most 35 characters (RFC 5646 section 4.4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Locale(String);

impl Locale {
    /// Parses a tag. The language is folded to lower case, a region of two letters to upper case.
    pub fn parse(text: &str) -> Result<Self, LocaleError> {
        let subtags: Vec<&str> = text.split('-').collect();
        let fits = |tag: &&str| (1..=8).contains(&tag.len()) && tag.bytes().all(|b| b.is_ascii_alphanumeric());
        let language = subtags
            .first()
            .is_some_and(|tag| (2..=8).contains(&tag.len()) && tag.bytes().all(|b| b.is_ascii_alphabetic()));
        if text.len() > 35 || !language || !subtags.iter().all(fits) {
            return Err(LocaleError);
        }
        let folded = subtags.iter().enumerate().map(|(place, tag)| match (place, tag.len()) {
            (1.., 2) => tag.to_ascii_uppercase(),
            _ => tag.to_ascii_lowercase(),
        });
        Ok(Self(folded.collect::<Vec<_>>().join("-")))
    }

    /// A tag that was parsed before it was stored.
    pub const fn stored(text: String) -> Self {
        Self(text)
    }

    /// The tag.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The tag and what is more general, the nearest first: `pt-BR`, then `pt`.
    pub fn fallbacks(&self) -> impl Iterator<Item = &str> {
        std::iter::successors(Some(self.as_str()), |tag| tag.rsplit_once('-').map(|(front, _)| front))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_has_one_spelling_and_falls_back_to_its_language() {
        let tag = Locale::parse("PT-br").unwrap();
        assert_eq!(tag.as_str(), "pt-BR");
        assert_eq!(tag.fallbacks().collect::<Vec<_>>(), ["pt-BR", "pt"]);
        for bad in ["", "d", "de_DE", "../de", "de-", "de--DE", "12", "de-\u{e4}", "averylonglanguage"] {
            assert_eq!(Locale::parse(bad), Err(LocaleError), "{bad:?}");
        }
    }
}
