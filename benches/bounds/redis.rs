//! What Redis says of itself, and what a million sessions take of it.

use redis::{Client, FromRedisValue, aio::MultiplexedConnection};

use crate::{
    process::service,
    report::{Bound, Report},
};

/// Sessions that are put into Redis.
const SESSIONS: u64 = 1_000_000;
/// Commands sent at once.
const PIPELINE: u64 = 10_000;
/// Of the records, which hold a session's id in base64url.
const PREFIX: &str = "vouchsafe:s:";

async fn connect() -> MultiplexedConnection {
    let client = Client::open(service("VOUCHSAFE_TEST_REDIS_URL")).unwrap();
    // A pipeline may take its time.
    let config = redis::AsyncConnectionConfig::new().set_response_timeout(None);
    client.get_multiplexed_async_connection_with_config(&config).await.unwrap()
}

async fn info<T: std::str::FromStr>(link: &mut MultiplexedConnection, section: &str, name: &str) -> T {
    let text: String = ask(link, redis::cmd("INFO").arg(section)).await;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.and_then(|value| value.trim().parse().ok()).unwrap_or_else(|| panic!("no {name} in {text}"))
}

async fn ask<T: FromRedisValue>(link: &mut MultiplexedConnection, command: &redis::Cmd) -> T {
    command.query_async(link).await.unwrap()
}

/// The process of the private Redis.
pub(crate) async fn pid() -> u32 {
    info(&mut connect().await, "server", "process_id").await
}

/// Copies the records of sessions that were really refreshed under a million other ids, and takes them away again.
pub(crate) async fn memory_per_session(report: &mut Report) {
    let mut link = connect().await;
    let keys: Vec<String> = ask(&mut link, redis::cmd("KEYS").arg(format!("{PREFIX}*"))).await;
    let mut records: Vec<(Vec<u8>, u64)> = Vec::new();
    for key in &keys {
        let value: Vec<u8> = ask(&mut link, redis::cmd("GET").arg(key)).await;
        let ttl: u64 = ask(&mut link, redis::cmd("PTTL").arg(key)).await;
        records.push((value, ttl));
    }
    let length = keys[0].len() - PREFIX.len();
    let before: u64 = info(&mut link, "memory", "used_memory").await;
    let resident_before: u64 = info(&mut link, "memory", "used_memory_rss").await;
    for begin in (0..SESSIONS).step_by(usize::try_from(PIPELINE).unwrap()) {
        let mut pipe = redis::pipe();
        for number in begin..begin + PIPELINE {
            let (value, ttl) = &records[usize::try_from(number).unwrap() % records.len()];
            pipe.cmd("SET").arg(format!("{PREFIX}{number:0>length$}")).arg(value).arg("PX").arg(*ttl).ignore();
        }
        pipe.query_async::<()>(&mut link).await.unwrap();
    }
    let after: u64 = info(&mut link, "memory", "used_memory").await;
    let resident_after: u64 = info(&mut link, "memory", "used_memory_rss").await;
    for begin in (0..SESSIONS).step_by(usize::try_from(PIPELINE).unwrap()) {
        let keys = (begin..begin + PIPELINE).map(|number| format!("{PREFIX}{number:0>length$}")).collect::<Vec<_>>();
        ask::<u64>(&mut link, redis::cmd("UNLINK").arg(keys)).await;
    }
    #[allow(clippy::cast_precision_loss)]
    let each = |after: u64, before: u64| after.saturating_sub(before) as f64 / SESSIONS as f64;
    #[allow(clippy::cast_precision_loss)]
    let mean = records.iter().map(|(value, _)| value.len()).sum::<usize>() as f64 / records.len() as f64;
    let detail = format!(
        "`used_memory` with {SESSIONS} sessions less that without; resident {:.0} bytes each; the records, {:.0} bytes \
         on average, are copies of {} real ones",
        each(resident_after, resident_before),
        mean,
        records.len(),
    );
    report.figure("Redis per live session", each(after, before), "bytes", Bound::AtMost(500.0), &detail);
}
