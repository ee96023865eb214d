//! A refresh under way, and how it may end.

use std::rc::Rc;

use crate::{
    domain::{hot::HotRecord, refresh::Family, time::Timestamp},
    refresh::TRIES,
    stores::{Kept, Row},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Path {
    Row,
    Hot,
    Grace,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// With the generation, the claims, and whether it was a late redelivery.
    Granted {
        family: Family,
        claims: usize,
        late: bool,
    },
    Overtaken,
    Replayed,
    Ended,
    Unavailable,
}

impl Outcome {
    pub(crate) fn brief(self) -> String {
        match self {
            Self::Granted { family, claims, late } => {
                let late = if late { ", late" } else { "" };
                format!("granted {} with claims {claims}{late}", family.generation)
            }
            other => format!("{other:?}"),
        }
    }
}

/// A refresh under way.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) who: usize,
    pub(crate) node: usize,
    pub(crate) life: u32,
    pub(crate) presented: i64,
    pub(crate) arrived: Timestamp,
    pub(crate) arrived_at: i64,
    pub(crate) has_arrived: bool,
    /// The client waits for the answer.
    pub(crate) waits: bool,
    /// It had been given up before it arrived: its cancellation is right behind it.
    pub(crate) given_up: bool,
    /// The node was told that nobody waits, and has dropped the call.
    pub(crate) gone: bool,
    /// What the database and the hot state said, and what has come of it here.
    pub(crate) row_said: Option<Row>,
    pub(crate) row: Option<Option<Row>>,
    pub(crate) record_said: Option<Kept<HotRecord>>,
    pub(crate) record: Option<Option<Kept<HotRecord>>>,
    /// What the record is to become.
    pub(crate) next: Option<(Option<u64>, Rc<HotRecord>)>,
    pub(crate) swapped: Option<bool>,
    /// The record's family, for the row.
    pub(crate) hot: Option<Family>,
    pub(crate) tries: u32,
    /// What the row's transaction came to, whether it stored something, and what.
    pub(crate) by_row: Option<(Outcome, bool, Family)>,
    pub(crate) bringing: Option<(Option<u64>, Rc<HotRecord>)>,
    pub(crate) outcome: Option<(Outcome, Path)>,
    /// Whether the record was read from the master, after the master last forgot something.
    pub(crate) from_master: Option<u32>,
}

impl Call {
    pub(crate) fn new(who: usize, node: usize, presented: i64) -> Self {
        Self {
            who,
            node,
            life: 0,
            presented,
            arrived: Timestamp::from_micros(0),
            arrived_at: 0,
            has_arrived: false,
            waits: true,
            given_up: false,
            gone: false,
            row_said: None,
            row: None,
            record_said: None,
            record: None,
            next: None,
            swapped: None,
            hot: None,
            tries: TRIES,
            by_row: None,
            bringing: None,
            outcome: None,
            from_master: None,
        }
    }
}
