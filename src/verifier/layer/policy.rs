//! Which rule is for which path, and which paths are not worth a guess.

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use http::Method;

use crate::verifier::rule::Rule;

/// Which rule is for which method of a gRPC service, or for which path.
///
/// ```
/// use vouchsafe::verifier::{Policy, Rule};
///
/// let policy = Policy::required()
///     .under("/grpc.health.v1.Health", Rule::public())
///     .at("/shop.v1.Orders/Cancel", Rule::required().role("support"));
/// # let _ = policy;
/// ```
///
/// The most exact name wins: HTTP method and path, then path, then the longest of those that something is `under`, then the
/// default. Paths are compared as they are: `/Orders` and `/orders/` are not `/orders` and get the default, which should be the
/// strictest rule. They are the paths that the layer sees: within a nested router, without its prefix. HEAD is held to what is said of GET, as routers answer it.
///
/// A path must not be written so that the policy reads one thing and the service behind it another. With empty segments, `.`
/// or `..`, a backslash, a control character, an encoded `/` or `%`, or anything that is not ASCII, a path is refused: 400, or
/// UNIMPLEMENTED in gRPC. Otherwise one with percent-encoding or `;` is read as it is, decoded, and without what follows a `;`;
/// unless every reading falls under the same rule, it is refused too.
#[derive(Clone, Debug)]
pub struct Policy {
    default: Arc<Rule>,
    /// By path.
    exact: HashMap<String, Vec<(Methods, Arc<Rule>)>>,
    /// Without the last `/`; the longest first.
    under: Vec<(String, Arc<Rule>)>,
}

/// One HTTP method, or all.
type Methods = Option<Method>;

/// The path could be understood in two ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UnclearPath;

impl Policy {
    /// With this rule for all that is not named.
    pub fn new(default: Rule) -> Self {
        Self { default: Arc::new(default), exact: HashMap::new(), under: Vec::new() }
    }

    /// With a good token for all that is not named.
    pub fn required() -> Self {
        Self::new(Rule::required())
    }

    /// And this rule for exactly this path, such as `/shop.v1.Orders/Cancel`.
    ///
    /// # Panics
    /// If the path is not a plain one or has a rule already: a rule that never matched would leave its path to another.
    #[must_use]
    pub fn at(self, path: &str, rule: Rule) -> Self {
        self.exactly(None, path, rule)
    }

    /// And this rule for exactly this path and HTTP method.
    ///
    /// # Panics
    /// As [`Self::at`].
    #[must_use]
    pub fn method_at(self, method: Method, path: &str, rule: Rule) -> Self {
        self.exactly(Some(method), path, rule)
    }

    /// And this rule for this path and whatever lies beneath: `/shop.v1.Orders` for all methods of that service. A `/` at the
    /// end changes nothing.
    ///
    /// # Panics
    /// As [`Self::at`].
    #[must_use]
    pub fn under(mut self, path: &str, rule: Rule) -> Self {
        assert_plain(path);
        let prefix = path.strip_suffix('/').unwrap_or(path);
        assert!(self.under.iter().all(|(known, _)| known != prefix), "{path:?} has a rule already");
        self.under.push((prefix.to_owned(), Arc::new(rule)));
        self.under.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        self
    }

    fn exactly(mut self, method: Methods, path: &str, rule: Rule) -> Self {
        assert_plain(path);
        let rules = self.exact.entry(path.to_owned()).or_default();
        assert!(rules.iter().all(|(known, _)| *known != method), "{path:?} has a rule already");
        rules.push((method, Arc::new(rule)));
        self
    }

    /// The rule for a request.
    pub(super) fn rule(&self, method: &Method, path: &str) -> Result<&Arc<Rule>, UnclearPath> {
        let rule = self.find(method, path);
        for reading in readings(path)? {
            if self.find(method, &reading) != rule {
                return Err(UnclearPath);
            }
        }
        Ok(rule)
    }

    fn find(&self, method: &Method, path: &str) -> &Arc<Rule> {
        let here = self.exact.get(path).map(Vec::as_slice).unwrap_or_default();
        let of =
            |method: Option<&Method>| here.iter().find(|(known, _)| known.as_ref() == method).map(|(_, rule)| rule);
        let as_get = || if *method == Method::HEAD { of(Some(&Method::GET)) } else { None };
        let beneath = || self.under.iter().find(|(prefix, _)| lies_under(path, prefix)).map(|(_, rule)| rule);
        of(Some(method)).or_else(as_get).or_else(|| of(None)).or_else(beneath).unwrap_or(&self.default)
    }
}

fn lies_under(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn assert_plain(path: &str) {
    let plain =
        is_orderly(path) && path.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,=:@/".contains(&b));
    assert!(plain, "{path:?} is no path that a rule can be for");
}

/// The other ways in which a path could be read. None for a plain one, so that it costs nothing.
fn readings(path: &str) -> Result<Vec<Cow<'_, str>>, UnclearPath> {
    if !is_orderly(path) || !path.bytes().all(|b| b.is_ascii_graphic() && b != b'\\') {
        return Err(UnclearPath);
    }
    let mut readings = Vec::new();
    let decoded = if path.contains('%') { Cow::Owned(decoded(path)?) } else { Cow::Borrowed(path) };
    for reading in [Cow::Borrowed(path), decoded] {
        if reading.contains(';') {
            readings.push(Cow::Owned(without_parameters(&reading)));
        }
        readings.push(reading);
    }
    if readings.iter().all(|reading| is_orderly(reading)) { Ok(readings) } else { Err(UnclearPath) }
}

/// From the root, and only the last segment may be empty. Nobody who means well writes otherwise.
fn is_orderly(path: &str) -> bool {
    let Some(path) = path.strip_prefix('/') else { return false };
    let mut segments = path.split('/').rev();
    !matches!(segments.next(), Some("." | "..")) && segments.all(|segment| !matches!(segment, "" | "." | ".."))
}

/// Percent-decoded once. What would still, or only then, structure the path is refused.
fn decoded(path: &str) -> Result<String, UnclearPath> {
    let mut bytes = path.bytes();
    let mut decoded = Vec::with_capacity(path.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let mut digit = || bytes.next().and_then(|digit| char::from(digit).to_digit(16));
                let (Some(high), Some(low)) = (digit(), digit()) else { return Err(UnclearPath) };
                // Two hexadecimal digits fit into a byte.
                match u8::try_from(high * 16 + low) {
                    Ok(b'/' | b'\\' | b'%' | b'?' | b'#' | ..0x20 | 0x7f) | Err(_) => return Err(UnclearPath),
                    Ok(other) => other,
                }
            }
            other => other,
        });
    }
    String::from_utf8(decoded).map_err(|_| UnclearPath)
}

/// Without the parameters that some servers take off each segment.
fn without_parameters(path: &str) -> String {
    let segments: Vec<_> = path.split('/').map(|segment| segment.split(';').next().unwrap_or_default()).collect();
    segments.join("/")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn role(name: &str) -> Rule {
        Rule::required().role(name)
    }

    fn policy() -> Policy {
        Policy::required()
            .at("/admin", role("admin"))
            .at("/", Rule::public())
            .at("/pkg.Greeter/Hello", Rule::public())
            .under("/pkg.Greeter", role("greeter"))
            .under("/files/", role("reader"))
            .under("/files/secret", role("keeper"))
            .method_at(Method::POST, "/orders", role("seller"))
            .method_at(Method::GET, "/orders", Rule::public())
            .at("/orders", role("any"))
    }

    fn rule(method: &Method, path: &str) -> Result<Rule, UnclearPath> {
        policy().rule(method, path).map(|rule| Rule::clone(rule))
    }

    #[test]
    fn the_most_exact_name_wins() {
        let post = |path: &str| rule(&Method::POST, path).unwrap();
        assert_eq!(post("/pkg.Greeter/Hello"), Rule::public());
        assert_eq!(post("/pkg.Greeter/Other"), role("greeter"));
        assert_eq!(post("/pkg.Greeter"), role("greeter"));
        assert_eq!(post("/pkg.GreeterNot/Hello"), Rule::required());
        assert_eq!(post("/files/a"), role("reader"));
        assert_eq!(post("/files/secret/a"), role("keeper"));
        assert_eq!(post("/files/secrets"), role("reader"));
        assert_eq!(post("/orders"), role("seller"));
        assert_eq!(rule(&Method::GET, "/orders"), Ok(Rule::public()));
        assert_eq!(rule(&Method::HEAD, "/orders"), Ok(Rule::public()), "routers answer it as GET");
        assert_eq!(rule(&Method::PUT, "/orders"), Ok(role("any")));
        assert_eq!(post("/"), Rule::public());
        for other in ["/ADMIN", "/admin/", "/admin/x", "/orders/1", "/pkg.greeter/Hello"] {
            assert_eq!(post(other), Rule::required(), "{other}");
        }
    }

    #[test]
    fn a_path_that_could_mean_another_is_refused() {
        for odd in [
            "",
            "admin",
            "*",
            "//",
            "//admin",
            "/admin//",
            "/x//y",
            "/./admin",
            "/admin/.",
            "/x/../admin",
            "/admin/..",
            "/x\\admin",
            "/%61dmin",
            "/adm%69n",
            "/%2Fadmin",
            "/x%2fadmin",
            "/x%5cadmin",
            "/%2e/admin",
            "/x/%2e%2E/admin",
            "/admin%00",
            "/admin%0a",
            "/admin%",
            "/admin%2",
            "/admin%zz",
            "/%2561dmin",
            "/admin%3Fx",
            "/admin%23",
            "/admin;x",
            "/admin%3bx",
            "/;/admin",
            "/..;/admin",
            "/x/..;a/admin",
            "/%61dmin;x",
            "/files/%73ecret/a",
            "/files/secret;v=1/a",
            "/orders;",
            "/pkg.Greeter/%48ello",
            "/%70kg.Greeter/Hello",
            "/caf%e9",
            "/caf\u{e9}",
            "/a\u{7f}",
            "/a\tb",
        ] {
            assert_eq!(rule(&Method::GET, odd), Err(UnclearPath), "{odd}");
        }
    }

    #[test]
    fn an_encoded_name_within_one_rule_is_served() {
        for (path, expected) in [
            ("/files/a%20b", role("reader")),
            ("/files/ada%40example.com", role("reader")),
            ("/files/caf%C3%A9", role("reader")),
            ("/files/a;v=1", role("reader")),
            ("/x;/admin;", Rule::required()),
            ("/users/ada%40example.com", Rule::required()),
            ("/files/secret/%7e", role("keeper")),
        ] {
            assert_eq!(rule(&Method::GET, path), Ok(expected), "{path}");
        }
    }

    #[test]
    fn a_rule_that_could_never_match_is_not_accepted() {
        for bad in ["orders", "/orders//x", "/users/{id}", "/a%20b", "/a;b", "/a b", "/..", "/caf\u{e9}", "", "/a?b"] {
            assert!(std::panic::catch_unwind(|| Policy::required().at(bad, Rule::public())).is_err(), "{bad:?}");
            assert!(std::panic::catch_unwind(|| Policy::required().under(bad, Rule::public())).is_err(), "{bad:?}");
        }
        let twice = || Policy::required().at("/a", Rule::public()).at("/a", Rule::required());
        assert!(std::panic::catch_unwind(twice).is_err());
        let twice = || Policy::required().under("/a", Rule::public()).under("/a/", Rule::required());
        assert!(std::panic::catch_unwind(twice).is_err());
    }

    proptest! {
        /// Whatever of a named path is encoded, it never gets another rule than the one it has when written plainly.
        #[test]
        fn no_encoding_dodges_a_rule(encoded in prop::collection::vec(any::<bool>(), 32)) {
            for plain in ["/admin", "/pkg.Greeter/Hello", "/files/secret/a", "/orders"] {
                let disguised: String = plain.char_indices().map(|(at, c)| {
                    if encoded[at] && c != '/' { format!("%{:02x}", c as u32) } else { c.to_string() }
                }).collect();
                if let Ok(found) = rule(&Method::GET, &disguised) {
                    prop_assert_eq!(Ok(found), rule(&Method::GET, plain), "{}", disguised);
                }
            }
        }
    }
}
