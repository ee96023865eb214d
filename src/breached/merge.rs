//! Many sorted files become one.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    fs::File,
    io::{self, BufReader, ErrorKind, Read as _},
    path::PathBuf,
};

use super::HEADER_LEN;

/// Hands out the records of all `runs` in order; the same may come more than once.
pub(super) fn merge(runs: &[PathBuf], mut out: impl FnMut(u64) -> io::Result<()>) -> io::Result<()> {
    let mut readers = Vec::with_capacity(runs.len());
    let mut heads = BinaryHeap::with_capacity(runs.len());
    for (number, path) in runs.iter().enumerate() {
        let mut reader = BufReader::with_capacity(64 * 1024, File::open(path)?);
        reader.read_exact(&mut [0; HEADER_LEN])?;
        heads.extend(next(&mut reader)?.map(|key| Reverse((key, number))));
        readers.push(reader);
    }
    while let Some(Reverse((key, number))) = heads.pop() {
        out(key)?;
        heads.extend(next(&mut readers[number])?.map(|key| Reverse((key, number))));
    }
    Ok(())
}

fn next(reader: &mut BufReader<File>) -> io::Result<Option<u64>> {
    let mut record = [0; 8];
    match reader.read_exact(&mut record) {
        Ok(()) => Ok(Some(u64::from_be_bytes(record))),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}
