//! Making a filter out of a list, however long and in whatever order, in bounded memory.
//!
//! What is in order already, as the list of Have I Been Pwned is, goes straight into the file. From the first record on that is
//! not, they are sorted by the portion, each portion goes into a file of its own beside the output, and all are merged in the
//! end: on disk that takes twice the size of the filter for a while.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufWriter, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

use unicode_normalization::UnicodeNormalization as _;
use zeroize::Zeroizing;

use super::{header, key, merge::merge};

/// Longest line of a list. Passwords of more than 1024 bytes cannot be chosen.
const MAX_LINE: u64 = 4096;
/// So many names are tried for a file beside the output.
const MAX_NAMES: u32 = 1_000;
/// Digits of a SHA-1 in hexadecimal.
const HEX: usize = 40;

/// What the lines of a list are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// A SHA-1 in hexadecimal and, behind a colon, how often it was seen; the count may be missing.
    Hashes,
    /// A password.
    Plain,
}

/// What bounds the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Passwords that were seen less often are left out. Only for lists that count.
    pub min_count: u64,
    /// How many records are sorted at once: 8 bytes of memory each.
    pub portion: usize,
}

impl Default for Limits {
    /// Everything; 128 MiB.
    fn default() -> Self {
        Self { min_count: 0, portion: 16 * 1024 * 1024 }
    }
}

/// What was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Built {
    /// Lines that were read.
    pub lines: u64,
    /// Records in the filter.
    pub records: u64,
}

/// Why there is no filter. Nothing of a line is ever said: it may be somebody's password.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The list cannot be read.
    #[error("the list cannot be read: {0}")]
    Read(io::Error),
    /// A line is not as it should be.
    #[error(
        "line {0} of the list is not SHA1:COUNT as Have I Been Pwned writes it: if the lines are passwords, say --plain"
    )]
    Line(u64),
    /// No password is that long.
    #[error("line {0} of the list has more than {MAX_LINE} bytes: is it a list of passwords?")]
    Long(u64),
    /// Such a filter would find nobody's password, and nobody would notice.
    #[error("the list has no password for the filter: it is empty, or none was seen so often")]
    Empty,
    /// The output or what is kept beside it cannot be written.
    #[error("the filter cannot be written: {0}")]
    Write(#[from] io::Error),
}

/// Makes a filter. It takes the place of what was at `output` when it is complete; before that nothing is there, and after a
/// failure nothing is left.
///
/// # Errors
/// What went wrong; nothing was done.
pub fn build(mut list: impl BufRead, output: &Path, input: Input, limits: Limits) -> Result<Built, BuildError> {
    let mut work = Work { output, scratch: Scratch::default(), sorted: None, portion: Vec::new(), limits };
    work.sorted = Some(Run::new(work.scratch.file(output, "part")?)?);
    let mut lines = 0;
    let mut line = Zeroizing::new(Vec::new());
    loop {
        line.clear();
        let read = (&mut list).take(MAX_LINE + 2).read_until(b'\n', &mut line).map_err(BuildError::Read)?;
        if read == 0 {
            break;
        }
        lines += 1;
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        if text.len() as u64 > MAX_LINE {
            return Err(BuildError::Long(lines));
        }
        match input {
            _ if text.is_empty() => {}
            Input::Hashes => match hash(text).ok_or(BuildError::Line(lines))? {
                (_, count) if count < limits.min_count => {}
                (key, _) => work.add(key)?,
            },
            Input::Plain => {
                work.add(key(text))?;
                if let Some(normal) = normal_form(text) {
                    work.add(key(normal.as_bytes()))?;
                }
            }
        }
    }
    let records = work.finish()?;
    Ok(Built { lines, records })
}

/// The record of a line, and how often its password was seen; for ever, if that is not said.
fn hash(line: &[u8]) -> Option<(u64, u64)> {
    let (hex, rest) = line.split_at_checked(HEX)?;
    let count = match rest {
        [] => u64::MAX,
        [b':', count @ ..] => std::str::from_utf8(count).ok()?.trim().parse().ok()?,
        _ => return None,
    };
    let hex = std::str::from_utf8(hex).ok().filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()))?;
    Some((u64::from_str_radix(&hex[..16], 16).ok()?, count))
}

/// What a password becomes when it is chosen, if that is something else.
fn normal_form(text: &[u8]) -> Option<Zeroizing<String>> {
    let text = std::str::from_utf8(text).ok()?;
    let normal: Zeroizing<String> = Zeroizing::new(text.nfc().collect());
    (*normal != text).then_some(normal)
}

struct Work<'a> {
    output: &'a Path,
    scratch: Scratch,
    /// What came in order, headed like a filter. Always there; taken at the end.
    sorted: Option<Run>,
    /// What came after that.
    portion: Vec<u64>,
    limits: Limits,
}

impl Work<'_> {
    fn add(&mut self, key: u64) -> Result<(), BuildError> {
        let in_order = self.portion.is_empty() && self.scratch.runs() == 0;
        if let Some(sorted) = self.sorted.as_mut().filter(|sorted| in_order && sorted.takes(key)) {
            return Ok(sorted.push(key)?);
        }
        self.portion.push(key);
        if self.portion.len() >= self.limits.portion { self.spill() } else { Ok(()) }
    }

    fn spill(&mut self) -> Result<(), BuildError> {
        self.portion.sort_unstable();
        let mut run = Run::new(self.scratch.file(self.output, &format!("run{}", self.scratch.runs()))?)?;
        for key in self.portion.drain(..) {
            run.push(key)?;
        }
        run.close()?;
        Ok(())
    }

    fn finish(mut self) -> Result<u64, BuildError> {
        if !self.portion.is_empty() {
            self.spill()?;
        }
        let sorted = self.sorted.take().ok_or(BuildError::Empty)?;
        let mut records = sorted.close()?;
        let mut complete = 0;
        if self.scratch.runs() > 0 {
            let runs = self.scratch.0.clone();
            complete = runs.len();
            let mut merged = Run::new(self.scratch.file(self.output, "merged")?)?;
            merge(&runs, |key| merged.push(key))?;
            records = merged.close()?;
        }
        if records == 0 {
            return Err(BuildError::Empty);
        }
        fs::rename(&self.scratch.0[complete], self.output)?;
        Ok(records)
    }
}

/// A sorted file with the header of a filter.
struct Run {
    file: BufWriter<File>,
    count: u64,
    last: Option<u64>,
}

impl Run {
    fn new(file: File) -> io::Result<Self> {
        let mut file = BufWriter::with_capacity(256 * 1024, file);
        file.write_all(&header(0))?;
        Ok(Self { file, count: 0, last: None })
    }

    /// Whether this comes after all that is there, or is the last once more.
    fn takes(&self, key: u64) -> bool {
        self.last.is_none_or(|last| last <= key)
    }

    fn push(&mut self, key: u64) -> io::Result<()> {
        if self.last != Some(key) {
            self.file.write_all(&key.to_be_bytes())?;
            (self.count, self.last) = (self.count + 1, Some(key));
        }
        Ok(())
    }

    /// Writes what is left, and how many they are.
    fn close(self) -> io::Result<u64> {
        let mut file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&header(self.count))?;
        file.sync_all()?;
        Ok(self.count)
    }
}

/// The files beside the output, removed at the end.
#[derive(Default)]
struct Scratch(Vec<PathBuf>);

impl Scratch {
    /// A new file, by a name that nothing else has: another build for the same output may be under way, on another machine even.
    fn file(&mut self, output: &Path, suffix: &str) -> io::Result<File> {
        for number in 0..MAX_NAMES {
            let mut name = output.as_os_str().to_owned();
            name.push(format!(".{suffix}-{number}"));
            match File::create_new(&name) {
                Ok(file) => {
                    self.0.push(name.into());
                    return Ok(file);
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::new(io::ErrorKind::AlreadyExists, "too many files of builds that were broken off lie beside it"))
    }

    /// How many there are beside the first.
    fn runs(&self) -> usize {
        self.0.len().saturating_sub(1)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        for path in &self.0 {
            // The one that became the output is not there any more.
            let _ = fs::remove_file(path);
        }
    }
}
