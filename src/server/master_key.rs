//! The master key that the settings mean, and the keys that were once derived from it.

use std::path::{Path, PathBuf};

use super::{
    Ambient, StartError,
    data_dir::{self, HeldKey},
    location,
};
use crate::{
    config::{Backend, MasterKey as MasterKeySetting, Settings},
    crypto::{DerivedKey, DerivedKeys, MasterKey, SealError, seal::key_of},
    domain::secret::{Entropy, SecretString},
    service::KeyError,
    store::{self, Founding, StoreError, StoredSecrets},
};

/// Makes what the embedded default keeps beside its database, if it is not there; the master key. Before the database itself,
/// which could not be opened without.
pub(super) fn prepared(settings: &Settings, entropy: &dyn Entropy) -> Result<MasterKey, StartError> {
    if let Backend::Sqlite { data_dir, .. } = &settings.database.backend {
        data_dir::create(data_dir)?;
    }
    match &settings.keys.master_key {
        MasterKeySetting::Given(key) => given(settings, key),
        MasterKeySetting::Generated { data_dir } => {
            let key = data_dir::master_key(data_dir, &embedded_database(settings), entropy)?;
            generated(key, data_dir)
        }
    }
}

/// The master key of a database that is there.
pub(super) fn existing(settings: &Settings) -> Result<MasterKey, StartError> {
    if let Backend::Sqlite { file, .. } = &settings.database.backend {
        data_dir::check_database(file)?;
    }
    match &settings.keys.master_key {
        MasterKeySetting::Given(key) => given(settings, key),
        MasterKeySetting::Generated { data_dir } => {
            let key = data_dir::existing_master_key(data_dir, &embedded_database(settings))?;
            generated(key, data_dir)
        }
    }
}

/// The key that is given, and the other one while it is being changed.
pub(super) fn given(settings: &Settings, key: &SecretString) -> Result<MasterKey, StartError> {
    let master = MasterKey::parse(key.expose())?;
    let Some(other) = &settings.keys.previous_master_key else { return Ok(master) };
    MasterKey::parse(other.expose()).and_then(|other| master.beside(other)).map_err(StartError::PreviousMasterKey)
}

/// A generated key, which nobody changes for as long as it can be used. If a change of it was broken off, what the next one has sealed by then
/// is opened too.
fn generated(HeldKey { text, lock }: HeldKey, data_dir: &Path) -> Result<MasterKey, StartError> {
    let master = MasterKey::parse(text.expose())?.holding(lock);
    let Some(next) = data_dir::next_master_key(data_dir)? else { return Ok(master) };
    tracing::warn!("a change of the master key was not brought to its end: run `vouchsafe keys rotate-master`");
    let next = MasterKey::parse(next.expose())?;
    // Somebody has copied one over the other.
    if next.id() == master.id() { Ok(master) } else { Ok(master.beside(next)?) }
}

/// A generated master key that is being changed: everything is sealed under the next one, and it takes the other's place when
/// that is done.
#[derive(Debug)]
pub(super) struct Successor {
    dir: PathBuf,
    _database: data_dir::DatabaseLock,
    _key: data_dir::KeyLock,
}

/// The next master key beside the present one, of a database that no server and no other command uses meanwhile: what they sealed could
/// not be opened afterwards.
pub(super) fn successor(
    settings: &Settings,
    data_dir: &Path,
    entropy: &dyn Entropy,
) -> Result<(MasterKey, Successor), StartError> {
    let database = embedded_database(settings);
    data_dir::check_database(&database)?;
    let lock = data_dir::lock(&database)?;
    let HeldKey { text: present, lock: key } = data_dir::master_key_to_change(data_dir, &database)?;
    let next = data_dir::make_next_master_key(data_dir, entropy)?;
    let (next, present) = (MasterKey::parse(next.expose())?, MasterKey::parse(present.expose())?);
    let master = next.beside(present).map_err(|_| data_dir::copied(data_dir))?;
    Ok((master, Successor { dir: data_dir.to_owned(), _database: lock, _key: key }))
}

impl Successor {
    /// Puts the next key in the place of the present one, which is kept under another name: where that is.
    pub(super) fn take_over(self, present: &MasterKey) -> Result<PathBuf, StartError> {
        Ok(data_dir::replace_master_key(&self.dir, present.id())?)
    }
}

/// What a database that comes into being holds from its first moment on: keys of hashes and seals that nobody can derive, whichever master
/// key becomes known one day.
pub(super) fn founding(master: &MasterKey, ambient: &Ambient) -> Founding {
    let secret = |key: DerivedKey| (key.name(), key.found(master, &*ambient.entropy));
    let mut secrets = Vec::from(DerivedKey::ALL.map(secret));
    secrets.push((DerivedKeys::FOUNDED, DerivedKeys::founded(master, &*ambient.entropy)));
    Founding { secrets, time: ambient.clock.now() }
}

/// The keys of hashes and seals that go with a database. With `keep` they are stored if they are not yet; without, nothing is
/// written. Only those of a database of before are derived: one that was founded with others, or had them all once, has lost what is
/// missing, and derived ones in their place would be wrong for good.
pub(super) async fn derived(
    settings: &Settings,
    master: &MasterKey,
    ambient: &Ambient,
    keep: bool,
) -> Result<DerivedKeys, StartError> {
    let location = location(settings);
    store::check_schema(&location).await?;
    let mut stored = store::stored_secrets(&location).await?;
    let missing: Vec<_> = DerivedKey::ALL.into_iter().filter(|key| !stored.sealed.contains_key(key.name())).collect();
    let mut computed = None;
    if !missing.is_empty() {
        if stored.were_complete || stored.sealed.contains_key(DerivedKeys::FOUNDED) {
            let names: Vec<_> = missing.iter().map(|key| key.name()).collect();
            return Err(StartError::SecretsLost(names.join(", ")));
        }
        let origin = origin(&stored, master)?;
        if keep {
            let seal = |key: &DerivedKey| (key.name(), key.seal(origin, master, &*ambient.entropy));
            let sealed: Vec<_> = missing.iter().map(seal).collect();
            stored = store::keep_secrets(&location, &sealed, ambient.clock.now()).await?;
        }
        computed = Some(DerivedKeys::of(origin));
    }
    DerivedKeys::gather(|key| match (stored.sealed.get(key.name()), &computed) {
        (Some(sealed), _) => key.open(master, sealed).map_err(|error| problem(key, error)),
        (None, Some(computed)) => Ok(computed.key(key)),
        (None, None) => Err(StartError::Store(StoreError::corrupt("stored_secrets", "name", "a key went missing"))),
    })
}

/// The master key that keys are derived from which are not stored: the one that the database began with. It sealed what is
/// oldest there, because none are missing once it is changed.
fn origin<'k>(stored: &StoredSecrets, master: &'k MasterKey) -> Result<&'k MasterKey, StartError> {
    let Some(oldest) = &stored.oldest_seal else { return Ok(master) };
    key_of(oldest).and_then(|id| master.named(id)).ok_or(StartError::Keys(KeyError::WrongMasterKey))
}

fn problem(key: DerivedKey, error: SealError) -> StartError {
    match error {
        SealError::WrongKey { .. } => StartError::Keys(KeyError::WrongMasterKey),
        SealError::UnknownFormat(_) | SealError::Corrupt => StartError::Store(StoreError::corrupt(
            "stored_secrets",
            "secret_sealed",
            format!("{}: {error}", key.name()),
        )),
    }
}

fn embedded_database(settings: &Settings) -> PathBuf {
    match &settings.database.backend {
        Backend::Sqlite { file, .. } => file.clone(),
        // A key is never generated for one.
        Backend::Postgres { .. } => PathBuf::new(),
    }
}
