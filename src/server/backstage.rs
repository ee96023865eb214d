//! The store and its keys, opened without a node around them: what the command line needs, and what a node begins with.
//!
//! A command that only looks must leave no trace: with settings other than the servers' it would otherwise create an empty
//! database beside the real one, or publish a key that nobody asked for.

use std::sync::Arc;

use super::{
    Ambient, StartError, claim_rules, hot_state, location, master_key, options, password_rules, policy, pool_config,
};
use crate::{
    config::{Backend, Settings},
    crypto::{
        ChallengeSeal, DerivedKeys, FactorSeal, HotSeal, KeyedHasher, MasterKey, MessageSeal, PasswordPool, PoolConfig,
        ServiceSecrets, Vault, machine_date,
    },
    domain::warrant::Authority,
    grpc,
    notify::{self, Notifier},
    service::{
        Feed, Hot, KeyChain, KeyError, Observer, Parts, PasswordRules, Policy, PublishedKey, Service, open_message,
    },
    state::HotState,
    store::{
        self, Surroundings,
        port::{DeadMessage, RevokeKey, Store},
    },
    telemetry::Metrics,
    verifier::PolicyError,
};

/// The store, opened under the master key it was made with. Opening it made no key and told the servers nothing.
#[derive(Debug)]
pub struct OpenStore {
    /// The store.
    pub store: Arc<dyn Store>,
    feed: Arc<Feed>,
    hot: Option<Arc<Hot>>,
    policy: Policy,
    pub(super) master: Arc<MasterKey>,
    derived: DerivedKeys,
    pub(super) ambient: Ambient,
    metrics: Arc<Metrics>,
}

/// How many messages are read at once.
const PAGE: u32 = 500;

/// A message that was given up.
#[derive(Debug)]
pub struct DeadLetter {
    /// The row.
    pub message: DeadMessage,
    /// The word for what it says; `None` if it cannot be opened.
    pub kind: Option<&'static str>,
}

impl OpenStore {
    /// Opens what is there. Creates and writes nothing.
    ///
    /// # Errors
    /// See [`StartError`]; what is missing is named.
    pub async fn existing(settings: &Settings, ambient: &Ambient) -> Result<Self, StartError> {
        let master = master_key::existing(settings)?;
        let opened = Self::connect(settings, ambient, master, None, false).await?;
        opened.open_keys().await?;
        Ok(opened)
    }

    /// Opens what is there. An embedded database that is not there is made, and an old one brought up to date, as far as
    /// `serve` would do so; a Postgres is left to `vouchsafe migrate`.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn existing_or_embedded(settings: &Settings, ambient: &Ambient) -> Result<Self, StartError> {
        if let Backend::Postgres { .. } = settings.database.backend {
            return Self::existing(settings, ambient).await;
        }
        let opened = Self::prepared(settings, ambient, None).await?;
        opened.open_keys().await?;
        Ok(opened)
    }

    /// Opens what is there, after creating and migrating what the settings say.
    async fn prepared(
        settings: &Settings,
        ambient: &Ambient,
        state: Option<Arc<dyn HotState>>,
    ) -> Result<Self, StartError> {
        let master = master_key::prepared(settings, &*ambient.entropy)?;
        if settings.database.migrate_on_start {
            store::migrate(&location(settings)).await?;
        }
        Self::connect(settings, ambient, master, state, true).await
    }

    /// Opens what is there with this master key. With `keep`, keys that are derived from it are stored, so that it can be changed
    /// one day; without, nothing is written.
    pub(super) async fn connect(
        settings: &Settings,
        ambient: &Ambient,
        master: MasterKey,
        state: Option<Arc<dyn HotState>>,
        keep: bool,
    ) -> Result<Self, StartError> {
        let claims = claim_rules(settings)?;
        let derived = master_key::derived(settings, &master, ambient, keep).await?;
        let master = Arc::new(master);
        let hot = state.map(|state| Arc::new(Hot::new(state, HotSeal::new(&derived))));
        let observer = Arc::new(Observer::new());
        let around = Surroundings {
            clock: Arc::clone(&ambient.clock),
            entropy: Arc::clone(&ambient.entropy),
            vault: Arc::new(Vault::new(Arc::clone(&master), &derived, Arc::clone(&ambient.entropy))),
            observer: Arc::clone(&observer) as Arc<_>,
            kept_passwords: settings.passwords.history,
        };
        let store = store::open(&location(settings), &options(settings), around).await?;
        let metrics = Arc::new(Metrics::new(grpc::paths(), machine_date()));
        let clock = Arc::clone(&ambient.clock);
        let feed = Arc::new(Feed::new(Arc::clone(&store), hot.clone(), observer, clock, Arc::clone(&metrics)));
        // First of all, because it sets the clock by the database's.
        feed.catch_up().await?;
        let policy = policy(settings, claims);
        Ok(Self { store, feed, hot, policy, master, derived, ambient: ambient.clone(), metrics })
    }

    /// Every signing key not yet removed, the oldest first.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn keys(&self) -> Result<Vec<PublishedKey>, StartError> {
        Ok(self.open_keys().await?.published())
    }

    /// Publishes one successor of every key now, or the first ones if there are none.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn rotate_keys(&self) -> Result<(), StartError> {
        self.open_keys().await?.rotate_now(&*self.store, &self.policy, Authority::operator()).await?;
        Ok(())
    }

    /// Revokes a signing key and every token it signed, and sees to it that another one signs.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn revoke_key(&self, kid: &str) -> Result<RevokeKey, StartError> {
        Ok(self.open_keys().await?.revoke(&*self.store, &self.policy, kid, Authority::operator()).await?)
    }

    /// Every message that was given up, the oldest first.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn dead_letters(&self) -> Result<Vec<DeadLetter>, StartError> {
        let seal = MessageSeal::new(Arc::clone(&self.master));
        let mut letters: Vec<DeadLetter> = Vec::new();
        loop {
            let page = self.store.dead_messages(letters.last().map(|letter| letter.message.id), PAGE).await?;
            if page.is_empty() {
                return Ok(letters);
            }
            letters.extend(page.into_iter().map(|message| {
                let opened = open_message(&seal, message.id, &message.sealed);
                let kind = opened.ok().and_then(|opened| notify::kind(&opened.notice));
                DeadLetter { message, kind }
            }));
        }
    }

    /// The use cases on this store, without calls from outside and without a background: for acts of the operator's, one at a
    /// time. Running servers hear of what they do from the revocation feed, which they read each second.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn into_service(self, settings: &Settings) -> Result<Arc<Service>, StartError> {
        let keys = Arc::new(self.open_keys().await?);
        let Self { store, feed, hot: _, policy, master, derived, ambient, metrics } = self;
        // For records of users who are deleted. A Redis that cannot be used keeps no operator from anything.
        let hot = hot_state(settings).ok().flatten().map(|state| Arc::new(Hot::new(state, HotSeal::new(&derived))));
        let one_at_a_time = PoolConfig { threads: 1, queue: 1, niceness: 0, ..pool_config(settings) };
        let passwords = (PasswordPool::start(one_at_a_time)?, password_rules(settings)?);
        let service =
            // What is to be sent, a server sends.
            Backstage { store, keys, feed, hot, policy, metrics, master, derived }.into_service(
                passwords,
                Notifier::off(),
                &ambient,
            )?;
        Ok(Arc::new(service))
    }

    /// Opens every key, which tells as well whether the master key is the right one.
    pub(super) async fn open_keys(&self) -> Result<KeyChain, KeyError> {
        let Ambient { clock, entropy } = self.ambient.clone();
        let observer = Arc::clone(self.feed.observer());
        KeyChain::open(&*self.store, Arc::clone(&self.master), clock, entropy, observer).await
    }
}

/// The store and the keys as `serve` opens them.
#[derive(Debug)]
pub struct Backstage {
    /// The store.
    pub store: Arc<dyn Store>,
    /// The keys, made if there were none.
    pub keys: Arc<KeyChain>,
    /// The revocation feed, read to its end.
    pub feed: Arc<Feed>,
    /// The hot state, if there is one.
    pub hot: Option<Arc<Hot>>,
    /// The operator's decisions.
    pub policy: Policy,
    /// What the node will count and measure with.
    pub metrics: Arc<Metrics>,
    pub(super) master: Arc<MasterKey>,
    derived: DerivedKeys,
}

impl Backstage {
    /// Opens the store, made and migrated as the settings say; announces how long tokens live; loads the keys, and publishes
    /// successors that are due.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn open(settings: &Settings, ambient: &Ambient) -> Result<Self, StartError> {
        let opened = OpenStore::prepared(settings, ambient, hot_state(settings)?).await?;
        opened.store.announce_access_ttl(opened.policy.access_ttl).await?;
        let keys = Arc::new(opened.open_keys().await?);
        keys.rotate_if_due(&*opened.store, &opened.policy, Authority::system()).await?;
        let OpenStore { store, feed, hot, policy, master, derived, metrics, ambient: _ } = opened;
        Ok(Self { store, keys, feed, hot, policy, metrics, master, derived })
    }

    /// The use cases on it, with these hashing threads and rules for passwords.
    pub(super) fn into_service(
        self,
        (passwords, rules): (PasswordPool, PasswordRules),
        notifier: Notifier,
        ambient: &Ambient,
    ) -> Result<Service, PolicyError> {
        let Self { store, keys, feed, hot, policy, metrics, master, derived } = self;
        let Ambient { clock, entropy } = ambient.clone();
        Service::new(Parts {
            store,
            keys,
            feed,
            hot,
            passwords,
            rules,
            secrets: ServiceSecrets::new(&derived),
            hasher: KeyedHasher::new(&derived),
            seal: MessageSeal::new(Arc::clone(&master)),
            factor_seal: FactorSeal::new(Arc::clone(&master)),
            challenges: ChallengeSeal::new(Arc::clone(&master)),
            notifier,
            policy,
            clock,
            entropy,
            metrics,
        })
    }
}
