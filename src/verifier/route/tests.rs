use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;

fn normal(raw: &str) -> Result<(String, bool), PathError> {
    NormalPath::of(raw).map(|path| (path.as_str().to_owned(), path.is_as_written()))
}

fn fit(pattern: &str, raw: &str) -> Option<Fit> {
    PathPattern::parse(pattern).unwrap().fits(&NormalPath::of(raw).unwrap())
}

#[test]
fn a_path_has_one_form() {
    for (raw, form, as_written) in [
        ("/", "/", true),
        ("/orders/7?x=/../#y", "/orders/7", true),
        ("/orders/", "/orders/", true),
        ("/.well-known/x", "/.well-known/x", true),
        ("/a...b/..c", "/a...b/..c", true),
        ("/%61dmin", "/admin", false),
        ("/v1/users%3adelete", "/v1/users:delete", false),
        ("/caf%c3%a9/%20", "/caf%C3%A9/%20", true),
        ("/a|b", "/a%7Cb", false),
        ("//admin", "/admin", false),
        ("/x/../admin", "/admin", false),
        ("/x/./y/.", "/x/y/", false),
        ("/x/..", "/", false),
        ("/a//", "/a/", false),
        ("/100%25", "/100%25", true),
    ] {
        assert_eq!(normal(raw), Ok((form.to_owned(), as_written)), "{raw}");
    }
}

#[test]
fn what_no_honest_client_sends_is_refused() {
    use PathError as E;
    for (raw, error) in [
        ("", E::NotAbsolute),
        ("admin", E::NotAbsolute),
        ("*", E::NotAbsolute),
        ("?/admin", E::NotAbsolute),
        ("http://host/admin", E::NotAbsolute),
        ("/a b", E::Character),
        ("/a\tb", E::Character),
        ("/a\u{0}", E::Character),
        ("/é", E::Character),
        ("/a#b", E::Character),
        ("/%", E::Escape),
        ("/%4", E::Escape),
        ("/%zz", E::Escape),
        ("/%+1", E::Escape),
        ("/%00", E::NotText),
        ("/%0a", E::NotText),
        ("/%7F", E::NotText),
        ("/%ff", E::NotText),
        ("/%c0%af", E::NotText),
        ("/%c0%ae%c0%ae/admin", E::NotText),
        ("/x%2fadmin", E::Separator),
        ("/x%5Cadmin", E::Separator),
        ("/x\\admin", E::Separator),
        ("/admin;x", E::Parameters),
        ("/admin%3Bx", E::Parameters),
        ("/..;/admin", E::Parameters),
        ("/%2561dmin", E::Twice),
        ("/x/%2e%2e/admin", E::HiddenDots),
        ("/x/.%2E/admin", E::HiddenDots),
        ("/%2e/admin", E::HiddenDots),
        ("/..", E::AboveRoot),
        ("/x/../../admin", E::AboveRoot),
        ("/a//../admin", E::EmptyParent),
        ("/a//./../admin", E::EmptyParent),
        ("/a//b/../../admin", E::EmptyParent),
        ("//../admin", E::EmptyParent),
        ("/a//..", E::EmptyParent),
    ] {
        assert_eq!(normal(raw), Err(error), "{raw}");
    }
}

#[test]
fn patterns_fit_segments() {
    use Fit::{Exact, Loose};
    for (pattern, raw, expected) in [
        ("/orders", "/orders", Some(Exact)),
        ("/orders", "/orders/", Some(Loose)),
        ("/orders", "/ORDERS", Some(Loose)),
        ("/orders", "//orders", Some(Loose)),
        ("/orders", "/ordersx", None),
        ("/orders", "/orders/7", None),
        ("/orders/", "/orders/", Some(Exact)),
        ("/orders/*", "/orders/7", Some(Exact)),
        ("/orders/*", "/orders", None),
        ("/orders/*", "/orders/7/8", None),
        ("/orders/*", "/orders/a%20b", Some(Exact)),
        ("/orders/**", "/orders", Some(Exact)),
        ("/orders/**", "/orders/7/8/", Some(Exact)),
        ("/orders/**", "/Orders/7", Some(Loose)),
        ("/orders/**", "/ordersx", None),
        ("/*/items", "/7/items", Some(Exact)),
        ("/pkg.Service/*", "/pkg.Service/Get", Some(Exact)),
        ("/**", "/", Some(Exact)),
        ("/", "/", Some(Exact)),
        ("/", "/x", None),
        // As a backend reads it that resolves nothing, and as one does that resolves everything.
        ("/x/**", "/x/../public", Some(Loose)),
        ("/public", "/x/../public", Some(Loose)),
        ("/a/*/b", "/a//b", Some(Loose)),
        // As one does that resolves dots alone, and one that merges slashes alone.
        ("/b/*/c", "/a/../b//c", Some(Loose)),
        ("/a/*/b", "/a//./b", Some(Loose)),
    ] {
        assert_eq!(fit(pattern, raw), expected, "{pattern} {raw}");
    }
}

#[test]
fn a_pattern_is_written_as_paths_are_compared() {
    use PatternError as E;
    for (pattern, error) in [
        ("orders", E::Path(PathError::NotAbsolute)),
        ("/orders?x=1", E::Query),
        ("/%61dmin", E::NotNormal("/admin".to_owned())),
        ("/a//b", E::NotNormal("/a/b".to_owned())),
        ("/caf%c3%a9", E::NotNormal("/caf%C3%A9".to_owned())),
        ("/orders*", E::Star),
        ("/**/x", E::Star),
        ("/**/", E::Star),
        ("/a;b", E::Path(PathError::Parameters)),
    ] {
        assert_eq!(PathPattern::parse(pattern), Err(error), "{pattern}");
    }
}

#[test]
fn hosts_are_compared_by_name() {
    let fits = |pattern: &str, authority: &str| HostPattern::parse(pattern).unwrap().fits(host_of(authority).unwrap());
    assert!(fits("example.com", "EXAMPLE.com:8443") && fits("example.com", "example.com."));
    assert!(!fits("example.com", "a.example.com") && !fits("example.com", ""));
    assert!(fits("*.example.com", "a.b.Example.com:1") && !fits("*.example.com", "example.com"));
    assert!(!fits("*.example.com", ".example.com") && !fits("*.example.com", "badexample.com"));
    for nonsense in ["a@b", "a b", "a:b", "a:1:2", "[::1", "ä", "a/b", "a,b"] {
        assert_eq!(host_of(nonsense), None, "{nonsense}");
    }
    assert_eq!(host_of("[::1]:80"), Some("[::1]"));
    for bad in ["", "*.", "example.com:80", "*", "a.*.b", "example.com."] {
        assert!(HostPattern::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn what_an_earlier_pattern_covers() {
    let covers = |a: &str, b: &str| PathPattern::parse(a).unwrap().covers(&PathPattern::parse(b).unwrap());
    assert!(covers("/**", "/x/*") && covers("/x/**", "/x") && covers("/x/*", "/x/y") && covers("/x/*/**", "/x/y/**"));
    assert!(!covers("/x/*", "/x/**") && !covers("/x/y", "/x/*") && !covers("/x/*/**", "/x") && !covers("/x", "/x/"));
    let covers = |a: &str, b: &str| HostPattern::parse(a).unwrap().covers(&HostPattern::parse(b).unwrap());
    assert!(
        covers("*.a.b", "x.a.b") && covers("*.a.b", "*.x.a.b") && covers("*.a.b", "*.a.b") && !covers("*.a.b", "a.b")
    );
}

/// Another spelling of a path of plain segments.
fn respelled(segments: &[String], choices: &[u8]) -> String {
    let mut choices = choices.iter().copied().cycle();
    let mut raw = String::new();
    for segment in segments {
        match choices.next().unwrap() % 6 {
            0 => raw.push_str("//"),
            1 => raw.push_str("/./"),
            2 => raw.push_str("/x/../"),
            _ => raw.push('/'),
        }
        for letter in segment.chars() {
            match choices.next().unwrap() % 5 {
                0 => write!(raw, "%{:02x}", u32::from(letter)).unwrap(),
                1 => write!(raw, "%{:02X}", u32::from(letter.to_ascii_uppercase())).unwrap(),
                2 => raw.push(letter.to_ascii_uppercase()),
                _ => raw.push(letter),
            }
        }
    }
    if choices.next().unwrap().is_multiple_of(3) {
        raw.push('/');
    }
    raw
}

/// Every way in which backends read a path of plain, empty and dot segments, written for its clearness alone.
fn readings(raw: &str) -> Vec<String> {
    let merge = |path: &str| {
        let mut path = path.to_owned();
        while path.contains("//") {
            path = path.replace("//", "/");
        }
        path
    };
    // RFC 3986 §5.2.4, step by step.
    let resolve = |path: &str| {
        let (mut input, mut output) = (path.to_owned(), String::new());
        while !input.is_empty() {
            if input.starts_with("/./") || input == "/." {
                input = format!("/{}", input.get(3..).unwrap_or_default());
            } else if input.starts_with("/../") || input == "/.." {
                input = format!("/{}", input.get(4..).unwrap_or_default());
                output.truncate(output.rfind('/').unwrap_or(0));
            } else {
                let end = input[1..].find('/').map_or(input.len(), |at| at + 1);
                output.push_str(&input[..end]);
                input.drain(..end);
            }
        }
        output
    };
    vec![raw.to_owned(), merge(raw), resolve(raw), merge(&resolve(raw)), resolve(&merge(raw))]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]
    /// So nothing is asked for less than what some backend reads it as, whatever the rules: see the policy's own tests for what
    /// is made of patterns that fit.
    #[test]
    fn whatever_fits_a_reading_fits_the_path(
        segments in proptest::collection::vec(prop_oneof![Just(""), Just("."), Just(".."), Just("a"), Just("b")], 1..8),
        pattern in proptest::collection::vec(prop_oneof![Just("a"), Just("b"), Just("*")], 0..5),
        end in prop_oneof![Just(""), Just("/"), Just("/**")],
    ) {
        let raw = format!("/{}", segments.join("/"));
        let pattern = format!("/{}{end}", pattern.join("/")).replace("//", "/");
        let pattern = PathPattern::parse(&pattern).unwrap();
        if let Ok(path) = NormalPath::of(&raw) {
            for reading in readings(&raw) {
                let fit = pattern.fits(&NormalPath::of(&reading).unwrap());
                prop_assert!(
                    fit.is_none() || pattern.fits(&path).is_some(),
                    "{} {raw} read as {reading}",
                    pattern.as_str()
                );
                // What is exactly this pattern's can only be the path itself, written so.
                prop_assert!(pattern.fits(&path) != Some(Fit::Exact) || fit == Some(Fit::Exact), "{raw} {reading}");
            }
        }
    }
}

proptest! {
    #[test]
    fn a_pattern_fits_every_spelling(
        segments in proptest::collection::vec("[a-z:@_]{1,6}", 1..4),
        wild in proptest::collection::vec(any::<bool>(), 4),
        tail in any::<bool>(),
        choices in proptest::collection::vec(any::<u8>(), 8..40),
    ) {
        let parts: Vec<_> = segments.iter().zip(&wild).map(|(s, wild)| if *wild { "*" } else { s.as_str() }).collect();
        let pattern = format!("/{}{}", parts.join("/"), if tail { "/**" } else { "" });
        let pattern = PathPattern::parse(&pattern).unwrap();
        let raw = respelled(&segments, &choices);
        let path = NormalPath::of(&raw).unwrap();
        prop_assert!(pattern.fits(&path).is_some(), "{} {raw}", pattern.as_str());
    }

    #[test]
    fn the_normal_form_is_its_own(raw in "/[a-zA-Z0-9%/.;:{|}\\\\ -]{0,24}") {
        if let Ok(path) = NormalPath::of(&raw) {
            let again = NormalPath::of(path.as_str()).unwrap();
            prop_assert_eq!(again.as_str(), path.as_str());
            prop_assert!(again.is_as_written());
        }
    }

    #[test]
    fn nothing_makes_it_panic(raw in any::<String>(), pattern in any::<String>(), host in any::<String>()) {
        if let (Ok(path), Ok(pattern)) = (NormalPath::of(&raw), PathPattern::parse(&pattern)) {
            pattern.fits(&path);
        }
        if let Some(host) = host_of(&host) {
            HostPattern::parse("*.x").unwrap().fits(host);
        }
    }
}
