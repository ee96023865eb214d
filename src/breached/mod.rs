//! Passwords that were stolen somewhere and are known since: a file of them, made once and looked into at every choice.
//!
//! The format, version 1; numbers are unsigned and big-endian:
//!
//! | Bytes | Content |
//! |---|---|
//! | 0–7 | `VSBREACH` |
//! | 8–11 | version: 1 |
//! | 12–15 | bytes of a record: 8 |
//! | 16–23 | number of records |
//! | 24–31 | zero |
//! | from 32 | the records: the first 8 bytes of the SHA-1 of each password, ascending, each once |
//!
//! SHA-1 is what such lists are published in, and nothing rests on it. With a thousand million records the chance that
//! another password is taken for one of them is below one in ten thousand millions.
//!
//! Nothing of the file is kept in memory: a look-up reads two or three blocks of 4 KiB, wherever digests of that size are to
//! be expected. Digests are spread evenly, so that is known closely.

mod build;
mod merge;

use std::{fs::File, io, os::unix::fs::FileExt as _, path::Path};

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

pub use build::{BuildError, Built, Input, Limits, build};

const MAGIC: [u8; 8] = *b"VSBREACH";
const VERSION: u32 = 1;
const RECORD: u32 = 8;
const RECORD_LEN: u64 = 8;
const HEADER_LEN: usize = 32;

/// Records that are read at once: 4 KiB.
const BLOCK: u64 = 512;
/// After so many guesses the rest is halved: a file that is not what it should be must not keep anybody.
const GUESSES: u32 = 4;

/// Why a file is no filter. The text begins behind the file's name.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It is something else.
    #[error("is no filter: make one with vouchsafe passwords build-filter")]
    Foreign,
    /// It was made by another version.
    #[error(
        "is a filter of version {0}, and this program knows version {VERSION}: make it anew with vouchsafe passwords build-filter"
    )]
    Version(u32),
    /// It is not complete, or not sorted.
    #[error("is damaged ({0}): make it anew with vouchsafe passwords build-filter")]
    Damaged(&'static str),
}

/// The file, open.
#[derive(Debug)]
pub struct Filter {
    file: File,
    count: u64,
}

/// What a look-up found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lookup {
    /// Whether the password is in the list.
    pub found: bool,
    /// How many blocks were read.
    pub reads: u32,
}

/// What stands for a password in the file.
fn key(password: &[u8]) -> u64 {
    first_eight(digest(&SHA1_FOR_LEGACY_USE_ONLY, password).as_ref())
}

fn first_eight(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |first| u64::from_be_bytes(*first))
}

fn header(count: u64) -> [u8; HEADER_LEN] {
    let mut header = [0; HEADER_LEN];
    header[..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_be_bytes());
    header[12..16].copy_from_slice(&RECORD.to_be_bytes());
    header[16..24].copy_from_slice(&count.to_be_bytes());
    header
}

impl Filter {
    /// Opens a file and checks that it is a filter, as far as that is cheap: header, length, first and last record.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn open(path: &Path) -> Result<Self, FilterError> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() || metadata.len() < HEADER_LEN as u64 {
            return Err(FilterError::Foreign);
        }
        let mut found = [0; HEADER_LEN];
        file.read_exact_at(&mut found, 0)?;
        if found[..8] != MAGIC {
            return Err(FilterError::Foreign);
        }
        let version = found[8..12].first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes));
        if version != VERSION {
            return Err(FilterError::Version(version));
        }
        let count = first_eight(&found[16..24]);
        if found != header(count) {
            return Err(FilterError::Damaged("the header has values that are not known"));
        }
        let expected = count.checked_mul(RECORD_LEN).and_then(|len| len.checked_add(HEADER_LEN as u64));
        if expected != Some(metadata.len()) {
            return Err(FilterError::Damaged("it has not the length that its header names"));
        }
        let filter = Self { file, count };
        if count > 1 && filter.read(0, 1)?[0] >= filter.read(count - 1, 1)?[0] {
            return Err(FilterError::Damaged("it is not sorted"));
        }
        Ok(filter)
    }

    /// How many passwords are in it.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Looks a password up.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn look_up(&self, password: &[u8]) -> io::Result<Lookup> {
        self.search(key(password))
    }

    fn search(&self, key: u64) -> io::Result<Lookup> {
        // It can only be among the records from `low` to below `high`, and those are from `least` to `most`.
        let (mut low, mut high) = (0, self.count);
        let (mut least, mut most) = (0, u64::MAX);
        let mut reads = 0;
        while low < high {
            let middle = if reads < GUESSES { guess(key, (low, high), (least, most)) } else { low + (high - low) / 2 };
            let begin = middle.saturating_sub(BLOCK / 2).max(low);
            let end = (begin + BLOCK).min(high);
            let block = self.read(begin, end - begin)?;
            reads += 1;
            // A block is never empty: `begin` is below `end`.
            let (front, back) = (block[0], block[block.len() - 1]);
            if key < front {
                (high, most) = (begin, front);
            } else if key > back {
                (low, least) = (end, back);
            } else {
                return Ok(Lookup { found: block.binary_search(&key).is_ok(), reads });
            }
        }
        Ok(Lookup { found: false, reads })
    }

    fn read(&self, begin: u64, count: u64) -> io::Result<Vec<u64>> {
        let len = usize::try_from(count * RECORD_LEN).map_err(io::Error::other)?;
        let mut bytes = vec![0; len];
        self.file.read_exact_at(&mut bytes, HEADER_LEN as u64 + begin * RECORD_LEN)?;
        Ok(bytes.chunks_exact(8).map(first_eight).collect())
    }
}

/// Where a key is to be expected among records that are spread evenly; at least the first, at most the last.
fn guess(key: u64, (low, high): (u64, u64), (least, most): (u64, u64)) -> u64 {
    let span = u128::from(most.saturating_sub(least)).max(1);
    let part = u128::from(key.saturating_sub(least)) * u128::from(high - low) / span;
    low + u64::try_from(part).unwrap_or(u64::MAX).min(high - low - 1)
}

#[cfg(test)]
mod tests;
