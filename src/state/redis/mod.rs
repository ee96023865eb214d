//! The hot state in Redis or Valkey: one server, the master that sentinels name, or a cluster.
//!
//! No call takes longer than the time it is given, and one that would meet a server known to be away fails at once. The
//! connection is made and kept in the background: a Redis that is away, also at the start, is a matter of waiting.

mod breaker;
mod connect;
mod error;
mod gathered;
mod keeper;
mod keys;
mod script;
mod stream;
mod url;

use std::{path::PathBuf, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use redis::{RedisError, RedisResult};
use tokio::{
    sync::{Notify, SetOnce},
    task::AbortHandle,
    time::timeout,
};
use tracing::{Instrument as _, debug_span};
use uuid::Uuid;

pub use self::url::{RedisUrl, RedisUrlError};
use self::{
    breaker::Breaker,
    connect::{Connector, Link},
    error::{Trouble, is_outage},
    script::CompareAndSet,
    stream::{BLOCK, Follower},
};
use super::port::{HotError, HotKey, HotState, StreamEntry, StreamPlace, Swap};

/// Where Redis is and how it is spoken to.
#[derive(Clone, Debug)]
pub struct RedisOptions {
    /// Where it is.
    pub url: RedisUrl,
    /// Longest a call may take.
    pub timeout: Duration,
    /// PEM roots for TLS. `None`: the system's.
    pub tls_roots: Option<PathBuf>,
}

/// Why these options can never work.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The roots cannot be used.
    #[error("cannot use {} as roots for the TLS of Redis: {cause}", .path.display())]
    Roots {
        /// Where they were looked for.
        path: PathBuf,
        /// What is wrong with them.
        cause: std::io::Error,
    },
    /// The library refuses them.
    #[error("cannot connect to Redis like this: {0}")]
    Refused(#[from] RedisError),
}

/// Opens the hot state in Redis, and connects in the background. Must be called in a tokio runtime.
///
/// # Errors
/// Only what waiting cannot mend.
pub fn open(options: &RedisOptions) -> Result<Arc<dyn HotState>, OpenError> {
    let RedisOptions { url, timeout, tls_roots } = options;
    let shared = Arc::new(Shared {
        address: url.without_login().to_owned(),
        patience: *timeout,
        connector: Connector::new(url, tls_roots.as_deref(), *timeout, BLOCK + *timeout)?,
        breaker: Breaker::new(matches!(url.form, url::Form::Cluster(_))),
        link: ArcSwapOption::empty(),
        tripped: Notify::new(),
        tried: SetOnce::new(),
    });
    let keeper = tokio::spawn(keeper::run(Arc::clone(&shared))).abort_handle();
    Ok(Arc::new(Redis { follower: Follower::new(*timeout), shared, keeper }))
}

/// What the calls and the keeper of their connection share.
#[derive(Debug)]
struct Shared {
    address: String,
    patience: Duration,
    connector: Connector,
    breaker: Breaker,
    link: ArcSwapOption<Link>,
    /// Something was found away.
    tripped: Notify,
    /// A connection was tried for the first time.
    tried: SetOnce<()>,
}

#[derive(Debug)]
struct Redis {
    shared: Arc<Shared>,
    follower: Follower,
    keeper: AbortHandle,
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

impl Shared {
    /// Makes a call about `key` within the time there is.
    async fn call<T, F>(&self, key: &str, call: impl FnOnce(Link) -> F) -> Result<T, Trouble>
    where
        F: Future<Output = RedisResult<T>>,
    {
        let part = self.breaker.part_of(key);
        let attempt = async {
            self.tried.wait().await;
            let begun = self.breaker.begin();
            match self.link.load_full().filter(|_| self.breaker.admits(part)) {
                Some(link) => (begun, Some(call(Link::clone(&link)).await)),
                None => (begun, None),
            }
        };
        let begun = self.breaker.begin();
        let (begun, trouble) = match timeout(self.patience, attempt).await {
            Ok((_, Some(Ok(value)))) => return Ok(value),
            Ok((_, None)) => return Err(Trouble::Away),
            Ok((_, Some(Err(error)))) if !is_outage(&error) => return Err(error.into()),
            Ok((begun, Some(Err(error)))) => (begun, error.into()),
            Err(_) => (begun, Trouble::TooSlow),
        };
        self.breaker.trip(part, begun);
        self.tripped.notify_one();
        Err(trouble)
    }
}

#[async_trait]
impl HotState for Redis {
    fn is_up(&self) -> bool {
        self.shared.breaker.is_whole()
    }

    async fn get(&self, key: HotKey) -> Result<Option<Vec<u8>>, HotError> {
        let key = keys::value(key);
        let call = self.shared.call(&key, |mut link| {
            let mut command = redis::cmd("GET");
            command.arg(&key);
            async move { link.query(command).await }
        });
        Ok(call.instrument(debug_span!("hot get", db.system.name = "redis")).await?)
    }

    async fn compare_and_set(
        &self,
        key: HotKey,
        expected: Option<Vec<u8>>,
        new: Vec<u8>,
        ttl: Duration,
    ) -> Result<Swap, HotError> {
        let key = keys::value(key);
        let command = CompareAndSet { key: &key, expected: expected.as_deref(), new: &new, ttl };
        let call = self.shared.call(&key, |mut link| async move { command.run(&mut link).await });
        Ok(call.instrument(debug_span!("hot compare_and_set", db.system.name = "redis")).await?)
    }

    async fn push(&self, incarnation: Uuid, entry: StreamEntry) -> Result<(), HotError> {
        let key = keys::feed(incarnation);
        let call = self.shared.call(&key, |link| {
            let (key, entry) = (&key, &entry);
            async move { stream::push(&link, key, entry).await }
        });
        Ok(call.instrument(debug_span!("hot push", db.system.name = "redis")).await?)
    }

    async fn follow(
        &self,
        incarnation: Uuid,
        after: &StreamPlace,
    ) -> Result<(Vec<StreamEntry>, StreamPlace), HotError> {
        Ok(self.follower.follow(&self.shared.connector, incarnation, after).await?)
    }
}
