//! `WatchRevocations`: a verifier that watches knows what this server's own `Verify` knows, and is never told otherwise.

mod access;
mod crowd;
mod keys;
mod outages;
mod resuming;
mod told;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::timeout;
use tonic::{Request, Status, Streaming, transport::Channel};
use vouchsafe::pb::v1::{
    self, WatchRevocationsResponse, revocation::Revoked, verifier_service_client::VerifierServiceClient,
};

use crate::support::{TestDatabase, TestNode};

/// No message takes that long: there are heartbeats.
const BOUND: Duration = Duration::from_mins(1);

/// What a watcher knows.
#[derive(Default)]
struct Known {
    sessions: BTreeSet<String>,
    tokens: BTreeSet<String>,
    keys: BTreeSet<String>,
    /// By subject: the epoch, and the session that is spared.
    subjects: BTreeMap<String, Vec<(i64, String)>>,
    key_set_changes: usize,
    /// How many revocations it was told, one told twice counted twice.
    told: usize,
    cursor: String,
    /// In microseconds.
    complete: i64,
}

impl Known {
    fn take_in(&mut self, message: WatchRevocationsResponse) {
        let WatchRevocationsResponse { revocations, cursor, complete_time, server_time } = message;
        assert_eq!(cursor.is_empty(), complete_time.is_none());
        for v1::Revocation { revoked, expire_time } in revocations {
            self.told += 1;
            let lasts = match revoked.unwrap() {
                Revoked::SessionId(id) => {
                    self.sessions.insert(id);
                    false
                }
                Revoked::Subject(v1::SubjectRevocation { subject, epoch, spared_session_id }) => {
                    self.subjects.entry(subject).or_default().push((epoch, spared_session_id));
                    false
                }
                Revoked::TokenId(id) => {
                    self.tokens.insert(id);
                    false
                }
                Revoked::KeyId(kid) => {
                    self.keys.insert(kid);
                    true
                }
                Revoked::KeySetChange(v1::KeySetChange {}) => {
                    self.key_set_changes += 1;
                    self.told -= 1;
                    true
                }
            };
            assert_eq!(expire_time.is_none(), lasts);
        }
        let made = micros(server_time.unwrap());
        if let Some(complete) = complete_time {
            self.complete = micros(complete);
            assert!(self.complete <= made);
            self.cursor = cursor;
        }
    }

    /// Whether it refuses an access token of this subject, session and epoch.
    fn refuses(&self, token: &str) -> bool {
        let claims = crate::hostile::payload_of(token);
        let text = |claim: &str| claims[claim].as_str().unwrap_or_default().to_owned();
        let (session, epoch) = (text("sid"), claims["epoch"].as_i64().unwrap_or_default());
        self.sessions.contains(&session)
            || self.tokens.contains(&text("jti"))
            || self.subjects.get(&text("sub")).is_some_and(|cuts| {
                cuts.iter().any(|(cut, spared)| *cut > epoch && (spared.is_empty() || *spared != session))
            })
    }
}

fn micros(time: prost_types::Timestamp) -> i64 {
    time.seconds * 1_000_000 + i64::from(time.nanos / 1_000)
}

/// Somebody who watches.
struct Watcher {
    stream: Streaming<WatchRevocationsResponse>,
    known: Known,
}

impl Watcher {
    async fn at(node: &TestNode, cursor: &str) -> Self {
        Self::on(node.channel().await, request(cursor)).await.unwrap()
    }

    async fn on(channel: Channel, request: Request<v1::WatchRevocationsRequest>) -> Result<Self, Status> {
        let mut client = VerifierServiceClient::new(channel);
        let stream = timeout(BOUND, client.watch_revocations(request)).await.unwrap()?.into_inner();
        Ok(Self { stream, known: Known::default() })
    }

    /// Takes in the next message. `false`: the stream has ended well.
    async fn hear(&mut self) -> Result<bool, Status> {
        let Some(message) = timeout(BOUND, self.stream.message()).await.unwrap()? else { return Ok(false) };
        self.known.take_in(message);
        Ok(true)
    }

    /// Takes in messages until it knows enough.
    async fn until(&mut self, what: &str, knows: impl Fn(&Known) -> bool) {
        let hearing = async {
            while !knows(&self.known) {
                assert!(self.hear().await.unwrap(), "ended before: {what}");
            }
        };
        assert!(timeout(BOUND, hearing).await.is_ok(), "never: {what}");
    }

    /// Takes in everything that there is to tell at this moment.
    async fn catch_up(&mut self) {
        self.known.cursor.clear();
        self.until("the end of the beginning", |known| !known.cursor.is_empty()).await;
    }

    /// How the stream ends.
    async fn end(&mut self) -> Option<Status> {
        let hearing = async {
            loop {
                match self.hear().await {
                    Ok(true) => {}
                    Ok(false) => return None,
                    Err(status) => return Some(status),
                }
            }
        };
        timeout(BOUND, hearing).await.expect("the watch does not end")
    }
}

fn request(cursor: &str) -> Request<v1::WatchRevocationsRequest> {
    Request::new(v1::WatchRevocationsRequest { cursor: cursor.into() })
}

/// Revokes so many sessions that never were, behind every node's back.
async fn revoke_many(database: &TestDatabase, count: u64) {
    let head = database.integer("SELECT number FROM feed_head").await.unsigned_abs();
    // Spread as the ids of real ones are.
    let id = |number: u64| uuid::Uuid::from_u64_pair(number, number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    database.revoke_sessions((head + 1..=head + count).map(id)).await;
}
