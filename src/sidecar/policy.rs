//! What is demanded of whom: the routes of the file, in their order.
//!
//! The first route that fits a request exactly decides, and the default where none does. Routes before it that fit only loosely
//! (see [`crate::verifier::route`]) add their demands: so whatever spelling a backend goes by, the request has satisfied what is
//! written for it.

use std::borrow::Cow;

use http::Method;

use super::headers::Identity;
use crate::verifier::{
    Access, Denied, Principal, Rule, WhenStale,
    route::{Fit, HostPattern, NormalPath, PathPattern},
};

/// Everything that a new version of the file can change while the sidecar runs.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Policy {
    pub(super) routes: Vec<Route>,
    /// For what no route fits.
    pub(super) default: Demand,
    pub(super) identity: Identity,
    /// Whether backends are spared the token.
    pub(super) strip_token: bool,
}

/// What is demanded of some requests.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) path: PathPattern,
    /// Empty: all. `GET` means `HEAD` too.
    pub(super) methods: Vec<Method>,
    /// Empty: all.
    pub(super) hosts: Vec<HostPattern>,
    pub(super) demand: Demand,
    /// Where it stands in the file.
    pub(super) line: usize,
}

/// What somebody must show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Demand {
    /// Nothing would do.
    Closed,
    /// What the rule says.
    Rule(Rule),
}

/// All that is demanded of one request: of each of these.
pub(super) struct Demands<'p> {
    first: &'p Demand,
    /// Only what is not written as the file writes it has more than one.
    more: Vec<&'p Demand>,
    /// The first route's path, if there is one.
    pub(super) route: Option<&'p str>,
}

impl Policy {
    pub(super) fn demands(&self, method: &str, host: &str, path: &NormalPath<'_>) -> Demands<'_> {
        let mut fitting = self.routes.iter().filter_map(|route| Some((route, route.fits(method, host, path)?)));
        let Some((first, fit)) = fitting.next() else {
            return Demands { first: &self.default, more: Vec::new(), route: None };
        };
        let mut demands = Demands { first: &first.demand, more: Vec::new(), route: Some(first.path.as_str()) };
        if fit == Fit::Exact {
            return demands;
        }
        for (route, fit) in fitting {
            demands.more.push(&route.demand);
            if fit == Fit::Exact {
                return demands;
            }
        }
        demands.more.push(&self.default);
        demands
    }

    /// Whether no rule that asks for tokens minds that revocations could be missing.
    pub(super) fn allows_stale(&self) -> bool {
        let minds = |demand: &Demand| match demand {
            Demand::Closed => false,
            Demand::Rule(rule) => rule.access != Access::Public && rule.when_stale == WhenStale::Deny,
        };
        !self.routes.iter().map(|route| &route.demand).chain([&self.default]).any(minds)
    }
}

impl Route {
    fn fits(&self, method: &str, host: &str, path: &NormalPath<'_>) -> Option<Fit> {
        if !self.hosts.is_empty() && !self.hosts.iter().any(|pattern| pattern.fits(host)) {
            return None;
        }
        let by_method = self.fits_method(method)?;
        match self.path.fits(path)? {
            Fit::Exact => Some(by_method),
            Fit::Loose => Some(Fit::Loose),
        }
    }

    /// Methods are told apart by case, but some backends do not.
    fn fits_method(&self, sent: &str) -> Option<Fit> {
        let same = |method: &Method| method == sent || (*method == Method::GET && sent == "HEAD");
        let alike = |method: &Method| {
            method.as_str().eq_ignore_ascii_case(sent) || (*method == Method::GET && sent.eq_ignore_ascii_case("HEAD"))
        };
        if self.methods.is_empty() || self.methods.iter().any(same) {
            return Some(Fit::Exact);
        }
        self.methods.iter().any(alike).then_some(Fit::Loose)
    }

    /// Where it stands in the file.
    pub(super) fn place(&self) -> String {
        format!("line {} ({:?})", self.line, self.path.as_str())
    }

    /// Whether it decides whatever the other would.
    pub(super) fn covers(&self, other: &Self) -> bool {
        self.covers_methods(other) && self.covers_hosts(other) && self.path.covers(&other.path)
    }

    /// Whether it would decide all that the other does not because of this limit.
    fn covers_beyond(&self, other: &Self, limit: Limit) -> bool {
        let (methods, hosts) = match limit {
            Limit::Hosts => (self.covers_methods(other), self.hosts.is_empty()),
            Limit::Methods => (self.methods.is_empty(), self.covers_hosts(other)),
        };
        methods && hosts && self.path.covers(&other.path)
    }

    fn covers_methods(&self, other: &Self) -> bool {
        let has = |method: &Method| {
            self.methods.contains(method) || (*method == Method::HEAD && self.methods.contains(&Method::GET))
        };
        self.methods.is_empty() || (!other.methods.is_empty() && other.methods.iter().all(has))
    }

    fn covers_hosts(&self, other: &Self) -> bool {
        let any = |host: &HostPattern| self.hosts.iter().any(|own| own.covers(host));
        self.hosts.is_empty() || (!other.hosts.is_empty() && other.hosts.iter().all(any))
    }
}

/// A limit of a route on requests that its path fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    Hosts,
    Methods,
}

impl Policy {
    /// What holds for the path of a route where its limit keeps it from fitting, if that is less strict: where it stands in the file.
    ///
    /// The caller chooses the host, so that is always worth a word. Methods mean something to every backend, so a later route of
    /// the very same path that takes all of them is a decision.
    pub(super) fn laxer_beyond(&self, index: usize, limit: Limit) -> Option<String> {
        let route = &self.routes[index];
        let is_limited = match limit {
            Limit::Hosts => !route.hosts.is_empty(),
            Limit::Methods => !route.methods.is_empty(),
        };
        let holds = self.routes[index + 1..].iter().find(|later| later.covers_beyond(route, limit));
        let demand = holds.map_or(&self.default, |holds| &holds.demand);
        let is_meant = limit == Limit::Methods && holds.is_some_and(|holds| holds.path == route.path);
        let is_laxer = is_limited && !is_meant && !demand.is_as_strict_as(&route.demand);
        is_laxer.then(|| holds.map_or_else(|| "the default".to_owned(), Route::place))
    }
}

impl Demand {
    /// Whether it lets nobody through whom the other would stop.
    fn is_as_strict_as(&self, other: &Self) -> bool {
        let (own, other) = match (self, other) {
            (Self::Closed, _) => return true,
            (Self::Rule(_), Self::Closed) => return false,
            (Self::Rule(own), Self::Rule(other)) => (own, other),
        };
        let roles = other.roles.is_empty()
            || (!own.roles.is_empty() && own.roles.iter().all(|role| other.roles.contains(role)));
        stricter(own.access, other.access) == own.access
            && other.scopes.iter().all(|scope| own.scopes.contains(scope))
            && roles
            && (other.access == Access::Public
                || own.when_stale == WhenStale::Deny
                || other.when_stale == WhenStale::Allow)
    }
}

impl Demands<'_> {
    fn all(&self) -> impl Iterator<Item = &Demand> {
        std::iter::once(self.first).chain(self.more.iter().copied())
    }

    /// What a token must satisfy; `None` if nothing would do.
    pub(super) fn rule(&self) -> Option<Cow<'_, Rule>> {
        let Demand::Rule(first) = self.first else { return None };
        let mut rule = Cow::Borrowed(first);
        for demand in &self.more {
            let Demand::Rule(more) = demand else { return None };
            let all = rule.to_mut();
            all.access = stricter(all.access, more.access);
            all.scopes.extend(more.scopes.iter().cloned());
            if more.when_stale == WhenStale::Deny {
                all.when_stale = WhenStale::Deny;
            }
        }
        Some(rule)
    }

    /// Whether the roles suffice for those demands that [`Self::rule`] cannot say with the first one's.
    pub(super) fn check_roles(&self, principal: &Principal) -> Result<(), Denied> {
        let suffice = |demand: &Demand| match demand {
            Demand::Closed => false,
            Demand::Rule(rule) => rule.roles.is_empty() || rule.roles.iter().any(|role| principal.has_role(role)),
        };
        if self.all().all(suffice) { Ok(()) } else { Err(Denied::MissingRole) }
    }
}

const fn stricter(one: Access, other: Access) -> Access {
    match (one, other) {
        (Access::Required, _) | (_, Access::Required) => Access::Required,
        (Access::Optional, _) | (_, Access::Optional) => Access::Optional,
        (Access::Public, Access::Public) => Access::Public,
    }
}
