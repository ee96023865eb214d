//! Keys out of the store, opened with the master key.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    crypto::{MasterKey, RefreshTokenKey, SealContext, SealError},
    domain::{
        secret::SecretKey,
        signing_key::{Algorithm, KeyLife, KeyState},
        time::Timestamp,
    },
    jose::{KeySet, SigningKeyPair},
    service::Observer,
    store::{
        StoreError,
        port::{RefreshKeyRow, SigningKeyRow, Store},
    },
};

/// Why the keys could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The store's.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The keys were sealed under another master key.
    #[error(
        "the master key does not open the keys in this database: configure the one that this database was created with or \
         last changed to (setting keys.master_key; keys.previous_master_key as well while it is being changed)"
    )]
    WrongMasterKey,
    /// A row is damaged.
    #[error("key {key} in the database is damaged: {problem}")]
    Damaged {
        /// Its `kid` or number.
        key: String,
        /// What is wrong.
        problem: String,
    },
}

/// A key that signs access tokens.
pub(super) struct SigningKey {
    pub(super) pair: Arc<SigningKeyPair>,
    pub(super) algorithm: Algorithm,
    pub(super) life: KeyLife,
}

/// A key that authenticates refresh tokens.
pub(super) struct RefreshKey {
    pub(super) key: RefreshTokenKey,
    pub(super) life: KeyLife,
}

/// Every key not yet removed.
#[derive(Default)]
pub(super) struct Keys {
    /// The change of the set that they were read after.
    pub(super) as_of: u64,
    pub(super) signing: Vec<SigningKey>,
    pub(super) verification: Arc<KeySet>,
    pub(super) refresh: BTreeMap<i64, RefreshKey>,
}

/// Where the private half of a signing key is stored.
pub(super) const fn signing_key_context(kid: &[u8]) -> SealContext<'_> {
    SealContext { table: "signing_keys", row: kid, column: "private_key_sealed" }
}

/// Where a refresh key is stored.
pub(super) const fn refresh_key_context(id: &[u8]) -> SealContext<'_> {
    SealContext { table: "refresh_keys", row: id, column: "key_sealed" }
}

/// Reads and opens every key, and tells the observer of those that are revoked. Those that are `known` already need not be opened again.
pub(super) async fn read(
    store: &dyn Store,
    master: &MasterKey,
    now: Timestamp,
    known: &Keys,
    observer: &Observer,
) -> Result<Keys, KeyError> {
    let as_of = observer.key_changes();
    observer.learn_revoked_keys(store.revoked_keys().await?, now);
    let mut signing = Vec::new();
    for row in store.signing_keys().await? {
        if row.life.state(now) != KeyState::Removed {
            let pair = match known.signing.iter().find(|key| key.pair.public_key().kid() == row.kid) {
                Some(key) => Arc::clone(&key.pair),
                None => Arc::new(open_signing_key(&row, master)?),
            };
            signing.push(SigningKey { pair, algorithm: row.algorithm, life: row.life });
        }
    }
    let mut refresh = BTreeMap::new();
    for row in store.refresh_keys().await? {
        refresh.insert(row.id, open_refresh_key(&row, master)?);
    }
    let publics = signing.iter().map(|k| k.pair.public_key().clone()).collect();
    let verification = KeySet::from_keys(publics)
        .map_err(|problem| KeyError::Damaged { key: "(all)".to_owned(), problem: problem.to_string() })?;
    Ok(Keys { as_of, signing, verification: Arc::new(verification), refresh })
}

fn open_signing_key(row: &SigningKeyRow, master: &MasterKey) -> Result<SigningKeyPair, KeyError> {
    let damaged = |problem: String| KeyError::Damaged { key: row.kid.clone(), problem };
    let pkcs8 = master
        .open(signing_key_context(row.kid.as_bytes()), &row.private_key_sealed)
        .map_err(|error| seal_error(&row.kid, error))?;
    let pair = SigningKeyPair::from_pkcs8(row.algorithm, &pkcs8).map_err(|e| damaged(e.to_string()))?;
    if pair.public_key().kid() != row.kid {
        return Err(damaged("it is another key than its id says".to_owned()));
    }
    Ok(pair)
}

fn open_refresh_key(row: &RefreshKeyRow, master: &MasterKey) -> Result<RefreshKey, KeyError> {
    let name = format!("refresh-{}", row.id);
    let damaged =
        |problem: &dyn std::fmt::Display| KeyError::Damaged { key: name.clone(), problem: problem.to_string() };
    let bytes = master
        .open(refresh_key_context(&row.id.to_be_bytes()), &row.key_sealed)
        .map_err(|error| seal_error(&name, error))?;
    let secret = <[u8; 32]>::try_from(bytes.as_slice()).map_err(|_| damaged(&"it has the wrong length"))?;
    let key = RefreshTokenKey::new(row.id, &SecretKey::new(secret)).map_err(|e| damaged(&e))?;
    Ok(RefreshKey { key, life: row.life })
}

fn seal_error(key: &str, error: SealError) -> KeyError {
    match error {
        SealError::WrongKey { .. } => KeyError::WrongMasterKey,
        SealError::UnknownFormat(_) | SealError::Corrupt => {
            KeyError::Damaged { key: key.to_owned(), problem: error.to_string() }
        }
    }
}
