//! `vouchsafe audit verify`: the trail itself, or an export of it.

use std::{fs::File, io::BufReader, path::Path, process::ExitCode};

use serde_json::{Value, json};

use super::{
    super::{
        Desk, Failure, Load, answer,
        args::{Output, VerifyTrail},
        text,
    },
    lines, read, write_whole,
};
use crate::{
    audit_export::{
        CHECKPOINT_FORM, Checkpoint, LaneLine, Moment,
        verify::{Known, verify_export},
    },
    cli::{ambient, complain, print},
    crypto::audit_chain::Place,
    pb::v1,
    server::OpenStore,
    store::port::{ChainFault, ChainLink, ChainReport, FaultKind, LaneEnd},
};

/// How many faults are told at most.
const FAULTS: usize = 100;
/// What cannot be told ends with this.
const CANNOT_TELL: u8 = 2;

/// What was found, wherever.
#[derive(Default)]
struct Findings {
    events: u64,
    unplaced: u64,
    faults: Vec<Value>,
    more: bool,
    heads: Vec<LaneLine>,
    /// What the checkpoint names and is not there any more to be compared.
    not_compared: Vec<Place>,
}

/// The status that the command ends with if it ends without an answer.
pub(in crate::cli::manage) fn with_status(done: Result<ExitCode, Failure>) -> ExitCode {
    done.unwrap_or_else(|failure| {
        complain(&failure);
        ExitCode::from(CANNOT_TELL)
    })
}

/// Checks the trail itself, call by call.
pub(super) async fn trail(desk: &Desk, args: VerifyTrail) -> Result<ExitCode, Failure> {
    let kept = args.checkpoint.as_deref().map(read_checkpoint).transpose()?;
    let checkpoint: Vec<_> = kept.iter().flatten().map(lines::to_lane_end).collect();
    let mut found = Findings::default();
    let mut page_token = String::new();
    loop {
        let request = v1::VerifyAuditChainRequest { page_size: 0, page_token, checkpoint: checkpoint.clone() };
        let v1::VerifyAuditChainResponse {
            intact: _,
            events,
            faults,
            more_faults,
            unplaced_events,
            heads,
            next_page_token,
            not_compared,
        } = answer(desk.audit().verify_audit_chain(request)).await?;
        found.events += u64::try_from(events).unwrap_or_default();
        found.unplaced = u64::try_from(unplaced_events).unwrap_or_default();
        found.more |= more_faults || found.faults.len() + faults.len() > FAULTS;
        found.faults.extend(faults.into_iter().map(fault_of_call));
        found.faults.truncate(FAULTS);
        for head in heads {
            found.heads.push(lines::lane_end(head)?);
        }
        let place = |v1::AuditLink { lane, position, hash: _ }| Place { lane, position };
        found.not_compared.extend(not_compared.into_iter().map(place));
        if next_page_token.is_empty() {
            break;
        }
        page_token = next_page_token;
    }
    conclude(&found, desk.output, args.save_checkpoint.as_deref())
}

/// Checks an export. With the database's key, unless that is not wanted or a server was named.
pub(in crate::cli::manage) async fn file(
    file: &Path,
    args: &VerifyTrail,
    settings: impl Load,
) -> Result<ExitCode, Failure> {
    let kept = args.checkpoint.as_deref().map(read_checkpoint).transpose()?;
    let checkpoint: Vec<ChainLink> = kept.into_iter().flatten().map(|line| LaneEnd::from(line).link).collect();
    let export = File::open(file).map_err(|error| Failure(format!("cannot read {}: {error}", file.display())))?;
    let export = BufReader::new(export);
    let report = if args.without_key || args.common.server.url.is_some() {
        verify_export(export, &checkpoint, None, FAULTS)
    } else {
        let opened = OpenStore::existing(&settings()?, &ambient()).await?;
        let store = &opened.store;
        let known = Known { attest: &|statement| store.attest(statement), lanes: store.lane_count() };
        let report = verify_export(export, &checkpoint, Some(known), FAULTS);
        store.close().await;
        report
    };
    let report = report.map_err(|error| Failure(format!("{}: {error}", file.display())))?;
    let ChainReport { events, heads, faults, more_faults, not_compared, unplaced, next: _ } = report;
    let found = Findings {
        events,
        unplaced,
        faults: faults.iter().map(fault_of_file).collect(),
        more: more_faults,
        heads: heads.into_iter().map(LaneLine::from).collect(),
        not_compared: not_compared.into_iter().map(|seen| seen.place).collect(),
    };
    conclude(&found, args.common.output, args.save_checkpoint.as_deref())
}

fn read_checkpoint(file: &Path) -> Result<Vec<LaneLine>, Failure> {
    let problem = |what: &str| Failure(format!("{}: {what}", file.display()));
    let Checkpoint { form, time: _, lanes } =
        serde_json::from_str(&read(file)?).map_err(|error| problem(&format!("no checkpoint: {error}")))?;
    if form == CHECKPOINT_FORM { Ok(lanes) } else { Err(problem("no checkpoint that this version knows")) }
}

/// Tells what was found, and keeps a checkpoint of what fits.
fn conclude(found: &Findings, output: Output, save: Option<&Path>) -> Result<ExitCode, Failure> {
    let intact = found.faults.is_empty() && !found.more;
    print(&match output {
        Output::Json => text::json(&json!({
            "intact": intact,
            "events": found.events,
            "unplaced_events": found.unplaced,
            "faults": found.faults,
            "more_faults": found.more,
            "not_compared": found.not_compared.iter().map(place).collect::<Vec<_>>(),
        }))?,
        Output::Table => told(found, intact),
    })?;
    if let Some(file) = save.filter(|_| intact) {
        let time = Moment(ambient().clock.now());
        let checkpoint = Checkpoint { form: CHECKPOINT_FORM.to_owned(), time, lanes: found.heads.clone() };
        write_whole(file, &format!("{}\n", serde_json::to_string(&checkpoint)?))?;
    }
    Ok(match (intact, found.not_compared.is_empty()) {
        (true, true) => ExitCode::SUCCESS,
        (true, false) => ExitCode::from(CANNOT_TELL),
        (false, _) => ExitCode::FAILURE,
    })
}

fn place(Place { lane, position }: &Place) -> Value {
    json!({ "lane": lane, "position": position })
}

fn told(found: &Findings, intact: bool) -> String {
    let mut said = vec![if intact {
        format!("intact: {} events in {} lanes", found.events, found.heads.len())
    } else {
        format!("NOT intact: {} events looked at", found.events)
    }];
    if found.unplaced > 0 {
        said.push(format!("{} events of older versions have no place yet and were not looked at", found.unplaced));
    }
    if !found.not_compared.is_empty() {
        let lanes: Vec<_> = found.not_compared.iter().map(|place| place.lane.to_string()).collect();
        said.push(format!(
            "not compared, because the checkpoint is older than events are kept: what it names of lanes {}",
            lanes.join(", ")
        ));
    }
    let told = |fault: &Value| {
        let event = fault["event_id"].as_str().filter(|id| !id.is_empty()).map(|id| format!(", event {id}"));
        let kind = fault["kind"].as_str().unwrap_or_default();
        format!("{kind} at lane {}, position {}{}", fault["lane"], fault["position"], event.unwrap_or_default())
    };
    said.extend(found.faults.iter().map(told));
    if found.more {
        said.push("and more".to_owned());
    }
    said.into_iter().map(|line| text::on_one_line(&line)).collect::<Vec<_>>().join("\n")
}

fn fault_of_call(fault: v1::AuditChainFault) -> Value {
    let kind = fault.kind().as_str_name().trim_start_matches("AUDIT_CHAIN_FAULT_KIND_").to_ascii_lowercase();
    let v1::AuditChainFault { kind: _, lane, position, event_id } = fault;
    json!({ "kind": kind, "lane": lane, "position": position, "event_id": event_id })
}

fn fault_of_file(fault: &ChainFault) -> Value {
    let ChainFault { kind, place: Place { lane, position }, event } = fault;
    let kind = match kind {
        FaultKind::Altered => "altered",
        FaultKind::Missing => "missing",
        FaultKind::Unexpected => "unexpected",
        FaultKind::Head => "head",
        FaultKind::HeadMac => "head_mac",
        FaultKind::BaseMac => "base_mac",
        FaultKind::Lane => "lane",
        FaultKind::Checkpoint => "checkpoint",
    };
    let event_id = event.map(|id| id.to_string()).unwrap_or_default();
    json!({ "kind": kind, "lane": lane, "position": position, "event_id": event_id })
}
