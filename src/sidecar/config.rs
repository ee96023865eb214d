//! The sidecar's file, checked as a whole before anything of it is used.

use std::{
    fmt, fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use http::Method;

use super::{
    file::{self, Document},
    headers::{Identity, Told},
    policy::{Demand, Limit, Policy, Route},
};
use crate::{
    domain::{
        audience::{Audience, Scope},
        duration::parse_duration,
    },
    verifier::{
        Access, Leeway, Rule, WhenStale,
        issuer::read_secret,
        read_decryption_keys,
        route::{HostPattern, PathPattern},
    },
};

/// Larger than any file that people write.
const MAX_FILE: u64 = 1 << 20;

/// The file.
#[derive(Debug)]
pub(super) struct Config {
    pub(super) fixed: Fixed,
    pub(super) policy: Policy,
    /// What is probably not meant so.
    pub(super) warnings: Vec<String>,
}

/// What stays as it was when the sidecar started.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fixed {
    pub(super) issuer: String,
    pub(super) audience: Vec<Audience>,
    pub(super) service: String,
    pub(super) jwks_url: Option<String>,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) decryption_key_file: Option<PathBuf>,
    pub(super) allow_plaintext: bool,
    pub(super) service_account: Option<(String, PathBuf)>,
    pub(super) max_staleness: Option<Duration>,
    pub(super) start_timeout: Option<Duration>,
    pub(super) persist: Option<PathBuf>,
    pub(super) leeway: Leeway,
    pub(super) grpc: Address,
    pub(super) http: SocketAddr,
}

/// Where proxies find the sidecar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// All that is wrong with a file, one a line.
#[derive(Debug)]
pub(super) struct Problems(Vec<String>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

/// The text of the file.
pub(super) fn read(path: &Path) -> io::Result<String> {
    let size = fs::metadata(path)?.len();
    if size > MAX_FILE {
        return Err(io::Error::other("is larger than 1 MiB"));
    }
    fs::read_to_string(path)
}

impl Config {
    /// Checks the text of a file, and that the files it names can be read.
    pub(super) fn parse(text: &str) -> Result<Self, Problems> {
        let file: Document =
            toml::from_str(text).map_err(|error| Problems(vec![error.to_string().trim_end().to_owned()]))?;
        let mut check = Check { text, problems: Vec::new() };
        let Document {
            issuer,
            audience,
            service,
            jwks_url,
            ca_file,
            decryption_key_file,
            allow_plaintext,
            max_staleness,
            start_timeout,
            persist,
            leeway,
            strip_token,
            service_account,
            listen,
            headers,
            default,
            routes,
        } = file;
        if issuer.is_empty() {
            check.note("issuer: is empty: write what the service has as its setting issuer");
        }
        if audience.is_empty() {
            check.note("audience: is empty: write the audiences that tokens for these backends have");
        }
        let audience = audience.into_iter().filter_map(|name| check.ok("audience", Audience::try_from(name))).collect();
        let service_account = service_account.map(|account| (account.client_id, account.secret_file));
        let leeway = check.duration("leeway", leeway).unwrap_or_default();
        let (grpc, http) = check.listen(&listen);
        let fixed = Fixed {
            issuer,
            audience,
            service,
            jwks_url,
            ca_file,
            decryption_key_file,
            allow_plaintext,
            service_account,
            max_staleness: check.duration("max_staleness", max_staleness),
            start_timeout: check.duration("start_timeout", start_timeout),
            persist,
            leeway: check.ok("leeway", Leeway::try_from(leeway)).unwrap_or_default(),
            grpc,
            http,
        };
        check.files(&fixed);
        let policy = Policy {
            routes: routes.into_iter().filter_map(|route| check.route(route)).collect(),
            default: default.map_or(Demand::Rule(Rule::required()), |default| check.default(default)),
            identity: check.headers(headers),
            strip_token,
        };
        if !check.problems.is_empty() {
            return Err(Problems(check.problems));
        }
        let warnings = warnings(&policy);
        Ok(Self { fixed, policy, warnings })
    }
}

/// Collects what is wrong.
struct Check<'t> {
    text: &'t str,
    problems: Vec<String>,
}

impl Check<'_> {
    fn note(&mut self, problem: impl Into<String>) {
        self.problems.push(problem.into());
    }

    fn ok<T, E: fmt::Display>(&mut self, key: &str, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.note(format!("{key}: {error}"))).ok()
    }

    fn duration(&mut self, key: &str, text: Option<String>) -> Option<Duration> {
        self.ok(key, parse_duration(&text?))
    }

    fn listen(&mut self, listen: &file::Listen) -> (Address, SocketAddr) {
        // Only ever used if there was no problem.
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let grpc = match listen.grpc.strip_prefix("unix:") {
            Some(path) if path.starts_with('/') => Address::Unix(path.into()),
            Some(_) => {
                self.note("listen.grpc: a Unix socket needs its whole path: write unix:/run/vouchsafe/sidecar.sock");
                Address::Tcp(nowhere)
            }
            None => Address::Tcp(self.address("listen.grpc", &listen.grpc, listen.allow_plaintext).unwrap_or(nowhere)),
        };
        let http = self.address("listen.http", &listen.http, listen.allow_plaintext).unwrap_or(nowhere);
        (grpc, http)
    }

    fn address(&mut self, key: &str, text: &str, allow_plaintext: bool) -> Option<SocketAddr> {
        let Ok(address) = text.parse::<SocketAddr>() else {
            self.note(format!("{key}: {text:?} is not an address and a port: write for instance 127.0.0.1:50061"));
            return None;
        };
        if !address.ip().is_loopback() && !allow_plaintext {
            self.note(format!(
                "{key}: {address} is open to others, and there is no TLS here: use the loopback or a Unix socket, or write allow_plaintext = true under [listen]"
            ));
        }
        Some(address)
    }

    fn files(&mut self, fixed: &Fixed) {
        if let Some((_, path)) = &fixed.service_account
            && let Err(error) = read_secret(path)
        {
            self.note(format!("service_account.secret_file: cannot be read: {error}"));
        }
        if let Some(path) = &fixed.decryption_key_file
            && let Err(error) = read_decryption_keys(path)
        {
            self.note(format!("decryption_key_file: {} {error}", path.display()));
        }
        if let Some(path) = &fixed.ca_file
            && let Err(error) = fs::read(path)
        {
            self.note(format!("ca_file: cannot read {}: {error}", path.display()));
        }
    }

    fn headers(&mut self, headers: file::Headers) -> Identity {
        let file::Headers { subject, session, roles, scope, claims } = headers;
        let own = [(subject, Told::Subject), (session, Told::Session), (roles, Told::Roles), (scope, Told::Scope)];
        let mut all: Vec<_> = own.into_iter().filter(|(name, _)| !name.is_empty()).collect();
        for (name, claim) in claims {
            match Told::parse(&claim) {
                Some(told) => all.push((name, told)),
                None => self.note(format!("headers.claims: {claim:?} is no claim that can be told in a header")),
            }
        }
        Identity::new(all).unwrap_or_else(|problem| {
            self.note(problem);
            Identity::default()
        })
    }

    fn line(&self, at: usize) -> usize {
        self.text.get(..at).map_or(1, |before| before.matches('\n').count() + 1)
    }

    fn default(&mut self, default: toml::Spanned<file::Demand>) -> Demand {
        let line = self.line(default.span().start);
        let file::Demand { access, scopes, roles, when_stale } = default.into_inner();
        self.demand(&format!("line {line}: default"), access, scopes, roles, when_stale)
    }

    fn route(&mut self, route: toml::Spanned<file::Route>) -> Option<Route> {
        let line = self.line(route.span().start);
        let file::Route { path, methods, hosts, access, scopes, roles, when_stale } = route.into_inner();
        let place = format!("line {line}: route {path:?}");
        let demand = self.demand(&place, access, scopes, roles, when_stale);
        let methods = methods.iter().filter_map(|name| {
            let method = Method::from_bytes(name.as_bytes()).ok().filter(|_| *name == name.to_ascii_uppercase());
            self.ok(&place, method.ok_or_else(|| format!("{name:?} is no method: write for instance GET")))
        });
        let methods = methods.collect();
        let hosts = hosts
            .iter()
            .filter_map(|host| self.ok(&place, HostPattern::parse(host).map_err(|error| format!("{host:?} {error}"))));
        let hosts = hosts.collect();
        let path = self.ok(&place, PathPattern::parse(&path))?;
        Some(Route { path, methods, hosts, demand, line })
    }

    fn demand(
        &mut self,
        place: &str,
        access: file::Access,
        scopes: Vec<String>,
        roles: Vec<String>,
        when_stale: file::WhenStale,
    ) -> Demand {
        let access = match access {
            file::Access::Deny => None,
            file::Access::Required => Some(Access::Required),
            file::Access::Optional => Some(Access::Optional),
            file::Access::Public => Some(Access::Public),
        };
        let when_stale = match when_stale {
            file::WhenStale::Deny => WhenStale::Deny,
            file::WhenStale::Allow => WhenStale::Allow,
        };
        let plain = scopes.is_empty() && roles.is_empty() && when_stale == WhenStale::Deny;
        if matches!(access, None | Some(Access::Public)) && !plain {
            self.note(format!("{place}: no token is looked at, so scopes, roles and when_stale have no place here"));
        }
        for scope in &scopes {
            let one = Scope::try_from(scope.clone()).is_ok_and(|parsed| parsed.tokens().eq([scope.as_str()]));
            if !one {
                self.note(format!("{place}: {scope:?} is not one scope token"));
            }
        }
        if roles.iter().any(String::is_empty) {
            self.note(format!("{place}: a role is empty"));
        }
        access.map_or(Demand::Closed, |access| Demand::Rule(Rule { access, scopes, roles, when_stale }))
    }
}

/// What is probably not meant so: routes that an earlier one leaves nothing for, and those that a request gets around.
fn warnings(policy: &Policy) -> Vec<String> {
    let mut warnings = Vec::new();
    for (index, route) in policy.routes.iter().enumerate() {
        let place = format!("line {}: route {:?}", route.line, route.path.as_str());
        if let Some(earlier) = policy.routes[..index].iter().find(|earlier| earlier.covers(route)) {
            let same = earlier.path == route.path;
            let by = if same { "it is there before" } else { "everything it fits is decided before" };
            warnings.push(format!("{place} is never used: {by}, by {}", earlier.place()));
            continue;
        }
        if let Some(holds) = policy.laxer_beyond(index, Limit::Hosts) {
            warnings.push(format!(
                "{place} is for some hosts alone, and whoever sends another one is asked for less, by {holds}: take its hosts away"
            ));
        }
        if let Some(holds) = policy.laxer_beyond(index, Limit::Methods) {
            warnings.push(format!(
                "{place} is for some methods alone, and the others ask for less, by {holds}: if that is meant, write a route for the same path without methods behind it"
            ));
        }
    }
    warnings
}

#[cfg(test)]
mod tests;
