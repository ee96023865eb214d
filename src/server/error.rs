//! Why a node did not start.

use super::{ClaimsProblems, DataDirError};
use crate::{
    breached::FilterError,
    crypto::{HashError, MasterKeyError, PoolError},
    notify::NotifyError,
    service::KeyError,
    state::redis::OpenError,
    store::StoreError,
    tls::TlsError,
    verifier::PolicyError,
};

/// Why a node did not start, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The master key.
    #[error("keys.master_key is not usable: {0}")]
    MasterKey(#[from] MasterKeyError),
    /// The one beside it.
    #[error("keys.previous_master_key is not usable: {0}")]
    PreviousMasterKey(MasterKeyError),
    /// The database.
    #[error("{}", database_advice(.0))]
    Store(#[from] StoreError),
    /// The hot state.
    #[error(transparent)]
    Hot(#[from] OpenError),
    /// The keys in the database.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// Keys of hashes and seals that nobody can derive are not in the database any more.
    #[error(
        "keys of this database went missing from its table stored_secrets ({0}), and nothing can be put in their place: restore \
         the rows of that table from a backup of this database; nothing was changed"
    )]
    SecretsLost(String),
    /// The hashing threads.
    #[error(transparent)]
    Passwords(#[from] PoolError),
    /// The list of passwords that are known to others.
    #[error("passwords.breached_filter={} {problem}", path.display())]
    Breached {
        /// The file.
        path: std::path::PathBuf,
        /// What is wrong with it.
        problem: FilterError,
    },
    /// The file that says what tokens say beside.
    #[error("tokens.claims={} cannot be used:\n{problems}", path.display())]
    Claims {
        /// The file.
        path: std::path::PathBuf,
        /// What is wrong with it.
        problems: ClaimsProblems,
    },
    /// The keys that tokens are encrypted for.
    #[error("tokens.encryption_keys={}: {problem}", path.display())]
    Encryption {
        /// The file.
        path: std::path::PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The thread of the password rules.
    #[error("cannot start a thread for the rules of passwords: {0}")]
    Thread(std::io::Error),
    /// A hash for the command line.
    #[error("the password was not hashed: {0}")]
    Hash(HashError),
    /// The issuer.
    #[error("issuer is not usable: {0}")]
    Issuer(#[from] PolicyError),
    /// The certificate of a port, or what belongs to it.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The way that messages take.
    #[error(transparent)]
    Notify(#[from] NotifyError),
    /// A port.
    #[error(
        "cannot listen on {address} ({setting}): {problem}: stop the program that uses it, or choose another with --set {setting}=127.0.0.1:PORT"
    )]
    Listen {
        /// The setting that chose it.
        setting: &'static str,
        /// The address.
        address: std::net::SocketAddr,
        /// What the system says.
        problem: std::io::Error,
    },
}

fn database_advice(error: &StoreError) -> String {
    match error {
        StoreError::Unavailable(_) => {
            format!("{error}: check that the database runs and that database.url reaches it, then start again")
        }
        StoreError::Refused(_) | StoreError::Schema(_) | StoreError::Corrupt { .. } | StoreError::Internal(_) => {
            error.to_string()
        }
    }
}
