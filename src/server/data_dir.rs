//! The data directory of the embedded default: the database, the generated master key, and the lock that keeps a second
//! server off the database, wherever that is.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use rustix::io::Errno;

use crate::{
    crypto::{KeyId, MasterKey, seal::hex},
    domain::secret::{Entropy, SecretString, random},
};

/// The name of the generated master key's file.
const MASTER_KEY_FILE: &str = "master.key";
/// The name of the one that will take its place.
const NEXT_KEY_FILE: &str = "master.key.next";
/// What follows the database's name in the name of its lock file.
const LOCK_SUFFIX: &str = ".lock";

/// What is wrong with a data directory.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// A file could not be made, read or written.
    #[error(
        "cannot use {path}: {problem}: choose another place with --data-dir or database.url, or make this one writable"
    )]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system says.
        #[source]
        problem: io::Error,
    },
    /// Another server uses it.
    #[error(
        "another vouchsafe server uses the database {0}: stop it first, or choose another with --data-dir or database.url"
    )]
    InUse(PathBuf),
    /// There is no database, and the command is not one that makes it.
    #[error(
        "there is no database {0}: say where it is with --data-dir or database.url, or let `vouchsafe serve` make it"
    )]
    NoDatabase(PathBuf),
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
    /// Its master key is used, and cannot be changed meanwhile.
    #[error(
        "another vouchsafe command uses the master key {0}: wait until it has ended, or end it, and run this one again"
    )]
    KeyInUse(PathBuf),
    /// Its master key is being changed.
    #[error(
        "the master key {0} is being changed: wait until `vouchsafe keys rotate-master` has ended, and run this command again"
    )]
    KeyChanging(PathBuf),
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

/// Keeps other servers off a database, until dropped.
#[derive(Debug)]
pub struct DatabaseLock(#[expect(dead_code, reason = "held for its lock, which ends with the file")] File);

/// Takes the database for this server. The lock stands beside the database and not in the data directory, which another
/// server of the same database need not share. The directory must be there, the database need not.
pub(super) fn lock(database: &Path) -> Result<DatabaseLock, DataDirError> {
    let mut path = resolved(database).map_err(at(database))?.into_os_string();
    path.push(LOCK_SUFFIX);
    let path = PathBuf::from(path);
    let file =
        OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path).map_err(at(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(DatabaseLock(file)),
        Err(TryLockError::WouldBlock) => Err(DataDirError::InUse(database.to_owned())),
        Err(TryLockError::Error(problem)) => Err(at(&path)(problem)),
    }
}

/// The one name of a file that others may reach through symbolic links.
fn resolved(file: &Path) -> io::Result<PathBuf> {
    match (fs::canonicalize(file), file.parent(), file.file_name()) {
        (Err(problem), Some(dir), Some(name)) if problem.kind() == io::ErrorKind::NotFound => {
            // A relative path of one part has an empty parent.
            let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
            Ok(fs::canonicalize(dir)?.join(name))
        }
        (resolved, ..) => resolved,
    }
}

/// Whether the database is there.
pub(super) fn check_database(database: &Path) -> Result<(), DataDirError> {
    match database.try_exists() {
        Ok(true) => Ok(()),
        Ok(false) => Err(DataDirError::NoDatabase(database.to_owned())),
        Err(problem) => Err(at(database)(problem)),
    }
}

/// Keeps a master key from being changed or, while it is, from being used. Until dropped.
#[derive(Debug)]
pub(super) struct KeyLock(#[expect(dead_code, reason = "held for its lock, which ends with the file")] File);

/// A master key under lock.
#[derive(Debug)]
pub(super) struct HeldKey {
    pub(super) text: SecretString,
    pub(super) lock: KeyLock,
}

/// What a master key is wanted for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// To seal and to open, beside others who do so.
    Use,
    /// To put another one in its place, alone.
    Change,
}

/// The master key of the directory: read, or generated if there is neither a key nor a database yet.
pub(super) fn master_key(dir: &Path, database: &Path, entropy: &dyn Entropy) -> Result<HeldKey, DataDirError> {
    match existing_master_key(dir, database) {
        Err(DataDirError::KeyLost { key, .. }) if !database.exists() => {
            generate_key(dir, &key, entropy)?;
            tracing::info!(path = %key.display(), "master key generated: back it up, without it the database is lost");
            existing_master_key(dir, database)
        }
        found => found,
    }
}

/// The master key of the directory, for a database that is there.
pub(super) fn existing_master_key(dir: &Path, database: &Path) -> Result<HeldKey, DataDirError> {
    held_key(dir, database, Purpose::Use)
}

/// The same to be changed: nobody else uses it, and nobody begins to until the lock is dropped.
pub(super) fn master_key_to_change(dir: &Path, database: &Path) -> Result<HeldKey, DataDirError> {
    held_key(dir, database, Purpose::Change)
}

/// The lock is the file's own, so that whoever only looks makes none.
fn held_key(dir: &Path, database: &Path, purpose: Purpose) -> Result<HeldKey, DataDirError> {
    let key = dir.join(MASTER_KEY_FILE);
    let lost = || DataDirError::KeyLost { database: database.to_owned(), key: key.clone() };
    loop {
        // NFS gives a lock for one alone only to who may write.
        let open = OpenOptions::new().read(true).write(purpose == Purpose::Change).open(&key);
        let mut file = match open {
            Ok(file) => file,
            Err(problem) if problem.kind() == io::ErrorKind::NotFound => return Err(lost()),
            Err(problem) => return Err(at(&key)(problem)),
        };
        match (if purpose == Purpose::Use { file.try_lock_shared() } else { file.try_lock() }, purpose) {
            (Ok(()), _) => {}
            (Err(TryLockError::WouldBlock), Purpose::Use) => return Err(DataDirError::KeyChanging(key)),
            (Err(TryLockError::WouldBlock), Purpose::Change) => return Err(DataDirError::KeyInUse(key)),
            (Err(TryLockError::Error(problem)), Purpose::Use) if has_no_locks(&problem) => {
                tracing::warn!(path = %key.display(), %problem, "no locks here: use nothing else while the master key is changed");
            }
            (Err(TryLockError::Error(problem)), _) => return Err(at(&key)(problem)),
        }
        // Another file may have taken its place before it was locked.
        if is_still_at(&key, &file).map_err(at(&key))? {
            return Ok(HeldKey { text: read_key(&key, &mut file)?, lock: KeyLock(file) });
        }
    }
}

/// Whether there are no locks where the file is.
fn has_no_locks(problem: &io::Error) -> bool {
    matches!(Errno::from_io_error(problem), Some(Errno::OPNOTSUPP | Errno::NOSYS | Errno::NOLCK))
}

/// Whether this name still leads to this file.
fn is_still_at(path: &Path, file: &File) -> io::Result<bool> {
    let opened = file.metadata()?;
    match fs::metadata(path) {
        Ok(found) => Ok((found.dev(), found.ino()) == (opened.dev(), opened.ino())),
        Err(problem) if problem.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(problem) => Err(problem),
    }
}

/// The key that is to take the place of the master key, if a change was begun.
pub(super) fn next_master_key(dir: &Path) -> Result<Option<SecretString>, DataDirError> {
    let next = dir.join(NEXT_KEY_FILE);
    match File::open(&next) {
        Ok(mut file) => read_key(&next, &mut file).map(Some),
        Err(problem) if problem.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(problem) => Err(at(&next)(problem)),
    }
}

/// The same; one is made if there is none. From then on nothing is sealed under it that could not be opened after a crash.
pub(super) fn make_next_master_key(dir: &Path, entropy: &dyn Entropy) -> Result<SecretString, DataDirError> {
    match next_master_key(dir)? {
        Some(next) => Ok(next),
        None => generate_key(dir, &dir.join(NEXT_KEY_FILE), entropy),
    }
}

/// The next key is the present one.
pub(super) fn copied(dir: &Path) -> DataDirError {
    DataDirError::BadKey {
        path: dir.join(NEXT_KEY_FILE),
        problem: format!("it is a copy of {MASTER_KEY_FILE}: delete it, and run the command again"),
    }
}

/// Puts the next key in the place of the master key, in one step, and keeps the master key of before under its own name, which
/// is returned. After a crash it is either done or still to be done.
pub(super) fn replace_master_key(dir: &Path, previous: KeyId) -> Result<PathBuf, DataDirError> {
    let (key, kept) = (dir.join(MASTER_KEY_FILE), dir.join(format!("{MASTER_KEY_FILE}.{}", hex(previous))));
    match fs::hard_link(&key, &kept) {
        Err(problem) if problem.kind() != io::ErrorKind::AlreadyExists => return Err(at(&kept)(problem)),
        // There since a replacement that went no further.
        _ => {}
    }
    let replace = || -> io::Result<()> {
        // The copy is on the disk before the name is taken away.
        File::open(dir)?.sync_all()?;
        fs::rename(dir.join(NEXT_KEY_FILE), &key)?;
        File::open(dir)?.sync_all()
    };
    replace().map_err(at(&key))?;
    Ok(kept)
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
/// start together only one key wins. The draft has a name that nobody could have taken, by accident or on purpose: the
/// process's number is always the same in a container.
fn generate_key(dir: &Path, path: &Path, entropy: &dyn Entropy) -> Result<SecretString, DataDirError> {
    let text = MasterKey::generate(entropy).to_text();
    let draft = dir.join(format!("{MASTER_KEY_FILE}.{:016x}", u64::from_be_bytes(random(entropy))));
    let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&draft).map_err(at(&draft))?;
    let mut finish = || -> io::Result<()> {
        writeln!(file, "{}", text.expose())?;
        file.sync_all()?;
        fs::hard_link(&draft, path)?;
        File::open(dir)?.sync_all()
    };
    let result = finish();
    let _ = fs::remove_file(&draft);
    match result {
        Ok(()) => Ok(text),
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
        let database = dir.path().join("vouchsafe.db");
        let first = lock(&database).unwrap();
        assert!(matches!(lock(&database), Err(DataDirError::InUse(_))));
        drop(first);
        lock(&database).unwrap();
        assert!(!database.exists(), "only the lock is made");
    }

    #[test]
    fn a_database_has_one_lock_however_it_is_reached() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("real")).unwrap();
        let database = dir.path().join("real/vouchsafe.db");
        let (by_dir, by_file) = (dir.path().join("dir"), dir.path().join("other.db"));
        std::os::unix::fs::symlink(dir.path().join("real"), &by_dir).unwrap();
        let _first = lock(&by_dir.join("vouchsafe.db")).unwrap();
        assert!(matches!(lock(&database), Err(DataDirError::InUse(_))));
        fs::write(&database, "").unwrap();
        std::os::unix::fs::symlink(&database, &by_file).unwrap();
        assert!(matches!(lock(&by_file), Err(DataDirError::InUse(_))));
        lock(&dir.path().join("real/another.db")).unwrap();
    }

    #[test]
    fn a_key_that_was_written_halfway_once_is_in_nobodys_way() {
        struct Same;
        impl Entropy for Same {
            fn fill(&self, bytes: &mut [u8]) {
                bytes.fill(7);
            }
        }
        let dir = tempfile::tempdir().unwrap();
        let (database, victim) = (dir.path().join("vouchsafe.db"), dir.path().join("victim"));
        fs::write(&victim, "untouched").unwrap();
        let draft = dir.path().join(format!("{MASTER_KEY_FILE}.{}", "07".repeat(8)));
        std::os::unix::fs::symlink(&victim, &draft).unwrap();
        assert!(matches!(master_key(dir.path(), &database, &Same), Err(DataDirError::Io { .. })));
        assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched");
        master_key(dir.path(), &database, &SystemEntropy).unwrap();
    }

    #[test]
    fn what_is_only_looked_at_is_not_made() {
        let dir = tempfile::tempdir().unwrap();
        let database = dir.path().join("vouchsafe.db");
        assert!(matches!(check_database(&database), Err(DataDirError::NoDatabase(_))));
        assert!(matches!(existing_master_key(dir.path(), &database), Err(DataDirError::KeyLost { .. })));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn the_key_is_made_once_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let database = dir.path().join("vouchsafe.db");
        let made = master_key(dir.path(), &database, &SystemEntropy).unwrap().text;
        assert!(MasterKey::parse(made.expose()).is_ok());
        let permissions = fs::metadata(dir.path().join(MASTER_KEY_FILE)).unwrap().permissions();
        assert_eq!(permissions.mode() & 0o777, 0o600);
        assert_eq!(master_key(dir.path(), &database, &SystemEntropy).unwrap().text, made);
        fs::set_permissions(dir.path().join(MASTER_KEY_FILE), fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(master_key(dir.path(), &database, &SystemEntropy), Err(DataDirError::BadKey { .. })));
    }

    #[test]
    fn the_next_key_takes_over_in_one_step_and_the_one_before_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let database = dir.path().join("vouchsafe.db");
        let old = master_key(dir.path(), &database, &SystemEntropy).unwrap().text;
        assert_eq!(next_master_key(dir.path()).unwrap(), None);
        let next = make_next_master_key(dir.path(), &SystemEntropy).unwrap();
        assert_ne!(next, old);
        assert_eq!(make_next_master_key(dir.path(), &SystemEntropy).unwrap(), next, "it is made once");
        assert_eq!(master_key(dir.path(), &database, &SystemEntropy).unwrap().text, old, "it does not count yet");
        let id = MasterKey::parse(old.expose()).unwrap().id();
        // Broken off after its first half.
        fs::hard_link(dir.path().join(MASTER_KEY_FILE), dir.path().join(format!("{MASTER_KEY_FILE}.{}", hex(id))))
            .unwrap();
        let kept = replace_master_key(dir.path(), id).unwrap();
        assert_eq!(master_key(dir.path(), &database, &SystemEntropy).unwrap().text, next);
        assert_eq!(fs::read_to_string(&kept).unwrap().trim(), old.expose());
        assert_eq!(fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(next_master_key(dir.path()).unwrap(), None);
        assert!(replace_master_key(dir.path(), id).is_err(), "there is no next one");
        assert_eq!(master_key(dir.path(), &database, &SystemEntropy).unwrap().text, next, "nothing is lost by it");
    }

    #[test]
    fn a_key_is_used_by_many_or_changed_by_one() {
        let dir = tempfile::tempdir().unwrap();
        let database = dir.path().join("vouchsafe.db");
        let use_it = || existing_master_key(dir.path(), &database);
        let change_it = || master_key_to_change(dir.path(), &database);
        let first = master_key(dir.path(), &database, &SystemEntropy).unwrap();
        let second = use_it().unwrap();
        assert!(matches!(change_it(), Err(DataDirError::KeyInUse(_))));
        drop(first);
        assert!(matches!(change_it(), Err(DataDirError::KeyInUse(_))));
        drop(second);

        let changed = change_it().unwrap();
        assert!(matches!(use_it(), Err(DataDirError::KeyChanging(_))));
        assert!(matches!(change_it(), Err(DataDirError::KeyInUse(_))));
        let next = make_next_master_key(dir.path(), &SystemEntropy).unwrap();
        let before = MasterKey::parse(changed.text.expose()).unwrap().id();
        let kept = replace_master_key(dir.path(), before).unwrap();
        // What is locked is the file of before.
        assert_eq!(use_it().unwrap().text, next);
        drop(changed);
        let stale = File::open(kept).unwrap();
        assert!(!is_still_at(&dir.path().join(MASTER_KEY_FILE), &stale).unwrap());
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
