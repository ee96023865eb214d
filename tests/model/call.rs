//! A refresh under way, and how it may end.

use std::rc::Rc;

use crate::{
    domain::{
        hot::{FeedHead, HotRecord},
        refresh::Family,
        time::Timestamp,
    },
    refresh::TRIES,
    row::{ByRow, Record},
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
    /// The node was told that nobody waits; its task goes on.
    pub(crate) gone: bool,
    /// What the database and the hot state said, and what has come of it here.
    pub(crate) row_said: Option<Row>,
    pub(crate) row: Option<Option<Row>>,
    pub(crate) record_said: Option<Kept<HotRecord>>,
    pub(crate) record: Option<Option<Kept<HotRecord>>>,
    /// What the record is to become.
    pub(crate) next: Option<(Option<u64>, Rc<HotRecord>)>,
    pub(crate) swapped: Option<bool>,
    /// What is known of the record, for the row.
    pub(crate) known: Record,
    pub(crate) tries: u32,
    /// In an outage: the record that may be used, and the head that was found for it.
    pub(crate) carried: Kept<HotRecord>,
    pub(crate) last_head: Option<FeedHead>,
    pub(crate) head: Option<FeedHead>,
    /// What the row's transaction came to, and whether its answer is overdue.
    pub(crate) by_row: Option<ByRow>,
    pub(crate) overdue: bool,
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
            known: Record::OutOfReach(None),
            tries: TRIES,
            carried: None,
            last_head: None,
            head: None,
            by_row: None,
            overdue: false,
            outcome: None,
            from_master: None,
        }
    }
}
