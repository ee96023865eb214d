//! Words that whoever guesses a certain account's password tries first: what is known of its owner, and of the service.

use zeroize::Zeroizing;

/// Shorter words are in too many good passwords.
const MIN_WORD: usize = 4;
/// More words than anybody's name and address are made of.
const MAX_WORDS: usize = 48;

/// The words, folded, the longest first.
#[derive(Clone, Default)]
pub struct ContextWords(Vec<String>);

impl ContextWords {
    /// Out of addresses, names and titles: each as a whole, and what it is made of. Of an address the last label of the domain
    /// does not count; it says nothing of anybody.
    pub fn of<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        let mut words = Vec::new();
        for text in texts {
            let folded = super::fold(text);
            match folded.rsplit_once('@') {
                Some((local, domain)) => {
                    add_parts(&mut words, local);
                    add_labels(&mut words, domain);
                }
                None => add_parts(&mut words, &folded),
            }
        }
        Self(words).sorted()
    }

    /// Those of a service, by its issuer. A URL's host counts, of another issuer everything.
    pub fn of_issuer(issuer: &str) -> Self {
        let mut words = vec!["vouchsafe".to_owned()];
        let folded = super::fold(issuer);
        match folded.split_once("://") {
            Some((_, rest)) => {
                let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
                add_labels(&mut words, host.rsplit_once(':').map_or(host, |(host, _)| host));
            }
            None => add_parts(&mut words, &folded),
        }
        Self(words).sorted()
    }

    /// These and those.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        Self(self.0.iter().chain(&other.0).cloned().collect()).sorted()
    }

    /// The words.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    fn sorted(mut self) -> Self {
        self.0.retain(|word| word.chars().count() >= MIN_WORD);
        self.0.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        self.0.dedup();
        self.0.truncate(MAX_WORDS);
        self
    }

    /// Whether a folded password is these words and little else: they are half of it or more, and what is left has fewer than
    /// `least` characters, so that it would not do by itself.
    pub(super) fn make_up(&self, folded: &str, least: usize) -> bool {
        // Without what people put between words, which is how the words are kept.
        let mut rest: Zeroizing<String> = Zeroizing::new(folded.chars().filter(|c| c.is_alphanumeric()).collect());
        let before = rest.chars().count();
        for word in self.iter() {
            // Something stays where it was, or else the parts around it could make a word that nobody wrote.
            rest = Zeroizing::new(rest.replace(word, "\0"));
        }
        let taken = before - rest.chars().filter(|c| *c != '\0').count();
        let all = folded.chars().count();
        taken * 2 >= all && all - taken < least
    }
}

impl std::fmt::Debug for ContextWords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ContextWords([redacted])")
    }
}

fn add_parts(words: &mut Vec<String>, text: &str) {
    let parts = || text.split(|c: char| !c.is_alphanumeric()).filter(|part| !part.is_empty());
    words.push(parts().collect());
    words.extend(parts().map(str::to_owned));
}

fn add_labels(words: &mut Vec<String>, domain: &str) {
    match domain.rsplit_once('.') {
        Some((labels, _)) => labels.split('.').for_each(|label| add_parts(words, label)),
        None => add_parts(words, domain),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(texts: &[&str]) -> Vec<String> {
        ContextWords::of(texts.iter().copied()).0
    }

    #[test]
    fn an_address_a_name_and_a_host_are_taken_apart() {
        let parts = words(&["Ada.Lovelace+shop@Mail.example-host.co.uk"]);
        assert_eq!(parts, ["adalovelaceshop", "examplehost", "lovelace", "example", "host", "mail", "shop"]);
        assert_eq!(words(&["ada", "", "Ada K. Lovelace"]), ["adaklovelace", "lovelace"], "short ones do not count");
        assert_eq!(words(&["Ünal Çelik"]), ["ünalçelik", "çelik", "ünal"]);
        let host = |issuer| ContextWords::of_issuer(issuer).0;
        assert_eq!(
            host("https://login.Acme-Tools.com:8443/id?x"),
            ["acmetools", "vouchsafe", "login", "tools", "acme"]
        );
        assert_eq!(host("http://localhost:50052"), ["localhost", "vouchsafe"]);
        assert_eq!(host("urn:acme:identity"), ["urnacmeidentity", "vouchsafe", "identity", "acme"]);
    }

    #[test]
    fn a_password_must_be_more_than_context() {
        let words = ContextWords::of(["ada.lovelace@example.com", "countess", "Augusta Ada King"])
            .and(&ContextWords::of_issuer("https://id.acme.test"));
        for made_of in [
            "adalovelace12345",
            "lovelace-countess",
            "my name lovelace",
            "countesscountess1",
            "ada.lovelace@example.com",
        ] {
            assert!(words.make_up(made_of, 15), "{made_of}");
        }
        for other in [
            "correct horse battery staple",
            "lovelace engine poem 1843",
            "vouchsafe me a secret garden",
            "augury ada kind of",
            "lovelace countess plus fifteen other characters",
        ] {
            assert!(!words.make_up(other, 15), "{other}");
        }
        // Where eight will do, what is left must have eight.
        assert!(words.make_up("lovelace1234567", 8));
        assert!(!words.make_up("lovelace12345678", 8));
    }

    #[test]
    fn words_do_not_arise_from_what_is_left() {
        let words = ContextWords::of(["lovelace", "engine"]);
        assert!(!words.make_up("englovelaceine", 6), "6 of 14 are left and they are no word");
        assert!(words.make_up("englovelaceine", 7));
    }

    #[test]
    fn a_crowd_of_words_is_cut() {
        let many: Vec<String> = (1000..1500).map(|n| format!("word{n}")).collect();
        assert_eq!(words(&[&many.join(" ")]).len(), MAX_WORDS);
    }
}
