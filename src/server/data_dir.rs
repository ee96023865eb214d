//! The data directory of the embedded default: the database, the generated master key, and the lock that keeps a second
//! server out.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use crate::{
    crypto::MasterKey,
    domain::{secret::Entropy, secret::SecretString},
};

/// The name of the generated master key's file.
const MASTER_KEY_FILE: &str = "master.key";
/// The name of the lock file.
const LOCK_FILE: &str = "vouchsafe.lock";

/// What is wrong with a data directory.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// A file could not be made, read or written.
    #[error("cannot use {path}: {problem}: choose another data directory with --data-dir, or make this one writable")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system says.
        #[source]
        problem: io::Error,
    },
    /// Another server uses it.
    #[error("another vouchsafe server uses {0}: stop it first, or choose another data directory with --data-dir")]
    InUse(PathBuf),
    /// The database is there but its key is not.
    #[error(
        "{database} exists but its master key {key} does not: put the key back, or set keys.master_key to it; a new key \
         would not open this database"
    )]
    KeyLost {
        /// The database.
        database: PathBuf,
        /// Where its key should be.
        key: PathBuf,
    },
    /// The key file holds something else.
    #[error("{path} is no master key: {problem}")]
    BadKey {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> DataDirError {
    let path = path.to_owned();
    move |problem| DataDirError::Io { path, problem }
}

/// Makes the directory if it is not there, readable by its owner alone.
pub(super) fn create(dir: &Path) -> Result<(), DataDirError> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(at(dir))
}

/// Holds a data directory for one server, until dropped.
#[derive(Debug)]
pub struct DataDirLock(#[expect(dead_code, reason = "held for its lock, which ends with the file")] File);

/// Takes the directory for this server.
pub(super) fn lock(dir: &Path) -> Result<DataDirLock, DataDirError> {
    let path = dir.join(LOCK_FILE);
    let file =
        OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path).map_err(at(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(DataDirLock(file)),
        Err(TryLockError::WouldBlock) => Err(DataDirError::InUse(dir.to_owned())),
        Err(TryLockError::Error(problem)) => Err(at(&path)(problem)),
    }
}

/// The master key of the directory: read, or generated if there is neither a key nor a database yet.
pub(super) fn master_key(dir: &Path, database: &Path, entropy: &dyn Entropy) -> Result<SecretString, DataDirError> {
    let path = dir.join(MASTER_KEY_FILE);
    match File::open(&path) {
        Ok(mut file) => read_key(&path, &mut file),
        Err(problem) if problem.kind() == io::ErrorKind::NotFound => {
            if database.exists() {
                return Err(DataDirError::KeyLost { database: database.to_owned(), key: path });
            }
            generate_key(dir, &path, entropy)
        }
        Err(problem) => Err(at(&path)(problem)),
    }
}

fn read_key(path: &Path, file: &mut File) -> Result<SecretString, DataDirError> {
    let mode = file.metadata().map_err(at(path))?.permissions().mode();
    if mode & 0o077 != 0 {
        let problem = format!("others may read it (mode {:o}): chmod 600 it", mode & 0o777);
        return Err(DataDirError::BadKey { path: path.to_owned(), problem });
    }
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(at(path))?;
    Ok(SecretString::new(text.trim().to_owned()))
}

/// Writes a new key beside its place and then links it there, so that a crash leaves no half key and of two processes that
/// start together only one key wins.
fn generate_key(dir: &Path, path: &Path, entropy: &dyn Entropy) -> Result<SecretString, DataDirError> {
    let text = MasterKey::generate(entropy).to_text();
    let draft = dir.join(format!("{MASTER_KEY_FILE}.{}", std::process::id()));
    let written = || -> io::Result<()> {
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&draft)?;
        writeln!(file, "{}", text.expose())?;
        file.sync_all()?;
        fs::hard_link(&draft, path)?;
        File::open(dir)?.sync_all()
    };
    let result = written();
    let _ = fs::remove_file(&draft);
    match result {
        Ok(()) => {
            tracing::info!(path = %path.display(), "master key generated: back it up, without it the database is lost");
            Ok(text)
        }
        Err(problem) if problem.kind() == io::ErrorKind::AlreadyExists => {
            let mut file = File::open(path).map_err(at(path))?;
            read_key(path, &mut file)
        }
        Err(problem) => Err(at(path)(problem)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::SystemEntropy;

    #[test]
    fn a_second_server_is_kept_out_until_the_first_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let first = lock(dir.path()).unwrap();
        assert!(matches!(lock(dir.path()), Err(DataDirError::InUse(_))));
        drop(first);
        lock(dir.path()).unwrap();
    }

    #[test]
    fn the_key_is_made_once_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let database = dir.path().join("vouchsafe.db");
        let made = master_key(dir.path(), &database, &SystemEntropy).unwrap();
        assert!(MasterKey::parse(made.expose()).is_ok());
        let permissions = fs::metadata(dir.path().join(MASTER_KEY_FILE)).unwrap().permissions();
        assert_eq!(permissions.mode() & 0o777, 0o600);
        assert_eq!(master_key(dir.path(), &database, &SystemEntropy).unwrap(), made);
        fs::set_permissions(dir.path().join(MASTER_KEY_FILE), fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(master_key(dir.path(), &database, &SystemEntropy), Err(DataDirError::BadKey { .. })));
    }

    #[test]
    fn a_lost_key_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let database = dir.path().join("vouchsafe.db");
        fs::write(&database, "x").unwrap();
        assert!(matches!(master_key(dir.path(), &database, &SystemEntropy), Err(DataDirError::KeyLost { .. })));
        assert!(!dir.path().join(MASTER_KEY_FILE).exists());
    }
}
