//! The stream of a feed: appended to and followed.

use std::time::Duration;

use redis::{RedisResult, ServerErrorKind};
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
use crate::state::port::{StreamEntry, StreamPlace};

/// About how many entries a stream keeps. Whoever falls further behind reads the database, as everybody does each second.
const KEPT: usize = 10_000;
/// How long a stream outlives its last entry: the feed of a database that was restored begins anew under another name.
const LIFE_SECONDS: u64 = 24 * 3_600;
/// How long Redis waits for an entry to come.
pub(super) const BLOCK: Duration = Duration::from_secs(1);
/// The fields of an entry: its number in the feed, and the sealed entry. Its id is Redis's own: nodes push in any order.
const NUMBER: &str = "n";
const VALUE: &str = "e";

/// Appends to a stream that has no id left for another entry, because somebody else has used up the last one: it begins anew.
/// All in one, so that of several who find it so none takes away what another has pushed since.
const BEGIN_ANEW: &str = "\
local function append() \
  return redis.pcall('XADD', KEYS[1], '*', ARGV[2], ARGV[3], ARGV[4], ARGV[5]) \
end \
local added = append() \
if type(added) == 'table' and added.err and string.find(added.err, 'exhausted') then \
  redis.call('EXPIRE', KEYS[1], 0) \
  added = append() \
end \
redis.call('EXPIRE', KEYS[1], ARGV[1]) \
return added";

/// Appends.
pub(super) async fn push(link: &Link, key: &str, entry: &StreamEntry) -> RedisResult<()> {
    let mut append = redis::cmd("XADD");
    append.arg(key).arg("MAXLEN").arg("~").arg(KEPT).arg("*");
    append.arg(NUMBER).arg(entry.number).arg(VALUE).arg(entry.value.as_slice());
    let mut renew = redis::cmd("EXPIRE");
    renew.arg(key).arg(LIFE_SECONDS);
    let (mut one, mut other) = (link.clone(), link.clone());
    // On one connection and in this order, with one wait for both.
    let (appended, renewed) = tokio::join!(one.query::<String>(append), other.query::<i64>(renew));
    match appended {
        Err(error) if is_used_up(&error) => {
            let mut anew = redis::cmd("EVAL");
            anew.arg(BEGIN_ANEW).arg(1).arg(key).arg(LIFE_SECONDS);
            anew.arg(NUMBER).arg(entry.number).arg(VALUE).arg(entry.value.as_slice());
            one.query::<String>(anew).await.map(|_| ())
        }
        Err(error) => Err(error),
        Ok(_) => renewed.map(|_| ()),
    }
}

/// Redis has no code of its own for it.
fn is_used_up(error: &redis::RedisError) -> bool {
    error.kind() == redis::ErrorKind::Server(ServerErrorKind::ResponseError)
        && error.detail().is_some_and(|text| text.starts_with("The stream has exhausted the last possible ID"))
}

/// Streams by key, entries by id, names and values of fields in turn. Nothing, if none came. Any bytes: the library's own type
/// fails at names that are no text, and a stranger's entry would stop a follower for good.
type Reply = Option<Vec<(Vec<u8>, Vec<(String, Vec<Vec<u8>>)>)>>;

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
        after: &StreamPlace,
    ) -> Result<(Vec<StreamEntry>, StreamPlace), Trouble> {
        let mut state = self.state.lock().await;
        if let Some(moment) = state.not_before {
            sleep_until(moment).await;
        }
        // Taken out: if this call is dropped, so is the connection, on which an answer to it may still come.
        let link = state.link.take();
        match self.read(connector, link, incarnation, after).await {
            Ok((link, reply)) => {
                *state = State { link: Some(link), not_before: None };
                Ok(entries(reply, after))
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
        after: &StreamPlace,
    ) -> Result<(Link, Reply), Trouble> {
        let mut link = match link {
            Some(link) => link,
            None => connector.connect_blocking().await?,
        };
        let mut command = redis::cmd("XREAD");
        command.arg("COUNT").arg(1_000).arg("BLOCK").arg(BLOCK.as_millis());
        command.arg("STREAMS").arg(keys::feed(incarnation)).arg(after.id());
        let answer = timeout(BLOCK + self.patience, link.query(command));
        let reply = answer.await.map_err(|_| Trouble::TooSlow)??;
        Ok((link, reply))
    }
}

/// What is not ours is passed over.
fn entries(reply: Reply, after: &StreamPlace) -> (Vec<StreamEntry>, StreamPlace) {
    let mut place = after.clone();
    let mut entries = Vec::new();
    for (id, fields) in reply.into_iter().flatten().flat_map(|(_, entries)| entries) {
        entries.extend(entry(fields));
        place = StreamPlace::after(id);
    }
    (entries, place)
}

fn entry(fields: Vec<Vec<u8>>) -> Option<StreamEntry> {
    let [number_name, number, value_name, value] = <[Vec<u8>; 4]>::try_from(fields).ok()?;
    let is_ours = number_name == NUMBER.as_bytes() && value_name == VALUE.as_bytes();
    let number = std::str::from_utf8(&number).ok()?.parse().ok()?;
    is_ours.then_some(StreamEntry { number, value })
}
