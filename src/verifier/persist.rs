//! What a verifier knows, in a file, so that one that starts while the issuer is away can go on.
//!
//! Nothing in it is secret. But whoever can write it decides which tokens pass, hence mode 0600; and a directory in which others
//! can write is no place for it.
//!
//! The first line says what the file is, with the keys; then comes each revocation on a line of its own; and the last line is the
//! SHA-256 of all that. A file that is not exactly so is of no use as a whole. It is written next to its place and then moved
//! there, so that a crash leaves the old one.

use std::{
    fmt, fs,
    io::{self, BufRead as _, BufReader, BufWriter, Read as _, Seek as _, Write},
    path::{Path, PathBuf},
    process,
    sync::Arc,
    time::Duration,
};

use aws_lc_rs::digest::{Context, Digest, SHA256};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::sleep;
use tracing::{debug, warn};

use super::{
    ambient::monotonic_now,
    embedded::Shared,
    revocation_set::{DumpPlace, RevocationSet},
};
use crate::{
    domain::{
        revocation::{FeedEntry, Revocation},
        time::Timestamp,
    },
    jose::KeySet,
};

/// The file's name, if a directory is named.
const NAME: &str = "vouchsafe-verifier.state";
const FORMAT: &str = "vouchsafe-verifier-state";
/// Goes up whenever an older version could misunderstand the file.
const VERSION: u32 = 1;
/// How soon after a change it is written.
const SOON: Duration = Duration::from_secs(1);
/// How often the moment up to which the list is complete is written.
const OFTEN: Duration = Duration::from_secs(10);
/// It is written so seldom that this share of the time is spent on it at most: with a million revocations once a minute.
const SHARE: u32 = 20;
/// Revocations to take from the set at once.
const PAGE: usize = 10_000;
/// Longest line. The first one has the keys.
const MAX_LINE: u64 = 1 << 20;

/// What is known without having asked.
#[derive(Default)]
pub(super) struct Known {
    pub(super) keys: KeySet,
    pub(super) revocations: RevocationSet,
    pub(super) cursor: String,
    /// Up to when `revocations` is complete, by our own clock. `None`: it is not.
    pub(super) complete_time: Option<Timestamp>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    format: String,
    version: u32,
    issuer: String,
    keys: Value,
    cursor: String,
    /// Microseconds since 1970.
    complete_time: Option<Timestamp>,
}

/// Read first: what comes after may be different in another version.
#[derive(Deserialize)]
struct Kind {
    format: String,
    version: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    revocation: Revocation,
    expire_time: Timestamp,
}

/// Why a file is of no use.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unusable {
    /// There is none. Not worth a word.
    #[error("there is none")]
    Missing,
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Unreadable(io::Error),
    /// Somebody else could have written it.
    #[error("others can write it, or it is somebody else's: it must be this user's, with mode 0600")]
    Foreign,
    /// It is damaged, or no such file.
    #[error("it is damaged, or something else: {0}")]
    Damaged(&'static str),
    /// Another version has written it.
    #[error("it is of version {0}, which this program does not know")]
    Version(u32),
    /// It is about other tokens.
    #[error("it is of another issuer")]
    OtherIssuer,
}

/// The file that is meant by `path`.
pub(super) fn file(path: PathBuf) -> PathBuf {
    if path.is_dir() { path.join(NAME) } else { path }
}

/// Reads the file. All of it is good, or nothing of it is used.
pub(super) fn load(file: &Path, issuer: &str) -> Result<Known, Unusable> {
    let path = file;
    let mut file = fs::File::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Unusable::Missing,
        _ => Unusable::Unreadable(error),
    })?;
    check_owner(path, &file).map_err(Unusable::Unreadable)?.then_some(()).ok_or(Unusable::Foreign)?;
    check_sum(&file)?;
    file.rewind().map_err(Unusable::Unreadable)?;
    let mut lines = Lines(BufReader::new(file));
    let head = lines.next()?.ok_or(Unusable::Damaged("it is empty"))?;
    let kind: Kind = serde_json::from_str(&head).map_err(|_| Unusable::Damaged("no head"))?;
    if kind.format != FORMAT {
        return Err(Unusable::Damaged("another format"));
    }
    if kind.version != VERSION {
        return Err(Unusable::Version(kind.version));
    }
    let head: Head = serde_json::from_str(&head).map_err(|_| Unusable::Damaged("a wrong head"))?;
    if head.issuer != issuer {
        return Err(Unusable::OtherIssuer);
    }
    let keys = KeySet::from_jwks(&head.keys.to_string()).map_err(|_| Unusable::Damaged("the keys"))?;
    let revocations = RevocationSet::new();
    while let Some(line) = lines.next()? {
        if line.starts_with('"') {
            return Ok(Known { keys, revocations, cursor: head.cursor, complete_time: head.complete_time });
        }
        let Line { revocation, expire_time } =
            serde_json::from_str(&line).map_err(|_| Unusable::Damaged("a revocation"))?;
        revocations.apply(&FeedEntry { number: 0, revocation, time: Timestamp::default(), expire_time });
    }
    Err(Unusable::Damaged("no end"))
}

/// Whether nobody else can have written it. This process made it in its directory, which is its own.
#[cfg(unix)]
fn check_owner(path: &Path, file: &fs::File) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt as _;
    let directory = match path.parent() {
        Some(directory) if directory != Path::new("") => directory,
        _ => Path::new("."),
    };
    let (of_file, of_directory) = (file.metadata()?, fs::metadata(directory)?);
    // The owner of `/proc/self` is this process's, where there is one.
    let ours = fs::metadata("/proc/self").map_or(of_directory.uid(), |own| own.uid());
    Ok(of_file.mode() & 0o022 == 0 && [ours, 0].contains(&of_file.uid()))
}

#[cfg(not(unix))]
fn check_owner(_: &Path, _: &fs::File) -> io::Result<bool> {
    Ok(true)
}

struct Lines(BufReader<fs::File>);

impl Lines {
    /// The next line with its end; `None` at the end of the file.
    fn next(&mut self) -> Result<Option<String>, Unusable> {
        let mut line = String::new();
        self.0.by_ref().take(MAX_LINE).read_line(&mut line).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => Unusable::Damaged("no text"),
            _ => Unusable::Unreadable(error),
        })?;
        match line.pop() {
            None => Ok(None),
            Some('\n') => Ok(Some(line)),
            Some(_) => Err(Unusable::Damaged("a line without an end")),
        }
    }
}

/// Whether the last line is the sum of all before it.
fn check_sum(file: &fs::File) -> Result<(), Unusable> {
    let mut lines = Lines(BufReader::new(file.try_clone().map_err(Unusable::Unreadable)?));
    let mut sum = Context::new(&SHA256);
    while let Some(line) = lines.next()? {
        if line.starts_with('"') {
            let is_last = lines.next()?.is_none();
            let is_right = line == last_line(&sum.finish());
            return if is_last && is_right { Ok(()) } else { Err(Unusable::Damaged("the checksum")) };
        }
        sum.update(line.as_bytes());
        sum.update(b"\n");
    }
    Err(Unusable::Damaged("no checksum"))
}

fn last_line(sum: &Digest) -> String {
    format!("\"sha256 {}\"", URL_SAFE_NO_PAD.encode(sum))
}

/// Where the state of one verifier is kept.
pub(super) struct Keeper {
    pub(super) file: PathBuf,
    pub(super) issuer: String,
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Keeper").field(&self.file).finish()
    }
}

impl Keeper {
    /// Writes what is known now. Blocks.
    fn save(&self, shared: &Shared) -> io::Result<()> {
        // Moment and cursor before the revocations: those that come meanwhile are too many, not too few.
        let now = shared.now();
        let staleness = shared.freshness.staleness(now);
        let complete_time =
            (shared.freshness.is_asked_for() && staleness < Duration::MAX).then(|| now.date.minus(staleness));
        let head = Head {
            format: FORMAT.to_owned(),
            version: VERSION,
            issuer: self.issuer.clone(),
            keys: shared.keys.load().to_jwks(),
            cursor: shared.place.cursor(),
            complete_time,
        };
        self.write(&head, &shared.revocations)
    }

    fn write(&self, head: &Head, revocations: &RevocationSet) -> io::Result<()> {
        let mut name = self.file.file_name().unwrap_or_default().to_owned();
        // Of this process: others may have the same place in mind.
        name.push(format!(".{}.tmp", process::id()));
        let temporary = self.file.with_file_name(name);
        let written = write_to(&temporary, head, revocations).and_then(|()| fs::rename(&temporary, &self.file));
        if written.is_err() {
            // What it fails with then is not what it failed with first.
            let _ = fs::remove_file(&temporary);
        }
        written?;
        sync_directory(&self.file)
    }
}

fn write_to(file: &Path, head: &Head, revocations: &RevocationSet) -> io::Result<()> {
    // Left behind by a process of the same number.
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut out = Summed { out: BufWriter::new(options.open(file)?), sum: Context::new(&SHA256) };
    out.line(head)?;
    let mut place = DumpPlace::default();
    while let Some(page) = revocations.dump(&mut place, PAGE) {
        for (revocation, expire_time) in page {
            out.line(&Line { revocation, expire_time })?;
        }
    }
    let Summed { mut out, sum } = out;
    writeln!(out, "{}", last_line(&sum.finish()))?;
    out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
}

struct Summed {
    out: BufWriter<fs::File>,
    sum: Context,
}

impl Summed {
    fn line(&mut self, line: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(line)?;
        line.push(b'\n');
        self.sum.update(&line);
        self.out.write_all(&line)
    }
}

/// Makes sure that the new name survives a crash of the machine.
fn sync_directory(file: &Path) -> io::Result<()> {
    let directory = match file.parent() {
        Some(directory) if directory != Path::new("") => directory,
        _ => Path::new("."),
    };
    if cfg!(unix) { fs::File::open(directory)?.sync_all() } else { Ok(()) }
}

/// Saves what changes for as long as there is somebody who needs it. Never on the path of a check.
pub(super) async fn keep(shared: Arc<Shared>, keeper: Arc<Keeper>) {
    let mut failing = false;
    let mut pause = SOON;
    loop {
        // Changes come in bursts, so they are waited for a little; and so that not all the time is spent on writing.
        sleep(pause).await;
        tokio::select! {
            () = shared.unsaved.notified() => {}
            // Nothing but the moment has changed.
            () = sleep(OFTEN.saturating_sub(pause)), if shared.freshness.is_asked_for() => {}
        }
        if shared.keys.load().is_empty() {
            continue;
        }
        let began = monotonic_now();
        let (saved, file) = (Arc::clone(&shared), Arc::clone(&keeper));
        // It does not come back only if the runtime ends.
        let Ok(saved) = tokio::task::spawn_blocking(move || file.save(&saved)).await else { return };
        pause = SOON.max(SHARE * monotonic_now().saturating_duration_since(began));
        shared.metrics.saved(saved.is_ok());
        match &saved {
            Err(error) if !failing => warn!(%error, file = %keeper.file.display(), "what is known cannot be saved"),
            Err(error) => debug!(%error, "what is known cannot be saved"),
            Ok(()) => {}
        }
        failing = saved.is_err();
    }
}

#[cfg(test)]
mod tests;
