//! The verifier that services embed: the core with keys and revocations that keep themselves up to date.

use std::{fmt, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use tokio::{sync::watch, time::sleep};

use super::{
    builder::Builder,
    check::{Inactive, TokenVerifier},
    principal::Principal,
    revocation_set::RevocationSet,
    rule::{Access, Denied, Rule, WhenStale},
    seen::RememberingVerifier,
};
use crate::{domain::time::Clock, jose::KeySet};

/// Verifies access tokens in this process. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Verifier {
    pub(super) shared: Arc<Shared>,
}

/// What all clones share.
pub(super) struct Shared {
    verifier: RememberingVerifier,
    pub(super) keys: ArcSwap<KeySet>,
    pub(super) revocations: RevocationSet,
    /// Goes up whenever something that was good may no longer be: keys, revocations or their freshness have changed.
    pub(super) changes: watch::Sender<u64>,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("revocations", &self.shared.revocations.len()).finish_non_exhaustive()
    }
}

impl Verifier {
    /// Begins a verifier of tokens from exactly this issuer (`iss`) for at least one of these audiences (`aud`).
    pub fn builder<A: Into<String>>(issuer: impl Into<String>, audience: impl IntoIterator<Item = A>) -> Builder {
        Builder::new(issuer.into(), audience.into_iter().map(Into::into).collect())
    }

    pub(super) fn from_parts(verifier: TokenVerifier, capacity: usize, keys: KeySet, clock: Arc<dyn Clock>) -> Self {
        let shared = Shared {
            verifier: RememberingVerifier::new(verifier, capacity),
            keys: ArcSwap::from_pointee(keys),
            revocations: RevocationSet::new(),
            changes: watch::Sender::new(0),
            clock,
        };
        Self { shared: Arc::new(shared) }
    }

    /// Who bears this token, if it satisfies the rule. A key that is not known yet is looked up.
    ///
    /// # Errors
    /// See [`Denied`].
    pub async fn verify(&self, token: &str, rule: &Rule) -> Result<Principal, Denied> {
        match self.check(token, rule) {
            Err(Denied::Inactive(Inactive::UnknownKey)) if self.shared.look_up().await => self.check(token, rule),
            checked => checked,
        }
    }

    /// The same at once, for callers that cannot wait. A token whose key is not known yet is [`Denied::Unavailable`] while the
    /// key is looked up.
    ///
    /// # Errors
    /// See [`Denied`].
    pub fn verify_now(&self, token: &str, rule: &Rule) -> Result<Principal, Denied> {
        match self.check(token, rule) {
            Err(Denied::Inactive(Inactive::UnknownKey)) if self.shared.begin_look_up() => Err(Denied::Unavailable),
            checked => checked,
        }
    }

    /// Who calls, by the rule of what they call, with the bearer token they sent or none. `None`: nobody in particular, and that
    /// is enough.
    ///
    /// # Errors
    /// See [`Denied`].
    pub async fn admit(&self, token: Option<&str>, rule: &Rule) -> Result<Option<Principal>, Denied> {
        match (rule.access, token) {
            (Access::Public, _) | (Access::Optional, None) => Ok(None),
            (Access::Required, None) => Err(Denied::NoToken),
            (Access::Optional | Access::Required, Some(token)) => self.verify(token, rule).await.map(Some),
        }
    }

    /// As [`Self::admit`], at once; see [`Self::verify_now`].
    ///
    /// # Errors
    /// See [`Denied`].
    pub fn admit_now(&self, token: Option<&str>, rule: &Rule) -> Result<Option<Principal>, Denied> {
        match (rule.access, token) {
            (Access::Public, _) | (Access::Optional, None) => Ok(None),
            (Access::Required, None) => Err(Denied::NoToken),
            (Access::Optional | Access::Required, Some(token)) => self.verify_now(token, rule).map(Some),
        }
    }

    /// Whether a token that was verified before is still good.
    ///
    /// # Errors
    /// Why it no longer is.
    pub fn recheck(&self, principal: &Principal, rule: &Rule) -> Result<(), Denied> {
        let Shared { verifier, keys, revocations, clock, .. } = &*self.shared;
        self.check_freshness(rule)?;
        if keys.load().get(principal.key_id()).is_none() {
            return Err(Denied::Inactive(Inactive::UnknownKey));
        }
        verifier.verifier().admit(principal.token(), &[], revocations, clock.now()).map_err(Denied::Inactive)
    }

    /// Resolves when a token that was verified before is no longer good: it has expired, or was revoked, or by this rule
    /// nobody can say. For whatever lasts longer than a call.
    pub async fn ended(&self, principal: &Principal, rule: &Rule) -> Denied {
        let mut changes = self.shared.changes.subscribe();
        loop {
            changes.mark_unchanged();
            if let Err(denied) = self.recheck(principal, rule) {
                return denied;
            }
            let end = principal.expire_time().plus(self.shared.verifier.verifier().leeway().get());
            let left = end.since(self.shared.clock.now());
            tokio::select! {
                // The sender lives as long as this verifier.
                _ = changes.changed() => {}
                // Clocks can be set: look again from time to time.
                () = sleep(left.clamp(Duration::from_millis(10), Duration::from_secs(10))) => {}
            }
        }
    }

    fn check(&self, token: &str, rule: &Rule) -> Result<Principal, Denied> {
        let Shared { verifier, keys, revocations, clock, .. } = &*self.shared;
        self.check_freshness(rule)?;
        let checked = verifier.verify_for(&[], token, &keys.load(), revocations, clock.now());
        let principal = Principal::new(checked.map_err(Denied::Inactive)?);
        rule.check(&principal)?;
        Ok(principal)
    }

    fn check_freshness(&self, rule: &Rule) -> Result<(), Denied> {
        match rule.when_stale {
            WhenStale::Deny if self.shared.is_stale() => Err(Denied::Unavailable),
            WhenStale::Deny | WhenStale::Allow => Ok(()),
        }
    }
}

impl Shared {
    /// Whether revocations could be missing.
    #[allow(clippy::unused_self)]
    fn is_stale(&self) -> bool {
        false
    }

    /// Fetches the keys, if that is allowed now. Whether there are others than before.
    #[allow(clippy::unused_self, clippy::unused_async)]
    async fn look_up(&self) -> bool {
        false
    }

    /// Begins to fetch the keys, if that is allowed now.
    #[allow(clippy::unused_self)]
    fn begin_look_up(&self) -> bool {
        false
    }
}
