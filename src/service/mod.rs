//! The use cases, a file each. They own the order of effects: check, decide, effect, answer.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    crypto::{IdentifierHasher, PasswordPool, monotonic_now},
    domain::{
        secret::{Entropy, random},
        time::Clock,
    },
    store::port::Store,
    verifier::{AudiencePolicy, PolicyError, TokenVerifier},
};

mod background;
mod change_password;
mod context;
mod error;
mod feed;
mod get_account;
mod keys;
mod login;
mod logout;
mod policy;
mod refresh;
mod register;
mod revoke_token;
mod sessions;
mod tokens;
mod verify;

pub use background::Background;
pub use context::{Principal, RequestContext};
pub use error::ServiceError;
pub use feed::{Feed, Observer};
pub use keys::{KeyChain, KeyError, PublishedKey};
pub use login::LoginCommand;
pub use policy::Policy;
pub use register::{RegisterCommand, new_user};
pub use sessions::SessionList;
pub use tokens::IssuedTokens;
pub use verify::{Consistency, Verification};

/// A node that has not read the feed for this long should get no calls. The feed is read each second.
const READY_STALENESS: Duration = Duration::from_secs(4);

/// The identity service. One for a process, shared by all calls.
pub struct Service {
    store: Arc<dyn Store>,
    keys: Arc<KeyChain>,
    feed: Arc<Feed>,
    passwords: PasswordPool,
    identifiers: IdentifierHasher,
    verifier: TokenVerifier,
    policy: Policy,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").field("policy", &self.policy).finish_non_exhaustive()
    }
}

/// What a service is made of.
pub struct Parts {
    /// The durable store.
    pub store: Arc<dyn Store>,
    /// The keys, loaded.
    pub keys: Arc<KeyChain>,
    /// The revocation feed, read to its end.
    pub feed: Arc<Feed>,
    /// The hashing threads.
    pub passwords: PasswordPool,
    /// Hides identifiers that belong to nobody.
    pub identifiers: IdentifierHasher,
    /// The operator's decisions.
    pub policy: Policy,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Draws random bytes.
    pub entropy: Arc<dyn Entropy>,
}

impl Service {
    /// Puts the parts together.
    ///
    /// # Errors
    /// If the issuer is empty.
    pub fn new(parts: Parts) -> Result<Self, PolicyError> {
        let Parts { store, keys, feed, passwords, identifiers, policy, clock, entropy } = parts;
        let verifier = TokenVerifier::new(policy.issuer.clone(), AudiencePolicy::NotChecked)?;
        Ok(Self { store, keys, feed, passwords, identifiers, verifier, policy, clock, entropy })
    }

    /// The operator's decisions.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The keys.
    pub fn keys(&self) -> &KeyChain {
        &self.keys
    }

    /// The clock that calls are timed with.
    pub fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    /// Whether calls should be sent here: whether the database answered a moment ago. Asks nobody, so that probes cost
    /// nothing.
    pub fn is_ready(&self) -> bool {
        self.feed.staleness() < READY_STALENESS
    }

    /// Waits for effects under way, then lets go of the database and the hashing threads.
    pub async fn close(&self) {
        self.passwords.shutdown();
        self.store.close().await;
    }

    /// When a call must have its hash: at its own deadline, or when nobody should wait any longer.
    fn hash_deadline(&self, context: &RequestContext) -> Instant {
        context.deadline.min(monotonic_now() + self.policy.hash_wait)
    }

    fn random<const N: usize>(&self) -> [u8; N] {
        random(&*self.entropy)
    }
}
