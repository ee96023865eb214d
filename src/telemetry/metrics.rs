//! What is counted and measured. One [`Metrics`] for each node, handed to those who have something to tell; there is no
//! global registry, so nodes that share a process do not mix.

use std::{
    collections::HashMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tonic::Code;

use super::{
    catalog,
    family::{Description, Family, Point, Value, float},
    instrument::{Counter, Counters, CountersBy, Histogram},
    label::{
        Label as _, LoginOutcome, MessageChannel, MessageOutcome, RefreshPath, RefreshRow, RegistrationOutcome,
        ServiceTokenOutcome, Throttled, VerificationResult, WatchEnd,
    },
    process::Process,
};
use crate::{
    crypto::{HashObserver, QueueStats},
    domain::time::Timestamp,
    store::port::DatabaseConnections,
};

/// What RPCs that do not exist are counted under, so that callers cannot make up series.
const OTHER_METHOD: &str = "_OTHER";

/// The metrics of a node.
#[derive(Debug)]
pub struct Metrics {
    started: Timestamp,
    /// By path, with its slash.
    methods: HashMap<&'static str, RpcMethod>,
    rpcs: Vec<RpcCalls>,
    logins: Counters<LoginOutcome>,
    service_tokens: Counters<ServiceTokenOutcome>,
    registrations: Counters<RegistrationOutcome>,
    throttled: Counters<Throttled>,
    refreshes: CountersBy<RefreshRow, RefreshPath>,
    replays: Counter,
    verifications: Counters<VerificationResult>,
    messages: CountersBy<MessageChannel, MessageOutcome>,
    messages_due: [AtomicU64; MessageChannel::ALL.len()],
    hash_wait: Histogram,
    hash_duration: Histogram,
    revocation_lag: Histogram,
    watchers: AtomicI64,
    watched: Counter,
    watches_ended: Counters<WatchEnd>,
    audit_watchers: AtomicI64,
    connections: AtomicI64,
}

/// An RPC, found once for each call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RpcMethod(usize);

/// The calls of one RPC, by the status they ended with.
#[derive(Debug)]
struct RpcCalls {
    name: &'static str,
    by_status: [OnceLock<Box<Histogram>>; STATUSES.len()],
}

/// What others know and a moment of theirs decides. `None`: there is nothing to say.
#[derive(Clone, Copy, Debug, Default)]
pub struct Readings {
    /// The number up to which the feed was read.
    pub feed_head: Option<i64>,
    /// How old the revocation list is.
    pub feed_staleness: Option<Duration>,
    /// Revocations in memory.
    pub revocations: usize,
    /// How long the newest active key has been signing.
    pub key_age: Option<Duration>,
    /// When the next key takes over.
    pub key_next: Option<Timestamp>,
    /// The hashing threads.
    pub hashing: QueueStats,
    /// Connections to the database.
    pub database: DatabaseConnections,
    /// Whether the hot state answers.
    pub hot_state_up: Option<bool>,
}

/// Every status and the name it has in the conventions, in the order of its number.
const STATUSES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// The name of a status: `INVALID_ARGUMENT`.
pub(super) fn status_name(code: Code) -> &'static str {
    STATUSES[code as usize]
}

impl Metrics {
    /// Metrics of a node that serves the RPCs with these paths (`/package.Service/Method`), and started at `now`.
    pub fn new(paths: impl IntoIterator<Item = &'static str>, now: Timestamp) -> Self {
        let mut methods = HashMap::new();
        let mut rpcs = vec![RpcCalls::new(OTHER_METHOD)];
        for path in paths {
            methods.insert(path, RpcMethod(rpcs.len()));
            rpcs.push(RpcCalls::new(path.trim_start_matches('/')));
        }
        Self {
            started: now,
            methods,
            rpcs,
            logins: Counters::default(),
            service_tokens: Counters::default(),
            registrations: Counters::default(),
            throttled: Counters::default(),
            refreshes: CountersBy::default(),
            replays: Counter::default(),
            verifications: Counters::default(),
            messages: CountersBy::default(),
            messages_due: Default::default(),
            hash_wait: Histogram::default(),
            hash_duration: Histogram::default(),
            revocation_lag: Histogram::default(),
            watchers: AtomicI64::new(0),
            watched: Counter::default(),
            watches_ended: Counters::default(),
            audit_watchers: AtomicI64::new(0),
            connections: AtomicI64::new(0),
        }
    }

    /// When the node started.
    pub fn started(&self) -> Timestamp {
        self.started
    }

    /// The RPC with this path; one for all that do not exist.
    pub fn rpc_method(&self, path: &str) -> RpcMethod {
        self.methods.get(path).copied().unwrap_or(RpcMethod(0))
    }

    /// The name of an RPC, `package.Service/Method`.
    pub fn rpc_name(&self, method: RpcMethod) -> &'static str {
        self.rpcs[method.0].name
    }

    /// An RPC ended.
    pub fn rpc(&self, method: RpcMethod, status: Code, took: Duration) {
        self.rpcs[method.0].by_status[status as usize].get_or_init(Box::default).record(took);
    }

    /// A login ended.
    pub fn login(&self, outcome: LoginOutcome) {
        self.logins.add(outcome);
    }

    /// A service account's request for a token ended.
    pub fn service_token(&self, outcome: ServiceTokenOutcome) {
        self.service_tokens.add(outcome);
    }

    /// A registration ended.
    pub fn registration(&self, outcome: RegistrationOutcome) {
        self.registrations.add(outcome);
    }

    /// Something was refused because it was tried or asked for too often.
    pub fn throttled(&self, what: Throttled) {
        self.throttled.add(what);
    }

    /// A refresh was decided. A replay is counted as one as well.
    pub fn refresh(&self, row: RefreshRow, path: RefreshPath) {
        self.refreshes.add(row, path);
        if row == RefreshRow::Replay {
            self.replays.add();
        }
    }

    /// An access token was checked.
    pub fn verification(&self, result: VerificationResult) {
        self.verifications.add(result);
    }

    /// An attempt to deliver a message ended, or the message did.
    pub fn message(&self, channel: MessageChannel, outcome: MessageOutcome) {
        self.messages.add(channel, outcome);
    }

    /// So many messages are due.
    pub fn messages_due(&self, channel: MessageChannel, number: u32) {
        self.messages_due[channel.index()].store(number.into(), Relaxed);
    }

    /// A revocation of another node was applied here, this long after it was recorded.
    pub fn revocation_lag(&self, lag: Duration) {
        self.revocation_lag.record(lag);
    }

    /// A gRPC connection was opened; it counts until the answer is dropped.
    pub fn connection(self: &Arc<Self>) -> OpenConnection {
        self.connections.fetch_add(1, Relaxed);
        OpenConnection(Arc::clone(self))
    }

    /// A watch of revocations was begun; it counts until the answer is dropped.
    pub fn watch(self: &Arc<Self>) -> OpenWatch {
        self.watchers.fetch_add(1, Relaxed);
        OpenWatch(Arc::clone(self))
    }

    /// A watch of the audit trail was begun; it counts until the answer is dropped.
    pub fn audit_watch(self: &Arc<Self>) -> OpenAuditWatch {
        self.audit_watchers.fetch_add(1, Relaxed);
        OpenAuditWatch(Arc::clone(self))
    }

    /// All metrics at this moment, in the order of the catalogue.
    pub fn collect(&self, readings: &Readings) -> Vec<Family> {
        let mut families = self.recorded();
        families.extend(read(readings));
        families.extend(self.of_process());
        families.sort_by_key(|family| catalog::CATALOG.iter().position(|about| *about == family.about));
        families
    }

    fn recorded(&self) -> Vec<Family> {
        vec![
            Family { about: catalog::RPC_DURATION, points: self.rpcs.iter().flat_map(RpcCalls::points).collect() },
            Family { about: catalog::LOGINS, points: self.logins.points() },
            Family { about: catalog::SERVICE_TOKENS, points: self.service_tokens.points() },
            Family { about: catalog::REGISTRATIONS, points: self.registrations.points() },
            Family { about: catalog::THROTTLED, points: self.throttled.points() },
            Family { about: catalog::REFRESHES, points: self.refreshes.points() },
            one(catalog::REPLAYS, self.replays.value()),
            Family { about: catalog::VERIFICATIONS, points: self.verifications.points() },
            Family { about: catalog::MESSAGES, points: self.messages.points() },
            Family { about: catalog::MESSAGES_DUE, points: self.due_points() },
            one(catalog::HASH_WAIT, self.hash_wait.value()),
            one(catalog::HASH_DURATION, self.hash_duration.value()),
            one(catalog::REVOCATION_LAG, self.revocation_lag.value()),
            level(catalog::WATCHERS, u64::try_from(self.watchers.load(Relaxed)).ok().map(float)),
            one(catalog::WATCHED, self.watched.value()),
            Family { about: catalog::WATCHES_ENDED, points: self.watches_ended.points() },
            level(catalog::AUDIT_WATCHERS, u64::try_from(self.audit_watchers.load(Relaxed)).ok().map(float)),
            level(catalog::CONNECTIONS, u64::try_from(self.connections.load(Relaxed)).ok().map(float)),
        ]
    }

    fn due_points(&self) -> Vec<Point> {
        let point = |(channel, number): (&MessageChannel, &AtomicU64)| Point {
            labels: vec![(MessageChannel::KEY, channel.as_str())],
            value: Value::Number(float(number.load(Relaxed))),
        };
        MessageChannel::ALL.iter().zip(&self.messages_due).map(point).collect()
    }

    fn of_process(&self) -> Vec<Family> {
        let version = Point { labels: vec![("version", env!("CARGO_PKG_VERSION"))], value: Value::Number(1.0) };
        let Process { cpu_seconds, resident_bytes, open_fds, max_fds } = Process::look();
        vec![
            Family { about: catalog::BUILD_INFO, points: vec![version] },
            level(catalog::PROCESS_CPU, cpu_seconds),
            level(catalog::PROCESS_MEMORY, resident_bytes),
            level(catalog::PROCESS_FDS, open_fds),
            level(catalog::PROCESS_MAX_FDS, max_fds),
            level(catalog::PROCESS_START, Some(since_epoch(self.started))),
        ]
    }
}

impl HashObserver for Metrics {
    fn begun(&self, waited: Duration) {
        self.hash_wait.record(waited);
    }

    fn hashed(&self, took: Duration) {
        self.hash_duration.record(took);
    }
}

/// A gRPC connection that is counted as open.
#[derive(Debug)]
pub struct OpenConnection(Arc<Metrics>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Relaxed);
    }
}

/// A watch of revocations that is counted as under way.
#[derive(Debug)]
pub struct OpenWatch(Arc<Metrics>);

impl OpenWatch {
    /// So many revocations were told.
    pub fn told(&self, revocations: usize) {
        self.0.watched.add_many(revocations as u64);
    }

    /// It has ended.
    pub fn ended(self, why: WatchEnd) {
        self.0.watches_ended.add(why);
    }
}

impl Drop for OpenWatch {
    fn drop(&mut self) {
        self.0.watchers.fetch_sub(1, Relaxed);
    }
}

/// A watch of the audit trail that is counted as under way.
#[derive(Debug)]
pub struct OpenAuditWatch(Arc<Metrics>);

impl Drop for OpenAuditWatch {
    fn drop(&mut self) {
        self.0.audit_watchers.fetch_sub(1, Relaxed);
    }
}

impl RpcCalls {
    fn new(name: &'static str) -> Self {
        Self { name, by_status: [const { OnceLock::new() }; STATUSES.len()] }
    }

    fn points(&self) -> impl Iterator<Item = Point> {
        let point = |(status, calls): (&'static str, &OnceLock<Box<Histogram>>)| {
            let labels =
                vec![("rpc.system.name", "grpc"), ("rpc.method", self.name), ("rpc.response.status_code", status)];
            Some(Point { labels, value: calls.get()?.value() })
        };
        STATUSES.into_iter().zip(&self.by_status).filter_map(point)
    }
}

fn read(readings: &Readings) -> Vec<Family> {
    let Readings { feed_head, feed_staleness, revocations, key_age, key_next, hashing, database, hot_state_up } =
        *readings;
    let connections = [("in_use", database.in_use), ("idle", database.idle)]
        .map(|(state, number)| Point { labels: vec![("state", state)], value: Value::Number(float(number as u64)) });
    vec![
        level(catalog::HASH_QUEUE, Some(float(hashing.queued as u64))),
        level(catalog::HASH_RUNNING, Some(float(hashing.running as u64))),
        level(catalog::HASH_SHED, Some(float(hashing.shed))),
        level(catalog::FEED_HEAD, feed_head.and_then(|head| u64::try_from(head).ok()).map(float)),
        level(catalog::FEED_STALENESS, feed_staleness.map(|age| age.as_secs_f64())),
        level(catalog::REVOCATIONS_HELD, Some(float(revocations as u64))),
        level(catalog::KEY_AGE, key_age.map(|age| age.as_secs_f64())),
        level(catalog::KEY_NEXT, key_next.map(since_epoch)),
        Family { about: catalog::DATABASE_CONNECTIONS, points: connections.into() },
        level(catalog::HOT_STATE_UP, hot_state_up.map(|up| if up { 1.0 } else { 0.0 })),
    ]
}

fn one(about: &'static Description, value: Value) -> Family {
    Family { about, points: vec![Point { labels: Vec::new(), value }] }
}

fn level(about: &'static Description, number: Option<f64>) -> Family {
    let points = number.map(|number| Point { labels: Vec::new(), value: Value::Number(number) });
    Family { about, points: points.into_iter().collect() }
}

fn since_epoch(time: Timestamp) -> f64 {
    time.since(Timestamp::from_micros(0)).as_secs_f64()
}
