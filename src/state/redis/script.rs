//! The only script. It compares and sets, and holds no rule.

use std::{sync::LazyLock, time::Duration};

use redis::{Cmd, ErrorKind, RedisResult, Script, ServerErrorKind};

use super::connect::Link;
use crate::state::port::Swap;

/// `ARGV[1]` says whether a value is expected; an absent one is not an empty one. Redis answers `GET` of nothing with `false`.
const SOURCE: &str = "\
local expected = ARGV[1] == '1' and ARGV[2]
local present = redis.call('GET', KEYS[1])
if present ~= expected then return {0, present} end
redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4])
return {1, false}";

static HASH: LazyLock<String> = LazyLock::new(|| Script::new(SOURCE).get_hash().to_owned());

/// What is to be done.
pub(super) struct CompareAndSet<'a> {
    pub(super) key: &'a str,
    pub(super) expected: Option<&'a [u8]>,
    pub(super) new: &'a [u8],
    pub(super) ttl: Duration,
}

impl CompareAndSet<'_> {
    /// Does it. The whole script is sent only to a server that does not have it.
    pub(super) async fn run(&self, link: &mut Link) -> RedisResult<Swap> {
        let mut answer = link.query(self.command("EVALSHA", &HASH)).await;
        if matches!(&answer, Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)) {
            answer = link.query(self.command("EVAL", SOURCE)).await;
        }
        let (done, present): (i64, Option<Vec<u8>>) = answer?;
        // A cluster's client tries again where the answer got lost: then the value that is in the way is our own.
        Ok(if done == 1 || present.as_deref() == Some(self.new) { Swap::Done } else { Swap::Lost(present) })
    }

    fn command(&self, name: &str, script: &str) -> Cmd {
        // Redis takes no time to live below a millisecond, and none that overflows its clock.
        let ttl = i64::try_from(self.ttl.as_millis()).unwrap_or(i64::MAX).clamp(1, i64::MAX / 2);
        let mut command = redis::cmd(name);
        command.arg(script).arg(1).arg(self.key);
        command.arg(u8::from(self.expected.is_some())).arg(self.expected.unwrap_or_default()).arg(self.new).arg(ttl);
        command
    }
}
