//! The use cases, a file each. They own the order of effects: check, decide, effect, answer.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use self::{
    hot::{behind::WriteBehind, rows::RowReader},
    refresh::HotRefresh,
};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use crate::{
    crypto::{ChallengeSeal, FactorSeal, KeyedHasher, MessageSeal, PasswordPool, ServiceSecrets, monotonic_now},
    domain::{
        secret::{Entropy, random},
        time::Clock,
    },
    notify::Notifier,
    store::port::Store,
    telemetry::{Family, Metrics, Readings},
    verifier::{AudiencePolicy, PolicyError, RememberingVerifier, TokenVerifier},
};

mod audit;
mod background;
mod begin_session;
mod challenge;
mod change_email;
mod change_password;
mod change_phone_number;
mod context;
mod encryption;
mod erasure;
mod error;
mod export;
mod factors;
mod failures;
mod feed;
mod get_account;
mod hot;
mod imports;
mod in_step;
mod keys;
mod login;
mod login_code;
mod logout;
mod mailed_codes;
mod messages;
mod outbox;
mod password_rules;
mod policy;
mod recent;
mod refresh;
mod register;
mod reset_password;
mod revoke_token;
mod roles;
mod service_accounts;
mod service_tokens;
mod sessions;
mod signing_keys;
mod throttle;
mod tokens;
mod update_account;
mod users;
mod verify;
mod verify_email;
mod verify_password;
mod watch;

pub use crate::crypto::import_hash;
pub use audit::{AuditWatch, CursorError, EventPage, EventPageToken, TrailCursor, WatchFrom};
pub use background::Background;
pub use begin_session::{SignInRequest, SignInStep, SignedIn};
pub use challenge::{ChallengeResponse, IssuedChallenge};
pub use change_phone_number::PhoneVerification;
pub use context::{Principal, RequestContext};
pub use encryption::{Encryption, EncryptionProblems};
pub use erasure::ReappliedErasures;
pub use error::ServiceError;
pub use export::{Export, ExportEnd, Waiting};
pub use factors::TotpEnrolment;
pub use feed::{Feed, Observer, Piece};
pub use hot::Hot;
pub use imports::{Import, ImportRow, Imported, MAX_ROWS};
pub use keys::{KeyChain, KeyError, PublishedKey};
pub use login::LoginCommand;
pub use login_code::LoginCodeCommand;
pub use messages::open_message;
pub use password_rules::{ChosenFor, PasswordRules, RuleOptions};
pub use policy::Policy;
pub use register::{RegisterCommand, RegisterFields, new_user};
pub use roles::RoleList;
pub use service_accounts::{CreateServiceAccountCommand, ServiceAccountList};
pub use service_tokens::{ServiceToken, ServiceTokenCommand};
pub use sessions::SessionList;
pub use tokens::IssuedTokens;
pub use users::{CreateUserCommand, NewSecret, PageToken, UserKey, UserPage};
pub use verify::{Consistency, Verification};
pub use watch::{RevocationWatch, Told, WatchPlace, WatchPlaces};

/// A node that has not read the feed for this long should get no calls. The feed is read each second.
const READY_STALENESS: Duration = Duration::from_secs(4);

/// Access tokens that need no second check of their signature, so that a busy one costs less: at most some 16 MB.
const REMEMBERED_TOKENS: usize = 16_384;

/// The identity service. One for a process, shared by all calls.
pub struct Service {
    store: Arc<dyn Store>,
    keys: Arc<KeyChain>,
    feed: Arc<Feed>,
    hot: Option<HotRefresh>,
    passwords: PasswordPool,
    rules: PasswordRules,
    secrets: ServiceSecrets,
    hasher: KeyedHasher,
    seal: MessageSeal,
    factor_seal: FactorSeal,
    challenges: ChallengeSeal,
    verifier: RememberingVerifier,
    policy: Policy,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    metrics: Arc<Metrics>,
    imports: Arc<Semaphore>,
    watches: watch::Watches,
    audit_watches: WatchPlaces,
    exports: export::Exports,
    buckets: throttle::Buckets,
    notifier: Notifier,
    deliveries: TaskTracker,
    erasures: TaskTracker,
    eraser: Arc<erasure::Eraser>,
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
    /// The hot state, if there is one.
    pub hot: Option<Arc<Hot>>,
    /// The hashing threads.
    pub passwords: PasswordPool,
    /// Which passwords may be chosen.
    pub rules: PasswordRules,
    /// Makes secrets of service accounts.
    pub secrets: ServiceSecrets,
    /// Hashes codes, handles and device secrets.
    pub hasher: KeyedHasher,
    /// Seals messages in the outbox.
    pub seal: MessageSeal,
    /// Seals the seeds of authenticator apps.
    pub factor_seal: FactorSeal,
    /// Seals sign-ins that wait for a code.
    pub challenges: ChallengeSeal,
    /// Words and delivers messages.
    pub notifier: Notifier,
    /// The operator's decisions.
    pub policy: Policy,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Draws random bytes.
    pub entropy: Arc<dyn Entropy>,
    /// Counts and measures.
    pub metrics: Arc<Metrics>,
}

impl Service {
    /// Puts the parts together.
    ///
    /// # Errors
    /// If the issuer is empty.
    pub fn new(parts: Parts) -> Result<Self, PolicyError> {
        let Parts {
            store,
            keys,
            feed,
            hot,
            passwords,
            rules,
            secrets,
            hasher,
            seal,
            factor_seal,
            challenges,
            notifier,
            policy,
            clock,
            entropy,
            metrics,
        } = parts;
        let verifier = TokenVerifier::new(policy.issuer.clone(), AudiencePolicy::NotChecked)?;
        let verifier = verifier.with_wrapping(policy.encryption.wrapping());
        let verifier = RememberingVerifier::new(verifier, REMEMBERED_TOKENS);
        let longest = policy.sessions.absolute;
        let eraser = erasure::Eraser::new(Arc::clone(&store), hot.clone(), seal.clone(), Arc::clone(&clock), longest);
        let hot = hot.map(|hot| HotRefresh {
            hot,
            rows: RowReader::new(Arc::clone(&store), Arc::clone(&feed)),
            behind: WriteBehind::default(),
            tasks: TaskTracker::new(),
        });
        Ok(Self {
            store,
            keys,
            feed,
            hot,
            passwords,
            rules,
            secrets,
            hasher,
            seal,
            factor_seal,
            challenges,
            verifier,
            policy,
            clock,
            entropy,
            metrics,
            imports: Arc::new(Semaphore::new(imports::IMPORTS)),
            watches: watch::Watches::default(),
            audit_watches: WatchPlaces::new(audit::AUDIT_WATCHES),
            exports: export::Exports::default(),
            buckets: throttle::Buckets::default(),
            notifier,
            deliveries: TaskTracker::new(),
            erasures: TaskTracker::new(),
            eraser: Arc::new(eraser),
        })
    }

    /// The operator's decisions.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The keys.
    pub fn keys(&self) -> &KeyChain {
        &self.keys
    }

    /// The keys, read after the last change of them that anybody was told of by this node, if the database can be asked.
    pub async fn current_keys(&self) -> &KeyChain {
        self.keys.keep_up(&*self.store).await;
        &self.keys
    }

    /// The clock that calls are timed with.
    pub fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    /// Where is counted and measured.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// All metrics at this moment. Asks nobody who could keep it waiting.
    pub fn collect_metrics(&self) -> Vec<Family> {
        let now = self.clock.now();
        self.metrics.collect(&Readings {
            feed_head: self.feed.head(),
            feed_staleness: Some(self.feed.database_staleness()).filter(|age| *age < Duration::MAX),
            revocations: self.feed.revocations().len(),
            key_age: self.keys.signing_since(now).map(|since| now.since(since)),
            key_next: self.keys.next_activation(now),
            hashing: self.passwords.queue_stats(),
            database: self.store.connections(),
            hot_state_up: self.hot.as_ref().map(|parts| parts.hot.is_up()),
        })
    }

    /// Whether calls should be sent here: whether the database answered a moment ago, or the hot state speaks for it. Asks
    /// nobody, so that probes cost nothing.
    pub fn is_ready(&self) -> bool {
        let database = self.feed.database_staleness();
        database < READY_STALENESS || self.feed.is_vouched_for() && database < self.policy.database_grace
    }

    /// Waits for refreshes under way. To be called while the background still runs.
    pub async fn finish_refreshes(&self) {
        if let Some(hot) = &self.hot {
            hot.tasks.close();
            hot.tasks.wait().await;
        }
    }

    /// Waits for effects under way, then lets go of the database and the hashing threads.
    pub async fn close(&self) {
        self.passwords.shutdown();
        if let Some(hot) = &self.hot
            && let Err(error) = hot.behind.flush(&*self.store).await
        {
            tracing::warn!(%error, sessions = hot.behind.len(), "rows stay behind their hot records");
        }
        self.write_failures().await;
        // Messages that are half sent would be sent twice. Last, because a provider may be slow.
        self.deliveries.close();
        self.deliveries.wait().await;
        self.erasures.close();
        self.erasures.wait().await;
        self.eraser.finish().await;
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
