//! The stream of a feed: appended to and followed.

use std::time::Duration;

use redis::{RedisResult, ServerErrorKind, streams::StreamReadReply};
use tokio::{
    sync::Mutex,
    time::{Instant, sleep_until, timeout},
};
use uuid::Uuid;

use super::{
    connect::{Connector, Link},
    error::Trouble,
    keeper, keys,
};
use crate::state::port::StreamEntry;

/// About how many entries a stream keeps. Whoever falls further behind reads the database, as everybody does each second.
const KEPT: usize = 10_000;
/// How long a stream outlives its last entry: the feed of a database that was restored begins anew under another name.
const LIFE_SECONDS: u64 = 24 * 3_600;
/// How long Redis waits for an entry to come.
pub(super) const BLOCK: Duration = Duration::from_secs(1);
/// The one field of an entry.
const FIELD: &str = "e";

/// Appends, and leaves out what is not newer.
pub(super) async fn push(link: &Link, key: &str, entry: &StreamEntry) -> RedisResult<()> {
    if entry.number <= 0 {
        // Nothing can be before the first one, and Redis has no such id.
        return Ok(());
    }
    let mut append = redis::cmd("XADD");
    append.arg(key).arg("MAXLEN").arg("~").arg(KEPT);
    append.arg(format!("{}-0", entry.number)).arg(FIELD).arg(entry.value.as_slice());
    let mut renew = redis::cmd("EXPIRE");
    renew.arg(key).arg(LIFE_SECONDS);
    let (mut one, mut other) = (link.clone(), link.clone());
    // On one connection and in this order, with one wait for both.
    let (appended, renewed) = tokio::join!(one.query::<String>(&append), other.query::<i64>(&renew));
    match appended {
        Err(error) if is_older(&error) => {}
        Err(error) => return Err(error),
        Ok(_) => {}
    }
    renewed.map(|_| ())
}

/// Redis has no code of its own for it.
fn is_older(error: &redis::RedisError) -> bool {
    error.kind() == redis::ErrorKind::Server(ServerErrorKind::ResponseError)
        && error.detail().is_some_and(|text| text.starts_with("The ID specified in XADD is equal or smaller"))
}

/// Follows streams over a connection of its own, because a call that blocks would hold up those behind it.
#[derive(Debug)]
pub(super) struct Follower {
    patience: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    link: Option<Link>,
    /// After a failure: not before then.
    not_before: Option<Instant>,
}

impl Follower {
    pub(super) fn new(patience: Duration) -> Self {
        Self { patience, state: Mutex::default() }
    }

    /// What came after `after`. Takes at most the time of a connection, [`BLOCK`] and the patience with a call.
    pub(super) async fn follow(
        &self,
        connector: &Connector,
        incarnation: Uuid,
        after: i64,
    ) -> Result<Vec<StreamEntry>, Trouble> {
        let mut state = self.state.lock().await;
        if let Some(moment) = state.not_before {
            sleep_until(moment).await;
        }
        // Taken out: if this call is dropped, so is the connection, on which an answer to it may still come.
        let link = state.link.take();
        match self.read(connector, link, incarnation, after).await {
            Ok((link, entries)) => {
                *state = State { link: Some(link), not_before: None };
                Ok(entries)
            }
            Err(trouble) => {
                state.not_before = Some(Instant::now() + keeper::pause());
                Err(trouble)
            }
        }
    }

    async fn read(
        &self,
        connector: &Connector,
        link: Option<Link>,
        incarnation: Uuid,
        after: i64,
    ) -> Result<(Link, Vec<StreamEntry>), Trouble> {
        let mut link = match link {
            Some(link) => link,
            None => connector.connect_blocking().await?,
        };
        let mut command = redis::cmd("XREAD");
        command.arg("COUNT").arg(1_000).arg("BLOCK").arg(BLOCK.as_millis());
        command.arg("STREAMS").arg(keys::feed(incarnation)).arg(format!("{}-0", after.max(0)));
        let answer = timeout(BLOCK + self.patience, link.query::<Option<StreamReadReply>>(&command));
        let reply = answer.await.map_err(|_| Trouble::TooSlow)??;
        Ok((link, reply.map(entries).unwrap_or_default()))
    }
}

/// What is not ours is passed over.
fn entries(reply: StreamReadReply) -> Vec<StreamEntry> {
    let ids = reply.keys.into_iter().flat_map(|stream| stream.ids);
    ids.filter_map(|entry| {
        let number = entry.id.strip_suffix("-0")?.parse().ok()?;
        Some(StreamEntry { number, value: entry.get(FIELD)? })
    })
    .collect()
}
