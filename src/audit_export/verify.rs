//! Checking an export, without the database.

use std::{collections::BTreeMap, io::BufRead};

use super::{EXPORT_FORM, End, EventLine, Header, LaneLine, Line};
use crate::{
    crypto::audit_chain::{NOTHING, Place, base_statement, head_statement},
    store::{
        chain_walk::{Faults, Step, Walk},
        port::{ChainLink, ChainReport, FaultKind, LaneEnd},
    },
};

/// Why a file is no export that can be checked, with the number of the line.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct ExportError {
    /// Which line, from 1.
    pub line: u64,
    /// What is wrong with it.
    pub problem: String,
}

/// What only whoever has the database's key knows.
#[derive(Clone, Copy)]
pub struct Known<'a> {
    /// What vouches for an end, given what is said of it.
    pub attest: &'a dyn Fn(&[u8]) -> [u8; 32],
    /// How many lanes the trail has: without it, 63 of 64 could be taken out of a file unnoticed.
    pub lanes: i64,
}

/// A trail of one lane is SQLite's, one of so many Postgres'.
const LANES: i64 = 64;

/// What has been read of a file.
struct Check<'a> {
    lanes: BTreeMap<i64, Walk>,
    checkpoint: &'a [ChainLink],
    known: Option<Known<'a>>,
    faults: Faults,
    not_compared: Vec<ChainLink>,
    events: u64,
}

/// Checks the chains of an export, and with what is `known` that all lanes are there and what vouches for their ends. Events that the checkpoint names must be in the
/// file, unless they were too old for it.
///
/// # Errors
/// If the file is no whole export.
pub fn verify_export(
    lines: impl BufRead,
    checkpoint: &[ChainLink],
    known: Option<Known<'_>>,
    faults: usize,
) -> Result<ChainReport, ExportError> {
    let faults = Faults::up_to(faults);
    let mut check = Check { lanes: BTreeMap::new(), checkpoint, known, faults, not_compared: Vec::new(), events: 0 };
    let (mut begun, mut end, mut number) = (false, None, 0);
    for line in lines.lines() {
        number += 1;
        let error = |problem: String| ExportError { line: number, problem };
        let line = line.map_err(|e| error(e.to_string()))?;
        let line = serde_json::from_str(&line).map_err(|e| error(e.to_string()))?;
        match line {
            _ if end.is_some() => return Err(error("the line before it was the last one".into())),
            Line::Header(header) if !begun => {
                check.begin(header).map_err(error)?;
                begun = true;
            }
            Line::Header(_) => return Err(error("there is one header".into())),
            _ if !begun => return Err(error("a header comes first".into())),
            Line::Event(event) => check.event(&event),
            Line::End(last) => end = Some(last),
        }
    }
    let cut_off = ExportError { line: number + 1, problem: "the file was cut off: its last line is missing".into() };
    let end = end.ok_or(cut_off)?;
    if end.events != check.events {
        let problem = format!("the file has {} events and should have {}", check.events, end.events);
        return Err(ExportError { line: number, problem });
    }
    Ok(check.end(&end))
}

impl Check<'_> {
    fn begin(&mut self, Header { form, time: _, lanes }: Header) -> Result<(), String> {
        if form != EXPORT_FORM {
            return Err(format!("this is no {EXPORT_FORM:?}"));
        }
        for LaneEnd { link, mac } in lanes.into_iter().map(LaneEnd::from) {
            let ChainLink { place, hash } = link;
            let vouched = self.known.is_none_or(|known| mac == Some((known.attest)(&base_statement(place, &hash))));
            if !vouched && (place.position, hash) != (0, NOTHING) {
                self.faults.push(FaultKind::BaseMac, place, None);
            }
            let walk = Walk::behind(link);
            self.not_compared.extend(walk.removed(0, self.checkpoint));
            walk.compare(place.position.saturating_sub(1), self.checkpoint, &mut self.faults);
            if self.lanes.insert(place.lane, walk).is_some() {
                return Err(format!("lane {} is named twice", place.lane));
            }
        }
        let count = match self.known {
            Some(known) => known.lanes,
            None if self.lanes.len() == 1 => 1,
            None => LANES,
        };
        for lane in (0..count).filter(|lane| !self.lanes.contains_key(lane)) {
            self.faults.push(FaultKind::Lane, Place { lane, position: 0 }, None);
        }
        Ok(())
    }

    fn event(&mut self, line: &EventLine) {
        self.events += 1;
        let event = line.recorded();
        let Some(ChainLink { place, hash }) = event.link else { return };
        match self.lanes.get_mut(&place.lane) {
            Some(walk) => {
                let step = Step { position: place.position, hash: Some(hash), says: Some(event.chained()) };
                let since = walk.last().place.position;
                walk.pass(step, &mut self.faults);
                walk.compare(since, self.checkpoint, &mut self.faults);
            }
            None => self.faults.push(FaultKind::Unexpected, place, Some(event.id)),
        }
    }

    fn end(mut self, End { events, lanes }: &End) -> ChainReport {
        let heads: BTreeMap<i64, LaneEnd> = lanes.iter().map(|line| (line.lane, LaneEnd::from(*line))).collect();
        for LaneLine { lane, .. } in lanes.iter().filter(|line| !self.lanes.contains_key(&line.lane)) {
            self.faults.push(FaultKind::Lane, Place { lane: *lane, position: 0 }, None);
        }
        for (lane, walk) in &self.lanes {
            match heads.get(lane) {
                Some(head) => self.faults.end_of(*walk, head, self.known),
                None => self.faults.push(FaultKind::Lane, Place { lane: *lane, position: 0 }, None),
            }
        }
        for walk in self.lanes.values() {
            walk.misses(self.checkpoint, &mut self.faults);
        }
        for seen in self.checkpoint.iter().filter(|seen| !self.lanes.contains_key(&seen.place.lane)) {
            self.faults.push(FaultKind::Checkpoint, seen.place, None);
        }
        let (faults, more_faults) = self.faults.into_parts();
        let heads = heads.into_values().collect();
        let not_compared = self.not_compared;
        ChainReport { events: *events, heads, faults, more_faults, not_compared, unplaced: 0, next: None }
    }
}

impl Faults {
    fn end_of(&mut self, walk: Walk, head: &LaneEnd, known: Option<Known<'_>>) {
        let LaneEnd { link, mac: given } = head;
        walk.end(*link, self);
        if walk.last().place.position > link.place.position {
            self.push(FaultKind::Unexpected, walk.last().place, None);
        }
        let statement = head_statement(link.place, &link.hash);
        if known.is_some_and(|known| *given != Some((known.attest)(&statement))) {
            self.push(FaultKind::HeadMac, link.place, None);
        }
    }
}

#[cfg(test)]
mod tests;
