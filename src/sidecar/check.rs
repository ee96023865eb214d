//! `envoy.service.auth.v3.Authorization`: whether a proxy may let a request through, and with which headers.

use std::sync::Arc;

use arc_swap::ArcSwap;
use envoy_types::pb::envoy::service::auth::v3::{
    CheckRequest, CheckResponse, attribute_context::HttpRequest, authorization_server::Authorization,
};
use tonic::{Request, Response, Status};

use super::{
    answer::{self, Allowed},
    metrics::Metrics,
    policy::{Demands, Policy},
    reason::{Reason, Refusal},
};
use crate::verifier::{
    Access, Denied, Principal, Verifier,
    bearer::bearer_of,
    route::{NormalPath, host_of},
};

/// Decides.
pub(super) struct Checker {
    pub(super) verifier: Verifier,
    pub(super) policy: Arc<ArcSwap<Policy>>,
    pub(super) metrics: Arc<Metrics>,
}

#[tonic::async_trait]
impl Authorization for Checker {
    async fn check(&self, request: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        let CheckRequest { attributes } = request.into_inner();
        let http = attributes.and_then(|attributes| attributes.request).and_then(|request| request.http);
        Ok(Response::new(self.answer(http.as_ref()).await))
    }
}

impl Checker {
    async fn answer(&self, http: Option<&HttpRequest>) -> CheckResponse {
        let policy = self.policy.load_full();
        let mut route = None;
        match self.decide(http, &policy, &mut route).await {
            Ok((principal, reason, allowed)) => {
                self.metrics.count(reason);
                answer::allow(Allowed { principal: principal.as_ref(), ..allowed }, reason, route)
            }
            Err(refusal) => {
                let reason = refusal.reason();
                self.metrics.count(reason);
                if refusal == Refusal::Untellable {
                    tracing::warn!("denied a request: its token's claims hold what no header can");
                }
                tracing::debug!(reason = reason.as_str(), route, "denied a request");
                answer::deny(&refusal, route)
            }
        }
    }

    async fn decide<'p>(
        &self,
        http: Option<&HttpRequest>,
        policy: &'p Policy,
        route: &mut Option<&'p str>,
    ) -> Result<(Option<Principal>, Reason, Allowed<'p>), Refusal> {
        let http = http.ok_or(Refusal::NoRequest)?;
        let path = NormalPath::of(&http.path).map_err(Refusal::Path)?;
        let host = host_of(&http.host).ok_or(Refusal::Host)?;
        let demands = policy.demands(&http.method, host, &path);
        *route = demands.route;
        let (principal, reason) = self.admit(http, &demands).await?;

        let mut remove = Vec::new();
        let told = policy.identity.tell(principal.as_ref(), &mut remove);
        let set = told.map_err(|_| Refusal::Untellable)?;
        remove.extend(names(http).filter(|name| policy.identity.is_forged(name)).map(str::to_owned));
        if policy.strip_token {
            remove.push(AUTHORIZATION.to_owned());
        }
        Ok((principal, reason, Allowed { principal: None, set, remove }))
    }

    async fn admit(&self, http: &HttpRequest, demands: &Demands<'_>) -> Result<(Option<Principal>, Reason), Refusal> {
        let rule = demands.rule().ok_or(Refusal::Closed)?;
        if rule.access == Access::Public {
            return Ok((None, Reason::Public));
        }
        let token = token(http).map_err(Refusal::Denied)?;
        let principal = self.verifier.admit(token, &rule).await.map_err(Refusal::Denied)?;
        match &principal {
            Some(principal) => {
                demands.check_roles(principal).map_err(Refusal::Denied)?;
            }
            None => return Ok((None, Reason::Anonymous)),
        }
        Ok((principal, Reason::Token))
    }
}

const AUTHORIZATION: &str = "authorization";

/// The bearer token that was sent.
fn token(http: &HttpRequest) -> Result<Option<&str>, Denied> {
    // With `encode_raw_headers`: each header as it was sent.
    if let Some(raw) = &http.header_map {
        let sent = raw.headers.iter().filter(|header| header.key.eq_ignore_ascii_case(AUTHORIZATION));
        return bearer_of(sent.map(|header| match &header.raw_value[..] {
            [] => header.value.as_bytes(),
            raw => raw,
        }));
    }
    match http.headers.get(AUTHORIZATION) {
        // So a proxy joins what was sent twice. No token has a comma.
        Some(joined) if joined.contains(',') => Err(Denied::UnclearToken),
        Some(sent) => bearer_of([sent.as_bytes()]),
        None => Ok(None),
    }
}

/// The names of the headers that were sent.
fn names(http: &HttpRequest) -> impl Iterator<Item = &str> {
    let raw = http.header_map.iter().flat_map(|map| map.headers.iter().map(|header| header.key.as_str()));
    raw.chain(http.headers.keys().map(String::as_str))
}

#[cfg(test)]
mod tests;
