//! The keys in use: loaded from the store, opened with the master key, replaced on schedule.
//!
//! Which key signs is decided by the moments in its row, so nodes agree without talking. A key is published long before it
//! signs, so every node and verifier has it by then.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use serde::Serialize;
use tokio::{sync::Mutex, time::timeout};

pub use self::load::KeyError;
use self::{
    load::{Keys, SigningKey, read, refresh_key_context, signing_key_context},
    loading::Readings,
};
use super::{Observer, Policy, ServiceError};
use crate::{
    crypto::{MasterKey, ParsedRefreshToken, RefreshClaims, refresh_token::mint},
    domain::{
        id::SessionId,
        refresh::Family,
        secret::{Entropy, SecretString, random},
        signing_key::{Algorithm, KeyLife, KeyState},
        time::{Clock, Timestamp},
        warrant::Authority,
    },
    jose::{KeySet, SignError, SigningKeyPair},
    store::{
        Refused, StoreError,
        port::{NewSigningKey, RevokeKey, Rotate, Store},
    },
    verifier::RevocationSet,
};

mod load;
mod loading;

/// How long whoever asks for the keys waits for those that have just changed. After that, what is remembered must do.
const KEEPING_UP: Duration = Duration::from_secs(2);

/// A key as verifiers and operators see it.
#[derive(Clone, Debug, Serialize)]
pub struct PublishedKey {
    /// Its thumbprint.
    pub kid: String,
    /// Its one algorithm.
    pub algorithm: Algorithm,
    /// Where it stands.
    pub state: KeyState,
    /// The public key.
    pub jwk: serde_json::Value,
    /// Its moments.
    #[serde(skip)]
    pub life: KeyLife,
}

/// The keys in use.
pub struct KeyChain {
    master: Arc<MasterKey>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    observer: Arc<Observer>,
    keys: ArcSwap<Keys>,
    readings: Readings<Failure>,
    /// Held while a signing key is made.
    making: Arc<Mutex<()>>,
}

/// How a reading failed, for all who waited for it.
#[derive(Clone)]
enum Failure {
    Away(String),
    Fault(String),
}

impl From<&KeyError> for Failure {
    fn from(error: &KeyError) -> Self {
        match error {
            KeyError::Store(StoreError::Unavailable(cause)) => Self::Away(cause.to_string()),
            other => Self::Fault(other.to_string()),
        }
    }
}

impl std::fmt::Debug for KeyChain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyChain").finish_non_exhaustive()
    }
}

impl KeyChain {
    /// Loads every key there is, and tells the observer of those that were revoked. Publishes none.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub async fn open(
        store: &dyn Store,
        master: Arc<MasterKey>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        observer: Arc<Observer>,
    ) -> Result<Self, KeyError> {
        let keys = read(store, &master, clock.now(), &Keys::default(), &observer).await?;
        let keys = ArcSwap::from_pointee(keys);
        Ok(Self { master, clock, entropy, observer, keys, readings: Readings::default(), making: Arc::default() })
    }

    /// Loads every key anew.
    ///
    /// # Errors
    /// See [`KeyError`]; the keys in use stay.
    pub async fn reload(&self, store: &dyn Store) -> Result<(), KeyError> {
        self.readings.read(self.load(store)).await
    }

    /// Loads every key anew if they have changed since they were loaded: whoever was told of the change and asks for the keys
    /// must not get those of before. If the database is away, those that are remembered stay.
    pub async fn keep_up(&self, store: &dyn Store) {
        if self.are_current() {
            return;
        }
        let reading = async { self.load(store).await.map_err(|error| Failure::from(&error)) };
        // In time or not, there are keys to go on with.
        let _ = timeout(KEEPING_UP, self.readings.keep_up(|| self.are_current(), reading)).await;
    }

    /// Whether they were loaded after the last change that anybody was told of.
    fn are_current(&self) -> bool {
        self.keys.load().as_of == self.observer.key_changes()
    }

    /// Publishes successors where the schedule wants them, and the first keys if there are none.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub async fn rotate_if_due(&self, store: &dyn Store, policy: &Policy, by: Authority) -> Result<(), KeyError> {
        let now = self.clock.now();
        let keys = self.keys.load_full();
        let serves = |k: &SigningKey| {
            k.algorithm == policy.algorithm && matches!(k.life.state(now), KeyState::Published | KeyState::Active)
        };
        // Only a look, to spare the work; the store decides again under its lock.
        let signing =
            policy.rotation.is_due(keys.signing.iter().map(|k| &k.life), now) || !keys.signing.iter().any(serves);
        let refresh = policy.rotation.is_due(keys.refresh.values().map(|k| &k.life), now);
        let new = if signing { Some(self.new_signing_key(policy.algorithm).await?) } else { None };
        self.publish(store, policy, Rotate::IfDue, by, new, refresh).await
    }

    /// Publishes successors of every key now: the `kid` of the one that will sign.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub async fn rotate_now(&self, store: &dyn Store, policy: &Policy, by: Authority) -> Result<String, KeyError> {
        let new = self.new_signing_key(policy.algorithm).await?;
        let kid = new.kid.clone();
        self.publish(store, policy, Rotate::Now, by, Some(new), true).await?;
        Ok(kid)
    }

    /// Revokes a key that has fallen into wrong hands: every token it signed is refused from now on, and another key signs.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub async fn revoke(
        &self,
        store: &dyn Store,
        policy: &Policy,
        kid: &str,
        by: Authority,
    ) -> Result<RevokeKey, KeyError> {
        let published = || self.published().into_iter().find(|key| key.kid == kid);
        let mut revoked = published();
        if revoked.is_none() {
            // Published by another node a moment ago: whoever is told that there is no such key takes it for gone.
            self.reload(store).await?;
            revoked = published();
        }
        let Some(revoked) = revoked else { return Ok(RevokeKey::Unknown) };
        // Of the same algorithm: a change of that has its own time.
        let successor = self.new_signing_key(revoked.algorithm).await?;
        let outcome = store.revoke_signing_key(kid.to_owned(), successor, policy.rotation, by).await?;
        self.reload(store).await?;
        Ok(outcome)
    }

    async fn publish(
        &self,
        store: &dyn Store,
        policy: &Policy,
        rotate: Rotate,
        by: Authority,
        signing: Option<NewSigningKey>,
        refresh: bool,
    ) -> Result<(), KeyError> {
        let changed = signing.is_some() || refresh;
        if let Some(new) = signing {
            store.rotate_signing_key(new, policy.rotation, rotate, by.clone()).await?;
        }
        if refresh {
            let (master, entropy) = (Arc::clone(&self.master), Arc::clone(&self.entropy));
            let seal = move |id: i64| {
                let key: [u8; 32] = random(&*entropy);
                master.seal(refresh_key_context(&id.to_be_bytes()), &key, &*entropy)
            };
            store.rotate_refresh_key(Arc::new(seal), policy.rotation, rotate, by).await?;
        }
        if changed { self.reload(store).await } else { Ok(()) }
    }

    /// Makes a key where no call waits for it: an RSA key takes a second. One at a time, also if whoever asked goes away.
    async fn new_signing_key(&self, algorithm: Algorithm) -> Result<NewSigningKey, KeyError> {
        let failed = |problem: String| KeyError::Damaged { key: "(new)".to_owned(), problem };
        let one = Arc::clone(&self.making).lock_owned().await;
        let make = move || {
            let _one = one;
            SigningKeyPair::generate(algorithm).and_then(|pair| Ok((pair.to_pkcs8()?, pair)))
        };
        let outcome = tokio::task::spawn_blocking(make).await.map_err(|gone| failed(gone.to_string()))?;
        let (pkcs8, pair) = outcome.map_err(|problem| failed(problem.to_string()))?;
        let kid = pair.public_key().kid().to_owned();
        Ok(NewSigningKey {
            algorithm,
            public_jwk: pair.public_key().to_jwk(),
            private_key_sealed: self.master.seal(signing_key_context(kid.as_bytes()), &pkcs8, &*self.entropy),
            kid,
        })
    }

    /// The keys that tokens are verified with.
    pub fn verification_keys(&self) -> Arc<KeySet> {
        Arc::clone(&self.keys.load().verification)
    }

    /// The same as a JWKS, without those that are known to be revoked and have not been forgotten yet.
    pub fn jwks(&self) -> serde_json::Value {
        let mut jwks = self.verification_keys().to_jwks();
        if let Some(keys) = jwks.get_mut("keys").and_then(serde_json::Value::as_array_mut) {
            let is_revoked =
                |key: &serde_json::Value| key["kid"].as_str().is_some_and(|kid| self.observer.is_key_revoked(kid));
            keys.retain(|key| !is_revoked(key));
        }
        jwks
    }

    /// Every key neither removed nor revoked, the oldest first.
    pub fn published(&self) -> Vec<PublishedKey> {
        let now = self.clock.now();
        let published = |k: &SigningKey| PublishedKey {
            kid: k.pair.public_key().kid().to_owned(),
            algorithm: k.algorithm,
            state: k.life.state(now),
            jwk: k.pair.public_key().to_jwk(),
            life: k.life,
        };
        self.keys
            .load()
            .signing
            .iter()
            .map(published)
            .filter(|k| k.state != KeyState::Removed && !self.observer.is_key_revoked(&k.kid))
            .collect()
    }

    /// Since when the key signs that is active at `now`.
    pub fn signing_since(&self, now: Timestamp) -> Option<Timestamp> {
        let keys = self.keys.load();
        let active = keys.signing.iter().filter(|k| k.life.state(now) == KeyState::Active);
        active.map(|k| k.life.activate_time).max()
    }

    /// When the next published key begins to sign.
    pub fn next_activation(&self, now: Timestamp) -> Option<Timestamp> {
        let keys = self.keys.load();
        let published = keys.signing.iter().filter(|k| k.life.state(now) == KeyState::Published);
        published.map(|k| k.life.activate_time).min()
    }

    /// Signs with the key that is active at `now`, and never with one that is revoked: whether this node's keys were read
    /// before or after that, `revocations` knows.
    pub(super) async fn sign(
        &self,
        store: &dyn Store,
        revocations: &RevocationSet,
        now: Timestamp,
        typ: &str,
        claims: &impl Serialize,
    ) -> Result<SecretString, ServiceError> {
        let mut pair = self.signing_pair(revocations, now);
        if pair.is_none() {
            // Its successor is in the same transaction as a revocation.
            self.look_up(store).await?;
            pair = self.signing_pair(revocations, now);
        }
        let Some(pair) = pair else {
            return Err(ServiceError::Unavailable { cause: "no signing key is active".to_owned() });
        };
        pair.sign(typ, claims).map(SecretString::new).map_err(|error| match error {
            SignError::TooLong => Refused::ClaimsTooLarge.into(),
            SignError::Claims(_) | SignError::Library => ServiceError::internal(error),
        })
    }

    /// How long the token would be that is signed at `now`; `None` if no key signs.
    pub(super) fn signed_len(
        &self,
        revocations: &RevocationSet,
        now: Timestamp,
        typ: &str,
        claims: &impl Serialize,
    ) -> Option<usize> {
        self.signing_pair(revocations, now)?.signed_len(typ, claims).ok()
    }

    fn signing_pair(&self, revocations: &RevocationSet, now: Timestamp) -> Option<Arc<SigningKeyPair>> {
        let keys = self.keys.load();
        let signs = |key: &&SigningKey| {
            key.life.state(now) == KeyState::Active && !revocations.is_key_revoked(key.pair.public_key().kid())
        };
        let newest = keys.signing.iter().filter(signs).max_by_key(|key| key.life.activate_time);
        newest.map(|key| Arc::clone(&key.pair))
    }

    /// The number of the refresh key that signs at `now`.
    pub(super) fn refresh_key_in_force(&self, now: Timestamp) -> Result<i64, ServiceError> {
        let keys = self.keys.load();
        let active = keys.refresh.iter().filter(|(_, k)| k.life.state(now) == KeyState::Active);
        let newest = active.max_by_key(|(_, k)| k.life.activate_time).map(|(id, _)| *id);
        newest.ok_or_else(|| ServiceError::internal("no refresh key is active"))
    }

    /// The refresh token of a family's current generation: the same each time it is asked for.
    pub(super) fn mint_refresh_token(&self, session: SessionId, family: &Family) -> Result<SecretString, ServiceError> {
        let keys = self.keys.load();
        let Some(key) = keys.refresh.get(&family.key_id) else {
            return Err(ServiceError::Unavailable { cause: format!("refresh key {} is not loaded", family.key_id) });
        };
        Ok(mint(&key.key, session, family.generation))
    }

    /// Checks a refresh token's authenticity. A key number we do not know is looked up; if it stays unknown we cannot tell
    /// whether the token is good, and say so rather than send its holder away.
    pub(super) async fn read_refresh_token(
        &self,
        store: &dyn Store,
        token: &SecretString,
    ) -> Result<RefreshClaims, ServiceError> {
        let parsed = ParsedRefreshToken::parse(token.expose()).map_err(|_| ServiceError::RefreshTokenInvalid)?;
        let id = parsed.key_id();
        if !self.keys.load().refresh.contains_key(&id) {
            self.look_up(store).await?;
        }
        let keys = self.keys.load();
        let Some(key) = keys.refresh.get(&id) else {
            return Err(ServiceError::UnknownRefreshKey { id });
        };
        parsed.verify(&key.key).map_err(|_| ServiceError::RefreshTokenInvalid)
    }

    /// Loads every key anew because a token names one that is not known here. It may have been published a moment ago by
    /// another node, so this is to be asked before a key is called unknown. Shared by all who ask, and rare.
    pub(super) async fn look_up(&self, store: &dyn Store) -> Result<(), ServiceError> {
        let reading = async { self.load(store).await.map_err(|error| Failure::from(&error)) };
        self.readings.look_up(reading).await.map_err(|failure| match failure {
            Failure::Away(cause) => ServiceError::Unavailable { cause },
            Failure::Fault(cause) => ServiceError::Internal { cause },
        })
    }

    async fn load(&self, store: &dyn Store) -> Result<(), KeyError> {
        let known = self.keys.load_full();
        self.keys.store(Arc::new(read(store, &self.master, self.clock.now(), &known, &self.observer).await?));
        Ok(())
    }
}
