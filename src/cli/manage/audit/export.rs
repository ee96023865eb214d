//! `vouchsafe audit export`: the trail from its beginning to where it ends now.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufWriter, Write, stdout},
    path::Path,
};

use super::{
    super::{Desk, Failure, args::ExportEvents},
    follow::follow,
    lines,
};
use crate::{
    audit_export::{EXPORT_FORM, End, Header, LaneLine, Line},
    pb::v1,
};

pub(super) async fn run(desk: &Desk, args: ExportEvents) -> Result<(), Failure> {
    let ExportEvents { file, personal, common: _ } = args;
    if file == Path::new("-") {
        let mut export = Export::to(BufWriter::new(stdout().lock()), personal);
        return export.write(desk).await;
    }
    let problem = |error: std::io::Error| Failure(format!("cannot write {}: {error}", file.display()));
    let mut written = BufWriter::new(File::create_new(&file).map_err(problem)?);
    Export::to(&mut written, personal).write(desk).await?;
    written.into_inner().map_err(|error| problem(error.into_error()))?.sync_all().map_err(problem)
}

/// An export under way.
struct Export<W> {
    out: W,
    personal: bool,
    /// Where every lane ends in this export; empty before the first message.
    heads: Vec<LaneLine>,
    /// How far every lane is.
    reached: BTreeMap<i64, i64>,
    events: u64,
}

impl<W: Write> Export<W> {
    fn to(out: W, personal: bool) -> Self {
        Self { out, personal, heads: Vec::new(), reached: BTreeMap::new(), events: 0 }
    }

    async fn write(&mut self, desk: &Desk) -> Result<(), Failure> {
        let request = v1::WatchAuditEventsRequest { cursor: String::new(), from_beginning: true };
        follow(desk, request, |message| self.take(message)).await?;
        let short = self.short().map(|head| head.lane);
        let (events, lanes) = (self.events, std::mem::take(&mut self.heads));
        self.line(&Line::End(End { events, lanes }))?;
        self.out.flush()?;
        match short {
            None => Ok(()),
            Some(lane) => Err(Failure(format!(
                "lane {lane} ends before its head: the export has what is there, and `vouchsafe audit verify` tells more"
            ))),
        }
    }

    /// Writes what a message says; whether there is more to come.
    fn take(&mut self, message: v1::WatchAuditEventsResponse) -> Result<bool, Failure> {
        let v1::WatchAuditEventsResponse { events, cursor: _, server_time, lanes } = message;
        let is_first = self.heads.is_empty();
        // A heartbeat: there is no more, whatever the heads say. The first message of a stream that was begun again is none.
        let is_all = events.is_empty() && lanes.is_empty();
        if is_first {
            let ends: Vec<_> = lanes.into_iter().map(lines::lane).collect::<Result<_, _>>()?;
            let bases: Vec<LaneLine> = ends.iter().map(|(base, _)| *base).collect();
            self.heads = ends.iter().map(|(_, head)| *head).collect();
            self.reached = bases.iter().map(|base| (base.lane, base.position)).collect();
            if self.heads.is_empty() {
                return Err(Failure("the server did not say where the trail ends".to_owned()));
            }
            let time = lines::moment(server_time)?;
            self.line(&Line::Header(Header { form: EXPORT_FORM.to_owned(), time, lanes: bases }))?;
        }
        for event in events {
            let event = lines::event(event, self.personal)?;
            // What was recorded since the beginning belongs to the next export.
            let head = self.heads.iter().find(|head| head.lane == event.lane).map_or(0, |head| head.position);
            if event.position <= head {
                self.reached.insert(event.lane, event.position);
                self.events += 1;
                self.line(&Line::Event(Box::new(event)))?;
            }
        }
        Ok(self.short().is_some() && !is_all)
    }

    /// A lane that is not written to its end.
    fn short(&self) -> Option<&LaneLine> {
        self.heads.iter().find(|head| self.reached.get(&head.lane).copied().unwrap_or(0) < head.position)
    }

    fn line(&mut self, line: &Line) -> Result<(), Failure> {
        serde_json::to_writer(&mut self.out, line)?;
        Ok(self.out.write_all(b"\n")?)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn link(position: i64) -> v1::AuditLink {
        v1::AuditLink { lane: 0, position, hash: vec![0; 32] }
    }

    fn lane(head: i64) -> v1::AuditLane {
        let end = |position| Some(v1::AuditLaneEnd { link: Some(link(position)), mac: Vec::new() });
        v1::AuditLane { base: end(0), head: end(head) }
    }

    fn message(lanes: Vec<v1::AuditLane>, positions: &[i64]) -> v1::WatchAuditEventsResponse {
        let time = Some(prost_types::Timestamp::default());
        let event = |position: &i64| v1::AuditEvent {
            event_id: Uuid::nil().to_string(),
            time,
            link: Some(link(*position)),
            detail_json: "{}".to_owned(),
            ..v1::AuditEvent::default()
        };
        let events = positions.iter().map(event).collect();
        v1::WatchAuditEventsResponse { events, lanes, server_time: time, ..v1::WatchAuditEventsResponse::default() }
    }

    #[test]
    fn a_stream_that_begins_again_is_no_end() {
        let mut export = Export::to(Vec::new(), false);
        assert!(export.take(message(vec![lane(3)], &[])).unwrap());
        assert!(export.take(message(vec![], &[1])).unwrap());
        // The trail has gone on meanwhile; where this export ends was settled before.
        assert!(export.take(message(vec![lane(4)], &[])).unwrap(), "the first message of another stream");
        assert!(!export.take(message(vec![], &[2, 3, 4])).unwrap());
        assert_eq!((export.events, export.short().is_none()), (3, true));
    }

    #[test]
    fn a_heartbeat_ends_an_export_that_has_less_than_the_heads_say() {
        let mut export = Export::to(Vec::new(), false);
        assert!(export.take(message(vec![lane(3)], &[])).unwrap());
        assert!(export.take(message(vec![], &[1])).unwrap());
        assert!(!export.take(message(vec![], &[])).unwrap());
        assert_eq!(export.short().map(|head| head.position), Some(3));
    }
}
