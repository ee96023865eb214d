//! A hot state on the servers that all tests share, and keys that nobody else has.

use std::{
    env,
    hash::{BuildHasher as _, Hasher as _, RandomState},
    sync::Arc,
    time::Duration,
};

use uuid::Uuid;
use vouchsafe::{
    domain::id::SessionId,
    state::{
        HotKey, HotState,
        redis::{RedisOptions, RedisUrl, open},
    },
};

use super::own::OwnRedis;
use crate::support::until;

/// How Redis is arranged.
#[derive(Clone, Copy, Debug)]
pub(super) enum Form {
    Redis,
    RedisTls,
    RedisUnix,
    Sentinel,
    Cluster,
    Valkey,
}

/// What a test has.
pub(super) struct World {
    options: RedisOptions,
    /// A hot state.
    pub(super) hot: Arc<dyn HotState>,
    /// Where the form has none that all tests share.
    _own: Option<OwnRedis>,
}

impl World {
    pub(super) async fn of(form: Form) -> Self {
        let own = match form {
            Form::RedisUnix => Some(OwnRedis::start(&[]).await),
            _ => None,
        };
        let options = own.as_ref().map_or_else(|| shared(form), |own| options_of(&own.socket_url(), PATIENCE));
        Self { hot: connected(&options).await, options, _own: own }
    }

    /// As another node would have it.
    pub(super) async fn another(&self) -> Arc<dyn HotState> {
        connected(&self.options).await
    }
}

/// Long enough for a busy machine: what these tests are about is not how quick Redis is.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

fn shared(form: Form) -> RedisOptions {
    let name = match form {
        Form::Redis | Form::RedisUnix => "VOUCHSAFE_TEST_REDIS_URL",
        Form::RedisTls => "VOUCHSAFE_TEST_REDIS_TLS_URL",
        Form::Sentinel => "VOUCHSAFE_TEST_REDIS_SENTINEL_URL",
        Form::Cluster => "VOUCHSAFE_TEST_REDIS_CLUSTER_URL",
        Form::Valkey => "VOUCHSAFE_TEST_VALKEY_URL",
    };
    let roots = matches!(form, Form::RedisTls).then(|| variable("VOUCHSAFE_TEST_REDIS_TLS_ROOTS").into());
    RedisOptions { tls_roots: roots, ..options_of(&variable(name), PATIENCE) }
}

/// What `make test` hands over.
pub(super) fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run the tests with `make test`"))
}

pub(super) fn options_of(url: &str, timeout: Duration) -> RedisOptions {
    RedisOptions { url: RedisUrl::parse(url).unwrap(), timeout, tls_roots: None }
}

/// A hot state that answers.
pub(super) async fn connected(options: &RedisOptions) -> Arc<dyn HotState> {
    let hot = open(options).unwrap();
    up(&*hot).await;
    hot
}

/// Waits until all of it answers.
pub(super) async fn up(hot: &dyn HotState) {
    is(hot, true).await;
}

/// Waits until it is known that not all of it answers.
pub(super) async fn away(hot: &dyn HotState) {
    is(hot, false).await;
}

async fn is(hot: &dyn HotState, up: bool) {
    until(if up { "Redis answers" } else { "Redis is away" }, || async {
        tokio::task::yield_now().await;
        hot.is_up() == up
    })
    .await;
}

pub(super) fn fresh_id() -> Uuid {
    let random = || RandomState::new().build_hasher().finish();
    Uuid::from_u64_pair(random(), random())
}

pub(super) fn fresh_key() -> HotKey {
    HotKey::Session(SessionId::from_uuid(fresh_id()))
}
