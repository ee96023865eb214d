//! A change of the master key: everything that the other one sealed is sealed under the one in force, row by row, while servers
//! that have both go on.
//!
//! Nothing has to be remembered between two runs: each seal names its key. A run that is broken off is begun again.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use super::{Ambient, OpenStore, StartError, master_key};
use crate::{
    config::{MasterKey as MasterKeySetting, Settings},
    crypto::seal::{hex, key_of},
    domain::audit::{Act, Actor, AuditEvent, Origin},
    store::port::{Reseal, ResealedBatch, RowKey, SealBatch, SealedColumn},
};

/// How often every column is walked over. After the first walk there is only what servers have sealed meanwhile under the other
/// key; after the last one some server must have it for the one in force.
const WALKS: u32 = 4;

/// What was found in the columns that are sealed.
#[derive(Debug, Default)]
pub struct Sealed {
    /// How many rows of each were sealed under another key than the one in force.
    pub other: BTreeMap<SealedColumn, u64>,
    /// What cannot be opened with either key.
    pub unreadable: Vec<Unreadable>,
    /// How many rows the last walk still found.
    pub left: u64,
}

/// A row that cannot be opened with either key.
#[derive(Clone, Debug)]
pub struct Unreadable {
    /// In which column.
    pub column: SealedColumn,
    /// Which.
    pub row: RowKey,
    /// Why.
    pub problem: String,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { column, row, problem } = self;
        write!(f, "{column} {row}: {problem}")
    }
}

impl Sealed {
    /// How many rows of each column cannot be opened with either key, where there are any.
    pub fn unreadable_rows(&self) -> BTreeMap<SealedColumn, usize> {
        let mut rows = BTreeMap::new();
        for unreadable in &self.unreadable {
            *rows.entry(unreadable.column).or_default() += 1;
        }
        rows
    }
}

/// A change of the master key, in a store that is open.
#[derive(Debug)]
pub struct MasterKeyChange {
    opened: OpenStore,
    successor: Option<master_key::Successor>,
}

impl MasterKeyChange {
    /// Opens what is there. A generated master key gets a successor, and the database must not be in use; of keys that are given
    /// the settings name both, and servers may run.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn begin(settings: &Settings, ambient: &Ambient) -> Result<Self, StartError> {
        let (master, successor) = match &settings.keys.master_key {
            MasterKeySetting::Given(_) => (master_key::existing(settings)?, None),
            MasterKeySetting::Generated { data_dir } => {
                let (master, successor) = master_key::successor(settings, data_dir, &*ambient.entropy)?;
                (master, Some(successor))
            }
        };
        let opened = OpenStore::connect(settings, ambient, master, None, true).await?;
        opened.open_keys().await?;
        Ok(Self { opened, successor })
    }

    /// Opens what is there, to look only.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn look(settings: &Settings, ambient: &Ambient) -> Result<Self, StartError> {
        Ok(Self { opened: OpenStore::existing(settings, ambient).await?, successor: None })
    }

    /// The names of the key in force and of the other one, if there is one.
    pub fn keys(&self) -> (String, Option<String>) {
        let master = &self.opened.master;
        (hex(master.id()), master.other().map(|other| hex(other.id())))
    }

    /// Counts what another key than the one in force has sealed. Changes nothing.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn count(&self) -> Result<Sealed, StartError> {
        let mut found = Sealed::default();
        for column in SealedColumn::ALL {
            // Each once, however often it is read.
            let rows = Arc::new(Mutex::new(BTreeSet::new()));
            let (master, stale) = (Arc::clone(&self.opened.master), Arc::clone(&rows));
            let look = move |row: &[u8], sealed: &[u8]| {
                if key_of(sealed) != Some(master.id()) {
                    master.open(column.context(row), sealed).map_err(|error| error.to_string())?;
                    stale.lock().unwrap_or_else(PoisonError::into_inner).insert(row.to_vec());
                }
                Ok(None)
            };
            self.walk(column, Arc::new(look), None, &mut found).await?;
            let number = rows.lock().unwrap_or_else(PoisonError::into_inner).len() as u64;
            found.left += number;
            found.other.insert(column, number);
        }
        Ok(found)
    }

    /// Seals everything under the key in force, records it, and puts a generated successor in its place.
    ///
    /// # Errors
    /// See [`StartError`]. What was sealed anew by then stays so.
    pub async fn finish(self, told: impl Fn(SealedColumn, u64)) -> Result<(Sealed, Option<PathBuf>), StartError> {
        let mut found = Sealed::default();
        for _ in 0..WALKS {
            found.unreadable.clear();
            found.left = 0;
            for column in SealedColumn::ALL {
                let (master, entropy) = (Arc::clone(&self.opened.master), Arc::clone(&self.opened.ambient.entropy));
                let reseal = move |row: &[u8], sealed: &[u8]| {
                    master.reseal(column.context(row), sealed, &*entropy).map_err(|error| error.to_string())
                };
                let begins = found.other.values().all(|resealed| *resealed == 0).then(|| self.begins());
                let (resealed, missed) = self.walk(column, Arc::new(reseal), begins, &mut found).await?;
                found.left += resealed + missed;
                *found.other.entry(column).or_default() += resealed;
                if resealed > 0 {
                    told(column, resealed);
                }
            }
            if found.left == 0 {
                break;
            }
        }
        self.record(&found).await?;
        let Self { opened, successor } = self;
        opened.store.close().await;
        // What cannot be opened with either key is lost whichever is in force.
        let kept = match (successor, opened.master.other()) {
            (Some(successor), Some(present)) if found.left == 0 => Some(successor.take_over(present)?),
            _ => None,
        };
        Ok((found, kept))
    }

    /// Lets go of the store.
    pub async fn close(self) {
        self.opened.store.close().await;
    }

    /// Of a run that was broken off there is this event alone, in the transaction of the first rows that it changed.
    fn begins(&self) -> AuditEvent {
        by_operator(Act::MasterKeyChangeBegun { key: hex(self.opened.master.id()) })
    }

    /// A run after one that was broken off may have nothing left to seal, but a key to put in its place.
    async fn record(&self, found: &Sealed) -> Result<(), StartError> {
        let rows = found.other.values().sum();
        if rows == 0 && self.successor.is_none() {
            return Ok(());
        }
        let act = Act::MasterKeyChanged { key: hex(self.opened.master.id()), rows };
        Ok(self.opened.store.record(by_operator(act)).await?)
    }

    /// Walks over a column once: how many rows were sealed anew, and how many others changed meanwhile.
    async fn walk(
        &self,
        column: SealedColumn,
        reseal: Arc<Reseal>,
        mut begins: Option<AuditEvent>,
        found: &mut Sealed,
    ) -> Result<(u64, u64), StartError> {
        let mut unreadable = BTreeMap::new();
        let (mut done, mut changed, mut from) = (0, 0, None);
        loop {
            let (under, reseal, event) = (self.opened.master.id(), Arc::clone(&reseal), begins.clone());
            let batch = SealBatch { column, from, under, reseal, event };
            let ResealedBatch { next, resealed, missed, unreadable: bad } = self.opened.store.reseal(batch).await?;
            if resealed > 0 {
                begins = None;
            }
            (done, changed) = (done + resealed, changed + missed);
            // The row that a batch begins with may be the last one of the batch before.
            unreadable.extend(bad);
            if next.is_none() {
                break;
            }
            from = next;
        }
        found.unreadable.extend(unreadable.into_iter().map(|(row, problem)| Unreadable { column, row, problem }));
        Ok((done, changed))
    }
}

fn by_operator(act: Act) -> AuditEvent {
    AuditEvent { actor: Actor::Operator, subject: None, act, origin: Origin::default() }
}
