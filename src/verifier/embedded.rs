//! The verifier that services embed: the core with keys and revocations that keep themselves up to date.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
    time::sleep,
};

use super::{
    ambient::monotonic_now,
    builder::Builder,
    check::Inactive,
    keys::Keys,
    metrics::{Counters, Metrics},
    principal::Principal,
    revocation_set::RevocationSet,
    rule::{Access, Denied, Rule, WhenStale},
    seen::RememberingVerifier,
    watch::{Freshness, IssuerTime, Now, Place},
};
use crate::domain::{
    audience::Audience,
    time::{Clock, Timestamp},
};

/// Verifies access tokens in this process. Cheap to clone; clones share everything, and what keeps it up to date in the
/// background ends with the last of them.
#[derive(Clone)]
pub struct Verifier {
    pub(super) shared: Arc<Shared>,
    _background: Arc<JoinSet<()>>,
}

/// What all clones share with what keeps them up to date.
pub(super) struct Shared {
    pub(super) verifier: RememberingVerifier,
    pub(super) keys: Keys,
    pub(super) revocations: RevocationSet,
    pub(super) freshness: Freshness,
    /// What the issuer's clock shows, if it is listened to.
    pub(super) issuer_time: IssuerTime,
    /// Whom keys and revocations are asked of, if anybody is.
    #[cfg(feature = "sidecar")]
    pub(super) issuer: Option<Arc<super::issuer::Issuer>>,
    /// Where to go on with the revocations.
    pub(super) place: Place,
    /// Goes up whenever something that was good may no longer be: keys, revocations or their freshness have changed.
    pub(super) changes: watch::Sender<u64>,
    /// Wakes [`super::herald`].
    pub(super) news: Notify,
    /// Wakes what saves the state.
    pub(super) unsaved: Notify,
    pub(super) metrics: Counters,
    pub(super) clock: Arc<dyn Clock>,
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

    /// `background` ends when the last clone is dropped.
    pub(super) fn new(shared: Arc<Shared>, background: JoinSet<()>) -> Self {
        Self { shared, _background: Arc::new(background) }
    }

    /// Who bears this token, if it satisfies the rule. A key that is not known yet is looked up.
    ///
    /// # Errors
    /// See [`Denied`].
    pub async fn verify(&self, token: &str, rule: &Rule) -> Result<Principal, Denied> {
        self.verify_for(&[], token, rule).await
    }

    /// The same for one call's own audiences: the token must be meant for one of these as well, unless there are none.
    ///
    /// # Errors
    /// See [`Denied`].
    pub async fn verify_for(&self, audience: &[Audience], token: &str, rule: &Rule) -> Result<Principal, Denied> {
        let mut checked = self.check(audience, token, rule);
        if let Err(Denied::Inactive(Inactive::UnknownKey)) = checked {
            checked = match self.shared.keys.look_up().await {
                Ok(()) => match self.check(audience, token, rule) {
                    Err(Denied::Inactive(Inactive::UnknownKey)) => Err(self.shared.keys.unknown()),
                    checked => checked,
                },
                Err(denied) => Err(denied),
            };
        }
        self.shared.metrics.verified(&checked);
        checked
    }

    /// The same at once, for callers that cannot wait. A token whose key is not known yet is [`Denied::Unavailable`] while the
    /// key is looked up.
    ///
    /// # Errors
    /// See [`Denied`].
    pub fn verify_now(&self, token: &str, rule: &Rule) -> Result<Principal, Denied> {
        let mut checked = self.check(&[], token, rule);
        if let Err(Denied::Inactive(Inactive::UnknownKey)) = checked {
            checked = Err(self.shared.keys.begin_look_up());
        }
        self.shared.metrics.verified(&checked);
        checked
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
        let Shared { verifier, keys, revocations, .. } = &*self.shared;
        let now = self.shared.now();
        self.check_freshness(rule, now)?;
        if keys.load().get(principal.key_id()).is_none() {
            // A revoked key leaves the set, too.
            let revoked = revocations.is_key_revoked(principal.key_id());
            return Err(Denied::Inactive(if revoked { Inactive::Revoked } else { Inactive::UnknownKey }));
        }
        verifier.verifier().admit(principal.token(), &[], revocations, self.shared.date(now)).map_err(Denied::Inactive)
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
            let left = end.since(self.shared.date(self.shared.now()));
            tokio::select! {
                // The sender lives as long as this verifier.
                _ = changes.changed() => {}
                // Clocks can be set: look again from time to time.
                () = sleep(left.clamp(Duration::from_millis(10), Duration::from_secs(10))) => {}
            }
        }
    }

    /// Whether tokens can be verified: there are keys, and no revocations could be missing for longer than `max_staleness`.
    pub fn is_ready(&self) -> bool {
        self.shared.is_ready()
    }

    /// Resolves when [`Self::is_ready`].
    pub async fn ready(&self) {
        let mut changes = self.shared.changes.subscribe();
        while !self.shared.is_ready() {
            // The sender lives as long as this verifier.
            let _ = changes.changed().await;
        }
    }

    /// How old the list of revocations is: no token that was revoked longer ago than this is accepted. [`Duration::MAX`] if the
    /// list was never complete; zero without revocations.
    pub fn staleness(&self) -> Duration {
        self.shared.freshness.staleness(self.shared.now())
    }

    /// The way to the service, for what only it can answer.
    #[cfg(feature = "sidecar")]
    pub(crate) fn issuer(&self) -> Option<&super::issuer::Issuer> {
        self.shared.issuer.as_deref()
    }

    /// What is revoked.
    pub fn revocations(&self) -> &RevocationSet {
        &self.shared.revocations
    }

    /// What it has counted, and how it is.
    pub fn metrics(&self) -> Metrics {
        let Shared { verifier, keys, revocations, freshness, metrics, .. } = &*self.shared;
        let now = self.shared.now();
        let (remembered, examined) = verifier.hits_and_misses();
        Metrics {
            remembered,
            examined,
            keys: keys.load().len(),
            revocations: revocations.len(),
            staleness: freshness.staleness(now),
            stale: freshness.is_stale(now),
            ready: self.shared.is_ready(),
            ..metrics.read()
        }
    }

    fn check(&self, audience: &[Audience], token: &str, rule: &Rule) -> Result<Principal, Denied> {
        let Shared { verifier, keys, revocations, .. } = &*self.shared;
        let now = self.shared.now();
        self.check_freshness(rule, now)?;
        let keys = keys.load();
        let checked = verifier.verify_for(audience, token, &keys, revocations, self.shared.date(now));
        let principal = Principal::new(checked.map_err(|reason| match reason {
            // They were never had, so nobody can say.
            Inactive::UnknownKey if keys.is_empty() => Denied::Unavailable,
            reason => Denied::Inactive(reason),
        })?);
        rule.check(&principal)?;
        Ok(principal)
    }

    fn check_freshness(&self, rule: &Rule, now: Now) -> Result<(), Denied> {
        match rule.when_stale {
            WhenStale::Deny if self.shared.freshness.is_stale(now) => Err(Denied::Unavailable),
            WhenStale::Deny | WhenStale::Allow => Ok(()),
        }
    }
}

impl Shared {
    pub(super) fn new(verifier: RememberingVerifier, keys: Keys, freshness: Freshness, clock: Arc<dyn Clock>) -> Self {
        Self {
            verifier,
            keys,
            revocations: RevocationSet::new(),
            freshness,
            issuer_time: IssuerTime::new(monotonic_now()),
            #[cfg(feature = "sidecar")]
            issuer: None,
            place: Place::default(),
            changes: watch::Sender::new(0),
            news: Notify::new(),
            unsaved: Notify::new(),
            metrics: Counters::default(),
            clock,
        }
    }

    fn is_ready(&self) -> bool {
        !self.keys.load().is_empty() && !self.freshness.is_stale(self.now())
    }

    /// This moment, by this machine's clocks.
    pub(super) fn now(&self) -> Now {
        Now { monotonic: monotonic_now(), date: self.clock.now() }
    }

    /// The date that tokens are judged by: this machine's, or what the issuer's clock shows at least if that is later. What has
    /// expired there may have been forgotten there.
    fn date(&self, now: Now) -> Timestamp {
        self.issuer_time.now(now.monotonic).map_or(now.date, |issuer| issuer.max(now.date))
    }

    /// The date by which every clock agrees that something has expired; `None` while the issuer has not said what time it is.
    /// A clock that is set forward and back again must not make a revoked token good.
    fn agreed_date(&self) -> Option<Timestamp> {
        let now = self.now();
        self.issuer_time.now(now.monotonic).map(|issuer| issuer.min(now.date))
    }

    /// Forgets the revocations that have expired for certain. Blocks for milliseconds if there are many.
    pub(super) fn purge(&self) {
        if let Some(date) = self.agreed_date() {
            self.revocations.purge(date);
        }
    }

    /// Keys or revocations have changed.
    pub(super) fn announce(&self) {
        self.news.notify_one();
        self.unsaved.notify_one();
    }

    /// The list is complete up to this moment. Whether that is news.
    pub(super) fn vouch(&self, moment: Instant, now: Now) -> bool {
        let was_stale = self.freshness.is_stale(now);
        let news = self.freshness.vouch(moment, now);
        if was_stale && news {
            // From here on there is another moment at which it will be stale.
            self.news.notify_one();
        }
        news
    }
}
