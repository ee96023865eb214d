//! `vouchsafe user import`: a file of users, in one import that can break off and go on.

use std::{
    io::{IsTerminal as _, Read as _, Write as _},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use aws_lc_rs::digest;
use prost::Message as _;
use serde_json::json;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};
use uuid::Uuid;

use super::{
    Desk, Failure,
    args::{ImportFormat, ImportUsers, Output},
    import_rows, refusal, text,
};
use crate::{cli::print, crypto::monotonic_now, pb::v1};

/// Rows of one message, and its bytes at most; the server takes 1000 and 1 MiB.
const CHUNK_ROWS: usize = 500;
const CHUNK_BYTES: usize = 512 << 10;
/// How often a stream that broke off is begun again without a row having got through.
const TRIES: u32 = 5;
/// Between two tries.
const PAUSE: Duration = Duration::from_secs(2);
/// How many malformed lines are told of.
const SHOWN: usize = 10;

pub(super) async fn run(desk: &Desk, args: ImportUsers) -> Result<(), Failure> {
    let ImportUsers { file, format, import_id, dry_run, common: _ } = args;
    let format = format.map_or_else(|| by_name(&file), Ok)?;
    let total = count(&file, format)?;
    let import = match import_id {
        Some(id) => id,
        None => id_of(&file)?,
    };
    let import = Import { file, format, id: import, dry_run, total };
    let stands = if dry_run { 1 } else { import.next_row(desk).await.map_err(|status| refusal(&status))? };
    if stands > 1 {
        let what = if stands > total {
            "was imported before: what follows is about then, and nothing is done now"
        } else {
            "goes on"
        };
        eprintln!("vouchsafe: this file {what}. To import its rows once more, give another --import-id.");
    }
    let mut tries = 0;
    let mut reached = 0;
    let outcome = loop {
        match import.send(desk).await {
            Ok(outcome) => break outcome,
            Err(status) if status.code() == Code::Unavailable && !dry_run && tries < TRIES => {
                let next = import.next_row(desk).await.unwrap_or(reached);
                tries = if next > reached { 0 } else { tries + 1 };
                reached = reached.max(next);
                eprintln!("vouchsafe: {}: going on", refusal(&status).0);
                tokio::time::sleep(PAUSE).await;
            }
            Err(status) => {
                let Failure(told) = refusal(&status);
                let advice = if dry_run { "" } else { ": run the same command again to go on" };
                return Err(Failure(format!("{told}{advice}")));
            }
        }
    };
    import.show(&outcome, desk.output)?;
    match outcome.failed {
        0 => Ok(()),
        failed => Err(Failure(format!("{failed} of {total} users were refused"))),
    }
}

struct Import {
    file: std::path::PathBuf,
    format: ImportFormat,
    id: Uuid,
    dry_run: bool,
    total: i64,
}

impl Import {
    fn options(&self, validate_only: bool) -> v1::ImportUsersRequest {
        let options = v1::ImportOptions { import_id: self.id.to_string(), validate_only };
        v1::ImportUsersRequest { options: Some(options), ..v1::ImportUsersRequest::default() }
    }

    /// Where the import stands.
    async fn next_row(&self, desk: &Desk) -> Result<i64, Status> {
        let stream = tokio_stream::iter([self.options(false)]);
        Ok(desk.users().import_users(stream).await?.into_inner().next_row)
    }

    /// Sends what is missing.
    async fn send(&self, desk: &Desk) -> Result<v1::ImportUsersResponse, Status> {
        let first = if self.dry_run { 1 } else { self.next_row(desk).await? };
        let rows = import_rows::read(&self.file, self.format).map_err(|failure| Status::aborted(failure.0))?;
        let (sender, receiver) = mpsc::channel(2);
        let sent = Arc::new(AtomicI64::new(first));
        let mut users = desk.users().max_encoding_message_size(2 * CHUNK_BYTES);
        let options = self.options(self.dry_run);
        let reader = {
            let sent = Arc::clone(&sent);
            tokio::task::spawn_blocking(move || {
                if sender.blocking_send(options).is_err() {
                    return Ok(());
                }
                let mut chunk = Chunk::new(first);
                for (place, row) in (1_i64..).zip(rows) {
                    let (_, user) = row?;
                    if place < first {
                        continue;
                    }
                    if chunk.is_full() {
                        let full = std::mem::replace(&mut chunk, Chunk::new(place));
                        // Whoever takes no more has answered.
                        if sender.blocking_send(full.message).is_err() {
                            return Ok(());
                        }
                        sent.store(place, Ordering::Relaxed);
                    }
                    chunk.push(user);
                }
                let _ = sender.blocking_send(chunk.message);
                Ok::<_, Failure>(())
            })
        };
        let call = users.import_users(ReceiverStream::new(receiver));
        let answer = self.watched(call, first, &sent).await?;
        match reader.await {
            Ok(Ok(())) => Ok(answer.into_inner()),
            Ok(Err(failure)) => Err(Status::aborted(failure.0)),
            Err(gone) => Err(Status::internal(gone.to_string())),
        }
    }

    /// Tells how far it is, where somebody watches.
    async fn watched<T>(&self, call: impl Future<Output = T>, first: i64, sent: &AtomicI64) -> T {
        tokio::pin!(call);
        let begun = monotonic_now();
        let watched = std::io::stderr().is_terminal();
        loop {
            match tokio::time::timeout(Duration::from_secs(1), &mut call).await {
                Ok(answer) => {
                    if watched {
                        eprint!("\r\x1b[K");
                    }
                    return answer;
                }
                Err(_) if watched => self.tell(begun, first, sent.load(Ordering::Relaxed)),
                Err(_) => {}
            }
        }
    }

    fn tell(&self, begun: Instant, first: i64, at: i64) {
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = (at - first) as f64 / begun.elapsed().as_secs_f64();
        eprint!("\r\x1b[K{} of {} rows, {rate:.0} per second", at - 1, self.total);
        let _ = std::io::stderr().flush();
    }

    fn show(&self, outcome: &v1::ImportUsersResponse, output: Output) -> Result<(), Failure> {
        let v1::ImportUsersResponse { imported, failed, next_row, errors } = outcome;
        match output {
            Output::Json => {
                let errors = errors.iter().map(|v1::ImportError { row, field, description }| {
                    json!({ "row": row, "field": field, "description": description })
                });
                let shown = json!({
                    "import_id": self.id.to_string(),
                    "dry_run": self.dry_run,
                    "imported": imported,
                    "failed": failed,
                    "next_row": next_row,
                    "errors": errors.collect::<Vec<_>>(),
                });
                print(&text::json(&shown)?)?;
            }
            Output::Table => {
                for v1::ImportError { row, field, description } in errors {
                    print(&text::on_one_line(&format!("row {row}: {field} {description}")))?;
                }
                let done = if self.dry_run { "could be imported" } else { "imported" };
                print(&format!("{imported} {done}, {failed} refused"))?;
            }
        }
        Ok(())
    }
}

/// A message that fills up.
struct Chunk {
    message: v1::ImportUsersRequest,
    bytes: usize,
}

impl Chunk {
    fn new(first_row: i64) -> Self {
        Self { message: v1::ImportUsersRequest { first_row, ..v1::ImportUsersRequest::default() }, bytes: 0 }
    }

    fn is_full(&self) -> bool {
        self.message.users.len() >= CHUNK_ROWS || self.bytes >= CHUNK_BYTES
    }

    fn push(&mut self, user: v1::ImportUser) {
        self.bytes += user.encoded_len();
        self.message.users.push(user);
    }
}

fn by_name(file: &Path) -> Result<ImportFormat, Failure> {
    match file.extension().and_then(|extension| extension.to_str()) {
        Some("csv") => Ok(ImportFormat::Csv),
        Some("jsonl" | "ndjson") => Ok(ImportFormat::Jsonl),
        _ => {
            Err(Failure(format!("is {} CSV or JSON Lines? say so with --format csv or --format jsonl", file.display())))
        }
    }
}

/// How many rows there are, if each can be read: a file that cannot is refused whole, before anything is sent.
fn count(file: &Path, format: ImportFormat) -> Result<i64, Failure> {
    let (mut rows, mut problems) = (0, Vec::new());
    for row in import_rows::read(file, format)? {
        rows += 1;
        match row {
            Ok(_) => {}
            Err(Failure(problem)) if problems.len() < SHOWN => problems.push(problem),
            Err(_) => {
                problems.push("and more".to_owned());
                break;
            }
        }
    }
    if problems.is_empty() {
        return Ok(rows);
    }
    Err(Failure(format!("nothing was sent, because not every row can be read:\n{}", text::plain(&problems.join("\n")))))
}

/// The id of the import of this very file: run again, the command goes on where it broke off.
fn id_of(file: &Path) -> Result<Uuid, Failure> {
    let unreadable = |e: std::io::Error| Failure(format!("cannot read {}: {e}", file.display()));
    let mut input = std::fs::File::open(file).map_err(unreadable)?;
    let mut context = digest::Context::new(&digest::SHA256);
    let mut buffer = vec![0; 1 << 20];
    loop {
        match input.read(&mut buffer).map_err(unreadable)? {
            0 => break,
            count => context.update(&buffer[..count]),
        }
    }
    let hash = context.finish();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.as_ref()[..16]);
    Ok(uuid::Builder::from_custom_bytes(bytes).into_uuid())
}
